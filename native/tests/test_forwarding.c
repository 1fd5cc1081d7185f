/* SPDX-License-Identifier: BSD-2-Clause
 *
 * test_forwarding.c: arrays that a task has from another peer and exports again: who has them from it
 * holds what the first exporter gave, whatever becomes of the one in between.
 */
#include "core.h"
#include "puppets.h"

#define PAGE 4096
#define SEED 57

/* The first exporter A, B in between, C at the end; A and C may be the root. */
struct chain {
    aiopip_client *client;
    struct puppet a, b, c;
    uint8_t *memory;        /* two pages of A's */
    uint64_t first, second; /* A's export, and B's */
    aiopip_hold *of_a, *of_b;
};

static struct puppet start(aiopip_client *client, bool root)
{
    return root ? puppet_root(client) : puppet_start(client);
}

static struct chain begin(bool root_first, bool root_last)
{
    struct chain chain = {.client = open_client(6)};

    chain.a = start(chain.client, root_first);
    chain.b = start(chain.client, false);
    chain.c = start(chain.client, root_last);
    chain.memory = puppet_make(&chain.a, 2 * PAGE);
    fill(chain.memory, 2 * PAGE, SEED);
    CHECK_EQUAL(puppet_export(&chain.a, "x", chain.memory, 2 * PAGE, 0), 0);
    chain.first = chain.a.order->id;
    CHECK_EQUAL(puppet_import(&chain.b, &chain.a, "x"), 0);
    chain.of_a = chain.b.order->hold;
    /* A part of it is exported again. */
    CHECK_EQUAL(puppet_export(&chain.b, "y", chain.memory + PAGE, PAGE, 0), 0);
    chain.second = chain.b.order->id;
    CHECK_EQUAL(puppet_import(&chain.c, &chain.b, "y"), 0);
    chain.of_b = chain.c.order->hold;
    CHECK_EQUAL(hold_address(chain.of_b), chain.memory + PAGE);
    return chain;
}

static void end(struct chain *chain)
{
    struct puppet *puppets[] = {&chain->a, &chain->b, &chain->c};

    for (int i = 0; i < 3; i++) {
        if (!puppets[i]->peer && !puppets[i]->end.kind)
            puppet_exit(puppets[i]);
        puppet_forget(puppets[i]);
    }
    check_clean(chain->client);
    close_client(chain->client);
}

static bool is_there(const struct chain *chain)
{
    return is_intact(chain->memory + PAGE, PAGE, SEED + PAGE);
}

/* ---- The one in between ----------------------------------------------------------------------- */

enum leaving {
    WITHDRAWS,
    EXITS,
    IS_KILLED,
    LEAVINGS,
};

/* B goes, and gives up what it has from A. */
static void leave(struct chain *chain, enum leaving leaving)
{
    if (leaving == WITHDRAWS) {
        CHECK_EQUAL(puppet_withdraw(&chain->b, chain->second), 1);
        return;
    }
    if (leaving == EXITS)
        puppet_exit(&chain->b);
    else
        puppet_kill(&chain->b);
    puppet_acknowledge(&chain->b);
}

/* C's hold is what A's withdrawal waits for. */
static void check_withdrawal(struct chain *chain, enum leaving leaving)
{
    leave(chain, leaving);
    CHECK_EQUAL(puppet_withdraw(&chain->a, chain->first), 1);
    CHECK(is_there(chain));
    if (leaving != WITHDRAWS) {
        CHECK_SOON(statistics_of(chain->client).reclaiming == 0);
        CHECK_EQUAL(statistics_of(chain->client).held, 0); /* of B nothing is */
        CHECK_EQUAL(puppet_do(&chain->a, PUPPET_RELEASED), 0);
    }
    puppet_release(&chain->c, chain->of_b);
    if (leaving == WITHDRAWS) {
        puppet_await_release(&chain->b, chain->second);
        CHECK_EQUAL(puppet_do(&chain->a, PUPPET_RELEASED), 0);
        puppet_release(&chain->b, chain->of_a);
    }
    puppet_await_release(&chain->a, chain->first);
}

static void test_first_exporter_waits_for_the_last_importer(void)
{
    for (int i = 0; i < 3 * LEAVINGS; i++) {
        struct chain chain = begin(i / LEAVINGS == 1, i / LEAVINGS == 2);
        check_withdrawal(&chain, (enum leaving)(i % LEAVINGS));
        end(&chain);
    }
}

/* C goes first: then B's hold is what counts. */
static void test_last_importer_may_go_first(void)
{
    for (int i = 0; i < 2; i++) {
        struct chain chain = begin(i == 1, false);
        puppet_kill(&chain.c);
        puppet_acknowledge(&chain.c);
        CHECK_EQUAL(puppet_withdraw(&chain.a, chain.first), 1);
        CHECK_EQUAL(puppet_withdraw(&chain.b, chain.second), 0);
        CHECK_EQUAL(puppet_do(&chain.a, PUPPET_RELEASED), 0);
        CHECK(is_there(&chain));
        puppet_release(&chain.b, chain.of_a);
        puppet_await_release(&chain.a, chain.first);
        end(&chain);
    }
}

static void test_pages_of_the_first_stay_when_it_ends(void)
{
    for (int i = 0; i < 2 * LEAVINGS; i++) {
        struct chain chain = begin(false, i >= LEAVINGS);
        enum leaving leaving = (enum leaving)(i % LEAVINGS);
        puppet_kill(&chain.a);
        puppet_acknowledge(&chain.a);
        CHECK_SOON(statistics_of(chain.client).held == 1);
        leave(&chain, leaving);
        if (leaving == WITHDRAWS)
            puppet_release(&chain.b, chain.of_a);
        CHECK_SOON(check_mappings_in((uintptr_t)chain.memory, (uintptr_t)chain.memory + PAGE) == 0);
        CHECK(is_there(&chain));
        puppet_release(&chain.c, chain.of_b);
        if (leaving == WITHDRAWS)
            puppet_await_release(&chain.b, chain.second);
        CHECK_SOON(statistics_of(chain.client).held == 0);
        end(&chain);
    }
}

/* Until then its export can be imported, and what it has from A is there. */
static void test_end_that_is_not_acknowledged_keeps_the_chain(void)
{
    struct chain chain = begin(false, true);

    puppet_release(&chain.c, chain.of_b);
    puppet_exit(&chain.a);
    puppet_acknowledge(&chain.a);
    puppet_exit(&chain.b);
    CHECK_EQUAL(puppet_import(&chain.c, &chain.b, "y"), 0);
    chain.of_b = chain.c.order->hold;
    puppet_acknowledge(&chain.b);
    CHECK_SOON(bytes_of_tasks() == PAGE);
    CHECK(is_there(&chain));
    puppet_release(&chain.c, chain.of_b);
    end(&chain);
}

/* What is exported again holds by itself what it is of, and whoever else released it. */
static void test_import_may_be_released_when_it_is_exported_again(void)
{
    for (int i = 0; i < 2; i++) {
        struct chain chain = begin(i == 1, false);
        puppet_release(&chain.b, chain.of_a);
        puppet_release(&chain.c, chain.of_b);
        CHECK_EQUAL(puppet_withdraw(&chain.a, chain.first), 1);
        CHECK_EQUAL(puppet_import(&chain.c, &chain.b, "y"), 0);
        chain.of_b = chain.c.order->hold;
        CHECK_EQUAL(puppet_withdraw(&chain.b, chain.second), 1);
        puppet_release(&chain.c, chain.of_b);
        CHECK_EQUAL(puppet_do(&chain.a, PUPPET_RELEASED), 0);
        CHECK(is_there(&chain));
        puppet_await_release(&chain.b, chain.second);
        puppet_await_release(&chain.a, chain.first);
        end(&chain);
    }
}

/* A root that exports what it has from a task, and is closed with that. */
static void test_forwarded_array_goes_with_the_client(void)
{
    struct chain chain = begin(false, true);

    CHECK_EQUAL(puppet_export(&chain.c, "z", chain.memory + PAGE, PAGE, 0), 0);
    puppet_kill(&chain.a);
    puppet_acknowledge(&chain.a);
    puppet_release(&chain.c, chain.of_b);
    puppet_kill(&chain.b);
    puppet_acknowledge(&chain.b);
    CHECK_SOON(bytes_of_tasks() == PAGE);
    CHECK(is_there(&chain));
    free(chain.a.order);
    free(chain.b.order);
    free(chain.c.order);
    close_client(chain.client);
    CHECK_EQUAL(mappings_of_tasks(), 0);
}

static void test_narrow_hold_of_a_forwarded_array(void)
{
    struct chain chain = begin(false, true);
    struct order *order = chain.c.order;

    order->address = (uintptr_t)chain.memory + PAGE;
    order->bytes = 64;
    CHECK_EQUAL(puppet_do(&chain.c, PUPPET_CHECK), 1);
    CHECK_EQUAL(puppet_do(&chain.c, PUPPET_NARROW), 0);
    aiopip_hold *narrow = order->hold;
    puppet_release(&chain.c, chain.of_b);
    CHECK_EQUAL(puppet_withdraw(&chain.b, chain.second), 1);
    CHECK_EQUAL(puppet_withdraw(&chain.a, chain.first), 1);
    puppet_kill(&chain.b);
    puppet_acknowledge(&chain.b);
    puppet_kill(&chain.a);
    puppet_acknowledge(&chain.a);
    CHECK_SOON(bytes_of_tasks() == PAGE);
    CHECK(is_there(&chain));
    puppet_release(&chain.c, narrow);
    end(&chain);
}

/* ---- Longer ways ------------------------------------------------------------------------------ */

static void test_third_exporter_leads_to_the_first(void)
{
    struct chain chain = begin(false, false);
    struct puppet root = puppet_root(chain.client);

    CHECK_EQUAL(puppet_export(&chain.c, "z", chain.memory + PAGE, PAGE, AIOPIP_EXPORT_KEEP), 0);
    puppet_kill(&chain.a);
    puppet_kill(&chain.b);
    puppet_kill(&chain.c);
    puppet_acknowledge(&chain.a);
    puppet_acknowledge(&chain.b);
    puppet_acknowledge(&chain.c);
    CHECK_EQUAL(puppet_import(&root, &chain.c, "z"), 0);
    CHECK(is_there(&chain));
    puppet_release(&root, root.order->hold);
    puppet_forget(&root);
    end(&chain);
}

/* It comes back to its first exporter, who holds its own then. */
static void test_array_comes_home(void)
{
    struct chain chain = begin(false, true);
    struct puppet *a = &chain.a;

    CHECK_EQUAL(puppet_import(a, &chain.b, "y"), 0);
    aiopip_hold *home = a->order->hold;
    CHECK_EQUAL(puppet_withdraw(a, chain.first), 1);
    puppet_kill(&chain.b);
    puppet_acknowledge(&chain.b);
    puppet_release(&chain.c, chain.of_b);
    CHECK_EQUAL(puppet_do(a, PUPPET_RELEASED), 0);
    puppet_release(a, home);
    puppet_await_release(a, chain.first);
    end(&chain);
}

/* A hold of what B had from A outlives B, and its slot is used again: the next task's export has
 * nothing to do with it. */
static void test_slot_of_the_one_between_is_used_again(void)
{
    struct chain chain = begin(false, true);
    int32_t pipid = chain.b.task.pipid;

    puppet_kill(&chain.b);
    puppet_forget(&chain.b);
    CHECK_SOON(is_there(&chain) && statistics_of(chain.client).reclaiming == 0);
    chain.b = puppet_queue(chain.client, pipid);
    CHECK_EQUAL(puppet_export(&chain.b, "y", puppet_make(&chain.b, PAGE), PAGE, 0), 0);
    CHECK_EQUAL(puppet_import(&chain.a, &chain.b, "y"), 0);
    puppet_release(&chain.a, chain.a.order->hold);
    CHECK_EQUAL(puppet_withdraw(&chain.b, chain.b.order->id), 0);
    puppet_release(&chain.c, chain.of_b);
    end(&chain);
}

/* ---- C ---------------------------------------------------------------------------------------- */

/* A C import of a forwarded array holds the array, and all of whom it is imported from. */
static void test_c_import_of_a_forwarded_array(void)
{
    struct chain chain = begin(false, false);
    struct puppet *c = &chain.c;

    puppet_release(c, chain.of_b);
    uint8_t *own = puppet_make(&chain.b, PAGE);
    fill(own, PAGE, SEED);
    puppet_kill(&chain.a);
    puppet_acknowledge(&chain.a);
    CHECK_SOON(statistics_of(chain.client).held == 1);
    puppet_seek(c, &chain.b, "y");
    for (int i = 0; i < 10; i++)
        CHECK_EQUAL(puppet_do(c, PUPPET_PIP_IMPORT), 0);
    CHECK_EQUAL(c->order->address, chain.memory + PAGE);
    /* That what it has so is not its own memory it sees without A's, which is gone. */
    CHECK_EQUAL(puppet_export(c, "own", puppet_make(c, PAGE), PAGE, 0), 0);
    puppet_kill(&chain.b);
    puppet_acknowledge(&chain.b);
    CHECK_SOON(statistics_of(chain.client).held == 2);
    CHECK(is_there(&chain) && is_intact(own, PAGE, SEED));
    end(&chain);
}

/* Of the first exporter the forwarded array holds that array alone; who imports from it, too, holds
 * all of it, in either order. */
static void test_c_import_from_the_first_exporter_holds_all_of_it(void)
{
    for (int i = 0; i < 2; i++) {
        struct chain chain = begin(false, false);
        struct puppet *c = &chain.c;
        uint8_t *more = puppet_make(&chain.a, PAGE);

        puppet_release(c, chain.of_b);
        fill(more, PAGE, SEED);
        for (int j = 0; j < 10; j++) {
            bool from_first = j % 2 == i;
            puppet_seek(c, from_first ? &chain.a : &chain.b, from_first ? "x" : "y");
            CHECK_EQUAL(puppet_do(c, PUPPET_PIP_IMPORT), 0);
        }
        puppet_kill(&chain.a);
        puppet_acknowledge(&chain.a);
        CHECK_SOON(statistics_of(chain.client).reclaiming == 0);
        CHECK_EQUAL(statistics_of(chain.client).held, 1);
        CHECK(is_there(&chain));
        CHECK_EQUAL(check_mappings_in((uintptr_t)more, (uintptr_t)more + PAGE), 1);
        CHECK(is_intact(more, PAGE, SEED));
        end(&chain);
    }
}

int main(void)
{
    RUN(test_first_exporter_waits_for_the_last_importer);
    RUN(test_last_importer_may_go_first);
    RUN(test_pages_of_the_first_stay_when_it_ends);
    RUN(test_end_that_is_not_acknowledged_keeps_the_chain);
    RUN(test_import_may_be_released_when_it_is_exported_again);
    RUN(test_forwarded_array_goes_with_the_client);
    RUN(test_narrow_hold_of_a_forwarded_array);
    RUN(test_third_exporter_leads_to_the_first);
    RUN(test_array_comes_home);
    RUN(test_slot_of_the_one_between_is_used_again);
    RUN(test_c_import_of_a_forwarded_array);
    RUN(test_c_import_from_the_first_exporter_holds_all_of_it);
    return 0;
}
