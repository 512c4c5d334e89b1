#include "compute/ops.h"
#include "compute/weights/marian.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/golden.h"

#define TINY GOLDEN_DIR "/tiny/model.frde.bin"

static void tensors_are_named_and_shaped(void **state)
{
    struct weights weights = {0};
    const struct weights_tensor *tensor;
    char error[200] = "", *config = NULL;

    (void)state;
    assert_int_equal(marian_open(TINY, error, sizeof(error), &weights, &config), 0);
    assert_non_null(strstr(config, "dim-emb: 48\n"));
    assert_null(weights_find(&weights, "special:model.yml"));
    tensor = weights_find(&weights, "encoder_l1_ffn_W1"); /* from 48 to 80, as the bytes lie */
    assert_non_null(tensor);
    assert_int_equal(tensor->type, WEIGHTS_S8);
    assert_int_equal(tensor->shape[0], 80);
    assert_int_equal(tensor->shape[1], 48);
    assert_true(tensor->multiplier > 0);
    tensor = weights_find(&weights, "encoder_Wemb"); /* embeddings are not transposed */
    assert_non_null(tensor);
    assert_int_equal(tensor->shape[1], 48);
    tensor = weights_find(&weights, "encoder_l2_ffn_b1");
    assert_non_null(tensor);
    assert_int_equal(tensor->type, WEIGHTS_F32);
    assert_int_equal(tensor->count, 80);
    free(config);
    weights_close(&weights);
}

/* Whatever the bytes are, the reader refuses them or gives tensors that lie inside. */
static void assert_safe(const char *bytes, size_t size)
{
    struct weights weights = {0};
    char error[200] = "", *config = NULL;
    int err = marian_read(bytes, size, error, sizeof(error), &weights, &config);

    if (err) {
        assert_true(err == -EBADMSG || err == -ENOTSUP);
        assert_true(error[0] != '\0');
        return;
    }
    for (size_t i = 0; i < weights.n_tensors; i++) {
        const struct weights_tensor *tensor = &weights.tensors[i];
        size_t width = tensor->type == WEIGHTS_F32 ? 4 : 1;
        const char *data = tensor->data;

        assert_true(data >= bytes && tensor->count * width <= (size_t)(bytes + size - data));
    }
    free(config);
    weights_close(&weights);
}

static void cut_files_are_refused(void **state)
{
    size_t size = 0;
    char *whole = golden_text(TINY, &size);

    (void)state;
    for (size_t n = 0; n < size; n += n < 20000 ? 97 : 4001) {
        char *cut = compute_alloc(n ? n : 1);

        memcpy(cut, whole, n);
        assert_safe(cut, n);
        free(cut);
    }
    free(whole);
}

static void damaged_headers_do_no_harm(void **state)
{
    size_t size = 0;
    char *whole = golden_text(TINY, &size), *bytes = compute_alloc(size);
    unsigned seed = 3;

    (void)state;
    for (int round = 0; round < 3000; round++) {
        memcpy(bytes, whole, 12000 < size ? 12000 : size);
        if (round == 0)
            memcpy(bytes, whole, size);
        for (int i = rand_r(&seed) % 4; i >= 0; i--)
            bytes[(size_t)rand_r(&seed) % 8000] = (char)(rand_r(&seed) % 2 ? 0xFF : rand_r(&seed));
        assert_safe(bytes, size);
    }
    free(bytes);
    free(whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_are_named_and_shaped),
        cmocka_unit_test(cut_files_are_refused),
        cmocka_unit_test(damaged_headers_do_no_harm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
