/*
 * alignment.h - from cross-attention to the moment of each token
 */
#ifndef ASR_WHISPER_ALIGNMENT_H
#define ASR_WHISPER_ALIGNMENT_H

#include "asr/whisper/model.h"

#define ALIGNMENT_HZ 50 /* encoder vectors a second */

/**
 * When each token begins, and how probable it was.
 *
 * @param start_tokens  (n_start) what the decoder is given before the text
 * @param text          (n_text) tokens of text
 * @param n_frames      frames of audio, at least 2
 * @param begins        (n_text + 1) in units of 1 / ALIGNMENT_HZ; the last one is where the text ends
 * @param probs         (n_text)
 * @return 0; -ECANCELED; -ENOMEM; -EINVAL when there are too many tokens
 */
int alignment_find(struct asr_model *model, struct workspace *workspace,
                   const uint32_t *start_tokens, size_t n_start, const uint32_t *text,
                   size_t n_text, size_t n_frames, const volatile int *cancel, size_t *begins,
                   float *probs);

/**
 * Dynamic time warping: the cheapest way from the first row and column to the last, where a step goes
 * down, right or both.
 *
 * @param gain    (n_rows, n_columns) what passing a cell brings
 * @param begins  (n_rows) column at which the path enters each row
 * @return 0; -ENOMEM
 */
int alignment_warp(const float *gain, size_t n_rows, size_t n_columns, size_t *begins);

#endif
