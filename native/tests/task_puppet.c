/* SPDX-License-Identifier: BSD-2-Clause
 *
 * task_puppet.c: a task that obeys the orders at the address that is its argument, and stops, or
 * kills itself, where they say.
 */
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../src/kernel.h"
#include "../src/shared.h"
#include "puppet.h"

static struct order *order;

static void at_point(enum kill_point point)
{
    uint32_t count = atomic_fetch_add(&order->reached[point], 1) + 1;

    if (atomic_load(&order->stop_nth) != count || atomic_load(&order->stop_at) != point)
        return;
    if (!atomic_load(&order->pauses))
        syscall(SYS_kill, getpid(), SIGKILL);
    atomic_store(&order->paused, 1);
    shared_futex_wake(&order->paused, 1);
    while (!atomic_load(&order->resumed))
        shared_futex_wait(&order->resumed, 0, NULL);
}

int main(int argc, char **argv)
{
    aiopip_peer *peer;
    uint32_t version;

    if (argc != 2)
        return 1;
    order = (struct order *)strtoull(argv[1], NULL, 16);
    if (aiopip_join(&peer, &version) < 0)
        return 2;
    kill_point_hook = at_point;
    for (;;) {
        uint32_t turn = atomic_load(&order->turn);
        if (turn != PUPPET_ORDERED) {
            shared_futex_wait(&order->turn, turn, NULL);
            continue;
        }
        if (order->call == PUPPET_EXIT)
            return order->result;
        puppet_obey(peer, order);
        atomic_store(&order->turn, PUPPET_DONE);
        shared_futex_wake(&order->turn, 1);
    }
}
