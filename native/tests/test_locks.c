/* SPDX-License-Identifier: BSD-2-Clause
 *
 * test_locks.c: <aiopip/lock.h> between tasks and the root: one owner at a time, and none that is
 * dead for ever.
 */
#include "deny.h"
#include "puppets.h"

#define TASKS 4
#define COUNTS 5000
#define WAITERS (1UL << 31) /* of lock.c's */

static aiopip_client *client;
static struct puppet root, tasks[TASKS];
static aiopip_lock_t lock;

static void begin(void)
{
    memset(&lock, 0, sizeof lock);
    client = open_client(TASKS + 2);
    root = puppet_root(client);
    for (int i = 0; i < TASKS; i++) {
        tasks[i] = puppet_start(client);
        tasks[i].order->lock = &lock;
        tasks[i].order->timeout_ms = CHECK_DEADLINE_S * 1000;
    }
}

static void end(void)
{
    for (int i = 0; i < TASKS; i++) {
        if (!tasks[i].end.kind)
            puppet_exit(&tasks[i]);
        puppet_forget(&tasks[i]);
    }
    puppet_forget(&root);
    check_clean(client);
    close_client(client);
}

static int call(enum aiopip_lock_call what)
{
    return aiopip_lock_of_peer(root.peer, (uintptr_t)&lock, what, NULL);
}

/* As the root's program does it: step by step. */
static int acquire_in_root(void)
{
    struct aiopip_word words[AIOPIP_LOCK_WORDS];
    struct timespec since;
    int result;

    clock_gettime(CLOCK_MONOTONIC, &since);
    uint64_t end_ns = (uint64_t)(since.tv_sec + CHECK_DEADLINE_S) * 1000000000UL;
    while ((result = aiopip_lock_of_peer(root.peer, (uintptr_t)&lock, AIOPIP_LOCK_TRY, words)) ==
           -EBUSY)
        CHECK_EQUAL(aiopip_wait(words, AIOPIP_LOCK_WORDS, end_ns), 0);
    return result;
}

static bool is_waited_for(void)
{
    return (*(volatile uint64_t *)&lock.state & WAITERS) != 0;
}

static int owner(void)
{
    int32_t pipid = -1;
    int result = aiopip_lock_owner(root.peer, (uintptr_t)&lock, &pipid);

    return result == 1 ? pipid : result == 0 ? -1 : result;
}

/* ---- One owner -------------------------------------------------------------------------------- */

static void test_one_at_a_time(void)
{
    volatile uint64_t counter = 0;

    begin();
    for (int i = 0; i < TASKS; i++) {
        tasks[i].order->address = (uintptr_t)&counter;
        tasks[i].order->bytes = COUNTS;
        puppet_tell(&tasks[i], PUPPET_COUNT_UP);
    }
    for (int i = 0; i < COUNTS; i++) {
        CHECK_EQUAL(acquire_in_root(), 0);
        counter = counter + 1;
        CHECK_EQUAL(call(AIOPIP_LOCK_RELEASE), 0);
    }
    for (int i = 0; i < TASKS; i++)
        CHECK_EQUAL(puppet_await(&tasks[i]), 0);
    CHECK_EQUAL(counter, COUNTS * (TASKS + 1));
    CHECK_EQUAL(lock.state, 0);
    end();
}

static void test_only_its_owner_gives_it_back(void)
{
    begin();
    CHECK_EQUAL(owner(), -1);
    CHECK_EQUAL(call(AIOPIP_LOCK_RELEASE), -EPERM);
    CHECK_EQUAL(puppet_do(&tasks[0], PUPPET_GIVE_BACK), -EPERM);
    CHECK_EQUAL(puppet_do(&tasks[0], PUPPET_TRY), 0);
    CHECK_EQUAL(owner(), tasks[0].task.pipid);
    CHECK_EQUAL(call(AIOPIP_LOCK_RELEASE), -EPERM);
    CHECK_EQUAL(call(AIOPIP_LOCK_RECOVER), -EPERM);
    CHECK_EQUAL(puppet_do(&tasks[1], PUPPET_GIVE_BACK), -EPERM);
    CHECK_EQUAL(puppet_do(&tasks[1], PUPPET_RECOVER), -EPERM);
    CHECK_EQUAL(puppet_do(&tasks[1], PUPPET_TRY), -EBUSY);
    CHECK_EQUAL(puppet_do(&tasks[0], PUPPET_TRY), -EBUSY); /* it is not recursive */
    CHECK_EQUAL(puppet_do(&tasks[0], PUPPET_GIVE_BACK), 0);
    CHECK_EQUAL(call(AIOPIP_LOCK_TRY), 0);
    CHECK_EQUAL(owner(), AIOPIP_PIPID_ROOT);
    CHECK_EQUAL(puppet_do(&tasks[0], PUPPET_TRY), -EBUSY);
    CHECK_EQUAL(call(AIOPIP_LOCK_TRY), -EBUSY);
    CHECK(!is_waited_for()); /* who tries once need not be woken */
    CHECK_EQUAL(call(AIOPIP_LOCK_RELEASE), 0);
    CHECK_EQUAL(aiopip_lock_acquire(&lock, 0), EPERM); /* no task */
    end();
}

static void test_waiting_has_an_end(void)
{
    begin();
    CHECK_EQUAL(call(AIOPIP_LOCK_TRY), 0);
    for (int i = 0; i < 2; i++) {
        tasks[i].order->timeout_ms = 10 * i;
        CHECK_EQUAL(puppet_do(&tasks[i], PUPPET_ACQUIRE), -ETIMEDOUT);
    }
    tasks[0].order->timeout_ms = -1;
    puppet_tell(&tasks[0], PUPPET_ACQUIRE);
    CHECK_SOON(is_waited_for());
    CHECK_EQUAL(call(AIOPIP_LOCK_RELEASE), 0);
    CHECK_EQUAL(puppet_await(&tasks[0]), 0);
    end();
}

/* ---- Dead owners ------------------------------------------------------------------------------ */

enum ending {
    EXITS,
    IS_KILLED,
    IS_KILLED_HAVING_TAKEN,
    ENDINGS,
};

/* A task takes the lock, and ends with it. */
static void die_with_it(struct puppet *task, enum ending ending)
{
    if (ending == IS_KILLED_HAVING_TAKEN) {
        atomic_store(&task->order->reached[KILL_AT_LOCK_TAKEN], 0);
        atomic_store(&task->order->stop_at, KILL_AT_LOCK_TAKEN);
        atomic_store(&task->order->stop_nth, 1);
        CHECK_EQUAL(puppet_do(task, PUPPET_ACQUIRE), PUPPET_DIED);
        return;
    }
    CHECK_EQUAL(puppet_do(task, PUPPET_ACQUIRE), 0);
    if (ending == EXITS)
        puppet_exit(task);
    else
        puppet_kill(task);
}

static void test_death_of_the_owner_is_told_until_it_is_recovered(void)
{
    for (int i = 0; i < ENDINGS; i++) {
        begin();
        die_with_it(&tasks[0], (enum ending)i);
        CHECK_EQUAL(owner(), -EOWNERDEAD);
        CHECK_EQUAL(puppet_do(&tasks[1], PUPPET_TRY), -EOWNERDEAD);
        CHECK_EQUAL(owner(), tasks[1].task.pipid);
        CHECK_EQUAL(puppet_do(&tasks[1], PUPPET_GIVE_BACK), 0);
        CHECK_EQUAL(call(AIOPIP_LOCK_TRY), -EOWNERDEAD);
        CHECK_EQUAL(call(AIOPIP_LOCK_RELEASE), 0);
        CHECK_EQUAL(puppet_do(&tasks[2], PUPPET_ACQUIRE), -EOWNERDEAD);
        puppet_kill(&tasks[2]); /* nor did that one put it right */
        CHECK_EQUAL(puppet_do(&tasks[1], PUPPET_ACQUIRE), -EOWNERDEAD);
        CHECK_EQUAL(puppet_do(&tasks[1], PUPPET_RECOVER), 0);
        CHECK_EQUAL(puppet_do(&tasks[1], PUPPET_GIVE_BACK), 0);
        CHECK_EQUAL(puppet_do(&tasks[3], PUPPET_ACQUIRE), 0);
        CHECK_EQUAL(puppet_do(&tasks[3], PUPPET_GIVE_BACK), 0);
        CHECK_EQUAL(lock.state, 0);
        end();
    }
}

/* Each waiter takes it and gives it back, the one that is told of the death having put it right. */
static void pass_on(void)
{
    bool has_had[TASKS] = {true}; /* the dead one */
    int told = 0;

    for (int left = TASKS - 1; left > 0; left--) {
        int next = 0;
        CHECK_SOON(((next = 1), !has_had[1] && puppet_is_done(&tasks[1])) ||
                   ((next = 2), !has_had[2] && puppet_is_done(&tasks[2])) ||
                   ((next = 3), !has_had[3] && puppet_is_done(&tasks[3])));
        has_had[next] = true;
        int result = puppet_await(&tasks[next]);
        CHECK(result == 0 || result == -EOWNERDEAD);
        told += result != 0;
        if (result != 0)
            CHECK_EQUAL(puppet_do(&tasks[next], PUPPET_RECOVER), 0);
        CHECK_EQUAL(owner(), tasks[next].task.pipid);
        for (int i = 1; i < TASKS; i++)
            CHECK(has_had[i] || !puppet_is_done(&tasks[i]));
        CHECK_EQUAL(puppet_do(&tasks[next], PUPPET_GIVE_BACK), 0);
    }
    CHECK_EQUAL(told, 1);
}

static void test_one_of_many_waiters_is_told(void)
{
    for (int i = 0; i < 10; i++) {
        begin();
        CHECK_EQUAL(puppet_do(&tasks[0], PUPPET_ACQUIRE), 0);
        for (int j = 1; j < TASKS; j++) {
            puppet_tell(&tasks[j], PUPPET_ACQUIRE);
            CHECK_SOON(is_waited_for());
        }
        if (i % 2)
            puppet_kill(&tasks[0]);
        else
            puppet_exit(&tasks[0]);
        pass_on();
        CHECK_EQUAL(lock.state, 0);
        end();
    }
}

/* Its owner has given it back, and dies before it has woken anybody. */
static void test_death_before_the_wake(void)
{
    for (int i = 0; i < 10; i++) {
        begin();
        CHECK_EQUAL(puppet_do(&tasks[0], PUPPET_ACQUIRE), 0);
        puppet_tell(&tasks[1], PUPPET_ACQUIRE);
        CHECK_SOON(is_waited_for());
        atomic_store(&tasks[0].order->stop_at, KILL_AT_LOCK_RELEASED);
        atomic_store(&tasks[0].order->stop_nth, 1);
        CHECK_EQUAL(puppet_do(&tasks[0], PUPPET_GIVE_BACK), PUPPET_DIED);
        CHECK_EQUAL(puppet_await(&tasks[1]), 0);
        CHECK_EQUAL(puppet_do(&tasks[1], PUPPET_GIVE_BACK), 0);
        end();
    }
}

/* The same number, and another generation. */
static void test_next_task_of_the_slot_is_not_the_owner(void)
{
    begin();
    int32_t pipid = tasks[0].task.pipid;
    die_with_it(&tasks[0], IS_KILLED);
    puppet_forget(&tasks[0]);
    tasks[0] = puppet_queue(client, pipid);
    tasks[0].order->lock = &lock;
    CHECK_EQUAL(puppet_do(&tasks[0], PUPPET_GIVE_BACK), -EPERM);
    CHECK_EQUAL(puppet_do(&tasks[0], PUPPET_RECOVER), -EPERM);
    CHECK_EQUAL(owner(), -EOWNERDEAD);
    CHECK_EQUAL(puppet_do(&tasks[0], PUPPET_TRY), -EOWNERDEAD);
    CHECK_EQUAL(puppet_do(&tasks[0], PUPPET_GIVE_BACK), 0);
    end();
}

static void test_root_waits_for_tasks_and_they_for_it(void)
{
    begin();
    die_with_it(&tasks[0], IS_KILLED);
    CHECK_EQUAL(acquire_in_root(), -EOWNERDEAD);
    CHECK_EQUAL(call(AIOPIP_LOCK_RECOVER), 0);
    puppet_tell(&tasks[1], PUPPET_ACQUIRE);
    CHECK_SOON(is_waited_for());
    CHECK(!puppet_is_done(&tasks[1]));
    CHECK_EQUAL(call(AIOPIP_LOCK_RELEASE), 0);
    CHECK_EQUAL(puppet_await(&tasks[1]), 0);
    puppet_strike(&tasks[1]);
    CHECK_EQUAL(acquire_in_root(), -EOWNERDEAD);
    CHECK_EQUAL(puppet_await_end(&tasks[1]), SIGKILL);
    end();
}

/* ---- Without futex_waitv ---------------------------------------------------------------------- */

static void play_by_ticks(const void *argument)
{
    deny(argument);
    test_one_at_a_time();
    test_waiting_has_an_end();
    test_one_of_many_waiters_is_told();
    test_death_before_the_wake();
    test_root_waits_for_tasks_and_they_for_it();
}

static void test_waiting_by_ticks(void)
{
    const struct denied missing[] = {{SYS_futex_waitv, ENOSYS}, {0, 0}};
    const struct denied forbidden[] = {{SYS_futex_waitv, EPERM}, {0, 0}};

    check_in_child(play_by_ticks, missing);
    check_in_child(play_by_ticks, forbidden);
}

int main(void)
{
    RUN(test_one_at_a_time);
    RUN(test_only_its_owner_gives_it_back);
    RUN(test_waiting_has_an_end);
    RUN(test_death_of_the_owner_is_told_until_it_is_recovered);
    RUN(test_one_of_many_waiters_is_told);
    RUN(test_death_before_the_wake);
    RUN(test_next_task_of_the_slot_is_not_the_owner);
    RUN(test_root_waits_for_tasks_and_they_for_it);
    RUN(test_waiting_by_ticks);
    return 0;
}
