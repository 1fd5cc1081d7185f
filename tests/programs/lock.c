/* Import the root's lock and counter, and do with them what argv[1] says. */
#include <aiopip/lock.h>
#include <errno.h>
#include <pip/pip.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(sizeof(aiopip_lock_t) == 64, "a cache line");

int main(int argc, char **argv)
{
    aiopip_lock_t *lock;
    long *counter;
    if (argc < 2)
        return 1;
    if (pip_named_import(PIP_PIPID_ROOT, (void **)&lock, "lock") ||
        pip_named_import(PIP_PIPID_ROOT, (void **)&counter, "counter"))
        return 2;
    if (!strcmp(argv[1], "count")) {
        for (int i = 0; i < atoi(argv[2]); i++) {
            if (aiopip_lock_acquire(lock, -1))
                return 3;
            ++*(volatile long *)counter;
            if (aiopip_lock_release(lock))
                return 4;
        }
        return 0;
    }
    if (!strcmp(argv[1], "try"))
        return aiopip_lock_try(lock);
    if (!strcmp(argv[1], "wait"))
        return aiopip_lock_acquire(lock, atoi(argv[2]));
    if (!strcmp(argv[1], "release"))
        return aiopip_lock_release(lock);
    if (!strcmp(argv[1], "recover"))
        return aiopip_lock_recover(lock);
    if (!strcmp(argv[1], "repair")) {
        if (aiopip_lock_acquire(lock, -1) != EOWNERDEAD)
            return 9;
        return aiopip_lock_recover(lock) + aiopip_lock_release(lock);
    }
    aiopip_lock_acquire(lock, -1);
    raise(SIGKILL);
}
