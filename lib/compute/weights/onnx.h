/*
 * onnx.h - weights and wiring of an ONNX file
 *
 * The format is ONNX's public one, a protobuf message. Tensors stay in the mapping; nodes are
 * unpacked, because exporters fold weights into initializers without a useful name
 * ("onnx::Conv_8168") and only the node that uses one tells what it is. onnx_parameter() undoes that
 * for PyTorch's exporter, whose nodes are named after modules: "/dec/ups.0/ConvTranspose".
 */
#ifndef COMPUTE_WEIGHTS_ONNX_H
#define COMPUTE_WEIGHTS_ONNX_H

#include "compute/weights/weights.h"

#include <stdint.h>

struct onnx_node {
    const char *op, *name;
    size_t n_inputs, n_outputs;
    const char *const *inputs, *const *outputs; /* "": an optional input that is left out */
    const void *message;                        /* for onnx_node_ints() */
};

struct onnx {
    struct weights weights; /* initializers of a type and rank that weights.h can hold */
    struct onnx_node *nodes;
    size_t n_nodes;
};

/**
 * Map a file and read its wiring.
 *
 * @param error  (size) why not, for people: "'voice.onnx': tensor 'a' has 12 bytes, not 16"
 * @return 0; -errno of opening it; -EBADMSG for a file that is damaged or no ONNX; -ENOMEM
 */
int onnx_open(const char *path, char *error, size_t size, struct onnx *onnx);

/** The same from memory that stays the caller's and must outlive the tensors. */
int onnx_read(const void *data, size_t bytes, char *error, size_t size, struct onnx *onnx);

/** Takes zeroed and half-filled ones. */
void onnx_close(struct onnx *onnx);

/** First node of an operator ("Conv") whose input `at` is called `input`; NULL. */
const struct onnx_node *onnx_consumer(const struct onnx *onnx, const char *op, size_t at,
                                      const char *input);

/** The node that makes an output; NULL. */
const struct onnx_node *onnx_producer(const struct onnx *onnx, const char *output);

/** First node that PyTorch's exporter made for a module: ("dec.ups.0", "ConvTranspose"); NULL. */
const struct onnx_node *onnx_module_node(const struct onnx *onnx, const char *module,
                                         const char *op);

/** Up to `count` integers of an attribute (one for a scalar). @return how many there are; 0 without it */
size_t onnx_node_ints(const struct onnx_node *node, const char *attribute, int64_t *out,
                      size_t count);

/** A convolution's wiring, found by the name of its module ("dec.ups.0"). */
struct onnx_conv {
    const struct weights_tensor *weight, *bias; /* bias may be NULL */
    size_t stride, dilation, pad_left, pad_right, groups;
    int transposed;
};

/** @return 0; -ENOENT when there is none of that name; -EBADMSG when it is no 1-D convolution in f32 */
int onnx_conv_find(const struct onnx *onnx, const char *module, struct onnx_conv *out);

#endif
