/*
 * items.h - texts as sentences, on their way through the engine, and as texts again
 */
#ifndef TRANSLATE_ITEMS_H
#define TRANSLATE_ITEMS_H

#include "text/sentences.h"
#include "translate/engine.h"

#include <stddef.h>

struct item {
    size_t text;  /* which of the texts it is of */
    size_t space; /* offset and size of the white space before it, in its text */
    size_t space_size;
    char *source; /* trimmed, owned; empty: only white space at the end */
    struct translate_result result;
};

/* All zero: empty. */
struct items {
    struct item *list;
    size_t n, capacity;
};

/**
 * Add one sentence; its text is copied.
 *
 * @param text   the index of its text
 * @param space  where the white space before it begins, in its text
 * @return 0; -ENOMEM
 */
int items_add(struct items *items, size_t text, size_t space, const struct sentence *sentence);

/**
 * Add the sentences of a text.
 *
 * @param index     of the text
 * @param language  whose rules end a sentence; NULL: the text is one, whatever is in it
 * @return 0; -ENOMEM, with some of them added
 */
int items_add_text(struct items *items, size_t index, const char *text, const char *language);

/**
 * Translate items [first, first + n).
 *
 * @param words  how many were in their sources
 * @return 0; -ENOMEM; else as the engine's translate(), and no item has a result
 */
int items_translate(struct items *items, size_t first, size_t n,
                    const struct translate_engine *engine, struct translate_model *model,
                    const struct translate_settings *settings, size_t *words);

/** The most alternatives that any of items [first, first + n) has. */
size_t items_most_alternatives(const struct items *items, size_t first, size_t n);

/**
 * A text's translation: its items' joined by the white space of the source.
 *
 * @param text  the text that they are of
 * @param rank  0: the best; else that alternative, or the last of an item that has fewer
 * @param out   the caller's to free
 * @return 0; -ENOMEM
 */
int items_join(const struct items *items, size_t first, size_t n, const char *text, size_t rank,
               char **out);

/** Forget them all, keep the memory of the list; or that, too. */
void items_clear(struct items *items);
void items_fini(struct items *items);

#endif
