/* CTranslate2's file format: what the real files hold, and that damaged ones are refused. */
#include "compute/weights/ct2.h"
#include "tests/support/golden.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* A small file, built piece by piece. */
struct file {
    uint8_t bytes[512];
    size_t size;
};

static void put(struct file *file, uint64_t value, size_t width)
{
    for (size_t i = 0; i < width; i++)
        file->bytes[file->size++] = (uint8_t)(value >> (8 * i));
}

static void put_text(struct file *file, const char *text)
{
    put(file, strlen(text) + 1, 2);
    memcpy(file->bytes + file->size, text, strlen(text) + 1);
    file->size += strlen(text) + 1;
}

static void put_vector(struct file *file, const char *name, uint32_t n, uint32_t bytes)
{
    put_text(file, name);
    put(file, 1, 1);
    put(file, n, 4);
    put(file, 0, 1); /* f32 */
    put(file, bytes, 4);
    for (uint32_t i = 0; i < n && n < 16; i++) {
        float value = (float)i + 0.5F;
        uint32_t bits;

        memcpy(&bits, &value, 4);
        put(file, bits, 4);
    }
}

static struct file begin(uint32_t version, uint32_t n_variables)
{
    struct file file = {.size = 0};

    put(&file, version, 4);
    put_text(&file, "TestSpec");
    put(&file, 3, 4);
    put(&file, n_variables, 4);
    return file;
}

static struct file good_file(void)
{
    struct file file = begin(6, 2);

    put_vector(&file, "b/weight", 3, 12);
    put_vector(&file, "a/weight", 2, 8);
    put(&file, 1, 4);
    put_text(&file, "c/weight");
    put_text(&file, "b/weight");
    return file;
}

static void tensors_and_aliases_are_found(void **state)
{
    struct file file = good_file();
    struct weights weights;
    const struct weights_tensor *b, *c;
    float values[3];
    char error[256];

    (void)state;
    assert_int_equal(ct2_read(file.bytes, file.size, "TestSpec", error, sizeof(error), &weights),
                     0);
    assert_int_equal(weights.n_tensors, 3);
    b = weights_find(&weights, "b/weight");
    c = weights_find(&weights, "c/weight");
    assert_non_null(b);
    assert_non_null(c);
    assert_ptr_equal(b->data, c->data);
    assert_int_equal(b->count, 3);
    weights_to_f32(c, values);
    assert_near(values, (const float[]){0.5F, 1.5F, 2.5F}, 3, 0);
    assert_null(weights_find(&weights, "d/weight"));
    weights_close(&weights);
}

static void refuse(const struct file *file, size_t size, int want, const char *why)
{
    struct weights weights = {.n_tensors = 77};
    char error[256] = "";
    /* A copy of just that size, so that a sanitiser sees a byte too far. */
    uint8_t *bytes = malloc(size + 1);
    int err;

    memcpy(bytes, file->bytes, size);
    bytes = realloc(bytes, size ? size : 1);
    err = ct2_read(bytes, size, "TestSpec", error, sizeof(error), &weights);
    if (err != want || !error[0])
        fail_msg("%s: %d ('%s'), not %d", why, err, error, want);
    assert_int_equal(weights.n_tensors, 77);
    free(bytes);
}

static void every_cut_is_refused(void **state)
{
    struct file file = good_file();

    (void)state;
    for (size_t size = 0; size < file.size; size++)
        refuse(&file, size, -EBADMSG, "cut short");
    file.size++;
    refuse(&file, file.size, -EBADMSG, "a byte more");
}

static void wrong_headers_are_refused(void **state)
{
    struct file file = begin(7, 0);

    (void)state;
    put(&file, 0, 4);
    refuse(&file, file.size, -ENOTSUP, "version 7");
    file = begin(3, 0);
    put(&file, 0, 4);
    refuse(&file, file.size, -ENOTSUP, "version 3");
    file = begin(6, 0);
    file.bytes[6] = 'X'; /* XestSpec */
    put(&file, 0, 4);
    refuse(&file, file.size, -ENOTSUP, "another model");
}

static void wrong_tensors_are_refused(void **state)
{
    struct file file = begin(6, 1);

    (void)state;
    put_vector(&file, "a", 2, 4);
    put(&file, 0, 4);
    refuse(&file, file.size, -EBADMSG, "bytes that do not fit the shape");
    file = begin(6, 1);
    put_vector(&file, "a", 0x40000000, 0);
    put(&file, 0, 4);
    refuse(&file, file.size, -EBADMSG, "a size that wraps to 0 in 32 bits");
    file = begin(6, 0xFFFFFFFF);
    refuse(&file, file.size, -EBADMSG, "more tensors than bytes");
    file = begin(6, 2);
    put_vector(&file, "a", 1, 4);
    put_vector(&file, "a", 1, 4);
    put(&file, 0, 4);
    refuse(&file, file.size, -EBADMSG, "a name twice");
    file = begin(6, 1);
    put_vector(&file, "a", 1, 4);
    put(&file, 1, 4);
    put_text(&file, "b");
    put_text(&file, "missing");
    refuse(&file, file.size, -EBADMSG, "an alias of nothing");
    file = begin(6, 1);
    put_vector(&file, "a", 1, 4);
    file.bytes[file.size - 4 - 4 - 1 - 4 - 1 - 2 - 2] = 3; /* its name's length */
    put(&file, 0, 4);
    refuse(&file, file.size, -EBADMSG, "a name without its NUL");
}

static void the_real_file_has_its_tensors(void **state)
{
    char path[4200], error[512] = "";
    struct weights weights;
    const struct weights_tensor *embeddings, *projection;

    (void)state;
    snprintf(path, sizeof(path), "%s/model.bin", golden_model("whisper-tiny.en"));
    if (ct2_open(path, "WhisperSpec", error, sizeof(error), &weights) < 0)
        fail_msg("%s", error);
    assert_int_equal(weights.n_tensors, 149);
    embeddings = weights_find(&weights, "decoder/embeddings/weight");
    projection = weights_find(&weights, "decoder/projection/weight");
    assert_non_null(embeddings);
    assert_non_null(projection);
    assert_int_equal(embeddings->type, WEIGHTS_F16);
    assert_int_equal(embeddings->shape[0], 51864);
    assert_int_equal(embeddings->shape[1], 384);
    assert_ptr_equal(embeddings->data, projection->data);
    weights_close(&weights);
    assert_int_equal(ct2_open(path, "TransformerSpec", error, sizeof(error), &weights), -ENOTSUP);
    assert_non_null(strstr(error, "WhisperSpec"));
    assert_int_equal(ct2_open("/nowhere/model.bin", NULL, error, sizeof(error), &weights), -ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_and_aliases_are_found),
        cmocka_unit_test(every_cut_is_refused),
        cmocka_unit_test(wrong_headers_are_refused),
        cmocka_unit_test(wrong_tensors_are_refused),
        cmocka_unit_test(the_real_file_has_its_tensors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
