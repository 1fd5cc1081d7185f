/* SPDX-License-Identifier: BSD-2-Clause
 *
 * learning.c: finding out what has to be written into an ld.so so that it need not ask the processor.
 *
 * glibc does not say which of its words these are, and they change with its versions, so it is asked
 * by experiment.  The probe reports in which state ld.so's writable segment is:
 *
 *   twice as it is       words on which both runs agree are the truth; others are no matter, unless
 *                        they are features: one of these says on which processor it was
 *   with the features    ld.so finds that it need not ask.  What it lacks then are other words that
 *                        it would have set on the way
 *   with all of them     nothing may be missing
 *
 * The features are a structure whose size nobody tells: it ends at the latest where the file of ld.so
 * is no longer zero.  What was learned is for this file and for as long as this process runs: the
 * next one may be on another processor.
 *
 * Two more runs show whether windows can be kept warm here (warm.h): one to write its state down, and one
 * in that state.
 */
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "seed.h"

/* What was found out; under the lock of core.c's opening. */
static struct {
    bool tried;
    bool found;
    bool resumes; /* tasks have begun in warm windows, and found everything there */
    bool fails;   /* they have not */
    dev_t device;
    ino_t inode;
    struct timespec changed;
    struct seed seed;
} learned;

struct lesson {
    struct aiopip_client *client;
    const char *probe;
    struct image *image;
    struct seed seed;
    struct probe_report *truth, *again, *seeded;
};

static bool run(struct lesson *lesson, struct probe_report *report, const struct seed *seed)
{
    struct core *core = lesson->client->core;
    const struct image_segment *data = &lesson->image->segments[lesson->image->segment_count - 1];

    *report = (struct probe_report){.start = data->start,
                                    .count = (lesson->image->variables_end - data->start) /
                                             sizeof(uint64_t)};
    if (report->count > PROBE_WORDS)
        return false;
    core_lock(core);
    core->seed = seed;
    core->seeded = lesson->image;
    core_unlock(core, SIDE_PROCESS);
    int result = probe_run(lesson->client, lesson->probe, report);
    core_lock(core);
    core->seed = NULL;
    core_unlock(core, SIDE_PROCESS);
    return result == 0 && report->image_at != 0;
}

/* A word from the image's start, when it is an address within. */
static bool is_address(const struct lesson *lesson, uint64_t value)
{
    return value - lesson->truth->image_at < lesson->image->bytes;
}

/* Whether the seeded probe has another word than it should.  The platform's name is a string of
 * ld.so's; a seeded task finds it on its stack instead. */
static bool is_missing(const struct lesson *lesson, size_t i)
{
    uint64_t value = lesson->truth->words[i], theirs = lesson->seeded->words[i];
    size_t offset = lesson->truth->start + i * sizeof value;
    bool feature = offset >= lesson->image->features && offset < lesson->image->features_end;

    if (value == theirs || (value != lesson->again->words[i] && !feature))
        return false;
    return !(value && value == lesson->truth->platform && theirs == lesson->seeded->platform);
}

/* Take over what is missing in [start, end) of the image.  False when it is too much. */
static bool take_missing(struct lesson *lesson, size_t start, size_t end)
{
    const struct probe_report *truth = lesson->truth;
    struct seed *seed = &lesson->seed;

    for (size_t i = 0; i < truth->count; i++) {
        size_t offset = truth->start + i * sizeof truth->words[0];
        bool relative = is_address(lesson, truth->words[i]);
        if (offset < start || offset >= end || !is_missing(lesson, i))
            continue;
        if (seed->count == SEED_WORDS)
            return false;
        seed->words[seed->count++] = (struct seed_word){
            (uint32_t)offset, relative, truth->words[i] - (relative ? truth->image_at : 0)};
    }
    return true;
}

static bool learn(struct lesson *lesson)
{
    const struct image *image = lesson->image;
    const struct probe_report *truth = lesson->truth;

    if (!run(lesson, lesson->truth, NULL) || !run(lesson, lesson->again, NULL) ||
        truth->image_at != lesson->again->image_at)
        return false;
    lesson->seed.hwcap = truth->hwcap;
    memcpy(lesson->seed.platform, truth->platform_text, sizeof lesson->seed.platform);
    if (!take_missing(lesson, image->features, image->features_end) ||
        !run(lesson, lesson->seeded, &lesson->seed) ||
        !take_missing(lesson, truth->start, image->variables_end) ||
        !run(lesson, lesson->seeded, &lesson->seed))
        return false;
    for (size_t i = 0; i < truth->count; i++)
        if (is_missing(lesson, i))
            return false;
    return lesson->seeded->hwcap == truth->hwcap &&
           strcmp(lesson->seeded->platform_text, truth->platform_text) == 0;
}

static void try_to_learn(struct aiopip_client *client, const char *probe, struct image *image)
{
    struct probe_report *reports = malloc(3 * sizeof *reports);
    struct lesson *lesson = malloc(sizeof *lesson);

    if (reports && lesson) {
        *lesson = (struct lesson){.client = client,
                                  .probe = probe,
                                  .image = image,
                                  .truth = &reports[0],
                                  .again = &reports[1],
                                  .seeded = &reports[2]};
        learned.found = learn(lesson);
        learned.seed = lesson->seed;
    }
    free(lesson);
    free(reports);
}

static int run_warm(struct aiopip_client *client, const char *probe, enum warm_use use,
                    struct probe_report *report)
{
    core_lock(client->core);
    client->core->warm_use = use;
    core_unlock(client->core, SIDE_PROCESS);
    *report = (struct probe_report){0};
    return probe_run(client, probe, report);
}

/* Where it cannot be tried (a library was installed just now) the next core tries it. */
static void try_warm(struct aiopip_client *client, const char *probe)
{
    struct probe_report *report = malloc(sizeof *report);

    if (report && run_warm(client, probe, WARM_TRYING, report) == 0) {
        int result = run_warm(client, probe, WARM_OFF, report);
        learned.resumes = result == 0 && report->resumed;
        learned.fails = result < 0;
    }
    free(report);
}

void learn_seed(struct aiopip_client *client, const char *probe)
{
    struct core *core = client->core;
    struct image *image = core->images; /* the probe's, which is all that has run */

    if (!image || !image->features)
        return;
    if (!learned.tried || learned.device != image->device || learned.inode != image->inode ||
        memcmp(&learned.changed, &image->changed, sizeof image->changed) != 0) {
        learned.tried = true;
        learned.found = learned.resumes = learned.fails = false;
        learned.device = image->device;
        learned.inode = image->inode;
        learned.changed = image->changed;
        try_to_learn(client, probe, image);
    }
    core_lock(core);
    core->seed = learned.found ? &learned.seed : NULL;
    core->seeded = image;
    core_unlock(core, SIDE_PROCESS);
    if (learned.found && !learned.resumes && !learned.fails)
        try_warm(client, probe);
    core_lock(core);
    core->warm_use = learned.found && learned.resumes ? WARM_ON : WARM_OFF;
    core_unlock(core, SIDE_PROCESS);
}
