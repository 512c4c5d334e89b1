/* UTF-8 and sentences: every piece of input ends up in some sentence, whole or in a stream. */
#include "tests/fuzz/replay.h"
#include "text/language.h"
#include "text/sentences.h"
#include "text/utf8.h"

#include <stdlib.h>

#define SEED(text)                                                                                 \
    {                                                                                              \
        NULL, text, sizeof(text) - 1                                                               \
    }

const struct fuzz_seed fuzz_seeds[] = {
    SEED("Mr. Smith met Dr. Jones. \"Stop!\" he said. See no. 5 (p. 12)... Then?! Yes.\n\nNew."),
    SEED("O Sr. Silva chegou \xC3\xA0s 10.30. \xC2\xABOl\xC3\xA1!\xC2\xBB E saiu. Vraiment ? "
         "\xC2\xBB Oui."),
    SEED("\xE4\xBB\x8A\xE6\x97\xA5\xE3\x81\xAF\xE3\x80\x82\xE3\x80\x8C\xE3\x81\xAF\xE3\x81\x84\xE3"
         "\x80\x82\xE3\x80\x8D\xF0\x9F\x98\x80 1. a"),
    SEED("\xFF\xFE\xED\xA0\x80\xF4\x90\x80\x80\xC0\xAF .!?\"')]}"),
    SEED("................................................................................"),
    {NULL, NULL, 0},
};
const unsigned fuzz_rounds = 200000;

static void need(bool so)
{
    if (!so)
        abort();
}

static void decode_all(const char *text, size_t size)
{
    size_t valid = utf8_valid_prefix(text, size), at = 0, n;
    uint32_t c = 0;

    while ((n = utf8_decode(text + at, size - at, &c)) > 0) {
        need(c <= 0x10FFFF && n <= size - at);
        if (at >= valid && at == valid)
            need(c == UTF8_REPLACEMENT);
        at += n;
    }
    need(at == size);
    need(utf8_incomplete_tail(text, size) <= 3);
}

static void split_whole(const char *language, const char *text, size_t size)
{
    size_t offset = 0, seen = 0;
    struct sentence sentence;

    while (sentences_next_of(language, text, size, &offset, &sentence)) {
        need(sentence.space == text + seen &&
             sentence.text == sentence.space + sentence.space_size);
        need(sentence.space_size + sentence.size > 0);
        seen += sentence.space_size + sentence.size;
    }
    need(seen == size && offset == size);
}

static void split_stream(const char *text, size_t size, size_t piece)
{
    struct sentences *stream = NULL;
    struct sentence sentence;
    size_t fed = 0, out = 0;

    need(sentences_create("en", 1 << 20, &stream) == 0);
    for (size_t at = 0; at < size; at += piece) {
        size_t n = size - at < piece ? size - at : piece;

        if (sentences_feed(stream, text + at, n) == 0)
            fed += n;
        while (sentences_next(stream, at % 7 == 3, &sentence))
            out += sentence.space_size + sentence.size;
    }
    while (sentences_next(stream, true, &sentence))
        out += sentence.space_size + sentence.size;
    need(out <= fed && fed - out <= 3);
    sentences_destroy(&stream);
}

void fuzz_one(const uint8_t *bytes, size_t size)
{
    const char *text = (const char *)bytes, *code = NULL;
    size_t valid = utf8_valid_prefix(text, size);
    float confidence = 0;

    decode_all(text, size);
    split_whole("en", text, valid);
    split_whole(NULL, text, valid);
    split_stream(text, size, 1 + size % 5);
    if (size % 16 == 0)
        language_detect(text, size, NULL, &code, &confidence);
}
