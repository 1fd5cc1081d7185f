/* SPDX-License-Identifier: BSD-2-Clause
 *
 * test_program.c: which file a name leads to, and that no file, whatever is in it, does harm.
 */
#include <elf.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/stat.h>

#include "arch_x86_64.h"
#include "check.h"
#include "program.h"

#define LOADER "/lib64/ld-linux-x86-64.so.2"
#define CUTS 200
#define MUTATIONS 20000
#define MUTATED_BYTES 1024

static const char *folder; /* the test's own, and the current one */
static struct program program;
static struct program_error error;

/* ---- Files ------------------------------------------------------------------------------------ */

static const char *in_folder(const char *name)
{
    static char path[PATH_MAX];

    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void write_file(const char *name, const void *bytes, size_t count, mode_t mode)
{
    int descriptor = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);

    CHECK(descriptor >= 0);
    CHECK_EQUAL(write(descriptor, bytes, count), (ssize_t)count);
    CHECK(fchmod(descriptor, mode) == 0);
    close(descriptor);
}

static void write_script(const char *name, const char *text)
{
    write_file(name, text, strlen(text), 0755);
}

/* A program of nothing but headers and an interpreter's name. */
struct tiny {
    Elf64_Ehdr header;
    Elf64_Phdr load, interpreter;
    char name[32];
};

static struct tiny make_tiny(void)
{
    struct tiny tiny = {
        .header = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB,
                               EV_CURRENT},
                   .e_type = ET_DYN,
                   .e_machine = EM_X86_64,
                   .e_version = EV_CURRENT,
                   .e_phoff = sizeof(Elf64_Ehdr),
                   .e_ehsize = sizeof(Elf64_Ehdr),
                   .e_phentsize = sizeof(Elf64_Phdr),
                   .e_phnum = 2},
        .load = {.p_type = PT_LOAD,
                 .p_flags = PF_R | PF_X,
                 .p_filesz = sizeof tiny,
                 .p_memsz = sizeof tiny,
                 .p_align = 4096},
        .interpreter = {.p_type = PT_INTERP,
                        .p_offset = offsetof(struct tiny, name),
                        .p_filesz = sizeof LOADER},
        .name = LOADER,
    };
    return tiny;
}

static void write_tiny(const char *name, const struct tiny *tiny)
{
    write_file(name, tiny, sizeof *tiny, 0755);
}

static size_t read_probe(uint8_t *bytes, size_t most)
{
    FILE *file = fopen(getenv("AIOPIP_PROBE"), "re");

    CHECK(file != NULL);
    size_t count = fread(bytes, 1, most, file);
    fclose(file);
    CHECK(count > MUTATED_BYTES && count < most);
    return count;
}

/* ---- Asking ----------------------------------------------------------------------------------- */

static void check_refused(const char *name, int number, enum aiopip_failure failure)
{
    memset(&error, 0, sizeof error);
    CHECK_EQUAL(program_find(name, NULL, NULL, &program, &error), -number);
    CHECK_EQUAL(error.failure, failure);
    CHECK(error.detail[0] != 0 || !*name);
    CHECK(memchr(error.detail, 0, sizeof error.detail) != NULL);
}

static void check_refused_tiny(const struct tiny *tiny, enum aiopip_failure failure)
{
    write_tiny("./refused", tiny);
    check_refused("./refused", ENOEXEC, failure);
}

static void check_found(const char *name)
{
    if (program_find(name, NULL, NULL, &program, &error) != 0)
        check_failed(__FILE__, __LINE__, error.detail);
}

/* Words that stand in place of argv[0], joined by '|'. */
static void check_words(const char *expected)
{
    char joined[4096] = "";

    for (size_t i = 0; i < program.word_count; i++) {
        strcat(joined, i ? "|" : "");
        strcat(joined, program.words[i]);
    }
    if (strcmp(joined, expected) != 0)
        fprintf(stderr, "got %s, expected %s\n", joined, expected);
    CHECK(strcmp(joined, expected) == 0);
}

/* ---- Files that are no programs --------------------------------------------------------------- */

static void test_missing_file_is_named(void)
{
    check_refused("./missing", ENOENT, AIOPIP_FAILED_PROGRAM);
    CHECK(strstr(error.detail, "./missing") != NULL);
    check_refused("./missing/too", ENOENT, AIOPIP_FAILED_PROGRAM);
    check_refused("", ENOENT, AIOPIP_FAILED_PROGRAM);
    write_script("./file", "x");
    check_refused("./file/below", ENOTDIR, AIOPIP_FAILED_PROGRAM);
}

static void test_name_that_is_too_long_is_refused(void)
{
    static char name[2 * PATH_MAX];

    memset(name, 'x', sizeof name - 1);
    check_refused(name, ENOENT, AIOPIP_FAILED_PROGRAM); /* searched, and found in no folder */
    name[0] = '/';
    check_refused(name, ENAMETOOLONG, AIOPIP_FAILED_PROGRAM);
}

static void test_what_is_no_regular_file_is_refused(void)
{
    check_refused("/", EACCES, AIOPIP_FAILED_DIRECTORY);
    check_refused("/dev/null", EACCES, AIOPIP_FAILED_DIRECTORY);
    CHECK(mkfifo("./fifo", 0755) == 0);
    check_refused("./fifo", EACCES, AIOPIP_FAILED_DIRECTORY); /* and nobody waits for a writer */
}

static void test_file_without_x_bit_is_refused_to_root_too(void)
{
    struct tiny tiny = make_tiny();

    write_file("./plain", &tiny, sizeof tiny, 0644);
    check_refused("./plain", EACCES, AIOPIP_FAILED_PERMISSION);
}

static void test_link_is_followed_and_a_loop_of_links_told(void)
{
    struct tiny tiny = make_tiny();

    write_tiny("./target", &tiny);
    CHECK(symlink("target", "./link") == 0 && symlink("loop", "./loop") == 0);
    check_found("./link");
    CHECK(strcmp(program.path, in_folder("target")) == 0);
    CHECK_EQUAL(program.word_count, 0);
    check_refused("./loop", ELOOP, AIOPIP_FAILED_PROGRAM);
}

static void test_text_without_a_script_line_is_refused(void)
{
    write_script("./text", "echo hello\n");
    check_refused("./text", ENOEXEC, AIOPIP_FAILED_MALFORMED);
    write_script("./empty", "");
    check_refused("./empty", ENOEXEC, AIOPIP_FAILED_MALFORMED);
    write_script("./hash", "#");
    check_refused("./hash", ENOEXEC, AIOPIP_FAILED_MALFORMED);
}

/* ---- ELF -------------------------------------------------------------------------------------- */

static void test_elf_program_is_found(void)
{
    struct tiny tiny = make_tiny();

    write_tiny("./tiny", &tiny);
    check_found("./tiny");
    CHECK(strcmp(program.path, in_folder("tiny")) == 0);
    CHECK(strcmp(program.interpreter, LOADER) == 0);
    check_found(getenv("AIOPIP_PROBE"));
    CHECK_EQUAL(program.word_count, 0);
}

static void test_position_dependent_program_is_told(void)
{
    struct tiny tiny = make_tiny();

    tiny.header.e_type = ET_EXEC;
    check_refused_tiny(&tiny, AIOPIP_FAILED_NOT_PIE);
    tiny.interpreter.p_type = PT_NULL; /* static too */
    check_refused_tiny(&tiny, AIOPIP_FAILED_NOT_PIE);
}

static void test_static_program_is_told(void)
{
    struct tiny tiny = make_tiny();

    tiny.interpreter.p_type = PT_NULL;
    check_refused_tiny(&tiny, AIOPIP_FAILED_STATIC);
}

static void test_program_of_another_machine_is_told(void)
{
    struct tiny tiny = make_tiny();

    tiny.header.e_machine = EM_AARCH64;
    check_refused_tiny(&tiny, AIOPIP_FAILED_MACHINE);
    tiny = make_tiny();
    tiny.header.e_ident[EI_CLASS] = ELFCLASS32;
    check_refused_tiny(&tiny, AIOPIP_FAILED_MACHINE);
    tiny = make_tiny();
    tiny.header.e_ident[EI_DATA] = ELFDATA2MSB;
    check_refused_tiny(&tiny, AIOPIP_FAILED_MACHINE);
}

static void test_object_files_and_core_dumps_are_refused(void)
{
    struct tiny tiny = make_tiny();

    tiny.header.e_type = ET_REL;
    check_refused_tiny(&tiny, AIOPIP_FAILED_MALFORMED);
    tiny.header.e_type = ET_CORE;
    check_refused_tiny(&tiny, AIOPIP_FAILED_MALFORMED);
}

static void test_headers_that_make_no_sense_are_refused(void)
{
    struct tiny tiny = make_tiny();

    tiny.header.e_phnum = 0;
    check_refused_tiny(&tiny, AIOPIP_FAILED_MALFORMED);
    tiny.header.e_phnum = PN_XNUM;
    check_refused_tiny(&tiny, AIOPIP_FAILED_MALFORMED);
    tiny = make_tiny();
    tiny.header.e_phentsize = 32;
    check_refused_tiny(&tiny, AIOPIP_FAILED_MALFORMED);
    tiny = make_tiny();
    tiny.header.e_phoff = UINT64_MAX - 10;
    check_refused_tiny(&tiny, AIOPIP_FAILED_TRUNCATED);
    tiny = make_tiny();
    tiny.load.p_type = PT_NOTE;
    check_refused_tiny(&tiny, AIOPIP_FAILED_MALFORMED);
}

static void test_segments_that_make_no_sense_are_refused(void)
{
    struct tiny tiny = make_tiny();

    tiny.load.p_filesz = UINT64_MAX;
    check_refused_tiny(&tiny, AIOPIP_FAILED_TRUNCATED);
    tiny = make_tiny();
    tiny.load.p_offset = UINT64_MAX - 4095;
    check_refused_tiny(&tiny, AIOPIP_FAILED_TRUNCATED);
    tiny = make_tiny();
    tiny.load.p_memsz = 1;
    check_refused_tiny(&tiny, AIOPIP_FAILED_MALFORMED);
    tiny = make_tiny();
    tiny.load.p_memsz = UINT64_MAX - 4095;
    check_refused_tiny(&tiny, AIOPIP_FAILED_MALFORMED);
    tiny = make_tiny();
    tiny.load.p_vaddr = 1;
    check_refused_tiny(&tiny, AIOPIP_FAILED_MALFORMED);
}

static void test_interpreters_name_that_makes_no_sense_is_refused(void)
{
    struct tiny tiny = make_tiny();

    tiny.name[sizeof LOADER - 1] = 'x'; /* no end */
    check_refused_tiny(&tiny, AIOPIP_FAILED_MALFORMED);
    tiny = make_tiny();
    tiny.interpreter.p_filesz = 1;
    check_refused_tiny(&tiny, AIOPIP_FAILED_MALFORMED);
    tiny.interpreter.p_filesz = UINT64_MAX;
    check_refused_tiny(&tiny, AIOPIP_FAILED_TRUNCATED);
}

static void test_truncated_program_is_never_a_crash(void)
{
    static uint8_t bytes[1 << 20];
    size_t count = read_probe(bytes, sizeof bytes), refused = 0;

    for (size_t cut = 0; cut < CUTS; cut++) {
        /* Each of the first hundred bytes, then evenly to the end. */
        size_t length = cut < CUTS / 2 ? cut : (cut - CUTS / 2) * count / (CUTS / 2);
        write_file("./cut", bytes, length, 0755);
        int result = program_find("./cut", NULL, NULL, &program, &error);
        CHECK(result == 0 || result == -ENOEXEC);
        CHECK(result == 0 || error.failure == AIOPIP_FAILED_TRUNCATED ||
              (error.failure == AIOPIP_FAILED_MALFORMED && length < SELFMAG));
        refused += result != 0;
    }
    CHECK(refused > CUTS / 2 && refused < CUTS); /* the section headers nobody misses */
}

static void test_mutated_program_is_never_a_crash(void)
{
    static uint8_t bytes[1 << 20];
    size_t count = read_probe(bytes, sizeof bytes);
    uint64_t state = 20240229;

    write_file("./mutant", bytes, count, 0755);
    int descriptor = open("./mutant", O_RDWR | O_CLOEXEC);
    CHECK(descriptor >= 0);
    for (int i = 0; i < MUTATIONS; i++) {
        uint8_t mutant[MUTATED_BYTES];
        memcpy(mutant, bytes, sizeof mutant);
        for (uint64_t flips = 1 + check_random(&state) % 8; flips > 0; flips--) {
            size_t at = SELFMAG + check_random(&state) % (sizeof mutant - SELFMAG);
            uint64_t how = check_random(&state);
            mutant[at] = (uint8_t)(how & 1 ? how >> 8 : mutant[at] ^ 1U << (how >> 8) % 8);
        }
        CHECK_EQUAL(pwrite(descriptor, mutant, sizeof mutant, 0), (ssize_t)sizeof mutant);
        int result = program_find("./mutant", NULL, NULL, &program, &error);
        CHECK(result == 0 || result == -ENOEXEC);
        CHECK(result < 0 || memchr(program.interpreter, 0, sizeof program.interpreter) != NULL);
    }
    close(descriptor);
}

/* ---- Scripts ---------------------------------------------------------------------------------- */

static void write_interpreter(void)
{
    struct tiny tiny = make_tiny();

    write_tiny("./interpreter", &tiny);
}

/* A script whose first line is "#!", then `line` with %s for the folder's interpreter. */
static void write_line(const char *name, const char *format)
{
    char text[PATH_MAX + 256];
    const char *place = strstr(format, "%s");

    if (place)
        snprintf(text, sizeof text, "#!%.*s%s%s", (int)(place - format), format,
                 in_folder("interpreter"), place + 2);
    else
        snprintf(text, sizeof text, "#!%s", format);
    write_script(name, text);
}

static void check_line(const char *format, const char *words)
{
    char expected[PATH_MAX + 256];

    write_line("./script", format);
    check_found("./script");
    CHECK(strcmp(program.path, in_folder("interpreter")) == 0);
    snprintf(expected, sizeof expected, words, in_folder("interpreter"));
    check_words(expected);
}

static void test_script_runs_its_interpreter(void)
{
    write_interpreter();
    check_line("%s\n", "%s|./script");
    check_line("%s", "%s|./script");
    check_line("  \t%s  \t \nmore\n", "%s|./script");
    check_line("%s -x\n", "%s|-x|./script");
    check_line("%s\t-x", "%s|-x|./script");
    check_line("%s -x -y  z \n", "%s|-x -y  z|./script"); /* one argument, as the kernel has it */
    check_line("interpreter\n", "interpreter|./script");  /* of the current folder */
}

static void test_script_is_named_as_it_was_found(void)
{
    char expected[2 * PATH_MAX], path[PATH_MAX];

    write_interpreter();
    write_line("./script", "%s\n");
    strcpy(path, in_folder("script"));
    check_found(path);
    snprintf(expected, sizeof expected, "%s|%s", in_folder("interpreter"), path);
    check_words(expected);
}

static void test_script_without_an_interpreter_is_refused(void)
{
    write_line("./script", "\n");
    check_refused("./script", ENOEXEC, AIOPIP_FAILED_MALFORMED);
    write_line("./script", "  \t \n%s\n");
    check_refused("./script", ENOEXEC, AIOPIP_FAILED_MALFORMED);
    write_line("./script", "");
    check_refused("./script", ENOEXEC, AIOPIP_FAILED_MALFORMED);
}

static void test_missing_interpreter_is_named(void)
{
    write_line("./script", "/missing/interpreter -x\n");
    check_refused("./script", ENOENT, AIOPIP_FAILED_INTERPRETER);
    CHECK(strstr(error.detail, "/missing/interpreter") != NULL);
    write_line("./script",
               "/missing/interpreter\r\n"); /* as an editor of another system leaves it */
    check_refused("./script", ENOENT, AIOPIP_FAILED_INTERPRETER);
    write_script("./plain", "#!/missing");
    CHECK(chmod("./plain", 0644) == 0);
    write_line("./script", "./plain\n");
    check_refused("./script", EACCES, AIOPIP_FAILED_PERMISSION);
}

static void test_script_may_be_an_interpreter(void)
{
    char expected[PATH_MAX + 256];

    write_interpreter();
    write_line("./inner", "%s -i\n");
    write_script("./outer", "#!./inner -o\n");
    check_found("./outer");
    snprintf(expected, sizeof expected, "%s|-i|./inner|-o|./outer", in_folder("interpreter"));
    check_words(expected);
}

static void test_script_that_interprets_itself_is_a_loop(void)
{
    write_script("./self", "#!./self\n");
    check_refused("./self", ELOOP, AIOPIP_FAILED_INTERPRETER);
    write_script("./ping", "#!./pong\n");
    write_script("./pong", "#!./ping\n");
    check_refused("./ping", ELOOP, AIOPIP_FAILED_INTERPRETER);
}

static bool kernel_runs(const char *path)
{
    char *const argv[] = {(char *)path, NULL};
    pid_t pid;
    int status;

    if (posix_spawn(&pid, path, NULL, NULL, argv, argv + 1) != 0)
        return false;
    CHECK_EQUAL(waitpid(pid, &status, 0), pid);
    return true;
}

static void test_scripts_nest_as_deep_as_the_kernel_lets_them(void)
{
    char name[16], text[64];

    write_script("./nest0", "#!/bin/true\n");
    for (int depth = 1; depth < 8; depth++) {
        snprintf(name, sizeof name, "./nest%d", depth);
        snprintf(text, sizeof text, "#!./nest%d\n", depth - 1);
        write_script(name, text);
        CHECK_EQUAL(program_find(name, NULL, NULL, &program, &error) == 0, kernel_runs(name));
    }
}

/* A line of `bytes` bytes without its newline, that ends within the interpreter's argument. */
static int find_line_of(size_t bytes, char filler)
{
    char text[1024];

    CHECK(bytes < sizeof text - 2);
    memset(text, filler, sizeof text);
    memcpy(text, "#!./interpreter ", 16);
    text[bytes] = '\n';
    text[bytes + 1] = 0;
    write_script("./script", text);
    return program_find("./script", NULL, NULL, &program, &error);
}

static void test_long_line_is_cut_where_the_kernel_cuts_it(void)
{
    write_interpreter();
    for (size_t bytes = 250; bytes < 262; bytes++) {
        CHECK_EQUAL(find_line_of(bytes, 'x'), 0);
        CHECK_EQUAL(program.word_count, 3);
        CHECK_EQUAL(strlen(program.words[1]), (bytes < 255 ? bytes : 255) - 16);
    }
    CHECK_EQUAL(find_line_of(1000, ' '), 0);
    CHECK_EQUAL(program.word_count, 2);
}

static void test_interpreter_that_is_cut_is_refused(void)
{
    char text[400] = "#!/";

    memset(text + 3, 'x', 300);
    write_script("./script", text);
    check_refused("./script", ENOEXEC, AIOPIP_FAILED_MALFORMED);
    memcpy(text, "#! /", 4); /* the blank in front does not tell that it is whole */
    write_script("./script", text);
    check_refused("./script", ENOEXEC, AIOPIP_FAILED_MALFORMED);
    text[254] = '\n';
    write_script("./script", text);
    CHECK(program_find("./script", NULL, NULL, &program, &error) != 0);
    CHECK_EQUAL(error.failure, AIOPIP_FAILED_INTERPRETER);
}

static void test_nul_in_a_line_ends_it(void)
{
    write_interpreter();
    write_file("./script", "#!./interpreter a\0b\n", 20, 0755);
    check_found("./script");
    check_words("./interpreter|a|./script");
}

/* ---- env -------------------------------------------------------------------------------------- */

static void check_env(const char *line, const char *words)
{
    char text[512];

    snprintf(text, sizeof text, "#!%s\n", line);
    write_script("./script", text);
    CHECK_EQUAL(program_find("./script", folder, NULL, &program, &error), 0);
    CHECK(strcmp(program.path, in_folder("interpreter")) == 0);
    check_words(words);
}

static void test_env_is_resolved_here(void)
{
    write_interpreter();
    check_env("/usr/bin/env interpreter", "interpreter|./script");
    check_env("/bin/env  interpreter ", "interpreter|./script");
    check_env("/usr/bin/env ./interpreter", "./interpreter|./script");
    check_env("/usr/bin/env -S interpreter -a  b", "interpreter|-a|b|./script");
    check_env("/usr/bin/env -Sinterpreter\t-a", "interpreter|-a|./script");
}

static void test_env_that_does_more_is_run_itself(void)
{
    const char *const lines[] = {"-i interpreter",          "-S A=b interpreter", "A=b",
                                 "-S interpreter 'a b'",    "interpreter -a",     "-u HOME",
                                 "-S interpreter ${HOME}x", "-S -i interpreter",  "-S"};

    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        char text[256], expected[256];
        snprintf(text, sizeof text, "#!/usr/bin/env %s\n", lines[i]);
        snprintf(expected, sizeof expected, "/usr/bin/env|%s|./script", lines[i]);
        write_script("./script", text);
        CHECK_EQUAL(program_find("./script", folder, NULL, &program, &error), 0);
        check_words(expected);
    }
}

static void test_what_env_cannot_find_is_the_missing_interpreter(void)
{
    write_script("./script", "#!/usr/bin/env no-such-interpreter\n");
    check_refused("./script", ENOENT, AIOPIP_FAILED_INTERPRETER);
    CHECK(strstr(error.detail, "no-such-interpreter") != NULL);
}

/* ---- Python at a fixed address ---------------------------------------------------------------- */

static void make_prefix(const char *prefix)
{
    static const char *const below[] = {"bin", "lib", "lib64", "lib/" ARCH_MULTIARCH};
    char path[PATH_MAX];

    CHECK(mkdir(prefix, 0755) == 0);
    for (size_t i = 0; i < sizeof below / sizeof *below; i++) {
        snprintf(path, sizeof path, "%s/%s", prefix, below[i]);
        CHECK(mkdir(path, 0755) == 0);
    }
}

static void write_fixed(const char *name)
{
    struct tiny tiny = make_tiny();

    tiny.header.e_type = ET_EXEC;
    write_tiny(name, &tiny);
}

static void check_libpython(const char *name, const char *python, const char *libpython)
{
    check_found(name);
    CHECK(strcmp(program.path, in_folder(python)) == 0);
    CHECK(strcmp(program.interpreter, LOADER) == 0);
    CHECK(strcmp(program.libpython, in_folder(libpython)) == 0);
}

static void test_libpython_is_looked_for_in_the_prefix(void)
{
    make_prefix("usr");
    write_fixed("usr/bin/python3.11");
    check_refused("usr/bin/python3.11", ENOEXEC, AIOPIP_FAILED_LIBPYTHON);
    CHECK(strcmp(error.detail, "libpython3.11.so.1.0") == 0);
    write_file("usr/lib64/libpython3.11.so.1.0", "x", 1, 0644);
    check_libpython("usr/bin/python3.11", "usr/bin/python3.11", "usr/lib64/libpython3.11.so.1.0");
    write_file("usr/lib/libpython3.11.so.1.0", "x", 1, 0644);
    check_libpython("usr/bin/python3.11", "usr/bin/python3.11", "usr/lib/libpython3.11.so.1.0");
    write_file("usr/lib/" ARCH_MULTIARCH "/libpython3.11.so.1.0", "x", 1, 0644);
    check_libpython("usr/bin/python3.11", "usr/bin/python3.11",
                    "usr/lib/" ARCH_MULTIARCH "/libpython3.11.so.1.0");
}

static void test_python_is_known_by_its_real_name(void)
{
    CHECK(symlink("usr/bin/python3.11", "python") == 0);
    CHECK(symlink("python", "other") == 0);
    check_libpython("./other", "usr/bin/python3.11",
                    "usr/lib/" ARCH_MULTIARCH "/libpython3.11.so.1.0");
    write_script("./script", "#!/usr/bin/env python\n");
    CHECK_EQUAL(program_find("./script", folder, NULL, &program, &error), 0);
    CHECK(strstr(program.libpython, "/libpython3.11.so.1.0") != NULL);
    check_words("python|./script");
}

static void test_only_a_name_with_a_version_is_a_pythons(void)
{
    static const char *const others[] = {"python",       "python3",        "python3.",
                                         "python3.7",    "python3.7m",     "python2.17",
                                         "python3.x",    "python3.11-dbg", "python3.11.2",
                                         "python3.9999", "xpython3.11",    "python3.11D"};
    char path[64];

    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        snprintf(path, sizeof path, "usr/bin/%s", others[i]);
        write_fixed(path);
        check_refused(path, ENOEXEC, AIOPIP_FAILED_NOT_PIE);
    }
    write_fixed("usr/bin/python3.8");
    check_refused("usr/bin/python3.8", ENOEXEC, AIOPIP_FAILED_LIBPYTHON);
    write_fixed("usr/bin/python3.13td");
    check_refused("usr/bin/python3.13td", ENOEXEC, AIOPIP_FAILED_LIBPYTHON);
    CHECK(strcmp(error.detail, "libpython3.13td.so.1.0") == 0);
}

static void test_libpython_that_preload_would_split_is_told(void)
{
    static const char *const prefixes[] = {"a blank", "a:colon"};
    char path[PATH_MAX];

    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        make_prefix(prefixes[i]);
        snprintf(path, sizeof path, "%s/lib/libpython3.12.so.1.0", prefixes[i]);
        write_file(path, "x", 1, 0644);
        snprintf(path, sizeof path, "%s/bin/python3.12", prefixes[i]);
        write_fixed(path);
        check_refused(path, ENOEXEC, AIOPIP_FAILED_LIBPYTHON);
        CHECK(strstr(error.detail, "/libpython3.12.so.1.0") != NULL);
    }
}

static void test_movable_python_needs_no_libpython(void)
{
    struct tiny tiny = make_tiny();

    write_tiny("usr/bin/python3.12", &tiny);
    check_found("usr/bin/python3.12");
    CHECK_EQUAL(program.libpython[0], 0);
}

/* ---- PATH and cwd ----------------------------------------------------------------------------- */

static void check_searched(const char *path_list, const char *found)
{
    int result = program_find("tool", path_list, NULL, &program, &error);

    CHECK_EQUAL(result, 0);
    CHECK(strcmp(program.path, in_folder(found)) == 0);
}

static void make_tools(void)
{
    struct tiny tiny = make_tiny();

    CHECK(mkdir("one", 0755) == 0 && mkdir("two", 0755) == 0 && mkdir("denied", 0755) == 0);
    CHECK(mkdir("folders", 0755) == 0 && mkdir("folders/tool", 0755) == 0);
    write_tiny("./one/tool", &tiny);
    write_tiny("./two/tool", &tiny);
    write_tiny("./tool", &tiny);
    write_file("./denied/tool", &tiny, sizeof tiny, 0644);
}

static void test_path_is_searched_in_order(void)
{
    make_tools();
    check_searched("one:two", "one/tool");
    check_searched("missing:two:one", "two/tool");
    check_searched("folders:one", "one/tool");
    check_searched("denied:one", "one/tool");
}

static void test_empty_element_of_path_is_the_current_folder(void)
{
    check_searched(":one", "tool");
    check_searched("missing::one", "tool");
    check_searched("missing:", "tool");
    check_searched("", "tool");
}

static void test_default_path_is_the_systems(void)
{
    CHECK_EQUAL(program_find("sh", NULL, NULL, &program, &error), 0);
    check_refused("no-such-program", ENOENT, AIOPIP_FAILED_PROGRAM);
    CHECK(strstr(error.detail, "no-such-program") != NULL);
}

static void test_denied_candidate_is_told_when_none_is_better(void)
{
    CHECK_EQUAL(program_find("tool", "denied:missing", NULL, &program, &error), -EACCES);
    CHECK_EQUAL(error.failure, AIOPIP_FAILED_PERMISSION);
    CHECK(strstr(error.detail, "denied/tool") != NULL);
    CHECK_EQUAL(program_find("tool", "missing:folders", NULL, &program, &error), -EACCES);
    CHECK_EQUAL(error.failure, AIOPIP_FAILED_DIRECTORY);
}

static void test_relative_names_are_the_tasks_folders(void)
{
    char absolute[PATH_MAX];

    strcpy(absolute, in_folder("one"));
    CHECK(chdir("/") == 0);
    CHECK_EQUAL(program_find("./tool", NULL, absolute, &program, &error), 0);
    CHECK(strcmp(program.path, in_folder("one/tool")) == 0);
    CHECK_EQUAL(program_find("../two/tool", NULL, absolute, &program, &error), 0);
    CHECK(strcmp(program.path, in_folder("two/tool")) == 0);
    CHECK_EQUAL(program_find("tool", "../two", absolute, &program, &error), 0);
    CHECK(strcmp(program.path, in_folder("two/tool")) == 0);
    CHECK_EQUAL(program_find("tool", "", absolute, &program, &error), 0);
    CHECK(strcmp(program.path, in_folder("one/tool")) == 0);
    CHECK(chdir(folder) == 0);
}

static void test_bad_cwd_is_told(void)
{
    CHECK_EQUAL(program_find("sh", NULL, "missing", &program, &error), -ENOENT);
    CHECK_EQUAL(error.failure, AIOPIP_FAILED_CWD);
    CHECK(strstr(error.detail, "missing") != NULL);
    CHECK_EQUAL(program_find("sh", NULL, "./tool", &program, &error), -ENOTDIR);
    CHECK_EQUAL(error.failure, AIOPIP_FAILED_CWD);
}

static void test_no_descriptor_is_left_open(void)
{
    int next = dup(0);

    close(next);
    CHECK_EQUAL(next, 3);
}

int main(void)
{
    folder = check_folder();
    CHECK(chdir(folder) == 0);
    RUN(test_missing_file_is_named);
    RUN(test_name_that_is_too_long_is_refused);
    RUN(test_what_is_no_regular_file_is_refused);
    RUN(test_file_without_x_bit_is_refused_to_root_too);
    RUN(test_link_is_followed_and_a_loop_of_links_told);
    RUN(test_text_without_a_script_line_is_refused);
    RUN(test_elf_program_is_found);
    RUN(test_position_dependent_program_is_told);
    RUN(test_static_program_is_told);
    RUN(test_program_of_another_machine_is_told);
    RUN(test_object_files_and_core_dumps_are_refused);
    RUN(test_headers_that_make_no_sense_are_refused);
    RUN(test_segments_that_make_no_sense_are_refused);
    RUN(test_interpreters_name_that_makes_no_sense_is_refused);
    RUN(test_truncated_program_is_never_a_crash);
    RUN(test_mutated_program_is_never_a_crash);
    RUN(test_script_runs_its_interpreter);
    RUN(test_script_is_named_as_it_was_found);
    RUN(test_script_without_an_interpreter_is_refused);
    RUN(test_missing_interpreter_is_named);
    RUN(test_script_may_be_an_interpreter);
    RUN(test_script_that_interprets_itself_is_a_loop);
    RUN(test_scripts_nest_as_deep_as_the_kernel_lets_them);
    RUN(test_long_line_is_cut_where_the_kernel_cuts_it);
    RUN(test_interpreter_that_is_cut_is_refused);
    RUN(test_nul_in_a_line_ends_it);
    RUN(test_env_is_resolved_here);
    RUN(test_env_that_does_more_is_run_itself);
    RUN(test_what_env_cannot_find_is_the_missing_interpreter);
    RUN(test_libpython_is_looked_for_in_the_prefix);
    RUN(test_python_is_known_by_its_real_name);
    RUN(test_only_a_name_with_a_version_is_a_pythons);
    RUN(test_libpython_that_preload_would_split_is_told);
    RUN(test_movable_python_needs_no_libpython);
    RUN(test_path_is_searched_in_order);
    RUN(test_empty_element_of_path_is_the_current_folder);
    RUN(test_default_path_is_the_systems);
    RUN(test_denied_candidate_is_told_when_none_is_better);
    RUN(test_relative_names_are_the_tasks_folders);
    RUN(test_bad_cwd_is_told);
    RUN(test_no_descriptor_is_left_open);
    check_remove(folder);
    return 0;
}
