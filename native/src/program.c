/* SPDX-License-Identifier: BSD-2-Clause
 *
 * program.c: see program.h.  PATH as execvp(3) searches it, #! as execve(2) reads it (Linux:
 * fs/binfmt_script.c), "#!/usr/bin/env NAME" as env would find NAME, since env itself would exec
 * and so leave the space.
 */
#include "program.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "elf_file.h"
#include "libpython.h"
#include "program_cache.h"

#define DEFAULT_PATH "/bin:/usr/bin"

int program_fail(struct program_error *error, enum aiopip_failure failure, int number,
                 const char *format, ...)
{
    va_list arguments;

    error->failure = failure;
    va_start(arguments, format);
    vsnprintf(error->detail, sizeof error->detail, format, arguments);
    va_end(arguments);
    return -number;
}

/* ---- Finding the file ------------------------------------------------------------------------ */

/* Open a candidate that may be executed: its descriptor, or -errno. */
static int open_executable(int directory, const char *path, struct stat *status,
                           struct program_error *error)
{
    struct statvfs file_system;
    int descriptor = openat(directory, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

    if (descriptor < 0) {
        if (errno == ENXIO) /* a socket, or a device without a driver */
            return program_fail(error, AIOPIP_FAILED_DIRECTORY, EACCES, "%s", path);
        enum aiopip_failure failure =
            errno == EACCES ? AIOPIP_FAILED_PERMISSION : AIOPIP_FAILED_PROGRAM;
        return program_fail(error, failure, errno, "%s", path);
    }
    int result = 0;
    if (fstat(descriptor, status) < 0)
        result = program_fail(error, AIOPIP_FAILED_PROGRAM, errno, "%s", path);
    else if (!S_ISREG(status->st_mode))
        result = program_fail(error, AIOPIP_FAILED_DIRECTORY, EACCES, "%s", path);
    else if (faccessat(directory, path, X_OK, AT_EACCESS) < 0 ||
             (fstatvfs(descriptor, &file_system) == 0 && file_system.f_flag & ST_NOEXEC))
        result = program_fail(error, AIOPIP_FAILED_PERMISSION, EACCES, "%s", path);
    if (result == 0)
        return descriptor;
    close(descriptor);
    return result;
}

/* Whether execvp would look no further, though it cannot be read. */
static bool is_executable(int directory, const char *path)
{
    struct stat status;

    return fstatat(directory, path, &status, 0) == 0 && S_ISREG(status.st_mode) &&
           faccessat(directory, path, X_OK, AT_EACCESS) == 0;
}

/* Search PATH; found is the path as execvp would have given it to execve. */
static int search_path(int directory, const char *name, const char *path_list, char found[PATH_MAX],
                       struct stat *status, struct program_error *error)
{
    struct program_error ignored;
    int result = -ENOENT;

    program_fail(error, AIOPIP_FAILED_PROGRAM, ENOENT, "%s", name);
    for (const char *at = path_list ? path_list : DEFAULT_PATH;;) {
        size_t bytes = strcspn(at, ":");
        int printed = bytes ? snprintf(found, PATH_MAX, "%.*s/%s", (int)bytes, at, name)
                            : snprintf(found, PATH_MAX, "./%s", name);
        if (printed < PATH_MAX) {
            int candidate = open_executable(directory, found, status, &ignored);
            if (candidate >= 0)
                return candidate;
            /* What is there but may not be executed is told, unless another one is found. */
            if (candidate == -EACCES && result == -ENOENT) {
                result = candidate;
                *error = ignored;
                if (is_executable(directory, found))
                    return result;
            }
        }
        if (!at[bytes])
            return result;
        at += bytes + 1;
    }
}

static int find_file(int directory, const char *name, const char *path_list, char found[PATH_MAX],
                     struct stat *status, struct program_error *error)
{
    if (!strchr(name, '/') && *name)
        return search_path(directory, name, path_list, found, status, error);
    if (strlen(name) >= PATH_MAX)
        return program_fail(error, AIOPIP_FAILED_PROGRAM, ENAMETOOLONG, "%.200s", name);
    memcpy(found, name, strlen(name) + 1);
    return open_executable(directory, name, status, error);
}

/* ---- Scripts ---------------------------------------------------------------------------------- */

static const char *store(struct program *program, const char *text, size_t bytes)
{
    if (bytes >= PROGRAM_STORE - program->stored)
        return NULL;
    char *at = program->store + program->stored;
    memcpy(at, text, bytes);
    at[bytes] = 0;
    program->stored += bytes + 1;
    return at;
}

/* Put words in front, in place of the first one when `replace`. */
static int put_words(struct program *program, const char *const *words, size_t count,
                     size_t replace)
{
    size_t rest = program->word_count - replace;

    for (size_t i = 0; i < count; i++)
        if (!words[i])
            return -ENOEXEC;
    if (count + rest > PROGRAM_WORDS)
        return -ENOEXEC;
    memmove(program->words + count, program->words + replace, rest * sizeof *words);
    memcpy(program->words, words, count * sizeof *words);
    program->word_count = count + rest;
    return 0;
}

static int is_env(const char *interpreter)
{
    return !strcmp(interpreter, "/usr/bin/env") || !strcmp(interpreter, "/bin/env");
}

/* The words that env would execute, or 0 when it would do more than that. */
static size_t env_words(struct program *program, const char *argument, const char **words,
                        size_t most)
{
    size_t count = 0;

    if (strncmp(argument, "-S", 2) == 0)
        argument += 2;
    else if (strpbrk(argument, " \t"))
        return 0; /* one word with a blank in it: env would look for that */
    if (strpbrk(argument, "\\'\"$#"))
        return 0;
    for (;;) {
        argument += strspn(argument, " \t");
        size_t bytes = strcspn(argument, " \t");
        if (bytes == 0)
            return count;
        if (count == most || (count == 0 && (*argument == '-' || memchr(argument, '=', bytes))))
            return 0;
        words[count++] = store(program, argument, bytes);
        argument += bytes;
    }
}

/* Read "#!interpreter argument" and put both, and the script's path, in front.  lookup: the name
 * under which the interpreter is found. */
static int read_script(struct program *program, const char *line, const char *path,
                       const char **lookup, struct program_error *error)
{
    const char *words[PROGRAM_WORDS];
    size_t bytes = strcspn(line, "\n"), count = 0;
    int by_env = 0;

    if (line[bytes] != '\n' && bytes == PROGRAM_SCRIPT_LINE - 1 &&
        !strpbrk(line + 2 + strspn(line + 2, " \t"), " \t"))
        return program_fail(error, AIOPIP_FAILED_MALFORMED, ENOEXEC, "%s: #! line is too long",
                            path);
    while (bytes > 2 && (line[bytes - 1] == ' ' || line[bytes - 1] == '\t'))
        bytes--;
    const char *end = line + bytes;
    const char *interpreter = line + 2 + strspn(line + 2, " \t");
    if (interpreter >= end)
        return program_fail(error, AIOPIP_FAILED_MALFORMED, ENOEXEC, "%s: #! names nothing", path);
    size_t name = strcspn(interpreter, " \t\n");
    words[count++] = store(program, interpreter, name);
    const char *argument = interpreter + name;
    argument += strspn(argument, " \t");
    if (argument < end)
        words[count++] = store(program, argument, (size_t)(end - argument));
    if (!words[0] || (count == 2 && !words[1]))
        return program_fail(error, AIOPIP_FAILED_MALFORMED, ENOEXEC, "%s: #! line is too long",
                            path);
    if (count == 2 && is_env(words[0])) {
        const char *direct[PROGRAM_WORDS - 2];
        size_t found = env_words(program, words[1], direct, PROGRAM_WORDS - 2);
        if (found) {
            memcpy(words, direct, found * sizeof *words);
            count = found;
            by_env = 1;
        }
    }
    words[count++] = store(program, path, strlen(path));
    if (put_words(program, words, count, program->word_count ? 1 : 0) < 0)
        return program_fail(error, AIOPIP_FAILED_MALFORMED, ENOEXEC, "%s: #! line is too long",
                            path);
    /* Only env searches PATH: the kernel takes what stands there as a path. */
    if (!by_env && !strchr(words[0], '/')) {
        char relative[PROGRAM_SCRIPT_LINE + 2];
        int printed = snprintf(relative, sizeof relative, "./%s", words[0]);
        *lookup = store(program, relative, (size_t)printed);
        if (!*lookup)
            return program_fail(error, AIOPIP_FAILED_MALFORMED, ENOEXEC, "%s: #! line is too long",
                                path);
    } else {
        *lookup = program->words[0];
    }
    return 0;
}

/* ---- The program ------------------------------------------------------------------------------ */

static int check_privileges(int descriptor, const struct stat *status, uid_t user, gid_t group,
                            const char *path, struct program_error *error)
{
    char capabilities[32];

    if ((status->st_mode & S_ISUID && status->st_uid != user) ||
        ((status->st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) &&
         status->st_gid != group) ||
        (user != 0 &&
         fgetxattr(descriptor, "security.capability", capabilities, sizeof capabilities) > 0))
        return program_fail(error, AIOPIP_FAILED_PRIVILEGED, EPERM, "%s", path);
    return 0;
}

int program_check_for(const struct program *program, uid_t user, gid_t group,
                      struct program_error *error)
{
    struct stat status;
    int file = open(program->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    int result = file < 0 || fstat(file, &status) < 0
                     ? program_fail(error, AIOPIP_FAILED_PROGRAM, errno, "%s", program->path)
                     : check_privileges(file, &status, user, group, program->path, error);

    if (file >= 0)
        close(file);
    return result;
}

/* fixed: whether it is linked at a fixed address, so that it cannot be mapped itself. */
static int check_elf(int descriptor, const struct stat *status, const char *path,
                     struct program *program, bool *fixed, struct program_error *error)
{
    struct elf_file elf;
    int result = elf_read(descriptor, (uint64_t)status->st_size, path, &elf, error);

    if (result < 0)
        return result;
    const Elf64_Phdr *interpreter = elf_segment(&elf, PT_INTERP);
    *fixed = elf.header.e_type == ET_EXEC;
    if (!interpreter)
        return program_fail(error, *fixed ? AIOPIP_FAILED_NOT_PIE : AIOPIP_FAILED_STATIC, ENOEXEC,
                            "%s", path);
    size_t bytes = interpreter->p_filesz;
    if (bytes < 2 || bytes > sizeof program->interpreter)
        return program_fail(error, AIOPIP_FAILED_MALFORMED, ENOEXEC, "%s: PT_INTERP", path);
    if (pread(descriptor, program->interpreter, bytes, (off_t)interpreter->p_offset) !=
            (ssize_t)bytes ||
        program->interpreter[bytes - 1])
        return program_fail(error, AIOPIP_FAILED_MALFORMED, ENOEXEC, "%s: PT_INTERP", path);
    return 0;
}

/* The file's own path: ld.so looks for $ORIGIN beside what it is given, execve beside the file. */
static int real_path(int descriptor, const char *path, char real[PATH_MAX],
                     struct program_error *error)
{
    char link[64];

    snprintf(link, sizeof link, "/proc/thread-self/fd/%d", descriptor);
    ssize_t bytes = readlink(link, real, PATH_MAX - 1);
    if (bytes > 0) {
        real[bytes] = 0;
        if (real[0] == '/' && access(real, F_OK) == 0)
            return 0;
    }
    if (path[0] == '/' && realpath(path, real))
        return 0;
    return program_fail(error, AIOPIP_FAILED_PROGRAM, ENOENT, "%s: has no path any more", path);
}

/* An ELF file: what ld.so has to load. */
static int examine_elf(int descriptor, const struct stat *status, const char *found,
                       struct program *program, struct program_error *error)
{
    bool fixed = false;
    int result = check_elf(descriptor, status, found, program, &fixed, error);

    if (result == 0)
        result = real_path(descriptor, found, program->path, error);
    if (result == 0 && fixed)
        return libpython_find(program->path, program->libpython, error);
    if (result == 0)
        program_cache_add(status, program);
    return result;
}

/* One step: the file under `name`; sets *lookup when it is a script. */
static int examine(int directory, const char *name, const char *path_list, struct program *program,
                   const char **lookup, struct program_error *error)
{
    char found[PATH_MAX], start[PROGRAM_SCRIPT_LINE];
    struct stat status;

    *lookup = NULL;
    int descriptor = find_file(directory, name, path_list, found, &status, error);
    if (descriptor < 0)
        return descriptor;
    if (program_cache_find(&status, found, program)) {
        int privileged = check_privileges(descriptor, &status, geteuid(), getegid(), found, error);
        close(descriptor);
        return privileged;
    }
    memset(start, 0, sizeof start);
    int result = 0;
    if (pread(descriptor, start, sizeof start - 1, 0) < 0)
        result = program_fail(error, AIOPIP_FAILED_PROGRAM, errno, "%s", found);
    else if (start[0] == '#' && start[1] == '!')
        result = read_script(program, start, found, lookup, error);
    else if (memcmp(start, ELFMAG, SELFMAG) != 0)
        result = program_fail(error, AIOPIP_FAILED_MALFORMED, ENOEXEC,
                              "%s: neither an ELF file nor a script with a #! line", found);
    else if ((result = check_privileges(descriptor, &status, geteuid(), getegid(), found, error)) ==
             0)
        result = examine_elf(descriptor, &status, found, program, error);
    close(descriptor);
    return result;
}

int program_find(const char *name, const char *path_list, const char *cwd, struct program *program,
                 struct program_error *error)
{
    int directory = AT_FDCWD, result = 0;
    const char *lookup = name;

    program->word_count = 0;
    program->stored = 0;
    program->libpython[0] = 0;
    if (cwd && (directory = open(cwd, O_PATH | O_DIRECTORY | O_CLOEXEC)) < 0)
        return program_fail(error, AIOPIP_FAILED_CWD, errno, "%s", cwd);
    for (int depth = 0; lookup && result == 0; depth++) {
        if (depth > PROGRAM_SCRIPT_DEPTH) {
            result = program_fail(error, AIOPIP_FAILED_INTERPRETER, ELOOP, "%s", lookup);
            break;
        }
        name = lookup;
        result = examine(directory, name, path_list, program, &lookup, error);
        if (result < 0 && depth > 0 && (error->failure == AIOPIP_FAILED_PROGRAM))
            result = program_fail(error, AIOPIP_FAILED_INTERPRETER, -result, "%s", name);
    }
    if (directory >= 0)
        close(directory);
    return result;
}
