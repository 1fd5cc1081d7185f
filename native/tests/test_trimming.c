/* SPDX-License-Identifier: BSD-2-Clause
 *
 * test_trimming.c: what of a dead task's memory stays, and how long: what is held, page by page, and
 * what it exported to be kept.
 */
#include "core.h"
#include "puppets.h"

#define PAGE 4096
#define MIB (1UL << 20)
#define SEED 31

/* ---- Held pages ------------------------------------------------------------------------------- */

/* An exporter with much memory besides, dead and acknowledged. */
static struct puppet start_exporter(aiopip_client *client, size_t bytes, uint8_t **memory)
{
    struct puppet exporter = puppet_start(client);

    memset(puppet_make(&exporter, 64 * MIB), 1, 64 * MIB);
    *memory = puppet_make(&exporter, bytes);
    fill(*memory, bytes, SEED);
    memset(puppet_make(&exporter, 64 * MIB), 1, 64 * MIB);
    return exporter;
}

static void end_exporter(struct puppet *exporter, bool killed)
{
    if (killed)
        puppet_kill(exporter);
    else
        puppet_exit(exporter);
    CHECK(exporter->end.flags & AIOPIP_EVENT_ACKNOWLEDGE);
    puppet_forget(exporter);
}

static void test_held_pages_alone_stay(void)
{
    aiopip_client *client = open_client(4);
    struct puppet root = puppet_root(client);

    for (int i = 0; i < 2; i++) {
        uint8_t *memory;
        struct puppet exporter = start_exporter(client, 8 * PAGE, &memory);
        /* In the midst of pages: two of them. */
        CHECK_EQUAL(puppet_export(&exporter, "x", memory + PAGE + 8, PAGE, 0), 0);
        CHECK_EQUAL(puppet_export(&exporter, "y", memory + 6 * PAGE, 1, 0), 0);
        CHECK_EQUAL(puppet_import(&root, &exporter, "x"), 0);
        aiopip_hold *first = root.order->hold;
        CHECK_EQUAL(puppet_import(&root, &exporter, "y"), 0);
        CHECK(bytes_of_tasks() > 128 * MIB);
        end_exporter(&exporter, i == 1);
        CHECK_SOON(bytes_of_tasks() == 3 * PAGE);
        CHECK_EQUAL(check_mappings_in((uintptr_t)memory + PAGE, (uintptr_t)memory + 3 * PAGE), 1);
        CHECK(is_intact(memory + PAGE + 8, PAGE, SEED + PAGE + 8));
        CHECK_EQUAL(statistics_of(client).held, 1);
        puppet_release(&root, root.order->hold);
        CHECK_SOON(bytes_of_tasks() == 2 * PAGE);
        CHECK(is_intact(memory + PAGE + 8, PAGE, SEED + PAGE + 8));
        puppet_release(&root, first);
        check_clean(client);
    }
    puppet_forget(&root);
    close_client(client);
}

/* Both by a task and by the root, of the same pages and of others. */
static void test_pages_stay_until_the_last_holder_of_them_goes(void)
{
    aiopip_client *client = open_client(4);
    struct puppet root = puppet_root(client), task = puppet_start(client);
    uint8_t *memory;
    struct puppet exporter = start_exporter(client, 8 * PAGE, &memory);

    CHECK_EQUAL(puppet_export(&exporter, "x", memory, 3 * PAGE, 0), 0);
    CHECK_EQUAL(puppet_export(&exporter, "y", memory + 2 * PAGE, 3 * PAGE, 0), 0);
    CHECK_EQUAL(puppet_import(&root, &exporter, "x"), 0);
    CHECK_EQUAL(puppet_import(&task, &exporter, "y"), 0);
    end_exporter(&exporter, true);
    CHECK_SOON(check_mappings_in((uintptr_t)memory + 5 * PAGE, (uintptr_t)memory + 6 * PAGE) == 0);
    CHECK(is_intact(memory, 5 * PAGE, SEED));
    puppet_release(&root, root.order->hold);
    CHECK_SOON(check_mappings_in((uintptr_t)memory, (uintptr_t)memory + 2 * PAGE) == 0);
    CHECK(is_intact(memory + 2 * PAGE, 3 * PAGE, SEED + 2 * PAGE));
    puppet_kill(&task);
    puppet_forget(&task);
    puppet_forget(&root);
    check_clean(client);
    close_client(client);
}

/* What is let go while the rest is being unmapped is going: who wants the slot is told to wait, never
 * that it is taken. */
static void test_what_is_let_go_while_it_is_trimmed_is_going(void)
{
    aiopip_client *client = open_client(4);
    struct puppet root = puppet_root(client);
    const char *const argv[] = {"actions", "exit", "0", NULL};

    for (int i = 0; i < 10; i++) {
        uint8_t *memory;
        struct puppet exporter = start_exporter(client, PAGE, &memory);
        struct spawned next;
        struct timespec since;
        int result;
        CHECK_EQUAL(puppet_export(&exporter, "x", memory, PAGE, 0), 0);
        CHECK_EQUAL(puppet_import(&root, &exporter, "x"), 0);
        struct aiopip_spawn_request request = plain_request(task_program("actions"));
        request.pipid = exporter.task.pipid;
        kill_point_pause(KILL_AT_RECLAIM_UNMAPPING);
        end_exporter(&exporter, false);
        CHECK_SOON(kill_point_is_paused());
        puppet_release(&root, root.order->hold);
        kill_point_resume();
        clock_gettime(CLOCK_MONOTONIC, &since);
        while ((result = spawn_request(client, request, argv, NULL, &next)) == -EAGAIN)
            CHECK(!check_is_late(&since));
        CHECK_EQUAL(result, 0);
        CHECK_EQUAL(finish(client, next), 0);
    }
    puppet_forget(&root);
    check_clean(client);
    close_client(client);
}

static void test_narrow_hold_keeps_its_pages(void)
{
    aiopip_client *client = open_client(4);
    struct puppet root = puppet_root(client);
    struct order *order = root.order;
    struct aiopip_array array;
    uint8_t *memory;
    struct puppet exporter = start_exporter(client, 64 * PAGE, &memory);

    CHECK_EQUAL(puppet_export(&exporter, "x", memory, 64 * PAGE, 0), 0);
    CHECK_EQUAL(puppet_import(&root, &exporter, "x"), 0);
    aiopip_hold *wide = order->hold;
    order->address = (uintptr_t)memory + 10 * PAGE;
    order->bytes = PAGE;
    CHECK_EQUAL(puppet_do(&root, PUPPET_NARROW), 0);
    aiopip_hold *narrow = order->hold;
    aiopip_hold_array(narrow, &array);
    CHECK(array.start == order->address && array.end == order->address + PAGE);
    CHECK_EQUAL(puppet_do(&root, PUPPET_CHECK), 1);
    order->bytes = PAGE + 1;
    CHECK_EQUAL(puppet_do(&root, PUPPET_CHECK), -EFAULT);
    CHECK_EQUAL(puppet_withdraw(&exporter, exporter.order->id), 1);
    puppet_release(&root, wide);
    CHECK_EQUAL(puppet_do(&exporter, PUPPET_RELEASED), 0);
    puppet_exit(&exporter);
    puppet_forget(&exporter);
    CHECK_SOON(bytes_of_tasks() == PAGE);
    CHECK(is_intact(memory + 10 * PAGE, PAGE, SEED + 10 * PAGE));
    puppet_release(&root, narrow);
    check_clean(client);
    puppet_forget(&root);
    close_client(client);
}

static void test_held_pages_outlive_the_client(void)
{
    aiopip_client *client = open_client(4);
    struct puppet root = puppet_root(client);
    uint8_t *memory;
    struct puppet exporter = start_exporter(client, 4 * PAGE, &memory);
    aiopip_hold *holds[2], *narrow;

    for (int i = 0; i < 2; i++) {
        CHECK_EQUAL(puppet_export(&exporter, i ? "y" : "x", memory + 2 * i * PAGE, PAGE, 0), 0);
        CHECK_EQUAL(puppet_import(&root, &exporter, i ? "y" : "x"), 0);
        holds[i] = root.order->hold;
    }
    puppet_exit(&exporter); /* not acknowledged: the close does that */
    free(exporter.order);
    puppet_forget(&root);
    close_client(client);
    CHECK_EQUAL(bytes_of_tasks(), 2 * PAGE);
    CHECK_EQUAL(aiopip_hold_narrow(holds[0], (uintptr_t)memory, 8, &narrow), 0);
    aiopip_hold_release(holds[0]);
    CHECK_EQUAL(bytes_of_tasks(), 2 * PAGE);
    CHECK(is_intact(memory, PAGE, SEED));
    aiopip_hold_release(narrow);
    CHECK_EQUAL(bytes_of_tasks(), PAGE);
    aiopip_hold_release(holds[1]);
    CHECK_EQUAL(mappings_of_tasks(), 0);
}

/* A C program says where something begins, and no more. */
static void test_c_export_holds_everything(void)
{
    aiopip_client *client = open_client(4);
    struct puppet root = puppet_root(client);
    uint8_t *memory;
    struct puppet exporter = start_exporter(client, 4 * PAGE, &memory);

    puppet_name(&exporter, "x", 1);
    exporter.order->address = (uintptr_t)memory;
    CHECK_EQUAL(puppet_do(&exporter, PUPPET_PIP_EXPORT), 0);
    CHECK_EQUAL(puppet_import(&root, &exporter, "x"), 0);
    end_exporter(&exporter, false);
    CHECK_SOON(statistics_of(client).held == 1);
    CHECK(bytes_of_tasks() > 128 * MIB);
    CHECK(is_intact(memory, 4 * PAGE, SEED));
    puppet_release(&root, root.order->hold);
    check_clean(client);
    puppet_forget(&root);
    close_client(client);
}

/* ---- Imports as C makes them ------------------------------------------------------------------ */

static uint32_t holds_of(const struct puppet *puppet)
{
    struct control *control = puppet->client->core->control;
    const struct slot *slot = &control->slots[puppet->task.pipid];

    return atomic_load(&slot->block->sharing.holds.used);
}

static void test_c_import_holds_everything_once(void)
{
    aiopip_client *client = open_client(4);
    struct puppet importer = puppet_start(client);
    uint8_t *memory;
    struct puppet exporter = start_exporter(client, 4 * PAGE, &memory);

    CHECK_EQUAL(puppet_export(&exporter, "x", memory, PAGE, 0), 0);
    puppet_seek(&importer, &exporter, "x");
    for (int i = 0; i < 100; i++) {
        CHECK_EQUAL(puppet_do(&importer, i % 2 ? PUPPET_PIP_IMPORT : PUPPET_PIP_TRY), 0);
        CHECK_EQUAL(importer.order->address, memory);
    }
    CHECK(holds_of(&importer) <= 2);
    CHECK_EQUAL(puppet_withdraw(&exporter, exporter.order->id), 1);
    puppet_exit(&exporter);
    puppet_forget(&exporter);
    CHECK_SOON(statistics_of(client).held == 1);
    CHECK(bytes_of_tasks() > 128 * MIB);
    puppet_exit(&importer);
    puppet_forget(&importer);
    check_clean(client);
    close_client(client);
}

/* ---- Exports that are kept -------------------------------------------------------------------- */

static struct puppet start_keeper(aiopip_client *client, uint8_t **memory)
{
    struct puppet keeper = start_exporter(client, 4 * PAGE, memory);

    CHECK_EQUAL(puppet_export(&keeper, "kept", *memory, PAGE, AIOPIP_EXPORT_KEEP), 0);
    return keeper;
}

static void test_kept_export_goes_with_its_first_import(void)
{
    aiopip_client *client = open_client(4);
    struct puppet root = puppet_root(client), task = puppet_start(client);

    for (int i = 0; i < 4; i++) {
        struct puppet *importer = i % 2 ? &task : &root;
        uint8_t *memory;
        struct puppet keeper = start_keeper(client, &memory);
        CHECK_EQUAL(puppet_export(&keeper, "other", memory, PAGE, 0), 0);
        end_exporter(&keeper, i < 2);
        CHECK_SOON(statistics_of(client).held == 1);
        CHECK_EQUAL(puppet_import(importer, &keeper, "kept"), 0);
        CHECK(is_intact((uint8_t *)hold_address(importer->order->hold), PAGE, SEED));
        CHECK_EQUAL(puppet_release(importer, importer->order->hold), 0);
        CHECK_SOON(statistics_of(client).held + statistics_of(client).reclaiming == 0);
        CHECK_EQUAL(puppet_import(importer, &keeper, "kept"), -ECANCELED);
    }
    puppet_exit(&task);
    puppet_forget(&task);
    puppet_forget(&root);
    check_clean(client);
    close_client(client);
}

/* Imported and released before the end, it is kept no more; while it is held, it still is. */
static void test_imports_before_the_end_count(void)
{
    aiopip_client *client = open_client(4);
    struct puppet root = puppet_root(client);
    uint8_t *memory;

    struct puppet keeper = start_keeper(client, &memory);
    CHECK_EQUAL(puppet_import(&root, &keeper, "kept"), 0);
    puppet_release(&root, root.order->hold);
    end_exporter(&keeper, false);
    check_clean(client);

    keeper = start_keeper(client, &memory);
    CHECK_EQUAL(puppet_import(&root, &keeper, "kept"), 0);
    aiopip_hold *first = root.order->hold;
    end_exporter(&keeper, false);
    CHECK_EQUAL(puppet_import(&root, &keeper, "kept"), 0);
    aiopip_hold *second = root.order->hold;
    puppet_release(&root, first);
    CHECK(is_intact(memory, PAGE, SEED));
    puppet_release(&root, second);
    puppet_forget(&root);
    check_clean(client);
    close_client(client);
}

static void test_withdrawn_export_is_not_kept(void)
{
    aiopip_client *client = open_client(4);
    uint8_t *memory;
    struct puppet keeper = start_keeper(client, &memory);

    CHECK_EQUAL(puppet_withdraw(&keeper, keeper.order->id), 0);
    puppet_exit(&keeper);
    CHECK(!(keeper.end.flags & AIOPIP_EVENT_ACKNOWLEDGE));
    puppet_forget(&keeper);
    check_clean(client);
    close_client(client);
}

static void test_kept_export_goes_with_the_client(void)
{
    aiopip_client *client = open_client(4), *other = open_client(4);
    uint8_t *memory;
    struct puppet keeper = start_keeper(client, &memory);

    end_exporter(&keeper, false);
    CHECK_SOON(statistics_of(client).held == 1);
    CHECK_EQUAL(aiopip_close(client), 0);
    check_clean(other);
    keeper = start_keeper(other, &memory);
    end_exporter(&keeper, true);
    close_client(other);
    CHECK_EQUAL(mappings_of_tasks(), 0);
}

/* An import of one's own, or of one who has imports of ours, is over with the end. */
static void test_exports_do_not_keep_themselves(void)
{
    aiopip_client *client = open_client(4);
    uint8_t *memory;
    struct puppet first = start_keeper(client, &memory), second = start_keeper(client, &memory);

    CHECK_EQUAL(puppet_import(&first, &first, "kept"), 0);
    CHECK_EQUAL(puppet_import(&first, &second, "kept"), 0);
    CHECK_EQUAL(puppet_import(&second, &first, "kept"), 0);
    puppet_exit(&first);
    puppet_kill(&second);
    puppet_forget(&first);
    puppet_forget(&second);
    check_clean(client);
    close_client(client);
}

int main(void)
{
    RUN(test_held_pages_alone_stay);
    RUN(test_pages_stay_until_the_last_holder_of_them_goes);
    RUN(test_what_is_let_go_while_it_is_trimmed_is_going);
    RUN(test_narrow_hold_keeps_its_pages);
    RUN(test_held_pages_outlive_the_client);
    RUN(test_c_export_holds_everything);
    RUN(test_c_import_holds_everything_once);
    RUN(test_kept_export_goes_with_its_first_import);
    RUN(test_imports_before_the_end_count);
    RUN(test_withdrawn_export_is_not_kept);
    RUN(test_kept_export_goes_with_the_client);
    RUN(test_exports_do_not_keep_themselves);
    return 0;
}
