/* SPDX-License-Identifier: BSD-2-Clause
 *
 * loader.c: see loader.h.
 *
 * ld.so maps an object whole, without an address, which is placed in the task's window, and then its
 * segments over that.  Most pages of a writable segment it writes to at once, since there are addresses in
 * them.  One by one that is a page fault each, and worse: where a page is read first, the kernel maps its
 * neighbours too, read only, and each of these costs a flush of all other processors that run a task when it is
 * written to.  With two processors of a virtual machine that is 30 us, as much as 30 faults.  So those
 * pages are written to by one call before ld.so looks at them.  No other pages are: memory that a program
 * does not need stays the file's.
 *
 * Segments that are only read are of the same file, and lie as they do there.  So the first mapping is
 * made executable, as objects once were that had two segments, and those behind it need no call: they
 * stay one mapping, where there were three.  Each mapping of a task takes time when it begins, and again
 * at its end.
 */
#include "loader.h"

#include <asm/mman.h>
#include <elf.h>
#include <linux/mman.h>

#include "ledger.h"

#ifndef DT_RELR /* of glibc's headers from 2.36 on */
#define DT_RELRSZ 35
#define DT_RELR 36
#endif

#define MARKED_PAGES 4096 /* of a segment; those behind are left to be touched one by one */

/* ---- Pages that are written to ---------------------------------------------------------------- */

/* A segment that was mapped, and the object that it is of. */
struct segment {
    uintptr_t start;
    size_t bytes;
    uintptr_t bias; /* what is added to an address in the object's file */
    const struct task_block *block;
    const Elf64_Phdr *headers; /* of the object */
    size_t header_count;
    uint64_t marked[MARKED_PAGES / 64];
};

static bool is_in_object(const struct segment *segment, uintptr_t at, size_t bytes)
{
    const struct task_block *block = segment->block;

    return at >= block->object && at <= block->object_end && bytes <= block->object_end - at;
}

/* Whether the object's file has a table there, in a segment below this one: those above are not mapped yet. */
static bool is_readable(const struct segment *segment, uintptr_t table, size_t bytes)
{
    uintptr_t at = table - segment->bias;

    for (size_t i = 0; i < segment->header_count; i++) {
        const Elf64_Phdr *header = &segment->headers[i];
        if (header->p_type == PT_LOAD && header->p_flags & PF_R && at >= header->p_vaddr &&
            at - header->p_vaddr <= header->p_filesz &&
            bytes <= header->p_filesz - (at - header->p_vaddr))
            return table + bytes <= segment->start && is_in_object(segment, table, bytes);
    }
    return false;
}

static bool populate(uintptr_t start, size_t bytes)
{
    return sys3(SYS_madvise, (long)start, (long)bytes, MADV_POPULATE_WRITE) == 0;
}

/* The object's dynamic section, if it is in this segment; its page is ours from then on.  NULL also where
 * the kernel is older than 5.14 and cannot do any of this. */
static const Elf64_Dyn *find_dynamic(struct segment *segment, const Elf64_Dyn **end)
{
    const Elf64_Ehdr *file = (const Elf64_Ehdr *)segment->block->object;
    const Elf64_Phdr *headers = (const Elf64_Phdr *)(segment->block->object + file->e_phoff);
    const Elf64_Phdr *dynamic = NULL, *first = NULL;
    size_t bytes = file->e_phnum * sizeof *headers;

    if (*(const uint32_t *)file->e_ident != 0x464c457f /* ELF */ || bytes > ARCH_PAGE ||
        file->e_phoff > ARCH_PAGE - bytes)
        return NULL;
    for (int i = 0; i < file->e_phnum; i++) {
        if (headers[i].p_type == PT_LOAD && !first)
            first = &headers[i];
        if (headers[i].p_type == PT_DYNAMIC)
            dynamic = &headers[i];
    }
    if (!first || !dynamic)
        return NULL;
    segment->headers = headers;
    segment->header_count = file->e_phnum;
    segment->bias = segment->block->object - (first->p_vaddr & -ARCH_PAGE);
    uintptr_t start = segment->bias + dynamic->p_vaddr, page = start & -ARCH_PAGE;
    *end = (const Elf64_Dyn *)start + dynamic->p_filesz / sizeof(Elf64_Dyn);
    if (start < segment->start || start - segment->start > segment->bytes ||
        dynamic->p_filesz > segment->bytes - (start - segment->start) ||
        !populate(page, start + dynamic->p_filesz - page))
        return NULL;
    return (const Elf64_Dyn *)start;
}

static void mark(struct segment *segment, uintptr_t at)
{
    size_t page = (at - segment->start) / ARCH_PAGE;

    if (page < MARKED_PAGES && at - segment->start < segment->bytes)
        segment->marked[page / 64] |= 1UL << page % 64;
}

static void mark_rela(struct segment *segment, uintptr_t table, size_t bytes)
{
    if (!is_readable(segment, table, bytes))
        return;
    for (size_t i = 0; i < bytes / sizeof(Elf64_Rela); i++)
        mark(segment, segment->bias + ((const Elf64_Rela *)table)[i].r_offset);
}

/* An even word is an address, an odd one says which of the 63 words behind are meant, too. */
static void mark_relr(struct segment *segment, uintptr_t table, size_t bytes)
{
    uintptr_t at = 0;

    if (!is_readable(segment, table, bytes))
        return;
    for (size_t i = 0; i < bytes / sizeof(uint64_t); i++) {
        uint64_t word = ((const uint64_t *)table)[i];
        if (!(word & 1)) {
            at = segment->bias + word;
            mark(segment, at);
            at += sizeof word;
            continue;
        }
        for (size_t bit = 1; bit < 64; bit++)
            if (word >> bit & 1)
                mark(segment, at + (bit - 1) * sizeof word);
        at += 63 * sizeof word;
    }
}

static void mark_relocated(struct segment *segment, const Elf64_Dyn *entry, const Elf64_Dyn *end)
{
    uintptr_t rela = 0, relr = 0, plt = 0;
    size_t rela_bytes = 0, relr_bytes = 0, plt_bytes = 0;

    for (; entry < end && entry->d_tag != DT_NULL; entry++)
        switch (entry->d_tag) {
        case DT_RELA:
            rela = segment->bias + entry->d_un.d_ptr;
            break;
        case DT_RELASZ:
            rela_bytes = entry->d_un.d_val;
            break;
        case DT_JMPREL:
            plt = segment->bias + entry->d_un.d_ptr;
            break;
        case DT_PLTRELSZ:
            plt_bytes = entry->d_un.d_val;
            break;
        case DT_RELR:
            relr = segment->bias + entry->d_un.d_ptr;
            break;
        case DT_RELRSZ:
            relr_bytes = entry->d_un.d_val;
            break;
        default:
            break;
        }
    mark_rela(segment, rela, rela_bytes);
    mark_rela(segment, plt, plt_bytes);
    mark_relr(segment, relr, relr_bytes);
}

static bool is_marked(const struct segment *segment, size_t page)
{
    return page < MARKED_PAGES && segment->marked[page / 64] >> page % 64 & 1;
}

/* Where that fails, for want of memory, say, the pages are touched one by one. */
static void populate_marked(const struct segment *segment)
{
    for (size_t page = 0; page < MARKED_PAGES; page++) {
        size_t first = page;
        while (is_marked(segment, page))
            page++;
        if (page > first)
            populate(segment->start + first * ARCH_PAGE, (page - first) * ARCH_PAGE);
    }
}

static void write_to(const struct task_block *block, uintptr_t start, size_t bytes)
{
    struct segment segment = {.start = start, .bytes = bytes, .block = block};
    const Elf64_Dyn *end, *dynamic;

    if (!is_in_object(&segment, start, bytes) || block->object_end - block->object < ARCH_PAGE)
        return; /* of a program that is not position-independent */
    dynamic = find_dynamic(&segment, &end);
    if (!dynamic)
        return;
    mark_relocated(&segment, dynamic, end);
    populate_marked(&segment);
}

/* ---- Mapping ---------------------------------------------------------------------------------- */

/* Whether a file is an object whose segments follow each other, and one of them code.  Where there is a gap,
 * ld.so takes all rights from what is behind the first one, and maps each of the others. */
static bool is_without_gaps(long file)
{
    struct {
        Elf64_Ehdr header;
        Elf64_Phdr segments[16];
    } head;
    bool has_code = false;
    uintptr_t end = 0;

    long bytes = sys4(SYS_pread64, file, (long)(uintptr_t)&head, sizeof head, 0);
    if (bytes < (long)sizeof head.header ||
        *(const uint32_t *)head.header.e_ident != 0x464c457f /* ELF */ ||
        head.header.e_phoff != sizeof head.header ||
        head.header.e_phnum > ((size_t)bytes - sizeof head.header) / sizeof *head.segments)
        return false;
    for (int i = 0; i < head.header.e_phnum; i++) {
        const Elf64_Phdr *segment = &head.segments[i];
        if (segment->p_type != PT_LOAD)
            continue;
        if (end != (segment->p_vaddr & -ARCH_PAGE))
            return false;
        end = align_up(segment->p_vaddr + segment->p_filesz, ARCH_PAGE);
        has_code |= (segment->p_flags & PF_X) != 0;
    }
    return has_code;
}

/* An object is told by its first mapping, of the whole of it from the beginning of its file. */
static bool is_object(const struct loader_call *call)
{
    return !(call->flags & MAP_ANONYMOUS) && call->offset == 0 &&
           (call->protection & (PROT_READ | PROT_WRITE)) == PROT_READ;
}

static void note_object(struct task_block *block, const struct loader_call *call, long result)
{
    bool found = is_object(call) && (unsigned long)result < -4096UL;

    block->object = found ? (uintptr_t)result : 0;
    block->object_end = found ? (uintptr_t)result + align_up(call->bytes, ARCH_PAGE) : 0;
    block->object_file = -1;
}

/* The preload may make pages of libc's text writable for a moment, and the kernel would from then on account for
 * them (VM_ACCOUNT) and not for their neighbours: one mapping would stay three. */
static long flags_of(const struct loader_call *call, long protection)
{
    return protection & PROT_EXEC ? call->flags | MAP_NORESERVE : call->flags;
}

/* Whether an object's segment is there already: its first mapping may be read and executed. */
static bool is_there(const struct task_block *block, const struct loader_call *call)
{
    const long kind = MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS;

    return block->object_file >= 0 && call->descriptor == block->object_file &&
           (call->flags & kind) == (MAP_PRIVATE | MAP_FIXED) &&
           (call->protection & (PROT_READ | PROT_WRITE)) == PROT_READ &&
           call->address >= block->object && call->address < block->object_end &&
           call->bytes <= block->object_end - call->address &&
           call->address - block->object == (uintptr_t)call->offset;
}

static long map_at(const struct loader_call *call, struct slot *slot)
{
    if (slot && is_there(slot->block, call))
        return (long)call->address;
    long result = sys6(SYS_mmap, (long)call->address, (long)call->bytes, call->protection,
                       flags_of(call, call->protection), call->descriptor, call->offset);
    if (!slot)
        return result;
    if (call->address < slot->block->object || call->address >= slot->block->object_end)
        note_object(slot->block, call, result); /* one that has to be aligned more than to a page */
    else if (result == (long)call->address && call->protection & PROT_WRITE &&
             (call->flags & (MAP_PRIVATE | MAP_ANONYMOUS)) == MAP_PRIVATE)
        write_to(slot->block, call->address, call->bytes);
    return result;
}

static long map_anywhere(const struct loader_call *call, long protection)
{
    return ledger_loader_mmap(call->site, call->bytes, protection, flags_of(call, protection),
                              call->descriptor, call->offset);
}

long loader_mmap(const struct loader_call *call)
{
    struct slot *slot = ledger_slot_of(call->site);
    long result = -1;

    if (call->address)
        return map_at(call, slot);
    if (slot && is_object(call) && is_without_gaps(call->descriptor))
        result = map_anywhere(call, call->protection | PROT_EXEC);
    bool is_whole = (unsigned long)result < -4096UL;
    if (!is_whole) /* nor may its code be executed, on some file systems */
        result = map_anywhere(call, call->protection);
    if (slot)
        note_object(slot->block, call, result);
    if (is_whole)
        slot->block->object_file = (int32_t)call->descriptor;
    return result;
}
