/* SPDX-License-Identifier: BSD-2-Clause
 *
 * seed.c: see seed.h.
 */
#include "seed.h"

#include <dlfcn.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void seed_name(struct seed *seed, const struct image *image)
{
    seed->device = image->device;
    seed->inode = image->inode;
    seed->changed = image->changed;
}

bool seed_is_for(const struct seed *seed, const struct image *image)
{
    return seed->device == image->device && seed->inode == image->inode &&
           seed->changed.tv_sec == image->changed.tv_sec &&
           seed->changed.tv_nsec == image->changed.tv_nsec;
}

bool seed_fits(const char *envp, size_t envp_bytes)
{
    static const char tunables[] = "glibc.cpu";

    return !memmem(envp, envp_bytes, tunables, sizeof tunables - 1);
}

void seed_apply(const struct seed *seed, uintptr_t image_at)
{
    for (size_t i = 0; i < seed->count; i++) {
        const struct seed_word *word = &seed->words[i];
        *(uint64_t *)(image_at + word->offset) = word->value + (word->relative ? image_at : 0);
    }
}

/* Whether a file is the one that we have mapped there, and not another one of its name: its first page
 * has all headers and the build ID. */
static bool is_mapped_at(int file, const char *base)
{
    char page[ARCH_PAGE];
    ssize_t bytes = pread(file, page, sizeof page, 0);

    return bytes == sizeof page && memcmp(page, base, sizeof page) == 0;
}

/* From the image's start; 0 when the file is another ld.so than ours, which is at *ours. */
static size_t find_features(int file, const struct image *image, const char **ours)
{
    const char *(*features)(unsigned) =
        (const char *(*)(unsigned))dlsym(RTLD_DEFAULT, "_dl_x86_get_cpu_features");
    struct stat status;
    Dl_info found;

    if (!features || !dladdr((void *)features, &found) || stat(found.dli_fname, &status) < 0 ||
        status.st_dev != image->device || status.st_ino != image->inode ||
        !is_mapped_at(file, found.dli_fbase))
        return 0;
    *ours = found.dli_fbase;
    return (size_t)(features(0) - *ours);
}

void seed_find_features(int file, struct image *image)
{
    const struct image_segment *data = &image->segments[image->segment_count - 1];
    const char *ours = NULL;
    size_t start = find_features(file, image, &ours), end = start;
    uint64_t word = 0;

    if (start < data->start || start % sizeof word)
        return;
    while (end + sizeof word <= image->variables_end &&
           pread(file, &word, sizeof word, data->offset + (off_t)(end - data->start)) ==
               sizeof word &&
           word == 0)
        end += sizeof word;
    image->features = start;
    image->features_end = end;
    image->ours = ours;
}
