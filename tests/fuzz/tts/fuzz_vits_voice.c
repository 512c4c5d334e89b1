/* Configurations of voices, damaged. */
#include "tests/fuzz/tts/mutate.h"
#include "tests/support/golden.h"
#include "tts/vits/voice.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static void damaged_configurations(void **state)
{
    size_t size = 0, accepted = 0;
    char *json = golden_text(VOICES "/en_GB-tiny-high.onnx.json", &size);
    uint32_t seed = 20261121;

    (void)state;
    for (int i = 0; i < 20000; i++) {
        struct vits_voice voice;
        char error[128];
        size_t n = 0, n_ids = 0, known = 0;
        int64_t *ids = NULL;
        uint8_t *copy = mutate((const uint8_t *)json, size, 0, &seed, &n);

        if (vits_voice_read((const char *)copy, n, "x", error, sizeof(error), &voice) == 0) {
            accepted++;
            assert_int_equal(vits_voice_ids(&voice, "həlˈoʊ aɪ x", &ids, &n_ids, &known), 0);
            assert_true(known <= n_ids);
            free(ids);
            vits_voice_fini(&voice);
        }
        free(copy);
    }
    assert_true(accepted > 100); /* damage reaches past the first check */
    free(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(damaged_configurations)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
