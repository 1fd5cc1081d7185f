/* Survive SIGTERM, SIGINT and SIGHUP, and say on stdout that it is ready and which of them came. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void say(int signal)
{
    const char *text = signal == SIGTERM ? "TERM\n" : signal == SIGINT ? "INT\n" : "HUP\n";
    ssize_t written = write(1, text, strlen(text));
    (void)written;
}

int main(void)
{
    signal(SIGTERM, say);
    signal(SIGINT, say);
    signal(SIGHUP, say);
    if (write(1, "ready\n", 6) != 6)
        return 1;
    for (;;)
        pause();
}
