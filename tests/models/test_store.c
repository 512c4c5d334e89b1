#include "models/digest.h"
#include "models/store.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/dragoman-test-XXXXXX";

static struct catalogue_file files[] = {
    {.name = "abc",
     .size = 3,
     .sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
    {.name = "empty.txt",
     .size = 1,
     .sha256 = "01ba4719c80b6fe911b091a7c05124b64eeece964e09c058ef8f9805daca546b"}, /* "\n" */
};
static struct catalogue_model model = {.name = "m", .files = files, .n_files = 2, .size = 4};

static void put(const char *name, const char *text)
{
    char path[256];
    FILE *file;

    snprintf(path, sizeof(path), "%s/m", folder);
    assert_int_equal(store_make_folders(path), 0);
    snprintf(path, sizeof(path), "%s/m/%s", folder, name);
    file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void a_model_is_absent_partial_or_present(void **state)
{
    struct failure failure = {""};

    (void)state;
    assert_int_equal(store_state(folder, &model), STORE_ABSENT);
    assert_int_equal(store_verify(folder, &model, &failure), -ENOENT);
    put("abc", "abc");
    assert_int_equal(store_state(folder, &model), STORE_PARTIAL);
    put("empty.txt", "\n");
    assert_int_equal(store_state(folder, &model), STORE_PRESENT);
    assert_int_equal(store_verify(folder, &model, &failure), 0);
}

static void damage_is_found_and_named(void **state)
{
    struct failure failure = {""};

    (void)state;
    put("abc", "abd");
    assert_int_equal(store_state(folder, &model), STORE_PRESENT); /* sizes tell nothing */
    assert_int_equal(store_verify(folder, &model, &failure), -EBADMSG);
    assert_non_null(strstr(failure.text, "'abc' is damaged"));
    put("abc", "abcd");
    assert_int_equal(store_verify(folder, &model, &failure), -EBADMSG);
    assert_non_null(strstr(failure.text, "'abc' has 4 bytes, not 3"));
}

static void a_removed_model_is_gone_with_all_in_it(void **state)
{
    struct failure failure = {""};

    (void)state;
    put("mine", "too");
    assert_int_equal(store_remove(folder, &model, &failure), 0);
    assert_int_equal(store_state(folder, &model), STORE_ABSENT);
    assert_int_equal(store_remove(folder, &model, &failure), -ENOENT);
}

static void an_unwritable_folder_is_refused_with_the_remedy(void **state)
{
    struct failure failure = {""};
    int fd = -1;

    (void)state;
    assert_int_equal(store_lock("/proc/nothing/models", NULL, NULL, &fd, &failure), -ENOENT);
    assert_non_null(strstr(failure.text, "--models DIR"));
    assert_int_equal(fd, -1);
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int delete_folder(void **state)
{
    (void)state;
    return store_delete_tree(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_model_is_absent_partial_or_present),
        cmocka_unit_test(damage_is_found_and_named),
        cmocka_unit_test(a_removed_model_is_gone_with_all_in_it),
        cmocka_unit_test(an_unwritable_folder_is_refused_with_the_remedy),
    };
    return cmocka_run_group_tests(tests, make_folder, delete_folder);
}
