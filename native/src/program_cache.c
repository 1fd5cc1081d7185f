/* SPDX-License-Identifier: BSD-2-Clause
 *
 * program_cache.c: see program_cache.h.
 *
 * A file is the same when device, inode, size and time of change are.  That time has a granularity: of
 * one that was changed just now the same may be said after the next change, so it is not remembered.
 * A folder above it may have been renamed, which changes nothing of the file: unless it was found
 * under its real path, that is looked up.
 */
#include "program_cache.h"

#include <string.h>
#include <time.h>

#define ENTRIES 16
#define SETTLED_S 2

struct entry {
    struct stat status;
    char path[PATH_MAX]; /* real; empty: a free entry */
    char interpreter[PROGRAM_INTERPRETER_MAX];
};

static struct entry entries[ENTRIES];
static size_t next_entry;

bool program_cache_is_same(const struct stat *a, const struct stat *b)
{
    return a->st_ino == b->st_ino && a->st_dev == b->st_dev && a->st_size == b->st_size &&
           a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

/* Whether the file is still where it was. */
static bool is_there(const struct entry *entry, const char *found)
{
    struct stat status;

    return strcmp(found, entry->path) == 0 ||
           (stat(entry->path, &status) == 0 && program_cache_is_same(&status, &entry->status));
}

bool program_cache_find(const struct stat *status, const char *found, struct program *program)
{
    for (size_t i = 0; i < ENTRIES; i++) {
        const struct entry *entry = &entries[i];
        if (!entry->path[0] || !program_cache_is_same(status, &entry->status) ||
            !is_there(entry, found))
            continue;
        strcpy(program->path, entry->path);
        strcpy(program->interpreter, entry->interpreter);
        return true;
    }
    return false;
}

void program_cache_add(const struct stat *status, const struct program *program)
{
    struct entry *entry = &entries[next_entry];
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    if (now.tv_sec - status->st_ctim.tv_sec < SETTLED_S)
        return;
    next_entry = (next_entry + 1) % ENTRIES;
    entry->status = *status;
    strcpy(entry->path, program->path);
    strcpy(entry->interpreter, program->interpreter);
}
