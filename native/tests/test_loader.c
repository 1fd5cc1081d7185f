/* SPDX-License-Identifier: BSD-2-Clause
 *
 * test_loader.c: what the mmap calls of a task's ld.so do, made as ld.so makes them.
 */
#include "loader.h"

#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <linux/mman.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>

#include "deny.h"
#include "ledger.h"
#include "loaded.h"

#ifndef DT_RELR /* of glibc's headers from 2.36 on */
#define DT_RELRSZ 35
#define DT_RELR 36
#endif

#define WINDOW_BYTES (64UL << 20)

static struct control *control;
static struct task_block block;
static const char *path; /* of libloaded.so */
static void *library;    /* as ld.so has loaded it; before there is a window in its way */

static void open_window(void)
{
    void *room = mmap(NULL, WINDOW_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    CHECK(room != MAP_FAILED && munmap(room, WINDOW_BYTES) == 0);
    control = calloc(1, sizeof *control + sizeof(struct slot));
    CHECK(control != NULL);
    control->max_tasks = 1;
    control->windows = (uintptr_t)room;
    control->window_bytes = WINDOW_BYTES;
    block = (struct task_block){.control = control, .slot = control->slots};
    block.window_start = block.window_first = block.spare_end = control->windows;
    block.window_end = block.window_start + WINDOW_BYTES;
    atomic_store(&block.slot->cursor, block.window_first);
    block.slot->block = &block;
    ledger_control = control;
}

static void close_window(void)
{
    CHECK_EQUAL(munmap((void *)control->windows, WINDOW_BYTES), 0);
    free(control);
}

/* ---- ld.so's part ----------------------------------------------------------------------------- */

static long call(uintptr_t address, size_t bytes, long protection, long flags, long descriptor,
                 long offset)
{
    const struct loader_call call = {address,    bytes,  protection,          flags | MAP_PRIVATE,
                                     descriptor, offset, control->windows + 1};

    return loader_mmap(&call);
}

static long protection_of(const Elf64_Phdr *header)
{
    return (header->p_flags & PF_R ? PROT_READ : 0) | (header->p_flags & PF_W ? PROT_WRITE : 0) |
           (header->p_flags & PF_X ? PROT_EXEC : 0);
}

/* Map the segments of an object as ld.so does, which begins with all of it; where they are. */
static uintptr_t map_object(const char *file)
{
    union {
        Elf64_Ehdr header;
        char bytes[ARCH_PAGE];
    } head;
    const Elf64_Phdr *segments;
    uintptr_t base = 0, end = 0;
    int descriptor = open(file, O_RDONLY | O_CLOEXEC);

    CHECK(descriptor >= 0);
    CHECK_EQUAL(read(descriptor, head.bytes, sizeof head.bytes), sizeof head.bytes);
    segments = (const Elf64_Phdr *)(head.bytes + head.header.e_phoff);
    for (int i = 0; i < head.header.e_phnum; i++)
        if (segments[i].p_type == PT_LOAD)
            end = segments[i].p_vaddr + segments[i].p_memsz;
    for (int i = 0; i < head.header.e_phnum; i++) {
        const Elf64_Phdr *segment = &segments[i];
        uintptr_t first = segment->p_vaddr & -ARCH_PAGE;
        if (segment->p_type != PT_LOAD)
            continue;
        size_t bytes = align_up(segment->p_vaddr + segment->p_filesz, ARCH_PAGE) - first;
        long at = call(base ? base + first : 0, base ? bytes : end, protection_of(segment),
                       base ? MAP_FIXED : 0, descriptor, (long)(segment->p_offset & -ARCH_PAGE));
        CHECK(at > 0 && (!base || (uintptr_t)at == base + first));
        base = base ? base : (uintptr_t)at;
        size_t zeroes = align_up(segment->p_vaddr + segment->p_memsz, ARCH_PAGE) - first - bytes;
        if (zeroes)
            CHECK(call(base + first + bytes, zeroes, protection_of(segment),
                       MAP_FIXED | MAP_ANONYMOUS, -1, 0) > 0);
    }
    close(descriptor);
    return base;
}

/* ---- What the tests ask ----------------------------------------------------------------------- */

/* Whether a page is the process's own, and not the file's. */
static bool is_own(uintptr_t at)
{
    int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    uint64_t entry;

    CHECK(pagemap >= 0);
    CHECK_EQUAL(pread(pagemap, &entry, sizeof entry, (off_t)(at / ARCH_PAGE * sizeof entry)),
                sizeof entry);
    close(pagemap);
    return entry >> 63 && !(entry >> 61 & 1);
}

static size_t own_pages(const void *start, size_t bytes)
{
    size_t count = 0;

    for (uintptr_t at = (uintptr_t)start; at < (uintptr_t)start + bytes; at += ARCH_PAGE)
        count += is_own(at);
    return count;
}

/* Where the copy that was mapped at `base` has what ld.so's own copy has at an address. */
static const struct loaded *in_copy(uintptr_t base, const char *symbol)
{
    Dl_info found;
    const char *there = dlsym(library, symbol);
    CHECK(there && dladdr(there, &found));
    return (const struct loaded *)(base + (size_t)(there - (const char *)found.dli_fbase));
}

static void check_loaded(const struct loaded *loaded, bool populated)
{
    CHECK_EQUAL(own_pages(loaded->first, sizeof loaded->first), populated ? 4 : 0);
    CHECK_EQUAL(own_pages(loaded->plain, sizeof loaded->plain), 0);
    CHECK_EQUAL(own_pages(loaded->second, sizeof loaded->second), populated ? 4 : 0);
    CHECK(strcmp(loaded->plain, "plain") == 0);
}

/* ---- The tests -------------------------------------------------------------------------------- */

static bool can_populate(void)
{
    void *page = mmap(NULL, ARCH_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    bool can = madvise(page, ARCH_PAGE, MADV_POPULATE_WRITE) == 0;

    CHECK_EQUAL(munmap(page, ARCH_PAGE), 0);
    return can;
}

static void check_object(bool populated)
{
    open_window();
    uintptr_t base = map_object(path);
    check_loaded(in_copy(base, "loaded_variables"), populated);
    check_loaded(in_copy(base, "loaded_constants"), populated);
    close_window();
}

static void test_pages_that_are_relocated_are_written_to_and_no_others(void)
{
    check_object(can_populate());
}

static void check_without_madvise(const void *argument)
{
    static const struct denied denied[] = {{SYS_madvise, EINVAL}, {0, 0}};

    (void)argument;
    deny(denied);
    check_object(false);
}

static void test_an_older_kernel_is_asked_for_nothing(void)
{
    check_in_child(check_without_madvise, NULL);
}

/* All pages of a library that ld.so has really loaded here are its own that were written to. */
static void test_no_page_is_written_to_that_ld_so_leaves(void)
{
    Dl_info found;

    CHECK(dladdr((const void *)(uintptr_t)dlsym(RTLD_DEFAULT, "qsort"), &found));
    open_window();
    uintptr_t base = map_object(found.dli_fname), end = block.object_end;
    for (uintptr_t at = base; at < end; at += ARCH_PAGE)
        if (is_own(at))
            CHECK(is_own(at - base + (uintptr_t)found.dli_fbase));
    close_window();
}

/* A file that looks like an object, of two pages. */
struct looks {
    Elf64_Ehdr header;
    Elf64_Phdr segments[2];
    _Alignas(ARCH_PAGE) Elf64_Dyn dynamic[3];
};

static void check_file(const struct looks *looks)
{
    const char *folder = check_folder();
    char file[512];

    snprintf(file, sizeof file, "%s/object", folder);
    int descriptor = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CHECK_EQUAL(write(descriptor, looks, sizeof *looks), sizeof *looks);
    open_window();
    long base = call(0, 3 * ARCH_PAGE, PROT_READ, 0, descriptor, 0);
    CHECK(base > 0);
    long at = call((uintptr_t)base + ARCH_PAGE, ARCH_PAGE, PROT_READ | PROT_WRITE, MAP_FIXED,
                   descriptor, (long)ARCH_PAGE);
    CHECK_EQUAL(at, base + (long)ARCH_PAGE);
    *(char *)at = 1;
    close_window();
    close(descriptor);
    check_remove(folder);
}

static void test_files_that_are_no_sound_objects_are_mapped(void)
{
    struct looks looks = {
        .segments = {{.p_type = PT_LOAD, .p_flags = PF_R, .p_filesz = SIZE_MAX},
                     {.p_type = PT_DYNAMIC}},
    };

    check_file(&looks);
    memcpy(looks.header.e_ident, ELFMAG, SELFMAG);
    check_file(&looks);
    looks.header.e_phnum = UINT16_MAX;
    check_file(&looks);
    looks.header.e_phnum = 2;
    looks.header.e_phoff = SIZE_MAX;
    check_file(&looks);
    looks.header.e_phoff = offsetof(struct looks, segments);
    check_file(&looks);
    looks.segments[1].p_vaddr = ARCH_PAGE;
    looks.segments[1].p_filesz = SIZE_MAX;
    check_file(&looks);
    looks.segments[1].p_vaddr = SIZE_MAX - ARCH_PAGE;
    looks.segments[1].p_filesz = sizeof looks.dynamic;
    check_file(&looks);
    looks.segments[1].p_vaddr = ARCH_PAGE;
    check_file(&looks);
    for (int relr = 0; relr < 2; relr++) {
        /* In a segment that comes behind this one, and is not mapped yet. */
        looks.dynamic[0] =
            (Elf64_Dyn){.d_tag = relr ? DT_RELR : DT_RELA, .d_un.d_val = 2 * ARCH_PAGE};
        looks.dynamic[1] = (Elf64_Dyn){.d_tag = relr ? DT_RELRSZ : DT_RELASZ, .d_un.d_val = 64};
        looks.dynamic[2] = (Elf64_Dyn){.d_tag = 0x12345, .d_un.d_val = SIZE_MAX};
        check_file(&looks);
        looks.dynamic[1].d_un.d_val = SIZE_MAX;
        check_file(&looks);
        looks.dynamic[0].d_un.d_val = SIZE_MAX - 8;
        check_file(&looks);
    }
}

/* How many mappings the window has, and of how many the content may be executed. */
static int count_mappings(int *executable)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    unsigned long start, end;
    char rights[5], line[512];
    int count = 0;

    CHECK(maps != NULL);
    *executable = 0;
    while (fgets(line, sizeof line, maps)) {
        CHECK_EQUAL(sscanf(line, "%lx-%lx %4s", &start, &end, rights), 3);
        if (start < control->windows || start >= control->windows + WINDOW_BYTES)
            continue;
        count++;
        *executable += rights[2] == 'x';
    }
    CHECK_EQUAL(fclose(maps), 0);
    return count;
}

static void test_segments_that_are_only_read_are_one_mapping(void)
{
    int executable;

    open_window();
    uintptr_t base = map_object(path);
    CHECK(strcmp(in_copy(base, "loaded_constants")->plain, "plain") == 0);
    CHECK(count_mappings(&executable) <= 3); /* with the variables, of the file and zero */
    CHECK_EQUAL(executable, 1);
    close_window();
}

/* Where nothing may be executed an object's code cannot be mapped, and it is ld.so that finds out. */
static void check_without_execution(const void *argument)
{
    struct {
        Elf64_Ehdr header;
        Elf64_Phdr segment;
        _Alignas(ARCH_PAGE) char data[ARCH_PAGE];
    } object = {
        .header = {.e_ident = ELFMAG, .e_phnum = 1, .e_phoff = sizeof(Elf64_Ehdr)},
        .segment = {.p_type = PT_LOAD, .p_flags = PF_R | PF_X, .p_filesz = sizeof object},
        .data = "data",
    };
    const char *folder = check_folder();
    char file[512];

    (void)argument;
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("none", folder, "tmpfs", MS_NOEXEC, NULL) < 0) {
        check_remove(folder);
        return; /* not by this user */
    }
    snprintf(file, sizeof file, "%s/data", folder);
    int descriptor = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CHECK_EQUAL(write(descriptor, &object, sizeof object), sizeof object);
    CHECK(mmap(NULL, ARCH_PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, descriptor, 0) == MAP_FAILED);
    open_window();
    long base = call(0, sizeof object, PROT_READ, 0, descriptor, 0), at = base + (long)ARCH_PAGE;
    CHECK(base > 0 && strcmp((const char *)at, "data") == 0);
    CHECK(call((uintptr_t)at, ARCH_PAGE, PROT_READ | PROT_EXEC, MAP_FIXED, descriptor, ARCH_PAGE) <
          0);
    close_window();
    close(descriptor);
    CHECK_EQUAL(umount(folder), 0);
    check_remove(folder);
}

static void test_objects_are_mapped_where_nothing_may_be_executed(void)
{
    check_in_child(check_without_execution, NULL);
}

/* ld.so takes all rights from what is behind the first segment. */
static void test_segments_behind_a_gap_are_mapped(void)
{
    struct {
        Elf64_Ehdr header;
        Elf64_Phdr segments[2];
        _Alignas(ARCH_PAGE) char gap[ARCH_PAGE], text[ARCH_PAGE];
    } object = {
        .header = {.e_ident = ELFMAG, .e_phnum = 2},
        .segments =
            {{.p_type = PT_LOAD, .p_flags = PF_R, .p_filesz = 1},
             {.p_type = PT_LOAD, .p_flags = PF_R | PF_X, .p_vaddr = 2 * ARCH_PAGE, .p_filesz = 1}},
        .text = "text",
    };
    int descriptor = memfd_create("object", MFD_CLOEXEC);
    int executable;

    object.header.e_phoff = (uintptr_t)object.segments - (uintptr_t)&object;
    CHECK_EQUAL(write(descriptor, &object, sizeof object), sizeof object);
    open_window();
    long base = call(0, sizeof object, PROT_READ, 0, descriptor, 0);
    CHECK(base > 0);
    CHECK_EQUAL(mprotect((char *)base + ARCH_PAGE, 2 * ARCH_PAGE, PROT_NONE), 0);
    long text = base + 2 * (long)ARCH_PAGE;
    CHECK_EQUAL(call((uintptr_t)text, ARCH_PAGE, PROT_READ | PROT_EXEC, MAP_FIXED, descriptor,
                     2 * (long)ARCH_PAGE),
                text);
    CHECK(strcmp((const char *)text, "text") == 0);
    CHECK_EQUAL(count_mappings(&executable), 3);
    close_window();
    close(descriptor);
}

/* Of another file, elsewhere in it, or not there. */
static void test_what_is_no_segment_of_the_object_is_mapped(void)
{
    int first = memfd_create("first", MFD_CLOEXEC), second = memfd_create("second", MFD_CLOEXEC);
    struct {
        Elf64_Ehdr header;
        Elf64_Phdr segment;
        _Alignas(ARCH_PAGE) char more[2][ARCH_PAGE];
    } object = {
        .header = {.e_ident = ELFMAG, .e_phnum = 1, .e_phoff = sizeof(Elf64_Ehdr)},
        .segment = {.p_type = PT_LOAD, .p_flags = PF_R | PF_X, .p_filesz = sizeof object},
        .more = {"one", "two"},
    };

    CHECK_EQUAL(write(first, &object, sizeof object), sizeof object);
    memcpy(object.more[0], "other", sizeof "other");
    CHECK_EQUAL(write(second, &object, sizeof object), sizeof object);
    open_window();
    long base = call(0, sizeof object, PROT_READ, 0, first, 0), at = base + (long)ARCH_PAGE;
    CHECK(base > 0);
    CHECK(strcmp((const char *)at, "one") == 0);
    CHECK_EQUAL(call((uintptr_t)at, ARCH_PAGE, PROT_READ, MAP_FIXED, first, ARCH_PAGE), at);
    CHECK(strcmp((const char *)at, "one") == 0);
    CHECK_EQUAL(call((uintptr_t)at, ARCH_PAGE, PROT_READ, MAP_FIXED, first, 2 * ARCH_PAGE), at);
    CHECK(strcmp((const char *)at, "two") == 0);
    CHECK_EQUAL(call((uintptr_t)at, ARCH_PAGE, PROT_READ, MAP_FIXED, second, ARCH_PAGE), at);
    CHECK(strcmp((const char *)at, "other") == 0);
    CHECK_EQUAL(call((uintptr_t)at, ARCH_PAGE, PROT_READ, MAP_FIXED | MAP_ANONYMOUS, -1, 0), at);
    CHECK_EQUAL(*(const char *)at, 0);
    close_window();
    close(first);
    close(second);
}

int main(void)
{
    path = getenv("AIOPIP_LOADED");
    CHECK(path != NULL);
    library = dlopen(path, RTLD_NOW);
    CHECK(library != NULL);
    RUN(test_pages_that_are_relocated_are_written_to_and_no_others);
    RUN(test_an_older_kernel_is_asked_for_nothing);
    RUN(test_no_page_is_written_to_that_ld_so_leaves);
    RUN(test_files_that_are_no_sound_objects_are_mapped);
    RUN(test_segments_that_are_only_read_are_one_mapping);
    RUN(test_objects_are_mapped_where_nothing_may_be_executed);
    RUN(test_segments_behind_a_gap_are_mapped);
    RUN(test_what_is_no_segment_of_the_object_is_mapped);
    return 0;
}
