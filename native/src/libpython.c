/* SPDX-License-Identifier: BSD-2-Clause
 *
 * libpython.c: see libpython.h.  An interpreter is known by its file's name, pythonX.Y and the
 * letters of its ABI, which is also what its library is named by; the library is looked for where
 * installations put it, below the interpreter's own prefix, for one of another prefix is another
 * build.
 */
#include "libpython.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arch_x86_64.h"

#define DIGITS "0123456789"
#define LETTERS "abcdefghijklmnopqrstuvwxyz"
#define OLDEST_MINOR 8 /* the first 3.x with Py_BytesMain */

/* "3.11" of /usr/bin/python3.11, with the ABI's letters (3.13t), or NULL. */
static const char *version_of(const char *python)
{
    const char *name = strrchr(python, '/') + 1;

    if (strncmp(name, "python3.", 8) != 0)
        return NULL;
    const char *minor = name + 8;
    size_t digits = strspn(minor, DIGITS);
    if (digits < 1 || digits > 3 || atoi(minor) < OLDEST_MINOR)
        return NULL;
    const char *letters = minor + digits;
    return letters[strspn(letters, LETTERS)] ? NULL : name + 6;
}

/* The length of a path without its last part. */
static size_t parent(const char *path, size_t bytes)
{
    while (bytes > 0 && path[bytes - 1] != '/')
        bytes--;
    return bytes ? bytes - 1 : 0;
}

int libpython_find(const char *python, char library[PATH_MAX], struct program_error *error)
{
    static const char *const folders[] = {"lib/" ARCH_MULTIARCH, "lib", "lib64"};
    const char *version = version_of(python);
    size_t prefix = parent(python, parent(python, strlen(python)));

    if (!version)
        return program_fail(error, AIOPIP_FAILED_NOT_PIE, ENOEXEC, "%s", python);
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        int printed = snprintf(library, PATH_MAX, "%.*s/%s/libpython%s.so.1.0", (int)prefix, python,
                               folders[i], version);
        if (printed >= PATH_MAX || access(library, R_OK) < 0)
            continue;
        /* ld.so takes what --preload gives it for a list, split at these. */
        if (strpbrk(library, " :"))
            return program_fail(error, AIOPIP_FAILED_LIBPYTHON, ENOEXEC, "%s", library);
        return 0;
    }
    return program_fail(error, AIOPIP_FAILED_LIBPYTHON, ENOEXEC, "libpython%s.so.1.0", version);
}
