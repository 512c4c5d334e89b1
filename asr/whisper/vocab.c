#include "asr/whisper/vocab.h"

#include "text/utf8.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Symbols that annotate rather than speak. */
static const char *const symbols[] = {
    "\"",  "#",  "(",  ")",   "*",   "+",   "/",   ":",  ";",   "<",  "=",  ">",
    "@",   "[",  "\\", "]",   "^",   "_",   "`",   "{",  "|",   "}",  "~",  "「",
    "」",  "『", "』", "<<",  ">>",  "<<<", ">>>", "--", "---", "-(", "-[", "('",
    "(\"", "((", "))", "(((", ")))", "[[",  "]]",  "{{", "}}",  "♪♪", "♪♪♪"};
/* These share their first bytes, so the first token of each is suppressed even when it takes more. */
static const char *const music[] = {"♩", "♪", "♫", "♬", "♭", "♮", "♯"};

static int fail(char *error, size_t size, int err, const char *what)
{
    snprintf(error, size, "%s", what);
    return err;
}

static int special(const struct vocab *vocab, const char *name, uint32_t *out, char *error,
                   size_t size)
{
    int id = bpe_special(vocab->bpe, name);

    if (id < 0 || (size_t)id >= vocab->n_tokens) {
        snprintf(error, size, "its tokenizer has no usable token '%s'", name);
        return -EBADMSG;
    }
    *out = (uint32_t)id;
    return 0;
}

static int find_specials(struct vocab *v, char *error, size_t size)
{
    bool newer = bpe_special(v->bpe, "<|nospeech|>") >= 0;
    const struct {
        const char *name;
        uint32_t *id;
    } wanted[] = {
        {"<|endoftext|>", &v->eot},
        {"<|startoftranscript|>", &v->sot},
        {"<|translate|>", &v->translate},
        {"<|transcribe|>", &v->transcribe},
        {"<|startoflm|>", &v->sot_lm},
        {"<|startofprev|>", &v->sot_prev},
        {newer ? "<|nospeech|>" : "<|nocaptions|>", &v->no_speech},
        {"<|notimestamps|>", &v->no_timestamps},
    };

    for (size_t i = 0; i < COUNT(wanted); i++) {
        int err = special(v, wanted[i].name, wanted[i].id, error, size);

        if (err < 0)
            return err;
    }
    v->timestamp_begin = v->no_timestamps + 1;
    if (v->eot >= v->sot || v->sot >= v->no_timestamps || v->timestamp_begin + 2 > v->n_tokens)
        return fail(error, size, -EBADMSG, "its special tokens are not in Whisper's order");
    return 0;
}

/* "<|xx|>" to "xx" */
static int language_of(const struct vocab *vocab, json_int_t id, struct vocab_language *out)
{
    const char *name = NULL;
    size_t length = 0;

    if (id < 0 || (size_t)id >= vocab->n_tokens ||
        bpe_special_name(vocab->bpe, (uint32_t)id, &name, &length) < 0)
        return -ENOENT;
    if (length < 6 || length - 4 >= VOCAB_CODE_MAX)
        return -ENOENT;
    out->id = (uint32_t)id;
    memcpy(out->code, name + 2, length - 4);
    out->code[length - 4] = '\0';
    return 0;
}

/* Multilingual models have languages between <|startoftranscript|> and <|translate|>. */
static int read_languages(struct vocab *vocab)
{
    size_t most = vocab->multilingual ? vocab->n_tokens - vocab->sot : 1;

    vocab->languages = calloc(most, sizeof(*vocab->languages));
    vocab->codes = calloc(most + 1, sizeof(*vocab->codes));
    if (!vocab->languages || !vocab->codes)
        return -ENOMEM;
    if (!vocab->multilingual) {
        strcpy(vocab->languages[vocab->n_languages++].code, "en");
    } else {
        uint32_t end = vocab->translate < vocab->transcribe ? vocab->translate : vocab->transcribe;

        for (uint32_t id = vocab->sot + 1; id < end; id++)
            if (language_of(vocab, id, &vocab->languages[vocab->n_languages]) == 0)
                vocab->n_languages++;
    }
    for (size_t i = 0; i < vocab->n_languages; i++)
        vocab->codes[i] = vocab->languages[i].code;
    return vocab->n_languages ? 0 : -EBADMSG;
}

/* Room for n more ids and a NULL check in one place. */
static int add_suppressed(struct vocab *vocab, uint32_t id)
{
    uint32_t *grown;

    for (size_t i = 0; i < vocab->n_suppress; i++)
        if (vocab->suppress[i] == id)
            return 0;
    grown = realloc(vocab->suppress, (vocab->n_suppress + 1) * sizeof(*grown));
    if (!grown)
        return -ENOMEM;
    vocab->suppress = grown;
    vocab->suppress[vocab->n_suppress++] = id;
    return 0;
}

/* A symbol's token, alone and after a space; of symbols of several tokens only the music's first. */
static int suppress_symbol(struct vocab *vocab, const char *symbol, bool always)
{
    for (int spaced = 0; spaced < 2; spaced++) {
        char text[32];
        uint32_t *ids = NULL;
        size_t n = 0;
        int err;

        snprintf(text, sizeof(text), "%s%s", spaced ? " " : "", symbol);
        err = bpe_encode(vocab->bpe, text, strlen(text), &ids, &n);
        if (err == 0 && n > 0 && (n == 1 || always))
            err = add_suppressed(vocab, ids[0]);
        free(ids);
        if (err < 0)
            return err;
    }
    return 0;
}

static int fill_suppressed(struct vocab *v)
{
    const uint32_t never[] = {v->transcribe, v->translate, v->sot,
                              v->sot_prev,   v->sot_lm,    v->no_speech};
    uint32_t *ids = NULL;
    size_t n = 0;
    int err = 0;

    for (size_t i = 0; i < COUNT(never) && err == 0; i++)
        err = add_suppressed(v, never[i]);
    for (size_t i = 0; i < COUNT(symbols) && err == 0; i++)
        err = suppress_symbol(v, symbols[i], false);
    for (size_t i = 0; i < COUNT(music) && err == 0; i++)
        err = suppress_symbol(v, music[i], true);
    /* Hyphens and quotes may stand within words, but not begin one. */
    for (int i = 0; i < 2 && err == 0; i++) {
        err = bpe_encode(v->bpe, i ? " '" : " -", 2, &ids, &n);
        if (err == 0)
            err = add_suppressed(v, ids[0]);
        free(ids);
        ids = NULL;
    }
    return err;
}

static int read_begin(struct vocab *vocab, json_t *list)
{
    size_t n = json_array_size(list);

    vocab->suppress_begin = calloc(n + 1, sizeof(*vocab->suppress_begin));
    if (!vocab->suppress_begin)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++) {
        json_t *id = json_array_get(list, i);

        if (!json_is_integer(id) || json_integer_value(id) < 0 ||
            (size_t)json_integer_value(id) >= vocab->n_tokens)
            return -EBADMSG;
        vocab->suppress_begin[vocab->n_suppress_begin++] = (uint32_t)json_integer_value(id);
    }
    return 0;
}

static int read_heads(struct vocab *vocab, json_t *list)
{
    size_t n = json_array_size(list);

    vocab->alignment_heads = calloc(n + 1, sizeof(*vocab->alignment_heads));
    if (!vocab->alignment_heads)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++) {
        json_t *layer = json_array_get(json_array_get(list, i), 0);
        json_t *head = json_array_get(json_array_get(list, i), 1);

        if (!json_is_integer(layer) || !json_is_integer(head) || json_integer_value(layer) < 0 ||
            json_integer_value(head) < 0 || json_integer_value(layer) > 1000 ||
            json_integer_value(head) > 1000)
            return -EBADMSG;
        vocab->alignment_heads[vocab->n_alignment_heads++] = (struct vocab_head){
            (uint32_t)json_integer_value(layer), (uint32_t)json_integer_value(head)};
    }
    return 0;
}

static int read_config(struct vocab *vocab, const char *folder, char *error, size_t size)
{
    char path[4096];
    json_error_t json_error;
    json_t *root;
    int err;

    snprintf(path, sizeof(path), "%s/config.json", folder);
    root = json_load_file(path, 0, &json_error);
    if (!root) {
        snprintf(error, size, "cannot read '%s': %s", path, json_error.text);
        return -EBADMSG;
    }
    err = read_begin(vocab, json_object_get(root, "suppress_ids_begin"));
    if (err == 0)
        err = read_heads(vocab, json_object_get(root, "alignment_heads"));
    json_decref(root);
    if (err == -EBADMSG)
        snprintf(error, size, "cannot read '%s': its lists of numbers are damaged", path);
    return err;
}

int vocab_load(const char *folder, size_t n_tokens, char *error, size_t size, struct vocab *out)
{
    struct vocab vocab = {.n_tokens = n_tokens};
    char path[4096];
    int err;

    snprintf(path, sizeof(path), "%s/tokenizer.json", folder);
    if ((err = bpe_load(path, error, size, &vocab.bpe)) < 0 ||
        (err = find_specials(&vocab, error, size)) < 0 ||
        (err = read_config(&vocab, folder, error, size)) < 0)
        goto done;
    if (bpe_n_tokens(vocab.bpe) > n_tokens) {
        snprintf(error, size,
                 "'%s' has %zu tokens, but the model only %zu: they do not belong together", path,
                 bpe_n_tokens(vocab.bpe), n_tokens);
        err = -EBADMSG;
        goto done;
    }
    vocab.multilingual = n_tokens >= 51865; /* English-only models have one token less */
    err = read_languages(&vocab);
    if (err == 0)
        err = fill_suppressed(&vocab);
    if (err < 0)
        fail(error, size, err, err == -ENOMEM ? "out of memory" : "its tokenizer has no languages");
done:
    if (err < 0)
        vocab_free(&vocab);
    else
        *out = vocab;
    return err;
}

void vocab_free(struct vocab *vocab)
{
    bpe_destroy(&vocab->bpe);
    free(vocab->languages);
    free(vocab->codes);
    free(vocab->suppress);
    free(vocab->suppress_begin);
    free(vocab->alignment_heads);
    memset(vocab, 0, sizeof(*vocab));
}

const struct vocab_language *vocab_language(const struct vocab *vocab, const char *code)
{
    for (size_t i = 0; i < vocab->n_languages; i++)
        if (strcmp(vocab->languages[i].code, code) == 0)
            return &vocab->languages[i];
    return NULL;
}

int vocab_encode_prompt(const struct vocab *vocab, const char *text, uint32_t **ids, size_t *n_ids)
{
    size_t begin = 0, end = strlen(text), last = 0, at = 0;
    char *spaced;
    int err;

    while (at < end) {
        uint32_t point = 0;
        size_t length = utf8_decode(text + at, end - at, &point);

        if (utf8_is_space(point) && at == begin)
            begin += length;
        else if (!utf8_is_space(point))
            last = at + length;
        at += length;
    }
    spaced = malloc(end + 2);
    if (!spaced)
        return -ENOMEM;
    last = last > begin ? last : begin;
    spaced[0] = ' ';
    memcpy(spaced + 1, text + begin, last - begin);
    err = bpe_encode(vocab->bpe, spaced, 1 + last - begin, ids, n_ids);
    free(spaced);
    return err;
}
