#include "tts/engine.h"

#include "tts/espeak/espeak.h"
#include "tts/vits/engine.h"

#include <string.h>

/* Adding an engine is a folder and one line here. */
static const struct tts_engine *const engines[] = {&tts_vits_engine, &tts_espeak_engine};

const struct tts_engine *tts_engine_find(const char *name)
{
    for (size_t i = 0; i < sizeof(engines) / sizeof(engines[0]); i++)
        if (strcmp(engines[i]->name, name) == 0)
            return engines[i];
    return NULL;
}

const struct tts_voice *tts_voice_find(const struct tts_voice *voices, size_t n_voices,
                                       const char *voice, const char *language)
{
    for (size_t i = 0; i < n_voices; i++) {
        if (voice && *voice && strcmp(voices[i].name, voice) != 0)
            continue;
        if (language && *language && strcmp(voices[i].language, language) != 0)
            continue;
        return &voices[i];
    }
    return NULL;
}
