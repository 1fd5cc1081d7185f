/* SPDX-License-Identifier: BSD-2-Clause
 *
 * task_calls.c: a worker of a pool, with the eventfd as its standard input, and the address of its
 * order as its argument.  It kills itself where the order says.
 */
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "calling.h"
#include "kill_points.h"

static struct calling_order *order;

static void at_point(enum kill_point point)
{
    uint32_t count = atomic_fetch_add(&order->reached[point], 1) + 1;

    if (order->stop_nth == count && order->stop_at == point)
        syscall(SYS_kill, getpid(), SIGKILL);
}

/* As a pool's workers do: with an export a task's memory stays until its end was acknowledged. */
static int export_something(void)
{
    const struct aiopip_array nothing = {0};
    aiopip_peer *peer;
    uint32_t version;
    uint64_t id;

    int result = aiopip_join(&peer, &version);
    return result < 0 ? result : aiopip_export(peer, "worker", 6, &nothing, &id);
}

int main(int argc, char **argv)
{
    if (argc != 2 || export_something() < 0)
        return 2;
    order = (struct calling_order *)strtoull(argv[1], NULL, 16);
    kill_point_hook = at_point;
    static struct calling self;
    self = (struct calling){
        .calls = order->calls, .worker = order->worker, .event_fd = 0, .random = order->seed};
    calling_begin(&self);
    calling_serve(&self);
    calling_end(&self);
    return 0;
}
