/*
 * mel.h - log-mel spectrogram, the input of the Whisper encoder
 *
 * Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision" (2022), section 2.2.
 * Two steps, so that audio may come in pieces: mel_compute() gives the log power of single frames,
 * which depends on nothing else; mel_normalise() makes the encoder's window of them, for which the
 * loudest value so far must be known. After mel_create() a mel never changes; threads may share it.
 */
#ifndef ASR_WHISPER_MEL_H
#define ASR_WHISPER_MEL_H

#include "compute/compute.h"

#define MEL_SAMPLE_RATE 16000 /* Hz */
#define MEL_HOP 160           /* samples, 10 ms */
#define MEL_WINDOW 400        /* samples that a frame sees, 25 ms; it is centred on its hop */

struct mel;

/**
 * Build the window, the Fourier transform and the filter bank.
 *
 * @param n_bands  mel bands, 80 or 128 as the model's shapes say
 * @param isa      the best kernels to use
 * @param out      the new mel, the caller's until mel_destroy()
 * @return 0; -EINVAL for another n_bands; -ENOMEM
 */
int mel_create(int n_bands, enum compute_isa isa, struct mel **out);
void mel_destroy(struct mel **mel);

int mel_n_bands(const struct mel *mel);

/**
 * Log power of consecutive frames.
 *
 * @param pcm    ((n_frames - 1) * MEL_HOP + MEL_WINDOW) samples, full scale = 1.0; the first frame's
 *               centre is sample MEL_WINDOW / 2
 * @param power  (n_frames, n_bands) log10 of the power in each band, at least -10
 */
void mel_compute(const struct mel *mel, const float *pcm, size_t n_frames, float *power);

/**
 * The encoder's window: no value more than 80 dB below the loudest, log10 / 4 + 1, transposed, and
 * zeros where there is no audio any more.
 *
 * @param power     (n_frames, n_bands)
 * @param loudest   the largest value of the audio's log power
 * @param n_window  frames of the window, at least n_frames
 * @param feats     (n_bands, n_window)
 */
void mel_normalise(const struct mel *mel, const float *power, size_t n_frames, float loudest,
                   size_t n_window, float *feats);

#endif
