/*
 * bpe.h - text to tokens and back: byte-level byte-pair encoding, read from tokenizer.json
 *
 * The vocabulary holds strings of bytes; which bytes belong together was learnt as a list of merges.
 * After bpe_load() nothing changes; threads may share one.
 */
#ifndef ASR_WHISPER_BPE_H
#define ASR_WHISPER_BPE_H

#include "base/buffer.h"

#include <stddef.h>
#include <stdint.h>

struct bpe;

/**
 * Read a tokenizer.json.
 *
 * @param error  (size) what is wrong, when the return is not 0
 * @return 0; -ENOENT; -EBADMSG damaged; -ENOTSUP another kind of tokenizer; -ENOMEM
 */
int bpe_load(const char *path, char *error, size_t size, struct bpe **out);
/** The same from memory. */
int bpe_parse(const char *json, size_t n_bytes, char *error, size_t size, struct bpe **out);
void bpe_destroy(struct bpe **bpe);

/** One more than the largest id. */
size_t bpe_n_tokens(const struct bpe *bpe);

/** Id of a special token, "<|endoftext|>"; -ENOENT. */
int bpe_special(const struct bpe *bpe, const char *name);
/** Name of a special token, not ended by a NUL. @return 0; -ENOENT when it is none */
int bpe_special_name(const struct bpe *bpe, uint32_t id, const char **name, size_t *size);

/**
 * Tokens of a text. Special tokens are not looked for: their names are text like any other.
 *
 * @param ids  the caller's, free(); NULL when there are none
 * @return 0; -ENOMEM
 */
int bpe_encode(const struct bpe *bpe, const char *text, size_t n_bytes, uint32_t **ids,
               size_t *n_ids);

/**
 * Append the text of tokens. Special ones and unknown ids have none; what is not UTF-8 (a character
 * that the tokens cut in two) becomes U+FFFD.
 *
 * @return as buffer_append()
 */
int bpe_decode(const struct bpe *bpe, const uint32_t *ids, size_t n_ids, struct buffer *text);

#endif
