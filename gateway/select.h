/*
 * select.h - which workers a request wants: names of models, voices and languages to selectors
 *
 * Pure functions over a directory_view. A failure's status names what was asked for and what there
 * is.
 */
#ifndef GATEWAY_SELECT_H
#define GATEWAY_SELECT_H

#include "base/status.h"
#include "gateway/directory.h"

#define SELECTOR_MAX 256

struct selection {
    char selector[SELECTOR_MAX];  /* for mesh_call_options */
    char language[PLAN_CODE_MAX]; /* asr: spoken, "" to detect it; tts: to ask for */
    char voice[96];               /* tts: to ask for; "" */
    char model[96];               /* of the worker chosen */
};

/**
 * A recogniser.
 *
 * Among those that take the language, the one that takes the fewest others; without a language the
 * one that takes the most.
 *
 * @param model      a served name; OpenAI's names and NULL stand for any
 * @param language   ISO 639-1; NULL: unknown
 * @param translate  into English is wanted
 * @return 0; -1 with *status
 */
int select_asr(const struct directory_view *view, const char *model, const char *language,
               bool translate, struct selection *out, struct status *status);

/**
 * A voice.
 *
 * @param model     a served model or engine; OpenAI's names and NULL stand for any
 * @param voice     a served voice, or a language; OpenAI's names and NULL stand for the language's
 * first
 * @param language  ISO 639-1; NULL: the voice says
 */
int select_tts(const struct directory_view *view, const char *model, const char *voice,
               const char *language, struct selection *out, struct status *status);

/** A plan from source to target, or a status that names the languages that can be had. */
int select_path(const struct directory_view *view, const char *source, const char *target,
                struct plan *out, struct status *status);

/** Say that nothing leads to `target`: what is missing, or which targets there are. Always -1. */
int select_no_target(const struct directory_view *view, const char *target, struct status *status);

#endif
