/* SPDX-License-Identifier: BSD-2-Clause
 *
 * kernel.h: what of the kernel's interface the headers of older systems lack.
 */
#ifndef KERNEL_H
#define KERNEL_H

#include <stdint.h>
#include <sys/syscall.h>

#define KERNEL_CLONE_VM 0x00000100ULL
#define KERNEL_CLONE_FS 0x00000200ULL
#define KERNEL_CLONE_FILES 0x00000400ULL
#define KERNEL_CLONE_VFORK 0x00004000ULL
#define KERNEL_CLONE_PIDFD 0x00001000ULL
#define KERNEL_CLONE_CHILD_SETTID 0x01000000ULL
#define KERNEL_CLONE_CLEAR_SIGHAND 0x100000000ULL

struct kernel_clone_args {
    uint64_t flags;
    uint64_t pidfd;
    uint64_t child_tid;
    uint64_t parent_tid;
    uint64_t exit_signal;
    uint64_t stack;
    uint64_t stack_size;
    uint64_t tls;
};

/* The kernel's own sigaction: glibc's has another shape. */
struct kernel_sigaction {
    void (*handler)(int);
    unsigned long flags;
    void (*restorer)(void);
    uint64_t mask;
};

struct kernel_rlimit {
    uint64_t soft;
    uint64_t hard;
};

struct kernel_sched_attr {
    uint32_t size;
    uint32_t policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime;
    uint64_t deadline;
    uint64_t period;
};

/* futex_waitv(2), Linux 5.16. */
#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif
struct kernel_futex_waitv {
    uint64_t val;
    uint64_t uaddr;
    uint32_t flags;
    uint32_t reserved;
};
#define KERNEL_FUTEX_32 2
#define KERNEL_FUTEX_PRIVATE 128

#define KERNEL_P_PIDFD 3
#define KERNEL_WALL 0x40000000
#define KERNEL_WCLONE 0x80000000U
#define KERNEL_CLOSE_RANGE_UNSHARE 2
#define KERNEL_KCMP_VM 1
#define KERNEL_MAP_FIXED_NOREPLACE 0x100000

/* ioctl(pidfd, PIDFD_GET_INFO), Linux 6.13; with the exit status, 6.15. */
struct kernel_pidfd_info {
    uint64_t mask;
    uint64_t cgroup;
    uint32_t pid, tgid, ppid, ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
    int32_t exit_code;
};
#define KERNEL_PIDFD_GET_INFO 0xc040ff0bUL /* _IOWR(0xff, 11, 64 bytes) */
#define KERNEL_PIDFD_INFO_EXIT 8

/* ioctl(/proc/self/maps, PROCMAP_QUERY), Linux 6.11. */
struct kernel_procmap_query {
    uint64_t size;
    uint64_t query_flags;
    uint64_t query_addr;
    uint64_t vma_start;
    uint64_t vma_end;
    uint64_t vma_flags;
    uint64_t vma_page_size;
    uint64_t vma_offset;
    uint64_t inode;
    uint32_t dev_major, dev_minor;
    uint32_t vma_name_size, build_id_size;
    uint64_t vma_name_addr, build_id_addr;
};
#define KERNEL_PROCMAP_QUERY 0xc0686611UL /* _IOWR('f', 17, 104 bytes) */
#define KERNEL_PROCMAP_READABLE 1
#define KERNEL_PROCMAP_WRITABLE 2
#define KERNEL_PROCMAP_EXECUTABLE 4
#define KERNEL_PROCMAP_SHARED 8
#define KERNEL_PROCMAP_COVERING_OR_NEXT 0x10

/* ioctl(/proc/self/pagemap, PAGEMAP_SCAN), Linux 6.7. */
struct kernel_pagemap_scan {
    uint64_t size;
    uint64_t flags;
    uint64_t start;
    uint64_t end;
    uint64_t walk_end; /* out */
    uint64_t vec;
    uint64_t vec_len;
    uint64_t max_pages;
    uint64_t category_inverted;
    uint64_t category_mask;
    uint64_t category_anyof_mask;
    uint64_t return_mask;
};
struct kernel_page_region {
    uint64_t start;
    uint64_t end;
    uint64_t categories;
};
#define KERNEL_PAGEMAP_SCAN 0xc0606610UL /* _IOWR('f', 16, 96 bytes) */
#define KERNEL_PAGE_FILE 4
#define KERNEL_PAGE_PRESENT 8
#define KERNEL_PAGE_SWAPPED 16
#define KERNEL_PAGE_ZERO 32

#define KERNEL_PR_GET_TID_ADDRESS 40 /* prctl; Linux 3.5 */

/* rseq(2), Linux 4.18. */
struct kernel_rseq {
    uint32_t cpu_id_start;
    uint32_t cpu_id;
    uint64_t rseq_cs;
    uint32_t flags;
    uint32_t node_id;
    uint32_t mm_cid;
    uint32_t padding;
};
#define KERNEL_RSEQ_BYTES ((long)sizeof(struct kernel_rseq))
#define KERNEL_RSEQ_UNREGISTERED UINT32_MAX
#define KERNEL_RSEQ_FAILED (UINT32_MAX - 1)

#endif
