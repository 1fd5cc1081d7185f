/* SPDX-License-Identifier: BSD-2-Clause
 *
 * stack.c: see stack.h.  From the top: 16 zero bytes (an ld.so that looks for tunables reads up to
 * 8 behind the last string), strings, then the vectors, 16-byte aligned, argc lowest.
 */
#include "stack.h"

#include <assert.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/random.h>
#include <unistd.h>

#include "options.h"

#define STRING_MAX (32 * ARCH_PAGE) /* MAX_ARG_STRLEN of execve */
#define TOTAL_MIN (32 * ARCH_PAGE)
#define TOTAL_MAX (6UL << 20) /* three quarters of the kernel's usual stack */
#define RANDOM_BYTES 16
#define LOADER_WORDS 6 /* ld.so --preload LIB --argv0 NAME PROGRAM */

/* ---- Measuring -------------------------------------------------------------------------------- */

/* Whether a blob of count strings has one that is longer than execve takes. */
static int too_long(const char *blob, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        size_t bytes = strlen(blob) + 1;
        if (bytes > STRING_MAX)
            return 1;
        blob += bytes;
    }
    return 0;
}

static const char *argv0_of(const struct stack_content *content)
{
    return content->program->word_count ? content->program->words[0] : content->request->argv;
}

/* The file that ld.so loads. */
static const char *loaded(const struct stack_content *content)
{
    return content->program->libpython[0] ? content->launcher : content->program->path;
}

/* The words that replace argv[0] but for the first. */
static size_t extra_words(const struct stack_content *content)
{
    return content->program->word_count ? content->program->word_count - 1 : 0;
}

long stack_measure(const struct stack_content *content, size_t stack_bytes)
{
    const struct aiopip_spawn_request *request = content->request;
    size_t limit = stack_bytes / 4;
    size_t bytes = request->argv_bytes + request->envp_bytes +
                   (request->argc + request->envc) * sizeof(uintptr_t);

    limit = limit < TOTAL_MIN ? TOTAL_MIN : limit > TOTAL_MAX ? TOTAL_MAX : limit;
    if (bytes > limit || too_long(request->argv, request->argc) ||
        too_long(request->envp, request->envc))
        return -E2BIG;
    bytes += 2 * strlen(content->preload) + strlen(content->program->libpython) +
             strlen(content->program->path) + strlen(loaded(content)) + strlen(argv0_of(content)) +
             strlen(content->image->path) + content->program->stored + PROBE_PLATFORM +
             (request->cwd ? strlen(request->cwd) : 0) + options_bytes(request->options) + 80;
    return (long)(bytes + RANDOM_BYTES + 64 + sizeof(uint64_t[STACK_AUXV_MAX + 8][2]) +
                  (LOADER_WORDS + extra_words(content) + 8) * sizeof(uintptr_t));
}

/* ---- Building --------------------------------------------------------------------------------- */

/* Where the next string (downwards) and the next word (upwards) go. */
struct cursor {
    char *strings;
    uintptr_t *words;
};

static char *push(struct cursor *cursor, const void *bytes, size_t count)
{
    cursor->strings -= count;
    return memcpy(cursor->strings, bytes, count);
}

static const char *push_string(struct cursor *cursor, const char *text)
{
    const char *pushed = push(cursor, text, strlen(text) + 1);

    *cursor->words++ = (uintptr_t)pushed;
    return pushed;
}

/* A blob of strings in one piece, and a word for each of them but the first `skip`. */
static void push_blob(struct cursor *cursor, const char *blob, size_t bytes, size_t count,
                      size_t skip)
{
    const char *at = push(cursor, blob, bytes);

    for (size_t i = 0; i < count; i++) {
        if (i >= skip)
            *cursor->words++ = (uintptr_t)at;
        at += strlen(at) + 1;
    }
}

/* The task's library, and behind it the one whose symbols the launcher's program needs. */
static void push_preloads(struct cursor *cursor, const struct stack_content *content)
{
    const char *libpython = content->program->libpython;

    if (*libpython) {
        push(cursor, libpython, strlen(libpython) + 1);
        push(cursor, ":", 1);
        *cursor->words++ = (uintptr_t)push(cursor, content->preload, strlen(content->preload));
    } else {
        push_string(cursor, content->preload);
    }
}

static void push_auxv(struct cursor *cursor, const struct stack_content *content,
                      struct task_block *block)
{
    const struct aiopip_spawn_options *options = content->request->options;
    uint32_t given = options ? options->given : 0;
    char bytes[RANDOM_BYTES];

    if (getrandom(bytes, sizeof bytes, GRND_NONBLOCK) != sizeof bytes)
        memcpy(bytes, &block->generation, sizeof block->generation); /* before the pool is filled */
    cursor->strings = (char *)((uintptr_t)cursor->strings & -16UL);
    uintptr_t random = (uintptr_t)push(cursor, bytes, sizeof bytes);
    for (int i = 0; content->auxv[i][0] != AT_NULL; i++) {
        uint64_t type = content->auxv[i][0], value = content->auxv[i][1];
        switch (type) {
        case AT_PHDR:
            value = content->image_at + content->image->headers;
            break;
        case AT_PHNUM:
            value = content->image->header_count;
            break;
        case AT_BASE:
            value = 0; /* ld.so is the program */
            break;
        case AT_ENTRY:
            value = content->image_at + content->image->entry;
            break;
        case AT_RANDOM:
            value = random;
            break;
        case AT_EXECFN:
            block->start.executable =
                push(cursor, content->program->path, strlen(content->program->path) + 1);
            value = (uintptr_t)block->start.executable;
            break;
        case AT_SECURE:
            value = 0;
            break;
        case AT_UID:
        case AT_EUID:
            value = given & AIOPIP_OPTION_USER ? options->user : value;
            break;
        case AT_GID:
        case AT_EGID:
            value = given & AIOPIP_OPTION_GROUP ? options->group : value;
            break;
        case AT_HWCAP: /* which ld.so replaces when it asks the processor */
            value = content->seed ? content->seed->hwcap : value;
            break;
        default:
            break;
        }
        *cursor->words++ = type;
        *cursor->words++ = value;
    }
    /* Of two entries ld.so takes the last one, and getauxval() in the program the first. */
    if (content->seed && content->seed->platform[0]) {
        const char *platform = content->seed->platform;
        *cursor->words++ = AT_PLATFORM;
        *cursor->words++ = (uintptr_t)push(cursor, platform, strlen(platform) + 1);
    }
    *cursor->words++ = SHARED_AUXV_TYPE;
    *cursor->words++ = (uintptr_t)block;
    *cursor->words++ = AT_NULL;
    *cursor->words++ = 0;
}

static struct aiopip_spawn_options *push_options(struct cursor *cursor,
                                                 const struct aiopip_spawn_options *options)
{
    cursor->strings -= options_bytes(options);
    cursor->strings = (char *)((uintptr_t)cursor->strings & -16UL);
    return options_copy(options, cursor->strings);
}

/* Arguments behind argv[0], and the environment. */
static void push_request(struct cursor *cursor, const struct stack_content *content)
{
    const struct aiopip_spawn_request *request = content->request;

    for (size_t i = 0; i < extra_words(content); i++)
        push_string(cursor, content->program->words[i + 1]);
    push_blob(cursor, request->argv, request->argv_bytes, request->argc, 1);
    *cursor->words++ = 0;
    push_blob(cursor, request->envp, request->envp_bytes, request->envc, 0);
    *cursor->words++ = 0;
}

/* What the child reads when the request may be gone. */
static void push_start(struct cursor *cursor, const struct stack_content *content,
                       struct task_block *block)
{
    const struct aiopip_spawn_request *request = content->request;

    block->start.cwd = request->cwd ? push(cursor, request->cwd, strlen(request->cwd) + 1) : NULL;
    block->start.options = push_options(cursor, request->options);
    if (request->options && request->options->given & OPTIONS_CREDENTIALS)
        block->start.preload = push(cursor, content->preload, strlen(content->preload) + 1);
    assert(cursor->strings >= (char *)cursor->words);
}

uintptr_t stack_build(const struct stack_content *content, uintptr_t top, struct task_block *block)
{
    const struct aiopip_spawn_request *request = content->request;
    size_t bytes = (size_t)stack_measure(content, SIZE_MAX);
    uintptr_t stack = (top - bytes) & -16UL;
    struct cursor cursor = {(char *)top - 16, (uintptr_t *)stack};

    *cursor.words++ = LOADER_WORDS + extra_words(content) + (request->argc ? request->argc - 1 : 0);
    push_string(&cursor, content->image->path);
    push_string(&cursor, "--preload");
    push_preloads(&cursor, content);
    push_string(&cursor, "--argv0");
    push_string(&cursor, argv0_of(content));
    block->start.program = push_string(&cursor, loaded(content));
    push_request(&cursor, content);
    push_auxv(&cursor, content, block);
    push_start(&cursor, content, block);
    return stack;
}

uintptr_t stack_continue(const struct stack_content *content, const struct warm *warm,
                         struct task_block *block)
{
    const struct aiopip_spawn_request *request = content->request;
    size_t bytes = (size_t)stack_measure(content, SIZE_MAX), auxv_bytes;
    uintptr_t top = warm->stack, stack = (top - bytes) & -16UL;
    struct cursor cursor = {(char *)top, (uintptr_t *)stack};

    *cursor.words++ = extra_words(content) + (request->argc ? request->argc : 1);
    push_string(&cursor, argv0_of(content));
    push_request(&cursor, content);
    auxv_bytes = warm->auxv_count * sizeof *warm->auxv;
    memcpy(cursor.words, warm->auxv, auxv_bytes);
    cursor.words += auxv_bytes / sizeof *cursor.words;
    push_start(&cursor, content, block);
    return stack;
}

/* Without the file (a process that has changed its user may not read it): entry by entry. */
static void ask_auxv(uint64_t auxv[STACK_AUXV_MAX][2])
{
    size_t count = 0;

    for (uint64_t type = 1; type < STACK_AUXV_MAX; type++) {
        errno = 0;
        uint64_t value = getauxval(type);
        if (value || errno == 0) {
            auxv[count][0] = type;
            auxv[count++][1] = value;
        }
    }
    auxv[count][0] = AT_NULL;
}

void stack_read_auxv(uint64_t auxv[STACK_AUXV_MAX][2])
{
    size_t most = sizeof(uint64_t[STACK_AUXV_MAX - 1][2]);
    int descriptor = open("/proc/self/auxv", O_RDONLY | O_CLOEXEC);
    ssize_t bytes = descriptor < 0 ? -1 : read(descriptor, auxv, most);

    if (descriptor >= 0)
        close(descriptor);
    if (bytes > 0)
        auxv[(size_t)bytes / sizeof auxv[0]][0] = AT_NULL;
    else
        ask_auxv(auxv);
}
