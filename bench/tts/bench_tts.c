/* bench_tts FOLDER SENTENCE THREADS: speaks the sentence once for each line on standard input, without
 * noise; prints seconds of wall time, of CPU time and of wall time until the first sound, peak memory
 * in MB, and seconds of speech. */
#include "base/log.h"
#include "tts/engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

struct heard {
    double first;
    size_t n_samples;
};

static double seconds(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int hear(void *arg, const float *pcm, size_t n_samples)
{
    struct heard *heard = arg;

    (void)pcm;
    if (heard->n_samples == 0)
        heard->first = seconds(CLOCK_MONOTONIC);
    heard->n_samples += n_samples;
    return 0;
}

static void speak(const struct tts_engine *engine, struct tts_model *model, const char *sentence)
{
    const struct tts_settings settings = {.noise_scale = -1, .noise_w = -1};
    const struct tts_voice *voice;
    struct heard heard = {0};
    double wall = seconds(CLOCK_MONOTONIC), cpu = seconds(CLOCK_PROCESS_CPUTIME_ID), first;
    struct rusage usage;

    engine->voices(model, &voice);
    if (engine->speak(model, sentence, &settings, hear, &heard, NULL) < 0)
        exit(1);
    first = heard.first - wall;
    wall = seconds(CLOCK_MONOTONIC) - wall;
    cpu = seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    getrusage(RUSAGE_SELF, &usage);
    printf("%.4f %.4f %.4f %ld %.3f\n", wall, cpu, first, usage.ru_maxrss / 1024,
           (double)heard.n_samples / voice->sample_rate);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    const struct tts_engine *engine = tts_engine_find("vits");
    struct tts_model *model = NULL;
    char error[512] = "", line[16];

    if (argc != 4) {
        fprintf(stderr, "usage: bench_tts FOLDER SENTENCE THREADS\n");
        return 2;
    }
    log_init("bench_tts", LOG_WARN, LOG_FORMAT_AUTO);
    if (engine->load(argv[1], atoi(argv[3]), "f32", error, sizeof(error), &model) < 0) {
        fprintf(stderr, "bench_tts: %s\n", error);
        return 1;
    }
    while (fgets(line, sizeof(line), stdin))
        speak(engine, model, argv[2]);
    engine->unload(&model);
    return 0;
}
