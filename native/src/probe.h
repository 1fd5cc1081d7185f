/* SPDX-License-Identifier: BSD-2-Clause
 *
 * probe.h: what the core asks of its probe, and what that answers.
 *
 * The probe gets the address of a report for its argument, and writes into it: root and task share
 * one memory.
 */
#ifndef PROBE_H
#define PROBE_H

#include <stddef.h>
#include <stdint.h>

#define PROBE_WORDS 8192 /* of an ld.so's writable segment; glibc's has less than 1024 */
#define PROBE_PLATFORM 32

struct probe_report {
    /* The core's. */
    size_t
        headers; /* of ld.so's program headers, the segment's start: from the image's start, bytes */
    size_t start;
    size_t count; /* words of the segment, up to PROBE_WORDS */
    /* The probe's. */
    uintptr_t image_at;
    uint32_t resumed;                   /* 1: it has begun behind ld.so, in a warm window */
    uint64_t hwcap;                     /* AT_HWCAP as ld.so has made it */
    uintptr_t platform;                 /* AT_PLATFORM as ld.so has got it; 0: none */
    char platform_text[PROBE_PLATFORM]; /* cut off */
    uint64_t words[PROBE_WORDS];
};

#endif
