#include "mesh/retry.h"

#include "mesh/meta.h"

#include <errno.h>

#define NS_PER_MS INT64_C(1000000)
#define MAX_TOKENS 1000

static void fill_defaults(struct mesh_retry_options *options)
{
    if (options->max_attempts == 0)
        options->max_attempts = 3;
    if (options->initial_backoff_ms == 0)
        options->initial_backoff_ms = 50;
    if (options->max_backoff_ms == 0)
        options->max_backoff_ms = 1000;
    if (options->multiplier == 0)
        options->multiplier = 2;
    if (options->codes == 0)
        options->codes = 1u << STATUS_UNAVAILABLE;
    if (options->max_tokens == 0)
        options->max_tokens = MAX_TOKENS;
    if (options->token_ratio == 0)
        options->token_ratio = 0.1;
    if (options->buffer_bytes == 0)
        options->buffer_bytes = (size_t)64 << 20;
}

int mesh_retry_init(struct mesh_retry *retry, const struct mesh_retry_options *options)
{
    struct mesh_retry_options full = {0};

    if (options)
        full = *options;
    fill_defaults(&full);
    if (full.max_attempts > MESH_ATTEMPTS_MAX || full.max_backoff_ms < full.initial_backoff_ms ||
        !(full.multiplier >= 1) || !(full.max_tokens > 0 && full.max_tokens <= MAX_TOKENS) ||
        !(full.token_ratio > 0))
        return -EINVAL;
    *retry = (struct mesh_retry){.options = full, .tokens = full.max_tokens};
    return 0;
}

/* A fifth more or less, so that calls which failed together do not come back together. */
static int64_t backoff_ns(const struct mesh_retry_options *options, uint32_t attempt)
{
    double ms = options->initial_backoff_ms;
    double fifths = 0.8 + 0.4 * (double)(mesh_random() >> 11) / (double)(UINT64_C(1) << 53);

    while (attempt-- > 0 && ms < options->max_backoff_ms)
        ms *= options->multiplier;
    if (ms > options->max_backoff_ms)
        ms = options->max_backoff_ms;
    return (int64_t)(ms * fifths * (double)NS_PER_MS);
}

bool mesh_retry_may(const struct mesh_retry *retry, enum status_code code, uint32_t attempt)
{
    return (retry->options.codes & 1u << code) && attempt + 1 < retry->options.max_attempts;
}

bool mesh_retry_next(struct mesh_retry *retry, const struct status *status, uint32_t attempt,
                     int64_t now_ns, int64_t deadline_ns, int64_t *delay_ns)
{
    const struct mesh_retry_options *options = &retry->options;

    if (!(options->codes & 1u << status->code))
        return false;
    retry->tokens = retry->tokens > 1 ? retry->tokens - 1 : 0;
    if (!mesh_retry_may(retry, status->code, attempt) || retry->tokens <= options->max_tokens / 2)
        return false;
    *delay_ns = status->retry_delay_ms > 0 ? status->retry_delay_ms * NS_PER_MS
                                           : backoff_ns(options, attempt);
    return *delay_ns < deadline_ns - now_ns;
}

void mesh_retry_succeeded(struct mesh_retry *retry)
{
    retry->tokens += retry->options.token_ratio;
    if (retry->tokens > retry->options.max_tokens)
        retry->tokens = retry->options.max_tokens;
}
