/* SPDX-License-Identifier: BSD-2-Clause
 *
 * aiopip.h: the native core as a root uses it.
 *
 * The core is one a process and counted; a client is one user of it (a Root, an executor) with an
 * eventfd and an event ring of its own.  No function here calls back, touches Python or, unless it
 * says so, blocks.  All return 0 or a positive count, or -errno; outputs are untouched on failure.
 *
 * A task is named by its PiP ID, the number of its slot, and its generation: a slot is used again
 * when its memory has been reclaimed, a generation never.  In a child made by fork() every function
 * returns -ESRCH and changes nothing.
 */
#ifndef AIOPIP_H
#define AIOPIP_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define AIOPIP_API __attribute__((visibility("default")))

/* The version of everything that a root and its tasks share in memory. */
#define AIOPIP_ABI_VERSION 6

#define AIOPIP_MAX_TASKS 4096
#define AIOPIP_MAX_NDIM 64
#define AIOPIP_PIPID_ANY (-1)
#define AIOPIP_PIPID_ROOT (-748)

typedef struct aiopip_client aiopip_client;

/* This process as one that exports and imports: a root, by one of its clients, or a task. */
typedef struct aiopip_peer aiopip_peer;

/* What a task's standard descriptor is, where it is not a descriptor of the root (>= 0). */
enum aiopip_stdio {
    AIOPIP_STDIO_INHERIT = -1, /* the root's descriptor of that number, as it is at the spawn */
    AIOPIP_STDIO_NULL = -2,    /* /dev/null */
    AIOPIP_STDIO_STDOUT = -3,  /* stderr alone: wherever the task's stdout goes */
};

enum aiopip_spawn_flags {
    AIOPIP_SPAWN_NEW_SESSION = 1,   /* setsid(2) */
    AIOPIP_SPAWN_PROCESS_GROUP = 2, /* setpgid(2): into process_group */
    AIOPIP_SPAWN_STOPPED = 4,       /* SIGSTOP comes before its program's first instruction */
    AIOPIP_SPAWN_EXEC = 1 << 16,    /* what cannot be a task runs by execve(2), in a process with a
                                     * memory of its own: of no effect with STOPPED */
};

struct aiopip_options {
    uint32_t max_tasks;   /* 1 to AIOPIP_MAX_TASKS; of the client that opens the core */
    const char *preload;  /* absolute path of libaiopip-task.so */
    const char *probe;    /* absolute path of aiopip-probe; NULL: do not probe */
    const char *launcher; /* absolute path of aiopip-python; NULL: a non-PIE Python is refused */
    const char *folder;   /* NULL, or nobody else can write to it: keeps what the probe has shown */
};

/* Which of the options below count. */
enum aiopip_option {
    AIOPIP_OPTION_UMASK = 1,
    AIOPIP_OPTION_NICE = 2,
    AIOPIP_OPTION_SIGMASK = 4,
    AIOPIP_OPTION_INHERIT = 8,      /* all descriptors of the root but those that an exec closes */
    AIOPIP_OPTION_SHARE_FILES = 16, /* CLONE_FILES: stdio and descriptors are the root's own */
    AIOPIP_OPTION_SHARE_FS = 32,    /* CLONE_FS: so are cwd and umask */
    AIOPIP_OPTION_USER = 64,
    AIOPIP_OPTION_GROUP = 128,
    AIOPIP_OPTION_EXTRA_GROUPS = 256,
};

/* A resource limit of a task: setrlimit(2). */
struct aiopip_limit {
    int32_t resource;
    uint32_t keeps_hard; /* 1: the hard limit stays as it is */
    uint64_t soft;       /* UINT64_MAX: none */
    uint64_t hard;
};

/* A descriptor of a task beside 0 to 2. */
struct aiopip_descriptor {
    int32_t number;  /* the task's, from 3 on */
    int32_t source;  /* the root's */
    uint32_t passed; /* 1: an error says pass_fds, 0: fd_map */
};

/* What is asked for seldom.  An option that is 0 or NULL is not given, but for those of enum
 * aiopip_option. */
struct aiopip_spawn_options {
    uint32_t given; /* enum aiopip_option */
    uint32_t umask;
    int32_t nice;         /* the value itself, -20 to 19 */
    uint64_t sigmask;     /* bit 0: signal 1 */
    const uint64_t *cpus; /* a set, as sched_setaffinity(2) has it */
    size_t cpu_bytes;     /* a multiple of 8, to 1024 */
    const struct aiopip_limit *limits;
    size_t limit_count;
    const char *name;                            /* of comm: up to 15 bytes count */
    const struct aiopip_descriptor *descriptors; /* by number, each once */
    size_t descriptor_count;
    uint32_t mapped_stdio; /* bit n: an error of stdio[n] says fd_map */
    uint32_t user;         /* all of its user IDs */
    uint32_t group;
    const uint32_t *extra_groups;
    size_t extra_group_count;
    const char *entry; /* a function of the program, run in place of main */
    const void *arg;   /* what it gets: this pointer; or with arg_bytes, a pointer to a copy */
    size_t arg_bytes;
    size_t stack_bytes; /* of its first thread, and its soft limit; from 256 KiB on */
};

/* One task to start.  Everything is copied before aiopip_spawn() returns. */
struct aiopip_spawn_request {
    const char *program; /* a path, or a name that is searched in path_list when without '/' */
    const char *argv;    /* argc strings, each ended by NUL, argv[0] first */
    size_t argv_bytes;
    size_t argc;
    const char
        *envp; /* envc strings NAME=VALUE, each ended by NUL; NULL: the root's environ, PATH too */
    size_t envp_bytes;
    size_t envc;
    const char *path_list; /* PATH of the task's environment; NULL: the system's default */
    const char *cwd;       /* NULL: the root's */
    int32_t stdio[3];      /* descriptors of the root, or enum aiopip_stdio */
    int32_t pipid;         /* the slot wanted, or AIOPIP_PIPID_ANY: any free one */
    uint32_t flags;        /* enum aiopip_spawn_flags */
    int32_t process_group; /* one to join, or 0 for one of its own */
    const struct aiopip_spawn_options *options; /* or NULL */
};

enum aiopip_event_kind {
    AIOPIP_EVENT_STARTED = 1, /* the child applied its options and entered ld.so: pid */
    AIOPIP_EVENT_FAILED,      /* it did not, and nothing of it is left: failure, error, detail */
    AIOPIP_EVENT_EXITED,      /* it ended and was reaped: wait_status, usage; once a task */
    AIOPIP_EVENT_EXPORTED,    /* it exported something since an import found it absent, or at all
                               * while the client listens */
    AIOPIP_EVENT_RECLAIMED,   /* a slot became free, or held; only after -EAGAIN of a spawn */
    AIOPIP_EVENT_RELEASED,    /* holds of withdrawn exports were given up: aiopip_released() */
    AIOPIP_EVENT_STOPPED,   /* it stopped: wait_status; while the client listens.  Of what comes */
    AIOPIP_EVENT_CONTINUED, /* before the client drains, and of these two, the latest is told */
    AIOPIP_EVENT_CALLED,    /* somebody has come to the socket of aiopip_heed() */
};

enum aiopip_event_flags {
    AIOPIP_EVENT_LOADED = 1,      /* the preloaded library reported in */
    AIOPIP_EVENT_STATUS_LOST = 2, /* somebody else's wait took the status: wait_status is 0xff00 */
    AIOPIP_EVENT_LEFT = 8,        /* it had left this space by execve(2) */
    AIOPIP_EVENT_ACKNOWLEDGE = 4, /* its memory stays until aiopip_acknowledge() */
};

/* What a failed spawn failed at. */
enum aiopip_failure {
    AIOPIP_FAILED_PROGRAM = 1, /* looking it up or opening it: ENOENT, EACCES ...; detail: path */
    AIOPIP_FAILED_DIRECTORY,   /* it is no regular file (EACCES) */
    AIOPIP_FAILED_PERMISSION,  /* no x bit, not readable, or on a noexec file system (EACCES) */
    AIOPIP_FAILED_PRIVILEGED,  /* set-uid, set-gid or file capabilities would apply (EPERM) */
    AIOPIP_FAILED_INTERPRETER, /* of #! or PT_INTERP; detail: its path; error: why */
    AIOPIP_FAILED_NOT_PIE,     /* ET_EXEC (ENOEXEC) */
    AIOPIP_FAILED_STATIC,      /* ET_DYN without PT_INTERP (ENOEXEC) */
    AIOPIP_FAILED_TRUNCATED,   /* headers or segments lie beyond the end of the file (ENOEXEC) */
    AIOPIP_FAILED_MALFORMED,   /* neither ELF nor #!, or ELF that makes no sense; detail: what */
    AIOPIP_FAILED_MACHINE,     /* ELF of another architecture or class (ENOEXEC) */
    AIOPIP_FAILED_ARGUMENTS,   /* argv and environment beyond what execve() takes (E2BIG) */
    AIOPIP_FAILED_CWD,         /* chdir(cwd); detail: cwd */
    AIOPIP_FAILED_STDIN,       /* descriptor for 0, 1, 2: EBADF ... */
    AIOPIP_FAILED_STDOUT,
    AIOPIP_FAILED_STDERR,
    AIOPIP_FAILED_MAPPINGS, /* too few of vm.max_map_count left (ENOMEM); detail: "used of limit" */
    AIOPIP_FAILED_MEMORY,   /* mmap for stack or loader; detail: what */
    AIOPIP_FAILED_CLONE,    /* clone: EAGAIN (RLIMIT_NPROC, pids.max), ENOMEM */
    AIOPIP_FAILED_OPTIONS,  /* another option: process_group ...; detail: its name, or name[number]
                             * where it has several parts */
    AIOPIP_FAILED_WATCH,    /* no descriptor left to watch it with: EMFILE (RLIMIT_NOFILE) */
    AIOPIP_FAILED_CANCELLED, /* aiopip_cancel() before it was started (ECANCELED) */
    AIOPIP_FAILED_LIBPYTHON, /* a non-PIE Python without its library (ENOEXEC); detail: its name,
                              * or its path when that has a blank or a colon */
    AIOPIP_FAILED_ENTRY,     /* entry (ENOEXEC); detail: why, a word: missing, ambiguous,
                          * script, python or start; a blank; its name */
};

struct aiopip_event {
    int32_t kind;        /* enum aiopip_event_kind */
    int32_t pipid;       /* of RECLAIMED, RELEASED and CALLED: -1 */
    uint64_t generation; /* of RECLAIMED, RELEASED and CALLED: 0 */
    int32_t pid;
    int32_t failure;     /* enum aiopip_failure */
    int32_t error;       /* positive errno */
    int32_t wait_status; /* as of wait(2) */
    uint32_t flags;      /* enum aiopip_event_flags */
    uint64_t started_ns; /* CLOCK_MONOTONIC */
    uint64_t ended_ns;
    uint64_t user_us; /* rusage of the task and its waited-for children */
    uint64_t system_us;
    uint64_t max_rss_kib; /* of the whole space: the kernel has one a memory, not one a task */
    uint64_t minor_faults;
    uint64_t major_faults;
    uint64_t blocks_in;
    uint64_t blocks_out;
    uint64_t voluntary_switches;
    uint64_t involuntary_switches;
    char detail[256];
};

enum aiopip_array_flags {
    AIOPIP_ARRAY_TYPED = 1,    /* else an address alone, as C exports it */
    AIOPIP_ARRAY_READONLY = 2, /* who imports it must not write */
    AIOPIP_EXPORT_KEEP = 4,    /* it outlives its task, until its first import is released */
};

/* An array in memory. */
struct aiopip_array {
    uintptr_t address;    /* of the first item */
    uintptr_t start, end; /* all that belongs to it; untyped: 0 and UINTPTR_MAX */
    uint32_t flags;       /* enum aiopip_array_flags */
    uint32_t ndim;        /* of shape and strides */
    const int64_t *dims;  /* ndim of the shape, in items, then ndim of the strides, in bytes */
    const char *dtype;    /* the type of an item as the exporter's language writes it; no NUL */
    size_t dtype_bytes;
};

/* A word that is waited for: a futex, and what it was. */
struct aiopip_word {
    uint32_t *address;
    uint32_t value;
};

/* A held import: what it is of stays mapped, and its exporter keeps it, until it is released. */
typedef struct aiopip_hold aiopip_hold;

struct aiopip_statistics {
    uint32_t max_tasks;
    uint32_t queued;     /* spawns that wait for their turn */
    uint32_t loading;    /* tasks between clone and the preload's report */
    uint32_t alive;      /* tasks not reaped yet, loading ones too */
    uint32_t reclaiming; /* ended tasks whose memory is mapped still and not held; warm ones, too */
    uint32_t held;       /* ended tasks whose memory somebody imports */
    uint64_t spawned;    /* since the core was opened */
    uint64_t ended;
    uint64_t failed;
    uint64_t unloaded;     /* ended tasks whose preload never reported */
    uint64_t orphan_waits; /* reclaims that had to wait for a process on a dead task's memory */
    uint64_t untracked;    /* mappings of tasks that no ledger holds: their memory leaked */
    uint64_t mappings;     /* of the space when they were counted last */
    uint64_t mappings_limit;
    uint64_t window_bytes;        /* address space of each task */
    uint32_t private_descriptors; /* 1: the spawner has a table of its own */
    uint32_t has_clone3;
    uint32_t has_kcmp;
    uint32_t loader_tracked; /* 1: what ld.so maps is in the ledger from its first instruction */
    uint32_t
        loader_seeded; /* 1: the root's own ld.so starts in tasks without asking the processor */
    uint32_t resumes;  /* 1: programs that are started again begin where ld.so ended before */
    uint32_t warm;     /* ended tasks' windows that keep a program loaded for that */
    uint64_t resumed;  /* tasks that have begun so */
};

/* Open a client, and the core when it is the first.  Blocks for the start of two threads and a run
 * of the probe, 1 to 2 ms; the first time in a process for one more, and when nothing is known of this
 * system's ld.so yet for six, by which it learns what that would ask the processor; in the folder
 * that is kept for the user's other processes, until the next boot.  -EINVAL max_tasks or a path;
 * -EPERM: this is a task itself; -ENOSYS: the kernel has no pidfd; -ELIBACC: tasks run, but the preload
 * does not load into them; -ENOEXEC: the probe does not run; -ENOMEM, -EMFILE, -EAGAIN. */
AIOPIP_API int aiopip_open(const struct aiopip_options *options, aiopip_client **client);

/* Close a client, and the core with the last one.  -EBUSY while it has tasks that are not reaped.
 * Blocks until the threads have ended.  Memory that holds still name stays until they are
 * released. */
AIOPIP_API int aiopip_close(aiopip_client *client);

/* Kill all tasks of a client and wait until they are reaped, timeout_ms at the most.  Returns the
 * number of those that are left.  Blocks. */
AIOPIP_API int aiopip_abort(aiopip_client *client, uint32_t timeout_ms);

/* A descriptor (an epoll) that is readable while events wait, or a task has just ended.  Owned by the client. */
AIOPIP_API int aiopip_fd(const aiopip_client *client);

/* Take a slot and queue a task.  FAILED or STARTED follows as an event, then (after STARTED) EXITED.
 * -EBUSY: the slot is taken, or none is free; -EAGAIN: it will be when memory that an ended task
 * left is reclaimed, RECLAIMED follows; -EINVAL pipid out of range; -ENOMEM. */
AIOPIP_API int aiopip_spawn(aiopip_client *client, const struct aiopip_spawn_request *request,
                            int32_t *pipid, uint64_t *generation);

/* Give up a spawn: FAILED (AIOPIP_FAILED_CANCELLED) follows, or, when it was under way, STARTED
 * and EXITED of a killed task.  -ESRCH when it has ended. */
AIOPIP_API int aiopip_cancel(aiopip_client *client, int32_t pipid, uint64_t generation);

/* Send a signal.  0: the task had not ended when it was sent; -ESRCH: it has, whether that was told or
 * not, or it has not started; -EINVAL, -EPERM of kill(2). */
AIOPIP_API int aiopip_kill(aiopip_client *client, int32_t pipid, uint64_t generation, int signal);

/* The process group of a task.  -ESRCH when it has ended or has not started. */
AIOPIP_API int aiopip_group(aiopip_client *client, int32_t pipid, uint64_t generation);

/* Send a signal to all processes of a process group, whether they are tasks or not.  -ESRCH: no live
 * task of this client is in it; -EINVAL: the caller's own group, what is no group (up to 1:
 * kill(2) takes these for something else), no signal; -EPERM of kill(2): none of them takes it from us. */
AIOPIP_API int aiopip_kill_group(aiopip_client *client, int32_t group, int signal);

/* 1 while a task runs in this space, 0 when it has left it by execve(2); -ESRCH when it has ended. */
AIOPIP_API int aiopip_shares(aiopip_client *client, int32_t pipid, uint64_t generation);

/* Have the client told of stops, continues and all exports of its tasks from now on, or no more.  The
 * first call starts a thread.  -EAGAIN: that cannot be had. */
AIOPIP_API int aiopip_listen(aiopip_client *client, int on);

/* Clear the eventfd and take up to `count` events, oldest first.  Fewer than count: no more wait. */
AIOPIP_API int aiopip_drain(aiopip_client *client, struct aiopip_event *events, int count);

/* The client has done with the EXITED event that asked for it: memory may go. */
AIOPIP_API int aiopip_acknowledge(aiopip_client *client, int32_t pipid, uint64_t generation);

/* Import what a task exported under a name, as aiopip_import() does.  -EAGAIN: not exported yet,
 * EXPORTED follows when that may have changed; -ECANCELED: also that the task has left the space. */
AIOPIP_API int aiopip_named_import(aiopip_client *client, int32_t pipid, uint64_t generation,
                                   const char *name, size_t name_bytes, aiopip_hold **hold);

/* ---- Exports and imports: in the root, and in tasks that have joined --------------------------- */

/* Become able to export and import in a task; the peer is good until the task ends.  -EPERM: this
 * process is no task; -ELIBSCN: the root has another ABI version, which is stored. */
AIOPIP_API int aiopip_join(aiopip_peer **peer, uint32_t *abi_version);

/* The root as a peer, for as long as the client is open or it is kept.  All clients of a core have the
 * same one, so closing one of them withdraws nothing. */
AIOPIP_API aiopip_peer *aiopip_peer_of_client(aiopip_client *client);

/* Keep the root's memory, also behind the end of its client, until as many calls of the second: a
 * thread may be asleep in a wait for a lock then.  In a task they do nothing.  Any thread. */
AIOPIP_API void aiopip_peer_keep(aiopip_peer *peer);
AIOPIP_API void aiopip_peer_release(aiopip_peer *peer);

/* The caller's PiP ID; the root's is AIOPIP_PIPID_ROOT. */
AIOPIP_API int32_t aiopip_peer_pipid(const aiopip_peer *peer);

/* Export an array under a name of name_bytes bytes.  The memory is the caller's and has to stay as it
 * is until aiopip_withdraw() or aiopip_released() say that nobody has it any more.  -EBUSY: the name
 * is taken; -EINVAL: name (too long, or with a NUL in it) or array; -ENOMEM; -ENOSPC: a million
 * exports. */
AIOPIP_API int aiopip_export(aiopip_peer *peer, const char *name, size_t name_bytes,
                             const struct aiopip_array *array, uint64_t *id);

/* Free the name of an export.  0: nobody holds it, its memory is the caller's alone again; 1: somebody
 * does, and aiopip_released() will say when that has ended; -ENOENT: it was withdrawn before. */
AIOPIP_API int aiopip_withdraw(aiopip_peer *peer, uint64_t id);

/* Which withdrawn exports nobody holds any more: up to count of their ids.  Each is told once.  In a
 * root RELEASED says when to ask, in a task the word of aiopip_expect() changes. */
AIOPIP_API int aiopip_released(aiopip_peer *peer, uint64_t *ids, int count);

/* Import what a task, or the root, exported under a name, and hold it.  generation: of the task that
 * is meant, 0 for the slot's latest.  -EAGAIN: not exported, or the task not started, yet;
 * -ECANCELED: it ended without, or its memory is gone; -ERANGE: no such PiP ID; -EINVAL: name;
 * -ENOMEM, -ENOSPC. */
AIOPIP_API int aiopip_import(aiopip_peer *peer, int32_t pipid, uint64_t generation,
                             const char *name, size_t name_bytes, aiopip_hold **hold);

/* The task that has the slot now, or had it last: its generation; 0 before the first.  -ERANGE. */
AIOPIP_API int64_t aiopip_generation(const aiopip_peer *peer, int32_t pipid);

/* In a task: say, before an import is tried, that its failing will be waited for.  The word changes
 * when there is something new of that PiP ID, and of the task's withdrawn exports.  -ERANGE;
 * -EINVAL: in the root. */
AIOPIP_API int aiopip_expect(aiopip_peer *peer, int32_t pipid, struct aiopip_word *word);

/* Sleep until one of the words is not what it was, or until a time of CLOCK_MONOTONIC (UINT64_MAX: for
 * ever).  0; -ETIMEDOUT; -EINTR.  Blocks. */
AIOPIP_API int aiopip_wait(const struct aiopip_word *words, int count, uint64_t end_ns);

/* Change a word and wake who waits for that. */
AIOPIP_API void aiopip_wake(uint32_t *word);

/* Hold memory of a task without an export: [address, address + bytes), or with 0 bytes all that the
 * task has.  It is there at the call, for its owner runs, or its end was not acknowledged.  -ENOENT:
 * it is no task's, or the caller's own; -ECANCELED: its owner has ended; -ENOMEM, -ENOSPC. */
AIOPIP_API int aiopip_hold_memory(aiopip_peer *peer, uintptr_t address, size_t bytes,
                                  aiopip_hold **hold);

/* What is held; the pointers are good as long as the hold is. */
AIOPIP_API void aiopip_hold_array(const aiopip_hold *hold, struct aiopip_array *array);

/* Whether [address, address + bytes) is memory of the exporter's that the hold keeps, mapped and
 * readable: 1 when it may be written too, 0 when read only, -EFAULT when it is not. */
AIOPIP_API int aiopip_hold_check(const aiopip_hold *hold, uintptr_t address, size_t bytes);

/* A second hold, of nothing but that range, which aiopip_hold_check() has passed. */
AIOPIP_API int aiopip_hold_narrow(const aiopip_hold *hold, uintptr_t address, size_t bytes,
                                  aiopip_hold **narrow);

/* Give a hold back, from any thread, also after aiopip_close(). */
AIOPIP_API void aiopip_hold_release(aiopip_hold *hold);

/* ---- Locks: <aiopip/lock.h>, step by step ------------------------------------------------------- */

enum aiopip_lock_call {
    AIOPIP_LOCK_TRY,
    AIOPIP_LOCK_RELEASE,
    AIOPIP_LOCK_RECOVER,
};

#define AIOPIP_LOCK_BYTES 64
#define AIOPIP_LOCK_WORDS 2

/* Take the lock at an address, or give it back, or say that what it guards is right again.  0;
 * -EOWNERDEAD: it was taken, its last owner has died; -EBUSY: somebody has it, and when one of the
 * words (AIOPIP_LOCK_WORDS of them) has changed it is worth another try, for which its owner will wake
 * us; with NULL it will not; -EPERM: it is not ours. */
AIOPIP_API int aiopip_lock_of_peer(aiopip_peer *peer, uintptr_t lock, enum aiopip_lock_call call,
                                   struct aiopip_word *words);

/* Whose it is: 1 and the PiP ID; 0: nobody's; -EOWNERDEAD: somebody's who has ended. */
AIOPIP_API int aiopip_lock_owner(aiopip_peer *peer, uintptr_t lock, int32_t *pipid);

/* ---- Looking in ------------------------------------------------------------------------------- */

/* [start, end) of address space in which memory of a task may be, and no memory of others. */
struct aiopip_span {
    uintptr_t start, end;
};

#define AIOPIP_SPANS 257 /* of a task, at the most */

/* Where all is that a task has mapped, by address: the number of spans.  -ESRCH: it has ended or has
 * not started. */
AIOPIP_API int aiopip_spans(aiopip_client *client, int32_t pipid, uint64_t generation,
                            struct aiopip_span spans[AIOPIP_SPANS]);

/* Have CALLED follow whenever somebody connects to a listening socket, which has to stay open until
 * the client is closed.  The client accepts until there is nobody. */
AIOPIP_API int aiopip_heed(aiopip_client *client, int socket);

/* Have windows that keep a program loaded (statistics.warm) unmapped now; it is done soon, by the
 * spawner.  Without this it is done some seconds after the last spawn. */
AIOPIP_API void aiopip_trim(aiopip_client *client);

AIOPIP_API void aiopip_get_statistics(aiopip_client *client, struct aiopip_statistics *statistics);

#ifdef __cplusplus
}
#endif
#endif
