/* Exit, having written the time just before into a file that is mapped: stamp FILE DELAY_US
 *
 * The delay lets the one who waits fall asleep first. */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    int file = open(argv[1], O_RDWR | O_CLOEXEC);
    volatile int64_t *stamp =
        mmap(NULL, sizeof *stamp, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    long delay_us = atol(argv[2]);
    struct timespec delay = {delay_us / 1000000, delay_us % 1000000 * 1000}, now;
    if (file < 0 || stamp == MAP_FAILED)
        return 1;
    nanosleep(&delay, NULL);
    clock_gettime(CLOCK_MONOTONIC, &now);
    *stamp = now.tv_sec * 1000000000L + now.tv_nsec;
    _exit(0);
}
