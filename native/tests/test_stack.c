/* SPDX-License-Identifier: BSD-2-Clause
 *
 * test_stack.c: a first stack, read back as ld.so reads it.
 */
#include <elf.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#include "check.h"
#include "stack.h"

#define STACK_BYTES (8UL << 20)
#define FILLED_BELOW (32UL << 10)
#define KERNELS_STRING_MAX (128UL << 10) /* MAX_ARG_STRLEN, its NUL counted */

static uint64_t auxv[STACK_AUXV_MAX][2];
static struct program program;
static struct image image;
static struct task_block *block;
static uintptr_t stack_start, top;

/* ---- Input ------------------------------------------------------------------------------------ */

/* Strings, each ended by NUL, in one piece; all zero at first. */
struct blob {
    char *bytes;
    size_t used, count;
};

static char stores[2][4 << 20]; /* arguments and environment */
static int stores_used;

static void add_string(struct blob *blob, const char *text)
{
    size_t bytes = strlen(text) + 1;

    if (!blob->bytes) {
        CHECK(stores_used < 2);
        blob->bytes = stores[stores_used++];
    }
    CHECK(blob->used + bytes <= sizeof stores[0]);
    memcpy(blob->bytes + blob->used, text, bytes);
    blob->used += bytes;
    blob->count++;
}

static void add_filled(struct blob *blob, size_t length)
{
    char *text = malloc(length + 1);

    CHECK(text != NULL);
    memset(text, 'a' + (char)(blob->count % 26), length);
    text[length] = 0;
    add_string(blob, text);
    free(text);
}

/* What stack_build is given; arguments and environment empty, or the blobs'. */
static struct stack_content content_of(struct aiopip_spawn_request *request, struct blob *arguments,
                                       struct blob *environment)
{
    *request = (struct aiopip_spawn_request){.program = "unused",
                                             .argv = arguments->bytes ? arguments->bytes : "",
                                             .argv_bytes = arguments->used,
                                             .argc = arguments->count,
                                             .envp = environment->bytes ? environment->bytes : "",
                                             .envp_bytes = environment->used,
                                             .envc = environment->count};
    return (struct stack_content){.preload = "/lib/preload.so",
                                  .launcher = "/lib/launcher",
                                  .program = &program,
                                  .request = request,
                                  .image = &image,
                                  .image_at = 0x100000,
                                  .auxv = auxv};
}

static void forget_blobs(void)
{
    stores_used = 0;
}

/* ---- Output ----------------------------------------------------------------------------------- */

struct parsed {
    size_t argc;
    char **argv, **envp;
    uint64_t (*auxv)[2];
};

static void check_string(const char *text, const char *expected)
{
    CHECK((uintptr_t)text >= stack_start && (uintptr_t)text < top);
    if (strcmp(text, expected) != 0)
        fprintf(stderr, "got %.100s, expected %.100s\n", text, expected);
    CHECK(strcmp(text, expected) == 0);
}

static struct parsed parse(uintptr_t stack)
{
    struct parsed parsed;

    CHECK(stack >= stack_start && stack < top && stack % 16 == 0);
    parsed.argc = *(uint64_t *)stack;
    parsed.argv = (char **)stack + 1;
    parsed.envp = parsed.argv + parsed.argc + 1;
    CHECK(parsed.envp[-1] == NULL);
    char **end = parsed.envp;
    while (*end)
        end++;
    parsed.auxv = (uint64_t (*)[2])(end + 1);
    return parsed;
}

static uint64_t value_of(const struct parsed *parsed, uint64_t type)
{
    for (int i = 0; parsed->auxv[i][0] != AT_NULL; i++)
        if (parsed->auxv[i][0] == type)
            return parsed->auxv[i][1];
    fprintf(stderr, "no entry %lu\n", (unsigned long)type);
    CHECK(false);
    return 0;
}

/* Build, and check all of it. */
static struct parsed build(struct blob *arguments, struct blob *environment)
{
    struct aiopip_spawn_request request;
    struct stack_content content = content_of(&request, arguments, environment);
    size_t words = program.word_count;
    bool python = program.libpython[0] != 0;
    char preloads[PATH_MAX + 64];
    const char *head[PROGRAM_WORDS + 6] = {image.path,
                                           "--preload",
                                           preloads,
                                           "--argv0",
                                           words ? program.words[0] : arguments->bytes,
                                           python ? content.launcher : program.path};
    size_t heads = 6;

    snprintf(preloads, sizeof preloads, "%s%s%s", content.preload, python ? ":" : "",
             program.libpython);

    for (size_t i = 1; i < words; i++)
        head[heads++] = program.words[i];
    long needed = stack_measure(&content, STACK_BYTES);
    CHECK(needed > 0);
    /* Fresh memory is zero, and stays so at the top. */
    uintptr_t filled = top - (size_t)needed - FILLED_BELOW;
    memset((void *)filled, 0xee, top - 16 - filled);
    uintptr_t stack = stack_build(&content, top, block);
    struct parsed parsed = parse(stack);
    CHECK_EQUAL(parsed.argc, heads + arguments->count - 1);
    for (size_t i = 0; i < heads; i++)
        check_string(parsed.argv[i], head[i]);
    const char *at = arguments->bytes;
    for (size_t i = 0; i < arguments->count; i++, at += strlen(at) + 1)
        if (i > 0)
            check_string(parsed.argv[heads + i - 1], at);
    at = environment->bytes;
    for (size_t i = 0; i < environment->count; i++, at += strlen(at) + 1)
        check_string(parsed.envp[i], at);
    CHECK(parsed.envp[environment->count] == NULL);
    CHECK_EQUAL(value_of(&parsed, SHARED_AUXV_TYPE), (uintptr_t)block);
    CHECK_EQUAL(value_of(&parsed, AT_BASE), 0);
    CHECK_EQUAL(value_of(&parsed, AT_ENTRY), 0x100000 + image.entry);
    CHECK_EQUAL(value_of(&parsed, AT_PHDR), 0x100000 + image.headers);
    CHECK_EQUAL(value_of(&parsed, AT_PHNUM), image.header_count);
    CHECK_EQUAL(value_of(&parsed, AT_PAGESZ), getauxval(AT_PAGESZ));
    CHECK_EQUAL(value_of(&parsed, AT_SYSINFO_EHDR), getauxval(AT_SYSINFO_EHDR));
    check_string((char *)value_of(&parsed, AT_EXECFN), program.path);
    /* Below the stack pointer nothing was written, and all lies within what was measured. */
    CHECK(stack >= top - (size_t)needed - 16);
    for (uintptr_t below = filled; below < stack; below++)
        if (*(uint8_t *)below != 0xee)
            CHECK_EQUAL(below, stack);
    for (uintptr_t above = top - 8; above < top; above++)
        CHECK_EQUAL(*(uint8_t *)above, 0);
    return parsed;
}

/* ---- Tests ------------------------------------------------------------------------------------ */

static void test_arguments_and_environment_arrive(void)
{
    struct blob arguments = {0}, environment = {0};

    add_string(&arguments, "name");
    add_string(&arguments, "first");
    add_string(&arguments, "");
    add_string(&arguments, "-x");
    add_string(&environment, "A=1");
    add_string(&environment, "");
    add_string(&environment, "B=2");
    build(&arguments, &environment);
    forget_blobs();
}

static void test_stack_without_arguments_and_environment_is_whole(void)
{
    struct blob arguments = {0}, environment = {0};

    add_string(&arguments, "");
    build(&arguments, &environment);
    forget_blobs();
}

static void test_script_has_its_words_in_place_of_argv0(void)
{
    struct blob arguments = {0}, environment = {0};

    add_string(&arguments, "script");
    add_string(&arguments, "argument");
    program.words[0] = "/bin/interpreter";
    program.words[1] = "-i";
    program.words[2] = "./script";
    program.word_count = 3;
    build(&arguments, &environment);
    program.word_count = 0;
    forget_blobs();
}

static void test_launcher_stands_in_for_a_python_at_a_fixed_address(void)
{
    struct blob arguments = {0}, environment = {0};
    struct program saved = program;

    add_string(&arguments, "python3");
    add_string(&arguments, "script.py");
    strcpy(program.libpython, "/usr/lib/libpython3.11.so.1.0");
    build(&arguments, &environment);
    memset(program.libpython + 1, 'p', PATH_MAX - 2);
    program.libpython[PATH_MAX - 1] = 0;
    build(&arguments, &environment);
    program = saved;
    forget_blobs();
}

static void test_random_bytes_differ_and_are_aligned(void)
{
    struct blob arguments = {0}, environment = {0};
    char first[16];

    add_string(&arguments, "name");
    struct parsed parsed = build(&arguments, &environment);
    uint64_t at = value_of(&parsed, AT_RANDOM);
    CHECK(at >= stack_start && at + sizeof first <= top);
    memcpy(first, (void *)at, sizeof first);
    parsed = build(&arguments, &environment);
    CHECK(memcmp(first, (void *)value_of(&parsed, AT_RANDOM), sizeof first) != 0);
    forget_blobs();
}

static void test_any_length_fits_what_was_measured(void)
{
    for (size_t length = 0; length < 64; length++) {
        struct blob arguments = {0}, environment = {0};
        add_filled(&arguments, length);
        add_filled(&arguments, 63 - length);
        add_filled(&environment, length * 3);
        build(&arguments, &environment);
        forget_blobs();
    }
}

static void test_long_argv0_does_not_run_into_the_vectors(void)
{
    for (size_t length = 100; length < KERNELS_STRING_MAX; length = length * 5 / 2) {
        struct blob arguments = {0}, environment = {0};
        add_filled(&arguments, length);
        add_string(&arguments, "argument");
        add_string(&environment, "A=1");
        build(&arguments, &environment);
        forget_blobs();
    }
}

static void test_long_paths_do_not_run_into_the_vectors(void)
{
    struct blob arguments = {0}, environment = {0};
    struct program saved = program;

    add_string(&arguments, "name");
    add_string(&environment, "A=1");
    memset(program.path + 1, 'p', PATH_MAX - 2);
    program.path[PATH_MAX - 1] = 0;
    build(&arguments, &environment);
    program = saved;
    forget_blobs();
}

static void test_many_strings_arrive(void)
{
    struct blob arguments = {0}, environment = {0};

    for (int i = 0; i < 20000; i++)
        add_filled(&arguments, (size_t)i % 7);
    for (int i = 0; i < 10000; i++)
        add_filled(&environment, (size_t)i % 40);
    build(&arguments, &environment);
    forget_blobs();
}

static long measure(struct blob *arguments, struct blob *environment, size_t stack_bytes)
{
    struct aiopip_spawn_request request;
    struct stack_content content = content_of(&request, arguments, environment);

    return stack_measure(&content, stack_bytes);
}

static void test_string_that_execve_refuses_is_too_big(void)
{
    for (int where = 0; where < 2; where++)
        for (size_t more = 0; more < 2; more++) {
            struct blob blobs[2] = {{0}, {0}};
            add_string(&blobs[0], "name");
            add_filled(&blobs[where], KERNELS_STRING_MAX - 1 + more);
            long result = measure(&blobs[0], &blobs[1], STACK_BYTES);
            CHECK(more ? result == -E2BIG : result > 0);
            forget_blobs();
        }
}

static void test_quarter_of_the_stack_is_the_limit(void)
{
    struct blob arguments = {0}, environment = {0};

    add_string(&arguments, "name");
    while (arguments.used + arguments.count * sizeof(char *) + 1000 < STACK_BYTES / 4)
        add_filled(&arguments, 900);
    CHECK(measure(&arguments, &environment, STACK_BYTES) > 0);
    add_filled(&environment, 1000);
    CHECK_EQUAL(measure(&arguments, &environment, STACK_BYTES), -E2BIG);
    CHECK(measure(&arguments, &environment, 2 * STACK_BYTES) > 0);
    forget_blobs();
}

static void test_pointers_count_for_the_limit(void)
{
    struct blob arguments = {0}, environment = {0};

    for (size_t i = 0; i < STACK_BYTES / 4 / 9 + 10; i++)
        add_string(&arguments, "");
    CHECK(arguments.used < STACK_BYTES / 8);
    CHECK_EQUAL(measure(&arguments, &environment, STACK_BYTES), -E2BIG);
    forget_blobs();
}

static void test_own_auxiliary_vector_is_read(void)
{
    uint64_t own[STACK_AUXV_MAX][2];

    stack_read_auxv(own);
    bool found = false;
    for (int i = 0; own[i][0] != AT_NULL; i++)
        found |= own[i][0] == AT_PHDR && own[i][1] == getauxval(AT_PHDR);
    CHECK(found);
}

int main(void)
{
    stack_start = (uintptr_t)mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
                                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK((void *)stack_start != MAP_FAILED);
    top = stack_start + STACK_BYTES;
    block = calloc(1, sizeof *block);
    CHECK(block != NULL);
    stack_read_auxv(auxv);
    strcpy(program.path, "/bin/program");
    image =
        (struct image){.path = "/lib/ld.so", .entry = 0x1234, .headers = 64, .header_count = 11};
    RUN(test_arguments_and_environment_arrive);
    RUN(test_stack_without_arguments_and_environment_is_whole);
    RUN(test_script_has_its_words_in_place_of_argv0);
    RUN(test_launcher_stands_in_for_a_python_at_a_fixed_address);
    RUN(test_random_bytes_differ_and_are_aligned);
    RUN(test_any_length_fits_what_was_measured);
    RUN(test_long_argv0_does_not_run_into_the_vectors);
    RUN(test_long_paths_do_not_run_into_the_vectors);
    RUN(test_many_strings_arrive);
    RUN(test_string_that_execve_refuses_is_too_big);
    RUN(test_quarter_of_the_stack_is_the_limit);
    RUN(test_pointers_count_for_the_limit);
    RUN(test_own_auxiliary_vector_is_read);
    munmap((void *)stack_start, STACK_BYTES);
    free(block);
    return 0;
}
