/* Sleep until killed; nobody may come to do that, so not for ever. */
#include <unistd.h>

int main(void)
{
    alarm(300);
    for (;;)
        pause();
}
