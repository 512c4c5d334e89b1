#include "asr/whisper/words.h"

#include "asr/whisper/alignment.h"
#include "text/utf8.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_TEXT_BYTES ((size_t)1 << 20)
#define FRAMES_PER_S 100.0

/* Languages written without spaces: a word is then any whole character. */
static const char *const spaceless[] = {"zh", "ja", "th", "lo", "my", "yue"};

static const char ascii_punctuation[] = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";
static const char sentence_ends[] = ".。!！?？";
static const char joins_next[] = "\"'“¿([{-";
static const char joins_previous[] = "\"'.。,，!！?？:：”)]}、";

/* While words are being cut from tokens. */
struct cutter {
    const struct vocab *vocab;
    struct words *out;
    size_t capacity;
    uint32_t *whole; /* (n_whole) characters of all tokens together */
    size_t n_whole;
};

static int decode(const struct vocab *vocab, const uint32_t *tokens, size_t n, char **text)
{
    struct buffer buffer;
    int err;

    buffer_init(&buffer, MAX_TEXT_BYTES);
    err = bpe_decode(vocab->bpe, tokens, n, &buffer);
    if (err == 0)
        err = buffer_append(&buffer, "", 1);
    if (err == 0) {
        *text = (char *)buffer.data;
        return 0;
    }
    buffer_fini(&buffer);
    return err;
}

/* Characters of a text, and at which of them the first U+FFFD is (their number when there is none). */
static size_t count_characters(const char *text, size_t *broken)
{
    size_t size = strlen(text), n = 0;

    *broken = SIZE_MAX;
    for (size_t at = 0; at < size; n++) {
        uint32_t point = 0;

        at += utf8_decode(text + at, size - at, &point);
        if (point == UTF8_REPLACEMENT && *broken == SIZE_MAX)
            *broken = n;
    }
    return n;
}

static int add_word(struct cutter *cutter, char *text, size_t n_tokens)
{
    struct words *out = cutter->out;

    if (out->n_words == cutter->capacity) {
        size_t capacity = cutter->capacity ? 2 * cutter->capacity : 64;
        struct word *grown = realloc(out->words, capacity * sizeof(*grown));

        if (!grown)
            return -ENOMEM;
        out->words = grown;
        cutter->capacity = capacity;
    }
    out->words[out->n_words++] = (struct word){.text = text, .n_tokens = n_tokens};
    return 0;
}

/* Join `more` to the end of a word; takes neither's memory. */
static int join(struct word *word, const char *more, size_t n_tokens)
{
    size_t size = strlen(word->text), more_size = strlen(more);
    char *grown = realloc(word->text, size + more_size + 1);

    if (!grown)
        return -ENOMEM;
    memcpy(grown + size, more, more_size + 1);
    word->text = grown;
    word->n_tokens += n_tokens;
    return 0;
}

static bool is_blank(uint32_t point)
{
    return utf8_is_space(point) || (point >= 0x1C && point <= 0x1F);
}

/* Whether a text without the white space around it is part of `set`; the empty text is. */
static bool trimmed_within(const char *text, const char *set)
{
    size_t size = strlen(text), begin = 0, end = 0;
    bool started = false;
    char *found;
    char part[16];

    for (size_t at = 0; at < size;) {
        uint32_t point = 0;
        size_t length = utf8_decode(text + at, size - at, &point);

        if (!is_blank(point)) {
            if (!started)
                begin = at;
            started = true;
            end = at + length;
        }
        at += length;
    }
    if (end - begin >= sizeof(part))
        return end - begin < strlen(set) && memmem(set, strlen(set), text + begin, end - begin);
    memcpy(part, text + begin, end - begin);
    part[end - begin] = '\0';
    found = strstr(set, part);
    return found != NULL;
}

static bool begins_word(const struct cutter *cutter, const char *text, bool spaces)
{
    return !spaces || cutter->out->n_words == 0 || text[0] == ' ' ||
           trimmed_within(text, ascii_punctuation);
}

/* Tokens up to a whole character are a piece; pieces that go on a word join it. */
static int cut(struct cutter *cutter, const uint32_t *tokens, size_t n, bool spaces)
{
    size_t begin = 0, offset = 0;
    int err = 0;

    for (size_t end = 1; end <= n && err == 0; end++) {
        char *text = NULL;
        size_t broken = 0, length;

        err = decode(cutter->vocab, tokens + begin, end - begin, &text);
        if (err < 0)
            break;
        length = count_characters(text, &broken);
        if (broken != SIZE_MAX && !(offset + broken < cutter->n_whole &&
                                    cutter->whole[offset + broken] == UTF8_REPLACEMENT)) {
            free(text); /* the character goes on in the next token */
            continue;
        }
        if (begins_word(cutter, text, spaces)) {
            err = add_word(cutter, text, end - begin);
            if (err == 0)
                text = NULL; /* the word's now */
        } else {
            err = join(&cutter->out->words[cutter->out->n_words - 1], text, end - begin);
        }
        free(text);
        begin = end;
        offset += length;
    }
    return err;
}

static int cut_words(const struct vocab *vocab, const uint32_t *tokens, size_t n, bool spaces,
                     struct words *out)
{
    struct cutter cutter = {.vocab = vocab, .out = out};
    char *text = NULL;
    size_t size;
    int err = decode(vocab, tokens, n, &text);

    if (err < 0)
        return err;
    size = strlen(text);
    cutter.whole = malloc((size + 1) * sizeof(*cutter.whole));
    for (size_t at = 0; cutter.whole && at < size;)
        at += utf8_decode(text + at, size - at, &cutter.whole[cutter.n_whole++]);
    err = cutter.whole ? cut(&cutter, tokens, n, spaces) : -ENOMEM;
    free(cutter.whole);
    free(text);
    return err;
}

static void set_times(struct words *words, const size_t *begins, const float *probs)
{
    size_t token = 0;

    for (size_t i = 0; i < words->n_words; i++) {
        struct word *word = &words->words[i];
        double sum = 0;

        for (size_t t = 0; t < word->n_tokens; t++)
            sum += (double)probs[token + t];
        word->probability = sum / (double)word->n_tokens;
        word->start = (double)begins[token] / ALIGNMENT_HZ;
        token += word->n_tokens;
        word->end = (double)begins[token] / ALIGNMENT_HZ;
    }
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Of the words that last at all; at most 0.7 s. */
static int median_duration(const struct words *words, double *out, size_t *count)
{
    double *durations = malloc((words->n_words + 1) * sizeof(*durations));
    size_t n = 0;

    if (!durations)
        return -ENOMEM;
    for (size_t i = 0; i < words->n_words; i++)
        if (words->words[i].end - words->words[i].start != 0)
            durations[n++] = words->words[i].end - words->words[i].start;
    qsort(durations, n, sizeof(*durations), ascending);
    *count = n;
    *out = n == 0       ? 0
           : n % 2 == 1 ? durations[n / 2]
                        : (durations[n / 2 - 1] + durations[n / 2]) / 2;
    *out = fmin(0.7, *out);
    free(durations);
    return 0;
}

/* A pause is no part of the full stop before it or the word after. */
static void cut_at_sentence_ends(struct words *words, double most)
{
    for (size_t i = 1; i < words->n_words; i++) {
        struct word *word = &words->words[i];

        if (!(word->end - word->start > most))
            continue;
        if (strstr(sentence_ends, word->text))
            word->end = word->start + most;
        else if (strstr(sentence_ends, words->words[i - 1].text))
            word->start = word->end - most;
    }
}

/* Word a, which comes before b, becomes the beginning of b. */
static int prepend(struct word *a, struct word *b)
{
    int err = join(a, b->text, 0);
    char *swapped = a->text;

    if (err < 0)
        return err;
    a->text = b->text;
    b->text = swapped;
    a->text[0] = '\0';
    b->n_tokens += a->n_tokens;
    a->n_tokens = 0;
    return 0;
}

static int append(struct word *a, struct word *b)
{
    int err = join(a, b->text, b->n_tokens);

    if (err == 0) {
        b->text[0] = '\0';
        b->n_tokens = 0;
    }
    return err;
}

static bool ends_with_space(const char *text)
{
    size_t size = strlen(text);

    return size > 0 && text[size - 1] == ' ';
}

static int merge_punctuation(struct words *words)
{
    struct word *w = words->words;
    size_t n = words->n_words;
    int err = 0;

    for (size_t i = n, next = n; i-- > 0 && err == 0;) {
        if (next < n && w[i].text[0] == ' ' && trimmed_within(w[i].text, joins_next))
            err = prepend(&w[i], &w[next]);
        else
            next = i;
    }
    for (size_t i = 0, next = 1; next < n && err == 0; next++) {
        if (!ends_with_space(w[i].text) && strstr(joins_previous, w[next].text))
            err = append(&w[i], &w[next]);
        else
            i = next;
    }
    return err;
}

/* To hundredths, as the reference prints them. */
static double round_to_10_ms(double seconds)
{
    char text[64];

    snprintf(text, sizeof(text), "%.2f", seconds);
    return strtod(text, NULL);
}

/* The first word after a pause is not made longer by it. */
static void cut_after_pause(struct word *words, size_t n, double last_speech, double median,
                            double most)
{
    bool long_first = words[0].end - words[0].start > most;
    bool long_pair = n > 1 && words[1].end - words[0].start > most * 2;

    if (!(words[0].end - last_speech > median * 4) || !(long_first || long_pair))
        return;
    if (n > 1 && words[1].end - words[1].start > most) {
        double boundary = fmax(words[1].end / 2, words[1].end - most);

        words[0].end = words[1].start = boundary;
    }
    words[0].start = fmax(0, words[0].end - most);
}

/* Words and segment agree on where they begin and end; the segment's own times win where a word is
 * far outside them. */
static void agree(struct span *span, struct word *words, size_t n, double median)
{
    struct word *first = &words[0], *last = &words[n - 1];

    if (span->start < first->end && span->start - 0.5 > first->start)
        first->start = fmax(0, fmin(first->end - median, span->start));
    else
        span->start = first->start;
    if (span->end > last->start && span->end + 0.5 < last->end)
        last->end = fmax(last->start + median, span->end);
    else
        span->end = last->end;
}

static size_t text_tokens_of(const struct vocab *vocab, const struct span *span)
{
    size_t n = 0;

    for (size_t i = 0; i < span->n_tokens; i++)
        n += span->tokens[i] < vocab->eot;
    return n;
}

/* Deal the words out to the segments that their tokens are in, without those that joined another. */
static void deal(const struct vocab *vocab, struct words *words, size_t seek, double last_speech,
                 double median, double most, struct span *spans, size_t n_spans)
{
    size_t at = 0, kept = 0;

    for (size_t s = 0; s < n_spans; s++) {
        size_t n_text = text_tokens_of(vocab, &spans[s]), seen = 0, first = kept;

        for (; at < words->n_words && seen < n_text; at++) {
            struct word word = words->words[at];

            seen += word.n_tokens;
            if (!word.text[0])
                continue;
            word.start = round_to_10_ms((double)seek / FRAMES_PER_S + word.start);
            word.end = round_to_10_ms((double)seek / FRAMES_PER_S + word.end);
            words->words[at] = words->words[kept]; /* swap, so that every text has one owner */
            words->words[kept++] = word;
        }
        spans[s].words = words->words + first;
        spans[s].n_words = kept - first;
        if (kept == first)
            continue;
        cut_after_pause(words->words + first, kept - first, last_speech, median, most);
        agree(&spans[s], words->words + first, kept - first, median);
        last_speech = spans[s].end;
    }
}

static bool has_spaces(const char *language)
{
    for (size_t i = 0; i < sizeof(spaceless) / sizeof(spaceless[0]); i++)
        if (strcmp(language, spaceless[i]) == 0)
            return false;
    return true;
}

/* The text tokens of all segments in a row. @return their number; -ENOMEM */
static int gather(const struct vocab *vocab, const struct span *spans, size_t n_spans,
                  uint32_t **tokens)
{
    size_t n = 0, most = 0;

    for (size_t s = 0; s < n_spans; s++)
        most += spans[s].n_tokens;
    *tokens = malloc((most + 1) * sizeof(**tokens));
    if (!*tokens)
        return -ENOMEM;
    for (size_t s = 0; s < n_spans; s++)
        for (size_t i = 0; i < spans[s].n_tokens; i++)
            if (spans[s].tokens[i] < vocab->eot)
                (*tokens)[n++] = spans[s].tokens[i];
    return (int)n;
}

static int align(struct asr_model *model, struct workspace *workspace, const uint32_t *start_tokens,
                 size_t n_start, const uint32_t *text, size_t n_text, size_t n_frames, bool spaces,
                 const volatile int *cancel, struct words *out)
{
    size_t *begins = calloc(n_text + 1, sizeof(*begins));
    float *probs = calloc(n_text + 1, sizeof(*probs));
    int err = begins && probs ? 0 : -ENOMEM;

    if (err == 0)
        err = alignment_find(model, workspace, start_tokens, n_start, text, n_text, n_frames,
                             cancel, begins, probs);
    if (err == 0)
        err = cut_words(&model->vocab, text, n_text, spaces, out);
    if (err == 0)
        set_times(out, begins, probs);
    free(begins);
    free(probs);
    return err;
}

int words_find(struct asr_model *model, struct workspace *workspace, const uint32_t *start_tokens,
               size_t n_start, const char *language, size_t seek, size_t n_frames,
               double last_speech, const volatile int *cancel, struct span *spans, size_t n_spans,
               struct words *out)
{
    uint32_t *text = NULL;
    double median = 0;
    size_t n_lasting = 0;
    int err = gather(&model->vocab, spans, n_spans, &text), n_text = err;

    memset(out, 0, sizeof(*out));
    if (n_text > 0 && n_frames >= 2)
        err = align(model, workspace, start_tokens, n_start, text, (size_t)n_text, n_frames,
                    has_spaces(language), cancel, out);
    if (err >= 0)
        err = median_duration(out, &median, &n_lasting);
    if (err == 0) {
        if (n_lasting > 0)
            cut_at_sentence_ends(out, median * 2);
        err = merge_punctuation(out);
    }
    if (err == 0)
        deal(&model->vocab, out, seek, last_speech, median, median * 2, spans, n_spans);
    else
        words_free(out);
    free(text);
    return err;
}

void words_free(struct words *words)
{
    for (size_t i = 0; i < words->n_words; i++)
        free(words->words[i].text);
    free(words->words);
    memset(words, 0, sizeof(*words));
}
