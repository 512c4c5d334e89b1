#include "compute/weights/onnx.h"

#include "compute/weights/onnx.pb-c.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum wire { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

/* Numbers of the fields that are walked in place. */
enum { MODEL_GRAPH = 7 };
enum { GRAPH_NODE = 1, GRAPH_INITIALIZER = 5 };
enum {
    TENSOR_DIMS = 1,
    TENSOR_TYPE = 2,
    TENSOR_FLOATS = 4,
    TENSOR_INT64S = 7,
    TENSOR_NAME = 8,
    TENSOR_RAW = 9,
    TENSOR_LOCATION = 14,
};

#define ONNX_MAX_RANK 16
#define ONNX_MAX_NODES (1u << 20)
#define ONNX_MAX_NODE_BYTES (1u << 20)

struct cursor {
    const uint8_t *at, *end;
};

struct field {
    uint32_t number;
    enum wire wire;
    uint64_t value;     /* varint, fixed */
    struct cursor body; /* bytes */
};

struct tensor {
    struct cursor name, raw;
    uint64_t dims[ONNX_MAX_RANK];
    size_t rank;
    uint64_t type;
    int external, typed; /* data elsewhere; data in typed fields rather than raw */
};

static int say(char *error, size_t size, int err, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

static int say(char *error, size_t size, int err, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    if (size)
        vsnprintf(error, size, fmt, args);
    va_end(args);
    return err;
}

static int read_varint(struct cursor *in, uint64_t *out)
{
    uint64_t value = 0;

    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (in->at == in->end)
            return -EBADMSG;
        value |= (uint64_t)(*in->at & 0x7f) << shift;
        if (!(*in->at++ & 0x80)) {
            *out = value;
            return 0;
        }
    }
    return -EBADMSG;
}

static int read_fixed(struct cursor *in, size_t bytes, uint64_t *out)
{
    if ((size_t)(in->end - in->at) < bytes)
        return -EBADMSG;
    *out = 0;
    memcpy(out, in->at, bytes);
    in->at += bytes;
    return 0;
}

/* The next field. @return 0; -ENODATA at the end; -EBADMSG */
static int read_field(struct cursor *in, struct field *field)
{
    uint64_t key = 0, bytes = 0;

    if (in->at == in->end)
        return -ENODATA;
    if (read_varint(in, &key) < 0 || key >> 3 > UINT32_MAX || key >> 3 == 0)
        return -EBADMSG;
    field->number = (uint32_t)(key >> 3);
    field->wire = (enum wire)(key & 7);
    switch (field->wire) {
    case WIRE_VARINT:
        return read_varint(in, &field->value);
    case WIRE_FIXED64:
        return read_fixed(in, 8, &field->value);
    case WIRE_FIXED32:
        return read_fixed(in, 4, &field->value);
    case WIRE_BYTES:
        if (read_varint(in, &bytes) < 0 || bytes > (uint64_t)(in->end - in->at))
            return -EBADMSG;
        field->body.at = in->at;
        field->body.end = in->at += bytes;
        return 0;
    }
    return -EBADMSG; /* groups are no part of the format */
}

static int add_dim(struct tensor *tensor, uint64_t dim)
{
    if (tensor->rank == ONNX_MAX_RANK)
        return -EBADMSG;
    tensor->dims[tensor->rank++] = dim;
    return 0;
}

static int read_dims(const struct field *field, struct tensor *tensor)
{
    struct cursor packed = field->body;
    uint64_t dim = 0;

    if (field->wire == WIRE_VARINT)
        return add_dim(tensor, field->value);
    if (field->wire != WIRE_BYTES)
        return -EBADMSG;
    while (packed.at != packed.end)
        if (read_varint(&packed, &dim) < 0 || add_dim(tensor, dim) < 0)
            return -EBADMSG;
    return 0;
}

static int read_tensor(struct cursor in, struct tensor *tensor)
{
    struct field field;
    int err;

    memset(tensor, 0, sizeof(*tensor));
    while ((err = read_field(&in, &field)) == 0) {
        if (field.number == TENSOR_DIMS && read_dims(&field, tensor) < 0)
            return -EBADMSG;
        if (field.number == TENSOR_TYPE && field.wire == WIRE_VARINT)
            tensor->type = field.value;
        if (field.number == TENSOR_NAME && field.wire == WIRE_BYTES)
            tensor->name = field.body;
        if (field.number == TENSOR_RAW && field.wire == WIRE_BYTES)
            tensor->raw = field.body;
        /* Packed typed floats and raw ones are the same bytes; other typed data is not read. */
        if (field.number == TENSOR_FLOATS && field.wire == WIRE_BYTES)
            tensor->raw = field.body;
        else if (field.number >= TENSOR_FLOATS && field.number <= TENSOR_INT64S)
            tensor->typed = 1;
        if (field.number == TENSOR_LOCATION && field.wire == WIRE_VARINT && field.value)
            tensor->external = 1;
    }
    return err == -ENODATA ? 0 : err;
}

/* ONNX's number of a type. @return bytes an element; 0 for one that weights.h cannot hold */
static size_t type_of(uint64_t type, enum weights_type *out)
{
    switch (type) {
    case 1:
        *out = WEIGHTS_F32;
        return 4;
    case 3:
        *out = WEIGHTS_S8;
        return 1;
    case 5:
        *out = WEIGHTS_S16;
        return 2;
    case 6:
        *out = WEIGHTS_S32;
        return 4;
    case 7:
        *out = WEIGHTS_S64;
        return 8;
    case 10:
        *out = WEIGHTS_F16;
        return 2;
    case 16:
        *out = WEIGHTS_BF16;
        return 2;
    }
    return 0;
}

static int fits(const struct tensor *tensor)
{
    enum weights_type type;

    return tensor->rank <= WEIGHTS_MAX_RANK && !tensor->typed && type_of(tensor->type, &type);
}

/* Check one tensor against its bytes and describe it; its name goes to *names. */
static int describe(const struct tensor *tensor, struct weights_tensor *out, char **names,
                    char *error, size_t size)
{
    size_t width, bytes = (size_t)(tensor->raw.end - tensor->raw.at);
    size_t length = (size_t)(tensor->name.end - tensor->name.at);
    uint64_t count = 1;

    memcpy(*names, tensor->name.at, length);
    (*names)[length] = '\0';
    out->name = *names;
    *names += length + 1;

    if (tensor->external)
        return say(error, size, -EBADMSG, "tensor '%s' lies in another file: export with its data",
                   out->name);
    width = type_of(tensor->type, &out->type);
    out->rank = tensor->rank;
    for (size_t i = 0; i < tensor->rank; i++) {
        if (__builtin_mul_overflow(count, tensor->dims[i], &count) || count > bytes)
            return say(error, size, -EBADMSG, "tensor '%s' is larger than its %zu bytes", out->name,
                       bytes);
        out->shape[i] = (size_t)tensor->dims[i];
    }
    if (count * width != bytes)
        return say(error, size, -EBADMSG, "tensor '%s' has %zu bytes, not %llu", out->name, bytes,
                   (unsigned long long)count * width);
    out->count = (size_t)count;
    out->data = tensor->raw.at;
    return 0;
}

static int compare_tensors(const void *a, const void *b)
{
    return strcmp(((const struct weights_tensor *)a)->name,
                  ((const struct weights_tensor *)b)->name);
}

/* What the graph holds, before anything is allocated for it. */
struct census {
    size_t n_tensors, name_bytes, n_nodes;
};

static int count_graph(struct cursor graph, struct census *census)
{
    struct field field;
    struct tensor tensor;
    int err;

    while ((err = read_field(&graph, &field)) == 0) {
        if (field.wire != WIRE_BYTES)
            continue;
        if (field.number == GRAPH_NODE)
            census->n_nodes++;
        if (field.number != GRAPH_INITIALIZER)
            continue;
        err = read_tensor(field.body, &tensor);
        if (err < 0)
            return err;
        if (!fits(&tensor))
            continue;
        census->n_tensors++;
        census->name_bytes += (size_t)(tensor.name.end - tensor.name.at) + 1;
    }
    if (census->n_nodes > ONNX_MAX_NODES)
        return -EBADMSG;
    return err == -ENODATA ? 0 : err;
}

static int add_node(struct onnx *onnx, struct cursor body)
{
    size_t bytes = (size_t)(body.end - body.at);
    struct onnx_node *node = &onnx->nodes[onnx->n_nodes];
    Onnx__Node *message;

    if (bytes > ONNX_MAX_NODE_BYTES) /* a constant or a subgraph: nothing that names a weight */
        return 0;
    message = onnx__node__unpack(NULL, bytes, body.at);
    if (!message)
        return -EBADMSG;
    node->message = message;
    node->op = message->op_type;
    node->name = message->name;
    node->n_inputs = message->n_input;
    node->n_outputs = message->n_output;
    node->inputs = (const char *const *)message->input;
    node->outputs = (const char *const *)message->output;
    onnx->n_nodes++;
    return 0;
}

static int fill(struct onnx *onnx, struct cursor graph, char *error, size_t size)
{
    struct weights *weights = &onnx->weights;
    char *names = weights->owned;
    struct field field;
    struct tensor tensor;
    int err = 0;

    while (!err && read_field(&graph, &field) == 0) {
        if (field.wire != WIRE_BYTES)
            continue;
        if (field.number == GRAPH_NODE && add_node(onnx, field.body) < 0)
            err = say(error, size, -EBADMSG, "node %zu is damaged", onnx->n_nodes);
        if (field.number != GRAPH_INITIALIZER)
            continue;
        read_tensor(field.body, &tensor); /* counted, so it reads */
        if (fits(&tensor))
            err = describe(&tensor, &weights->tensors[weights->n_tensors++], &names, error, size);
    }
    if (!err)
        qsort(weights->tensors, weights->n_tensors, sizeof(*weights->tensors), compare_tensors);
    return err;
}

static int find_graph(struct cursor model, struct cursor *graph)
{
    struct field field = {0};
    int err;

    while ((err = read_field(&model, &field)) == 0) {
        if (field.number == MODEL_GRAPH && field.wire == WIRE_BYTES) {
            *graph = field.body;
            return 0;
        }
    }
    return -EBADMSG;
}

int onnx_read(const void *data, size_t bytes, char *error, size_t size, struct onnx *onnx)
{
    struct cursor model = {data, (const uint8_t *)data + bytes}, graph;
    struct census census = {0};
    int err;

    memset(onnx, 0, sizeof(*onnx));
    if (find_graph(model, &graph) < 0 || count_graph(graph, &census) < 0)
        return say(error, size, -EBADMSG, "not an ONNX model, or cut short");
    onnx->weights.tensors = calloc(census.n_tensors + 1, sizeof(*onnx->weights.tensors));
    onnx->weights.owned = malloc(census.name_bytes + 1);
    onnx->nodes = calloc(census.n_nodes + 1, sizeof(*onnx->nodes));
    if (!onnx->weights.tensors || !onnx->weights.owned || !onnx->nodes)
        err = say(error, size, -ENOMEM, "out of memory");
    else
        err = fill(onnx, graph, error, size);
    if (err < 0)
        onnx_close(onnx);
    return err;
}

int onnx_open(const char *path, char *error, size_t size, struct onnx *onnx)
{
    void *map = NULL;
    size_t bytes = 0;
    char why[256] = "";
    int err = weights_map_file(path, &map, &bytes);

    memset(onnx, 0, sizeof(*onnx));
    if (err < 0)
        return say(error, size, err, "cannot map '%s': %s", path, strerror(-err));
    err = onnx_read(map, bytes, why, sizeof(why), onnx);
    if (err < 0) {
        munmap(map, bytes);
        return say(error, size, err, "cannot read '%s': %s", path, why);
    }
    onnx->weights.map = map;
    onnx->weights.map_bytes = bytes;
    return 0;
}

void onnx_close(struct onnx *onnx)
{
    for (size_t i = 0; onnx->nodes && i < onnx->n_nodes; i++)
        onnx__node__free_unpacked((Onnx__Node *)(uintptr_t)onnx->nodes[i].message, NULL);
    free(onnx->nodes);
    weights_close(&onnx->weights);
    memset(onnx, 0, sizeof(*onnx));
}

const struct onnx_node *onnx_consumer(const struct onnx *onnx, const char *op, size_t at,
                                      const char *input)
{
    for (size_t i = 0; i < onnx->n_nodes; i++) {
        const struct onnx_node *node = &onnx->nodes[i];

        if (at < node->n_inputs && !strcmp(node->op, op) && !strcmp(node->inputs[at], input))
            return node;
    }
    return NULL;
}

const struct onnx_node *onnx_producer(const struct onnx *onnx, const char *output)
{
    for (size_t i = 0; i < onnx->n_nodes; i++)
        for (size_t j = 0; j < onnx->nodes[i].n_outputs; j++)
            if (!strcmp(onnx->nodes[i].outputs[j], output))
                return &onnx->nodes[i];
    return NULL;
}

/* "/dec/ups.0/ConvTranspose" is of the module "dec.ups.0". */
static int names_module(const char *name, const char *module, const char *op)
{
    if (*name++ != '/')
        return 0;
    for (; *module; module++, name++)
        if (*name != *module && !(*name == '/' && *module == '.'))
            return 0;
    return *name == '/' && !strcmp(name + 1, op);
}

const struct onnx_node *onnx_module_node(const struct onnx *onnx, const char *module,
                                         const char *op)
{
    for (size_t i = 0; i < onnx->n_nodes; i++)
        if (!strcmp(onnx->nodes[i].op, op) && names_module(onnx->nodes[i].name, module, op))
            return &onnx->nodes[i];
    return NULL;
}

size_t onnx_node_ints(const struct onnx_node *node, const char *attribute, int64_t *out,
                      size_t count)
{
    const Onnx__Node *message = node->message;

    for (size_t i = 0; i < message->n_attribute; i++) {
        const Onnx__Attribute *found = message->attribute[i];

        if (strcmp(found->name, attribute) != 0)
            continue;
        if (!found->n_ints && count)
            *out = found->i;
        for (size_t j = 0; j < found->n_ints && j < count; j++)
            out[j] = found->ints[j];
        return found->n_ints ? found->n_ints : 1;
    }
    return 0;
}

/* The node of a convolution: by its weight's name, else its bias's (which survives when a weight is
 * folded), else by the module path that it is named after. */
static const struct onnx_node *conv_node(const struct onnx *onnx, const char *module)
{
    static const char *const ops[] = {"Conv", "ConvTranspose"};
    const struct onnx_node *node = NULL;
    char name[256];

    for (size_t i = 0; !node && i < 2; i++) {
        snprintf(name, sizeof(name), "%s.weight", module);
        node = onnx_consumer(onnx, ops[i], 1, name);
        snprintf(name, sizeof(name), "%s.bias", module);
        if (!node)
            node = onnx_consumer(onnx, ops[i], 2, name);
        if (!node)
            node = onnx_module_node(onnx, module, ops[i]);
    }
    return node;
}

/* One non-negative integer attribute that a size may be made of. */
static int read_size(const struct onnx_node *node, const char *attribute, size_t fallback,
                     size_t *out)
{
    int64_t value = 0;

    *out = fallback;
    if (!onnx_node_ints(node, attribute, &value, 1))
        return 0;
    *out = (size_t)value;
    return value < 0 || value > 1 << 16 ? -EBADMSG : 0;
}

int onnx_conv_find(const struct onnx *onnx, const char *module, struct onnx_conv *out)
{
    const struct onnx_node *node = conv_node(onnx, module);
    struct onnx_conv conv = {0};
    int64_t pads[2] = {0, 0};

    if (!node)
        return -ENOENT;
    conv.transposed = !strcmp(node->op, "ConvTranspose");
    if (node->n_inputs > 1)
        conv.weight = weights_find(&onnx->weights, node->inputs[1]);
    if (node->n_inputs > 2 && *node->inputs[2]) {
        conv.bias = weights_find(&onnx->weights, node->inputs[2]);
        if (!conv.bias || conv.bias->type != WEIGHTS_F32 || conv.bias->rank != 1)
            return -EBADMSG;
    }
    if (!conv.weight || conv.weight->type != WEIGHTS_F32 || conv.weight->rank != 3)
        return -EBADMSG;
    onnx_node_ints(node, "pads", pads, 2);
    if (pads[0] < 0 || pads[1] < 0 || pads[0] > 1 << 16 || pads[1] > 1 << 16)
        return -EBADMSG;
    conv.pad_left = (size_t)pads[0];
    conv.pad_right = (size_t)pads[1];
    if (read_size(node, "strides", 1, &conv.stride) < 0 || conv.stride == 0 ||
        read_size(node, "dilations", 1, &conv.dilation) < 0 || conv.dilation == 0 ||
        read_size(node, "group", 1, &conv.groups) < 0 || conv.groups == 0)
        return -EBADMSG;
    *out = conv;
    return 0;
}
