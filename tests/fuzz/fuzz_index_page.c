/* Pages of a package index, HTML and JSON. */
#include "models/index_page.h"
#include "tests/fuzz/replay.h"

#include <stdlib.h>
#include <string.h>

#define SEED(text)                                                                                 \
    {                                                                                              \
        NULL, text, sizeof(text) - 1                                                               \
    }
#define HASH "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

const struct fuzz_seed fuzz_seeds[] = {
    SEED("<html><body><a href=\"../../f/a_b-1.0-py3-none-any.whl?x=1&amp;y=2#sha256=" HASH
         "\" data-requires-python=\"&gt;=3.8\">a_b-1.0-py3-none-any.whl</a><br/>\n"
         "<A class='x' HREF = 'http://h/a_b-1.0.tar.gz'> a_b-1.0.tar.gz </A></body>"),
    SEED(
        "{\"meta\":{\"api-version\":\"1.1\"},\"files\":[{\"filename\":\"a_b-1.0-py3-none-any.whl\","
        "\"url\":\"http://h/x\",\"hashes\":{\"sha256\":\"" HASH "\"},\"size\":7}]}"),
    {NULL, NULL, 0},
};
const unsigned fuzz_rounds = 200000;

static void check(const char *body, size_t size, const char *type)
{
    struct index_page page = {0};
    const struct index_file *wheel;

    if (index_page_parse(body, size, type, &page) < 0)
        return;
    for (size_t i = 0; i < page.count; i++)
        if (!page.files[i].name || !page.files[i].url || strlen(page.files[i].sha256) > 64)
            abort();
    wheel = index_page_wheel(&page, "A.B", "1.0");
    if (wheel && strchr(wheel->name, '/')) /* it becomes the name of a file */
        abort();
    index_page_fini(&page);
}

void fuzz_one(const uint8_t *bytes, size_t size)
{
    char *body = malloc(size + 1);

    if (!body)
        return;
    memcpy(body, bytes, size);
    body[size] = '\0';
    check(body, size, "text/html");
    check(body, size, "application/vnd.pypi.simple.v1+json");
    free(body);
}
