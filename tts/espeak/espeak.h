/*
 * espeak.h - the "espeak" engine: espeak-ng's own voice, for languages without a neural one
 *
 * Formant synthesis: it takes next to nothing and sounds like a machine. Its voices are named after
 * their language, "pt-br". Sentences are spoken one at a time, because the library is one voice; it is
 * some three hundred times as fast as speech.
 */
#ifndef TTS_ESPEAK_ESPEAK_H
#define TTS_ESPEAK_ESPEAK_H

#include "tts/engine.h"

extern const struct tts_engine tts_espeak_engine;

#endif
