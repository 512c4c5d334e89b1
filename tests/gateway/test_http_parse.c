/* Heads and chunks: what is accepted, and what must not be. */
#include "gateway/http_parse.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void a_request_is_read(void **state)
{
    const char *text =
        "POST /v1/audio/caf%C3%A9?a=1&b=%20 HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
        "X-Thing: \t some value \t\r\nContent-TYPE:text/plain\r\n\r\nhello";
    struct http_head head;
    const char *why;

    (void)state;
    assert_int_equal(http_head_parse(text, strlen(text), &head, &why), strlen(text) - 5);
    assert_string_equal(head.method, "POST");
    assert_string_equal(head.path, "/v1/audio/caf\xc3\xa9");
    assert_string_equal(head.query, "a=1&b=%20");
    assert_int_equal(head.content_length, 5);
    assert_true(head.keep_alive);
    assert_string_equal(http_head_get(&head, "x-thing"), "some value");
    assert_string_equal(http_head_get(&head, "content-type"), "text/plain");
    assert_null(http_head_get(&head, "x-other"));
    http_head_fini(&head);
}

static void every_cut_waits_for_more(void **state)
{
    const char *text = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    struct http_head head;
    const char *why;

    (void)state;
    for (size_t n = 0; n < strlen(text); n++)
        assert_int_equal(http_head_parse(text, n, &head, &why), 0);
    assert_int_equal(http_head_parse(text, strlen(text), &head, &why), strlen(text));
    assert_false(head.keep_alive);
    http_head_fini(&head);
}

static void what_is_refused(void **state)
{
    static const struct {
        const char *text;
        int err;
    } cases[] = {
        {"\r\n\r\n", -EBADMSG},
        {"GET /\r\n\r\n", -EBADMSG},
        {"GET / HTTP/2.0\r\nHost: x\r\n\r\n", -EPROTONOSUPPORT},
        {"GET / HTTP/1.10\r\nHost: x\r\n\r\n", -EBADMSG},
        {"G(T / HTTP/1.1\r\nHost: x\r\n\r\n", -EBADMSG},
        {"GET index.html HTTP/1.1\r\nHost: x\r\n\r\n", -EBADMSG},
        {"GET /%00 HTTP/1.1\r\nHost: x\r\n\r\n", -EBADMSG},
        {"GET /%4 HTTP/1.1\r\nHost: x\r\n\r\n", -EBADMSG},
        {"GET / HTTP/1.1\r\n\r\n", -EBADMSG}, /* no Host */
        {"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", -EBADMSG},
        {"GET / HTTP/1.1\r\nHost : x\r\n\r\n", -EBADMSG},
        {"GET / HTTP/1.1\r\nHost: x\r\n folded: y\r\n\r\n", -EBADMSG},
        {"GET / HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n", -EBADMSG},
        {"GET / HTTP/1.1\r\nHost: x\r\nA: b\nc: d\r\n\r\n", -EBADMSG},
        {"GET / HTTP/1.1\r\nHost: x\r\nA: \x01\r\n\r\n", -EBADMSG},
        /* Two readers must never disagree on where a body ends. */
        {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", -EBADMSG},
        {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n", -EBADMSG},
        {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\n", -EBADMSG},
        {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 5\r\n\r\n", -EBADMSG},
        {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n", -EBADMSG},
        {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
         -EBADMSG},
        {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", -ENOTSUP},
        {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", -ENOTSUP},
    };
    struct http_head head;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *why = NULL;
        ssize_t got = http_head_parse(cases[i].text, strlen(cases[i].text), &head, &why);

        if (got != cases[i].err || !why)
            fail_msg("case %zu: %zd instead of %d for: %s", i, got, cases[i].err, cases[i].text);
    }
}

static void heads_are_bounded(void **state)
{
    char *text = malloc(HTTP_HEAD_MAX + 64);
    struct http_head head;
    const char *why;
    size_t n;

    (void)state;
    memset(text, 'a', HTTP_HEAD_MAX + 64);
    memcpy(text, "GET /", 5);
    assert_int_equal(http_head_parse(text, HTTP_HEAD_MAX - 1, &head, &why), 0);
    assert_int_equal(http_head_parse(text, HTTP_HEAD_MAX, &head, &why), -EMSGSIZE);

    n = (size_t)sprintf(text, "GET / HTTP/1.1\r\nHost: x\r\n");
    for (int i = 0; i < HTTP_HEADERS_MAX; i++)
        n += (size_t)sprintf(text + n, "A%d: b\r\n", i);
    n += (size_t)sprintf(text + n, "\r\n");
    assert_int_equal(http_head_parse(text, n, &head, &why), -EMSGSIZE);
    free(text);
}

static void proxies_send_whole_urls(void **state)
{
    struct http_head head;
    const char *why;
    const char *with_path = "GET http://host:8080/a/b?c HTTP/1.1\r\nHost: host\r\n\r\n";
    const char *bare = "GET http://host HTTP/1.0\r\n\r\n";

    (void)state;
    assert_true(http_head_parse(with_path, strlen(with_path), &head, &why) > 0);
    assert_string_equal(head.path, "/a/b");
    http_head_fini(&head);
    assert_true(http_head_parse(bare, strlen(bare), &head, &why) > 0);
    assert_string_equal(head.path, "/");
    assert_string_equal(head.method, "GET");
    assert_false(head.keep_alive);
    http_head_fini(&head);
}

/* Feed `text` in pieces of `piece`; the body goes to `out`. @return what the last call returned */
static int unchunk(const char *text, size_t size, size_t piece, char *out, size_t *used)
{
    struct http_chunks chunks = {0};
    size_t at = 0, have = 0;
    int result = 0;

    while (at < size && result == 0) {
        size_t n = size - at < piece ? size - at : piece, consumed = 0, n_body = 0;
        const uint8_t *body = NULL;

        result =
            http_chunks_next(&chunks, (const uint8_t *)text + at, n, &consumed, &body, &n_body);
        if (result < 0)
            break;
        memcpy(out + have, body ? (const char *)body : "", n_body);
        have += n_body;
        at += consumed;
    }
    out[have] = '\0';
    *used = at;
    return result;
}

static void chunks_join_however_they_are_cut(void **state)
{
    const char *text = "4\r\nWiki\r\n6;name=value\r\npedia \r\nE\r\nin \r\n\r\nchunks.\r\n"
                       "0\r\nTrailer: x\r\n\r\nGET /next";
    char out[64];
    size_t used;

    (void)state;
    for (size_t piece = 1; piece < strlen(text); piece++) {
        assert_int_equal(unchunk(text, strlen(text), piece, out, &used), 1);
        assert_string_equal(out, "Wikipedia in \r\n\r\nchunks.");
        assert_string_equal(text + used, "GET /next");
    }
}

static void bad_chunks_are_refused(void **state)
{
    static const char *const cases[] = {"x\r\n",
                                        "\r\n",
                                        "-1\r\n",
                                        "5\nhello",
                                        "5\r\nhelloX\r\n",
                                        "fffffffffffffffff\r\n",
                                        "5 \n",
                                        "5\r\nhello\n0\r\n\r\n"};
    char out[64];
    size_t used;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (unchunk(cases[i], strlen(cases[i]), 3, out, &used) != -EBADMSG)
            fail_msg("taken: %s", cases[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_is_read),
        cmocka_unit_test(every_cut_waits_for_more),
        cmocka_unit_test(what_is_refused),
        cmocka_unit_test(heads_are_bounded),
        cmocka_unit_test(proxies_send_whole_urls),
        cmocka_unit_test(chunks_join_however_they_are_cut),
        cmocka_unit_test(bad_chunks_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
