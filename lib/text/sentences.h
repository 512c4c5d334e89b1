/*
 * sentences.h - running text in, sentences out
 *
 * A sentence ends at a full stop, an exclamation or question mark (of any script) with the quotes and
 * brackets that close behind it, and at every line end. Abbreviations, initials, decimals, ordinals
 * of lists and a following small letter keep it going. What cannot be decided yet waits for more text.
 * Nothing is lost: the white space before each sentence and what follows the last one come out too.
 */
#ifndef TEXT_SENTENCES_H
#define TEXT_SENTENCES_H

#include <stdbool.h>
#include <stddef.h>

/** A sentence without any end is cut at white space after so many bytes: latency stays bounded. */
#define SENTENCES_LONGEST 2048

struct sentence {
    const char *space; /* white space before it */
    size_t space_size;
    const char *text; /* trimmed; size 0: only white space was left */
    size_t size;
};

/**
 * Take the first sentence of a text that is there as a whole.
 *
 * @param language  ISO 639-1, for its abbreviations; NULL: those of all languages known
 * @param text      valid UTF-8
 * @param offset    where to go on, 0 at first; moved behind the sentence
 * @return false at the end of the text
 */
bool sentences_next_of(const char *language, const char *text, size_t size, size_t *offset,
                       struct sentence *out);

struct sentences; /* a stream */

/** @param limit  most bytes that may wait. @return 0; -ENOMEM */
int sentences_create(const char *language, size_t limit, struct sentences **out);
void sentences_destroy(struct sentences **sentences);

/**
 * Append text, cut anywhere, also inside a character.
 *
 * @return 0; -EILSEQ when it is not UTF-8 (nothing appended); -EMSGSIZE past the limit; -ENOMEM
 */
int sentences_feed(struct sentences *sentences, const char *text, size_t size);

/**
 * Take the next complete sentence.
 *
 * @param flush  what is there ends even without a full stop
 * @param out    borrowed until the next call with this stream
 * @return true with a sentence; false when more text is needed
 */
bool sentences_next(struct sentences *sentences, bool flush, struct sentence *out);

/** Whether a character at the end of what was fed still lacks bytes. */
bool sentences_cut_inside_character(const struct sentences *sentences);

#endif
