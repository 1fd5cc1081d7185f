/* SPDX-License-Identifier: BSD-2-Clause
 *
 * processor.h: what glibc tells a program about the processor.
 */
#ifndef PROCESSOR_H
#define PROCESSOR_H

#include <dlfcn.h>
#include <stdint.h>
#include <sys/auxv.h>
#include <unistd.h>

#if __has_include(<sys/platform/x86.h>)
#include <sys/platform/x86.h>
#define PROCESSOR_LEAVES 12 /* beyond the last one they are empty */
#else
#define PROCESSOR_LEAVES 0
#endif

#define PROCESSOR_WORDS 128

/* Up to 8 bytes of a text. */
static inline uint64_t processor_text(const char *text)
{
    uint64_t word = 0;

    for (size_t i = 0; text && text[i] && i < sizeof word; i++)
        word |= (uint64_t)text[i] << 8 * i;
    return word;
}

/* What ld.so itself takes for the platform, which is not always AT_PLATFORM: "/NAME/none: cannot ...". */
static inline const char *processor_platform(void)
{
    void *handle = dlopen("/$PLATFORM/none", RTLD_LAZY);

    return handle ? NULL : dlerror();
}

/* Fill in what can be asked, and return the number of words. */
static inline size_t processor_facts(uint64_t facts[PROCESSOR_WORDS])
{
    const int caches[] = {_SC_LEVEL1_DCACHE_SIZE, _SC_LEVEL1_DCACHE_LINESIZE,
                          _SC_LEVEL2_CACHE_SIZE,  _SC_LEVEL3_CACHE_SIZE,
                          _SC_SIGSTKSZ,           _SC_MINSIGSTKSZ};
    size_t count = 0;

#if PROCESSOR_LEAVES
    for (unsigned leaf = 0; leaf < PROCESSOR_LEAVES && count + 16 < PROCESSOR_WORDS; leaf++) {
        const struct cpuid_feature *feature = __x86_get_cpuid_feature_leaf(leaf);
        for (int i = 0; i < 4; i++)
            facts[count++] = (uint64_t)feature->cpuid_array[i] << 32 | feature->active_array[i];
    }
#endif
    for (size_t i = 0; i < sizeof caches / sizeof *caches; i++)
        facts[count++] = (uint64_t)sysconf(caches[i]);
    facts[count++] = getauxval(AT_HWCAP);
    facts[count++] = processor_text((const char *)getauxval(AT_PLATFORM));
    facts[count++] = processor_text(processor_platform());
    return count;
}

#endif
