/*
 * whisper.h - Whisper as an engine of the recogniser
 *
 * Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision" (2022). Reads models
 * in CTranslate2's format: model.bin, tokenizer.json, config.json.
 */
#ifndef ASR_WHISPER_WHISPER_H
#define ASR_WHISPER_WHISPER_H

#include "asr/engine.h"

extern const struct asr_engine whisper_engine;

#endif
