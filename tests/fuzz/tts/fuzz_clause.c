/* Ends of clauses in any bytes, and texts of anything that is UTF-8 through espeak-ng. */
#include "tests/fuzz/tts/mutate.h"
#include "text/utf8.h"
#include "tts/vits/phonemes.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void any_bytes(void **state)
{
    uint32_t seed = 3;

    (void)state;
    for (int i = 0; i < 200000; i++) {
        size_t n = mutate_random(&seed) % 24;
        char *text = malloc(n + !n), mark = 'x';

        for (size_t j = 0; j < n; j++)
            text[j] = mutate_random(&seed) % 3
                          ? ".,?!: \"\n\xe2\x80\xa6\x94)"[mutate_random(&seed) % 13]
                          : (char)mutate_random(&seed);
        vits_clause_end(text, n, mutate_random(&seed) % 2, &mark);
        assert_true(mark == '\0' || strchr(",.?!:;", mark));
        free(text);
    }
}

/* Marks, letters and characters of every plane, in no order that a language has. */
static void any_text(void **state)
{
    uint32_t seed = 5;

    (void)state;
    for (int i = 0; i < 400; i++) {
        char text[512];
        size_t at = 0;
        char **sentences = NULL;
        size_t n = 0;
        int err;

        while (at < sizeof(text) - 8) {
            uint32_t r = mutate_random(&seed), c = r % 4 ? 32 + r / 4 % 96 : r / 4 % 0x11000;

            at += utf8_encode(c ? c : 'a', text + at);
        }
        text[at] = '\0';
        err = vits_phonemes_of(i % 2 ? "en-us" : "pt", text, NULL, &sentences, &n);
        assert_true(err == 0 || err == -EILSEQ); /* whatever becomes of the library, we live on */
        for (size_t j = 0; j < n; j++)
            assert_true(utf8_valid(sentences[j], strlen(sentences[j])));
        vits_phonemes_free(&sentences, n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(any_bytes), cmocka_unit_test(any_text)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
