#include "tests/fuzz/replay.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define MOST_SEEDS 64
#define MOST_GROWTH 64

struct input {
    uint8_t *bytes;
    size_t size;
};

static uint64_t state = 88172645463325252u;

static size_t random_below(size_t n)
{
    state ^= state << 13; /* xorshift64: the same on every machine */
    state ^= state >> 7;
    state ^= state << 17;
    return n ? (size_t)(state % n) : 0;
}

static struct input input_of(const void *bytes, size_t size)
{
    struct input input = {malloc(size ? size : 1), size};

    if (!input.bytes)
        abort();
    if (size)
        memcpy(input.bytes, bytes, size);
    return input;
}

static struct input read_input(const char *path)
{
    FILE *file = fopen(path, "rb");
    struct input input = {NULL, 0};
    struct stat st;

    if (!file || fstat(fileno(file), &st) < 0) {
        fprintf(stderr, "cannot open '%s'\n", path);
        exit(1);
    }
    input.size = (size_t)st.st_size;
    input.bytes = malloc(input.size ? input.size : 1);
    if (!input.bytes || fread(input.bytes, 1, input.size, file) != input.size) {
        fprintf(stderr, "cannot read '%s'\n", path);
        exit(1);
    }
    fclose(file);
    return input;
}

static void run(struct input input)
{
    fuzz_one(input.bytes, input.size);
    free(input.bytes);
}

/* A number that sizes and offsets go wrong at. */
static uint64_t odd_number(void)
{
    static const uint64_t numbers[] = {0,
                                       1,
                                       0x7F,
                                       0x80,
                                       0xFF,
                                       0x7FFF,
                                       0xFFFF,
                                       0x7FFFFFFF,
                                       0x80000000,
                                       0xFFFFFFFF,
                                       UINT64_MAX,
                                       UINT64_MAX / 2,
                                       UINT64_MAX / 4,
                                       UINT64_MAX / 8 + 1};

    return numbers[random_below(sizeof(numbers) / sizeof(numbers[0]))];
}

/* Change something: mostly near the start, where headers are. */
static void change(struct input *input)
{
    size_t near = random_below(2) ? 256 : input->size;
    size_t at = random_below(near < input->size ? near : input->size);
    size_t left = input->size - at;
    uint64_t number = odd_number();
    size_t width = (size_t)1 << random_below(4);

    switch (random_below(5)) {
    case 0:
        input->bytes[at] ^= (uint8_t)(1u << random_below(8));
        break;
    case 1:
        input->bytes[at] = (uint8_t)random_below(256);
        break;
    case 2:
        memcpy(input->bytes + at, &number, width < left ? width : left);
        break;
    case 3: /* move a stretch over another */
        width = random_below(left < 64 ? left : 64);
        memmove(input->bytes + at, input->bytes + random_below(input->size - width), width);
        break;
    default:
        input->bytes[at] = (uint8_t) "\0\xFF .\n\xC3\xE2\xF0\x80"[random_below(9)];
        break;
    }
}

static struct input mutated(const struct input *seed)
{
    struct input input;
    size_t size = seed->size, kind = random_below(8);

    if (kind == 0)
        size = random_below(size + 1); /* cut */
    else if (kind == 1)
        size += random_below(MOST_GROWTH);
    input.size = size;
    input.bytes = calloc(1, size ? size : 1);
    if (!input.bytes)
        abort();
    memcpy(input.bytes, seed->bytes, size < seed->size ? size : seed->size);
    for (size_t i = random_below(6) + (kind > 1); i > 0 && size; i--)
        change(&input);
    return input;
}

int main(int argc, char **argv)
{
    struct input seeds[MOST_SEEDS];
    size_t n = 0;

    for (int i = 1; i < argc; i++)
        run(read_input(argv[i]));
    if (argc > 1)
        return 0;
    for (; n < MOST_SEEDS && (fuzz_seeds[n].path || fuzz_seeds[n].text); n++) {
        const struct fuzz_seed *seed = &fuzz_seeds[n];

        seeds[n] = seed->path ? read_input(seed->path) : input_of(seed->text, seed->size);
        run(input_of(seeds[n].bytes, seeds[n].size));
    }
    for (unsigned round = 0; round < fuzz_rounds; round++)
        run(mutated(&seeds[random_below(n)]));
    for (size_t i = 0; i < n; i++)
        free(seeds[i].bytes);
    return 0;
}
