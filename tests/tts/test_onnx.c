/* The reader of ONNX files: names resolved, damage refused. */
#include "compute/weights/onnx.h"
#include "tests/support/golden.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TINY GOLDEN_DIR "/en_GB-tiny-high.onnx"

static struct onnx onnx;

static int open_tiny(void **state)
{
    char error[256] = "";

    (void)state;
    if (onnx_open(TINY, error, sizeof(error), &onnx) < 0)
        fail_msg("%s", error);
    return 0;
}

static int close_tiny(void **state)
{
    (void)state;
    onnx_close(&onnx);
    onnx_close(&onnx); /* takes empty ones */
    return 0;
}

static void tensors_have_names_and_shapes(void **state)
{
    const struct weights_tensor *m = weights_find(&onnx.weights, "dp.flows.0.m");
    float values[2];

    (void)state;
    assert_non_null(m);
    assert_int_equal(m->type, WEIGHTS_F32);
    assert_int_equal(m->rank, 2);
    assert_int_equal(m->shape[0], 2);
    assert_int_equal(m->count, 2);
    weights_to_f32(m, values);
    assert_true(values[0] > 0.19f && values[0] < 0.21f);
    assert_null(weights_find(&onnx.weights, "no such tensor"));
}

static void convolutions_are_found_by_module(void **state)
{
    struct onnx_conv conv;

    (void)state;
    assert_int_equal(onnx_conv_find(&onnx, "dec.ups.0", &conv), 0);
    assert_true(conv.transposed);
    assert_int_equal(conv.stride, 8);
    assert_int_equal(conv.pad_left, 4);
    assert_int_equal(conv.pad_right, 4);
    assert_non_null(conv.bias);

    assert_int_equal(onnx_conv_find(&onnx, "dec.resblocks.0.convs1.2", &conv), 0);
    assert_int_equal(conv.dilation, 5);
    assert_int_equal(onnx_conv_find(&onnx, "dp.convs.convs_sep.1", &conv), 0);
    assert_int_equal(conv.groups, 12);
    assert_int_equal(onnx_conv_find(&onnx, "dec.conv_post", &conv), 0);
    assert_null(conv.bias);
    assert_int_equal(onnx_conv_find(&onnx, "dec.conv_past", &conv), -ENOENT);
}

/* Weight norm leaves a weight without a name: "onnx::Conv_5974". */
static void folded_weights_are_found_by_their_bias(void **state)
{
    struct onnx_conv conv;

    (void)state;
    assert_null(weights_find(&onnx.weights, "flow.flows.2.enc.in_layers.1.weight"));
    assert_int_equal(onnx_conv_find(&onnx, "flow.flows.2.enc.in_layers.1", &conv), 0);
    assert_memory_equal(conv.weight->name, "onnx::Conv_", strlen("onnx::Conv_"));
    assert_int_equal(conv.weight->shape[0], 24);
    assert_int_equal(conv.weight->shape[1], 12);
    assert_int_equal(conv.weight->shape[2], 5);
}

/* Of a node the smallest message: field `number` of bytes. */
static size_t put(uint8_t *out, int number, const void *bytes, size_t n)
{
    out[0] = (uint8_t)(number << 3 | 2);
    out[1] = (uint8_t)n;
    memcpy(out + 2, bytes, n);
    return n + 2;
}

static size_t put_text(uint8_t *out, int number, const char *text)
{
    return put(out, number, text, strlen(text));
}

/* A model of one node that is called as PyTorch's exporter calls it. */
static size_t put_model(uint8_t *out, const char *op, const char *name)
{
    uint8_t node[128], graph[160];
    size_t n = put_text(node, 1, "in");

    n += put_text(node + n, 1, "weight");
    n += put_text(node + n, 2, "out");
    n += put_text(node + n, 3, name);
    n += put_text(node + n, 4, op);
    n = put(graph, 1, node, n);
    return put(out, 7, graph, n);
}

static void nodes_are_found_by_module_consumer_and_producer(void **state)
{
    uint8_t bytes[256];
    struct onnx one;
    char error[64];
    size_t n = put_model(bytes, "ConvTranspose", "/dec/ups.0/ConvTranspose");

    (void)state;
    assert_int_equal(onnx_read(bytes, n, error, sizeof(error), &one), 0);
    assert_int_equal(one.n_nodes, 1);
    assert_ptr_equal(onnx_module_node(&one, "dec.ups.0", "ConvTranspose"), one.nodes);
    assert_null(onnx_module_node(&one, "dec.ups.1", "ConvTranspose"));
    assert_null(onnx_module_node(&one, "dec.ups", "ConvTranspose"));
    assert_null(onnx_module_node(&one, "dec.ups.0", "Conv"));
    assert_ptr_equal(onnx_consumer(&one, "ConvTranspose", 1, "weight"), one.nodes);
    assert_null(onnx_consumer(&one, "ConvTranspose", 0, "weight"));
    assert_ptr_equal(onnx_producer(&one, "out"), one.nodes);
    assert_null(onnx_producer(&one, "in"));
    onnx_close(&one);
}

static void assert_refused(const uint8_t *bytes, size_t n, const char *why)
{
    struct onnx one;
    char error[256] = "";

    assert_int_equal(onnx_read(bytes, n, error, sizeof(error), &one), -EBADMSG);
    if (!strstr(error, why))
        fail_msg("'%s' does not say '%s'", error, why);
    assert_null(one.nodes);
}

/* A model of one tensor "t" of floats: dims as given, `n` bytes of data. */
static size_t put_tensor_model(uint8_t *out, const uint8_t *dims, size_t n_dims, size_t n)
{
    static const uint8_t data[64];
    uint8_t tensor[128], graph[160];
    size_t at = put(tensor, 1, dims, n_dims);

    tensor[at++] = 2 << 3; /* type, varint: f32 */
    tensor[at++] = 1;
    at += put_text(tensor + at, 8, "t");
    at += put(tensor + at, 9, data, n);
    at = put(graph, 5, tensor, at);
    return put(out, 7, graph, at);
}

static void sizes_that_lie_are_refused(void **state)
{
    static const uint8_t right[] = {2, 2}, more[] = {2, 3};
    /* 2^32 * 2^32 wraps to 0 in 64 bits. */
    static const uint8_t huge[] = {0x80, 0x80, 0x80, 0x80, 0x10, 0x80, 0x80, 0x80, 0x80, 0x10};
    uint8_t bytes[256];
    struct onnx one;
    char error[64];
    size_t n = put_tensor_model(bytes, right, sizeof(right), 16);

    (void)state;
    assert_int_equal(onnx_read(bytes, n, error, sizeof(error), &one), 0);
    assert_int_equal(weights_find(&one.weights, "t")->count, 4);
    onnx_close(&one);
    assert_refused(bytes, n - 1, "cut short");
    n = put_tensor_model(bytes, more, sizeof(more), 16);
    assert_refused(bytes, n, "'t' has 16 bytes, not 24");
    n = put_tensor_model(bytes, huge, sizeof(huge), 16);
    assert_refused(bytes, n, "larger than its 16 bytes");
    assert_refused((const uint8_t *)"", 0, "not an ONNX model");
    assert_refused((const uint8_t *)"hello, this is no model", 23, "not an ONNX model");
}

/* Cut anywhere, the file is refused: its graph is one message that ends where the file does. */
static void truncation_is_refused(void **state)
{
    size_t size = 0;
    char *bytes = golden_text(TINY, &size);

    (void)state;
    for (size_t n = 0; n + 4096 < size; n += 4093) {
        uint8_t *copy = malloc(n + 1); /* so that a read past the end is seen */

        memcpy(copy, bytes, n);
        assert_refused(copy, n, "");
        free(copy);
    }
    free(bytes);
}

static void missing_files_are_named(void **state)
{
    struct onnx one;
    char error[256] = "";

    (void)state;
    assert_int_equal(onnx_open("/nowhere.onnx", error, sizeof(error), &one), -ENOENT);
    assert_non_null(strstr(error, "/nowhere.onnx"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_have_names_and_shapes),
        cmocka_unit_test(convolutions_are_found_by_module),
        cmocka_unit_test(folded_weights_are_found_by_their_bias),
        cmocka_unit_test(nodes_are_found_by_module_consumer_and_producer),
        cmocka_unit_test(sizes_that_lie_are_refused),
        cmocka_unit_test(truncation_is_refused),
        cmocka_unit_test(missing_files_are_named),
    };

    return cmocka_run_group_tests(tests, open_tiny, close_tiny);
}
