#include "base/model_folder.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void the_default_folder_follows_the_environment(void **state)
{
    char path[64], *home = strdup(getenv("HOME"));

    (void)state;
    setenv("HOME", "/h", 1);
    setenv("XDG_DATA_HOME", "/data", 1);
    assert_int_equal(model_folder_default(path, sizeof(path)), 0);
    assert_string_equal(path, "/data/dragoman/models");
    setenv("XDG_DATA_HOME", "relative", 1);
    assert_int_equal(model_folder_default(path, sizeof(path)), 0);
    assert_string_equal(path, "/h/.local/share/dragoman/models");
    unsetenv("XDG_DATA_HOME");
    assert_int_equal(model_folder_default(path, 10), -ENAMETOOLONG);
    unsetenv("HOME");
    assert_int_equal(model_folder_default(path, sizeof(path)), -ENOENT);
    setenv("HOME", home, 1);
    free(home);
}

static void a_model_is_a_path_or_a_name(void **state)
{
    char path[64];

    (void)state;
    assert_int_equal(model_folder_find("/m", "./whisper", path, sizeof(path)), 0);
    assert_string_equal(path, "./whisper");
    assert_int_equal(model_folder_find("/m", "no-such-folder", path, sizeof(path)), 0);
    assert_string_equal(path, "/m/no-such-folder");
    setenv("XDG_DATA_HOME", "/data", 1);
    assert_int_equal(model_folder_find("", "no-such-folder", path, sizeof(path)), 0);
    assert_string_equal(path, "/data/dragoman/models/no-such-folder");
    assert_int_equal(model_folder_find("", "no-such-folder", path, 30), -ENAMETOOLONG);
    assert_int_equal(model_folder_find("/m", "no-such-folder", path, 5), -ENAMETOOLONG);
    unsetenv("XDG_DATA_HOME");
}

static void its_name_is_the_last_part(void **state)
{
    char name[16];

    (void)state;
    model_folder_name("/models/whisper-tiny.en/", name, sizeof(name));
    assert_string_equal(name, "whisper-tiny.en");
    model_folder_name("whisper", name, sizeof(name));
    assert_string_equal(name, "whisper");
    model_folder_name("a/whisper", name, 4);
    assert_string_equal(name, "whi");
}

static void a_service_opens_what_is_there(void **state)
{
    char path[64], name[MODEL_NAME_BYTES];

    (void)state;
    assert_int_equal(model_folder_open("/", "usr", NULL, "name one", path, sizeof(path), name), 0);
    assert_string_equal(path, "//usr");
    assert_string_equal(name, "usr");
    assert_int_equal(model_folder_open("/", "/usr/", "mine", "name one", path, sizeof(path), name),
                     0);
    assert_string_equal(name, "mine");
    assert_int_equal(model_folder_open("/", "none", NULL, "name one", path, sizeof(path), name),
                     -ENOENT);
    assert_int_equal(model_folder_open("/", "", NULL, "name one", path, sizeof(path), name),
                     -EINVAL);
    assert_int_equal(model_folder_open("/", NULL, NULL, "name one", path, sizeof(path), name),
                     -EINVAL);
    assert_int_equal(model_folder_open("/", "none", NULL, "name one", path, 3, name),
                     -ENAMETOOLONG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_default_folder_follows_the_environment),
        cmocka_unit_test(a_model_is_a_path_or_a_name),
        cmocka_unit_test(its_name_is_the_last_part),
        cmocka_unit_test(a_service_opens_what_is_there),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
