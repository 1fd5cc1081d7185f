/* SPDX-License-Identifier: BSD-2-Clause
 *
 * attributes.c: what a task takes over from the thread that asked for it.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "core.h"

int attributes_read(struct thread_attributes *attributes)
{
    memset(attributes, 0, sizeof *attributes);
    sys4(SYS_rt_sigprocmask, 0, 0, (long)(uintptr_t)&attributes->signal_mask, 8);
    long bytes = sys3(SYS_sched_getaffinity, 0, sizeof attributes->affinity,
                      (long)(uintptr_t)attributes->affinity);
    if (bytes < 0)
        return (int)bytes;
    attributes->affinity_bytes = (uint32_t)bytes;
    long result = sys4(SYS_sched_getattr, 0, (long)(uintptr_t)&attributes->scheduler,
                       sizeof attributes->scheduler, 0);
    return result < 0 ? (int)result : 0;
}
