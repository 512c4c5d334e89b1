/*
 * engine.h - the "vits" engine: the Piper voices of a folder
 *
 * A voice is NAME.onnx with NAME.onnx.json beside it; a folder may hold several.
 */
#ifndef TTS_VITS_ENGINE_H
#define TTS_VITS_ENGINE_H

#include "tts/engine.h"

extern const struct tts_engine tts_vits_engine;

#endif
