/* SPDX-License-Identifier: BSD-2-Clause
 *
 * test_program_cache.c: a program that was found before is found where it is now, as it is now.
 */
#include <fcntl.h>
#include <sys/stat.h>

#include "check.h"
#include "program.h"

#define COPY_MAX (1 << 20)
#define LOADER "/lib64/ld-linux-x86-64.so.2"
#define SETTLING_S 3 /* what was changed just now is not remembered */

static char bytes[COPY_MAX];
static size_t count;

static void read_probe(void)
{
    int file = open(getenv("AIOPIP_PROBE"), O_RDONLY | O_CLOEXEC);

    CHECK(file >= 0);
    ssize_t got = read(file, bytes, sizeof bytes);
    CHECK(got > 0 && got < COPY_MAX);
    count = (size_t)got;
    close(file);
}

static void write_program(const char *name)
{
    int file = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);

    CHECK(file >= 0);
    CHECK_EQUAL(write(file, bytes, count), (ssize_t)count);
    close(file);
}

/* Its real path, and its interpreter. */
static void check_found(const char *name, const char *real, const char *interpreter)
{
    static struct program program;
    char expected[PATH_MAX];
    struct program_error error;

    CHECK_EQUAL(program_find(name, NULL, NULL, &program, &error), 0);
    CHECK(realpath(real, expected) != NULL);
    CHECK(strcmp(program.path, expected) == 0);
    CHECK(strcmp(program.interpreter, interpreter) == 0);
    CHECK_EQUAL(program.word_count, 0);
}

int main(void)
{
    const char *folder = check_folder();

    CHECK(chdir(folder) == 0);
    read_probe();
    CHECK(mkdir("one", 0755) == 0);
    CHECK(symlink("one", "link") == 0);
    write_program("one/tool");
    sleep(SETTLING_S);
    for (int i = 0; i < 2; i++) {
        check_found("./one/tool", "one/tool", LOADER);
        check_found("link/tool", "one/tool", LOADER);
    }
    /* Nothing of the file has changed, and it is not where it was. */
    CHECK(rename("one", "two") == 0);
    check_found("two/tool", "two/tool", LOADER);
    CHECK(unlink("link") == 0 && symlink("two", "link") == 0);
    check_found("link/tool", "two/tool", LOADER);
    /* The same file, of the same size, with another content. */
    char *name = memmem(bytes, count, LOADER, sizeof LOADER);
    CHECK(name != NULL);
    name[sizeof LOADER - 2] = '9';
    write_program("two/tool");
    check_found("two/tool", "two/tool", "/lib64/ld-linux-x86-64.so.9");
    /* Who may execute it is asked each time. */
    struct program program;
    struct program_error error;
    CHECK(chmod("two/tool", 0644) == 0);
    CHECK_EQUAL(program_find("two/tool", NULL, NULL, &program, &error), -EACCES);
    check_remove(folder);
    return 0;
}
