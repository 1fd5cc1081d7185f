/* SPDX-License-Identifier: BSD-2-Clause
 *
 * test_exports.c: tables, names and holds of one process, with several threads at them.
 */
#include <pthread.h>

#include "check.h"
#include "exports.h"
#include "holds.h"

#define THREADS 8
#define NAMES 400
#define PEER 7

static struct sharing sharing;
static pthread_barrier_t together;

static void forget(void)
{
    exports_free_all(&sharing);
    table_free(&sharing.holds);
    memset(&sharing, 0, sizeof sharing);
}

/* ---- Exports ---------------------------------------------------------------------------------- */

static struct export_record *record_of(const char *name, size_t bytes, uintptr_t address)
{
    struct export_record *record = calloc(1, sizeof *record + bytes);

    CHECK(record != NULL);
    record->name_bytes = (uint32_t)bytes;
    record->address = address;
    memcpy(record->dims, name, bytes);
    return record;
}

static bool free_export(uint64_t id)
{
    struct export_record *record = exports_free(&sharing, id);

    free(record);
    return record != NULL;
}

static int add(const char *name, size_t bytes, uintptr_t address, uint64_t *id)
{
    struct export_record *record = record_of(name, bytes, address);
    int result = exports_add(&sharing, record, id);

    if (result < 0)
        free(record);
    return result;
}

/* The address under a name, 0 when there is none; its number. */
static uintptr_t find(const char *name, size_t bytes, uint32_t *index)
{
    uint32_t hash = exports_hash(name, bytes);

    for (*index = 0; exports_next(&sharing, hash, index); ++*index) {
        const struct export_record *record = exports_at(&sharing, *index)->record;
        if (record->name_bytes == bytes && memcmp(export_name(record), name, bytes) == 0)
            return record->address;
    }
    return 0;
}

static void test_name_is_found_with_its_address(void)
{
    uint32_t index;
    uint64_t id;

    CHECK_EQUAL(find("grid", 4, &index), 0);
    CHECK_EQUAL(add("grid", 4, 41, &id), 0);
    CHECK_EQUAL(find("grid", 4, &index), 41);
    CHECK_EQUAL(exports_index(id), index);
    CHECK_EQUAL(find("gri", 3, &index), 0);
    CHECK_EQUAL(find("grid\0", 5, &index), 0);
    CHECK_EQUAL(atomic_load(&sharing.published), 1);
    forget();
}

static void test_name_that_is_taken_stays_as_it_is(void)
{
    uint64_t id, other = 5;
    uint32_t index;

    CHECK_EQUAL(add("x", 1, 1, &id), 0);
    CHECK_EQUAL(add("x", 1, 2, &other), -EBUSY);
    CHECK_EQUAL(other, 5);
    CHECK_EQUAL(find("x", 1, &index), 1);
    CHECK_EQUAL(atomic_load(&sharing.published), 1);
    forget();
}

static void test_any_bytes_make_a_name(void)
{
    char longest[EXPORT_NAME_MAX];
    uint32_t index;
    uint64_t id;

    memset(longest, 0xff, sizeof longest);
    CHECK_EQUAL(add("", 0, 1, &id), 0);
    CHECK_EQUAL(add(longest, sizeof longest, 2, &id), 0);
    CHECK_EQUAL(add("a\0b", 3, 3, &id), 0);
    CHECK_EQUAL(find("", 0, &index), 1);
    CHECK_EQUAL(find(longest, sizeof longest, &index), 2);
    CHECK_EQUAL(find("a\0c", 3, &index), 0);
    CHECK_EQUAL(find("a\0b", 3, &index), 3);
    forget();
}

static void test_withdrawn_name_is_free_and_its_id_never_used_again(void)
{
    uint64_t first, second;
    uint32_t index;

    CHECK_EQUAL(add("x", 1, 1, &first), 0);
    CHECK_EQUAL(exports_withdraw(&sharing, first), 0);
    CHECK_EQUAL(exports_withdraw(&sharing, first), -ENOENT);
    CHECK_EQUAL(find("x", 1, &index), 0);
    CHECK_EQUAL(add("x", 1, 2, &second), 0); /* while somebody may still hold the first */
    CHECK(exports_index(second) != exports_index(first));
    CHECK(free_export(first));
    CHECK(!free_export(first));
    CHECK_EQUAL(exports_withdraw(&sharing, second), 0);
    CHECK(free_export(second));
    for (int i = 0; i < 1000; i++) {
        uint64_t id;
        CHECK_EQUAL(add("x", 1, 3, &id), 0);
        CHECK(id != first && id != second);
        CHECK_EQUAL(exports_withdraw(&sharing, id), 0);
        CHECK(free_export(id));
    }
    CHECK_EQUAL(atomic_load(&sharing.exports.used), 2);
    CHECK_EQUAL(atomic_load(&sharing.published), 0);
    forget();
}

static void test_wild_ids_are_refused(void)
{
    uint64_t id;

    CHECK_EQUAL(exports_withdraw(&sharing, 0), -ENOENT);
    CHECK_EQUAL(add("x", 1, 1, &id), 0);
    CHECK_EQUAL(exports_withdraw(&sharing, id + 1), -ENOENT);
    CHECK_EQUAL(exports_withdraw(&sharing, UINT64_MAX), -ENOENT);
    forget();
}

/* Each adds all names; returns how many of them were its own. */
static void *add_same_names(void *argument)
{
    uintptr_t won = 0;
    char name[16];
    uint64_t id;

    pthread_barrier_wait(&together);
    for (int i = 0; i < NAMES; i++) {
        int bytes = snprintf(name, sizeof name, "same-%d", i);
        int result = add(name, (size_t)bytes, (uintptr_t)argument, &id);
        CHECK(result == 0 || result == -EBUSY);
        won += result == 0;
    }
    return (void *)won;
}

static void *add_and_withdraw(void *argument)
{
    char name[32];
    uint64_t id;

    pthread_barrier_wait(&together);
    for (int i = 0; i < NAMES; i++) {
        int bytes = snprintf(name, sizeof name, "own-%p-%d", argument, i);
        CHECK_EQUAL(add(name, (size_t)bytes, (uintptr_t)argument, &id), 0);
        if (i % 2) {
            CHECK_EQUAL(exports_withdraw(&sharing, id), 0);
            CHECK(free_export(id));
        }
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
    CHECK_EQUAL(atomic_load(&sharing.published), NAMES);
    forget();
}

static void test_threads_add_and_withdraw_together(void)
{
    uint32_t index, found = 0;

    run_threads(add_and_withdraw);
    for (uintptr_t thread = 1; thread <= THREADS; thread++)
        for (int i = 0; i < NAMES; i++) {
            char name[32];
            int bytes = snprintf(name, sizeof name, "own-%p-%d", (void *)thread, i);
            uintptr_t address = find(name, (size_t)bytes, &index);
            CHECK(address == (i % 2 ? 0 : thread));
            found += address != 0;
        }
    CHECK_EQUAL(found, THREADS * NAMES / 2);
    CHECK_EQUAL(atomic_load(&sharing.published), found);
    forget();
}

/* ---- Holds ------------------------------------------------------------------------------------ */

static bool has(uint64_t mask, uint64_t word)
{
    uint32_t index = 0;

    return holds_next(&sharing, &index, mask, word) != NULL;
}

static void test_hold_is_found_by_peer_and_by_export(void)
{
    uint64_t word = holds_word(PEER, (uint64_t)3 << SHARED_VERSION_BITS | 9);
    uint64_t peer = holds_word_of_all(PEER) & HOLDS_OF_PEER;

    CHECK(!has(HOLDS_OF_PEER, peer));
    int64_t hold = holds_add(&sharing, word, 10, 20);
    CHECK_EQUAL(hold, 0);
    CHECK(has(HOLDS_OF_PEER, peer) && has(HOLDS_OF_EXPORT, word));
    CHECK(!has(HOLDS_OF_EXPORT, word + 1) && !has(HOLDS_OF_EXPORT, holds_word_of_all(PEER)));
    CHECK(!has(HOLDS_OF_PEER, holds_word_of_all(PEER + 1) & HOLDS_OF_PEER));
    CHECK(holds_peer(word) == PEER && holds_is_of_export(word));
    CHECK(!holds_is_of_export(holds_word_of_all(PEER_ROOT)));
    CHECK_EQUAL(holds_peer(holds_word_of_all(PEER_ROOT)), PEER_ROOT);
    holds_drop(&sharing, 0);
    CHECK(!has(HOLDS_OF_PEER, peer));
    forget();
}

static void test_many_holds_reuse_what_was_dropped(void)
{
    enum {
        HOLDS = 5000
    };

    for (int round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < HOLDS; i++)
            CHECK(holds_add(&sharing, holds_word(PEER, i + 1), 0, 1) >= 0);
        for (uint32_t i = 0; i < HOLDS; i++)
            CHECK(has(HOLDS_OF_EXPORT, holds_word(PEER, i + 1)));
        for (uint32_t i = 0; i < HOLDS; i++)
            holds_drop(&sharing, i);
        CHECK_EQUAL(atomic_load(&sharing.holds.used), HOLDS);
    }
    CHECK(!has(HOLDS_OF_PEER, holds_word_of_all(PEER) & HOLDS_OF_PEER));
    forget();
}

static void *hold_and_drop(void *argument)
{
    uint64_t word = holds_word(PEER, (uint64_t)(uintptr_t)argument << SHARED_VERSION_BITS);

    pthread_barrier_wait(&together);
    for (int i = 0; i < 5000; i++) {
        int64_t hold = holds_add(&sharing, word, 0, 1);
        CHECK(hold >= 0 && has(HOLDS_OF_EXPORT, word));
        holds_drop(&sharing, (uint32_t)hold);
        CHECK(!has(HOLDS_OF_EXPORT, word));
    }
    CHECK(holds_add(&sharing, word, 0, 1) >= 0);
    return NULL;
}

static void test_threads_hold_and_drop_together(void)
{
    run_threads(hold_and_drop);
    for (uint64_t thread = 1; thread <= THREADS; thread++)
        CHECK(has(HOLDS_OF_EXPORT, holds_word(PEER, thread << SHARED_VERSION_BITS)));
    CHECK(atomic_load(&sharing.holds.used) <= THREADS);
    forget();
}

int main(void)
{
    RUN(test_name_is_found_with_its_address);
    RUN(test_name_that_is_taken_stays_as_it_is);
    RUN(test_any_bytes_make_a_name);
    RUN(test_withdrawn_name_is_free_and_its_id_never_used_again);
    RUN(test_wild_ids_are_refused);
    RUN(test_one_of_many_threads_gets_a_name);
    RUN(test_threads_add_and_withdraw_together);
    RUN(test_hold_is_found_by_peer_and_by_export);
    RUN(test_many_holds_reuse_what_was_dropped);
    RUN(test_threads_hold_and_drop_together);
    return 0;
}
