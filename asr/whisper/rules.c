#include "asr/whisper/rules.h"

#include "compute/ops.h"

#include <float.h>
#include <math.h>

static void forbid(float *logits, size_t begin, size_t end)
{
    for (size_t i = begin; i < end; i++)
        logits[i] = -FLT_MAX;
}

static void forbid_listed(float *logits, const uint32_t *ids, size_t n)
{
    for (size_t i = 0; i < n; i++)
        logits[ids[i]] = -FLT_MAX;
}

/* Whether all timestamps together are likelier than any single other token. */
static bool timestamp_wins(const float *logits, size_t begin, size_t n)
{
    float best_text = logits[compute_argmax(logits, begin)];
    float best = logits[begin + compute_argmax(logits + begin, n - begin)];
    float sum = 0;

    if (best == -FLT_MAX)
        return false;
    for (size_t i = begin; i < n; i++)
        sum += expf(logits[i] - best);
    return best + logf(sum) > best_text;
}

/* @return whether the timestamps' joint probability decides */
static bool pair_timestamps(const struct vocab *v, const uint32_t *tokens, size_t n, float *logits)
{
    uint32_t begin = v->timestamp_begin, last = tokens[n - 1];
    size_t at = n;

    if (last >= begin) {
        bool open =
            n > 1 && tokens[n - 2] < begin; /* text ended with it: another one, or the end */

        if (!open) {
            forbid(logits, begin, v->n_tokens);
            return false;
        }
        forbid(logits, 0, v->eot);
        forbid(logits, begin, last);
        return true;
    }
    while (at > 0 && tokens[at - 1] < begin)
        at--;
    if (at > 0)
        forbid(logits, begin, (size_t)tokens[at - 1] + 1);
    return true;
}

void rules_apply(const struct rules *rules, const uint32_t *tokens, size_t n, float *logits)
{
    const struct vocab *v = rules->vocab;

    forbid_listed(logits, v->suppress, v->n_suppress);
    if (n == 0)
        forbid_listed(logits, v->suppress_begin, v->n_suppress_begin);
    if (rules->timestamps) {
        logits[v->no_timestamps] = -FLT_MAX;
        if (n == 0) {
            forbid(logits, 0, v->timestamp_begin);
            if (rules->max_initial_timestamp + 1 < v->n_tokens)
                forbid(logits, rules->max_initial_timestamp + 1, v->n_tokens);
        } else if (pair_timestamps(v, tokens, n, logits) &&
                   timestamp_wins(logits, v->timestamp_begin, v->n_tokens)) {
            forbid(logits, 0, v->timestamp_begin);
        }
    }
    compute_log_softmax(logits, v->n_tokens, logits);
}
