/* Forms as curl, browsers and Python send them; and as nobody should. */
#include "gateway/form.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char error[FORM_ERROR_MAX];

static int parse(struct form *form, const char *type, const char *body)
{
    return form_add_multipart(form, type, (const uint8_t *)body, strlen(body), error);
}

static void a_form_with_a_file(void **state)
{
    const char *body =
        "preamble\r\n--b1\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n"
        "whisper-1\r\n--b1\r\n"
        "Content-Disposition: form-data; name=\"timestamp_granularities[]\"\r\n\r\n"
        "word\r\n--b1\r\nContent-Type: audio/wav\r\n"
        "content-disposition: form-data; name=\"file\"; filename=\"a \\\"b\\\".wav\"\r\n\r\n"
        "RI\r\n--b\r\nFF\r\n--b1--\r\nepilogue";
    struct form form = {0};
    const struct form_field *file;

    (void)state;
    assert_int_equal(parse(&form, "multipart/form-data; boundary=b1", body), 0);
    assert_int_equal(form.n, 3);
    assert_string_equal(form_text(&form, "model"), "whisper-1");
    assert_string_equal(form_text(&form, "timestamp_granularities"), "word");
    file = form_find(&form, "file");
    assert_non_null(file);
    assert_string_equal(file->filename, "a \"b\".wav");
    assert_string_equal(file->content_type, "audio/wav");
    assert_int_equal(file->size, 11);
    assert_memory_equal(file->data, "RI\r\n--b\r\nFF", 11);
    assert_null(form_text(&form, "file"));
    assert_null(form_find(&form, "nothing"));
    form_fini(&form);
}

static void empty_parts(void **state)
{
    const char *body = "--b\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n--b\r\n"
                       "Content-Disposition: form-data; name=\"f\"; filename=\"\"\r\n\r\n\r\n--b--";
    struct form form = {0};

    (void)state;
    assert_int_equal(parse(&form, "multipart/form-data; boundary=\"b\"", body), 0);
    assert_int_equal(form.n, 2);
    assert_int_equal(form.fields[0].size, 0);
    assert_null(form_text(&form, "a"));
    assert_int_equal(form_find(&form, "f")->size, 0);
    form_fini(&form);
}

static void broken_forms_are_refused(void **state)
{
    static const struct {
        const char *type, *body;
    } cases[] = {
        {"multipart/form-data", "--b\r\n\r\n"},
        {"multipart/form-data; boundary=", "--b\r\n"},
        {"multipart/form-data; boundary=b", ""},
        {"multipart/form-data; boundary=b", "no boundary at all"},
        {"multipart/form-data; boundary=b",
         "--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\ncut"},
        {"multipart/form-data; boundary=b", "--b\r\nContent-Disposition: form-data; name=\"a\""},
        {"multipart/form-data; boundary=b", "--b\r\nContent-Type: text/plain\r\n\r\nx\r\n--b--"},
        {"multipart/form-data; boundary=b", "--bx\r\n\r\nx\r\n--b--"},
        {"multipart/form-data; boundary=b",
         "--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n\xff\xfe\r\n--b--"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct form form = {0};

        error[0] = '\0';
        if (parse(&form, cases[i].type, cases[i].body) != -EBADMSG || !error[0])
            fail_msg("case %zu was taken", i);
        form_fini(&form);
    }
}

static void a_boundary_has_at_most_70_characters(void **state)
{
    char type[256], body[400], mark[80];
    struct form form = {0};

    (void)state;
    memset(mark, 'm', 70);
    mark[70] = '\0';
    snprintf(type, sizeof(type), "multipart/form-data; boundary=%s", mark);
    snprintf(body, sizeof(body),
             "--%s\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n--%s--", mark, mark);
    assert_int_equal(parse(&form, type, body), 0);
    form_fini(&form);
    strcat(type, "m");
    assert_int_equal(parse(&form, type, body), -EBADMSG);
    form_fini(&form);
}

static void fields_are_bounded(void **state)
{
    char body[FORM_FIELDS_MAX * 64 + 256] = "";
    struct form form = {0};

    (void)state;
    for (int i = 0; i <= FORM_FIELDS_MAX; i++)
        strcat(body, "--b\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n");
    strcat(body, "--b--");
    assert_int_equal(parse(&form, "multipart/form-data; boundary=b", body), -EMSGSIZE);
    assert_int_equal(form.n, FORM_FIELDS_MAX);
    form_fini(&form);
}

static void queries(void **state)
{
    const char *query = "text=A%20b+c&text=ol%C3%A1&empty=&flag&&target_lang=pt";
    struct form form = {0};

    (void)state;
    assert_int_equal(form_add_query(&form, query, strlen(query), error), 0);
    assert_int_equal(form.n, 5);
    assert_string_equal(form_text(&form, "text"), "A b c");
    assert_string_equal(form.fields[1].text, "ol\xc3\xa1");
    assert_null(form_text(&form, "empty"));
    assert_non_null(form_find(&form, "flag"));
    assert_string_equal(form_text(&form, "target_lang"), "pt");
    form_fini(&form);

    assert_int_equal(form_add_query(&form, "a=%zz", 5, error), -EBADMSG);
    assert_int_equal(form_add_query(&form, "a=%ff", 5, error), -EBADMSG); /* not UTF-8 */
    assert_int_equal(form_add_query(&form, "a=%00", 5, error), -EBADMSG);
    form_fini(&form);
}

static void parameters_of_headers(void **state)
{
    char value[16];

    (void)state;
    assert_true(form_parameter("audio/l16; rate=16000; Channels=\"2\"", "channels", value, 16));
    assert_string_equal(value, "2");
    assert_true(form_parameter("audio/l16;rate=16000;channels=2", "rate", value, 16));
    assert_string_equal(value, "16000");
    assert_false(form_parameter("audio/l16; rates=1", "rate", value, 16));
    assert_false(form_parameter("rate=1", "rate", value, 16)); /* not a parameter */
    assert_false(form_parameter("a; rate=1234567890123456", "rate", value, 16));
    assert_false(form_parameter("a; rate", "rate", value, 16));
    assert_true(form_parameter("a; x=\"un;rate=7 closed", "x", value, 16) ||
                !form_parameter("a; x=\"un;rate=7 closed", "rate", value, 16));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_form_with_a_file),
        cmocka_unit_test(empty_parts),
        cmocka_unit_test(broken_forms_are_refused),
        cmocka_unit_test(a_boundary_has_at_most_70_characters),
        cmocka_unit_test(fields_are_bounded),
        cmocka_unit_test(queries),
        cmocka_unit_test(parameters_of_headers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
