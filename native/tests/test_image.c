/* SPDX-License-Identifier: BSD-2-Clause
 *
 * test_image.c: ld.so read, prepared and mapped; and what calls itself an ld.so.
 */
#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>

#include "check.h"
#include "deny.h"
#include "image.h"

#define LOADER "/lib64/ld-linux-x86-64.so.2"
#define NOWHERE 0x310000000000UL /* far from where the kernel maps by itself */
#define ROOM (1UL << 30)
#define MUTATIONS 800

static char folder[256];
static uint8_t *loader; /* the file's bytes */
static size_t loader_bytes;
static uintptr_t place; /* ROOM bytes are free there */

static void read_loader(void)
{
    struct stat status;
    FILE *file = fopen(LOADER, "re");

    CHECK(file != NULL && fstat(fileno(file), &status) == 0);
    loader_bytes = (size_t)status.st_size;
    loader = malloc(loader_bytes);
    CHECK(loader != NULL && fread(loader, 1, loader_bytes, file) == loader_bytes);
    fclose(file);
}

/* A file in the test's folder; each one is another file, for images are kept by what it is. */
static const char *write_file(const void *bytes, size_t count)
{
    static char path[300];
    static int number;

    snprintf(path, sizeof path, "%s/%d", folder, number++);
    FILE *file = fopen(path, "we");
    CHECK(file != NULL && fwrite(bytes, 1, count, file) == count && fclose(file) == 0);
    return path;
}

static struct image *find(struct image **list, const char *path)
{
    struct program_error error = {0};
    struct image *image = NULL;
    int result = image_find(list, path, &image, &error);

    if (result < 0)
        fprintf(stderr, "%s: %s\n", strerror(-result), error.detail);
    CHECK_EQUAL(result, 0);
    return image;
}

static void check_refused(const char *path, int number)
{
    struct image *list = NULL, *image = NULL;
    struct program_error error = {0};

    CHECK_EQUAL(image_find(&list, path, &image, &error), -number);
    CHECK(list == NULL && image == NULL);
    CHECK(error.failure != 0 && strncmp(error.detail, path, strlen(path)) == 0);
}

/* How often mmap is called: mov $9, %eax; syscall. */
static int sites_in(const uint8_t *bytes, size_t count)
{
    static const uint8_t call[] = {0xb8, 9, 0, 0, 0, 0x0f, 0x05};
    int sites = 0;

    for (size_t i = 0; i + sizeof call <= count; i++)
        sites += memcmp(bytes + i, call, sizeof call) == 0;
    return sites;
}

/* The map at `place` is what ld.so expects of it. */
static void check_mapped(const struct image *image)
{
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)place;
    const Elf64_Phdr *segments = (const Elf64_Phdr *)(place + image->headers);

    CHECK(memcmp(header->e_ident, ELFMAG, SELFMAG) == 0);
    CHECK_EQUAL(image->entry, header->e_entry);
    CHECK_EQUAL(image->header_count, header->e_phnum);
    CHECK(memcmp(segments, loader + header->e_phoff, sizeof *segments * header->e_phnum) == 0);
    for (int i = 0; i < header->e_phnum; i++) {
        if (segments[i].p_type != PT_LOAD)
            continue;
        uint8_t *at = (uint8_t *)place + segments[i].p_vaddr;
        size_t file = segments[i].p_filesz,
               end = align_up((size_t)(at + segments[i].p_memsz), ARCH_PAGE);
        if (!(segments[i].p_flags & PF_X))
            CHECK(memcmp(at, loader + segments[i].p_offset, file) == 0);
        if (segments[i].p_flags & PF_W)
            for (uint8_t *zero = at + file; zero < (uint8_t *)end; zero++)
                CHECK_EQUAL(*zero, 0);
        if (segments[i].p_flags & PF_W)
            memset(at, 1, segments[i].p_memsz);
    }
}

static void unmap(void)
{
    CHECK(munmap((void *)place, ROOM) == 0);
    CHECK_EQUAL(check_mappings_in(place, place + ROOM), 0);
}

static void find_place(void)
{
    void *at =
        mmap((void *)NOWHERE, ROOM, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    CHECK(at != MAP_FAILED);
    place = (uintptr_t)at;
    unmap();
}

/* ---- The system's ----------------------------------------------------------------------------- */

static void test_systems_loader_is_prepared(void)
{
    struct image *list = NULL, *image = find(&list, LOADER);

    CHECK_EQUAL(image->tracked, 1);
    CHECK(strcmp(image->path, LOADER) == 0);
    CHECK(image->spare > 0 && image->spare < image->bytes);
    image_free_all(list);
}

static void test_mapped_loader_has_no_mmap_call_left(void)
{
    struct image *list = NULL, *image = find(&list, LOADER);

    CHECK(sites_in(loader, loader_bytes) > 0);
    CHECK_EQUAL(image_map(image, place), 0);
    check_mapped(image);
    CHECK_EQUAL(sites_in((uint8_t *)place, image->spare), 0);
    CHECK(check_mappings_in(place, place + image->bytes) <= 2);
    unmap();
    image_free_all(list);
}

static void test_spare_pages_are_zero_and_writable(void)
{
    struct image *list = NULL, *image = find(&list, LOADER);

    CHECK_EQUAL(image_map(image, place), 0);
    for (size_t at = image->spare; at < image->bytes; at++)
        CHECK_EQUAL(*(uint8_t *)(place + at), 0);
    memset((void *)(place + image->spare), 1, image->bytes - image->spare);
    unmap();
    image_free_all(list);
}

static void test_mapping_shares_nothing_with_the_next_one(void)
{
    struct image *list = NULL, *image = find(&list, LOADER);

    for (int i = 0; i < 2; i++) {
        CHECK_EQUAL(image_map(image, place), 0);
        check_mapped(image); /* writes to all of the data */
        unmap();
    }
    image_free_all(list);
}

static void test_mapping_replaces_nothing(void)
{
    struct image *list = NULL, *image = find(&list, LOADER);
    char *wall = mmap((void *)(place + image->spare - ARCH_PAGE), ARCH_PAGE, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

    CHECK(wall != MAP_FAILED);
    *wall = 42;
    CHECK_EQUAL(image_map(image, place), -EEXIST);
    CHECK_EQUAL(*wall, 42);
    unmap();
    image_free_all(list);
}

/* ---- The list --------------------------------------------------------------------------------- */

static void test_second_look_finds_the_same_image(void)
{
    struct image *list = NULL, *first = find(&list, LOADER);

    CHECK(find(&list, LOADER) == first && list == first && first->next == NULL);
    image_free_all(list);
}

static void test_replaced_file_is_read_again(void)
{
    struct image *list = NULL;
    char path[300];

    strcpy(path, write_file(loader, loader_bytes));
    struct image *first = find(&list, path);
    CHECK(rename(write_file(loader, loader_bytes), path) == 0);
    struct image *second = find(&list, path);
    CHECK(second != first && second->inode != first->inode);
    CHECK(find(&list, path) == second);
    CHECK_EQUAL(second->tracked, 1);
    image_free_all(list);
}

static void test_file_written_anew_is_read_again(void)
{
    struct image *list = NULL;
    char path[300];

    strcpy(path, write_file(loader, loader_bytes));
    struct image *first = find(&list, path);
    const struct timespec times[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
    CHECK(utimensat(AT_FDCWD, path, times, 0) == 0);
    CHECK(find(&list, path) != first);
    image_free_all(list);
}

/* ---- What is no ld.so ------------------------------------------------------------------------- */

static void test_what_is_no_file_is_refused(void)
{
    char path[300];

    check_refused("/missing/ld.so", ENOENT);
    check_refused("ld.so", ENOENT);
    check_refused("", ENOENT);
    check_refused("/", EACCES);
    check_refused("/dev/zero", EACCES);
    snprintf(path, sizeof path, "%s/fifo", folder);
    CHECK(mkfifo(path, 0600) == 0);
    check_refused(path, EACCES); /* and nobody waits for a writer */
}

static void test_garbage_is_refused(void)
{
    uint64_t state = 1;
    uint8_t garbage[8192];

    for (size_t i = 0; i < sizeof garbage; i++)
        garbage[i] = (uint8_t)check_random(&state);
    check_refused(write_file("", 0), ENOEXEC);
    check_refused(write_file("text\n", 5), ENOEXEC);
    check_refused(write_file(garbage, sizeof garbage), ENOEXEC);
    memcpy(garbage, loader, sizeof(Elf64_Ehdr));
    check_refused(write_file(garbage, sizeof garbage), ENOEXEC);
    check_refused(write_file(loader, 64), ENOEXEC);
    check_refused(write_file(loader, loader_bytes / 2), ENOEXEC);
}

static void try_mutant(const uint8_t *mutant)
{
    struct image *list = NULL, *image = NULL;
    struct program_error error;

    if (image_find(&list, write_file(mutant, loader_bytes), &image, &error) == 0) {
        int result = image->bytes <= ROOM ? image_map(image, place) : -ENOMEM;
        CHECK(result <= 0 && result > -4096);
        munmap((void *)place, ROOM);
    }
    image_free_all(list);
}

/* Mutants of the program headers, mapped where they can be. */
static void test_mutated_loader_is_never_a_crash(void)
{
    size_t head = sizeof(Elf64_Ehdr) + 12 * sizeof(Elf64_Phdr);
    uint64_t state = 20240229;
    uint8_t *mutant = malloc(loader_bytes);

    CHECK(mutant != NULL && head < loader_bytes);
    for (int i = 0; i < MUTATIONS; i++) {
        memcpy(mutant, loader, loader_bytes);
        for (uint64_t flips = 1 + check_random(&state) % 3; flips > 0; flips--) {
            /* A field of 8 bytes, most of which are small numbers: the low half of it. */
            size_t at = SELFMAG + check_random(&state) % (head - SELFMAG);
            mutant[at - at % 8 + at % 3] ^= (uint8_t)(1U << check_random(&state) % 8);
        }
        memcpy(mutant, ELFMAG, SELFMAG);
        try_mutant(mutant);
        if (i % 100 == 99) {
            check_remove(folder);
            CHECK(mkdir(folder, 0700) == 0);
        }
    }
    free(mutant);
}

static void test_huge_bss_is_not_copied(void)
{
    struct image *list = NULL, *image = NULL;
    struct program_error error;
    struct stat status;
    uint8_t *copy = malloc(loader_bytes);

    CHECK(copy != NULL);
    memcpy(copy, loader, loader_bytes);
    Elf64_Phdr *segment = (Elf64_Phdr *)(copy + ((Elf64_Ehdr *)copy)->e_phoff);
    for (int i = 0; i < ((Elf64_Ehdr *)copy)->e_phnum; i++)
        if (segment[i].p_type == PT_LOAD && segment[i].p_flags & PF_W)
            segment[i].p_memsz = 256UL << 20;
    int result = image_find(&list, write_file(copy, loader_bytes), &image, &error);
    CHECK(result == 0 || result == -ENOEXEC);
    if (result == 0) {
        CHECK(fstat(image->descriptor, &status) == 0);
        CHECK(status.st_blocks * 512 < 16 << 20);
    }
    image_free_all(list);
    free(copy);
}

/* ---- Without memfd ---------------------------------------------------------------------------- */

static void map_without_memfd(const void *error)
{
    const struct denied denied[] = {{SYS_memfd_create, *(const int *)error}, {0, 0}};
    struct image *list = NULL;

    deny(denied);
    struct image *image = find(&list, LOADER);
    CHECK_EQUAL(image->tracked, 0);
    CHECK_EQUAL(image->spare, image->bytes);
    for (int i = 0; i < 2; i++) {
        CHECK_EQUAL(image_map(image, place), 0);
        check_mapped(image);
        CHECK(sites_in((uint8_t *)place, image->bytes) > 0);
        unmap();
    }
    image_free_all(list);
}

static void test_loader_is_mapped_from_its_file_without_memfd(void)
{
    const int errors[] = {ENOSYS, EPERM};

    for (int i = 0; i < 2; i++)
        check_in_child(map_without_memfd, &errors[i]);
}

static void test_no_descriptor_is_left_open(void)
{
    int next = dup(0);

    close(next);
    CHECK_EQUAL(next, 3);
}

int main(void)
{
    strcpy(folder, check_folder());
    read_loader();
    find_place();
    RUN(test_systems_loader_is_prepared);
    RUN(test_mapped_loader_has_no_mmap_call_left);
    RUN(test_spare_pages_are_zero_and_writable);
    RUN(test_mapping_shares_nothing_with_the_next_one);
    RUN(test_mapping_replaces_nothing);
    RUN(test_second_look_finds_the_same_image);
    RUN(test_replaced_file_is_read_again);
    RUN(test_file_written_anew_is_read_again);
    RUN(test_what_is_no_file_is_refused);
    RUN(test_garbage_is_refused);
    RUN(test_huge_bss_is_not_copied);
    RUN(test_mutated_loader_is_never_a_crash);
    RUN(test_loader_is_mapped_from_its_file_without_memfd);
    RUN(test_no_descriptor_is_left_open);
    check_remove(folder);
    free(loader);
    return 0;
}
