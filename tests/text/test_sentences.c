#include "text/sentences.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct example {
    const char *language;
    const char *text; /* '|' between sentences, which the text does not have */
};

static const struct example examples[] = {
    {"en", "One sentence."},
    {"en", "No full stop"},
    {"en", "Hello there.| How are you?| Fine!"},
    {"en", "Mr. Smith met Dr. Jones at St. Mary's.| They left."},
    {"en", "He earns $3.50 an hour.| Version 2.1.3 is out.| Pi is 3.14159."},
    {"en", "See no. 5 on p. 12.| The answer is no.| He left."},
    {"en", "He lives in the U.S. Army base.| J. R. R. Tolkien wrote it."},
    {"en", "So do I.| You too."},
    {"en", "Use tools, e.g. Hammers, i.e. Things that hit.| Then stop."},
    {"en", "\"Stop!\" he said.| \"Why?\"| She left."},
    {"en", "(Of course.)| [Really.]| 'Yes.'| “Fine.”| Good."},
    {"en", "Wait... what?| Oh…| Right."},
    {"en", "What?!| No way!!!| Yes."},
    {"en", "1. First point.| 2. Second point."},
    {"en", "In 2017.| That was the year."},
    {"en", "Go to www.example.com now.| Mail a.b@c.org."},
    {"en", "First line|\nSecond line|\n\nA paragraph.|\r\nWindows."},
    {"en", "A title|\n- One thing|\n- Another thing."},
    {"en", "She said: \"I know.\"| Then silence."},
    {"en", "The file (see fig. 3) is lost.| (It was small.)| End."},
    {"pt", "O Sr. Silva e a Dra. Costa chegaram às 10.30.| Não vieram mais cedo."},
    {"pt", "Ver pág. 10 e art. 5 da lei.| «Claro.»| Pois."},
    {"es", "¿Qué hora es?| ¡Las tres!| El Sr. López salió."},
    {"fr", "M. Dupont est là.| « Vraiment ? »| Oui."},
    {"de", "Am 3. Oktober fuhr Hr. Müller z.B. Nach Bonn.| Er kam zurück."},
    {"ru", "Это столица, т.е. Москва.| Т.е. Столица.| Да!"},
    {"ja", "今日は。|元気ですか？|「はい。」|そうです"},
    {"zh", "你好！|我叫李明。|3.14是π。"},
    {"hi", "यह एक वाक्य है।| यह दूसरा है।"},
    {"ar", "كيف حالك؟| أنا بخير."},
    {NULL, "Mr. Silva e o Sr. Smith.| Ok."},
    {"xx", "Mr.| Smith."},
};

static void check(const char *language, const char *marked, const struct sentence *got, size_t i)
{
    size_t n = strcspn(marked, "|");
    const char *space = marked + strspn(marked, " \n\r");

    if (got->space_size != (size_t)(space - marked) ||
        memcmp(got->space, marked, got->space_size) || got->size != n - got->space_size ||
        memcmp(got->text, space, got->size))
        fail_msg("%s: sentence %zu is '%.*s', not '%.*s'", language ? language : "any", i,
                 (int)got->size, got->text, (int)(n - (size_t)(space - marked)), space);
}

static char *without_marks(const char *marked)
{
    char *text = strdup(marked), *to = text;

    for (const char *from = marked; *from; from++)
        if (*from != '|')
            *to++ = *from;
    *to = '\0';
    return text;
}

static void examples_split_as_marked(void **state)
{
    (void)state;
    for (size_t e = 0; e < sizeof(examples) / sizeof(examples[0]); e++) {
        const char *marked = examples[e].text;
        char *text = without_marks(marked);
        size_t offset = 0, size = strlen(text), i = 0;
        struct sentence sentence;

        while (sentences_next_of(examples[e].language, text, size, &offset, &sentence)) {
            check(examples[e].language, marked, &sentence, i++);
            marked += strcspn(marked, "|");
            marked += *marked == '|';
        }
        assert_int_equal(*marked, 0);
        free(text);
    }
}

/* However a text is cut, even inside characters, a stream gives what the whole gives. */
static void pieces_of_any_size_split_alike(void **state)
{
    (void)state;
    for (size_t e = 0; e < sizeof(examples) / sizeof(examples[0]); e++)
        for (size_t piece = 1; piece < 12; piece++) {
            const char *marked = examples[e].text;
            char *text = without_marks(marked);
            size_t size = strlen(text), i = 0;
            struct sentences *stream = NULL;
            struct sentence sentence;

            assert_int_equal(sentences_create(examples[e].language, 4096, &stream), 0);
            for (size_t at = 0; at <= size; at += piece) {
                size_t n = size - at < piece ? size - at : piece;

                assert_int_equal(sentences_feed(stream, text + at, n), 0);
                while (sentences_next(stream, at + n == size, &sentence)) {
                    check(examples[e].language, marked, &sentence, i++);
                    marked += strcspn(marked, "|");
                    marked += *marked == '|';
                }
            }
            assert_int_equal(*marked, 0);
            sentences_destroy(&stream);
            free(text);
        }
}

static void sentence_comes_as_soon_as_it_is_sure(void **state)
{
    struct sentences *stream = NULL;
    struct sentence sentence;

    (void)state;
    assert_int_equal(sentences_create("en", 4096, &stream), 0);
    assert_int_equal(sentences_feed(stream, "It is done.", 11), 0);
    assert_false(sentences_next(stream, false, &sentence)); /* "done.org" is possible still */
    assert_int_equal(sentences_feed(stream, " ", 1), 0);
    assert_false(sentences_next(stream, false, &sentence)); /* and a small letter */
    assert_int_equal(sentences_feed(stream, "N", 1), 0);
    assert_true(sentences_next(stream, false, &sentence));
    assert_int_equal(sentence.size, 11);
    assert_int_equal(sentences_feed(stream, "ow\n", 3), 0);
    assert_true(sentences_next(stream, false, &sentence)); /* a line's end is enough */
    assert_memory_equal(sentence.text, "Now", 3);
    sentences_destroy(&stream);
}

static void white_space_is_never_lost(void **state)
{
    const char *text = "  \n A.  B!\t\n\n  C? \u00a0 ";
    size_t size = strlen(text), offset = 0, at = 0;
    struct sentence sentence;

    (void)state;
    while (sentences_next_of("en", text, size, &offset, &sentence)) {
        assert_ptr_equal(sentence.space, text + at);
        assert_ptr_equal(sentence.text, text + at + sentence.space_size);
        at += sentence.space_size + sentence.size;
    }
    assert_int_equal(at, size);
}

static void bad_bytes_are_refused_and_nothing_is_kept_of_them(void **state)
{
    struct sentences *stream = NULL;
    struct sentence sentence;

    (void)state;
    assert_int_equal(sentences_create("en", 64, &stream), 0);
    assert_int_equal(sentences_feed(stream, "ol\xC3", 3), 0);
    assert_true(sentences_cut_inside_character(stream));
    assert_int_equal(sentences_feed(stream, "x", 1), -EILSEQ);
    assert_int_equal(sentences_feed(stream, "\xA1 ", 2), 0);
    assert_int_equal(sentences_feed(stream, "\xFF", 1), -EILSEQ);
    assert_true(sentences_next(stream, true, &sentence));
    assert_int_equal(sentence.size, 4);
    assert_memory_equal(sentence.text, "olá", 4);
    sentences_destroy(&stream);
}

static void waiting_text_is_bounded(void **state)
{
    char text[65];
    struct sentences *stream = NULL;

    (void)state;
    memset(text, 'a', sizeof(text));
    assert_int_equal(sentences_create("en", 64, &stream), 0);
    assert_int_equal(sentences_feed(stream, text, 65), -EMSGSIZE);
    assert_int_equal(sentences_feed(stream, text, 64), 0);
    assert_int_equal(sentences_feed(stream, text, 1), -EMSGSIZE);
    sentences_destroy(&stream);
}

/* Speech without punctuation must not wait for ever. */
static void endless_sentence_is_cut_at_white_space(void **state)
{
    char *text = malloc(SENTENCES_LONGEST * 3);
    size_t offset = 0, size = SENTENCES_LONGEST * 3;
    struct sentence sentence;
    int n = 0;

    (void)state;
    for (size_t i = 0; i < size; i++)
        text[i] = i % 7 == 6 ? ' ' : 'a';
    for (; sentences_next_of("en", text, size, &offset, &sentence); n++) {
        assert_true(sentence.size <= SENTENCES_LONGEST);
        assert_int_equal(sentence.size % 7 == 6 || offset == size, 1);
    }
    assert_true(n >= 3 && n <= 5);
    free(text);
}

/* A megabyte that comes byte by byte, of the worst kinds: it must take no more than linear time. */
static void worst_texts_stay_linear(void **state)
{
    static const char *const fillers[] = {"a", ".", "!\"", " ", ". ", "e.g. ", "。", ".)"};

    (void)state;
    for (size_t f = 0; f < sizeof(fillers) / sizeof(fillers[0]); f++) {
        struct sentences *stream = NULL;
        struct sentence sentence;
        size_t n = strlen(fillers[f]), total = 0, out = 0;

        assert_int_equal(sentences_create("en", 1 << 20, &stream), 0);
        for (; total < 1 << 20; total++) {
            assert_int_equal(sentences_feed(stream, fillers[f] + total % n, 1), 0);
            while (sentences_next(stream, false, &sentence))
                out += sentence.space_size + sentence.size;
        }
        while (sentences_next(stream, true, &sentence))
            out += sentence.space_size + sentence.size;
        assert_in_range(out, total - 3, total); /* the last character may be cut */
        sentences_destroy(&stream);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(examples_split_as_marked),
        cmocka_unit_test(pieces_of_any_size_split_alike),
        cmocka_unit_test(sentence_comes_as_soon_as_it_is_sure),
        cmocka_unit_test(white_space_is_never_lost),
        cmocka_unit_test(bad_bytes_are_refused_and_nothing_is_kept_of_them),
        cmocka_unit_test(waiting_text_is_bounded),
        cmocka_unit_test(endless_sentence_is_cut_at_white_space),
        cmocka_unit_test(worst_texts_stay_linear),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
