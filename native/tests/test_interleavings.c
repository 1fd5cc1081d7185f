/* SPDX-License-Identifier: BSD-2-Clause
 *
 * test_interleavings.c: one party stops at each point of what it does, the other one does all of its
 * own in between, then the first goes on.  Nobody is told that an array is his alone while another
 * has it, and nobody waits for a release that has been.
 */
#include "puppets.h"

#define PAGE 4096
#define SEED 91
#define MUCH (64 * PAGE)

static aiopip_client *client;

/* A, and whoever has an array from A and exports it again; the importer; the exporter's memory: an
 * array, another one, and much that nobody wants. */
struct scene {
    struct puppet first, exporter, importer;
    uint8_t *memory, *other, *rest;
    uint64_t id, first_id, anew;
    int withdrawn;     /* what the withdrawal in between came to */
    aiopip_hold *hold; /* that was there before */
    aiopip_hold *new;  /* imported in between */
    int imported;
    bool forwards;
};

static struct scene scene;

/* ---- Stopping --------------------------------------------------------------------------------- */

static enum kill_point root_point;
static uint32_t root_nth;
static void (*root_act)(void);

/* The root, as a party, in whose thread the other one's part is played. */
static void in_the_root(enum kill_point point)
{
    if (point != root_point || !root_nth || --root_nth)
        return;
    root_act();
}

/* Have a puppet do something, and at the n-th time that it comes to a point, act.  False when it
 * did not come so far. */
static bool act_at(struct puppet *puppet, enum puppet_call call, enum kill_point point,
                   uint32_t nth, void (*act)(void))
{
    struct order *order = puppet->order;

    if (puppet->peer) {
        root_point = point;
        root_nth = nth;
        root_act = act;
        kill_point_hook = in_the_root;
        puppet_do(puppet, call);
        kill_point_hook = NULL;
        return root_nth == 0;
    }
    memset(order->reached, 0, sizeof order->reached);
    atomic_store(&order->paused, 0);
    atomic_store(&order->resumed, 0);
    atomic_store(&order->pauses, 1);
    atomic_store(&order->stop_at, point);
    atomic_store(&order->stop_nth, nth);
    puppet_tell(puppet, call);
    CHECK_SOON(atomic_load(&order->paused) || puppet_is_done(puppet));
    bool came = atomic_load(&order->paused) != 0;
    if (came)
        act();
    atomic_store(&order->stop_nth, 0);
    atomic_store(&order->resumed, 1);
    shared_futex_wake(&order->resumed, 1);
    CHECK(puppet_await(puppet) != PUPPET_DIED);
    return came;
}

/* ---- Scenes ----------------------------------------------------------------------------------- */

static void begin(bool root_exports, bool root_imports, bool forwards)
{
    scene = (struct scene){.withdrawn = -1, .imported = -1, .forwards = forwards};
    scene.exporter = root_exports ? puppet_root(client) : puppet_start(client);
    scene.importer = root_imports ? puppet_root(client) : puppet_start(client);
    scene.first = puppet_start(client);
    struct puppet *owner = forwards ? &scene.first : &scene.exporter;
    scene.memory = puppet_make(owner, PAGE);
    scene.other = puppet_make(owner, PAGE);
    scene.rest = puppet_make(owner, MUCH);
    fill(scene.memory, PAGE, SEED);
    fill(scene.other, PAGE, SEED + 1);
    if (forwards) {
        CHECK_EQUAL(puppet_export(&scene.first, "a", scene.memory, PAGE, 0), 0);
        scene.first_id = scene.first.order->id;
        CHECK_EQUAL(puppet_import(&scene.exporter, &scene.first, "a"), 0);
    }
    CHECK_EQUAL(puppet_export(&scene.exporter, "x", scene.memory, PAGE, 0), 0);
    scene.id = scene.exporter.order->id;
}

static void end(void)
{
    struct puppet *puppets[] = {&scene.exporter, &scene.importer, &scene.first};

    kill_point_hook = NULL;
    for (int i = 0; i < 3; i++) {
        if (!puppets[i]->peer && !puppets[i]->end.kind)
            puppet_exit(puppets[i]);
        puppet_forget(puppets[i]);
    }
    check_clean(client);
}

static void let_go(struct puppet *importer, aiopip_hold *hold)
{
    if (hold)
        CHECK_EQUAL(puppet_release(importer, hold), 0);
}

/* ---- What the other one does in between ------------------------------------------------------- */

/* Withdrawn, and written over if it is the exporter's alone again. */
static void withdraw(void)
{
    scene.withdrawn = puppet_withdraw(&scene.exporter, scene.id);
    CHECK(scene.withdrawn == 0 || scene.withdrawn == 1);
    if (scene.withdrawn == 0)
        memset(scene.memory, 0, PAGE);
}

static void withdraw_and_export_anew(void)
{
    withdraw();
    CHECK_EQUAL(puppet_export(&scene.exporter, "x", scene.other, PAGE, 0), 0);
    scene.anew = scene.exporter.order->id;
}

static void kill_exporter(void)
{
    puppet_kill(&scene.exporter);
    puppet_acknowledge(&scene.exporter);
    CHECK_SOON(statistics_of(client).reclaiming == 0);
}

static void kill_exporter_and_withdraw(void)
{
    kill_exporter();
    scene.withdrawn = puppet_withdraw(&scene.first, scene.first_id);
    if (scene.withdrawn == 0)
        memset(scene.memory, 0, PAGE);
}

static void kill_exporter_and_first(void)
{
    kill_exporter();
    puppet_kill(&scene.first);
    puppet_acknowledge(&scene.first);
    CHECK_SOON(statistics_of(client).reclaiming == 0);
}

static void release_first_hold(void)
{
    let_go(&scene.importer, scene.hold);
    scene.hold = NULL;
}

static void kill_importer(void)
{
    puppet_kill(&scene.importer);
    puppet_acknowledge(&scene.importer);
    scene.hold = NULL;
}

static void import_meanwhile(void)
{
    scene.imported = puppet_import(&scene.importer, &scene.exporter, "x");
    scene.new = scene.imported == 0 ? scene.importer.order->hold : NULL;
}

/* ---- Imports ---------------------------------------------------------------------------------- */

static const enum kill_point import_points[] = {
    KILL_AT_IMPORT_ENTERED, KILL_AT_HOLD_TAKEN,      KILL_AT_HOLD_WRITTEN,
    KILL_AT_IMPORT_OPEN,    KILL_AT_IMPORT_FOUND,    KILL_AT_IMPORT_CLAIMED,
    KILL_AT_IMPORT_CHECKED, KILL_AT_IMPORT_NARROWED, KILL_AT_IMPORT_DONE};

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* What was imported is right, and what was withdrawn is told. */
static void check_import(void (*act)(void))
{
    struct order *order = scene.importer.order;
    aiopip_hold *hold = order->result == 0 ? order->hold : NULL;

    if (hold && hold_address(hold) == (uintptr_t)scene.other) {
        CHECK(is_intact(scene.other, PAGE, SEED + 1));
    } else if (hold) {
        CHECK(scene.withdrawn != 0);
        CHECK(is_intact(scene.memory, PAGE, SEED));
    } else {
        CHECK(act != withdraw_and_export_anew);
        CHECK(order->result == -ECANCELED ||
              (order->result == -EAGAIN && !scene.exporter.end.kind));
    }
    if (scene.exporter.end.kind) /* all but what is held goes, also by an import that came late */
        CHECK_SOON(check_mappings_in((uintptr_t)scene.rest, (uintptr_t)scene.rest + MUCH) == 0);
    CHECK(!hold || hold_address(hold) == (uintptr_t)scene.other ||
          is_intact(scene.memory, PAGE, SEED));
    let_go(&scene.importer, hold);
    if (scene.withdrawn == 1)
        puppet_await_release(&scene.exporter, scene.id);
    if (act == withdraw_and_export_anew)
        CHECK_EQUAL(puppet_withdraw(&scene.exporter, scene.anew), 0);
}

static void stop_imports(void (*act)(void), bool root_may_export)
{
    for (size_t i = 0; i < COUNT(import_points); i++)
        for (int who = 0; who < (root_may_export ? 3 : 2); who++) {
            begin(who == 2, who == 1, false);
            puppet_seek(&scene.importer, &scene.exporter, "x");
            CHECK(act_at(&scene.importer, PUPPET_IMPORT, import_points[i], 1, act));
            check_import(act);
            end();
        }
}

static void test_import_while_it_is_withdrawn(void)
{
    stop_imports(withdraw, true);
}

static void test_import_while_it_is_exported_anew(void)
{
    stop_imports(withdraw_and_export_anew, true);
}

static void test_import_while_the_exporter_is_reclaimed(void)
{
    stop_imports(kill_exporter, false);
}

/* Of what the exporter has from the first one. */
static void stop_forwarded(void (*act)(void), enum kill_point point, bool root_imports)
{
    struct order *order;

    begin(false, root_imports, true);
    order = scene.importer.order;
    puppet_seek(&scene.importer, &scene.exporter, "x");
    /* The second hold is the one of the first exporter's array. */
    uint32_t nth = point == KILL_AT_HOLD_TAKEN || point == KILL_AT_HOLD_WRITTEN ? 2 : 1;
    CHECK(act_at(&scene.importer, PUPPET_IMPORT, point, nth, act));
    CHECK(order->result == 0 || order->result == -ECANCELED);
    aiopip_hold *hold = order->result == 0 ? order->hold : NULL;
    if (scene.first.end.kind)
        CHECK_SOON(check_mappings_in((uintptr_t)scene.rest, (uintptr_t)scene.rest + MUCH) == 0);
    CHECK(!hold || (scene.withdrawn != 0 && is_intact(scene.memory, PAGE, SEED)));
    let_go(&scene.importer, hold);
    if (scene.withdrawn == 1)
        puppet_await_release(&scene.first, scene.first_id);
    end();
}

static void test_import_while_the_one_between_ends(void)
{
    for (size_t i = 0; i < COUNT(import_points); i++)
        for (int who = 0; who < 2; who++) {
            stop_forwarded(kill_exporter_and_withdraw, import_points[i], who);
            stop_forwarded(kill_exporter_and_first, import_points[i], who);
        }
    stop_forwarded(kill_exporter_and_withdraw, KILL_AT_IMPORT_FORWARDED, false);
    stop_forwarded(kill_exporter_and_withdraw, KILL_AT_IMPORT_FORWARDED, true);
    stop_forwarded(kill_exporter_and_first, KILL_AT_IMPORT_FORWARDED, false);
    stop_forwarded(kill_exporter_and_first, KILL_AT_IMPORT_FORWARDED, true);
}

/* ---- Withdrawals ------------------------------------------------------------------------------ */

static const enum kill_point withdraw_points[] = {
    KILL_AT_WITHDRAW_MARKED, KILL_AT_WITHDRAW_LISTENS, KILL_AT_WITHDRAW_LOOKS,
    KILL_AT_HOLD_TAKEN,      KILL_AT_HOLD_WRITTEN,     KILL_AT_IMPORT_OPEN,
    KILL_AT_DROP_ENTERED,    KILL_AT_HOLD_CLEARED,     KILL_AT_DROP_TOLD};

/* The importer has it, and lets go meanwhile, or ends, or imports it once more. */
static void stop_withdrawals(void (*act)(void))
{
    for (size_t i = 0; i < COUNT(withdraw_points); i++)
        for (int root = 0; root < 2; root++) {
            begin(root, false, false);
            CHECK_EQUAL(puppet_import(&scene.importer, &scene.exporter, "x"), 0);
            scene.hold = scene.importer.order->hold;
            scene.exporter.order->id = scene.id;
            CHECK(act_at(&scene.exporter, PUPPET_WITHDRAW, withdraw_points[i], 1, act));
            int result = scene.exporter.order->result;
            CHECK(result == 1 || (result == 0 && !scene.hold && !scene.new));
            let_go(&scene.importer, scene.hold);
            let_go(&scene.importer, scene.new);
            if (result == 1)
                puppet_await_release(&scene.exporter, scene.id);
            end();
        }
}

static void test_withdraw_while_it_is_released(void)
{
    stop_withdrawals(release_first_hold);
}

static void test_withdraw_while_the_importer_is_reclaimed(void)
{
    stop_withdrawals(kill_importer);
}

static void test_withdraw_while_it_is_imported(void)
{
    stop_withdrawals(import_meanwhile);
}

/* ---- Releases --------------------------------------------------------------------------------- */

static const enum kill_point release_points[] = {KILL_AT_DROP_ENTERED, KILL_AT_HOLD_CLEARED,
                                                 KILL_AT_DROP_TOLD};

static void stop_releases(void (*act)(void))
{
    for (size_t i = 0; i < COUNT(release_points); i++)
        for (int root = 0; root < 2; root++) {
            begin(false, root, false);
            CHECK_EQUAL(puppet_import(&scene.importer, &scene.exporter, "x"), 0);
            CHECK(act_at(&scene.importer, PUPPET_RELEASE, release_points[i], 1, act));
            if (scene.withdrawn == 1)
                puppet_await_release(&scene.exporter, scene.id);
            end();
        }
}

static void test_release_while_it_is_withdrawn(void)
{
    stop_releases(withdraw);
}

static void test_release_while_the_exporter_is_reclaimed(void)
{
    stop_releases(kill_exporter);
}

int main(void)
{
    client = open_client(6);
    RUN(test_import_while_it_is_withdrawn);
    RUN(test_import_while_it_is_exported_anew);
    RUN(test_import_while_the_exporter_is_reclaimed);
    RUN(test_import_while_the_one_between_ends);
    RUN(test_withdraw_while_it_is_released);
    RUN(test_withdraw_while_the_importer_is_reclaimed);
    RUN(test_withdraw_while_it_is_imported);
    RUN(test_release_while_it_is_withdrawn);
    RUN(test_release_while_the_exporter_is_reclaimed);
    close_client(client);
    return 0;
}
