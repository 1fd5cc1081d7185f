/* SPDX-License-Identifier: BSD-2-Clause
 *
 * test_exports.c: names in an export table, and holds, with several threads at them.
 */
#include <pthread.h>

#include "check.h"
#include "exports.h"

#define THREADS 8
#define NAMES 400

static struct export_table table;
static pthread_barrier_t together;

static void forget_table(void)
{
    for (int i = 0; i < SHARED_BUCKETS; i++) {
        struct export *entry = atomic_load(&table.buckets[i]);
        while (entry) {
            struct export *next = entry->next;
            free(entry);
            entry = next;
        }
    }
    memset(&table, 0, sizeof table);
}

static void test_name_is_found_with_its_address(void)
{
    int value, other;
    void *address = &other;

    CHECK_EQUAL(exports_find(&table, "grid", 4, &address), 0);
    CHECK(address == &other);
    CHECK_EQUAL(exports_add(&table, "grid", 4, &value), 0);
    CHECK_EQUAL(exports_find(&table, "grid", 4, &address), 1);
    CHECK(address == &value);
    CHECK_EQUAL(exports_find(&table, "gri", 3, &address), 0);
    CHECK_EQUAL(exports_find(&table, "grid\0", 5, &address), 0);
    CHECK_EQUAL(atomic_load(&table.count), 1);
    forget_table();
}

static void test_name_that_is_taken_stays_as_it_is(void)
{
    int first, second;
    void *address = NULL;

    CHECK_EQUAL(exports_add(&table, "x", 1, &first), 0);
    CHECK_EQUAL(exports_add(&table, "x", 1, &second), -EBUSY);
    CHECK_EQUAL(exports_find(&table, "x", 1, &address), 1);
    CHECK(address == &first);
    CHECK_EQUAL(atomic_load(&table.count), 1);
    forget_table();
}

static void test_any_bytes_make_a_name(void)
{
    char longest[EXPORT_NAME_MAX];
    void *address = NULL;

    memset(longest, 0xff, sizeof longest);
    CHECK_EQUAL(exports_add(&table, "", 0, &table), 0);
    CHECK_EQUAL(exports_add(&table, longest, sizeof longest, NULL), 0);
    CHECK_EQUAL(exports_add(&table, "a\0b", 3, &address), 0);
    CHECK_EQUAL(exports_find(&table, "", 0, &address), 1);
    CHECK(address == &table);
    CHECK_EQUAL(exports_find(&table, longest, sizeof longest, &address), 1);
    CHECK(address == NULL);
    CHECK_EQUAL(exports_find(&table, "a\0c", 3, &address), 0);
    CHECK_EQUAL(exports_find(&table, "a\0b", 3, &address), 1);
    forget_table();
}

/* Each adds all names; returns how many of them were its own. */
static void *add_same_names(void *argument)
{
    uintptr_t won = 0;
    char name[16];

    pthread_barrier_wait(&together);
    for (int i = 0; i < NAMES; i++) {
        int bytes = snprintf(name, sizeof name, "same-%d", i);
        int result = exports_add(&table, name, (size_t)bytes, argument);
        CHECK(result == 0 || result == -EBUSY);
        won += result == 0;
    }
    return (void *)won;
}

static void *add_own_names(void *argument)
{
    void *address;
    char name[32];

    pthread_barrier_wait(&together);
    for (int i = 0; i < NAMES; i++) {
        int bytes = snprintf(name, sizeof name, "own-%p-%d", argument, i);
        CHECK_EQUAL(exports_add(&table, name, (size_t)bytes, argument), 0);
        CHECK_EQUAL(exports_find(&table, name, (size_t)bytes, &address), 1);
        CHECK(address == argument);
    }
    return NULL;
}

static uintptr_t run_threads(void *(*function)(void *))
{
    pthread_t threads[THREADS];
    uintptr_t sum = 0;

    CHECK_EQUAL(pthread_barrier_init(&together, NULL, THREADS), 0);
    for (uintptr_t i = 0; i < THREADS; i++)
        CHECK_EQUAL(pthread_create(&threads[i], NULL, function, (void *)(i + 1)), 0);
    for (int i = 0; i < THREADS; i++) {
        void *result;
        CHECK_EQUAL(pthread_join(threads[i], &result), 0);
        sum += (uintptr_t)result;
    }
    pthread_barrier_destroy(&together);
    return sum;
}

static void test_one_of_many_threads_gets_a_name(void)
{
    CHECK_EQUAL(run_threads(add_same_names), NAMES);
    CHECK_EQUAL(atomic_load(&table.count), NAMES);
    forget_table();
}

static void test_threads_add_names_of_their_own_together(void)
{
    run_threads(add_own_names);
    CHECK_EQUAL(atomic_load(&table.count), THREADS * NAMES);
    forget_table();
}

static void test_holds_are_counted_for_one_generation(void)
{
    _Atomic uint64_t hold = 0;

    CHECK(exports_hold(&hold, 7) && exports_hold(&hold, 7));
    CHECK_EQUAL(atomic_load(&hold), 7UL << SHARED_HOLD_SHIFT | 2);
    exports_drop(&hold, 7);
    CHECK_EQUAL(atomic_load(&hold), 7UL << SHARED_HOLD_SHIFT | 1);
    CHECK(exports_hold(&hold, 9)); /* the slot is another task's: what was held is gone */
    CHECK_EQUAL(atomic_load(&hold), 9UL << SHARED_HOLD_SHIFT | 1);
    exports_drop(&hold, 9);
    CHECK_EQUAL(atomic_load(&hold) & SHARED_HOLD_COUNT, 0);
}

static void test_late_hold_and_late_drop_change_nothing(void)
{
    _Atomic uint64_t hold = 0;

    CHECK(exports_hold(&hold, 9));
    CHECK(!exports_hold(&hold, 7));
    exports_drop(&hold, 7);
    CHECK_EQUAL(atomic_load(&hold), 9UL << SHARED_HOLD_SHIFT | 1);
    exports_drop(&hold, 9);
    exports_drop(&hold, 9);
    CHECK_EQUAL(atomic_load(&hold) & SHARED_HOLD_COUNT, 0);
}

static void test_count_of_holds_that_is_full_stays(void)
{
    _Atomic uint64_t hold = 0;

    for (uint64_t i = 0; i < SHARED_HOLD_COUNT + 10; i++)
        CHECK(exports_hold(&hold, 3));
    CHECK_EQUAL(atomic_load(&hold), 3UL << SHARED_HOLD_SHIFT | SHARED_HOLD_COUNT);
    for (uint64_t i = 0; i < SHARED_HOLD_COUNT + 10; i++)
        exports_drop(&hold, 3);
    CHECK(atomic_load(&hold) & SHARED_HOLD_COUNT); /* one too many is not known to be the last */
}

static _Atomic uint64_t contended;

static void *hold_and_drop(void *argument)
{
    (void)argument;
    pthread_barrier_wait(&together);
    for (int i = 0; i < 20000; i++) {
        CHECK(exports_hold(&contended, 3));
        exports_drop(&contended, 3);
    }
    CHECK(exports_hold(&contended, 3));
    return NULL;
}

static void test_holds_of_many_threads_add_up(void)
{
    run_threads(hold_and_drop);
    CHECK_EQUAL(atomic_load(&contended), 3UL << SHARED_HOLD_SHIFT | THREADS);
}

int main(void)
{
    RUN(test_name_is_found_with_its_address);
    RUN(test_name_that_is_taken_stays_as_it_is);
    RUN(test_any_bytes_make_a_name);
    RUN(test_one_of_many_threads_gets_a_name);
    RUN(test_threads_add_names_of_their_own_together);
    RUN(test_holds_are_counted_for_one_generation);
    RUN(test_late_hold_and_late_drop_change_nothing);
    RUN(test_count_of_holds_that_is_full_stays);
    RUN(test_holds_of_many_threads_add_up);
    return 0;
}
