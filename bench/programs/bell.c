/* A library: a thread that writes into an eventfd, which is the least that a native thread can do to
 * wake an event loop. */
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

struct bell {
    int eventfd;
    int64_t delay_ns;
    int64_t *stamp;
};

static void *ring(void *argument)
{
    struct bell bell = *(struct bell *)argument;
    struct timespec delay = {bell.delay_ns / 1000000000L, bell.delay_ns % 1000000000L}, now;
    uint64_t one = 1;

    free(argument);
    nanosleep(&delay, NULL);
    clock_gettime(CLOCK_MONOTONIC, &now);
    *bell.stamp = now.tv_sec * 1000000000L + now.tv_nsec;
    return write(bell.eventfd, &one, sizeof one) == sizeof one ? NULL : (void *)1;
}

/* Ring once, a while from now, with the time just before in *stamp: 0, or an errno. */
int bell_ring(int eventfd, int64_t delay_ns, int64_t *stamp)
{
    struct bell *bell = malloc(sizeof *bell);
    pthread_t thread;

    if (!bell)
        return 12;
    *bell = (struct bell){eventfd, delay_ns, stamp};
    int error = pthread_create(&thread, NULL, ring, bell);
    if (error)
        free(bell);
    else
        pthread_detach(thread);
    return error;
}
