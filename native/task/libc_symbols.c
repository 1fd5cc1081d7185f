/* SPDX-License-Identifier: BSD-2-Clause
 *
 * libc_symbols.c: see libc_symbols.h.
 *
 * A reference by name would be bound to the first definition: a program or an allocator that
 * exports an mmap or brk of its own would have that overwritten, somewhere else in memory, and
 * libc's not.  So libc is found in ld.so's list of objects, and its hash table is read here.
 */
#include "libc_symbols.h"

#include <link.h>

#define WEAK __attribute__((weak))

/* ld.so's list: glibc exports the structure, musl a pointer to it. */
extern WEAK struct r_debug _r_debug;
extern WEAK struct r_debug *_dl_debug_addr;

extern Elf64_Dyn _DYNAMIC[] __attribute__((visibility("hidden")));

static int equal(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

static const Elf64_Sym *find_by_gnu_hash(const struct symbols *symbols, const char *name)
{
    const uint32_t *table = symbols->gnu_hash;
    uint32_t buckets = table[0], first = table[1], bloom_words = table[2];
    const uint32_t *bucket = table + 4 + 2 * bloom_words, *chain = bucket + buckets;
    uint32_t hash = 5381;

    for (const char *at = name; *at; at++)
        hash = hash * 33 + (uint8_t)*at;
    uint32_t index = bucket[hash % buckets];
    for (; index >= first && index; index++) {
        uint32_t entry = chain[index - first];
        if ((entry | 1) == (hash | 1) &&
            equal(symbols->names + symbols->table[index].st_name, name))
            return &symbols->table[index];
        if (entry & 1)
            break;
    }
    return NULL;
}

static const Elf64_Sym *find_by_hash(const struct symbols *symbols, const char *name)
{
    const uint32_t *table = symbols->hash;
    uint32_t buckets = table[0], hash = 0;

    for (const char *at = name; *at; at++) {
        hash = (hash << 4) + (uint8_t)*at;
        hash = (hash ^ ((hash & 0xf0000000) >> 24)) & 0x0fffffff;
    }
    for (uint32_t i = table[2 + hash % buckets]; i; i = table[2 + buckets + i])
        if (equal(symbols->names + symbols->table[i].st_name, name))
            return &symbols->table[i];
    return NULL;
}

uintptr_t symbols_find(const struct symbols *symbols, const char *name, size_t bytes)
{
    const Elf64_Sym *found = symbols->gnu_hash ? find_by_gnu_hash(symbols, name)
                             : symbols->hash   ? find_by_hash(symbols, name)
                                               : NULL;

    if (!found || !found->st_shndx || ELF64_ST_TYPE(found->st_info) != STT_FUNC ||
        found->st_size < bytes)
        return 0;
    return symbols->base + found->st_value;
}

/* glibc's ld.so has added the base to an object's dynamic section, musl's has not. */
static uintptr_t pointer(const struct link_map *map, uintptr_t value)
{
    return value < map->l_addr ? map->l_addr + value : value;
}

static void read_dynamic(const struct link_map *map, struct symbols *symbols)
{
    *symbols = (struct symbols){.base = map->l_addr};
    for (const Elf64_Dyn *entry = map->l_ld; entry && entry->d_tag != DT_NULL; entry++) {
        uintptr_t value = pointer(map, entry->d_un.d_ptr);
        if (entry->d_tag == DT_SYMTAB)
            symbols->table = (const Elf64_Sym *)value;
        else if (entry->d_tag == DT_STRTAB)
            symbols->names = (const char *)value;
        else if (entry->d_tag == DT_GNU_HASH)
            symbols->gnu_hash = (const uint32_t *)value;
        else if (entry->d_tag == DT_HASH)
            symbols->hash = (const uint32_t *)value;
    }
}

/* The program's: it comes first. */
static const struct link_map *first_map(void)
{
    const struct r_debug *debug = &_r_debug ? &_r_debug : &_dl_debug_addr ? _dl_debug_addr : NULL;

    return debug ? debug->r_map : NULL;
}

uintptr_t symbols_program_base(void)
{
    const struct link_map *map = first_map();

    return map ? map->l_addr : 0;
}

static const Elf64_Dyn *entry_of(const struct link_map *map, Elf64_Sxword tag)
{
    for (const Elf64_Dyn *entry = map->l_ld; entry && entry->d_tag != DT_NULL; entry++)
        if (entry->d_tag == tag)
            return entry;
    return NULL;
}

/* Whether a library is named by a path that does not mean the same everywhere. */
static bool needs_by_path(const struct link_map *map, const char *names)
{
    for (const Elf64_Dyn *entry = map->l_ld; entry->d_tag != DT_NULL; entry++) {
        const char *name = entry->d_tag == DT_NEEDED ? names + entry->d_un.d_val : "";
        if (*name == '/')
            continue;
        for (; *name; name++)
            if (*name == '/' || *name == '$')
                return true;
    }
    return false;
}

/* A search path counts for objects that need others: the kernel's own has one, too. */
static bool visit_paths(const struct link_map *map, symbols_visit_path *visit, void *argument)
{
    static const Elf64_Sxword tags[] = {DT_RPATH, DT_RUNPATH};
    const Elf64_Dyn *entry = entry_of(map, DT_STRTAB);
    const char *names = entry ? (const char *)pointer(map, entry->d_un.d_ptr) : NULL;

    if (!entry_of(map, DT_NEEDED))
        return true;
    if (!names || needs_by_path(map, names))
        return false;
    for (size_t i = 0; i < sizeof tags / sizeof tags[0]; i++)
        if ((entry = entry_of(map, tags[i])) != NULL &&
            !visit(argument, names + entry->d_un.d_val, map->l_name))
            return false;
    return true;
}

bool symbols_visit_objects(symbols_visit_object *visit_object, symbols_visit_path *visit_path,
                           void *argument)
{
    for (const struct link_map *map = first_map(); map; map = map->l_next)
        if (entry_of(map, DT_AUDIT) || entry_of(map, DT_DEPAUDIT) ||
            !visit_object(argument, map->l_name) || !visit_paths(map, visit_path, argument))
            return false;
    return true;
}

/* Our own library defines what libc is told by, too. */
int symbols_of_libc(struct symbols *symbols)
{
    for (const struct link_map *map = first_map(); map; map = map->l_next) {
        read_dynamic(map, symbols);
        if (map->l_ld == _DYNAMIC || !symbols->table || !symbols->names)
            continue;
        symbols->start_main = symbols_find(symbols, "__libc_start_main", 1);
        if (symbols->start_main)
            return 1;
    }
    return 0;
}
