/* SPDX-License-Identifier: BSD-2-Clause
 *
 * descriptor.h: descriptors of our own.
 */
#ifndef DESCRIPTOR_H
#define DESCRIPTOR_H

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* Take what a call returned: a new descriptor, or -1 and errno, which becomes -errno.  One among 0
 * to 2, where a root that has closed these leaves room, is lifted: tasks would inherit it. */
static inline int descriptor_take(int descriptor)
{
    if (descriptor < 0)
        return -errno;
    if (descriptor > 2)
        return descriptor;
    int lifted = fcntl(descriptor, F_DUPFD_CLOEXEC, 3);
    int result = lifted < 0 ? -errno : lifted;
    close(descriptor);
    return result;
}

#endif
