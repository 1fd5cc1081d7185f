/* SPDX-License-Identifier: BSD-2-Clause
 *
 * image.h: an ld.so, read once, prepared, and mapped into each task's window.
 */
#ifndef IMAGE_H
#define IMAGE_H

#include <sys/types.h>

#include "program.h"
#include "shared.h"

#define IMAGE_SEGMENTS 8

struct image_segment {
    size_t start, end; /* page-aligned, from the image's start */
    off_t offset;
    size_t file_end; /* behind it the segment is zero */
    int protection;
};

struct image {
    struct image *next;
    dev_t device;
    ino_t inode;
    struct timespec changed;
    char *path;
    int descriptor;       /* of the prepared copy, or of the file itself */
    int tracked;          /* its mmap calls go through the ledger */
    size_t bytes;         /* of address space */
    size_t spare;         /* where the zero pages behind its data begin; bytes: there are none */
    size_t variables_end; /* of its last segment */
    size_t features;      /* where it keeps what it knows of the processor; 0: unknown */
    size_t features_end;  /* what is behind that in its file is no longer zero */
    const char *ours;     /* where this process has the same file as its own ld.so; with features */
    uint64_t entry, headers;
    uint64_t resume; /* where it goes on with a program that it has loaded; 0: unknown */
    uint16_t header_count;
    int segment_count;
    struct image_segment segments[IMAGE_SEGMENTS];
};

/* The image of an interpreter; from the list, or read and added to it.  0 or -errno; *failure says
 * of what kind. */
int image_find(struct image **list, const char *path, struct image **image,
               struct program_error *error);

/* Map it at an address whose pages up to image->bytes are free.  0 or -errno; what was mapped
 * before a failure stays. */
int image_map(const struct image *image, uintptr_t at);

void image_free_all(struct image *list);

#endif
