#include "tests/support/golden.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

char *golden_text(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    char *text = NULL;
    struct stat st;

    if (!file || fstat(fileno(file), &st) < 0)
        fail_msg("cannot open '%s'", path);
    text = malloc((size_t)st.st_size + 1);
    if (!text || fread(text, 1, (size_t)st.st_size, file) != (size_t)st.st_size)
        fail_msg("cannot read '%s'", path);
    fclose(file);
    text[st.st_size] = '\0';
    if (size)
        *size = (size_t)st.st_size;
    return text;
}

float *golden_f32(const char *path, size_t n)
{
    size_t size = 0;
    char *bytes = golden_text(path, &size);

    if (size != n * sizeof(float))
        fail_msg("'%s' has %zu bytes, not the %zu of %zu floats", path, size, n * sizeof(float), n);
    return (float *)(void *)bytes;
}

const char *golden_model(const char *name)
{
    static char path[4096];
    const char *models = getenv("DRAGOMAN_MODELS");
    const char *home = getenv("HOME");
    struct stat st;

    if (models)
        snprintf(path, sizeof(path), "%s/%s", models, name);
    else
        snprintf(path, sizeof(path), "%s/.local/share/dragoman/models/%s", home ? home : "", name);
    if (stat(path, &st) < 0)
        fail_msg("no model at '%s': run 'dragoman models pull %s'", path, name);
    return path;
}

void assert_near(const float *got, const float *want, size_t n, float tolerance)
{
    size_t worst = 0;
    float distance = 0;

    for (size_t i = 0; i < n; i++) {
        float d = fabsf(got[i] - want[i]);

        if (!(d <= distance)) { /* also true for NaN */
            distance = d;
            worst = i;
        }
    }
    if (!(distance <= tolerance))
        fail_msg("[%zu] got %g, want %g: %g apart, more than %g", worst, (double)got[worst],
                 (double)want[worst], (double)distance, (double)tolerance);
}
