/* bench_asr MODEL WAV BEAM THREADS: recognises the recording once for each line on standard input;
 * prints seconds of wall and CPU time, peak memory in MB and the number of tokens. */
#include "asr/engine.h"
#include "base/log.h"

#include <sndfile.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

static double seconds(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static float *read_pcm(const char *path, size_t *n)
{
    SF_INFO info = {0};
    SNDFILE *file = sf_open(path, SFM_READ, &info);
    float *pcm;

    if (!file || info.samplerate != 16000 || info.channels != 1) {
        fprintf(stderr, "bench_asr: '%s' is no mono recording at 16 kHz\n", path);
        exit(1);
    }
    pcm = malloc(((size_t)info.frames + 1) * sizeof(*pcm));
    if (!pcm)
        exit(1);
    *n = (size_t)sf_readf_float(file, pcm, info.frames);
    sf_close(file);
    return pcm;
}

static void recognise(const struct asr_engine *engine, struct asr_model *model, int beam,
                      const float *pcm, size_t n)
{
    const struct asr_settings settings = {.beam_size = beam, .whole_audio = true};
    struct asr_session *session = NULL;
    double wall = seconds(CLOCK_MONOTONIC), cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
    struct rusage usage;

    if (engine->session_create(model, &settings, &(struct asr_events){0}, &session) < 0 ||
        engine->session_feed(session, pcm, n) < 0 || engine->session_finish(session) < 0)
        exit(1);
    wall = seconds(CLOCK_MONOTONIC) - wall;
    cpu = seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    getrusage(RUSAGE_SELF, &usage);
    printf("%.4f %.4f %ld %zu\n", wall, cpu, usage.ru_maxrss / 1024,
           engine->session_tokens(session));
    fflush(stdout);
    engine->session_destroy(&session);
}

int main(int argc, char **argv)
{
    const struct asr_engine *engine = asr_engine_find("whisper");
    struct asr_model *model = NULL;
    char error[512] = "", line[16];
    size_t n = 0;
    float *pcm;

    if (argc != 5) {
        fprintf(stderr, "usage: bench_asr MODEL WAV BEAM THREADS\n");
        return 2;
    }
    log_init("bench_asr", LOG_WARN, LOG_FORMAT_AUTO);
    pcm = read_pcm(argv[2], &n);
    if (engine->load(argv[1], atoi(argv[4]), "f32", error, sizeof(error), &model) < 0) {
        fprintf(stderr, "bench_asr: %s\n", error);
        return 1;
    }
    while (fgets(line, sizeof(line), stdin))
        recognise(engine, model, atoi(argv[3]), pcm, n);
    engine->unload(&model);
    free(pcm);
    return 0;
}
