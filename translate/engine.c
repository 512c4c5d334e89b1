#include "translate/engine.h"

#include "translate/marian/marian.h"

#include <stdlib.h>
#include <string.h>

static const struct translate_engine *const engines[] = {&marian_engine};

const struct translate_engine *translate_engine_find(const char *name)
{
    for (size_t i = 0; i < sizeof(engines) / sizeof(engines[0]); i++)
        if (strcmp(engines[i]->name, name) == 0)
            return engines[i];
    return NULL;
}

void translate_result_fini(struct translate_result *result)
{
    for (size_t i = 0; i < result->n_alternatives; i++)
        free(result->alternatives[i]);
    free(result->alternatives);
    free(result->text);
    *result = (struct translate_result){0};
}
