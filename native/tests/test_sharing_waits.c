/* SPDX-License-Identifier: BSD-2-Clause
 *
 * test_sharing_waits.c: who waits for an export: what wakes it, and of whom it is, when a slot is used
 * by one task after the other.
 */
#include "core.h"
#include "scene.h"

#define PAGE 4096

/* ---- Waiting ---------------------------------------------------------------------------------- */

static bool waits_for(const struct puppet *waiter, int32_t pipid)
{
    struct control *control = waiter->client->core->control;
    uint32_t number = pipid == AIOPIP_PIPID_ROOT ? PEER_ROOT : (uint32_t)pipid;

    return atomic_load(&shared_peer(control, number)->waiters[0]) >> waiter->task.pipid & 1;
}

/* Both ways of waiting: by the bell alone, and as C does it. */
static const enum puppet_call waiting[] = {PUPPET_AWAIT_IMPORT, PUPPET_PIP_IMPORT};

static void test_export_wakes_who_waits(void)
{
    for (int i = 0; i < 4; i++) {
        struct scene scene = scene_begin();
        struct puppet *exporter = &scene.puppets[i / 2], *waiter = &scene.puppets[2];
        uint8_t *memory = puppet_make(exporter, PAGE);
        puppet_seek(waiter, exporter, "late");
        puppet_tell(waiter, waiting[i % 2]);
        CHECK_SOON(waits_for(waiter, exporter->task.pipid));
        CHECK_EQUAL(puppet_export(exporter, "other", memory, 8, 0), 0);
        CHECK_SOON(waits_for(waiter, exporter->task.pipid));
        CHECK(!puppet_is_done(waiter));
        CHECK_EQUAL(puppet_export(exporter, "late", memory, 8, 0), 0);
        CHECK_EQUAL(puppet_await(waiter), 0);
        scene_end(&scene);
    }
}

static void test_end_of_the_exporter_wakes_who_waits(void)
{
    aiopip_client *client = open_client(4);
    struct puppet waiter = puppet_start(client);

    for (int i = 0; i < 4; i++) {
        struct puppet exporter = puppet_start(client);
        await(client, exporter.task.generation, AIOPIP_EVENT_STARTED);
        puppet_seek(&waiter, &exporter, "never");
        puppet_tell(&waiter, waiting[i % 2]);
        CHECK_SOON(waits_for(&waiter, exporter.task.pipid));
        if (i < 2)
            puppet_kill(&exporter);
        else
            puppet_exit(&exporter);
        CHECK_EQUAL(puppet_await(&waiter), -ECANCELED);
        puppet_forget(&exporter);
    }
    puppet_exit(&waiter);
    puppet_forget(&waiter);
    check_clean(client);
    close_client(client);
}

static void test_task_that_is_to_come_is_waited_for(void)
{
    for (int i = 0; i < 2; i++) {
        aiopip_client *client = open_client(4);
        struct puppet waiter = puppet_start(client);
        puppet_name(&waiter, "late", 4);
        waiter.order->pipid = 3;
        waiter.order->generation = 0;
        CHECK_EQUAL(puppet_do(&waiter, PUPPET_IMPORT), -EAGAIN);
        puppet_tell(&waiter, waiting[i]);
        CHECK_SOON(waits_for(&waiter, 3));
        struct puppet exporter = puppet_queue(client, 3);
        await(client, exporter.task.generation, AIOPIP_EVENT_STARTED);
        CHECK_EQUAL(puppet_export(&exporter, "late", puppet_make(&exporter, PAGE), PAGE, 0), 0);
        CHECK_EQUAL(puppet_await(&waiter), 0);
        puppet_exit(&waiter);
        puppet_exit(&exporter);
        puppet_forget(&waiter);
        puppet_forget(&exporter);
        check_clean(client);
        close_client(client);
    }
}

static void test_start_that_fails_wakes_who_waits(void)
{
    aiopip_client *client = open_client(4);
    struct puppet waiter = puppet_start(client);
    struct aiopip_spawn_request request = plain_request("/no/such/program");
    const char *const argv[] = {"x", NULL};
    struct spawned failing;

    puppet_name(&waiter, "never", 5);
    waiter.order->pipid = request.pipid = 2;
    puppet_tell(&waiter, PUPPET_AWAIT_IMPORT);
    CHECK_SOON(waits_for(&waiter, 2));
    CHECK_EQUAL(spawn_request(client, request, argv, NULL, &failing), 0);
    await(client, failing.generation, AIOPIP_EVENT_FAILED);
    CHECK_EQUAL(puppet_await(&waiter), -ECANCELED);
    puppet_exit(&waiter);
    puppet_forget(&waiter);
    check_clean(client);
    close_client(client);
}

static void test_one_does_not_wait_for_oneself(void)
{
    struct scene scene = scene_begin();
    struct puppet *task = &scene.puppets[1];

    puppet_seek(task, task, "x");
    CHECK_EQUAL(puppet_do(task, PUPPET_PIP_IMPORT), -EDEADLK);
    CHECK_EQUAL(puppet_do(task, PUPPET_PIP_TRY), -EAGAIN);
    scene_end(&scene);
}

/* ---- Slots ------------------------------------------------------------------------------------ */

static void test_slot_has_one_generation_after_the_other(void)
{
    aiopip_client *client = open_client(3);
    struct puppet importers[2] = {puppet_root(client), puppet_queue(client, 1)};
    uint64_t last = 0;

    for (int i = 0; i < 6; i++) {
        struct puppet exporter = puppet_queue(client, 0), *importer = &importers[i % 2];
        uint8_t *memory = puppet_make(&exporter, PAGE);
        CHECK(exporter.task.generation > last);
        CHECK_EQUAL(aiopip_generation(importers[0].peer, 0), exporter.task.generation);
        CHECK_EQUAL(puppet_import(importer, &exporter, "x"), -EAGAIN);
        CHECK_EQUAL(puppet_export(&exporter, "x", memory, PAGE, 0), 0);
        importer->order->generation = last ? last : 77;
        CHECK_EQUAL(puppet_do(importer, PUPPET_IMPORT), -ECANCELED);
        importer->order->generation = 0;
        CHECK_EQUAL(puppet_do(importer, PUPPET_IMPORT), 0);
        CHECK_EQUAL(hold_address(importer->order->hold), memory);
        CHECK_EQUAL(puppet_withdraw(&exporter, exporter.order->id), 1);
        CHECK_EQUAL(puppet_release(importer, importer->order->hold), 0);
        last = exporter.task.generation;
        puppet_exit(&exporter);
        puppet_forget(&exporter);
        CHECK_EQUAL(puppet_import(importer, &exporter, "x"), -ECANCELED);
    }
    puppet_exit(&importers[1]);
    puppet_forget(&importers[0]);
    puppet_forget(&importers[1]);
    check_clean(client);
    close_client(client);
}

int main(void)
{
    RUN(test_export_wakes_who_waits);
    RUN(test_end_of_the_exporter_wakes_who_waits);
    RUN(test_task_that_is_to_come_is_waited_for);
    RUN(test_start_that_fails_wakes_who_waits);
    RUN(test_one_does_not_wait_for_oneself);
    RUN(test_slot_has_one_generation_after_the_other);
    return 0;
}
