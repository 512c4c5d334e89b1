/* Which worker a request gets, and what it hears when there is none. */
#include "gateway/select.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define LABELS_MAX 6
#define VALUES_MAX 120

struct fake {
    Dragoman__Mesh__V1__WorkerState worker;
    Dragoman__Mesh__V1__Label labels[LABELS_MAX], *label_list[LABELS_MAX];
    char *values[LABELS_MAX][VALUES_MAX];
    char *services[1];
};

/* A worker as "key=a,b;key=c" tells. */
static void fake_init(struct fake *fake, const char *service, const char *labels)
{
    static char texts[16][1024];
    static size_t used;
    char *at = texts[used++ % 16], *label;

    *fake = (struct fake){.worker = DRAGOMAN__MESH__V1__WORKER_STATE__INIT};
    snprintf(at, sizeof(texts[0]), "%s", labels);
    fake->services[0] = (char *)service;
    fake->worker.services = fake->services;
    fake->worker.n_services = 1;
    fake->worker.labels = fake->label_list;
    while ((label = strsep(&at, ";"))) {
        size_t i = fake->worker.n_labels++;
        char *key = strsep(&label, "="), *value;

        fake->labels[i] = (Dragoman__Mesh__V1__Label)DRAGOMAN__MESH__V1__LABEL__INIT;
        fake->labels[i].key = key;
        fake->labels[i].values = fake->values[i];
        fake->label_list[i] = &fake->labels[i];
        while ((value = strsep(&label, ",")))
            fake->values[i][fake->labels[i].n_values++] = value;
    }
}

static struct fake tiny, base, joe, espeak, en_pt, pt_en;
static const Dragoman__Mesh__V1__WorkerState *const everyone[] = {
    &espeak.worker, &base.worker, &tiny.worker, &joe.worker, &en_pt.worker, &pt_en.worker};
static const struct plan_pair pairs[] = {{"en", "pt"}, {"pt", "en"}};
static const struct directory_view full = {
    .connected = true, .workers = everyone, .n_workers = 6, .pairs = pairs, .n_pairs = 2};
static struct selection got;
static struct status status;

static int setup(void **state)
{
    (void)state;
    fake_init(&tiny, SERVICE_ASR, "model=whisper-tiny.en;lang=en;task=transcribe");
    fake_init(&base, SERVICE_ASR, "model=whisper-base;lang=en,pt,es,fi;task=transcribe,translate");
    fake_init(&joe, SERVICE_TTS, "model=piper-joe;lang=en;voice=en_US-joe-medium;engine=vits");
    fake_init(&espeak, SERVICE_TTS,
              "model=espeak-ng;engine=espeak;lang=en,pt,fi;voice=en-gb,pt,pt-br,fi");
    fake_init(&en_pt, SERVICE_TRANSLATE, "pair=en-pt;source=en;target=pt;model=marian-en-pt");
    fake_init(&pt_en, SERVICE_TRANSLATE, "pair=pt-en;source=pt;target=en;model=marian-pt-en");
    return 0;
}

static void recognisers(void **state)
{
    (void)state;
    /* The most specific for a language, the widest without one. */
    assert_int_equal(select_asr(&full, NULL, "en", false, &got, &status), 0);
    assert_string_equal(got.selector, "model=whisper-tiny.en");
    assert_string_equal(got.language, "en");
    assert_int_equal(select_asr(&full, "whisper-1", "pt", false, &got, &status), 0);
    assert_string_equal(got.model, "whisper-base");
    assert_int_equal(select_asr(&full, "whisper-1", NULL, false, &got, &status), 0);
    assert_string_equal(got.model, "whisper-base");
    assert_string_equal(got.language, "");
    assert_int_equal(select_asr(&full, "whisper-tiny.en", NULL, false, &got, &status), 0);
    assert_string_equal(got.language, "en"); /* it knows no other */
    assert_int_equal(select_asr(&full, NULL, "en", true, &got, &status), 0);
    assert_string_equal(got.model, "whisper-base"); /* only that one translates */
}

static void refused(int result, enum status_code code, const char *const *phrases)
{
    assert_int_equal(result, -1);
    assert_int_equal(status.code, code);
    for (; *phrases; phrases++) {
        if (!strstr(status.message, *phrases))
            fail_msg("'%s' does not name '%s'", status.message, *phrases);
    }
}

static void recognisers_that_are_not_there(void **state)
{
    const struct directory_view away = {0}, none = {.connected = true};

    (void)state;
    refused(select_asr(&full, "whisper-huge", NULL, false, &got, &status), STATUS_NOT_FOUND,
            (const char *[]){"whisper-huge", "whisper-base, whisper-tiny.en", NULL});
    refused(select_asr(&full, NULL, "ja", false, &got, &status), STATUS_INVALID_ARGUMENT,
            (const char *[]){"'ja'", "en, es, fi, pt", NULL});
    refused(select_asr(&full, "whisper-tiny.en", "pt", false, &got, &status),
            STATUS_INVALID_ARGUMENT, (const char *[]){"whisper-tiny.en", "'pt'", NULL});
    refused(select_asr(&away, NULL, NULL, false, &got, &status), STATUS_UNAVAILABLE,
            (const char *[]){"broker", NULL});
    refused(select_asr(&none, NULL, NULL, false, &got, &status), STATUS_UNAVAILABLE,
            (const char *[]){"asr", NULL});
}

static void voices(void **state)
{
    (void)state;
    assert_int_equal(select_tts(&full, "tts-1", "alloy", "en", &got, &status), 0);
    assert_string_equal(got.selector, "model=piper-joe,lang=en"); /* neural before espeak */
    assert_string_equal(got.voice, "");
    assert_int_equal(select_tts(&full, NULL, NULL, "pt", &got, &status), 0);
    assert_string_equal(got.selector, "model=espeak-ng,lang=pt");
    assert_string_equal(got.language, "pt");
    assert_int_equal(select_tts(&full, NULL, "en_US-joe-medium", "pt", &got, &status), 0);
    assert_string_equal(got.selector, "model=piper-joe,voice=en_US-joe-medium");
    assert_string_equal(got.language, ""); /* the voice was named: it may speak anything */
    assert_int_equal(select_tts(&full, "espeak", "pt-br", NULL, &got, &status), 0);
    assert_string_equal(got.voice, "pt-br");
    assert_int_equal(select_tts(&full, "espeak", "en", "en", &got, &status), 0);
    assert_string_equal(got.language, "en"); /* a language where a voice was asked for */
}

static void voices_that_are_not_there(void **state)
{
    (void)state;
    refused(select_tts(&full, NULL, "nobody-at-all", "en", &got, &status), STATUS_INVALID_ARGUMENT,
            (const char *[]){"nobody-at-all", "en_US-joe-medium", NULL});
    refused(select_tts(&full, NULL, NULL, "ja", &got, &status), STATUS_INVALID_ARGUMENT,
            (const char *[]){"'ja'", "en, fi, pt", NULL});
    refused(select_tts(&full, "tts-9", NULL, "en", &got, &status), STATUS_NOT_FOUND,
            (const char *[]){"tts-9", "piper-joe", NULL});
}

static void paths(void **state)
{
    const struct directory_view no_translator = {
        .connected = true, .workers = everyone, .n_workers = 4};
    struct plan plan;
    struct directory_view some_seen;

    (void)state;
    assert_int_equal(select_path(&full, "en", "pt", &plan, &status), 0);
    assert_int_equal(plan.n_hops, 1);
    assert_int_equal(select_path(&no_translator, "en", "en", &plan, &status), 0);
    assert_int_equal(plan.n_hops, 0);
    refused(select_path(&full, "en", "fi", &plan, &status), STATUS_INVALID_ARGUMENT,
            (const char *[]){"'fi'", "pt", NULL});
    refused(select_path(&no_translator, "en", "pt", &plan, &status), STATUS_UNAVAILABLE,
            (const char *[]){"translat", NULL});
    some_seen = full;
    some_seen.seen = (const struct plan_pair[]){{"en", "fi"}};
    some_seen.n_seen = 1;
    refused(select_path(&some_seen, "en", "fi", &plan, &status), STATUS_UNAVAILABLE,
            (const char *[]){"'en'", "'fi'", "away", NULL});
    refused(select_no_target(&full, "fi", &status), STATUS_INVALID_ARGUMENT,
            (const char *[]){"'fi'", "en, pt", NULL});
}

static void lists_are_sorted_and_cut(void **state)
{
    const char *values[16];
    char list[64];

    (void)state;
    assert_int_equal(directory_values(&full, SERVICE_TTS, "lang", values, 16), 3);
    assert_string_equal(values[0], "en");
    assert_string_equal(values[2], "pt");
    directory_list(&full, SERVICE_TTS, "voice", 2, list, sizeof(list));
    assert_string_equal(list, "en-gb, en_US-joe-medium and 3 more");
    directory_list(&full, "nobody", "voice", 2, list, sizeof(list));
    assert_string_equal(list, "none");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recognisers), cmocka_unit_test(recognisers_that_are_not_there),
        cmocka_unit_test(voices),      cmocka_unit_test(voices_that_are_not_there),
        cmocka_unit_test(paths),       cmocka_unit_test(lists_are_sorted_and_cut),
    };

    return cmocka_run_group_tests(tests, setup, NULL);
}
