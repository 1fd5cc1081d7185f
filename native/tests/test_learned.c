/* SPDX-License-Identifier: BSD-2-Clause
 *
 * test_learned.c: what one process has learned of ld.so is another one's, if it is what was written.
 */
#include <fcntl.h>

#include "seeded.h"

static const char *folder;
static char file[512];

static void open_and_close(void)
{
    aiopip_client *client = open_and_learn(folder);

    CHECK_EQUAL(statistics_of(client).spawned, 0);
    close_client(client);
}

/* Open a core, as a process of its own does. */
static void use(const void *argument)
{
    (void)argument;
    aiopip_client *client = open_and_learn(folder);

    CHECK_EQUAL(statistics_of(client).spawned, 0);
    CHECK_EQUAL(mappings_of_tasks(), 0);
    check_facts(client);
    close_client(client);
}

/* The same, where the processor looks like another one. */
static void use_another_processor(const void *argument)
{
    char *const arguments[] = {"learned", "use", (char *)(uintptr_t)folder, NULL};

    (void)argument;
    CHECK_EQUAL(setenv("GLIBC_TUNABLES", "glibc.cpu.hwcaps=-SSE4_2", 1), 0);
    execv("/proc/self/exe", arguments);
    CHECK(false);
}

/* Whether a process has read the file; else it has written another one. */
static bool is_read_by(void (*process)(const void *))
{
    struct stat before, after;
    char kept[520]; /* a new file might get the old one's inode, were that free */

    CHECK_EQUAL(lstat(file, &before), 0);
    snprintf(kept, sizeof kept, "%s.kept", file);
    CHECK_EQUAL(link(file, kept), 0);
    check_in_child(process, NULL);
    CHECK_EQUAL(lstat(file, &after), 0);
    CHECK_EQUAL(unlink(kept), 0);
    CHECK_EQUAL(after.st_mode, S_IFREG | 0600);
    return before.st_ino == after.st_ino;
}

static bool is_read(void)
{
    return is_read_by(use);
}

static void change(off_t at)
{
    char byte;
    int descriptor = open(file, O_RDWR | O_CLOEXEC);

    CHECK(descriptor >= 0);
    CHECK_EQUAL(pread(descriptor, &byte, 1, at), 1);
    byte ^= 1;
    CHECK_EQUAL(pwrite(descriptor, &byte, 1, at), 1);
    close(descriptor);
}

static void test_the_next_process_reads_it(void)
{
    CHECK(is_read());
    CHECK(is_read());
}

static void test_one_that_was_changed_is_not_read(void)
{
    struct stat status;

    CHECK_EQUAL(stat(file, &status), 0);
    for (off_t at = 0; at < status.st_size; at += status.st_size / 5) {
        change(at);
        CHECK(!is_read());
        CHECK(is_read());
    }
}

static void test_one_of_another_size_is_not_read(void)
{
    CHECK_EQUAL(truncate(file, 100), 0);
    CHECK(!is_read());
    CHECK_EQUAL(truncate(file, 100000), 0);
    CHECK(!is_read());
}

static void test_one_that_others_may_write_is_not_read(void)
{
    CHECK_EQUAL(chmod(file, 0620), 0);
    CHECK(!is_read());
    CHECK(is_read());
}

static void test_a_link_is_not_followed(void)
{
    char moved[520];

    snprintf(moved, sizeof moved, "%s.moved", file);
    CHECK_EQUAL(rename(file, moved), 0);
    CHECK_EQUAL(symlink(moved, file), 0);
    CHECK(!is_read());
    CHECK_EQUAL(unlink(moved), 0);
}

static void test_one_of_another_processor_is_not_read(void)
{
    CHECK(is_read());
    CHECK(!is_read_by(use_another_processor));
    CHECK(!is_read());
}

/* Of a process that had our number, and was killed. */
static void leave_draft(const void *argument)
{
    char draft[560];

    snprintf(draft, sizeof draft, "%s/.%d.loader", folder, getpid());
    int descriptor = open(draft, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    CHECK(descriptor >= 0);
    close(descriptor);
    use(argument);
}

static void test_a_draft_is_not_in_the_way(void)
{
    change(100);
    CHECK(!is_read_by(leave_draft));
    CHECK(is_read());
}

static void test_a_folder_that_is_not_there(void)
{
    const char *real = folder;

    folder = "/proc/self/nowhere";
    check_in_child(use, NULL);
    folder = real;
}

int main(int argc, char **argv)
{
    if (argc == 1)
        start_again_here(argv);
    if (argc == 3) {
        folder = argv[2];
        open_and_close();
        return 0;
    }
    folder = check_folder();
    snprintf(file, sizeof file, "%s/loader", folder);
    check_in_child(use, NULL);
    if (access(file, F_OK) < 0)
        return CHECK_SKIPPED; /* another libc, or one that the probes disagree about */
    RUN(test_the_next_process_reads_it);
    RUN(test_one_that_was_changed_is_not_read);
    RUN(test_one_of_another_size_is_not_read);
    RUN(test_one_that_others_may_write_is_not_read);
    RUN(test_a_link_is_not_followed);
    RUN(test_one_of_another_processor_is_not_read);
    RUN(test_a_draft_is_not_in_the_way);
    RUN(test_a_folder_that_is_not_there);
    check_remove(folder);
    return 0;
}
