/* SPDX-License-Identifier: BSD-2-Clause
 *
 * test_sharing.c: exports and imports between the root and tasks, in all directions: what is found,
 * and who holds it.
 */
#include <sys/mman.h>

#include "exports.h"
#include "scene.h"

#define MANY 10000
#define HELD_OF_MANY 20
#define PAGE 4096

/* With each of the three as exporter, and each as importer. */
static void for_all_pairs(void (*play)(struct puppet *, struct puppet *))
{
    struct scene scene = scene_begin();

    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++)
            play(&scene.puppets[i], &scene.puppets[j]);
    scene_end(&scene);
}

/* ---- What is found ---------------------------------------------------------------------------- */

static void check_facts(struct puppet *exporter, struct puppet *importer)
{
    const int64_t dims[] = {3, 0, INT64_MAX, -24, INT64_MIN, 8};
    struct order *order = exporter->order;
    uint8_t *memory = puppet_make(exporter, PAGE);
    struct aiopip_array array;

    memcpy(order->dims, dims, sizeof dims);
    memcpy(order->dtype, "<f8\0\xff{x}", 9);
    order->array = (struct aiopip_array){.address = (uintptr_t)memory + 48,
                                         .start = (uintptr_t)memory,
                                         .end = (uintptr_t)memory + 72,
                                         .flags = AIOPIP_ARRAY_TYPED | AIOPIP_ARRAY_READONLY,
                                         .ndim = 3,
                                         .dims = order->dims,
                                         .dtype = order->dtype,
                                         .dtype_bytes = 9};
    puppet_name(exporter, "grid", 4);
    CHECK_EQUAL(puppet_do(exporter, PUPPET_EXPORT), 0);
    CHECK_EQUAL(puppet_do(exporter, PUPPET_EXPORT), -EBUSY);
    CHECK_EQUAL(puppet_import(importer, exporter, "grid"), 0);
    aiopip_hold_array(importer->order->hold, &array);
    CHECK_EQUAL(array.address, memory + 48);
    CHECK_EQUAL(array.start, memory);
    CHECK_EQUAL(array.end, memory + 72);
    CHECK_EQUAL(array.flags, AIOPIP_ARRAY_TYPED | AIOPIP_ARRAY_READONLY);
    CHECK_EQUAL(array.ndim, 3);
    CHECK(memcmp(array.dims, dims, sizeof dims) == 0);
    CHECK_EQUAL(array.dtype_bytes, 9);
    CHECK(memcmp(array.dtype, "<f8\0\xff{x}", 9) == 0);
    CHECK_EQUAL(puppet_release(importer, importer->order->hold), 0);
    CHECK_EQUAL(puppet_withdraw(exporter, exporter->order->id), 0);
}

static void test_facts_come_back_exactly(void)
{
    for_all_pairs(check_facts);
}

static void check_range(struct puppet *exporter, struct puppet *importer)
{
    uint8_t *memory = puppet_make(exporter, 2 * PAGE);
    struct order *order = importer->order;

    CHECK_EQUAL(puppet_export(exporter, "x", memory, PAGE, 0), 0);
    CHECK_EQUAL(puppet_import(importer, exporter, "x"), 0);
    order->address = (uintptr_t)memory;
    order->bytes = PAGE;
    CHECK_EQUAL(puppet_do(importer, PUPPET_CHECK), 1);
    order->bytes = PAGE + 1;
    CHECK_EQUAL(puppet_do(importer, PUPPET_CHECK), -EFAULT);
    CHECK_EQUAL(mprotect(memory, PAGE, PROT_READ), 0);
    order->bytes = 8;
    CHECK_EQUAL(puppet_do(importer, PUPPET_CHECK), 0);
    CHECK_EQUAL(puppet_release(importer, order->hold), 0);
    CHECK_EQUAL(puppet_withdraw(exporter, exporter->order->id), 0);
}

static void test_hold_says_what_may_be_touched(void)
{
    for_all_pairs(check_range);
}

static void check_names(struct puppet *exporter, struct puppet *importer)
{
    const size_t lengths[] = {0, 1, 255};
    uint8_t *memory = puppet_make(exporter, PAGE);
    char name[257];

    memset(name, 0xff, sizeof name);
    for (int i = 0; i < 3; i++) {
        CHECK_EQUAL(puppet_export(exporter, "y", memory + i, 1, 0), 0);
        CHECK_EQUAL(puppet_withdraw(exporter, exporter->order->id), 0);
        puppet_name(exporter, name, lengths[i]);
        exporter->order->array.address = (uintptr_t)memory + (uintptr_t)i;
        CHECK_EQUAL(puppet_do(exporter, PUPPET_EXPORT), 0);
        exporter->order->ids[i] = exporter->order->id;
    }
    for (int i = 0; i < 3; i++) {
        puppet_seek(importer, exporter, "");
        puppet_name(importer, name, lengths[i]);
        CHECK_EQUAL(puppet_do(importer, PUPPET_IMPORT), 0);
        CHECK_EQUAL(hold_address(importer->order->hold), memory + i);
        CHECK_EQUAL(puppet_release(importer, importer->order->hold), 0);
        CHECK_EQUAL(puppet_withdraw(exporter, exporter->order->ids[i]), 0);
    }
    puppet_name(exporter, name, 256);
    CHECK_EQUAL(puppet_do(exporter, PUPPET_EXPORT), -EINVAL);
    puppet_name(importer, name, 256);
    CHECK_EQUAL(puppet_do(importer, PUPPET_IMPORT), -EINVAL);
    puppet_name(exporter, "a\0b", 3);
    CHECK_EQUAL(puppet_do(exporter, PUPPET_EXPORT), -EINVAL);
    puppet_name(importer, "a\0b", 3);
    CHECK_EQUAL(puppet_do(importer, PUPPET_IMPORT), -EINVAL);
    puppet_name(importer, name, 254);
    CHECK_EQUAL(puppet_do(importer, PUPPET_IMPORT), -EAGAIN);
}

static void test_names_have_up_to_255_bytes(void)
{
    for_all_pairs(check_names);
}

/* Words whose FNV-1a hashes of 32 bits are the same. */
static void check_collision(struct puppet *exporter, struct puppet *importer)
{
    uint8_t *memory = puppet_make(exporter, PAGE);

    CHECK_EQUAL(exports_hash("costarring", 10), exports_hash("liquid", 6));
    CHECK_EQUAL(puppet_export(exporter, "costarring", memory, 8, 0), 0);
    uint64_t first = exporter->order->id;
    CHECK_EQUAL(puppet_import(importer, exporter, "liquid"), -EAGAIN);
    CHECK_EQUAL(puppet_export(exporter, "liquid", memory + 8, 8, 0), 0);
    uint64_t second = exporter->order->id;
    CHECK_EQUAL(puppet_import(importer, exporter, "liquid"), 0);
    CHECK_EQUAL(hold_address(importer->order->hold), memory + 8);
    CHECK_EQUAL(puppet_withdraw(exporter, first), 0);
    CHECK_EQUAL(puppet_withdraw(exporter, second), 1);
    CHECK_EQUAL(puppet_import(importer, exporter, "costarring"), -EAGAIN);
    CHECK_EQUAL(puppet_release(importer, importer->order->hold), 0);
    puppet_await_release(exporter, second);
}

static void test_names_of_one_hash_are_two(void)
{
    for_all_pairs(check_collision);
}

static void test_what_nobody_has_is_refused(void)
{
    struct scene scene = scene_begin();
    struct puppet *root = &scene.puppets[0], *task = &scene.puppets[1];
    struct aiopip_word word;

    CHECK_EQUAL(puppet_withdraw(root, 77), -ENOENT);
    CHECK_EQUAL(puppet_withdraw(task, UINT64_MAX), -ENOENT);
    puppet_seek(task, root, "x");
    task->order->pipid = 4;
    CHECK_EQUAL(puppet_do(task, PUPPET_IMPORT), -ERANGE);
    task->order->pipid = -1;
    CHECK_EQUAL(puppet_do(task, PUPPET_AWAIT_IMPORT), -ERANGE);
    CHECK_EQUAL(aiopip_expect(root->peer, 0, &word), -EINVAL);
    CHECK_EQUAL(aiopip_generation(root->peer, 4), -ERANGE);
    CHECK_EQUAL(aiopip_generation(root->peer, 3), 0);
    CHECK_EQUAL(aiopip_generation(root->peer, task->task.pipid), task->task.generation);
    CHECK_EQUAL(aiopip_peer_pipid(root->peer), AIOPIP_PIPID_ROOT);
    scene_end(&scene);
}

static void use_after_fork(const void *argument)
{
    const struct puppet *root = argument;
    aiopip_hold *hold;
    uint64_t id;

    CHECK_EQUAL(aiopip_export(root->peer, "y", 1, &root->order->array, &id), -ESRCH);
    CHECK_EQUAL(aiopip_withdraw(root->peer, root->order->id), -ESRCH);
    CHECK_EQUAL(aiopip_released(root->peer, &id, 1), -ESRCH);
    CHECK_EQUAL(aiopip_import(root->peer, AIOPIP_PIPID_ROOT, 0, "x", 1, &hold), -ESRCH);
    CHECK_EQUAL(aiopip_hold_narrow(root->order->hold, 0, 1, &hold), -ESRCH);
    CHECK_EQUAL(aiopip_lock_of_peer(root->peer, 0, AIOPIP_LOCK_TRY, NULL), -ESRCH);
    aiopip_hold_release(root->order->hold);
}

static void test_forked_child_shares_nothing(void)
{
    struct scene scene = scene_begin();
    struct puppet *root = &scene.puppets[0], *task = &scene.puppets[1];
    uint8_t *memory = puppet_make(root, PAGE);

    CHECK_EQUAL(puppet_export(root, "x", memory, PAGE, 0), 0);
    CHECK_EQUAL(puppet_import(root, root, "x"), 0);
    check_in_child(use_after_fork, root);
    CHECK_EQUAL(puppet_import(task, root, "x"), 0);
    CHECK_EQUAL(puppet_withdraw(root, root->order->id), 1);
    CHECK_EQUAL(puppet_release(root, root->order->hold), 0);
    CHECK_EQUAL(puppet_do(root, PUPPET_RELEASED), 0);
    CHECK_EQUAL(puppet_release(task, task->order->hold), 0);
    puppet_await_release(root, root->order->id);
    scene_end(&scene);
}

/* ---- Who holds it ----------------------------------------------------------------------------- */

static void check_withdraw(struct puppet *exporter, struct puppet *importer)
{
    uint8_t *memory = puppet_make(exporter, PAGE);

    CHECK_EQUAL(puppet_export(exporter, "x", memory, PAGE, 0), 0);
    CHECK_EQUAL(puppet_withdraw(exporter, exporter->order->id), 0);
    CHECK_EQUAL(puppet_withdraw(exporter, exporter->order->id), -ENOENT);
    CHECK_EQUAL(puppet_import(importer, exporter, "x"), -EAGAIN);
    CHECK_EQUAL(puppet_export(exporter, "x", memory, PAGE, 0), 0);
    uint64_t id = exporter->order->id;
    CHECK_EQUAL(puppet_import(importer, exporter, "x"), 0);
    aiopip_hold *first = importer->order->hold;
    CHECK_EQUAL(puppet_import(importer, exporter, "x"), 0);
    aiopip_hold *second = importer->order->hold;
    CHECK_EQUAL(puppet_withdraw(exporter, id), 1);
    CHECK_EQUAL(puppet_withdraw(exporter, id), -ENOENT);
    CHECK_EQUAL(puppet_import(importer, exporter, "x"), -EAGAIN);
    /* Another one of that name does not hide the first's release, nor is it told in its place. */
    CHECK_EQUAL(puppet_export(exporter, "x", memory, PAGE, 0), 0);
    uint64_t other = exporter->order->id;
    CHECK_EQUAL(puppet_release(importer, first), 0);
    CHECK_EQUAL(puppet_do(exporter, PUPPET_RELEASED), 0);
    CHECK_EQUAL(puppet_release(importer, second), 0);
    puppet_await_release(exporter, id);
    CHECK_EQUAL(puppet_withdraw(exporter, other), 0);
}

static void test_withdraw_says_whether_it_is_held(void)
{
    for_all_pairs(check_withdraw);
}

/* The exporter sleeps already when the hold goes. */
static void test_release_wakes_a_task_that_waits(void)
{
    struct scene scene = scene_begin();

    for (int i = 0; i < 3; i++) {
        struct puppet *task = &scene.puppets[1], *importer = &scene.puppets[i];
        if (importer == task)
            continue;
        CHECK_EQUAL(puppet_export(task, "x", puppet_make(task, PAGE), PAGE, 0), 0);
        CHECK_EQUAL(puppet_import(importer, task, "x"), 0);
        CHECK_EQUAL(puppet_withdraw(task, task->order->id), 1);
        puppet_tell(task, PUPPET_AWAIT_RELEASE);
        CHECK_EQUAL(puppet_release(importer, importer->order->hold), 0);
        CHECK_EQUAL(puppet_await(task), 1);
        CHECK_EQUAL(task->order->ids[0], task->order->id);
    }
    scene_end(&scene);
}

/* An end releases, too: whether it was killed, and whether it exported and is acknowledged. */
static void test_end_of_the_importer_releases(void)
{
    aiopip_client *client = open_client(4);
    struct puppet exporters[2] = {puppet_root(client), puppet_start(client)};

    for (int i = 0; i < 8; i++) {
        struct puppet *exporter = &exporters[i % 2], importer = puppet_start(client);
        CHECK_EQUAL(puppet_export(exporter, "x", puppet_make(exporter, PAGE), PAGE, 0), 0);
        CHECK_EQUAL(puppet_import(&importer, exporter, "x"), 0);
        CHECK_EQUAL(puppet_withdraw(exporter, exporter->order->id), 1);
        if (i & 2)
            CHECK_EQUAL(puppet_export(&importer, "own", puppet_make(&importer, PAGE), 8, 0), 0);
        if (i & 4)
            puppet_kill(&importer);
        else
            puppet_exit(&importer);
        CHECK_EQUAL((importer.end.flags & AIOPIP_EVENT_ACKNOWLEDGE) != 0, (i & 2) != 0);
        if (i & 2)
            CHECK_EQUAL(puppet_do(exporter, PUPPET_RELEASED), 0);
        puppet_forget(&importer);
        puppet_await_release(exporter, exporter->order->id);
    }
    puppet_exit(&exporters[1]);
    puppet_forget(&exporters[0]);
    puppet_forget(&exporters[1]);
    check_clean(client);
    close_client(client);
}

/* All that is told is among the first of each `every`: how many there are. */
static int check_told(struct puppet *exporter, uint64_t *ids, int count, int every)
{
    int told = puppet_do(exporter, PUPPET_RELEASED);

    for (int i = 0; i < told; i++) {
        int at = 0;
        while (at < count && ids[at] != exporter->order->ids[i])
            at += every;
        CHECK(at < count);
        ids[at] = UINT64_MAX; /* once */
    }
    return told;
}

/* Export all, withdraw all; the importer has some of them. */
static void check_many(struct puppet *exporter, struct puppet *importer, int count)
{
    uint8_t *memory = puppet_make(exporter, PAGE);
    uint64_t *ids = malloc((size_t)count * sizeof *ids);
    aiopip_hold *holds[HELD_OF_MANY];
    int every = count / HELD_OF_MANY, held = 0;
    char name[16];

    for (int i = 0; i < count; i++) {
        snprintf(name, sizeof name, "many-%d", i);
        CHECK_EQUAL(puppet_export(exporter, name, memory + i % 8, 8, 0), 0);
        ids[i] = exporter->order->id;
        if (i % every)
            continue;
        CHECK_EQUAL(puppet_import(importer, exporter, name), 0);
        CHECK_EQUAL(hold_address(importer->order->hold), memory + i % 8);
        holds[i / every] = importer->order->hold;
    }
    for (int i = 0; i < count; i++)
        held += puppet_withdraw(exporter, ids[i]);
    CHECK_EQUAL(held, HELD_OF_MANY);
    for (int i = 0; i < HELD_OF_MANY; i++)
        puppet_release(importer, holds[i]);
    CHECK_EQUAL(check_told(exporter, ids, count, every), held);
    CHECK_EQUAL(puppet_do(exporter, PUPPET_RELEASED), 0);
    free(ids);
}

static void test_many_exports_are_told_apart(void)
{
    struct scene scene = scene_begin();

    check_many(&scene.puppets[0], &scene.puppets[1], MANY);
    check_many(&scene.puppets[1], &scene.puppets[0], MANY / 10);
    check_many(&scene.puppets[1], &scene.puppets[2], MANY / 10);
    scene_end(&scene);
}

/* More than the caller takes at once. */
static void test_released_tells_the_rest_the_next_time(void)
{
    struct scene scene = scene_begin();
    struct puppet *root = &scene.puppets[0], *task = &scene.puppets[1];
    uint8_t *memory = puppet_make(root, PAGE);
    aiopip_hold *holds[100];
    char name[16];

    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof name, "%d", i);
        CHECK_EQUAL(puppet_export(root, name, memory, 8, 0), 0);
        CHECK_EQUAL(puppet_import(task, root, name), 0);
        holds[i] = task->order->hold;
        CHECK_EQUAL(puppet_withdraw(root, root->order->id), 1);
    }
    for (int i = 0; i < 100; i++)
        puppet_release(task, holds[i]);
    CHECK_EQUAL(puppet_do(root, PUPPET_RELEASED), PUPPET_IDS);
    CHECK_EQUAL(puppet_do(root, PUPPET_RELEASED), 100 - PUPPET_IDS);
    CHECK_EQUAL(puppet_do(root, PUPPET_RELEASED), 0);
    scene_end(&scene);
}

int main(void)
{
    RUN(test_facts_come_back_exactly);
    RUN(test_hold_says_what_may_be_touched);
    RUN(test_names_have_up_to_255_bytes);
    RUN(test_names_of_one_hash_are_two);
    RUN(test_what_nobody_has_is_refused);
    RUN(test_forked_child_shares_nothing);
    RUN(test_withdraw_says_whether_it_is_held);
    RUN(test_release_wakes_a_task_that_waits);
    RUN(test_end_of_the_importer_releases);
    RUN(test_many_exports_are_told_apart);
    RUN(test_released_tells_the_rest_the_next_time);
    return 0;
}
