#include "translate/marian/pieces.h"

#include "text/utf8.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool is_clause_mark(uint32_t c)
{
    static const uint32_t marks[] = {',',    ';',    ':',    '.',    '!',    '?',
                                     ')',    0x2014, 0x2026, 0x3001, 0x3002, 0xFF0C,
                                     0xFF1B, 0xFF1A, 0x060C, 0x061B, 0xFF01, 0xFF1F};

    for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++)
        if (c == marks[i])
            return true;
    return false;
}

/* Where to cut text that is too long: white space behind a mark, else white space, else between two
 * characters; of each kind the one nearest to the middle, the better kinds in the middle half only. */
static size_t cut_at(const char *text, size_t size)
{
    size_t nearest[3] = {0, 0, 0}, middle = size / 2;
    uint32_t before = 0;

    for (size_t at = 0, n; at < size; at += n) {
        uint32_t c = 0;
        size_t kind, distance = at < middle ? middle - at : at - middle, best;

        n = utf8_decode(text + at, size - at, &c);
        kind = !utf8_is_space(c) ? 0 : is_clause_mark(before) ? 2 : 1;
        if (is_clause_mark(before) && before >= 0x3000)
            kind = 2; /* scripts without spaces */
        best = nearest[kind] < middle ? middle - nearest[kind] : nearest[kind] - middle;
        if (at > 0 && distance < best)
            nearest[kind] = at;
        before = c;
    }
    for (size_t kind = 2; kind > 0; kind--)
        if (nearest[kind] > size / 4 && nearest[kind] < size - size / 4)
            return nearest[kind];
    return nearest[0] ? nearest[0] : nearest[1] ? nearest[1] : size;
}

static int append(struct parts *parts, struct part part)
{
    if (parts->n == parts->capacity) {
        size_t capacity = parts->capacity ? parts->capacity * 2 : 16;
        struct part *list = realloc(parts->list, capacity * sizeof(*list));

        if (!list)
            return -ENOMEM;
        parts->list = list;
        parts->capacity = capacity;
    }
    parts->list[parts->n++] = part;
    return 0;
}

static size_t trim(const char **text, size_t size)
{
    uint32_t c = 0;
    size_t n;

    while (size && (n = utf8_decode(*text, size, &c)) && utf8_is_space(c)) {
        *text += n;
        size -= n;
    }
    while (size && (n = utf8_previous(*text, size), utf8_decode(*text + n, size - n, &c)) &&
           utf8_is_space(c))
        size = n;
    return size;
}

/* One part, if it is short enough. @return 1 when it is not */
static int add_short(struct parts *parts, const struct sentencepiece_model *vocab, uint32_t eos,
                     size_t most, const char *text, size_t size, struct part part)
{
    uint32_t *grown;
    int err = sentencepiece_encode(vocab, text, size, &part.ids, &part.n);

    if (err < 0 || part.n == 0)
        return err;
    if (part.n > most) {
        free(part.ids);
        return 1;
    }
    grown = realloc(part.ids, (part.n + 1) * sizeof(*grown));
    if (!grown) {
        free(part.ids);
        return -ENOMEM;
    }
    part.ids = grown;
    part.ids[part.n++] = eos;
    err = append(parts, part);
    if (err < 0)
        free(part.ids);
    return err;
}

/* Long texts are halved before they are encoded: so encoding stays linear, and recursion shallow. */
static int add(struct parts *parts, const struct sentencepiece_model *vocab, uint32_t eos,
               size_t most, const char *text, size_t size, struct part part)
{
    const char *from = text;
    size_t cut;
    int err = 1;

    size = trim(&from, size);
    part.glued = part.glued && from == text;
    if (!size)
        return 0;
    if (size <= most * 32)
        err = add_short(parts, vocab, eos, most, from, size, part);
    if (err <= 0)
        return err;
    cut = cut_at(from, size);
    if (cut == size) /* one character of more pieces than the model takes */
        return 0;
    err = add(parts, vocab, eos, most, from, cut, part);
    part.glued = true; /* unless it begins with white space */
    return err ? err : add(parts, vocab, eos, most, from + cut, size - cut, part);
}

int parts_add(struct parts *parts, const struct sentencepiece_model *vocab, uint32_t eos,
              size_t most, const char *text, size_t size, size_t sentence)
{
    if (!utf8_valid(text, size))
        return -EILSEQ;
    return add(parts, vocab, eos, most, text, size, (struct part){.sentence = sentence});
}

void parts_fini(struct parts *parts)
{
    for (size_t i = 0; i < parts->n; i++) {
        for (size_t j = 0; j < parts->list[i].n_texts; j++)
            free(parts->list[i].texts[j]);
        free(parts->list[i].texts);
        free(parts->list[i].ids);
    }
    free(parts->list);
    *parts = (struct parts){0};
}
