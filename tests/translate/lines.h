/*
 * lines.h - text files as lines, and a model's translations of them
 */
#ifndef TESTS_TRANSLATE_LINES_H
#define TESTS_TRANSLATE_LINES_H

#include "translate/engine.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/golden.h"

struct lines {
    char *text;
    const char *list[256];
    size_t n;
};

static inline struct lines lines_read(const char *path)
{
    struct lines lines = {.text = golden_text(path, NULL)};

    for (char *at = lines.text; *at;) {
        char *end = strchr(at, '\n');

        assert_non_null(end);
        assert_true(lines.n < sizeof(lines.list) / sizeof(lines.list[0]));
        *end = '\0';
        lines.list[lines.n++] = at;
        at = end + 1;
    }
    return lines;
}

static inline struct translate_model *load(const char *folder, int n_threads, const char *type)
{
    struct translate_model *model = NULL;
    char error[512] = "";

    if (translate_engine_find("marian")->load(folder, n_threads, type, error, sizeof(error),
                                              &model) != 0)
        fail_msg("%s", error);
    return model;
}

static inline void unload(struct translate_model **model)
{
    translate_engine_find("marian")->unload(model);
    assert_null(*model);
}

/* Translate lines [first, first + n) in one call. */
static inline void translate_some(struct translate_model *model, const struct lines *lines,
                                  size_t first, size_t n, int beam_size,
                                  struct translate_result *results)
{
    struct translate_settings settings = {.beam_size = beam_size};

    assert_int_equal(translate_engine_find("marian")->translate(model, lines->list + first, n,
                                                                &settings, results),
                     0);
}

static inline void free_results(struct translate_result *results, size_t n)
{
    for (size_t i = 0; i < n; i++)
        translate_result_fini(&results[i]);
    free(results);
}

#endif
