/* SPDX-License-Identifier: BSD-2-Clause
 *
 * deny.h: refuse system calls, as a container's seccomp profile does.
 */
#ifndef DENY_H
#define DENY_H

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "check.h"

#define DENY_MAX 8

struct denied {
    int number; /* of the system call; 0 ends a list */
    int error;
};

/* Have the caller's calls, and its children's, fail from now on. */
static inline void deny(const struct denied *list)
{
    struct sock_filter filter[2 * DENY_MAX + 2];
    unsigned short count = 0;

    filter[count++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
                                                   (uint32_t)offsetof(struct seccomp_data, nr));
    for (; list->number; list++) {
        filter[count++] =
            (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)list->number, 0, 1);
        filter[count++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K,
                                                       SECCOMP_RET_ERRNO | (uint32_t)list->error);
    }
    filter[count++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {count, filter};
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

#endif
