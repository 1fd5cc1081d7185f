/* SPDX-License-Identifier: BSD-2-Clause
 *
 * words.c: sleeping on several futexes at once.
 *
 * Where futex_waitv(2) is missing (before 5.16) or forbidden, or there are more than it takes, they
 * are looked at again and again.
 */
#include <errno.h>
#include <time.h>

#include "shared.h"

#define WORDS_MAX 128     /* that one futex_waitv(2) takes */
#define TICK_NS 10000000L /* between looks */
#define S_NS 1000000000UL

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * S_NS + (uint64_t)now.tv_nsec;
}

void aiopip_wake(uint32_t *word)
{
    atomic_fetch_add((_Atomic uint32_t *)word, 1);
    shared_futex_wake((_Atomic uint32_t *)word, INT32_MAX);
}

static bool has_changed(const struct aiopip_word *words, int count)
{
    for (int i = 0; i < count; i++)
        if (atomic_load((_Atomic uint32_t *)words[i].address) != words[i].value)
            return true;
    return false;
}

/* Sleep on all words until one is woken or is not what it was, or till a time: -errno. */
static int wait_together(const struct aiopip_word *words, int count, uint64_t end_ns)
{
    struct kernel_futex_waitv waiters[WORDS_MAX];
    const struct timespec end = {(time_t)(end_ns / S_NS), (long)(end_ns % S_NS)};

    if (count > WORDS_MAX)
        return -ENOSYS;
    for (int i = 0; i < count; i++)
        waiters[i] = (struct kernel_futex_waitv){.val = words[i].value,
                                                 .uaddr = (uintptr_t)words[i].address,
                                                 .flags = KERNEL_FUTEX_32 | KERNEL_FUTEX_PRIVATE};
    long result = sys5(SYS_futex_waitv, (long)(uintptr_t)waiters, count, 0,
                       end_ns == UINT64_MAX ? 0 : (long)(uintptr_t)&end, CLOCK_MONOTONIC);
    return result < 0 ? (int)result : 0;
}

/* The first of them is slept on, the others are looked at behind each tick. */
static int wait_a_tick(const struct aiopip_word *word, uint64_t end_ns)
{
    uint64_t now = now_ns(), left = end_ns > now ? end_ns - now : 0;
    const struct timespec tick = {0, left < TICK_NS ? (long)left : TICK_NS};

    if (left == 0)
        return -ETIMEDOUT;
    int result = shared_futex_wait((_Atomic uint32_t *)word->address, word->value, &tick);
    return result == -ETIMEDOUT ? 0 : result;
}

int aiopip_wait(const struct aiopip_word *words, int count, uint64_t end_ns)
{
    while (!has_changed(words, count)) {
        int result = wait_together(words, count, end_ns);
        if (result == -ENOSYS || result == -EPERM)
            result = wait_a_tick(&words[0], end_ns);
        if (result < 0 && result != -EAGAIN)
            return result;
    }
    return 0;
}
