/* SPDX-License-Identifier: BSD-2-Clause
 *
 * exec.c: see exec.h.
 *
 * The child is made as a task's is, with the same options, and waited for likewise; but in the end it
 * executes the program, as posix_spawn's does.  Until then it runs on our memory, and the spawner waits
 * for it (CLONE_VFORK): so what it reads need not be copied, and the slot says whether the execve has
 * failed, and at what, as soon as the clone has returned.
 *
 * It is tried for programs that were found to be no task, never for others: execve would say the same
 * of them, and our errors say more.  Its block stays mapped until its end, for the reaper reads there.
 */
#include "exec.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "options.h"

#define EXEC_STACK_BYTES (128UL << 10)
#define DEFAULT_PATH "/bin:/usr/bin"

/* A stopped one would wait at its gate for the spawner, which waits for it; and an entry function is
 * run by what tasks have loaded. */
static bool is_asked_for(const struct aiopip_spawn_request *spawn)
{
    return spawn->flags & AIOPIP_SPAWN_EXEC && !(spawn->flags & AIOPIP_SPAWN_STOPPED) &&
           !(spawn->options && spawn->options->entry);
}

bool exec_must(const struct aiopip_spawn_request *spawn)
{
    return is_asked_for(spawn) && spawn->options && spawn->options->given & OPTIONS_CREDENTIALS;
}

bool exec_can(const struct aiopip_spawn_request *spawn, const struct program_error *error,
              int number)
{
    if (!is_asked_for(spawn))
        return false;
    switch (error->failure) {
    case AIOPIP_FAILED_PERMISSION: /* it may be executable and not readable */
    case AIOPIP_FAILED_PRIVILEGED:
    case AIOPIP_FAILED_NOT_PIE:
    case AIOPIP_FAILED_STATIC:
    case AIOPIP_FAILED_TRUNCATED:
    case AIOPIP_FAILED_MALFORMED: /* a format of binfmt_misc */
    case AIOPIP_FAILED_MACHINE:
    case AIOPIP_FAILED_LIBPYTHON:
        return true;
    case AIOPIP_FAILED_INTERPRETER: /* it is there, and no ld.so that we know how to start */
        return number != ENOENT;
    default:
        return false;
    }
}

/* ---- The lists -------------------------------------------------------------------------------- */

static void point(const char **list, const char *blob, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        list[i] = blob;
        blob += strlen(blob) + 1;
    }
    list[count] = NULL;
}

static size_t count_elements(const char *path_list)
{
    size_t count = 1;

    for (; *path_list; path_list++)
        count += *path_list == ':';
    return count;
}

/* The paths that execvp would give to execve, NULL behind them. */
static void list_paths(const char **paths, char *store, const char *path_list, const char *name)
{
    size_t name_bytes = strlen(name) + 1;

    for (const char *at = path_list;;) {
        size_t bytes = strcspn(at, ":");
        if (bytes + 1 + name_bytes <= PATH_MAX) {
            *paths++ = store;
            store = mempcpy(store, bytes ? at : ".", bytes ? bytes : 1);
            *store++ = '/';
            store = mempcpy(store, name, name_bytes);
        }
        if (!at[bytes])
            break;
        at += bytes + 1;
    }
    *paths = NULL;
}

int exec_plan(const struct aiopip_spawn_request *spawn, struct exec_plan **plan,
              struct program_error *error)
{
    const char *path_list = spawn->path_list ? spawn->path_list : DEFAULT_PATH;
    bool searched = !strchr(spawn->program, '/');
    size_t paths = searched ? count_elements(path_list) : 1;
    size_t store = searched ? strlen(path_list) + paths * (strlen(spawn->program) + 3) : 0;
    size_t words = paths + spawn->argc + spawn->envc + 3;
    struct exec_plan *made = malloc(sizeof *made + words * sizeof(char *) + store);

    if (!made)
        return program_fail(error, AIOPIP_FAILED_MEMORY, ENOMEM, "lists for execve");
    made->argv = (const char **)(made + 1);
    made->envp = made->argv + spawn->argc + 1;
    made->paths = made->envp + spawn->envc + 1;
    point(made->argv, spawn->argv, spawn->argc);
    point(made->envp, spawn->envp, spawn->envc);
    if (searched)
        list_paths(made->paths, (char *)(made->paths + paths + 1), path_list, spawn->program);
    else
        point(made->paths, spawn->program, 1);
    *plan = made;
    return 0;
}

/* ---- The child's memory ----------------------------------------------------------------------- */

int exec_map(struct core *core, const struct request *request, const struct exec_plan *plan,
             struct task_block **block, uintptr_t *stack_start, struct program_error *error)
{
    static const struct image nothing = {0};
    const char *cwd = request->spawn.cwd;
    size_t cwd_bytes = cwd ? strlen(cwd) + 1 : 0;
    size_t kept = align_up(cwd_bytes, 16) + options_bytes(request->spawn.options);
    size_t bytes = align_up(EXEC_STACK_BYTES + SHARED_BLOCK_BYTES + kept, ARCH_PAGE);
    uintptr_t ignored;

    int result = window_map(core, request->pipid, bytes, &nothing, block, stack_start, &ignored);
    if (result < 0)
        return program_fail(error, AIOPIP_FAILED_MEMORY, -result, "a stack");
    struct task_start *start = &(*block)->start;
    start->stack = ((uintptr_t)*block - kept) & -16UL;
    /* Who tells of a folder that is not there does so when the request is gone; and descriptors are
     * put into these options. */
    char *at = (char *)start->stack;
    start->cwd = cwd ? memcpy(at, cwd, cwd_bytes) : NULL;
    start->options = options_copy(request->spawn.options, at + align_up(cwd_bytes, 16));
    start->exec = plan;
    return 0;
}
