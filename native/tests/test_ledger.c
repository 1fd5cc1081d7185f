/* SPDX-License-Identifier: BSD-2-Clause
 *
 * test_ledger.c: where mappings go and how they are found again, called as a task's libc calls it,
 * on a slot and a block that no task has.
 */
#include <linux/mman.h>
#include <pthread.h>
#include <sys/mman.h>

#include "check.h"
#include "core.h"
#include "ledger.h"

#define SLOTS 2
#define READ_WRITE (PROT_READ | PROT_WRITE)
#define PLAIN (MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE)
#define MIB (1UL << 20)

/* ---- A control block with two slots in use ---------------------------------------------------- */

static struct control *control;
static struct task_block *blocks[SLOTS];
static struct task_block *block; /* of slot 0 */

/* Unmap all that a slot's task has mapped. */
static int unmap_slot(int32_t pipid)
{
    static struct task tasks[SLOTS];
    struct core core = {.control = control, .tasks = tasks};

    return window_unmap(&core, pipid, NULL, 0);
}

static void make_slot(int32_t pipid)
{
    struct slot *slot = &control->slots[pipid];
    struct task_block *made = calloc(1, sizeof *made + SLOTS * sizeof(uint64_t));

    CHECK(made != NULL);
    made->control = control;
    made->slot = slot;
    made->pipid = pipid;
    made->window_start = control->windows + (size_t)pipid * control->window_bytes;
    made->window_first = made->window_start + SHARED_GAP;
    made->window_end = made->window_start + control->window_bytes;
    made->spare_end = made->window_first;
    atomic_store(&slot->spare, made->spare_end);
    atomic_store(&slot->cursor, made->window_first);
    slot->block = blocks[pipid] = made;
}

/* window_bytes: of each slot; 0: as many as window_reserve gives. */
static void open_windows(size_t window_bytes)
{
    control = calloc(1, sizeof *control + SLOTS * sizeof(struct slot));
    CHECK(control != NULL);
    control->max_tasks = SLOTS;
    CHECK_EQUAL(window_reserve(control), 0);
    if (window_bytes)
        control->window_bytes = window_bytes;
    for (int32_t i = 0; i < SLOTS; i++)
        make_slot(i);
    block = blocks[0];
    ledger_control = control;
}

static int mappings_of_windows(void)
{
    return check_mappings_in(control->windows, control->windows + SLOTS * control->window_bytes) +
           check_mappings_in(control->overflow_start, control->overflow_end);
}

/* All that the slots mapped goes, and nothing of it is left. */
static void close_windows(void)
{
    for (int32_t i = 0; i < SLOTS; i++) {
        unmap_slot(i);
        free(blocks[i]);
    }
    CHECK_EQUAL(mappings_of_windows(), 0);
    window_release(control);
    free(control);
}

/* ---- What the tests ask ----------------------------------------------------------------------- */

static int is_error(long result)
{
    return result < 0 && result > -4096;
}

static uintptr_t map_for(struct task_block *owner, size_t bytes)
{
    long result = ledger_mmap(owner, 0, bytes, READ_WRITE, PLAIN, -1, 0);

    if (is_error(result))
        errno = (int)-result;
    CHECK(!is_error(result));
    return (uintptr_t)result;
}

static uintptr_t map(size_t bytes)
{
    return map_for(block, bytes);
}

static int in_window(uintptr_t at, size_t bytes)
{
    return at >= block->window_first && at + bytes <= block->window_end;
}

static int entries_of(const struct task_block *owner)
{
    int count = 0;

    for (int i = 0; i < SHARED_OUTSIDE; i++)
        count += atomic_load(&owner->outside[i].end) != 0;
    return count;
}

/* How often an address is written down. */
static int written_down(const struct task_block *owner, uintptr_t at)
{
    int count = 0;

    for (int i = 0; i < SHARED_OUTSIDE; i++)
        count +=
            atomic_load(&owner->outside[i].start) <= at && at < atomic_load(&owner->outside[i].end);
    return count;
}

/* An address outside of all windows where `pages` pages are free. */
static uintptr_t free_place(size_t pages)
{
    void *at = mmap(NULL, pages * ARCH_PAGE, PROT_NONE, PLAIN, -1, 0);

    CHECK(at != MAP_FAILED && munmap(at, pages * ARCH_PAGE) == 0);
    return (uintptr_t)at;
}

/* Memory that belongs to the root, not to a task. */
static char *roots_memory(size_t pages)
{
    char *at = mmap(NULL, pages * ARCH_PAGE, READ_WRITE, PLAIN, -1, 0);

    CHECK(at != MAP_FAILED);
    memset(at, 'r', pages * ARCH_PAGE);
    return at;
}

static int is_mapped(uintptr_t at)
{
    unsigned char resident;

    return mincore((void *)(at & -ARCH_PAGE), ARCH_PAGE, &resident) == 0;
}

/* ---- Placing ---------------------------------------------------------------------------------- */

static void test_mappings_are_placed_one_behind_the_other(void)
{
    open_windows(0);
    uintptr_t first = map(100), second = map(3 * ARCH_PAGE), third = map(1);
    CHECK_EQUAL(first, block->window_first);
    CHECK_EQUAL(second, first + ARCH_PAGE);
    CHECK_EQUAL(third, second + 3 * ARCH_PAGE);
    memset((void *)second, 1, 3 * ARCH_PAGE);
    CHECK_EQUAL(entries_of(block), 0);
    CHECK_EQUAL(atomic_load(&control->mappings_made), 3);
    close_windows();
}

static void test_two_slots_do_not_share_a_window(void)
{
    open_windows(0);
    uintptr_t mine = map(MIB), theirs = map_for(blocks[1], MIB);
    CHECK_EQUAL(theirs - mine, control->window_bytes);
    unmap_slot(0);
    CHECK(!is_mapped(mine));
    CHECK(is_mapped(theirs));
    close_windows();
}

static void test_large_mappings_are_aligned_for_huge_pages(void)
{
    open_windows(0);
    map(ARCH_PAGE);
    CHECK_EQUAL(map(2 * MIB) % ARCH_HUGE_PAGE, 0);
    CHECK_EQUAL(map(5 * MIB + 1) % ARCH_HUGE_PAGE, 0);
    CHECK(map(2 * MIB - ARCH_PAGE) % ARCH_HUGE_PAGE != 0 || block->window_first == 0);
    close_windows();
}

static void test_impossible_sizes_get_the_kernels_errors(void)
{
    open_windows(0);
    uintptr_t before = map(ARCH_PAGE);
    CHECK_EQUAL(ledger_mmap(block, 0, 0, READ_WRITE, PLAIN, -1, 0), -EINVAL);
    CHECK_EQUAL(ledger_mmap(block, 0, SIZE_MAX, READ_WRITE, PLAIN, -1, 0), -ENOMEM);
    CHECK_EQUAL(ledger_mmap(block, 0, 0 - 2 * ARCH_PAGE, READ_WRITE, PLAIN, -1, 0), -ENOMEM);
    CHECK_EQUAL(ledger_mmap(block, 0, 100, READ_WRITE, MAP_PRIVATE, -1, 0), -EBADF);
    CHECK_EQUAL(ledger_mmap(block, 0, 100, READ_WRITE, MAP_ANONYMOUS, -1, 0), -EINVAL);
    CHECK_EQUAL(entries_of(block), 0);
    CHECK(in_window(map(ARCH_PAGE), ARCH_PAGE));
    CHECK(map(ARCH_PAGE) > before);
    CHECK(atomic_load(&control->overflow_cursor) <= control->overflow_end);
    close_windows();
}

/* ---- Addresses of the caller's choice --------------------------------------------------------- */

static void test_fixed_inside_the_window_needs_no_entry(void)
{
    open_windows(0);
    uintptr_t at = map(4 * ARCH_PAGE);
    memset((void *)at, 7, 4 * ARCH_PAGE);
    CHECK_EQUAL(ledger_mmap(block, at + ARCH_PAGE, ARCH_PAGE, READ_WRITE, PLAIN | MAP_FIXED, -1, 0),
                at + ARCH_PAGE);
    CHECK_EQUAL(*(char *)at, 7);
    CHECK_EQUAL(*(char *)(at + ARCH_PAGE), 0);
    CHECK_EQUAL(entries_of(block), 0);
    close_windows();
}

static void test_fixed_outside_is_written_down_and_unmapped_at_the_end(void)
{
    open_windows(0);
    uintptr_t at = free_place(8);
    CHECK_EQUAL(
        ledger_mmap(block, at, 8 * ARCH_PAGE, READ_WRITE, PLAIN | MAP_FIXED_NOREPLACE, -1, 0), at);
    CHECK_EQUAL(written_down(block, at), 1);
    CHECK_EQUAL(written_down(block, at + 8 * ARCH_PAGE - 1), 1);
    CHECK_EQUAL(written_down(block, at + 8 * ARCH_PAGE), 0);
    unmap_slot(0);
    CHECK(!is_mapped(at) && !is_mapped(at + 7 * ARCH_PAGE));
    close_windows();
}

static void test_fixed_that_fails_leaves_no_entry(void)
{
    open_windows(0);
    char *memory = roots_memory(1);
    long flags = PLAIN | MAP_FIXED_NOREPLACE;
    uintptr_t at = free_place(1);
    CHECK_EQUAL(ledger_mmap(block, (uintptr_t)memory, ARCH_PAGE, READ_WRITE, flags, -1, 0),
                -EEXIST);
    CHECK_EQUAL(ledger_mmap(block, at + 1, ARCH_PAGE, READ_WRITE, flags, -1, 0), -EINVAL);
    CHECK_EQUAL(ledger_mmap(block, at, 0 - ARCH_PAGE, READ_WRITE, flags, -1, 0), -ENOMEM);
    CHECK_EQUAL(entries_of(block), 0);
    unmap_slot(0);
    CHECK_EQUAL(memory[0], 'r');
    munmap(memory, ARCH_PAGE);
    close_windows();
}

static void test_fixed_again_at_one_place_takes_no_more_entries(void)
{
    open_windows(0);
    uintptr_t at = free_place(1);
    for (int i = 0; i < SHARED_OUTSIDE + 10; i++)
        CHECK_EQUAL(ledger_mmap(block, at, ARCH_PAGE, READ_WRITE, PLAIN | MAP_FIXED, -1, 0), at);
    CHECK_EQUAL(atomic_load(&control->untracked), 0);
    close_windows();
}

static void test_hint_is_honoured_where_it_is_free(void)
{
    open_windows(0);
    uintptr_t inside = block->window_first + 64 * MIB, outside = free_place(1);
    CHECK_EQUAL(ledger_mmap(block, inside + 5, 100, READ_WRITE, PLAIN, -1, 0), inside);
    CHECK_EQUAL(entries_of(block), 0);
    uintptr_t got = (uintptr_t)ledger_mmap(block, outside, 100, READ_WRITE, PLAIN, -1, 0);
    CHECK(got == outside ? written_down(block, outside) == 1 : in_window(got, 100));
    unmap_slot(0);
    CHECK(!is_mapped(inside) && !is_mapped(got));
    close_windows();
}

static void test_hint_that_is_taken_is_placed_in_the_window(void)
{
    open_windows(0);
    char *memory = roots_memory(1);
    uintptr_t taken = map(ARCH_PAGE);
    uintptr_t at = (uintptr_t)ledger_mmap(block, (uintptr_t)memory, 100, READ_WRITE, PLAIN, -1, 0);
    CHECK(in_window(at, 100));
    CHECK_EQUAL(written_down(block, (uintptr_t)memory), 0);
    at = (uintptr_t)ledger_mmap(block, taken, 100, READ_WRITE, PLAIN, -1, 0);
    CHECK(in_window(at, 100) && at != taken);
    CHECK_EQUAL(entries_of(block), 0);
    unmap_slot(0);
    CHECK_EQUAL(memory[0], 'r');
    munmap(memory, ARCH_PAGE);
    close_windows();
}

static void test_32bit_mapping_is_written_down(void)
{
    open_windows(0);
    long result = ledger_mmap(block, 0, 2 * ARCH_PAGE, READ_WRITE, PLAIN | MAP_32BIT, -1, 0);
    if (!is_error(result)) { /* the sanitizer's shadow may leave no room there */
        CHECK(result + 2 * (long)ARCH_PAGE <= 1L << 32);
        CHECK_EQUAL(written_down(block, (uintptr_t)result), 1);
        unmap_slot(0);
        CHECK(!is_mapped((uintptr_t)result));
    }
    close_windows();
}

/* ---- Striking --------------------------------------------------------------------------------- */

static uintptr_t map_outside(size_t pages)
{
    uintptr_t at = free_place(pages);

    CHECK_EQUAL(ledger_mmap(block, at, pages * ARCH_PAGE, READ_WRITE, PLAIN | MAP_FIXED, -1, 0),
                at);
    return at;
}

static void test_unmapped_memory_is_struck(void)
{
    open_windows(0);
    uintptr_t at = map_outside(4);
    CHECK_EQUAL(ledger_munmap(block, at, 4 * ARCH_PAGE), 0);
    CHECK_EQUAL(entries_of(block), 0);
    /* Somebody else's now. */
    CHECK(mmap((void *)at, ARCH_PAGE, READ_WRITE, PLAIN | MAP_FIXED_NOREPLACE, -1, 0) !=
          MAP_FAILED);
    unmap_slot(0);
    CHECK(is_mapped(at));
    munmap((void *)at, ARCH_PAGE);
    close_windows();
}

static void test_partly_unmapped_memory_is_struck_partly(void)
{
    open_windows(0);
    uintptr_t at = map_outside(8);
    CHECK_EQUAL(ledger_munmap(block, at, ARCH_PAGE), 0);
    CHECK_EQUAL(ledger_munmap(block, at + 7 * ARCH_PAGE, ARCH_PAGE - 1), 0);
    CHECK_EQUAL(ledger_munmap(block, at + 3 * ARCH_PAGE, 2 * ARCH_PAGE), 0);
    const int left[8] = {0, 1, 1, 0, 0, 1, 1, 0};
    for (size_t i = 0; i < 8; i++)
        CHECK_EQUAL(written_down(block, at + i * ARCH_PAGE), left[i]);
    CHECK_EQUAL(entries_of(block), 2);
    unmap_slot(0);
    CHECK_EQUAL(check_mappings_in(at, at + 8 * ARCH_PAGE), 0);
    close_windows();
}

static void test_one_unmapping_strikes_all_that_it_covers(void)
{
    open_windows(0);
    uintptr_t at = free_place(6);
    for (size_t i = 0; i < 6; i += 2)
        CHECK_EQUAL(
            ledger_mmap(block, at + i * ARCH_PAGE, ARCH_PAGE, READ_WRITE, PLAIN | MAP_FIXED, -1, 0),
            at + i * ARCH_PAGE);
    CHECK_EQUAL(entries_of(block), 3);
    CHECK_EQUAL(ledger_munmap(block, at, 6 * ARCH_PAGE), 0);
    CHECK_EQUAL(entries_of(block), 0);
    close_windows();
}

static void test_unmapping_that_is_refused_strikes_nothing(void)
{
    open_windows(0);
    uintptr_t at = map_outside(2);
    CHECK_EQUAL(ledger_munmap(block, at + 1, ARCH_PAGE), -EINVAL);
    CHECK_EQUAL(ledger_munmap(block, at, 0), -EINVAL);
    CHECK_EQUAL(written_down(block, at), 1);
    CHECK_EQUAL(written_down(block, at + ARCH_PAGE), 1);
    unmap_slot(0);
    CHECK(!is_mapped(at));
    close_windows();
}

static void test_full_table_counts_what_it_cannot_hold(void)
{
    open_windows(0);
    uintptr_t at = free_place(2 * (SHARED_OUTSIDE + 3));
    for (size_t i = 0; i < SHARED_OUTSIDE + 3; i++)
        CHECK_EQUAL(ledger_mmap(block, at + 2 * i * ARCH_PAGE, ARCH_PAGE, READ_WRITE,
                                PLAIN | MAP_FIXED, -1, 0),
                    at + 2 * i * ARCH_PAGE);
    CHECK_EQUAL(atomic_load(&control->untracked), 3);
    unmap_slot(0);
    CHECK_EQUAL(check_mappings_in(at, at + 2 * (SHARED_OUTSIDE + 3) * ARCH_PAGE), 3);
    munmap((void *)at, 2 * (SHARED_OUTSIDE + 3) * ARCH_PAGE);
    close_windows();
}

/* ---- mremap ----------------------------------------------------------------------------------- */

static void test_mremap_grows_in_place_where_it_is_free(void)
{
    open_windows(0);
    uintptr_t at = map(ARCH_PAGE);
    *(char *)at = 42;
    CHECK_EQUAL(ledger_mremap(block, at, ARCH_PAGE, 4 * ARCH_PAGE, 0, 0), at);
    CHECK_EQUAL(*(char *)at, 42);
    /* What lies behind was not taken from the cursor: nobody else may get it. */
    uintptr_t next = map(ARCH_PAGE);
    CHECK(next >= at + 4 * ARCH_PAGE);
    CHECK_EQUAL(ledger_mremap(block, at, 4 * ARCH_PAGE, ARCH_PAGE, 0, 0), at);
    CHECK(!is_mapped(at + ARCH_PAGE));
    close_windows();
}

static void test_mremap_moves_within_the_window(void)
{
    open_windows(0);
    uintptr_t at = map(ARCH_PAGE), wall = map(ARCH_PAGE);
    strcpy((char *)at, "content");
    CHECK_EQUAL(ledger_mremap(block, at, ARCH_PAGE, 2 * ARCH_PAGE, 0, 0), -ENOMEM);
    uintptr_t moved = (uintptr_t)ledger_mremap(block, at, ARCH_PAGE, 3 * MIB, MREMAP_MAYMOVE, 0);
    CHECK(in_window(moved, 3 * MIB) && moved != at);
    CHECK(strcmp((char *)moved, "content") == 0);
    CHECK(!is_mapped(at) && is_mapped(wall));
    CHECK_EQUAL(entries_of(block), 0);
    close_windows();
}

static void test_mremap_never_grows_out_of_the_window(void)
{
    open_windows(64 * MIB);
    uintptr_t last = block->window_end - ARCH_PAGE;
    CHECK_EQUAL(ledger_mmap(block, last, ARCH_PAGE, READ_WRITE, PLAIN | MAP_FIXED, -1, 0), last);
    *(char *)last = 42;
    CHECK_EQUAL(ledger_mremap(block, last, ARCH_PAGE, 2 * ARCH_PAGE, 0, 0), -ENOMEM);
    uintptr_t moved =
        (uintptr_t)ledger_mremap(block, last, ARCH_PAGE, 2 * ARCH_PAGE, MREMAP_MAYMOVE, 0);
    CHECK(in_window(moved, 2 * ARCH_PAGE));
    CHECK_EQUAL(*(char *)moved, 42);
    close_windows();
}

static void test_mremap_takes_outside_memory_into_the_window(void)
{
    open_windows(0);
    uintptr_t at = map_outside(2);
    strcpy((char *)at, "content");
    uintptr_t moved =
        (uintptr_t)ledger_mremap(block, at, 2 * ARCH_PAGE, 3 * ARCH_PAGE, MREMAP_MAYMOVE, 0);
    CHECK(in_window(moved, 3 * ARCH_PAGE));
    CHECK(strcmp((char *)moved, "content") == 0);
    CHECK_EQUAL(entries_of(block), 0);
    CHECK(!is_mapped(at));
    close_windows();
}

static void test_mremap_that_shrinks_outside_strikes_the_tail(void)
{
    open_windows(0);
    uintptr_t at = map_outside(4);
    CHECK_EQUAL(ledger_mremap(block, at, 4 * ARCH_PAGE, ARCH_PAGE, 0, 0), at);
    CHECK_EQUAL(written_down(block, at), 1);
    CHECK_EQUAL(written_down(block, at + ARCH_PAGE), 0);
    CHECK_EQUAL(ledger_mremap(block, at, ARCH_PAGE, 0, 0, 0), -EINVAL);
    CHECK_EQUAL(written_down(block, at), 1);
    unmap_slot(0);
    CHECK(!is_mapped(at));
    close_windows();
}

static void test_mremap_to_a_fixed_place_outside_is_written_down(void)
{
    open_windows(0);
    uintptr_t at = map(2 * ARCH_PAGE), target = free_place(2);
    const long flags = MREMAP_MAYMOVE | MREMAP_FIXED;
    strcpy((char *)at, "content");
    CHECK_EQUAL(ledger_mremap(block, at, 2 * ARCH_PAGE, 2 * ARCH_PAGE, flags, target), target);
    CHECK(strcmp((char *)target, "content") == 0);
    CHECK_EQUAL(written_down(block, target), 1);
    CHECK_EQUAL(ledger_mremap(block, target, 2 * ARCH_PAGE, 2 * ARCH_PAGE, flags, at), at);
    CHECK_EQUAL(entries_of(block), 0);
    close_windows();
}

static void test_mremap_that_fails_does_not_claim_its_target(void)
{
    open_windows(0);
    char *memory = roots_memory(1);
    uintptr_t hole = block->window_first + 8 * MIB;
    CHECK(is_error(
        ledger_mremap(block, hole, ARCH_PAGE, ARCH_PAGE, MREMAP_FIXED, (uintptr_t)memory)));
    CHECK_EQUAL(entries_of(block), 0);
    unmap_slot(0);
    CHECK_EQUAL(memory[0], 'r');
    munmap(memory, ARCH_PAGE);
    close_windows();
}

/* ---- A window that is used up ----------------------------------------------------------------- */

static void test_cursor_starts_over_and_jumps_over_what_lives(void)
{
    open_windows(64 * MIB);
    uintptr_t lives[8], ring[4] = {0};
    for (int i = 0; i < 8; i++) {
        lives[i] = map(3 * ARCH_PAGE);
        memset((void *)lives[i], i + 1, 3 * ARCH_PAGE);
        CHECK_EQUAL(ledger_munmap(block, map(MIB), MIB), 0);
    }
    /* Sixteen windows' worth, at most four of them mapped at a time. */
    for (unsigned i = 0; i < 1024; i++) {
        if (ring[i % 4])
            CHECK_EQUAL(ledger_munmap(block, ring[i % 4], MIB), 0);
        ring[i % 4] = map(MIB);
        CHECK(in_window(ring[i % 4], MIB));
        memset((void *)ring[i % 4], 0x55, ARCH_PAGE);
    }
    for (int i = 0; i < 8; i++)
        for (size_t at = 0; at < 3 * ARCH_PAGE; at += 100)
            CHECK_EQUAL(((char *)lives[i])[at], i + 1);
    CHECK_EQUAL(entries_of(block), 0);
    close_windows();
}

static int in_overflow(uintptr_t at, size_t bytes)
{
    return at >= control->overflow_start && at + bytes <= control->overflow_end;
}

static void test_mapping_larger_than_half_a_window_goes_to_the_overflow_area(void)
{
    open_windows(64 * MIB);
    uintptr_t mine = map(40 * MIB), theirs = map_for(blocks[1], 100 * MIB);
    CHECK(in_overflow(mine, 40 * MIB) && in_overflow(theirs, 100 * MIB));
    CHECK(written_down(block, mine) && written_down(block, mine + 40 * MIB - 1));
    CHECK(written_down(blocks[1], theirs) && written_down(blocks[1], theirs + 100 * MIB - 1));
    CHECK(!written_down(block, theirs) && !written_down(blocks[1], mine));
    unmap_slot(0);
    CHECK(!is_mapped(mine) && is_mapped(theirs) && is_mapped(theirs + 100 * MIB - 1));
    close_windows();
}

static void test_full_window_spills_into_the_overflow_area(void)
{
    uintptr_t maps[SLOTS][64];

    open_windows(64 * MIB);
    /* In turns, three times what a window has. */
    for (int i = 0; i < 48; i++)
        for (int pipid = 0; pipid < SLOTS; pipid++) {
            maps[pipid][i] = map_for(blocks[pipid], 4 * MIB);
            *(int *)maps[pipid][i] = 2 * i + pipid;
        }
    CHECK(in_overflow(maps[0][47], 4 * MIB));
    unmap_slot(0);
    for (int i = 0; i < 48; i++) {
        CHECK(!is_mapped(maps[0][i]));
        CHECK_EQUAL(*(int *)maps[1][i], 2 * i + 1);
    }
    CHECK_EQUAL(atomic_load(&control->untracked), 0);
    close_windows();
}

static void test_memory_that_is_mapped_again_in_the_overflow_area_is_found(void)
{
    open_windows(64 * MIB);
    uintptr_t stays = map(40 * MIB);
    for (int i = 0; i < 1000; i++)
        CHECK_EQUAL(ledger_munmap(block, map(33 * MIB), 33 * MIB), 0);
    for (int i = 0; i < 4; i++)
        map(33 * MIB);
    CHECK_EQUAL(ledger_munmap(block, stays + MIB, 30 * MIB), 0);
    map(33 * MIB);
    CHECK_EQUAL(atomic_load(&control->untracked), 0);
    close_windows(); /* sees that nothing is left */
}

static void test_overflow_area_that_starts_over_gives_nobody_anothers_place(void)
{
    open_windows(64 * MIB);
    uintptr_t mine = map(40 * MIB);
    CHECK_EQUAL(ledger_munmap(block, mine, 40 * MIB), 0); /* its place stays this slot's */
    atomic_store(&control->overflow_cursor, control->overflow_start);
    uintptr_t theirs = map_for(blocks[1], 40 * MIB);
    *(int *)theirs = 42;
    mine = map(40 * MIB);
    CHECK(mine + 40 * MIB <= theirs || theirs + 40 * MIB <= mine);
    unmap_slot(0);
    CHECK(is_mapped(theirs));
    CHECK_EQUAL(*(int *)theirs, 42);
    close_windows();
}

static void test_size_that_no_area_takes_leaves_the_cursors_alone(void)
{
    open_windows(64 * MIB);
    map(40 * MIB);
    const size_t sizes[] = {1UL << 45, 1UL << 46, 1UL << 47, 0 - 2 * MIB, 0 - ARCH_PAGE, SIZE_MAX};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        long at = ledger_mmap(block, 0, sizes[i], PROT_NONE, PLAIN, -1, 0);
        CHECK(at == -ENOMEM || written_down(block, (uintptr_t)at));
        CHECK(in_window(atomic_load(&block->slot->cursor), 0));
        uintptr_t cursor = atomic_load(&control->overflow_cursor);
        CHECK(cursor > control->overflow_start && cursor <= control->overflow_end);
        if (!is_error(at))
            CHECK_EQUAL(ledger_munmap(block, (uintptr_t)at, sizes[i]), 0);
    }
    CHECK(in_window(map(ARCH_PAGE), ARCH_PAGE));
    close_windows();
}

/* ---- ld.so's calls ---------------------------------------------------------------------------- */

static void test_loaders_call_is_placed_in_the_window_of_its_site(void)
{
    open_windows(0);
    uintptr_t site = blocks[1]->window_first + 100;
    uintptr_t at = (uintptr_t)ledger_loader_mmap(site, ARCH_PAGE, READ_WRITE, PLAIN, -1, 0);
    CHECK(at >= blocks[1]->window_first && at < blocks[1]->window_end);
    /* From elsewhere, as when ld.so is another's, the kernel decides. */
    at = (uintptr_t)ledger_loader_mmap((uintptr_t)control, ARCH_PAGE, READ_WRITE, PLAIN, -1, 0);
    CHECK(at < control->windows || at >= control->overflow_end);
    munmap((void *)at, ARCH_PAGE);
    close_windows();
}

static void test_loaders_first_memory_comes_from_the_spare_pages(void)
{
    const long flags = MAP_PRIVATE | MAP_ANONYMOUS;

    open_windows(0);
    uintptr_t spare = map(4 * ARCH_PAGE), site = spare;
    atomic_store(&block->slot->spare, spare);
    block->spare_end = spare + 4 * ARCH_PAGE;
    CHECK_EQUAL(ledger_loader_mmap(site, 100, READ_WRITE, flags, -1, 0), spare);
    CHECK_EQUAL(ledger_loader_mmap(site, 2 * ARCH_PAGE, READ_WRITE, flags, -1, 0),
                spare + ARCH_PAGE);
    uintptr_t other = (uintptr_t)ledger_loader_mmap(site, 2 * ARCH_PAGE, READ_WRITE, flags, -1, 0);
    CHECK(other >= spare + 4 * ARCH_PAGE && in_window(other, 2 * ARCH_PAGE));
    other = (uintptr_t)ledger_loader_mmap(site, ARCH_PAGE, PROT_READ, flags, -1, 0);
    CHECK(other >= spare + 4 * ARCH_PAGE);
    CHECK_EQUAL(ledger_loader_mmap(site, ARCH_PAGE, READ_WRITE, flags, -1, 0),
                spare + 3 * ARCH_PAGE);
    CHECK_EQUAL(ledger_loader_mmap(site, 0, READ_WRITE, flags, -1, 0), -EINVAL);
    close_windows();
}

/* ---- Threads ---------------------------------------------------------------------------------- */

#define THREADS 2
#define LIVE 24
#define ROUNDS 3000

struct live {
    uintptr_t at;
    size_t bytes;
    uint64_t mark;
};

/* The first and the last word of each page tell whose it is. */
static void mark(const struct live *live)
{
    for (size_t page = 0; page < live->bytes; page += ARCH_PAGE)
        *(uint64_t *)(live->at + page) = *(uint64_t *)(live->at + page + ARCH_PAGE - 8) =
            live->mark + page;
}

static void verify(const struct live *live, size_t bytes)
{
    for (size_t page = 0; page < bytes; page += ARCH_PAGE) {
        CHECK_EQUAL(*(uint64_t *)(live->at + page), live->mark + page);
        CHECK_EQUAL(*(uint64_t *)(live->at + page + ARCH_PAGE - 8), live->mark + page);
    }
}

static void *hammer(void *argument)
{
    uint64_t state = (uintptr_t)argument;
    struct live table[LIVE] = {0};

    for (int round = 0; round < ROUNDS; round++) {
        struct live *live = &table[check_random(&state) % LIVE];
        size_t bytes = (1 + check_random(&state) % 600) * ARCH_PAGE;
        if (!live->at) {
            *live = (struct live){map(bytes), bytes, check_random(&state)};
            mark(live);
            continue;
        }
        verify(live, live->bytes);
        if (check_random(&state) % 2) {
            CHECK_EQUAL(ledger_munmap(block, live->at, live->bytes), 0);
            live->at = 0;
            continue;
        }
        long moved = ledger_mremap(block, live->at, live->bytes, bytes, MREMAP_MAYMOVE, 0);
        CHECK(!is_error(moved));
        live->at = (uintptr_t)moved;
        verify(live, live->bytes < bytes ? live->bytes : bytes);
        live->bytes = bytes;
        mark(live);
    }
    for (int i = 0; i < LIVE; i++)
        if (table[i].at)
            verify(&table[i], table[i].bytes);
    return NULL;
}

/* Overlapping mappings would carry another's marks. */
static void hammer_window(size_t window_bytes)
{
    pthread_t threads[THREADS];

    open_windows(window_bytes);
    for (uintptr_t i = 0; i < THREADS; i++)
        CHECK_EQUAL(pthread_create(&threads[i], NULL, hammer, (void *)(i + 1)), 0);
    for (int i = 0; i < THREADS; i++)
        CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
    CHECK_EQUAL(atomic_load(&control->untracked), 0);
    close_windows();
}

static void test_threads_never_get_each_others_memory(void)
{
    hammer_window(0);
}

static void test_threads_never_get_each_others_memory_in_a_narrow_window(void)
{
    hammer_window(192 * MIB);
}

int main(void)
{
    RUN(test_mappings_are_placed_one_behind_the_other);
    RUN(test_two_slots_do_not_share_a_window);
    RUN(test_large_mappings_are_aligned_for_huge_pages);
    RUN(test_impossible_sizes_get_the_kernels_errors);
    RUN(test_fixed_inside_the_window_needs_no_entry);
    RUN(test_fixed_outside_is_written_down_and_unmapped_at_the_end);
    RUN(test_fixed_that_fails_leaves_no_entry);
    RUN(test_fixed_again_at_one_place_takes_no_more_entries);
    RUN(test_hint_is_honoured_where_it_is_free);
    RUN(test_hint_that_is_taken_is_placed_in_the_window);
    RUN(test_32bit_mapping_is_written_down);
    RUN(test_unmapped_memory_is_struck);
    RUN(test_partly_unmapped_memory_is_struck_partly);
    RUN(test_one_unmapping_strikes_all_that_it_covers);
    RUN(test_unmapping_that_is_refused_strikes_nothing);
    RUN(test_full_table_counts_what_it_cannot_hold);
    RUN(test_mremap_grows_in_place_where_it_is_free);
    RUN(test_mremap_moves_within_the_window);
    RUN(test_mremap_never_grows_out_of_the_window);
    RUN(test_mremap_takes_outside_memory_into_the_window);
    RUN(test_mremap_that_shrinks_outside_strikes_the_tail);
    RUN(test_mremap_to_a_fixed_place_outside_is_written_down);
    RUN(test_mremap_that_fails_does_not_claim_its_target);
    RUN(test_cursor_starts_over_and_jumps_over_what_lives);
    RUN(test_mapping_larger_than_half_a_window_goes_to_the_overflow_area);
    RUN(test_full_window_spills_into_the_overflow_area);
    RUN(test_memory_that_is_mapped_again_in_the_overflow_area_is_found);
    RUN(test_overflow_area_that_starts_over_gives_nobody_anothers_place);
    RUN(test_size_that_no_area_takes_leaves_the_cursors_alone);
    RUN(test_loaders_call_is_placed_in_the_window_of_its_site);
    RUN(test_loaders_first_memory_comes_from_the_spare_pages);
    RUN(test_threads_never_get_each_others_memory);
    RUN(test_threads_never_get_each_others_memory_in_a_narrow_window);
    return 0;
}
