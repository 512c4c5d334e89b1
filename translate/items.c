#include "translate/items.h"

#include "base/buffer.h"
#include "text/utf8.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int items_add(struct items *items, size_t text, size_t space, const struct sentence *sentence)
{
    struct item item = {.text = text, .space = space, .space_size = sentence->space_size};

    if (items->n == items->capacity) {
        size_t capacity = items->capacity ? items->capacity * 2 : 16;
        struct item *list = realloc(items->list, capacity * sizeof(*list));

        if (!list)
            return -ENOMEM;
        items->list = list;
        items->capacity = capacity;
    }
    item.source = strndup(sentence->text, sentence->size);
    if (!item.source)
        return -ENOMEM;
    items->list[items->n++] = item;
    return 0;
}

void items_clear(struct items *items)
{
    for (size_t i = 0; i < items->n; i++) {
        translate_result_fini(&items->list[i].result);
        free(items->list[i].source);
    }
    items->n = 0;
}

void items_fini(struct items *items)
{
    items_clear(items);
    free(items->list);
    *items = (struct items){0};
}

/* One sentence whatever is in it, with the white space around it. */
static int take_text(const char *text, size_t index, struct items *items)
{
    static const char spaces[] = " \t\r\n\v\f";
    size_t begin = strspn(text, spaces), end = strlen(text);
    struct sentence sentence = {.space = text, .space_size = begin, .text = text + begin};
    int err;

    while (end > begin && strchr(spaces, text[end - 1]))
        end--;
    sentence.size = end - begin;
    err = items_add(items, index, 0, &sentence);
    if (err || !text[end])
        return err;
    sentence = (struct sentence){.space_size = strlen(text + end), .text = ""};
    return items_add(items, index, end, &sentence);
}

int items_add_text(struct items *items, size_t index, const char *text, const char *language)
{
    struct sentence sentence;
    size_t size = strlen(text), offset = 0;
    int err = 0;

    if (!language)
        return take_text(text, index, items);
    while (!err && sentences_next_of(language, text, size, &offset, &sentence))
        err = items_add(items, index, (size_t)(sentence.space - text), &sentence);
    return err;
}

static size_t count_words(const char *text)
{
    size_t n = 0, left = strlen(text), size;
    bool inside = false;

    for (; left; text += size, left -= size) {
        uint32_t c = 0;
        bool space;

        size = utf8_decode(text, left, &c);
        space = utf8_is_space(c);
        n += !space && !inside;
        inside = !space;
    }
    return n;
}

int items_translate(struct items *items, size_t first, size_t n,
                    const struct translate_engine *engine, struct translate_model *model,
                    const struct translate_settings *settings, size_t *words)
{
    const char **sources = malloc(sizeof(*sources) * (n + 1));
    struct translate_result *results = calloc(n + 1, sizeof(*results));
    size_t counted = 0;
    int err = sources && results ? 0 : -ENOMEM;

    for (size_t i = 0; i < n && !err; i++)
        sources[i] = items->list[first + i].source;
    if (!err && n)
        err = engine->translate(model, sources, n, settings, results);
    for (size_t i = 0; i < n && !err; i++) {
        items->list[first + i].result = results[i];
        counted += count_words(sources[i]);
    }
    free(sources);
    free(results);
    if (!err)
        *words = counted;
    return err;
}

size_t items_most_alternatives(const struct items *items, size_t first, size_t n)
{
    size_t most = 0;

    for (size_t i = first; i < first + n; i++)
        if (most < items->list[i].result.n_alternatives)
            most = items->list[i].result.n_alternatives;
    return most;
}

int items_join(const struct items *items, size_t first, size_t n, const char *text, size_t rank,
               char **out)
{
    struct buffer joined;
    int err;

    buffer_init(&joined, SIZE_MAX / 2);
    err = buffer_append(&joined, "", 0);
    for (size_t i = first; i < first + n && !err; i++) {
        const struct item *item = &items->list[i];
        const struct translate_result *result = &item->result;
        const char *translated =
            rank && result->n_alternatives
                ? result->alternatives[rank <= result->n_alternatives ? rank - 1
                                                                      : result->n_alternatives - 1]
                : result->text;

        err = buffer_append(&joined, text + item->space, item->space_size);
        if (!err)
            err = buffer_append(&joined, translated, strlen(translated));
    }
    if (err)
        buffer_fini(&joined);
    else
        *out = (char *)joined.data;
    return err;
}
