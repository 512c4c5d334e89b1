/*
 * attention.c - scaled dot-product attention, a block of queries at a time
 */
#include "compute/kernels.h"
#include "compute/ops.h"

#include <cblas.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#define QUERIES 128 /* of one block: its scores over 1500 keys, 750 kB, stay in L2 */

struct attention {
    const struct kernels *kernels;
    const float *q, *k, *v, *mask;
    size_t ld_q, t_q, ld_kv, t_k, heads, d;
    float scale;
    float *out;
    atomic_int err;
};

/* exp of the scores less their maximum; @return 1 / their sum */
static float exponentiate(const struct attention *a, float *scores, size_t query)
{
    if (a->mask)
        a->kernels->add(scores, a->mask + query * a->t_k, a->t_k);
    return 1.0f / a->kernels->exp_minus(scores, a->t_k, a->kernels->max(scores, a->t_k));
}

/* Queries [first, first + n) of one head; scores (n, t_k). The d results of a query are divided by
 * the sum of its scores, which are many more. */
static void attend(const struct attention *a, size_t head, size_t first, size_t n, float *scores)
{
    const float *q = a->q + first * a->ld_q + head * a->d;
    size_t ld_out = a->heads * a->d;
    float *out = a->out + first * ld_out + head * a->d, factors[QUERIES];

    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)n, (int)a->t_k, (int)a->d, a->scale,
                q, (int)a->ld_q, a->k + head * a->d, (int)a->ld_kv, 0, scores, (int)a->t_k);
    for (size_t i = 0; i < n; i++)
        factors[i] = exponentiate(a, scores + i * a->t_k, first + i);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)n, (int)a->d, (int)a->t_k, 1,
                scores, (int)a->t_k, a->v + head * a->d, (int)a->ld_kv, 0, out, (int)ld_out);
    for (size_t i = 0; i < n; i++)
        a->kernels->scale(out + i * ld_out, factors[i], a->d);
}

static void attention_blocks(void *arg, size_t begin, size_t end)
{
    struct attention *a = arg;
    size_t n_blocks = (a->t_q + QUERIES - 1) / QUERIES;
    float *scores = compute_alloc(sizeof(float) * QUERIES * a->t_k);

    if (!scores) {
        atomic_store(&a->err, -ENOMEM);
        return;
    }
    for (size_t i = begin; i < end; i++) {
        size_t first = i % n_blocks * QUERIES;

        attend(a, i / n_blocks, first, a->t_q - first < QUERIES ? a->t_q - first : QUERIES, scores);
    }
    free(scores);
}

int compute_attention(struct compute *c, const float *q, size_t ld_q, size_t t_q, const float *k,
                      const float *v, size_t ld_kv, size_t t_k, size_t heads, size_t d, float scale,
                      const float *mask, float *out)
{
    struct attention a = {kernels_get(), q,   k,     v, mask,  ld_q, t_q,
                          ld_kv,         t_k, heads, d, scale, out,  0};
    size_t work = (t_q < QUERIES ? t_q : QUERIES) * t_k * d; /* multiply-adds of a block, halved */

    compute_parallel_for(c, heads * ((t_q + QUERIES - 1) / QUERIES), 1000000 / (work + 1) + 1,
                         attention_blocks, &a);
    return atomic_load(&a.err);
}
