/* SPDX-License-Identifier: BSD-2-Clause
 *
 * learned_file.h: what was learned of an ld.so, for the user's other processes.
 *
 * It is a file in a folder that nobody else can write to, and is not read where others could write to
 * the file.  It is written under another name and then renamed, so that nobody reads half of one, and
 * two who learn at once have the same to say.
 */
#ifndef LEARNED_FILE_H
#define LEARNED_FILE_H

#include "seed.h"

/* Which words of ld.so a probe reports. */
struct learned_words {
    size_t start; /* from the image's start, bytes */
    size_t count;
};

/* False: there is none of this boot, this processor and this aiopip. */
bool learned_read(const char *folder, struct learned_words *words, struct seed *seed);

/* Where that fails the next process learns it again. */
void learned_write(const char *folder, const struct learned_words *words, const struct seed *seed);

#endif
