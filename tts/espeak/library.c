#include "tts/espeak/library.h"

#include <errno.h>
#include <espeak-ng/speak_lib.h>
#include <pthread.h>
#include <string.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int sample_rate;

static void initialize(void)
{
    /* Without espeakINITIALIZE_DONT_EXIT it ends the process when its data is missing. */
    sample_rate = espeak_Initialize(AUDIO_OUTPUT_SYNCHRONOUS, 0, NULL, espeakINITIALIZE_DONT_EXIT);
}

int espeak_library_open(void)
{
    pthread_once(&once, initialize);
    return sample_rate > 0 ? sample_rate : -ENOENT;
}

void espeak_library_lock(void)
{
    pthread_mutex_lock(&lock);
}

void espeak_library_unlock(void)
{
    pthread_mutex_unlock(&lock);
}

/* A few voices answer to their identifier alone ("gmw/en"), not to their tag ("en-gb"). */
static const char *identifier_of(const char *tag)
{
    const espeak_VOICE **voices = espeak_ListVoices(NULL);

    for (; voices && *voices; voices++) /* a priority, then the tag */
        if ((*voices)->languages && *(*voices)->languages &&
            !strcmp((*voices)->languages + 1, tag))
            return (*voices)->identifier;
    return NULL;
}

int espeak_library_set_voice(const char *name)
{
    const char *identifier;

    if (espeak_SetVoiceByName(name) == EE_OK)
        return 0;
    identifier = identifier_of(name);
    return identifier && espeak_SetVoiceByName(identifier) == EE_OK ? 0 : -ENOENT;
}
