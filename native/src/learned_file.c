/* SPDX-License-Identifier: BSD-2-Clause
 *
 * learned_file.c: see learned_file.h.
 */
#include "learned_file.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BOOT_BYTES 36 /* of a UUID as text */
#define LEAVES 12     /* beyond the last one they are empty */

/* Of the record, and of what a seed means: to be counted up when learning.c comes to other ones. */
#define FORMAT 2

struct record {
    uint64_t checksum; /* of all behind it */
    uint32_t bytes;
    uint32_t format;
    uint64_t processor;
    char boot[BOOT_BYTES];
    struct learned_words words;
    struct seed seed;
};

/* FNV-1a, a word at a time. */
static uint64_t add(uint64_t sum, uint64_t word)
{
    return (sum ^ word) * 1099511628211UL;
}

/* There is no padding at the end. */
static uint64_t checksum(const struct record *record)
{
    const char *bytes = (const char *)record;
    uint64_t sum = 14695981039346656037UL, word;

    for (size_t at = sizeof record->checksum; at < sizeof *record; at += sizeof word) {
        memcpy(&word, bytes + at, sizeof word);
        sum = add(sum, word);
    }
    return sum;
}

/* What this process's own ld.so was told of the processor, which a debugger or a sandbox may change
 * for some processes; 0: it does not say.
 *
 * Source: <sys/platform/x86.h>, struct cpuid_feature: eax, ebx, ecx, edx, and what is active of each */
static uint64_t processor_seen(void)
{
    const uint32_t *(*leaf_at)(unsigned) =
        (const uint32_t *(*)(unsigned))dlsym(RTLD_DEFAULT, "__x86_get_cpuid_feature_leaf");
    uint64_t sum = 14695981039346656037UL;

    if (!leaf_at)
        return 0;
    for (unsigned leaf = 0; leaf < LEAVES; leaf++)
        for (int i = 0; i < 8; i++)
            if (leaf != 0 || i != 1) /* it has the number of the processor on which it was asked */
                sum = add(sum, leaf_at(leaf)[i]);
    return sum;
}

/* Another boot may find another processor, or another kernel. */
static bool read_boot(char *boot)
{
    int file = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);

    if (file < 0)
        return false;
    ssize_t bytes = read(file, boot, BOOT_BYTES);
    close(file);
    return bytes == BOOT_BYTES;
}

static bool is_ours(int file)
{
    struct stat status;

    return fstat(file, &status) == 0 && S_ISREG(status.st_mode) && status.st_uid == geteuid() &&
           !(status.st_mode & (S_IWGRP | S_IWOTH)) && status.st_size == sizeof(struct record);
}

static bool is_sound(const struct record *record, const char *boot)
{
    uint64_t processor = processor_seen();

    if (record->checksum != checksum(record) || record->bytes != sizeof *record ||
        record->format != FORMAT || processor == 0 || record->processor != processor ||
        memcmp(record->boot, boot, BOOT_BYTES) != 0 || record->seed.count > SEED_WORDS ||
        record->words.count > PROBE_WORDS || !memchr(record->seed.platform, 0, PROBE_PLATFORM))
        return false;
    for (size_t i = 0; i < record->seed.count; i++) {
        size_t offset = record->seed.words[i].offset, start = record->words.start;
        if (offset < start || (offset - start) / sizeof(uint64_t) >= record->words.count)
            return false;
    }
    return true;
}

bool learned_read(const char *folder, struct learned_words *words, struct seed *seed)
{
    char path[PATH_MAX], boot[BOOT_BYTES];
    struct record record;

    if (snprintf(path, sizeof path, "%s/loader", folder) >= (int)sizeof path || !read_boot(boot))
        return false;
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (file < 0)
        return false;
    bool found = is_ours(file) && read(file, &record, sizeof record) == sizeof record &&
                 is_sound(&record, boot);
    close(file);
    if (found) {
        *words = record.words;
        *seed = record.seed;
    }
    return found;
}

void learned_write(const char *folder, const struct learned_words *words, const struct seed *seed)
{
    char path[PATH_MAX], draft[PATH_MAX];
    struct record record;

    memset(&record, 0, sizeof record);
    record.bytes = sizeof record;
    record.format = FORMAT;
    record.processor = processor_seen();
    record.words = *words;
    record.seed = *seed;
    /* A draft of a process that is gone is removed as its socket is: _runtime_folder.py. */
    if (snprintf(path, sizeof path, "%s/loader", folder) >= (int)sizeof path ||
        snprintf(draft, sizeof draft, "%s/.%d.loader", folder, getpid()) >= (int)sizeof draft ||
        !read_boot(record.boot) || record.processor == 0)
        return;
    record.checksum = checksum(&record);
    unlink(draft); /* of a process that had this number, in another PID namespace, say */
    int file = open(draft, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (file < 0)
        return;
    bool written = write(file, &record, sizeof record) == sizeof record;
    if (close(file) < 0 || !written || rename(draft, path) < 0)
        unlink(draft);
}
