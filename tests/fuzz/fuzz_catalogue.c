/* Catalogues of models, which users may write themselves. */
#include "models/catalogue.h"
#include "tests/fuzz/replay.h"

#include <stdlib.h>
#include <string.h>

const struct fuzz_seed fuzz_seeds[] = {
    {SOURCE_DIR "/models/catalogue.json", NULL, 0},
    {NULL, NULL, 0},
};
const unsigned fuzz_rounds = 20000;

/* Whatever is accepted names files that stay inside the model's folder. */
static void check(const struct catalogue_model *model)
{
    if (strchr(model->name, '/') || model->name[0] == '.' || model->n_files == 0)
        abort();
    for (size_t i = 0; i < model->n_files; i++)
        if (strchr(model->files[i].name, '/') || model->files[i].name[0] == '.' ||
            strlen(model->files[i].sha256) != 64)
            abort();
    for (size_t s = 0; s < model->n_sources; s++)
        for (size_t i = 0; i < model->n_files; i++)
            for (size_t p = 0; p < model->sources[s].parts[i].count; p++)
                if (!model->sources[s].parts[i].items[p])
                    abort();
}

void fuzz_one(const uint8_t *bytes, size_t size)
{
    struct catalogue *catalogue = NULL;
    struct failure failure = {.text = ""};

    if (catalogue_parse((const char *)bytes, size, "fuzz", &catalogue, &failure) < 0) {
        if (!failure.text[0])
            abort(); /* an error without a reason */
        return;
    }
    for (size_t i = 0; i < catalogue_count(catalogue); i++)
        check(catalogue_at(catalogue, i));
    catalogue_destroy(&catalogue);
}
