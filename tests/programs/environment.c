/* Write the environment as it is, each string ended by NUL. */
#include <stdio.h>
#include <string.h>

extern char **environ;

int main(void)
{
    for (char **variable = environ; *variable; variable++)
        fwrite(*variable, 1, strlen(*variable) + 1, stdout);
    return fflush(stdout) != 0;
}
