/*
 * shortlist.h - which words a sentence's translation may use
 *
 * A lexical shortlist ("lex.50.50.enpt.s2t.bin") names for each source piece the target pieces that it
 * was aligned to in training. The output layer then scores some hundred words, not tens of thousands.
 *
 * The file, little-endian: u64 magic, u64 checksum, u64 n_first, u64 n_best, u64 n_offsets, u64 n_ids,
 * u64 offsets[n_offsets], u32 ids[n_ids]; the words of source piece i are ids[offsets[i]..offsets[i+1]].
 */
#ifndef TRANSLATE_MARIAN_SHORTLIST_H
#define TRANSLATE_MARIAN_SHORTLIST_H

#include <stddef.h>
#include <stdint.h>

struct shortlist;

/**
 * Map a file and check it.
 *
 * @param n_source  pieces of the source vocabulary
 * @param n_target  pieces of the target vocabulary
 * @param error     (size) what is wrong, when the return is not 0
 * @return 0; -errno when it cannot be mapped; -EBADMSG; -ENOMEM
 */
int shortlist_open(const char *path, size_t n_source, size_t n_target, char *error, size_t size,
                   struct shortlist **out);
/** The same from memory, which stays the caller's and must outlive it. */
int shortlist_read(const void *bytes, size_t n_bytes, size_t n_source, size_t n_target, char *error,
                   size_t size, struct shortlist **out);
void shortlist_destroy(struct shortlist **shortlist);

/**
 * The words for one sentence: the n_frequent most frequent ones (the file's n_first, where that is more),
 * those of each source piece, and the next frequent ones up to a multiple of eight.
 *
 * @param pieces  (n_pieces) of the source sentence, below n_source
 * @param ids     (*n) ascending, the caller's, free()
 * @return 0; -ENOMEM
 */
int shortlist_words(const struct shortlist *shortlist, const uint32_t *pieces, size_t n_pieces,
                    size_t n_frequent, uint32_t **ids, size_t *n);

#endif
