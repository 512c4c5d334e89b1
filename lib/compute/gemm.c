/*
 * gemm.c - matrix products: OpenBLAS for many rows, kernels of ours for few
 */
#include "compute/kernels.h"
#include "compute/ops.h"

#include <cblas.h>

/* Multiply-adds below which a product is over before another thread wakes. */
#define GRAIN 2000000

/* Rows or columns below which a piece spends too much on packing the operand that all pieces share. */
#define WORTH_PACKING 96

struct gemm {
    bool trans_a, trans_b, split_columns;
    size_t m, n, k, lda, ldb, ldc;
    float alpha, beta;
    const float *a, *b;
    float *out;
};

static void gemm_part(const struct gemm *g, size_t row, size_t m, size_t column, size_t n)
{
    const float *a = g->a + (g->trans_a ? row : row * g->lda);
    const float *b = g->b + (g->trans_b ? column * g->ldb : column);

    cblas_sgemm(CblasRowMajor, g->trans_a ? CblasTrans : CblasNoTrans,
                g->trans_b ? CblasTrans : CblasNoTrans, (int)m, (int)n, (int)g->k, g->alpha, a,
                (int)g->lda, b, (int)g->ldb, g->beta, g->out + row * g->ldc + column, (int)g->ldc);
}

static void gemm_piece(void *arg, size_t begin, size_t end)
{
    const struct gemm *g = arg;

    if (g->split_columns)
        gemm_part(g, 0, g->m, begin, end - begin);
    else
        gemm_part(g, begin, end - begin, 0, g->n);
}

void compute_gemm(struct compute *c, bool trans_a, bool trans_b, size_t m, size_t n, size_t k,
                  float alpha, const float *a, size_t lda, const float *b, size_t ldb, float beta,
                  float *out, size_t ldc)
{
    struct gemm g = {trans_a, trans_b, n > m, m, n, k, lda, ldb, ldc, alpha, beta, a, b, out};
    size_t length = g.split_columns ? n : m, other = g.split_columns ? m : n;
    size_t threads = (size_t)compute_n_threads(c), share = (length + threads - 1) / threads;
    size_t grain = GRAIN / (other * k + 1) + 1;

    if (share > WORTH_PACKING)
        share = WORTH_PACKING;
    compute_parallel_for(c, length, grain > share ? grain : share, gemm_piece, &g);
}

struct linear {
    const struct kernels *kernels;
    const float *x, *w, *bias;
    size_t rows, n, k;
    float *out;
};

static void linear_columns(void *arg, size_t begin, size_t end)
{
    const struct linear *l = arg;

    l->kernels->dot_rows(l->x, l->k, l->rows, l->w + begin * l->k, l->k, end - begin, l->k,
                         l->bias ? l->bias + begin : NULL, l->out + begin, l->n);
}

void compute_linear(struct compute *c, const float *x, size_t rows, const float *w,
                    const float *bias, size_t n, size_t k, float *out)
{
    struct linear l = {kernels_get(), x, w, bias, rows, n, k, out};

    if (rows <= KERNELS_DOT_ROWS) {
        compute_parallel_for(c, n, GRAIN / 8 / (k * rows + 1) + 1, linear_columns, &l);
        return;
    }
    compute_gemm(c, false, true, rows, n, k, 1, x, k, w, k, 0, out, n);
    if (bias)
        compute_add_bias(out, bias, rows, n);
}
