/* SPDX-License-Identifier: BSD-2-Clause
 *
 * test_holding.c: memory of a task that is held by its address, without an export.
 */
#include "core.h"
#include "puppets.h"

#define PAGE 4096
#define MIB (1UL << 20)
#define SEED 17

static aiopip_client *client;
static struct puppet root;

static void begin(uint32_t max_tasks)
{
    client = open_client(max_tasks);
    root = puppet_root(client);
}

static void end(void)
{
    puppet_forget(&root);
    check_clean(client);
    close_client(client);
}

static int hold(struct puppet *holder, const void *address, size_t bytes)
{
    holder->order->address = (uintptr_t)address;
    holder->order->bytes = bytes;
    return puppet_do(holder, PUPPET_HOLD);
}

/* A task with memory, whose end is to be acknowledged. */
static struct puppet start_owner(uint8_t **memory, size_t bytes)
{
    struct puppet owner = puppet_start(client);

    *memory = puppet_make(&owner, bytes);
    fill(*memory, PAGE, SEED);
    CHECK_EQUAL(puppet_export(&owner, "worker", *memory, 0, 0), 0);
    return owner;
}

/* Held while its owner lives, or when that was killed and the end not acknowledged: it stays. */
static void play_hold(struct puppet *holder, bool dead)
{
    uint8_t *memory;
    struct puppet owner = start_owner(&memory, MIB);
    struct aiopip_array array;

    if (dead)
        puppet_kill(&owner);
    CHECK_EQUAL(hold(holder, memory + 8, PAGE - 8), 0);
    aiopip_hold *held = holder->order->hold;
    aiopip_hold_array(held, &array);
    CHECK_EQUAL(array.address, memory + 8);
    CHECK_EQUAL(array.start, memory + 8);
    CHECK_EQUAL(array.end, memory + PAGE);
    CHECK_EQUAL(array.ndim, 0);
    if (!dead)
        puppet_kill(&owner);
    puppet_forget(&owner);
    CHECK_SOON(check_mappings_in((uintptr_t)memory + PAGE, (uintptr_t)memory + MIB) == 0);
    CHECK(is_intact(memory, PAGE, SEED));
    CHECK_EQUAL(puppet_release(holder, held), 0);
    CHECK_SOON(check_mappings_in((uintptr_t)memory, (uintptr_t)memory + PAGE) == 0);
}

static void test_memory_stays_as_long_as_it_is_held(void)
{
    begin(4);
    struct puppet task = puppet_start(client);
    puppet_make(&task, PAGE);
    for (int dead = 0; dead < 2; dead++) {
        play_hold(&root, dead);
        play_hold(&task, dead);
    }
    puppet_exit(&task);
    puppet_forget(&task);
    end();
}

static void test_all_of_a_task_is_held(void)
{
    begin(4);
    uint8_t *memory, *other;
    struct puppet owner = start_owner(&memory, PAGE);

    other = puppet_make(&owner, PAGE);
    fill(other, PAGE, SEED + 1);
    CHECK_EQUAL(hold(&root, memory, 0), 0);
    CHECK_EQUAL(aiopip_hold_check(root.order->hold, (uintptr_t)other, PAGE), 1);
    aiopip_hold *all = root.order->hold;
    CHECK_EQUAL(aiopip_hold_narrow(all, (uintptr_t)other, PAGE, &root.order->hold), 0);
    aiopip_hold *narrow = root.order->hold;
    puppet_kill(&owner);
    puppet_forget(&owner);
    CHECK_SOON(statistics_of(client).reclaiming == 0);
    CHECK(is_intact(memory, PAGE, SEED));
    CHECK(bytes_of_tasks() > 2 * PAGE);
    aiopip_hold_release(all);
    CHECK_SOON(bytes_of_tasks() == PAGE);
    CHECK(is_intact(other, PAGE, SEED + 1));
    aiopip_hold_release(narrow);
    end();
}

static void test_what_is_no_tasks_is_not_held(void)
{
    begin(4);
    static uint8_t ours[PAGE];
    uint8_t *memory, on_stack;
    struct puppet owner = start_owner(&memory, PAGE);
    const struct control *control = client->core->control;
    uintptr_t window = control->windows + (size_t)owner.task.pipid * control->window_bytes;

    CHECK_EQUAL(hold(&root, ours, PAGE), -ENOENT);
    CHECK_EQUAL(hold(&root, ours, 0), -ENOENT);
    CHECK_EQUAL(hold(&root, &on_stack, 1), -ENOENT);
    CHECK_EQUAL(hold(&owner, ours, PAGE), -ENOENT);
    CHECK_EQUAL(hold(&owner, memory, PAGE), -ENOENT); /* its own */
    CHECK_EQUAL(hold(&root, (const void *)control->overflow_start, 1), -ENOENT);
    CHECK_EQUAL(hold(&root, (const void *)control->overflow_end, 1), -ENOENT);
    /* To the end of the window, and beyond it, and beyond any. */
    uintptr_t left = window + control->window_bytes - (uintptr_t)memory;
    CHECK_EQUAL(hold(&root, memory, left), 0);
    aiopip_hold_release(root.order->hold);
    CHECK_EQUAL(hold(&root, memory, left + 1), -ENOENT);
    CHECK_EQUAL(hold(&root, memory, SIZE_MAX), -ENOENT);
    puppet_exit(&owner);
    puppet_forget(&owner);
    end();
}

/* One that never was, one whose end was acknowledged, and one that exported nothing, so that its end
 * wants no acknowledging. */
static void test_what_is_closed_is_not_held(void)
{
    begin(4);
    uint8_t *memory;
    struct puppet owner = start_owner(&memory, PAGE), silent = puppet_start(client);
    uint8_t *other = puppet_make(&silent, PAGE);
    const struct control *control = client->core->control;

    CHECK_EQUAL(hold(&root, (const void *)(control->windows + 3 * control->window_bytes), 1),
                -ECANCELED);
    CHECK_EQUAL(hold(&root, memory, 1), 0);
    puppet_kill(&owner);
    puppet_forget(&owner);
    CHECK_SOON(statistics_of(client).reclaiming == 0);
    CHECK_EQUAL(hold(&root, memory + 8, 1), -ECANCELED);
    aiopip_hold_release(root.order->hold);
    puppet_kill(&silent);
    CHECK_SOON(check_mappings_in((uintptr_t)other, (uintptr_t)other + PAGE) == 0);
    CHECK_EQUAL(hold(&root, other, PAGE), -ECANCELED);
    puppet_forget(&silent);
    end();
}

/* What its window has no room for lies in an extent, beside those of others. */
static void test_memory_beyond_the_window_is_held(void)
{
    begin(AIOPIP_MAX_TASKS);
    const struct control *control = client->core->control;
    size_t bytes = control->window_bytes / 2 + PAGE;
    uint8_t *memory, *others;
    struct puppet first = start_owner(&others, bytes), owner = start_owner(&memory, bytes);

    CHECK((uintptr_t)memory >= control->overflow_start);
    CHECK_EQUAL(hold(&root, memory, 1L << 40), -ENOENT);
    CHECK_EQUAL(hold(&root, memory, SIZE_MAX), -ENOENT);
    CHECK_EQUAL(hold(&owner, memory, PAGE), -ENOENT);
    CHECK_EQUAL(hold(&first, memory, PAGE), 0);
    aiopip_hold *held = first.order->hold;
    puppet_kill(&owner);
    CHECK_EQUAL(hold(&root, memory + PAGE, PAGE), 0);
    puppet_forget(&owner);
    CHECK_SOON(check_mappings_in((uintptr_t)memory + 2 * PAGE, (uintptr_t)memory + bytes) == 0);
    CHECK(is_intact(memory, PAGE, SEED));
    CHECK_EQUAL(puppet_release(&first, held), 0);
    CHECK_SOON(check_mappings_in((uintptr_t)memory, (uintptr_t)memory + PAGE) == 0);
    CHECK_EQUAL(memory[PAGE], 0);
    aiopip_hold_release(root.order->hold);
    puppet_exit(&first);
    puppet_forget(&first);
    end();
}

int main(void)
{
    RUN(test_memory_stays_as_long_as_it_is_held);
    RUN(test_all_of_a_task_is_held);
    RUN(test_what_is_no_tasks_is_not_held);
    RUN(test_what_is_closed_is_not_held);
    RUN(test_memory_beyond_the_window_is_held);
    return 0;
}
