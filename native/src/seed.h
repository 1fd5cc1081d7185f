/* SPDX-License-Identifier: BSD-2-Clause
 *
 * seed.h: what ld.so finds out about the processor, written into a fresh ld.so before it starts.
 *
 * Half of a small program's start on a virtual machine is the CPUID instruction, by which ld.so
 * learns of the processor's features and caches, and which the hypervisor has to emulate, time after
 * time.  glibc's ld.so does not ask when it finds the answer.
 */
#ifndef SEED_H
#define SEED_H

#include "image.h"
#include "probe.h"

#define SEED_WORDS 512

struct seed_word {
    uint32_t offset;   /* from the image's start */
    uint32_t relative; /* 1: the value is an address, from the image's start */
    uint64_t value;
};

struct seed {
    dev_t device; /* of the file of the ld.so that it is for */
    ino_t inode;
    struct timespec changed;
    size_t count;
    struct seed_word words[SEED_WORDS];
    uint64_t hwcap;                /* what a task finds for AT_HWCAP */
    char platform[PROBE_PLATFORM]; /* what ld.so puts in the place of AT_PLATFORM; empty: nothing */
};

/* Say which ld.so it is for. */
void seed_name(struct seed *seed, const struct image *image);
bool seed_is_for(const struct seed *seed, const struct image *image);

/* Whether a task with this environment wants the processor as it is.  By GLIBC_TUNABLES its user may
 * have features left out, and that is done where ld.so asks. */
bool seed_fits(const char *envp, size_t envp_bytes);

/* Write it into an ld.so that was mapped there and has not been started. */
void seed_apply(const struct seed *seed, uintptr_t image_at);

/* Find where an ld.so keeps what it knows of the processor, if its file is the one that we have mapped
 * ourselves. */
void seed_find_features(int file, struct image *image);

#endif
