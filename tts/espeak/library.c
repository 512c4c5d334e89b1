#include "tts/espeak/library.h"

#include <errno.h>
#include <espeak-ng/speak_lib.h>
#include <pthread.h>

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

int espeak_library_set_voice(const char *name)
{
    return espeak_SetVoiceByName(name) == EE_OK ? 0 : -ENOENT;
}
