#include "text/language.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void names_and_codes_are_found(void **state)
{
    static const char *const pairs[][2] = {
        {"en", "en"},
        {"EN", "en"},
        {"eng", "en"},
        {"english", "en"},
        {"English", "en"},
        {"en-US", "en"},
        {"en_GB.UTF-8", "en"},
        {"pt-BR", "pt"},
        {"pt_br", "pt"},
        {"zh-Hant-TW", "zh"},
        {"Chinese", "zh"},
        {"mandarin", "zh"},
        {"ger", "de"},
        {"deu", "de"},
        {"iw", "he"},
        {"yue", "yue"},
        {"haitian creole", "ht"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        assert_non_null(language_code(pairs[i][0]));
        assert_string_equal(language_code(pairs[i][0]), pairs[i][1]);
    }
    assert_string_equal(language_name("pt"), "Portuguese");
}

static void what_is_no_language_is_none(void **state)
{
    static const char *const none[] = {
        "",  "x",        "klingon", "-",
        "e", "en glish", "xx-en",   "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-BR"};

    (void)state;
    for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++)
        assert_null(language_code(none[i]));
    assert_null(language_code(NULL));
}

static void table_is_in_order_without_doubles(void **state)
{
    size_t n = 0;
    const struct language *table = language_table(&n);

    (void)state;
    assert_true(n > 150);
    for (size_t i = 1; i < n; i++)
        assert_true(strcmp(table[i - 1].code, table[i].code) < 0);
    for (size_t i = 0; i < n; i++) {
        assert_ptr_equal(language_find(table[i].code), &table[i]);
        assert_ptr_equal(language_find(table[i].code3), &table[i]);
        assert_ptr_equal(language_find(table[i].name), &table[i]);
    }
}

static void assert_detected(const char *text, const char *const *candidates, const char *want)
{
    const char *code = NULL;
    float confidence = -1;

    language_detect(text, strlen(text), candidates, &code, &confidence);
    assert_string_equal(code, want);
    assert_true(confidence >= 0 && confidence <= 1);
    assert_true((confidence > 0) == (want[0] != '\0'));
}

static void texts_are_told_apart(void **state)
{
    (void)state;
    assert_detected("The weather will be warm and sunny for the rest of the week.", NULL, "en");
    assert_detected("O tempo vai estar quente e ensolarado durante o resto da semana.", NULL, "pt");
    assert_detected("Das Wetter wird den Rest der Woche warm und sonnig sein.", NULL, "de");
    assert_detected("La semaine prochaine, nous irons tous à la plage.", NULL, "fr");
    assert_detected("今日はとても暖かいです。", NULL, "ja");
    assert_detected("Погода будет теплой и солнечной.", NULL, "ru");
    assert_detected("מזג האוויר יהיה חם ושמשי", NULL, "he");
    assert_detected("", NULL, "");
    assert_detected("12345 67890", NULL, "");
}

static void candidates_limit_the_guess(void **state)
{
    const char *const iberian[] = {"pt", "es", NULL}, *const far[] = {"ja", "ru", NULL};
    const char *text = "O tempo vai estar quente e ensolarado durante o resto da semana.";

    (void)state;
    assert_detected(text, iberian, "pt");
    assert_detected(text, far, "");
}

static void broken_text_does_no_harm(void **state)
{
    char bytes[256];
    const char *code = NULL;
    float confidence = 0;

    (void)state;
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (char)i;
    language_detect(bytes, sizeof(bytes), NULL, &code, &confidence);
    assert_non_null(code);
    language_detect("ol\xC3", 3, NULL, &code, &confidence);
    assert_non_null(code);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_and_codes_are_found),
        cmocka_unit_test(what_is_no_language_is_none),
        cmocka_unit_test(table_is_in_order_without_doubles),
        cmocka_unit_test(texts_are_told_apart),
        cmocka_unit_test(candidates_limit_the_guess),
        cmocka_unit_test(broken_text_does_no_harm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
