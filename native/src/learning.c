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
 *   with the platform    if ld.so has replaced AT_PLATFORM: what follows from that
 *   with all of them     nothing may be missing
 *
 * The features are a structure whose size nobody tells: it ends at the latest where the file of ld.so
 * is no longer zero.  What was learned is for this file, and this boot: behind the next one there
 * may be another processor (learned_file.c).  Another process that reads it has its first probe check
 * that ld.so takes it.
 *
 * Two more runs show whether windows can be kept warm here (warm.h): one to write its state down, and one
 * in that state.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "learned_file.h"

#define NOWHERE SIZE_MAX

/* What was found out; under the lock of core.c's opening. */
static struct {
    bool tried; /* for the ld.so that `seed` is for */
    bool found;
    bool resumes; /* tasks have begun in warm windows, and found everything there */
    bool fails;   /* they have not */
    struct learned_words words;
    struct seed seed;
} learned;

struct lesson {
    struct aiopip_client *client;
    const char *probe;
    struct image *image;
    struct seed seed;
    size_t platform; /* which word ld.so takes from AT_PLATFORM, and then replaces; NOWHERE: none */
    struct probe_report *truth, *again, *seeded;
};

static void set_use(struct core *core, const struct seed *seed, enum warm_use use)
{
    core_lock(core);
    core->seed = seed;
    core->warm_use = use;
    core_unlock(core, SIDE_PROCESS);
}

static bool run(struct lesson *lesson, struct probe_report *report, const struct seed *seed)
{
    *report = (struct probe_report){.start = learned.words.start, .count = learned.words.count};
    set_use(lesson->client->core, seed, WARM_OFF);
    int result = probe_run(lesson->client, lesson->probe, report);
    return result == 0 && report->image_at != 0;
}

/* A word from the image's start, when it is an address within. */
static bool is_address(const struct lesson *lesson, uint64_t value)
{
    return value - lesson->truth->image_at < lesson->image->bytes;
}

/* Whether the seeded probe has another word than it should. */
static bool is_missing(const struct lesson *lesson, size_t i)
{
    uint64_t value = lesson->truth->words[i], theirs = lesson->seeded->words[i];
    size_t offset = lesson->truth->start + i * sizeof value;
    bool feature = offset >= lesson->image->features && offset < lesson->image->features_end;

    if (i == lesson->platform)
        return theirs != lesson->seeded->platform;
    return value != theirs && (value == lesson->again->words[i] || feature);
}

/* For some processors ld.so has a name of its own, which it puts in the place of AT_PLATFORM when it asks:
 * find out where, and which one.  False when there is none that a task could be given instead.
 *
 * Source: glibc, sysdeps/x86/cpu-features.c, init_cpu_features() */
static bool take_platform(struct lesson *lesson)
{
    const struct probe_report *truth = lesson->truth, *seeded = lesson->seeded;

    for (size_t i = 0; i < truth->count; i++)
        if (seeded->platform && seeded->words[i] == seeded->platform && is_missing(lesson, i) &&
            is_address(lesson, truth->words[i])) {
            const char *text = lesson->image->ours + (truth->words[i] - truth->image_at);
            size_t length = strnlen(text, PROBE_PLATFORM);
            if (length == PROBE_PLATFORM)
                return false;
            memcpy(lesson->seed.platform, text, length + 1);
            lesson->platform = i;
            return true;
        }
    return false;
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

static bool is_told(const struct probe_report *report, const struct seed *seed)
{
    return report->hwcap == seed->hwcap &&
           (!seed->platform[0] || strcmp(report->platform_text, seed->platform) == 0);
}

static bool learn(struct lesson *lesson)
{
    const struct image *image = lesson->image;
    const struct probe_report *truth = lesson->truth;

    seed_name(&lesson->seed, image);
    if (!run(lesson, lesson->truth, NULL) || !run(lesson, lesson->again, NULL) ||
        truth->image_at != lesson->again->image_at)
        return false;
    lesson->seed.hwcap = truth->hwcap;
    if (!take_missing(lesson, image->features, image->features_end) ||
        !run(lesson, lesson->seeded, &lesson->seed) ||
        (take_platform(lesson) && !run(lesson, lesson->seeded, &lesson->seed)) ||
        !take_missing(lesson, truth->start, image->variables_end) ||
        !run(lesson, lesson->seeded, &lesson->seed))
        return false;
    for (size_t i = 0; i < truth->count; i++)
        if (is_missing(lesson, i))
            return false;
    return is_told(lesson->seeded, &lesson->seed);
}

static void try_to_learn(struct aiopip_client *client, const char *probe, struct image *image)
{
    struct probe_report *reports = malloc(3 * sizeof *reports);
    struct lesson *lesson = malloc(sizeof *lesson);

    if (reports && lesson) {
        *lesson = (struct lesson){.client = client,
                                  .probe = probe,
                                  .image = image,
                                  .platform = NOWHERE,
                                  .truth = &reports[0],
                                  .again = &reports[1],
                                  .seeded = &reports[2]};
        learned.found = learn(lesson);
        learned.seed = lesson->seed;
    }
    free(lesson);
    free(reports);
}

/* Run it in the state that the run before has left, if that has written it down. */
static void run_warm(struct aiopip_client *client, const char *probe, struct probe_report *report)
{
    *report = (struct probe_report){0};
    set_use(client->core, &learned.seed, WARM_OFF);
    int result = probe_run(client, probe, report);
    learned.resumes = result == 0 && report->resumed;
    learned.fails = result < 0;
}

/* Where it cannot be tried (a library was installed just now) the next core tries it. */
static void try_warm(struct aiopip_client *client, const char *probe)
{
    struct probe_report *report = calloc(1, sizeof *report);

    set_use(client->core, &learned.seed, WARM_TRYING);
    if (report && probe_run(client, probe, report) == 0)
        run_warm(client, probe, report);
    free(report);
}

/* Whether a probe that was given a seed has found all of it. */
static bool is_seeded(const struct probe_report *report, const struct seed *seed)
{
    if (report->image_at == 0 || !is_told(report, seed))
        return false;
    for (size_t i = 0; i < seed->count; i++) {
        const struct seed_word *word = &seed->words[i];
        uint64_t value = word->value + (word->relative ? report->image_at : 0);
        size_t at = (word->offset - report->start) / sizeof value;
        if (at >= report->count || report->words[at] != value)
            return false;
    }
    return true;
}

int learn_recall(struct aiopip_client *client, const struct aiopip_options *options)
{
    struct probe_report *report = NULL;
    int result;

    if (learned.tried || !options->folder ||
        !learned_read(options->folder, &learned.words, &learned.seed) ||
        !(report = calloc(1, sizeof *report)))
        return 0;
    report->start = learned.words.start;
    report->count = learned.words.count;
    set_use(client->core, &learned.seed, WARM_TRYING);
    result = probe_run(client, options->probe, report);
    if (result == -ETIMEDOUT)
        return result; /* it may still write into the report */
    learned.tried = learned.found = result == 0 && client->core->images &&
                                    seed_is_for(&learned.seed, client->core->images) &&
                                    is_seeded(report, &learned.seed);
    if (learned.found)
        run_warm(client, options->probe, report);
    free(report);
    set_use(client->core, NULL, WARM_OFF);
    return learned.found;
}

/* Which words of ld.so the probe reports.  False: they are too many. */
static bool choose_words(const struct image *image)
{
    const struct image_segment *data = &image->segments[image->segment_count - 1];

    learned.words.start = data->start;
    learned.words.count = (image->variables_end - data->start) / sizeof(uint64_t);
    return learned.words.count <= PROBE_WORDS;
}

void learn_seed(struct aiopip_client *client, const struct aiopip_options *options)
{
    struct core *core = client->core;
    struct image *image = core->images; /* the probe's, which is all that has run */

    if (!image || !image->features)
        return;
    if (!learned.tried || !seed_is_for(&learned.seed, image)) {
        learned.tried = true;
        learned.found = learned.resumes = learned.fails = false;
        seed_name(&learned.seed, image);
        if (choose_words(image))
            try_to_learn(client, options->probe, image);
        if (learned.found && options->folder)
            learned_write(options->folder, &learned.words, &learned.seed);
    }
    if (learned.found && !learned.resumes && !learned.fails)
        try_warm(client, options->probe);
    set_use(core, learned.found ? &learned.seed : NULL,
            learned.found && learned.resumes ? WARM_ON : WARM_OFF);
}
