/* Metadata, selectors and traces. */
#include "base/trace.h"
#include "mesh/meta.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void entries_keep_order_and_bytes(void **state)
{
    struct mesh_metadata *metadata = NULL;
    const void *value;
    size_t size;

    (void)state;
    assert_int_equal(mesh_metadata_count(NULL), 0);
    assert_null(mesh_metadata_get(NULL, "a"));
    assert_int_equal(mesh_metadata_add_text(&metadata, "a", "1"), 0);
    assert_int_equal(mesh_metadata_add(&metadata, "b-bin", "\0\xff\n", 3), 0);
    assert_int_equal(mesh_metadata_add_text(&metadata, "a", "olá\t☺"), 0);
    for (int i = 0; i < 40; i++)
        assert_int_equal(mesh_metadata_add(&metadata, "many", NULL, 0), 0);
    assert_int_equal(mesh_metadata_count(metadata), 43);
    assert_string_equal(mesh_metadata_get(metadata, "a"), "1");
    assert_string_equal(mesh_metadata_at(metadata, 1, &value, &size), "b-bin");
    assert_int_equal(size, 3);
    assert_memory_equal(value, "\0\xff\n", 4); /* and a NUL past it */
    assert_string_equal(mesh_metadata_at(metadata, 2, &value, &size), "a");
    assert_string_equal(value, "olá\t☺");
    assert_null(mesh_metadata_at(metadata, 43, &value, &size));
    mesh_metadata_destroy(&metadata);
    assert_null(metadata);
}

static void bad_entries_are_refused(void **state)
{
    static const char *const keys[] = {
        "",
        "A",
        "a b",
        "ä",
        "a:b",
        "0123456789012345678901234567890123456789012345678901234567890"
        "1234"};
    static const char *const texts[] = {
        "\n", "\x7f", "\x80", "\xc0\x80", "\xed\xa0\x80", "\xe2\x98", "\xf5\x80\x80\x80"};
    struct mesh_metadata *metadata = NULL;
    char large[MESH_METADATA_MAX];

    (void)state;
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        assert_int_equal(mesh_metadata_add_text(&metadata, keys[i], "x"), -EINVAL);
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        assert_int_equal(mesh_metadata_add_text(&metadata, "a", texts[i]), -EINVAL);
        assert_int_equal(mesh_metadata_add(&metadata, "a-bin", texts[i], strlen(texts[i])), 0);
    }
    memset(large, 'x', sizeof(large));
    assert_int_equal(mesh_metadata_add(&metadata, "large", large, sizeof(large)), -EINVAL);
    assert_int_equal(mesh_metadata_add(&metadata, "large", large, sizeof(large) / 2), 0);
    assert_int_equal(mesh_metadata_add(&metadata, "large", large, sizeof(large) / 2), -EINVAL);
    mesh_metadata_destroy(&metadata);
}

static void meta_carries_it(void **state)
{
    struct mesh_metadata *metadata = NULL;
    struct mesh_metadata *back = NULL;
    Dragoman__Mesh__V1__Meta meta = DRAGOMAN__MESH__V1__META__INIT;
    Dragoman__Mesh__V1__MetadataEntry bad = DRAGOMAN__MESH__V1__METADATA_ENTRY__INIT;
    Dragoman__Mesh__V1__MetadataEntry *bads[] = {&bad};

    (void)state;
    mesh_metadata_add_text(&metadata, "a", "1");
    mesh_metadata_add(&metadata, "b-bin", "\0", 1);
    mesh_metadata_lend(metadata, &meta);
    assert_int_equal(mesh_metadata_take(&meta, &back), 0);
    assert_int_equal(mesh_metadata_count(back), 2);
    assert_string_equal(mesh_metadata_get(back, "a"), "1");
    mesh_metadata_destroy(&back);
    mesh_metadata_destroy(&metadata);

    bad.key = (char *)"NOT A KEY";
    meta.n_metadata = 1;
    meta.metadata = bads;
    assert_int_equal(mesh_metadata_take(&meta, &back), -EBADMSG);
    assert_null(back);
}

static void a_packed_list_fits_its_meta(void **state)
{
    struct mesh_metadata *metadata = NULL;
    Dragoman__Mesh__V1__Meta meta = DRAGOMAN__MESH__V1__META__INIT;

    (void)state;
    while (mesh_metadata_add(&metadata, "k", "v", 1) == 0)
        ;
    mesh_metadata_lend(metadata, &meta);
    assert_in_range(dragoman__mesh__v1__meta__get_packed_size(&meta), 1000, MESH_METADATA_MAX);
    mesh_metadata_destroy(&metadata);
}

static void selectors_parse(void **state)
{
    static const char *const bad[] = {"lang", "=en", "lang=", "a=b,", ",", "a=b,c"};
    Dragoman__Mesh__V1__Meta meta = DRAGOMAN__MESH__V1__META__INIT;
    struct mesh_selector *selector = NULL;

    (void)state;
    assert_int_equal(mesh_selector_parse(NULL, &selector), 0);
    assert_null(selector);
    assert_int_equal(mesh_selector_parse("", &selector), 0);
    assert_null(selector);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(mesh_selector_parse(bad[i], &selector), -EINVAL);
    assert_int_equal(mesh_selector_parse("lang=en,model=tiny.en", &selector), 0);
    mesh_selector_lend(selector, &meta);
    assert_int_equal(meta.n_selector, 2);
    assert_string_equal(meta.selector[1]->key, "model");
    assert_string_equal(meta.selector[1]->values[0], "tiny.en");
    mesh_selector_destroy(&selector);
}

static bool match(const char *wanted, const char *offered)
{
    Dragoman__Mesh__V1__Meta want = DRAGOMAN__MESH__V1__META__INIT;
    Dragoman__Mesh__V1__Meta offer = DRAGOMAN__MESH__V1__META__INIT;
    struct mesh_selector *a = NULL;
    struct mesh_selector *b = NULL;
    bool result;

    assert_int_equal(mesh_selector_parse(wanted, &a), 0);
    assert_int_equal(mesh_selector_parse(offered, &b), 0);
    mesh_selector_lend(a, &want);
    mesh_selector_lend(b, &offer);
    result = mesh_labels_match(want.selector, want.n_selector, offer.selector, offer.n_selector);
    mesh_selector_destroy(&a);
    mesh_selector_destroy(&b);
    return result;
}

static void labels_match(void **state)
{
    (void)state;
    assert_true(match("", ""));
    assert_true(match("", "lang=en"));
    assert_true(match("lang=en", "lang=pt,lang=en"));
    assert_true(match("lang=en,model=base", "model=base,lang=en"));
    assert_false(match("lang=en", ""));
    assert_false(match("lang=en", "lang=pt"));
    assert_false(match("lang=en,model=base", "lang=en"));
    assert_false(match("lang=en", "language=en"));
}

static void traces(void **state)
{
    static const char id[] = "0af7651916cd43dd8448eb211c80319c";
    uint8_t one[MESH_TRACEPARENT_BYTES], other[MESH_TRACEPARENT_BYTES];
    struct trace_context context;
    char text[TRACE_PARENT_TEXT];

    (void)state;
    assert_int_equal(mesh_traceparent_make(id, one), 0);
    memcpy(&context, one, sizeof(context));
    trace_id_format(&context, text);
    assert_string_equal(text, id);
    assert_int_equal(mesh_traceparent_make(id, other), 0);
    assert_memory_equal(one, other, 16);
    assert_memory_not_equal(one + 16, other + 16, 8); /* a span of its own */
    assert_int_equal(mesh_traceparent_make(NULL, other), 0);
    assert_memory_not_equal(one, other, 16);
    assert_int_equal(mesh_traceparent_make("0af7", one), -EINVAL);
    assert_int_equal(mesh_traceparent_make("0af7651916cd43dd8448eb211c80319x", one), -EINVAL);
    trace_format(&context, text);
    assert_int_equal(mesh_traceparent_make(text, other), 1); /* a span to be the parent */
    assert_memory_equal(&context, other, sizeof(context));
    trace_set_current(&context);
    assert_int_equal(mesh_traceparent_make(NULL, other), 1); /* and so is the thread's */
    assert_memory_equal(&context, other, sizeof(context));
    assert_int_equal(mesh_traceparent_make(id, other), 1);
    assert_int_equal(mesh_traceparent_make("0af7651916cd43dd8448eb211c80319d", other), 0);
    trace_set_current(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entries_keep_order_and_bytes),
        cmocka_unit_test(bad_entries_are_refused),
        cmocka_unit_test(meta_carries_it),
        cmocka_unit_test(a_packed_list_fits_its_meta),
        cmocka_unit_test(selectors_parse),
        cmocka_unit_test(labels_match),
        cmocka_unit_test(traces),
    };

    return cmocka_run_group_tests_name("metadata", tests, NULL, NULL);
}
