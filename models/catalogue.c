#include "models/catalogue.h"

#include "models/digest.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CATALOGUE_BYTES_MAX (8u << 20) /* of a catalogue given as a file */

/* catalogue.json, put into the binary by CMakeLists.txt. */
extern const char catalogue_builtin[];
extern const size_t catalogue_builtin_size;

struct catalogue {
    json_t *root; /* every string of the models points in here */
    struct catalogue_model *models;
    size_t n_models;
};

/* What is being read, for messages. */
struct reading {
    const char *called;
    const char *model;
    struct failure *failure;
};

static const char *const kind_names[] = {"asr", "translate", "tts", "samples"};
static const char *const source_names[] = {"hub", "package", "folder"};

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

const char *catalogue_kind_name(enum catalogue_kind kind)
{
    return kind_names[kind];
}

static int bad(const struct reading *at, const char *key, const char *rule)
{
    return failure_set(at->failure, -EBADMSG, "catalogue '%s', model '%s': \"%s\" %s", at->called,
                       at->model ? at->model : "?", key, rule);
}

static int get_text(const struct reading *at, json_t *object, const char *key, const char **out)
{
    const char *text = json_string_value(json_object_get(object, key));

    if (!text)
        return bad(at, key, "must be a text");
    *out = text;
    return 0;
}

static int index_of(const char *const *names, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(names[i], name) == 0)
            return (int)i;
    return -1;
}

/* A name that is safe as a file's, and never hidden: what a model's or a file's must be. */
static bool is_plain_name(const char *name)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                  "._+@=-";
    size_t length = strlen(name);

    return length > 0 && length <= 128 && name[0] != '.' && name[0] != '-' &&
           strspn(name, allowed) == length;
}

static bool is_sha256(const char *text)
{
    return strlen(text) == DIGEST_HEX && strspn(text, "0123456789abcdef") == DIGEST_HEX;
}

static int read_file(const struct reading *at, json_t *object, struct catalogue_file *file)
{
    json_int_t size = json_integer_value(json_object_get(object, "size"));
    json_t *text = json_object_get(object, "text");
    int err;

    err = get_text(at, object, "name", &file->name);
    if (!err)
        err = get_text(at, object, "sha256", &file->sha256);
    if (err)
        return err;
    if (!is_plain_name(file->name))
        return bad(at, "name", "of a file may hold letters, digits and . _ + @ = - only");
    if (!is_sha256(file->sha256))
        return bad(at, "sha256", "must be 64 hexadecimal digits in lower case");
    if (size <= 0)
        return bad(at, "size", "must be a number of bytes above 0");
    file->size = (uint64_t)size;
    if (text) {
        file->text = json_string_value(text);
        if (!file->text || strlen(file->text) != file->size)
            return bad(at, "text", "must be a text of \"size\" bytes");
    }
    return 0;
}

static int read_files(const struct reading *at, json_t *object, struct catalogue_model *model)
{
    json_t *files = json_object_get(object, "files");
    size_t n = json_array_size(files);
    int err = 0;

    if (n == 0)
        return bad(at, "files", "must be a list with at least one file");
    model->files = calloc(n, sizeof(*model->files));
    if (!model->files)
        return -ENOMEM;
    for (size_t i = 0; i < n && !err; i++) {
        err = read_file(at, json_array_get(files, i), &model->files[i]);
        for (size_t j = 0; j < i && !err; j++)
            if (strcmp(model->files[i].name, model->files[j].name) == 0)
                err = bad(at, "files", "names a file twice");
        model->size += model->files[i].size;
        model->n_files++;
    }
    return err;
}

/* "name==version"; a package of the system has no version. */
static int read_packages(const struct reading *at, json_t *object, struct catalogue_source *source)
{
    json_t *packages = json_object_get(object, "packages");
    size_t n = json_array_size(packages);

    if (n > CATALOGUE_PARTS_MAX || (n == 0 && source->kind == CATALOGUE_PACKAGE))
        return bad(at, "packages", "must list 1 to 8 packages");
    for (size_t i = 0; i < n; i++) {
        json_t *entry = json_array_get(packages, i);
        const char *text = json_string_value(json_is_object(entry) ? NULL : entry);
        const char *equals = text ? strstr(text, "==") : NULL;
        json_t *name;

        if (!text || (!equals && source->kind == CATALOGUE_PACKAGE))
            return bad(at, "packages", "must be texts like \"name==1.0\"");
        name = json_stringn(text, equals ? (size_t)(equals - text) : strlen(text));
        if (!name || json_array_append_new(json_object_get(object, "_names"), name) < 0)
            return -ENOMEM;
        source->packages[i].name = json_string_value(name);
        source->packages[i].version = equals ? equals + 2 : NULL;
    }
    source->n_packages = n;
    return 0;
}

/* Where each file is: as "parts" says, else under its own name. */
static int read_parts(const struct reading *at, json_t *object, const struct catalogue_model *model,
                      struct catalogue_source *source)
{
    json_t *all = json_object_get(object, "parts");

    source->parts = calloc(model->n_files, sizeof(*source->parts));
    if (!source->parts)
        return -ENOMEM;
    for (size_t f = 0; f < model->n_files; f++) {
        struct catalogue_parts *parts = &source->parts[f];
        json_t *list = json_object_get(all, model->files[f].name);

        parts->items[0] = model->files[f].name;
        parts->count = list ? json_array_size(list) : 1;
        if (parts->count == 0 || parts->count > CATALOGUE_PARTS_MAX)
            return bad(at, "parts", "must list 1 to 8 places for each file");
        for (size_t i = 0; list && i < parts->count; i++) {
            parts->items[i] = json_string_value(json_array_get(list, i));
            if (!parts->items[i])
                return bad(at, "parts", "must be lists of texts");
        }
    }
    return 0;
}

static int read_source(const struct reading *at, json_t *object,
                       const struct catalogue_model *model, struct catalogue_source *source)
{
    const char *kind = NULL;
    int err, i;

    err = get_text(at, object, "kind", &kind);
    if (!err)
        err = get_text(at, object, "base", &source->base);
    if (err)
        return err;
    i = index_of(source_names, LENGTH(source_names), kind);
    if (i < 0)
        return bad(at, "kind", "of a source must be hub, package or folder");
    source->kind = (enum catalogue_source_kind)i;
    if (json_object_set_new(object, "_names", json_array()) < 0)
        return -ENOMEM;
    err = read_packages(at, object, source);
    return err ? err : read_parts(at, object, model, source);
}

static int read_sources(const struct reading *at, json_t *object, struct catalogue_model *model)
{
    json_t *sources = json_object_get(object, "sources");
    size_t n = json_array_size(sources);
    int err = 0;

    if (n == 0)
        return bad(at, "sources", "must be a list with at least one source");
    model->sources = calloc(n, sizeof(*model->sources));
    if (!model->sources)
        return -ENOMEM;
    for (size_t i = 0; i < n && !err; i++) {
        model->n_sources++;
        err = read_source(at, json_array_get(sources, i), model, &model->sources[i]);
    }
    return err;
}

static int read_model(struct reading *at, json_t *object, struct catalogue_model *model)
{
    const char *kind = NULL;
    int err, i;

    err = get_text(at, object, "name", &model->name);
    if (err)
        return err;
    at->model = model->name;
    if (!is_plain_name(model->name))
        return bad(at, "name", "may hold letters, digits and . _ + @ = - only");
    err = get_text(at, object, "kind", &kind);
    if (!err)
        err = get_text(at, object, "summary", &model->summary);
    if (!err)
        err = get_text(at, object, "languages", &model->languages);
    if (!err)
        err = get_text(at, object, "licence", &model->licence);
    if (err)
        return err;
    i = index_of(kind_names, LENGTH(kind_names), kind);
    if (i < 0)
        return bad(at, "kind", "must be asr, translate, tts or samples");
    model->kind = (enum catalogue_kind)i;
    model->engine = json_string_value(json_object_get(object, "engine"));
    if (!model->engine && model->kind != CATALOGUE_SAMPLES)
        return bad(at, "engine", "must be a text");
    model->licence_note = json_string_value(json_object_get(object, "licence_note"));
    model->is_default = json_is_true(json_object_get(object, "default"));
    err = read_files(at, object, model);
    return err ? err : read_sources(at, object, model);
}

static int read_models(struct catalogue *catalogue, struct reading *at)
{
    json_t *models = json_object_get(catalogue->root, "models");
    size_t n = json_array_size(models);
    int err = 0;

    if (!json_is_array(models))
        return failure_set(at->failure, -EBADMSG, "catalogue '%s': no list called \"models\"",
                           at->called);
    catalogue->models = calloc(n ? n : 1, sizeof(*catalogue->models));
    if (!catalogue->models)
        return -ENOMEM;
    for (size_t i = 0; i < n && !err; i++) {
        at->model = NULL;
        err = read_model(at, json_array_get(models, i), &catalogue->models[i]);
        if (!err && catalogue_find(catalogue, catalogue->models[i].name))
            err = bad(at, "name", "is there twice");
        catalogue->n_models++;
    }
    return err;
}

int catalogue_parse(const char *json, size_t size, const char *called, struct catalogue **out,
                    struct failure *failure)
{
    struct reading at = {.called = called, .failure = failure};
    struct catalogue *catalogue = calloc(1, sizeof(*catalogue));
    json_error_t where;
    int err = 0;

    if (!catalogue)
        return failure_set(failure, -ENOMEM, "cannot read catalogue '%s': out of memory", called);
    catalogue->root = json_loadb(json, size, 0, &where);
    if (!catalogue->root)
        err = failure_set(failure, -EBADMSG, "catalogue '%s', line %d: %s", called, where.line,
                          where.text);
    if (!err)
        err = read_models(catalogue, &at);
    if (err == -ENOMEM)
        failure_set(failure, err, "cannot read catalogue '%s': out of memory", called);
    if (!err) {
        *out = catalogue;
        catalogue = NULL;
    }
    catalogue_destroy(&catalogue);
    return err;
}

static int load_file(const char *path, struct catalogue **out, struct failure *failure)
{
    FILE *file = fopen(path, "re");
    char *json;
    size_t size;
    int err;

    if (!file)
        return failure_set(failure, -errno, "cannot read catalogue '%s': %s", path,
                           strerror(errno));
    json = malloc(CATALOGUE_BYTES_MAX);
    if (!json) {
        fclose(file);
        return failure_set(failure, -ENOMEM, "cannot read catalogue '%s': out of memory", path);
    }
    size = fread(json, 1, CATALOGUE_BYTES_MAX, file);
    if (size == CATALOGUE_BYTES_MAX)
        err = failure_set(failure, -EBADMSG, "catalogue '%s': larger than 8 MiB", path);
    else
        err = catalogue_parse(json, size, path, out, failure);
    free(json);
    fclose(file);
    return err;
}

int catalogue_load(const char *path, struct catalogue **out, struct failure *failure)
{
    if (path)
        return load_file(path, out, failure);
    return catalogue_parse(catalogue_builtin, catalogue_builtin_size, "built in", out, failure);
}

void catalogue_destroy(struct catalogue **catalogue)
{
    struct catalogue *self = *catalogue;

    if (!self)
        return;
    for (size_t m = 0; m < self->n_models; m++) {
        struct catalogue_model *model = &self->models[m];

        for (size_t s = 0; s < model->n_sources; s++)
            free(model->sources[s].parts);
        free(model->sources);
        free(model->files);
    }
    free(self->models);
    json_decref(self->root);
    free(self);
    *catalogue = NULL;
}

size_t catalogue_count(const struct catalogue *catalogue)
{
    return catalogue->n_models;
}

const struct catalogue_model *catalogue_at(const struct catalogue *catalogue, size_t i)
{
    return &catalogue->models[i];
}

const struct catalogue_model *catalogue_find(const struct catalogue *catalogue, const char *name)
{
    for (size_t i = 0; i < catalogue->n_models; i++)
        if (strcmp(catalogue->models[i].name, name) == 0)
            return &catalogue->models[i];
    return NULL;
}
