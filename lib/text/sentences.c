#include "text/sentences.h"

#include "base/buffer.h"
#include "text/utf8.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Longest run of marks, quotes and spaces that a decision looks through: keeps a stream that comes
 * byte by byte linear whatever it holds. */
#define LOOK_AHEAD 64
#define LONGEST_ABBREVIATION 16 /* bytes */

enum kind { KEEP, END, UNDECIDED };

/* Words before a full stop that ends no sentence, in small letters, each between spaces. */
struct abbreviations {
    const char *language;
    const char *always;       /* whatever follows */
    const char *before_digit; /* only before a number: "no. 5" */
};

static const struct abbreviations known[] = {
    {"en",
     " mr mrs ms dr prof st sr jr gen col sgt capt lt maj rev hon gov sen rep pres supt messrs mt "
     "ft"
     " vs e.g i.e cf viz approx dept est ave blvd rd inc ltd co corp bros assn jan feb mar apr jun"
     " jul aug sep sept oct nov dec ",
     " no nos art p pp vol fig figs ch sec eq para ver "},
    {"pt",
     " sr sra srs sras srta dr dra drs prof profa eng arq exmo exma ilmo ilma dom d p.ex ex cf av"
     " r lda cia ltda jr gen cel cap sen gov pe fr v ",
     " n nº art arts p pp pág págs vol fig figs cap tel séc "},
    {"es",
     " sr sra sres sras srta dr dra prof profa lic ing arq ud uds vd vds p.ej ej cf av avda d dña"
     " gral cnel cía ltda sto sta ",
     " núm n nº art arts p pp pág págs vol fig figs cap tel s "},
    {"fr", " m mm mme mmes mlle mlles dr pr prof me mgr st ste cf env av bd p.ex ex ",
     " n no nos art p pp vol fig chap tél "},
    {"it",
     " sig sigg sig.ra sig.na dott dott.ssa prof prof.ssa ing avv arch on ecc cfr es p.es spett"
     " gent ",
     " n nn art artt p pp pag vol fig cap tel sec "},
    {"de",
     " hr fr dr prof dipl ing st str z.b d.h u.a o.ä bzw ca evtl ggf inkl vgl usw zzgl sog geb"
     " gest jan feb mär apr jun jul aug sept okt nov dez ",
     " nr art abs s bd kap abb tel "},
    {"nl", " dhr mevr mw dr prof ir ing drs mr st bijv d.w.z m.b.t o.a ca ", " nr art blz p fig "},
    {"ru", " г-н г-жа др проф им ул т.е т.к т.д т.п напр см ср ", " № г стр гл рис т п ст "},
};

static bool listed(const char *list, const char *word, size_t size)
{
    char needle[LONGEST_ABBREVIATION + 3];

    if (!size || size > LONGEST_ABBREVIATION)
        return false;
    needle[0] = ' ';
    memcpy(needle + 1, word, size);
    needle[size + 1] = ' ';
    needle[size + 2] = '\0';
    return strstr(list, needle) != NULL;
}

static bool abbreviated(const char *language, const char *word, size_t size, bool digit_follows)
{
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (language && strcmp(language, known[i].language) != 0)
            continue;
        if (listed(known[i].always, word, size) ||
            (digit_follows && listed(known[i].before_digit, word, size)))
            return true;
    }
    return false;
}

/* Marks that end a sentence only before white space. */
static bool is_mark(uint32_t c)
{
    return c == '.' || c == '!' || c == '?' || c == 0x2026 /* … */ || c == 0x203C || c == 0x2047 ||
           c == 0x2048 || c == 0x2049 || c == 0x0589 /* Armenian */ || c == 0x061F /* Arabic ? */ ||
           c == 0x06D4 || c == 0x0964 /* danda */ || c == 0x0965 || c == 0x1362 /* Ethiopic */ ||
           c == 0x1367 || c == 0x17D4 /* Khmer */;
}

/* Marks of scripts that put no spaces between sentences. */
static bool is_wide_mark(uint32_t c)
{
    return c == 0x3002 /* 。 */ || c == 0xFF01 || c == 0xFF1F || c == 0xFF0E || c == 0xFF61;
}

static bool is_closer(uint32_t c)
{
    static const uint32_t closers[] = {'"',    '\'',   ')',    ']',    '}',    0xBB,
                                       0x2019, 0x201D, 0x203A, 0x300D, 0x300F, 0xFF09,
                                       0x3011, 0x300B, 0x3009, 0xFF3D, 0x3015};

    for (size_t i = 0; i < sizeof(closers) / sizeof(closers[0]); i++)
        if (c == closers[i])
            return true;
    return false;
}

static bool is_opener(uint32_t c)
{
    return c == '"' || c == '\'' || c == '(' || c == '[' || c == '{' || c == 0xAB || c == 0xBF ||
           c == 0xA1 || (c >= 0x2018 && c <= 0x201F && c != 0x2019) || c == 0x2039 || c == '-' ||
           c == 0x2013 || c == 0x2014;
}

static bool is_line_end(uint32_t c)
{
    return c == '\n' || c == '\r' || c == 0x2028 || c == 0x2029 || c == 0x0B || c == 0x0C;
}

struct view {
    const char *language;
    const char *text; /* from the sentence's first character */
    size_t size;
    bool final; /* nothing comes after it */
};

/* The character at `at`; 0 with *n = 0 at the end. */
static uint32_t peek(const struct view *view, size_t at, size_t *n)
{
    uint32_t c = 0;

    *n = utf8_decode(view->text + at, view->size - at, &c);
    return *n ? c : 0;
}

/* The small letter of a capital of Latin-1, Greek and Russian, where the abbreviations are. */
static uint32_t small(uint32_t c)
{
    bool capital = (c >= 'A' && c <= 'Z') || (c >= 0xC0 && c <= 0xDE && c != 0xD7) ||
                   (c >= 0x391 && c <= 0x3A9) || (c >= 0x410 && c <= 0x42F);

    return capital ? c + 0x20 : c;
}

/* The word before the mark at `at`, in small letters. Its size; 0 when it is longer than any
 * abbreviation. word (LONGEST_ABBREVIATION) */
static size_t word_before(const struct view *view, size_t at, char *word, size_t *start)
{
    size_t from = at;

    while (from > 0) {
        size_t previous = utf8_previous(view->text, from), n;
        uint32_t c = peek(view, previous, &n);

        if (utf8_is_space(c) || is_opener(c) || is_closer(c) || c == '/')
            break;
        from = previous;
        if (at - from > LONGEST_ABBREVIATION)
            return 0;
    }
    *start = from;
    for (size_t n; from < at; from += n) {
        uint32_t c = peek(view, from, &n);

        memcpy(word + (from - *start), view->text + from, n);
        if (small(c) != c)
            utf8_encode(small(c), word + (from - *start)); /* of the same size */
    }
    return at - *start;
}

/* "J" of "J. Smith" and "U.S" of "U.S. Army": capitals alone, or with full stops between. */
static bool is_initials(const char *word, size_t size)
{
    size_t at = 0;

    while (at < size) {
        uint32_t c = 0;
        size_t n = utf8_decode(word + at, size - at, &c);

        if (!utf8_is_upper(c))
            return false;
        at += n;
        if (at < size && word[at++] != '.')
            return false;
    }
    return size > 0;
}

static bool is_number(const char *word, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (word[i] < '0' || word[i] > '9')
            return false;
    return size > 0;
}

/* Whether the full stop at `at`, with `next` the first character of the next word, ends nothing. */
static bool stop_is_part_of_word(const struct view *view, size_t at, uint32_t next)
{
    char word[LONGEST_ABBREVIATION];
    size_t start = 0, size = word_before(view, at, word, &start);

    if (!size)
        return false;
    if (abbreviated(view->language, word, size, utf8_is_digit(next)))
        return true;
    if (is_number(word, size)) /* "1. First": a list's number; "3. Oktober": German's ordinals */
        return start == 0 || (view->language && strcmp(view->language, "de") == 0);
    return is_initials(view->text + start, size) &&
           !(size == 1 && view->text[start] == 'I'); /* "So do I. You too." */
}

/* Step over what follows a mark: more marks and what closes. @return false when text ran out first */
static bool skip_marks(const struct view *view, size_t *at, bool *wide, bool *only_stop)
{
    size_t begin = *at, n;

    for (;;) {
        uint32_t c = peek(view, *at, &n);

        if (!n)
            return view->final;
        if (*at - begin >= LOOK_AHEAD || !(is_mark(c) || is_wide_mark(c) || is_closer(c)))
            return true;
        *wide = *wide || is_wide_mark(c);
        *only_stop = false;
        *at += n;
    }
}

/* French puts a space before its closing guillemet: "? »". German's opening one stands before a word.
 * @return false when text ran out first */
static bool skip_guillemet(const struct view *view, size_t *at)
{
    size_t space, guillemet, behind;
    uint32_t c = peek(view, *at, &space);

    if (!space)
        return true;
    if (!utf8_is_space(c) || is_line_end(c))
        return true;
    c = peek(view, *at + space, &guillemet);
    if (guillemet && c != 0xBB && c != 0x203A)
        return true;
    c = guillemet ? peek(view, *at + space + guillemet, &behind) : 0;
    if (!guillemet || !behind) {
        if (guillemet && view->final)
            *at += space + guillemet;
        return view->final;
    }
    if (utf8_is_space(c))
        *at += space + guillemet;
    return true;
}

/* Decide about the mark at `at`; *end is where the sentence would end. */
static enum kind decide(const struct view *view, size_t at, size_t *end)
{
    size_t n, after, next_at, next_n;
    uint32_t mark = peek(view, at, &n), next;
    bool wide = is_wide_mark(mark), only_stop = mark == '.';

    after = at + n;
    if (!skip_marks(view, &after, &wide, &only_stop) || !skip_guillemet(view, &after))
        return UNDECIDED;
    *end = after;
    if (wide || after == view->size)
        return END;
    next = peek(view, after, &n);
    if (!utf8_is_space(next))
        return KEEP;
    next_at = after;
    for (;;) { /* to the next word's first letter or digit */
        next = peek(view, next_at, &next_n);
        if (!next_n)
            break;
        if (is_line_end(next) || next_at - after >= LOOK_AHEAD)
            return END;
        if (!utf8_is_space(next) && !is_opener(next))
            break;
        next_at += next_n;
    }
    if (!next_n)
        return view->final ? END : UNDECIDED;
    if (utf8_is_lower(next))
        return KEEP;
    return only_stop && stop_is_part_of_word(view, at, next) ? KEEP : END;
}

/* Where a sentence that found no end is cut: behind its last white space, else where a character ends. */
static size_t cut_of(const char *text)
{
    size_t cut = SENTENCES_LONGEST;

    while (((uint8_t)text[cut] & 0xC0) == 0x80)
        cut--;
    for (size_t at = cut; at > SENTENCES_LONGEST / 2;) {
        uint32_t c = 0;
        size_t previous = utf8_previous(text, at);

        utf8_decode(text + previous, at - previous, &c);
        if (utf8_is_space(c))
            return previous;
        at = previous;
    }
    return cut;
}

/*
 * Find the first sentence's end.
 *
 * @param scanned  in: how far nothing ends, as the last call said; out: the same, when not found
 * @return its size in bytes without trailing space; 0 when more text is needed
 */
static size_t find_end(const struct view *view, size_t *scanned)
{
    size_t at = *scanned, end = 0, n;

    while (at < view->size) {
        uint32_t c = peek(view, at, &n);
        enum kind kind = KEEP;

        if (at > SENTENCES_LONGEST)
            return cut_of(view->text);
        if (is_line_end(c))
            return at;
        if (is_mark(c) || is_wide_mark(c))
            kind = decide(view, at, &end);
        if (kind == END)
            return end;
        if (kind == UNDECIDED)
            break;
        at += n;
    }
    *scanned = at;
    if (at > SENTENCES_LONGEST)
        return cut_of(view->text);
    return view->final ? view->size : 0;
}

static size_t space_at(const char *text, size_t size)
{
    size_t at = 0;

    while (at < size) {
        uint32_t c = 0;
        size_t n = utf8_decode(text + at, size - at, &c);

        if (!utf8_is_space(c))
            break;
        at += n;
    }
    return at;
}

/* Without white space at the end, which a sentence cut by a line's end may have. */
static size_t trimmed(const char *text, size_t size)
{
    while (size > 0) {
        uint32_t c = 0;
        size_t previous = utf8_previous(text, size);

        utf8_decode(text + previous, size - previous, &c);
        if (!utf8_is_space(c))
            break;
        size = previous;
    }
    return size;
}

bool sentences_next_of(const char *language, const char *text, size_t size, size_t *offset,
                       struct sentence *out)
{
    const char *from = text + *offset;
    size_t left = size - *offset, space = space_at(from, left), scanned = 0;
    struct view view = {language, from + space, left - space, true};

    if (!left)
        return false;
    out->space = from;
    out->space_size = space;
    out->text = view.text;
    out->size = view.size ? trimmed(view.text, find_end(&view, &scanned)) : 0;
    *offset += space + out->size;
    return true;
}

struct sentences {
    const char *language;
    struct buffer text;
    size_t start;   /* bytes at the front that went out already */
    size_t space;   /* white space from there on, as far as is known */
    size_t scanned; /* of the text behind it */
    size_t tail;    /* bytes of a cut character at the end */
};

int sentences_create(const char *language, size_t limit, struct sentences **out)
{
    struct sentences *sentences = calloc(1, sizeof(*sentences));

    if (!sentences)
        return -ENOMEM;
    for (size_t i = 0; language && i < sizeof(known) / sizeof(known[0]); i++)
        if (strcmp(known[i].language, language) == 0)
            sentences->language = known[i].language;
    if (language && !sentences->language)
        sentences->language = ""; /* a language without a list */
    buffer_init(&sentences->text, limit);
    *out = sentences;
    return 0;
}

void sentences_destroy(struct sentences **sentences)
{
    if (!*sentences)
        return;
    buffer_fini(&(*sentences)->text);
    free(*sentences);
    *sentences = NULL;
}

/* Move what waits to the front, not more often than it pays. */
static void drop_taken(struct sentences *sentences)
{
    if (sentences->start <= sentences->text.size / 2)
        return;
    buffer_consume(&sentences->text, sentences->start);
    sentences->start = 0;
}

int sentences_feed(struct sentences *sentences, const char *text, size_t size)
{
    size_t from, valid, tail;
    int err;

    if (!size)
        return 0;
    drop_taken(sentences);
    from = sentences->text.size - sentences->tail; /* a cut character is checked with its rest */
    err = buffer_append(&sentences->text, text, size);
    if (err < 0)
        return err;
    size = sentences->text.size - from;
    tail = utf8_incomplete_tail((const char *)sentences->text.data + from, size);
    valid = utf8_valid_prefix((const char *)sentences->text.data + from, size - tail);
    if (valid < size - tail) {
        sentences->text.size = from + sentences->tail;
        return -EILSEQ;
    }
    sentences->tail = tail;
    return 0;
}

bool sentences_next(struct sentences *sentences, bool flush, struct sentence *out)
{
    struct view view;
    const char *text;
    size_t size;

    size = sentences->text.size - sentences->tail - sentences->start;
    if (!size)
        return false;
    text = (const char *)sentences->text.data + sentences->start;
    sentences->space += space_at(text + sentences->space, size - sentences->space);
    view =
        (struct view){sentences->language, text + sentences->space, size - sentences->space, flush};
    if (view.size) {
        size = find_end(&view, &sentences->scanned);
        if (!size)
            return false;
    } else if (flush || sentences->space > SENTENCES_LONGEST) {
        size = 0; /* white space alone */
    } else {
        return false;
    }
    out->space = text;
    out->space_size = sentences->space;
    out->text = view.text;
    out->size = trimmed(view.text, size);
    sentences->start += sentences->space + out->size;
    sentences->space = 0;
    sentences->scanned = 0;
    return true;
}

bool sentences_cut_inside_character(const struct sentences *sentences)
{
    return sentences->tail > 0;
}
