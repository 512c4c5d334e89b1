/*
 * sentencepiece.h - text to pieces and back: Google's SentencePiece behind a C face
 *
 * After sentencepiece_load() a model never changes, so threads may share one.
 */
#ifndef TEXT_SENTENCEPIECE_H
#define TEXT_SENTENCEPIECE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct sentencepiece_model;

/** @return 0; -ENOENT; -EBADMSG when the file is no model of SentencePiece; -ENOMEM */
int sentencepiece_load(const char *path, struct sentencepiece_model **out);
void sentencepiece_destroy(struct sentencepiece_model **model);

size_t sentencepiece_size(const struct sentencepiece_model *model); /* pieces */
/** Special pieces; -1 when the model has none. */
int sentencepiece_eos(const struct sentencepiece_model *model);
int sentencepiece_unk(const struct sentencepiece_model *model);

/** @param ids  (n) the caller's, free(); NULL when n is 0. @return 0; -EILSEQ not UTF-8; -ENOMEM */
int sentencepiece_encode(const struct sentencepiece_model *model, const char *text, size_t size,
                         uint32_t **ids, size_t *n);
/** @param text  NUL-terminated, the caller's, free(). @return 0; -ERANGE an id that is no piece; -ENOMEM */
int sentencepiece_decode(const struct sentencepiece_model *model, const uint32_t *ids, size_t n,
                         char **text);

#ifdef __cplusplus
}
#endif

#endif
