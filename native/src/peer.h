/* SPDX-License-Identifier: BSD-2-Clause
 *
 * peer.h: one process of the space, as the code that runs in it sees itself.
 */
#ifndef PEER_H
#define PEER_H

#include <sys/types.h>

#include "shared.h"

struct core;

struct aiopip_peer {
    struct control *control;
    struct peer *peer;
    struct sharing *sharing;
    struct core *core; /* in the root; NULL in a task */
    uint32_t number;   /* of the slot, or PEER_ROOT */
    pid_t pid;
    atomic_bool is_copy; /* this process was made from the peer's by fork() */
};

/* This process as a task: NULL with -EPERM or -ELIBSCN, as aiopip_join(). */
struct aiopip_peer *peer_of_task(int *error, uint32_t *abi_version);

/* The same without a system call; a child by fork is told by the handlers that fork() runs. */
struct aiopip_peer *peer_of_task_quickly(void);

/* A PiP ID as the number of a peer: -ERANGE when there is none.  MYSELF and the root are known. */
int64_t peer_number(const struct aiopip_peer *self, int32_t pipid);

/* Ring those who wait for something new of a peer.  Anybody. */
void peer_announce(struct control *control, struct peer *peer);

/* Have a peer look at what it waits for.  Anybody. */
void peer_ring(struct control *control, uint32_t number);

/* Have the reaper look whether memory of a slot may go.  Anybody. */
void peer_look(struct control *control, uint32_t number);

/* Tell a peer, and the reaper, that a hold of it was given up.  Anybody. */
void peer_tell_dropped(struct control *control, uint64_t word);

/* Whether somebody of all peers holds an export; the caller is its owner. */
bool peer_export_is_held(struct aiopip_peer *self, uint64_t id);

/* Whether a slot's task has yet to start: it is queued, or its turn has not come. */
bool peer_is_to_come(struct control *control, uint32_t number);

/* Whether the generation's task, or the root, runs: something may yet be exported. */
bool peer_runs(struct control *control, uint32_t number, uint64_t generation);

/* An import.  generation: of the task that is meant; 0: of the slot's latest, which is then told,
 * unless that has yet to start.  The rest is of one that was found, and is held. */
struct import {
    uint64_t generation;
    uint32_t hold;  /* of the export */
    int64_t origin; /* of whom the exporter has it from; -1: it is the exporter's own */
    const struct export_record *record;
};

/* Look for an export and hold it, with all of the exporter's memory.  0 or the errors of
 * aiopip_import(). */
int peer_import(struct aiopip_peer *self, uint32_t number, const char *name, size_t bytes,
                struct import *import);

/* It was imported for good. */
void peer_settle(struct aiopip_peer *self, const struct import *import);

/* The same, and hold no more than that range of what was imported: the record may be gone from then on. */
void peer_narrow(struct aiopip_peer *self, const struct import *import, uintptr_t start,
                 uintptr_t end);

/* See aiopip_expect(). */
void peer_expect(struct aiopip_peer *self, uint32_t number, struct aiopip_word *word);

/* Give a hold up and tell whom it concerns. */
void peer_drop(struct aiopip_peer *self, uint32_t hold);

/* A hold of the same export with another range. */
int64_t peer_take_over(struct aiopip_peer *self, uint64_t word, uintptr_t start, uintptr_t end);

/* Hold all memory of the task to which [start, start + bytes) belongs, other than ourselves: the hold,
 * and who it is; -ENOENT: it is no task's; -ECANCELED: its memory is not there to be held. */
int64_t peer_hold_owner(struct aiopip_peer *self, uintptr_t start, size_t bytes, uint32_t *number,
                        uint64_t *generation);

/* Whether [start, start + bytes) is a task's memory, mapped or not: its window and what it wrote
 * down besides.  While that is held. */
bool peer_owns(const struct control *control, uint32_t number, uintptr_t start, size_t bytes);

/* Export what an array says.  0 or the errors of aiopip_export(). */
int peer_export(struct aiopip_peer *self, const char *name, size_t name_bytes,
                const struct aiopip_array *array, uint64_t *id);

/* Free a withdrawn export that nobody holds.  False when another thread was quicker. */
bool peer_free_export(struct aiopip_peer *self, uint64_t id);

/* Nobody can have our exports any more, nor what they hold of others. */
void peer_drop_origins(struct aiopip_peer *self);

#endif
