/*
 * replay.h - the main() of a fuzz target: seeds, mutated the same way in every run
 *
 * A target defines fuzz_one(), which must survive any bytes, and fuzz_seeds. Run without arguments it
 * takes the seeds whole, then REPLAY_ROUNDS mutations of them; with names of files, those instead (to
 * look into what another fuzzer found). Each input lies in memory of its exact size, so that
 * sanitizers see a step too far.
 */
#ifndef TESTS_FUZZ_REPLAY_H
#define TESTS_FUZZ_REPLAY_H

#include <stddef.h>
#include <stdint.h>

void fuzz_one(const uint8_t *bytes, size_t size);

struct fuzz_seed {
    const char *path; /* a file; NULL: text */
    const char *text; /* size bytes */
    size_t size;
};

extern const struct fuzz_seed fuzz_seeds[]; /* ended by one with neither */
extern const unsigned fuzz_rounds;          /* mutations */

#endif
