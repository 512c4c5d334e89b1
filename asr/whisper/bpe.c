#include "asr/whisper/bpe.h"

#include "text/utf8.h"

#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#define MAX_ID (1 << 20) /* ids past this are no vocabulary */
#define MAX_MERGES (1 << 20)
#define MAX_TOKEN_BYTES 4096
#define MAX_BYTES ((size_t)64 << 20) /* of all tokens together */
#define NONE UINT32_MAX

/* A token's bytes lie in one block that all share. */
struct token {
    size_t at;
    uint32_t size;
    bool known, special;
};

struct merge {
    uint32_t left, right; /* NONE: an empty slot */
    uint32_t rank, id;
};

struct bpe {
    struct token *tokens; /* (n_tokens) by id */
    size_t n_tokens;
    struct buffer bytes;
    uint32_t *by_bytes; /* (n_slots) ids of plain tokens by the hash of their bytes, NONE: empty */
    size_t n_slots;
    struct merge *merges; /* (n_merge_slots) by the hash of their pair */
    size_t n_merge_slots;
    uint32_t of_byte[256]; /* the token of a single byte */
};

struct error {
    char *text;
    size_t size;
};

static int complain(const struct error *error, int err, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static int complain(const struct error *error, int err, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    if (error->size)
        vsnprintf(error->text, error->size, fmt, args);
    va_end(args);
    return err;
}

static size_t hash_bytes(const void *bytes, size_t n)
{
    const uint8_t *b = bytes;
    uint64_t hash = 0xCBF29CE484222325ULL;

    for (size_t i = 0; i < n; i++)
        hash = (hash ^ b[i]) * 0x100000001B3ULL;
    return (size_t)(hash ^ hash >> 32);
}

static size_t hash_pair(uint32_t left, uint32_t right)
{
    uint64_t hash = ((uint64_t)left << 32 | right) * 0x9E3779B97F4A7C15ULL;

    return (size_t)(hash ^ hash >> 29);
}

static const uint8_t *token_bytes(const struct bpe *bpe, uint32_t id)
{
    return bpe->bytes.data + bpe->tokens[id].at;
}

/* Where a plain token with these bytes is, or would be. */
static uint32_t *find_slot(const struct bpe *bpe, const void *bytes, size_t size)
{
    size_t slot = hash_bytes(bytes, size) & (bpe->n_slots - 1);

    while (bpe->by_bytes[slot] != NONE) {
        uint32_t id = bpe->by_bytes[slot];

        if (bpe->tokens[id].size == size && memcmp(token_bytes(bpe, id), bytes, size) == 0)
            break;
        slot = (slot + 1) & (bpe->n_slots - 1);
    }
    return &bpe->by_bytes[slot];
}

static struct merge *find_merge(const struct bpe *bpe, uint32_t left, uint32_t right)
{
    size_t slot = hash_pair(left, right) & (bpe->n_merge_slots - 1);

    while (bpe->merges[slot].left != NONE &&
           (bpe->merges[slot].left != left || bpe->merges[slot].right != right))
        slot = (slot + 1) & (bpe->n_merge_slots - 1);
    return &bpe->merges[slot];
}

/* The alphabet of byte-level tokenizers: printable Latin-1 characters stand for themselves, the
 * other bytes in order for U+0100 and on. -1 for a character that stands for none. */
static int byte_of(uint32_t point)
{
    int byte = 0;

    if ((point >= '!' && point <= '~') || (point >= 0xA1 && point <= 0xAC) ||
        (point >= 0xAE && point <= 0xFF))
        return (int)point;
    if (point < 0x100 || point >= 0x100 + 68)
        return -1;
    for (uint32_t skipped = 0; byte < 256; byte++) {
        bool itself =
            (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;

        if (!itself && skipped++ == point - 0x100)
            break;
    }
    return byte;
}

/* A vocabulary string to bytes. @return their number; -EBADMSG */
static int to_bytes(const char *text, size_t size, const int *byte_for, uint8_t *bytes)
{
    int n = 0;

    for (size_t at = 0; at < size;) {
        uint32_t point = 0;

        at += utf8_decode(text + at, size - at, &point);
        if (point >= 0x200 || byte_for[point] < 0 || n == MAX_TOKEN_BYTES)
            return -EBADMSG;
        bytes[n++] = (uint8_t)byte_for[point];
    }
    return n;
}

static void fill_alphabet(int *byte_for)
{
    for (uint32_t point = 0; point < 0x200; point++)
        byte_for[point] = byte_of(point);
}

static int set_token(struct bpe *bpe, json_int_t id, const void *bytes, size_t size, bool special,
                     const struct error *error)
{
    struct token *token = &bpe->tokens[id];

    if (token->known && !(special && token->size == size &&
                          memcmp(token_bytes(bpe, (uint32_t)id), bytes, size) == 0))
        return complain(error, -EBADMSG, "token %lld is there twice", (long long)id);
    token->at = bpe->bytes.size;
    token->size = (uint32_t)size;
    token->known = true;
    token->special = special;
    if (size && buffer_append(&bpe->bytes, bytes, size) < 0)
        return complain(error, -ENOMEM, "out of memory");
    return 0;
}

static int read_vocab(struct bpe *bpe, json_t *vocab, const int *byte_for,
                      const struct error *error)
{
    uint8_t bytes[MAX_TOKEN_BYTES];
    const char *text;
    json_t *value;

    json_object_foreach(vocab, text, value)
    {
        json_int_t id = json_integer_value(value);
        int size = to_bytes(text, strlen(text), byte_for, bytes);
        int err;

        if (!json_is_integer(value) || id < 0 || (size_t)id >= bpe->n_tokens)
            return complain(error, -EBADMSG, "'%s' has no usable id", text);
        if (size < 0) /* a special token that the vocabulary names too: added_tokens has it */
            continue;
        if ((err = set_token(bpe, id, bytes, (size_t)size, false, error)) < 0)
            return err;
        *find_slot(bpe, bytes, (size_t)size) = (uint32_t)id;
    }
    return 0;
}

static int read_added(struct bpe *bpe, json_t *added, const struct error *error)
{
    size_t i;
    json_t *entry;

    json_array_foreach(added, i, entry)
    {
        json_t *id = json_object_get(entry, "id");
        const char *text = json_string_value(json_object_get(entry, "content"));
        int err;

        if (!json_is_integer(id) || !text || json_integer_value(id) < 0 ||
            (size_t)json_integer_value(id) >= bpe->n_tokens)
            return complain(error, -EBADMSG, "added token %zu has no usable id and content", i);
        err = set_token(bpe, json_integer_value(id), text, strlen(text), true, error);
        if (err < 0)
            return err;
    }
    return 0;
}

/* A merge is "left right" or ["left", "right"]. */
static int split_merge(json_t *entry, const char **left, size_t *left_size, const char **right)
{
    const char *text = json_string_value(entry), *space;

    if (json_is_array(entry)) {
        *left = json_string_value(json_array_get(entry, 0));
        *right = json_string_value(json_array_get(entry, 1));
        *left_size = *left ? strlen(*left) : 0;
        return *left && *right ? 0 : -EBADMSG;
    }
    space = text ? strchr(text, ' ') : NULL;
    if (!space)
        return -EBADMSG;
    *left = text;
    *left_size = (size_t)(space - text);
    *right = space + 1;
    return 0;
}

static int read_merge(struct bpe *bpe, json_t *entry, uint32_t rank, const int *byte_for)
{
    uint8_t bytes[2 * MAX_TOKEN_BYTES];
    const char *left_text = NULL, *right_text = NULL;
    size_t left_text_size = 0;
    uint32_t left, right, both;
    int left_size, right_size;
    struct merge *merge;

    if (split_merge(entry, &left_text, &left_text_size, &right_text) < 0)
        return -EBADMSG;
    left_size = to_bytes(left_text, left_text_size, byte_for, bytes);
    if (left_size <= 0)
        return -EBADMSG;
    right_size = to_bytes(right_text, strlen(right_text), byte_for, bytes + left_size);
    if (right_size <= 0)
        return -EBADMSG;
    left = *find_slot(bpe, bytes, (size_t)left_size);
    right = *find_slot(bpe, bytes + left_size, (size_t)right_size);
    both = *find_slot(bpe, bytes, (size_t)(left_size + right_size));
    if (left == NONE || right == NONE || both == NONE)
        return -EBADMSG;
    merge = find_merge(bpe, left, right);
    if (merge->left == NONE) /* the first of two equal merges counts */
        *merge = (struct merge){left, right, rank, both};
    return 0;
}

static int read_merges(struct bpe *bpe, json_t *merges, const int *byte_for,
                       const struct error *error)
{
    size_t i;
    json_t *entry;

    json_array_foreach(
        merges, i, entry) if (read_merge(bpe, entry, (uint32_t)i, byte_for) <
                              0) return complain(error, -EBADMSG,
                                                 "merge %zu is not two tokens that make a third",
                                                 i);
    return 0;
}

/* The largest id decides how long the table is. */
static int count_tokens(json_t *vocab, json_t *added, size_t *out, const struct error *error)
{
    json_int_t largest = -1;
    const char *text;
    json_t *value;
    size_t i;

    json_object_foreach(vocab, text, value) if (json_integer_value(value) > largest) largest =
        json_integer_value(value);
    json_array_foreach(added, i,
                       value) if (json_integer_value(json_object_get(value, "id")) > largest)
        largest = json_integer_value(json_object_get(value, "id"));
    if (largest >= MAX_ID)
        return complain(error, -EBADMSG, "token id %lld is too large", (long long)largest);
    *out = (size_t)(largest + 1);
    return 0;
}

static size_t power_above(size_t n)
{
    size_t power = 64;

    while (power < 2 * n)
        power *= 2;
    return power;
}

static int allocate(struct bpe *bpe, size_t n_merges)
{
    bpe->n_slots = power_above(bpe->n_tokens);
    bpe->n_merge_slots = power_above(n_merges);
    bpe->tokens = calloc(bpe->n_tokens + 1, sizeof(*bpe->tokens));
    bpe->by_bytes = malloc(bpe->n_slots * sizeof(*bpe->by_bytes));
    bpe->merges = malloc(bpe->n_merge_slots * sizeof(*bpe->merges));
    if (!bpe->tokens || !bpe->by_bytes || !bpe->merges)
        return -ENOMEM;
    memset(bpe->by_bytes, 0xFF, bpe->n_slots * sizeof(*bpe->by_bytes));
    memset(bpe->merges, 0xFF, bpe->n_merge_slots * sizeof(*bpe->merges));
    return 0;
}

static int find_bytes(struct bpe *bpe, const struct error *error)
{
    for (int i = 0; i < 256; i++) {
        uint8_t byte = (uint8_t)i;

        bpe->of_byte[i] = *find_slot(bpe, &byte, 1);
        if (bpe->of_byte[i] == NONE)
            return complain(error, -ENOTSUP, "it has no token for the byte %d: not byte-level", i);
    }
    return 0;
}

static int read_document(struct bpe *bpe, json_t *root, const struct error *error)
{
    json_t *model = json_object_get(root, "model"), *added = json_object_get(root, "added_tokens");
    json_t *vocab = json_object_get(model, "vocab"), *merges = json_object_get(model, "merges");
    const char *type = json_string_value(json_object_get(model, "type"));
    int byte_for[0x200];
    int err;

    if (type && strcmp(type, "BPE") != 0)
        return complain(error, -ENOTSUP, "it is a '%s' tokenizer, not BPE", type);
    if (!json_is_object(vocab) || !json_is_array(merges) || !json_is_array(added))
        return complain(error, -EBADMSG, "it lacks model.vocab, model.merges or added_tokens");
    if (json_array_size(merges) > MAX_MERGES)
        return complain(error, -EBADMSG, "%zu merges are too many", json_array_size(merges));
    if ((err = count_tokens(vocab, added, &bpe->n_tokens, error)) < 0)
        return err;
    if (allocate(bpe, json_array_size(merges)) < 0)
        return complain(error, -ENOMEM, "out of memory");
    fill_alphabet(byte_for);
    if ((err = read_vocab(bpe, vocab, byte_for, error)) < 0 ||
        (err = read_added(bpe, added, error)) < 0 || (err = find_bytes(bpe, error)) < 0)
        return err;
    return read_merges(bpe, merges, byte_for, error);
}

static int from_document(json_t *root, const json_error_t *json_error, const struct error *error,
                         struct bpe **out)
{
    struct bpe *bpe = NULL;
    int err;

    if (!root)
        return complain(error, -EBADMSG, "line %d: %s", json_error->line, json_error->text);
    bpe = calloc(1, sizeof(*bpe));
    if (!bpe) {
        err = complain(error, -ENOMEM, "out of memory");
        goto done;
    }
    buffer_init(&bpe->bytes, MAX_BYTES);
    if (buffer_append(&bpe->bytes, "", 1) < 0) { /* so that empty tokens have an address too */
        err = complain(error, -ENOMEM, "out of memory");
        goto done;
    }
    err = read_document(bpe, root, error);
    if (err < 0)
        goto done;
    *out = bpe;
    bpe = NULL;
done:
    bpe_destroy(&bpe);
    json_decref(root);
    return err;
}

int bpe_parse(const char *json, size_t n_bytes, char *error, size_t size, struct bpe **out)
{
    json_error_t json_error;
    json_t *root = json_loadb(json, n_bytes, 0, &json_error);

    return from_document(root, &json_error, &(struct error){error, size}, out);
}

int bpe_load(const char *path, char *error, size_t size, struct bpe **out)
{
    char why[256] = "";
    json_error_t json_error;
    FILE *file = fopen(path, "rb");
    json_t *root;
    int err;

    if (!file) {
        err = -errno;
        return complain(&(struct error){error, size}, err, "cannot open '%s': %s", path,
                        strerror(-err));
    }
    root = json_loadf(file, 0, &json_error);
    fclose(file);
    err = from_document(root, &json_error, &(struct error){why, sizeof(why)}, out);
    if (err < 0)
        complain(&(struct error){error, size}, err, "cannot read '%s': %s", path, why);
    return err;
}

void bpe_destroy(struct bpe **bpe)
{
    if (!*bpe)
        return;
    buffer_fini(&(*bpe)->bytes);
    free((*bpe)->tokens);
    free((*bpe)->by_bytes);
    free((*bpe)->merges);
    free(*bpe);
    *bpe = NULL;
}

size_t bpe_n_tokens(const struct bpe *bpe)
{
    return bpe->n_tokens;
}

int bpe_special(const struct bpe *bpe, const char *name)
{
    for (size_t id = 0; id < bpe->n_tokens; id++)
        if (bpe->tokens[id].special && bpe->tokens[id].size == strlen(name) &&
            memcmp(token_bytes(bpe, (uint32_t)id), name, strlen(name)) == 0)
            return (int)id;
    return -ENOENT;
}

int bpe_special_name(const struct bpe *bpe, uint32_t id, const char **name, size_t *size)
{
    if (id >= bpe->n_tokens || !bpe->tokens[id].special)
        return -ENOENT;
    *name = (const char *)token_bytes(bpe, id);
    *size = bpe->tokens[id].size;
    return 0;
}

/* Merge neighbours, the best pair first and of equal ones the leftmost, until none can be.
 * ranks[i] is the merge of ids[i] and ids[i + 1]. @return how many tokens are left */
static size_t merge_pairs(const struct bpe *bpe, uint32_t *ids, uint32_t *ranks, size_t n)
{
    for (size_t i = 0; i + 1 < n; i++)
        ranks[i] = find_merge(bpe, ids[i], ids[i + 1])->rank; /* NONE in an empty slot */
    while (n > 1) {
        size_t best = 0;

        for (size_t i = 1; i + 1 < n; i++)
            if (ranks[i] < ranks[best])
                best = i;
        if (ranks[best] == NONE)
            break;
        ids[best] = find_merge(bpe, ids[best], ids[best + 1])->id;
        memmove(ids + best + 1, ids + best + 2, (n - best - 2) * sizeof(*ids));
        memmove(ranks + best, ranks + best + 1, (n - best - 2) * sizeof(*ranks));
        n--;
        if (best > 0)
            ranks[best - 1] = find_merge(bpe, ids[best - 1], ids[best])->rank;
        if (best + 1 < n)
            ranks[best] = find_merge(bpe, ids[best], ids[best + 1])->rank;
    }
    return n;
}

enum kind { LETTER, NUMBER, SPACE, OTHER };

static enum kind kind_at(const char *text, size_t size, size_t *length)
{
    uint32_t point = 0;

    *length = utf8_decode(text, size, &point);
    if (utf8_is_space(point))
        return SPACE;
    switch (utf8proc_category((utf8proc_int32_t)point)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
        return LETTER;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return NUMBER;
    default:
        return OTHER;
    }
}

/* Bytes of the run of one kind; *last is where its last character starts. */
static size_t run_of(enum kind kind, const char *text, size_t size, size_t *last)
{
    size_t at = 0, length = 0;

    while (at < size && kind_at(text + at, size - at, &length) == kind) {
        *last = at;
        at += length;
    }
    return at;
}

static size_t contraction(const char *text, size_t size)
{
    static const char *const endings[] = {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"};

    for (size_t i = 0; i < sizeof(endings) / sizeof(endings[0]); i++) {
        size_t length = strlen(endings[i]);

        if (size >= length && memcmp(text, endings[i], length) == 0)
            return length;
    }
    return 0;
}

/* Bytes of the next piece, within which merges happen. It is GPT-2's pattern:
 * 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
static size_t next_piece(const char *text, size_t size)
{
    size_t length = contraction(text, size), last = 0, space;
    enum kind kind;

    if (length)
        return length;
    space = text[0] == ' ' && size > 1;
    kind = kind_at(text + space, size - space, &length);
    if (kind != SPACE)
        return space + run_of(kind, text + space, size - space, &last);
    length = run_of(SPACE, text, size, &last);
    if (length < size && last > 0) /* the last one belongs to what follows */
        return last;
    return length;
}

int bpe_encode(const struct bpe *bpe, const char *text, size_t n_bytes, uint32_t **ids,
               size_t *n_ids)
{
    uint32_t *out, *ranks;
    size_t n = 0;

    if (n_bytes == 0) {
        *ids = NULL;
        *n_ids = 0;
        return 0;
    }
    out = malloc(n_bytes * sizeof(*out));
    ranks = malloc(n_bytes * sizeof(*ranks));
    if (!out || !ranks) {
        free(out);
        free(ranks);
        return -ENOMEM;
    }
    for (size_t at = 0; at < n_bytes;) {
        size_t piece = next_piece(text + at, n_bytes - at);

        for (size_t i = 0; i < piece; i++)
            out[n + i] = bpe->of_byte[(uint8_t)text[at + i]];
        n += merge_pairs(bpe, out + n, ranks, piece);
        at += piece;
    }
    free(ranks);
    *ids = out;
    *n_ids = n;
    return 0;
}

/* Copy UTF-8, a U+FFFD for each run of bytes that is none. */
static int append_lossy(struct buffer *text, const char *bytes, size_t size)
{
    for (size_t at = 0; at < size;) {
        uint32_t point = 0;
        size_t length = utf8_decode(bytes + at, size - at, &point);
        bool bad = point == UTF8_REPLACEMENT &&
                   (length != 3 || memcmp(bytes + at, "\xEF\xBF\xBD", 3) != 0);
        int err =
            bad ? buffer_append(text, "\xEF\xBF\xBD", 3) : buffer_append(text, bytes + at, length);

        if (err < 0)
            return err;
        at += length;
    }
    return 0;
}

int bpe_decode(const struct bpe *bpe, const uint32_t *ids, size_t n_ids, struct buffer *text)
{
    struct buffer raw;
    int err = 0;

    buffer_init(&raw, text->limit);
    for (size_t i = 0; i < n_ids && err == 0; i++) {
        const struct token *token = ids[i] < bpe->n_tokens ? &bpe->tokens[ids[i]] : NULL;

        if (token && !token->special && token->size)
            err = buffer_append(&raw, token_bytes(bpe, ids[i]), token->size);
    }
    if (err == 0)
        err = append_lossy(text, (const char *)raw.data, raw.size);
    buffer_fini(&raw);
    return err;
}
