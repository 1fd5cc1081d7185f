/* SPDX-License-Identifier: BSD-2-Clause
 *
 * test_starting.c: tasks that share memory before the root has come to say that they run, and ones
 * whose clone fails when their memory is open already.
 */
#include "deny.h"
#include "puppets.h"

#define PAGE 4096

static aiopip_client *client;
static _Atomic uint32_t denied;

/* Without an event to look for, which the spawner would have to send. */
static int obeyed(struct puppet *puppet, enum puppet_call call)
{
    puppet_tell(puppet, call);
    CHECK_SOON(puppet_is_done(puppet));
    return puppet->order->result;
}

static void test_cloned_task_shares_before_it_is_said_to_run(void)
{
    client = open_client(4);
    struct puppet exporter = puppet_start(client);

    CHECK_EQUAL(puppet_export(&exporter, "x", puppet_make(&exporter, PAGE), PAGE, 0), 0);
    /* It may obey before the spawner comes to the point behind its clone. */
    await(client, exporter.task.generation, AIOPIP_EVENT_STARTED);
    /* In the spawner, which has cloned a task and not registered it. */
    kill_point_pause(KILL_AT_SPAWN_CLONED);
    struct puppet task = puppet_start(client);
    CHECK_SOON(kill_point_is_paused());
    puppet_seek(&task, &exporter, "x");
    CHECK_EQUAL(obeyed(&task, PUPPET_IMPORT), 0);
    aiopip_hold *hold = task.order->hold;
    CHECK_EQUAL(puppet_withdraw(&exporter, exporter.order->id), 1);
    puppet_seek(&task, &task, "own");
    task.order->address = (uintptr_t)&client;
    CHECK_EQUAL(obeyed(&task, PUPPET_PIP_TRY), -EAGAIN);
    CHECK_EQUAL(obeyed(&task, PUPPET_PIP_EXPORT), 0);
    CHECK_EQUAL(obeyed(&task, PUPPET_PIP_IMPORT), 0);
    CHECK_EQUAL(puppet_import(&exporter, &task, "own"), 0);
    CHECK_EQUAL(puppet_release(&exporter, exporter.order->hold), 0);
    kill_point_resume();
    CHECK_EQUAL(puppet_release(&task, hold), 0);
    puppet_await_release(&exporter, exporter.order->id);
    puppet_exit(&task);
    puppet_exit(&exporter);
    puppet_forget(&task);
    puppet_forget(&exporter);
    check_clean(client);
    close_client(client);
}

/* From now on the spawner's clones fail. */
static void deny_clones(enum kill_point point)
{
    const struct denied clones[] = {{SYS_clone3, EAGAIN}, {SYS_clone, EAGAIN}, {0, 0}};

    if (point != KILL_AT_SPAWN_CLONED)
        return;
    kill_point_hook = NULL;
    deny(clones);
    atomic_store(&denied, 1);
}

/* A task that may have an array in a slot whose earlier task had it, as its exporter sees that. */
static void fail_clones(const void *argument)
{
    (void)argument;
    client = open_client(4);
    struct puppet root = puppet_root(client), importer = puppet_queue(client, 2);

    CHECK_EQUAL(puppet_export(&root, "x", puppet_make(&root, PAGE), PAGE, 0), 0);
    CHECK_EQUAL(puppet_import(&importer, &root, "x"), 0);
    puppet_exit(&importer);
    puppet_forget(&importer);
    CHECK_SOON(is_at_rest(client));
    atomic_store(&denied, 0);
    kill_point_hook = deny_clones;
    struct puppet last = puppet_queue(client, 1);
    CHECK_SOON(atomic_load(&denied));
    for (int i = 0; i < 200; i++) {
        struct puppet failing = puppet_queue(client, 2);
        uint64_t id;
        /* While its memory is opened, and closed again. */
        do {
            CHECK_EQUAL(puppet_export(&root, "y", (uint8_t *)&denied, 4, 0), 0);
            id = root.order->id;
            CHECK_EQUAL(puppet_import(&last, &root, "y"), 0);
            CHECK_EQUAL(puppet_release(&last, last.order->hold), 0);
            CHECK_EQUAL(puppet_withdraw(&root, id), 0);
        } while (!puppet_has_ended(&failing));
        CHECK_EQUAL(failing.end.kind, AIOPIP_EVENT_FAILED);
        CHECK_EQUAL(failing.end.failure, AIOPIP_FAILED_CLONE);
        CHECK_EQUAL(failing.end.error, EAGAIN);
        puppet_forget(&failing);
    }
    puppet_exit(&last);
    puppet_forget(&last);
    CHECK_EQUAL(puppet_withdraw(&root, root.order->id), -ENOENT);
    puppet_forget(&root);
    check_clean(client);
    close_client(client);
}

static void test_clone_that_fails_leaves_nothing(void)
{
    check_in_child(fail_clones, NULL);
}

int main(void)
{
    RUN(test_cloned_task_shares_before_it_is_said_to_run);
    RUN(test_clone_that_fails_leaves_nothing);
    return 0;
}
