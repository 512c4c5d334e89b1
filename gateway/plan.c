#include "gateway/plan.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

int plan_pair_parse(const char *text, struct plan_pair *out)
{
    const char *dash = strchr(text, '-');
    size_t n = dash ? (size_t)(dash - text) : 0;

    if (!n || n >= PLAN_CODE_MAX || !dash[1] || strlen(dash + 1) >= PLAN_CODE_MAX ||
        strchr(dash + 1, '-'))
        return -EINVAL;
    snprintf(out->source, sizeof(out->source), "%.*s", (int)n, text);
    snprintf(out->target, sizeof(out->target), "%s", dash + 1);
    return 0;
}

/* Whether a path over language a is to be preferred to one over b. */
static bool preferred(const char *a, const char *b)
{
    bool a_english = !strcmp(a, "en"), b_english = !strcmp(b, "en");

    return a_english != b_english ? a_english : strcmp(a, b) < 0;
}

/* Exactly `hops` hops to the target, appended to `plan`; the pivots are tried in order of
 * preference. */
static bool extend(const struct plan_pair *pairs, size_t n, const char *from, const char *target,
                   size_t hops, struct plan *plan)
{
    const char *last = NULL; /* the pivot tried before */

    for (;;) {
        const struct plan_pair *best = NULL;

        for (size_t i = 0; i < n; i++) {
            bool fits = hops > 1 || !strcmp(pairs[i].target, target);

            if (!strcmp(pairs[i].source, from) && fits &&
                (!last || preferred(last, pairs[i].target)) &&
                (!best || preferred(pairs[i].target, best->target)))
                best = &pairs[i];
        }
        if (!best)
            return false;
        plan->hops[plan->n_hops++] = *best;
        if (hops == 1 || extend(pairs, n, best->target, target, hops - 1, plan))
            return true;
        plan->n_hops--;
        last = best->target;
    }
}

int plan_find(const struct plan_pair *pairs, size_t n, const char *source, const char *target,
              struct plan *out)
{
    struct plan plan = {0};

    if (!strcmp(source, target)) {
        *out = plan;
        return 0;
    }
    for (size_t hops = 1; hops <= PLAN_HOPS_MAX; hops++) {
        if (extend(pairs, n, source, target, hops, &plan)) {
            *out = plan;
            return 0;
        }
    }
    return -ENOENT;
}
