/*
 * bench_compute.c - what the operations reach on this machine, at the shapes of the engines
 *
 * Each line: the operation, its shape, the time of one run, and giga-operations a second. A first
 * argument selects the lines that contain it; a second one sets the threads. One thread is timed by
 * its processor time, the mean of many runs, which neighbours disturb less; several threads by the
 * clock, the best run.
 * OPENBLAS_CORETYPE and DRAGOMAN_ISA show the other kernels.
 */
#include "base/clock.h"
#include "compute/ops.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BUDGET_NS 150000000 /* for one line */
#define FLOATS (4096 * 4096)

static struct compute *compute;
static float *x, *w, *y;
static int8_t *x_s8, *w_s8;
static const char *filter;

struct shape {
    size_t rows, n, k;
};

static int64_t now_ns(void)
{
    struct timespec spent;

    if (compute_n_threads(compute) > 1)
        return clock_now_ns();
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &spent);
    return (int64_t)spent.tv_sec * 1000000000 + spent.tv_nsec;
}

typedef void (*run_fn)(const struct shape *shape, void *extra);

static void measure(const char *name, const struct shape *s, double operations, run_fn run,
                    void *extra)
{
    int64_t begin, now, last, best = INT64_MAX, runs = 0;
    char line[128];

    snprintf(line, sizeof(line), "%-12s %5zu x %5zu x %5zu", name, s->rows, s->n, s->k);
    if (!strstr(line, filter))
        return;
    run(s, extra);
    begin = last = now = now_ns();
    for (; now - begin < BUDGET_NS; runs++, last = now) {
        run(s, extra);
        now = now_ns();
        best = now - last < best ? now - last : best;
    }
    if (compute_n_threads(compute) == 1)
        best = (now - begin) / runs;
    printf("%s %10.1f us %8.1f G/s\n", line, (double)best / 1e3, operations / (double)best);
}

static void run_linear(const struct shape *s, void *extra)
{
    (void)extra;
    compute_linear(compute, x, s->rows, w, NULL, s->n, s->k, y);
}

static void run_s8(const struct shape *s, void *extra)
{
    compute_gemm_s8(compute, x_s8, s->rows, extra, (int32_t *)(void *)y);
}

static void run_attention(const struct shape *s, void *extra)
{
    size_t width = s->n * s->k; /* heads * d */

    (void)extra;
    compute_attention(compute, x, 3 * width, s->rows, x + width, x + 2 * width, 3 * width, s->rows,
                      s->n, s->k, 0.125f, NULL, y);
}

static void run_conv1d(const struct shape *s, void *extra)
{
    compute_conv1d(compute, extra, x, s->rows, y);
}

static void run_softmax(const struct shape *s, void *extra)
{
    (void)extra;
    compute_softmax(compute, y, s->rows, s->n);
}

static void run_layer_norm(const struct shape *s, void *extra)
{
    (void)extra;
    compute_layer_norm(compute, x, s->rows, s->n, w, w, 1e-5f, y);
}

static void run_elementwise(const struct shape *s, void *extra)
{
    void (*const *op)(float *x, size_t n) = extra;

    memcpy(y, x, s->n * sizeof(float));
    (*op)(y, s->n);
}

static void bench_linear(void)
{
    static const struct shape shapes[] = {
        {1500, 384, 384}, {1500, 1536, 384}, {1500, 384, 1536}, {1500, 512, 512}, {1500, 2048, 512},
        {250, 1536, 384}, {64, 384, 384},    {16, 384, 384},    {8, 384, 384},    {5, 384, 384},
        {1, 384, 384},    {1, 51864, 384},   {5, 51864, 384}};

    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        const struct shape *s = &shapes[i];

        if (s->rows * s->n > FLOATS)
            continue;
        measure("linear", s, 2.0 * (double)(s->rows * s->n * s->k), run_linear, NULL);
    }
}

static void bench_s8(void)
{
    static const struct shape shapes[] = {{1, 256, 256},    {1, 1536, 256},  {1, 256, 1536},
                                          {8, 256, 256},    {8, 1536, 256},  {8, 256, 1536},
                                          {64, 1536, 256},  {256, 256, 256}, {256, 1536, 256},
                                          {256, 256, 1536}, {8, 2000, 256},  {1, 32000, 256}};

    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        const struct shape *s = &shapes[i];
        struct compute_weights_s8 *packed = NULL;

        if (compute_pack_s8(compute, w_s8, s->n, s->k, &packed) < 0)
            exit(1);
        measure("gemm_s8", s, 2.0 * (double)(s->rows * s->n * s->k), run_s8, packed);
        compute_weights_s8_destroy(&packed);
    }
}

static void bench_conv1d(void)
{
    static const struct compute_conv1d convs[] = {
        {80, 384, 3, 1, 1, 1, 1, 1, NULL, NULL},
        {384, 384, 3, 2, 1, 1, 1, 1, NULL, NULL},
    };

    for (size_t i = 0; i < sizeof(convs) / sizeof(convs[0]); i++) {
        struct compute_conv1d conv = convs[i];
        struct shape s = {3000, conv.c_out, conv.c_in * conv.kernel};

        conv.w = w;
        measure("conv1d", &s, 2.0 * (double)(s.rows / conv.stride * s.n * s.k), run_conv1d, &conv);
    }
}

static void bench_rows(void)
{
    static const struct shape attention[] = {{1500, 6, 64}, {1500, 8, 64}, {30, 8, 32}};
    static const struct shape softmax = {384, 1500, 1}, norm = {1500, 384, 1};

    for (size_t i = 0; i < 3; i++)
        measure(
            "attention", &attention[i],
            4.0 * (double)(attention[i].rows * attention[i].rows * attention[i].n * attention[i].k),
            run_attention, NULL);
    measure("softmax", &softmax, (double)(softmax.rows * softmax.n), run_softmax, NULL);
    measure("layer_norm", &norm, (double)(norm.rows * norm.n), run_layer_norm, NULL);
}

static void bench_elementwise(void)
{
    static const struct {
        const char *name;
        void (*op)(float *x, size_t n);
    } ops[] = {{"gelu", compute_gelu},
               {"sigmoid", compute_sigmoid},
               {"tanh", compute_tanh},
               {"relu", compute_relu}};
    static const struct shape shape = {1, 250 * 1536, 1};

    for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
        void (*op)(float *, size_t) = ops[i].op;

        measure(ops[i].name, &shape, (double)shape.n, run_elementwise, (void *)&op);
    }
}

int main(int argc, char **argv)
{
    filter = argc > 1 ? argv[1] : "";
    x = compute_alloc(FLOATS * sizeof(float));
    w = compute_alloc(51864 * 384 * sizeof(float));
    y = compute_alloc(FLOATS * sizeof(float));
    x_s8 = compute_alloc(FLOATS);
    w_s8 = compute_alloc(FLOATS);
    if (!x || !w || !y || !x_s8 || !w_s8 ||
        compute_create(argc > 2 ? atoi(argv[2]) : 1, &compute) < 0) {
        fprintf(stderr, "cannot start: out of memory, or no such number of threads\n");
        return 1;
    }
    for (size_t i = 0; i < FLOATS; i++) {
        x[i] = (float)(int)(i * 2654435761u % 2001) / 1000.0f - 1.0f;
        y[i] = 0;
        x_s8[i] = (int8_t)(x[i] * 127);
        w_s8[i] = (int8_t)(i * 40503u % 255 - 127);
    }
    for (size_t i = 0; i < 51864 * 384; i++)
        w[i] = (float)(int)(i * 2246822519u % 2001) / 1000.0f - 1.0f;
    bench_linear();
    bench_s8();
    bench_conv1d();
    bench_rows();
    bench_elementwise();
    compute_destroy(&compute);
    free(x);
    free(w);
    free(y);
    free(x_s8);
    free(w_s8);
    return 0;
}
