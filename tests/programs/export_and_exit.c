/* Wait for the end of stdin, export an int under "value", and end at once, as argv[1] says. */
#include <pip/pip.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int value = 4711;

int main(int argc, char **argv)
{
    char byte;

    while (read(0, &byte, 1) > 0)
        ;
    if (pip_named_export(&value, "value") != 0)
        return 1;
    if (argc > 1 && !strcmp(argv[1], "kill"))
        raise(SIGKILL);
    if (argc > 1 && !strcmp(argv[1], "_exit"))
        _exit(0);
    return 0;
}
