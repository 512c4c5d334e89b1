/*
 * bench_translate - the engine alone: lines from standard input, translations to standard output, and
 * times to standard error
 *
 *   bench_translate MODEL_FOLDER [threads [beam [batch|single [rounds [compute type]]]]]
 */
#include "base/clock.h"
#include "base/log.h"
#include "translate/engine.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_LINES 100000

struct text {
    const char **lines;
    size_t n, words;
};

static size_t words_of(const char *line)
{
    size_t n = 0;

    for (; *line; line++)
        n += !isspace((unsigned char)line[0]) && (!line[1] || isspace((unsigned char)line[1]));
    return n;
}

static struct text read_text(void)
{
    struct text text = {.lines = calloc(MOST_LINES, sizeof(*text.lines))};
    char *line = NULL;
    size_t size = 0;

    while (text.lines && text.n < MOST_LINES && getline(&line, &size, stdin) >= 0) {
        line[strcspn(line, "\r\n")] = '\0';
        text.words += words_of(line);
        text.lines[text.n++] = strdup(line);
    }
    free(line);
    return text;
}

static int translate(struct translate_model *model, const struct text *text, int beam, bool batch,
                     struct translate_result *results)
{
    const struct translate_engine *engine = translate_engine_find("marian");
    struct translate_settings settings = {.beam_size = beam};
    int err = 0;

    if (batch)
        return engine->translate(model, text->lines, text->n, &settings, results);
    for (size_t i = 0; i < text->n && !err; i++)
        err = engine->translate(model, text->lines + i, 1, &settings, results + i);
    return err;
}

static int run(struct translate_model *model, int beam, bool batch, int rounds)
{
    struct text text = read_text();
    struct translate_result *results = calloc(text.n + 1, sizeof(*results));
    double best = 1e9;

    for (int round = 0; round < rounds; round++) {
        int64_t begin = clock_now_ns();
        double seconds;

        for (size_t i = 0; i < text.n; i++)
            translate_result_fini(&results[i]);
        if (translate(model, &text, beam, batch, results) != 0)
            return 1;
        seconds = (double)(clock_now_ns() - begin) * 1e-9;
        best = seconds < best ? seconds : best;
    }
    for (size_t i = 0; i < text.n; i++)
        puts(results[i].text);
    fprintf(stderr, "%zu lines, %zu words: %.3f s, %.2f ms a line, %.0f words/s\n", text.n,
            text.words, best, best * 1e3 / (double)text.n, (double)text.words / best);
    return 0;
}

int main(int argc, char **argv)
{
    struct translate_model *model = NULL;
    int64_t begin = clock_now_ns();
    char error[512];
    int err;

    if (argc < 2) {
        fprintf(stderr, "usage: %s MODEL_FOLDER [threads [beam [batch|single [rounds [type]]]]]\n",
                argv[0]);
        return 2;
    }
    log_init("bench", LOG_WARN, LOG_FORMAT_TEXT);
    err = translate_engine_find("marian")->load(argv[1], argc > 2 ? atoi(argv[2]) : 1,
                                                argc > 6 ? argv[6] : "int8", error, sizeof(error),
                                                &model);
    if (err < 0) {
        fprintf(stderr, "%s\n", error);
        return 1;
    }
    fprintf(stderr, "loaded in %.0f ms\n", (double)(clock_now_ns() - begin) * 1e-6);
    err = run(model, argc > 3 ? atoi(argv[3]) : 1, argc <= 4 || strcmp(argv[4], "single") != 0,
              argc > 5 ? atoi(argv[5]) : 1);
    translate_engine_find("marian")->unload(&model);
    return err;
}
