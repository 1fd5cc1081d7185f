/* SPDX-License-Identifier: BSD-2-Clause
 *
 * test_kills.c: at each point of kill_points.h somebody is killed: the exporter, or the importer,
 * that has come there, and at the root's points the other party.  Who is left has right data, gets
 * his releases, and nothing stays behind.
 */
#include "puppets.h"

#define PAGE 4096
#define SEED 5
#define ROUNDS 3

static aiopip_client *client;
static uint32_t kills[KILL_POINT_COUNT][ROUNDS + 1]; /* at the n-th time that a point was reached */

#define POINT_NAME(name) #name,
static const char *const point_names[] = {KILL_POINTS(POINT_NAME)};
#undef POINT_NAME

/* ---- An exchange ------------------------------------------------------------------------------ */

/* The exporter has an array of its own, "x", and one from the origin, "y". */
struct show {
    struct puppet origin, exporter, importer;
    uint8_t *memory, *distant; /* the exporter's page, and the origin's */
    uint64_t first;            /* the origin's export */
    aiopip_hold *of_origin, *of_x, *of_y;
    uint64_t x, y;
    aiopip_lock_t lock;
};

static bool is_dead(struct puppet *puppet)
{
    return puppet_has_ended(puppet);
}

/* What a call may come to when it works: it, or its caller's death, or, when the other is dead, what
 * is said then. */
static bool succeeds(int result, struct puppet *caller, struct puppet *other)
{
    if (result == PUPPET_DIED) {
        CHECK(is_dead(caller));
        CHECK_EQUAL(caller->end.wait_status, SIGKILL);
        return false;
    }
    if (result < 0) {
        CHECK(is_dead(other));
        CHECK_EQUAL(result, -ECANCELED);
        return false;
    }
    return true;
}

static aiopip_hold *import(struct puppet *importer, struct puppet *exporter, const char *name)
{
    int result = puppet_import(importer, exporter, name);

    return succeeds(result, importer, exporter) ? importer->order->hold : NULL;
}

static void release(struct puppet *importer, aiopip_hold **hold)
{
    if (*hold)
        puppet_release(importer, *hold);
    *hold = NULL;
}

/* The end of an exporter that lives: all that it has withdrawn is told, sooner or later. */
static void withdraw(struct puppet *exporter, uint64_t id, bool held)
{
    int result = puppet_withdraw(exporter, id);

    if (result == PUPPET_DIED)
        return;
    CHECK(result == 1 || (result == 0 && !held));
}

static void await_release(struct puppet *exporter, struct puppet *importer, uint64_t id)
{
    if (is_dead(exporter))
        return;
    if (is_dead(importer))
        puppet_acknowledge(importer);
    if (exporter->peer) {
        int told;
        while ((told = puppet_do(exporter, PUPPET_RELEASED)) == 0)
            await(client, 0, AIOPIP_EVENT_RELEASED);
        CHECK_EQUAL(told, 1);
    } else if (puppet_do(exporter, PUPPET_AWAIT_RELEASE) == PUPPET_DIED) {
        return;
    }
    CHECK_EQUAL(exporter->order->ids[0], id);
}

static void check_data(const struct show *show)
{
    CHECK(!show->of_x || is_intact(show->memory, PAGE, SEED));
    CHECK(!show->of_y || is_intact(show->distant, PAGE, SEED + PAGE));
}

/* A lock goes from one to the other. */
static void pass_lock(struct show *show)
{
    struct puppet *pair[] = {&show->exporter, &show->importer};

    for (int i = 0; i < 2; i++) {
        if (pair[i]->peer)
            continue;
        pair[i]->order->lock = &show->lock;
        pair[i]->order->timeout_ms = CHECK_DEADLINE_S * 1000;
        int result = puppet_do(pair[i], PUPPET_ACQUIRE);
        if (result == -EOWNERDEAD) {
            CHECK(is_dead(pair[1 - i]));
            CHECK_EQUAL(puppet_do(pair[i], PUPPET_RECOVER), 0);
            result = 0;
        }
        if (result != PUPPET_DIED) {
            CHECK_EQUAL(result, 0);
            result = puppet_do(pair[i], PUPPET_GIVE_BACK);
        }
        CHECK(result == 0 || (result == PUPPET_DIED && is_dead(pair[i])));
    }
}

/* One round, by whoever lives. */
static void play(struct show *show)
{
    struct puppet *exporter = &show->exporter, *importer = &show->importer;
    bool has_x = puppet_export(exporter, "x", show->memory, PAGE, 0) == 0;
    show->x = exporter->order->id;

    show->of_x = import(importer, exporter, "x");
    check_data(show);
    show->of_origin = import(exporter, &show->origin, "origin");
    bool has_y = show->of_origin && puppet_export(exporter, "y", show->distant, PAGE, 0) == 0;
    show->y = exporter->order->id;
    show->of_y = import(importer, exporter, "y");
    check_data(show);
    pass_lock(show);
    if (has_x) {
        bool held = show->of_x && !is_dead(importer);
        withdraw(exporter, show->x, held);
        check_data(show);
        bool told = exporter->order->result == 0;
        release(importer, &show->of_x);
        if (!told)
            await_release(exporter, importer, show->x);
    }
    if (is_dead(exporter))
        puppet_acknowledge(exporter);
    check_data(show);
    release(importer, &show->of_x);
    release(importer, &show->of_y);
    if (has_y && puppet_withdraw(exporter, show->y) == 1)
        await_release(exporter, importer, show->y);
    release(exporter, &show->of_origin);
}

static void end_puppet(struct puppet *puppet)
{
    if (!puppet->peer && !is_dead(puppet))
        puppet_exit(puppet);
    if (puppet->end.kind && puppet->end.wait_status == SIGKILL) {
        struct order *order = puppet->order;
        kills[atomic_load(&order->stop_at)][atomic_load(&order->stop_nth)]++;
    }
    puppet_forget(puppet);
}

/* The origin has its array back when both have gone; all go, and nothing is left. */
static void finish_show(struct show *show)
{
    end_puppet(&show->exporter);
    end_puppet(&show->importer);
    if (puppet_withdraw(&show->origin, show->first) == 1)
        puppet_await_release(&show->origin, show->first);
    puppet_exit(&show->origin);
    puppet_forget(&show->origin);
    check_clean(client);
}

static void start_show(struct show *show, bool root_exports, bool root_imports)
{
    *show = (struct show){.origin = puppet_start(client)};
    show->exporter = root_exports ? puppet_root(client) : puppet_start(client);
    show->importer = root_imports ? puppet_root(client) : puppet_start(client);
    show->distant = puppet_make(&show->origin, PAGE);
    fill(show->distant, PAGE, SEED + PAGE);
    CHECK_EQUAL(puppet_export(&show->origin, "origin", show->distant, PAGE, 0), 0);
    show->first = show->origin.order->id;
    show->memory = puppet_make(&show->exporter, PAGE);
    fill(show->memory, PAGE, SEED);
    puppet_make(&show->importer, PAGE);
}

/* ---- Tasks that are killed where they are ----------------------------------------------------- */

static void kill_at(enum kill_point point, uint32_t nth, bool exporter, bool root)
{
    struct show show;

    start_show(&show, root && !exporter, root && exporter);
    struct order *order = exporter ? show.exporter.order : show.importer.order;
    memset(order->reached, 0, sizeof order->reached);
    atomic_store(&order->stop_at, point);
    atomic_store(&order->stop_nth, nth);
    for (int i = 0; i < ROUNDS; i++)
        play(&show);
    finish_show(&show);
}

static void kill_all(bool exporter)
{
    for (int point = 0; point < KILL_AT_SPAWN_CLONED; point++)
        for (uint32_t nth = 1; nth <= ROUNDS; nth++)
            for (int root = 0; root < 2; root++)
                kill_at((enum kill_point)point, nth, exporter, root);
}

static void test_exporter_is_killed_at_each_point(void)
{
    kill_all(true);
}

static void test_importer_is_killed_at_each_point(void)
{
    kill_all(false);
}

/* ---- The root's points ------------------------------------------------------------------------ */

static _Atomic int armed = -1; /* the point */
static _Atomic pid_t victim;

/* By the root's thread that has come there, the core's lock taken or not. */
static void kill_victim(enum kill_point point)
{
    int expected = (int)point;

    if (!atomic_compare_exchange_strong(&armed, &expected, -1))
        return;
    CHECK_EQUAL(kill(atomic_load(&victim), SIGKILL), 0);
    kills[point][1]++;
}

static pid_t pid_of(const struct puppet *puppet)
{
    return await(client, puppet->task.generation, AIOPIP_EVENT_STARTED).pid;
}

/* One party ends, or another task starts; the other one is killed when the root has come to a
 * point of that.  The root has both arrays, too. */
static void kill_other_at(enum kill_point point, bool exporter_ends)
{
    struct show show;
    struct puppet root = puppet_root(client);

    start_show(&show, false, false);
    struct puppet *ends = exporter_ends ? &show.exporter : &show.importer;
    struct puppet *other = exporter_ends ? &show.importer : &show.exporter;
    CHECK_EQUAL(puppet_export(&show.exporter, "x", show.memory, PAGE, 0), 0);
    show.x = show.exporter.order->id;
    show.of_x = import(&show.importer, &show.exporter, "x");
    show.of_origin = import(&show.exporter, &show.origin, "origin");
    CHECK_EQUAL(puppet_export(&show.exporter, "y", show.distant, PAGE, 0), 0);
    show.of_y = import(&show.importer, &show.exporter, "y");
    CHECK_EQUAL(puppet_export(&show.importer, "z", show.distant, PAGE, 0), 0);
    aiopip_hold *of_x = import(&root, &show.exporter, "x");
    aiopip_hold *of_z = import(&root, &show.importer, "z");
    atomic_store(&victim, pid_of(other));
    atomic_store(&armed, (int)point);
    if (point == KILL_AT_SPAWN_CLONED) {
        struct puppet another = puppet_start(client);
        puppet_exit(&another);
        puppet_forget(&another);
    }
    puppet_exit(ends);
    puppet_acknowledge(ends);
    CHECK_SOON(atomic_load(&armed) == -1);
    CHECK_EQUAL(puppet_await_end(other), SIGKILL);
    check_data(&show);
    puppet_forget(other);
    puppet_forget(ends);
    CHECK_SOON(statistics_of(client).reclaiming == 0);
    check_data(&show);
    release(&root, &of_x);
    CHECK(is_intact(show.distant, PAGE, SEED + PAGE));
    CHECK_EQUAL(puppet_withdraw(&show.origin, show.first), 1);
    release(&root, &of_z);
    puppet_await_release(&show.origin, show.first);
    puppet_exit(&show.origin);
    puppet_forget(&show.origin);
    puppet_forget(&root);
    check_clean(client);
}

static void test_other_party_is_killed_at_each_point_of_the_root(void)
{
    kill_point_hook = kill_victim;
    for (int point = KILL_AT_SPAWN_CLONED; point < KILL_POINT_COUNT; point++)
        for (int i = 0; i < 2; i++)
            kill_other_at((enum kill_point)point, i);
    kill_point_hook = NULL;
}

/* ---- All -------------------------------------------------------------------------------------- */

/* A point that nobody comes to is none: the list stays true. */
static void test_each_point_was_come_to(void)
{
    for (int point = 0; point < KILL_POINT_COUNT; point++)
        for (int nth = 1; nth <= (point < KILL_AT_SPAWN_CLONED ? ROUNDS : 1); nth++) {
            if (kills[point][nth] == 0)
                fprintf(stderr, "nobody was killed at %s, time %d\n", point_names[point], nth);
            CHECK(kills[point][nth] > 0);
        }
}

int main(void)
{
    client = open_client(6);
    RUN(test_exporter_is_killed_at_each_point);
    RUN(test_importer_is_killed_at_each_point);
    RUN(test_other_party_is_killed_at_each_point_of_the_root);
    RUN(test_each_point_was_come_to);
    close_client(client);
    return 0;
}
