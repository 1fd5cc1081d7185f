/* Wait for signals.  With an argument: exit with that code at SIGUSR1, and say "ready" before. */
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

static int code;

static void leave(int number)
{
    (void)number;
    _exit(code);
}

int main(int argc, char **argv)
{
    if (argc > 1) {
        code = atoi(argv[1]);
        signal(SIGUSR1, leave);
        if (write(1, "ready\n", 6) != 6)
            return 1;
    }
    for (;;)
        pause();
}
