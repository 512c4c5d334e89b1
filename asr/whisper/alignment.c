#include "asr/whisper/alignment.h"

#include "compute/ops.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define FILTER 7 /* width of the median filter */

enum step { STEP_BOTH, STEP_DOWN, STEP_RIGHT };

/* cost and steps (n_rows + 1, n_columns + 1) have a border before the first row and column. */
static void fill_costs(const float *gain, size_t n_rows, size_t n_columns, float *cost,
                       uint8_t *steps)
{
    size_t stride = n_columns + 1;

    for (size_t i = 0; i < (n_rows + 1) * stride; i++)
        cost[i] = INFINITY;
    cost[0] = 0;
    for (size_t j = 1; j <= n_columns; j++) {
        for (size_t i = 1; i <= n_rows; i++) {
            float both = cost[(i - 1) * stride + j - 1], down = cost[(i - 1) * stride + j];
            float right = cost[i * stride + j - 1], least = right;
            enum step step = STEP_RIGHT;

            if (both < down && both < right) {
                least = both;
                step = STEP_BOTH;
            } else if (down < both && down < right) {
                least = down;
                step = STEP_DOWN;
            }
            cost[i * stride + j] = least - gain[(i - 1) * n_columns + j - 1];
            steps[i * stride + j] = (uint8_t)step;
        }
    }
}

int alignment_warp(const float *gain, size_t n_rows, size_t n_columns, size_t *begins)
{
    size_t cells = (n_rows + 1) * (n_columns + 1), i = n_rows, j = n_columns;
    float *cost = malloc(cells * sizeof(*cost));
    uint8_t *steps = calloc(cells, 1);
    int err = cost && steps ? 0 : -ENOMEM;

    if (err == 0)
        fill_costs(gain, n_rows, n_columns, cost, steps);
    while (err == 0 && (i > 0 || j > 0)) {
        enum step step = steps[i * (n_columns + 1) + j];

        if (i == 0)
            step = STEP_RIGHT;
        else if (j == 0)
            step = STEP_DOWN;
        if (i > 0)
            begins[i - 1] = j > 0 ? j - 1 : 0; /* the last one seen is the first on the path */
        i -= step != STEP_RIGHT;
        j -= step != STEP_DOWN;
    }
    free(cost);
    free(steps);
    return err;
}

/* Mean 0 and variance 1 down each column: what sets a token apart at that moment. */
static void standardise_columns(float *x, size_t n_rows, size_t n_columns)
{
    for (size_t j = 0; j < n_columns; j++) {
        float mean = 0, variance = 0;

        for (size_t i = 0; i < n_rows; i++)
            mean += x[i * n_columns + j];
        mean /= (float)n_rows;
        for (size_t i = 0; i < n_rows; i++)
            variance += (x[i * n_columns + j] - mean) * (x[i * n_columns + j] - mean);
        variance /= (float)n_rows;
        for (size_t i = 0; i < n_rows; i++)
            x[i * n_columns + j] = (x[i * n_columns + j] - mean) / sqrtf(variance);
    }
}

static float median(float *window)
{
    for (size_t i = 1; i < FILTER; i++)
        for (size_t j = i; j > 0 && window[j] < window[j - 1]; j--) {
            float swapped = window[j];

            window[j] = window[j - 1];
            window[j - 1] = swapped;
        }
    return window[FILTER / 2];
}

/* sum += the row's medians; at its ends the row is mirrored. */
static void add_medians(const float *row, size_t n, float *sum)
{
    float window[FILTER];

    for (size_t j = 0; j < n; j++) {
        if (n <= FILTER / 2) {
            sum[j] += row[j];
            continue;
        }
        for (size_t k = 0; k < FILTER; k++) {
            size_t at = j + k >= FILTER / 2 ? j + k - FILTER / 2 : FILTER / 2 - j - k;

            window[k] = row[at < n ? at : 2 * n - at - 2];
        }
        sum[j] += median(window);
    }
}

/* Scores of each head (n_rows, n_audio) to one matrix (n_rows, n_columns), in place. */
static void smooth(struct compute *c, float *scores, size_t n_heads, size_t n_rows, size_t n_audio,
                   size_t n_columns, float *out)
{
    memset(out, 0, n_rows * n_columns * sizeof(*out));
    for (size_t h = 0; h < n_heads; h++) {
        float *head = scores + h * n_rows * n_audio;

        for (size_t i = 1; i < n_rows; i++) /* close the gaps where there is no audio */
            memmove(head + i * n_columns, head + i * n_audio, n_columns * sizeof(*head));
        compute_softmax(c, head, n_rows, n_columns);
        standardise_columns(head, n_rows, n_columns);
        for (size_t i = 0; i < n_rows; i++)
            add_medians(head + i * n_columns, n_columns, out + i * n_columns);
    }
    compute_scale(out, 1 / (float)n_heads, n_rows * n_columns);
}

/* Probability of each text token among all text tokens, at the row before it. */
static void find_probs(const struct vocab *vocab, struct workspace *workspace, size_t first,
                       const uint32_t *text, size_t n_text, float *probs)
{
    for (size_t at = 0; at < n_text; at += DECODER_SLOTS) {
        size_t n = n_text - at < DECODER_SLOTS ? n_text - at : DECODER_SLOTS;

        decoder_logits(&workspace->decoder, first + at, n, workspace->logits);
        for (size_t i = 0; i < n; i++) {
            float *row = workspace->logits + i * vocab->n_tokens;

            compute_log_softmax(row, vocab->eot, row);
            probs[at + i] = expf(row[text[at + i]]);
        }
    }
}

/* start tokens, <|notimestamps|>, text, <|endoftext|> */
static int feed(struct asr_model *model, struct workspace *workspace, const uint32_t *start_tokens,
                size_t n_start, const uint32_t *text, size_t n_text, const volatile int *cancel,
                struct decoder_alignment *alignment)
{
    size_t n_rows = n_start + n_text + 2;
    struct decoder_row *rows = calloc(n_rows, sizeof(*rows));
    int err;

    if (!rows)
        return -ENOMEM;
    for (size_t i = 0; i < n_rows; i++) {
        rows[i].position = (uint32_t)i;
        if (i < n_start)
            rows[i].token = start_tokens[i];
        else if (i == n_start)
            rows[i].token = model->vocab.no_timestamps;
        else
            rows[i].token = i - n_start - 1 < n_text ? text[i - n_start - 1] : model->vocab.eot;
    }
    err = decoder_feed(&workspace->decoder, rows, n_rows, alignment, cancel);
    free(rows);
    return err;
}

int alignment_find(struct asr_model *model, struct workspace *workspace,
                   const uint32_t *start_tokens, size_t n_start, const uint32_t *text,
                   size_t n_text, size_t n_frames, const volatile int *cancel, size_t *begins,
                   float *probs)
{
    const struct vocab *vocab = &model->vocab;
    size_t n_rows = n_start + n_text + 2, n_audio = model->weights.n_audio;
    size_t n_columns = n_frames / 2;
    struct decoder_alignment alignment = {vocab->alignment_heads, vocab->n_alignment_heads, NULL};
    float *matrix = NULL;
    int err = -ENOMEM;

    if (n_rows > model->weights.n_text || n_columns == 0 || n_columns > n_audio)
        return -EINVAL;
    alignment.scores = malloc(alignment.n_heads * n_rows * n_audio * sizeof(float));
    matrix = malloc(n_rows * n_columns * sizeof(*matrix));
    if (alignment.scores && matrix)
        err = feed(model, workspace, start_tokens, n_start, text, n_text, cancel, &alignment);
    if (err == 0) {
        find_probs(vocab, workspace, n_start, text, n_text, probs);
        smooth(model->compute, alignment.scores, alignment.n_heads, n_rows, n_audio, n_columns,
               matrix);
        err = alignment_warp(matrix + n_start * n_columns, n_text + 1, n_columns, begins);
    }
    free(alignment.scores);
    free(matrix);
    return err;
}
