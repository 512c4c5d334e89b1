/*
 * chain.h - the speech chain: PCM to a recogniser, segments to translators, sentences to a voice
 *
 * Every stage feeds the next while it still runs; nothing waits for the whole of anything. One
 * thread pumps all streams and sleeps until one of them moves. A stage reads only when the next one
 * can take what comes, so a slow client slows the recogniser and no queue grows. One deadline
 * covers all.
 */
#ifndef GATEWAY_CHAIN_H
#define GATEWAY_CHAIN_H

#include "audio/decode.h"
#include "gateway/rpc.h"
#include "gateway/select.h"
#include "proto/asr.pb-c.h"

#include <stdbool.h>

/** What happens on the way; any may be NULL. Not 0 stops the chain with CANCELLED. */
struct chain_events {
    int (*language)(void *arg, const char *code, float probability);
    int (*segment)(void *arg, const Dragoman__Asr__V1__Segment *segment);
    /** source is in the language spoken, target in the language wanted. */
    int (*sentence)(void *arg, unsigned id, const char *source, const char *target);
    /** n may be 0: then a sentence ends without further samples. */
    int (*audio)(void *arg, const int16_t *pcm, size_t n, uint32_t rate_hz, unsigned sentence,
                 bool sentence_end);
    void *arg;
};

struct chain_options {
    struct mesh_channel *channel;
    const struct directory_view *view; /* for the plan, once the language is known */
    struct audio_decoder *decoder;     /* the recording; borrowed */
    const struct selection *asr;
    const Dragoman__Asr__V1__RecognizeConfig *config; /* its language comes from `asr` */
    const char *target;                               /* NULL: no translation */
    bool speak;
    const char *voice, *tts_model; /* as select_tts() takes them; NULL */
    float speed;                   /* 0: 1 */
    struct chain_events events;
};

/* Times in ms since the chain began; -1: never. */
struct chain_stage_times {
    int64_t input_ms;          /* when it first had something to do */
    int64_t first_ms, last_ms; /* its first and its last result */
};

struct chain_result {
    char source[PLAN_CODE_MAX]; /* spoken */
    float source_probability;   /* 0 when it was given */
    struct plan plan;           /* the hops taken */
    char asr_model[96], tts_model[96], voice[96];
    struct chain_stage_times asr, translate, tts;
    int64_t asr_compute_ms, tts_compute_ms; /* as the services say */
    int64_t decode_ns;                      /* spent on decoding the recording */
    int64_t total_ms;
    int64_t audio_ms;  /* of the recording */
    int64_t speech_ms; /* of what was spoken */
    unsigned segments, sentences;
    uint32_t tokens;
};

/**
 * Run to the end.
 *
 * @param result  filled as far as it came, also on failure
 * @return 0; -1 with *status, all calls cancelled
 */
int chain_run(struct rpc_waiter *waiter, const struct chain_options *options,
              struct chain_result *result, struct status *status);

#endif
