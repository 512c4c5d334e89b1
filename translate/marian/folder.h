/*
 * folder.h - the files of a Marian student, and what their names and settings say
 *
 * A folder as the Bergamot project publishes it: model.enpt.*.bin, vocab.enpt.spm (or srcvocab and
 * trgvocab), lex.*.enpt.s2t.bin and a config*.yml. The list and the settings may be missing.
 */
#ifndef TRANSLATE_MARIAN_FOLDER_H
#define TRANSLATE_MARIAN_FOLDER_H

#include <limits.h>
#include <stddef.h>

struct marian_folder {
    char model[PATH_MAX];
    char source_vocab[PATH_MAX], target_vocab[PATH_MAX];
    char shortlist[PATH_MAX];  /* "": none */
    char source[9], target[9]; /* ISO 639-1 */
    double max_length_factor, normalize, word_penalty;
    long beam_size; /* of a call that names none: at least two */
};

/** @return 0; -ENOENT or -EBADMSG with what is missing in `error` (size) */
int marian_folder_read(const char *path, char *error, size_t size, struct marian_folder *out);

#endif
