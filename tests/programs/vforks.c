/* Stay between vfork and exec: the child, which runs on our memory and stack, tells its PID and
 * writes to that stack for as long as it lives. */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(void)
{
    volatile unsigned char frame[4096] = {0};

    if (vfork() == 0) {
        char text[32];
        int bytes = snprintf(text, sizeof text, "%d\n", getpid());
        if (write(1, text, (size_t)bytes) != bytes)
            _exit(1);
        close(1);
        for (unsigned i = 0;; i++) {
            frame[i % sizeof frame]++;
            if (i % 1000 == 0)
                usleep(1000);
        }
    }
    return 0;
}
