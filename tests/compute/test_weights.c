#include "compute/weights/weights.h"
#include "tests/support/golden.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <unistd.h>

static void tensors_are_found_by_name(void **state)
{
    struct weights_tensor tensors[] = {{.name = "a"}, {.name = "ab"}, {.name = "b"}, {.name = "z"}};
    struct weights weights = {.tensors = tensors};

    (void)state;
    assert_null(weights_find(&weights, "a"));
    for (size_t n = 1; n <= 4; n++) {
        weights.n_tensors = n;
        for (size_t i = 0; i < n; i++)
            assert_ptr_equal(weights_find(&weights, tensors[i].name), &tensors[i]);
        assert_null(weights_find(&weights, ""));
        assert_null(weights_find(&weights, "aa"));
        assert_null(weights_find(&weights, "zz"));
    }
}

#define CHECK(kind, element, ...)                                                                  \
    do {                                                                                           \
        element values[] = {__VA_ARGS__};                                                          \
        unsigned char at[sizeof(values) + 1];                                                      \
        struct weights_tensor tensor = {                                                           \
            .type = kind, .count = 3, .data = at + 1, .multiplier = 4};                            \
        float got[3];                                                                              \
                                                                                                   \
        memcpy(at + 1, values, sizeof(values));                                                    \
        weights_to_f32(&tensor, got);                                                              \
        assert_near(got, want, 3, 0);                                                              \
    } while (0)

static void every_type_becomes_f32_even_unaligned(void **state)
{
    static const float want[] = {1, -2, 24};

    (void)state;
    CHECK(WEIGHTS_F32, float, 1, -2, 24);
    CHECK(WEIGHTS_F16, uint16_t, 0x3c00, 0xc000, 0x4e00);
    CHECK(WEIGHTS_BF16, uint16_t, 0x3f80, 0xc000, 0x41c0);
    CHECK(WEIGHTS_S8, int8_t, 4, -8, 96);
    CHECK(WEIGHTS_S16, int16_t, 1, -2, 24);
    CHECK(WEIGHTS_S32, int32_t, 1, -2, 24);
    CHECK(WEIGHTS_S64, int64_t, 1, -2, 24);
}

static void files_are_mapped_whole(void **state)
{
    char path[] = "weights-XXXXXX";
    int fd = mkstemp(path);
    void *map = NULL;
    size_t bytes = 0;

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(weights_map_file(path, &map, &bytes), -EBADMSG); /* empty */
    assert_int_equal(write(fd, "hello", 5), 5);
    close(fd);
    assert_int_equal(weights_map_file(path, &map, &bytes), 0);
    assert_int_equal(bytes, 5);
    assert_memory_equal(map, "hello", 5);
    weights_close(&(struct weights){.map = map, .map_bytes = bytes});
    unlink(path);
    assert_int_equal(weights_map_file(path, &map, &bytes), -ENOENT);
    assert_int_equal(weights_map_file("/", &map, &bytes), -EISDIR);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_are_found_by_name),
        cmocka_unit_test(every_type_becomes_f32_even_unaligned),
        cmocka_unit_test(files_are_mapped_whole),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
