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

/* Write all of it: 0 or -errno. */
static inline int descriptor_write(int descriptor, const void *bytes, size_t count)
{
    for (size_t at = 0; at < count;) {
        ssize_t wrote = write(descriptor, (const char *)bytes + at, count - at);
        if (wrote < 0 && errno != EINTR)
            return -errno;
        at += wrote > 0 ? (size_t)wrote : 0;
    }
    return 0;
}

#endif
