/* SPDX-License-Identifier: BSD-2-Clause
 *
 * stress.c: see stress.h.
 */
#include "stress.h"

#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>

#define WORDS (STRESS_PAGE / sizeof(uint64_t))
#define NARROW_WORDS 8
#define NAMES 4

static uint64_t draw(struct stress_party *party, uint64_t below)
{
    party->random ^= party->random >> 12;
    party->random ^= party->random << 25;
    party->random ^= party->random >> 27;
    return (party->random * 0x2545f4914f6cdd1dUL >> 33) % below;
}

/* ---- Pages ------------------------------------------------------------------------------------ */

static uint64_t word_of(uint64_t number, size_t index)
{
    return index ? (number + index) * 0x9e3779b97f4a7c15UL : number;
}

static void fill(struct stress_party *party, uint64_t *page)
{
    uint64_t number = atomic_fetch_add(&party->board->numbers, 1) + 1;

    for (size_t i = 0; i < WORDS; i++)
        page[i] = word_of(number, i);
}

static bool is_intact(const struct stress_hold *hold)
{
    for (size_t i = 0; i < hold->words; i++)
        if (*(volatile const uint64_t *)&hold->page[i] != word_of(hold->number, i))
            return false;
    return true;
}

/* ---- Exports ---------------------------------------------------------------------------------- */

static int export(struct stress_party *party, struct stress_export *entry, uint64_t *page,
                  size_t words, char kind)
{
    const int64_t dims[] = {(int64_t)words, sizeof(uint64_t)};
    const struct aiopip_array array = {
        .address = (uintptr_t)page,
        .start = (uintptr_t)page,
        .end = (uintptr_t)(page + words),
        .flags =
            AIOPIP_ARRAY_TYPED | (party->board->keeps && !draw(party, 16) ? AIOPIP_EXPORT_KEEP : 0),
        .ndim = 1,
        .dims = dims,
        .dtype = "<u8",
        .dtype_bytes = 3};
    char name[8];
    int bytes = snprintf(name, sizeof name, "%c%d", kind, (int)draw(party, NAMES));
    int result = aiopip_export(party->peer, name, (size_t)bytes, &array, &entry->id);

    if (result == 0)
        entry->state = STRESS_PUBLISHED;
    return result == 0 || result == -EBUSY ? 0 : __LINE__;
}

static int export_page(struct stress_party *party)
{
    struct stress_export *entry = &party->exports[draw(party, STRESS_PAGES)];

    if (entry->state != STRESS_FREE)
        return 0;
    fill(party, entry->page);
    return export(party, entry, entry->page, WORDS, 's');
}

static int forward(struct stress_party *party)
{
    struct stress_export *entry = &party->exports[STRESS_PAGES + draw(party, STRESS_PAGES)];
    int index = (int)draw(party, STRESS_HOLDS);
    struct stress_hold *hold = &party->holds[index];

    if (entry->state != STRESS_FREE || !hold->hold)
        return 0;
    int result = export(party, entry, (uint64_t *)hold->page, hold->words, 'f');
    if (entry->state == STRESS_PUBLISHED) {
        entry->hold = index;
        hold->forwarded++;
        atomic_fetch_add(&party->board->forwards, 1);
    }
    return result;
}

/* Nobody has it any more. */
static void take_back(struct stress_party *party, struct stress_export *entry)
{
    entry->state = STRESS_FREE;
    if (entry->hold < 0)
        fill(party, entry->page);
    else
        party->holds[entry->hold].forwarded--;
}

static int withdraw(struct stress_party *party, struct stress_export *entry)
{
    if (entry->state != STRESS_PUBLISHED)
        return 0;
    int result = aiopip_withdraw(party->peer, entry->id);
    if (result == 0)
        take_back(party, entry);
    else if (result == 1)
        entry->state = STRESS_WITHDRAWN;
    else
        return __LINE__;
    return 0;
}

static int take_released(struct stress_party *party)
{
    uint64_t ids[2 * STRESS_PAGES];
    int told = aiopip_released(party->peer, ids, 1 + (int)draw(party, 2 * STRESS_PAGES));

    if (told < 0)
        return __LINE__;
    for (int i = 0; i < told; i++) {
        struct stress_export *entry = party->exports;
        while (entry < party->exports + 2 * STRESS_PAGES &&
               (entry->state != STRESS_WITHDRAWN || entry->id != ids[i]))
            entry++;
        if (entry == party->exports + 2 * STRESS_PAGES)
            return __LINE__; /* told twice, or of nothing */
        take_back(party, entry);
    }
    return 0;
}

/* ---- Imports ---------------------------------------------------------------------------------- */

static int import(struct stress_party *party)
{
    struct stress_hold *entry = &party->holds[draw(party, STRESS_HOLDS)];
    int32_t pipid = (int32_t)draw(party, STRESS_SLOTS + 2);
    struct aiopip_array array;
    char name[8];

    if (entry->hold)
        return 0;
    if (pipid >= STRESS_SLOTS)
        pipid = AIOPIP_PIPID_ROOT;
    int bytes =
        snprintf(name, sizeof name, "%c%d", draw(party, 2) ? 's' : 'f', (int)draw(party, NAMES));
    int result = aiopip_import(party->peer, pipid, 0, name, (size_t)bytes, &entry->hold);
    if (result < 0)
        return result == -EAGAIN || result == -ECANCELED ? 0 : __LINE__;
    aiopip_hold_array(entry->hold, &array);
    entry->page = (const uint64_t *)array.address;
    entry->words = (size_t)array.dims[0];
    entry->number = entry->page[0];
    entry->forwarded = 0;
    atomic_fetch_add(&party->board->imports, 1);
    return is_intact(entry) ? 0 : __LINE__;
}

static int release(struct stress_hold *entry)
{
    if (!entry->hold || entry->forwarded)
        return 0;
    if (!is_intact(entry))
        return __LINE__;
    aiopip_hold_release(entry->hold);
    entry->hold = NULL;
    return 0;
}

static int narrow(struct stress_hold *entry)
{
    aiopip_hold *narrow;

    if (!entry->hold || entry->forwarded || entry->words == NARROW_WORDS)
        return 0;
    if (aiopip_hold_narrow(entry->hold, (uintptr_t)entry->page, NARROW_WORDS * sizeof(uint64_t),
                           &narrow) < 0)
        return __LINE__;
    aiopip_hold_release(entry->hold);
    entry->hold = narrow;
    entry->words = NARROW_WORDS;
    return is_intact(entry) ? 0 : __LINE__;
}

/* ---- The party -------------------------------------------------------------------------------- */

void stress_begin(struct stress_party *party, aiopip_peer *peer, struct stress_board *board,
                  uint64_t seed, bool only_imports)
{
    uint64_t *pages = mmap(NULL, (size_t)STRESS_PAGES * STRESS_PAGE, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    *party = (struct stress_party){
        .peer = peer, .board = board, .random = seed, .only_imports = only_imports};
    for (int i = 0; i < 2 * STRESS_PAGES; i++) {
        party->exports[i].page = i < STRESS_PAGES ? pages + (size_t)i * WORDS : NULL;
        party->exports[i].hold = -1;
    }
}

int stress_step(struct stress_party *party)
{
    struct stress_hold *hold = &party->holds[draw(party, STRESS_HOLDS)];

    atomic_fetch_add(&party->board->steps, 1);
    switch (party->only_imports ? 5 + draw(party, 5) : draw(party, 10)) {
    case 0:
    case 1:
        return export_page(party);
    case 2:
        return withdraw(party, &party->exports[draw(party, 2 * STRESS_PAGES)]);
    case 3:
        return take_released(party);
    case 4:
        return forward(party);
    case 5:
        return release(hold);
    case 6:
        return narrow(hold);
    case 7:
        return !hold->hold || is_intact(hold) ? 0 : __LINE__;
    default:
        return import(party);
    }
}

bool stress_end(struct stress_party *party)
{
    bool held = false;

    if (!party->only_imports)
        take_released(party);
    for (int i = 0; i < 2 * STRESS_PAGES; i++) {
        withdraw(party, &party->exports[i]);
        held |= party->exports[i].state != STRESS_FREE;
    }
    for (int i = 0; i < STRESS_HOLDS; i++) {
        release(&party->holds[i]);
        held |= party->holds[i].hold != NULL;
    }
    if (!held)
        munmap(party->exports[0].page, (size_t)STRESS_PAGES * STRESS_PAGE);
    return !held;
}
