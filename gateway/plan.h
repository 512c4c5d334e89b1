/*
 * plan.h - from one language to another over the pairs that somebody translates
 */
#ifndef GATEWAY_PLAN_H
#define GATEWAY_PLAN_H

#include <stddef.h>

#define PLAN_HOPS_MAX 3
#define PLAN_CODE_MAX 8 /* bytes of a language code with its NUL */

struct plan_pair {
    char source[PLAN_CODE_MAX], target[PLAN_CODE_MAX];
};

struct plan {
    struct plan_pair hops[PLAN_HOPS_MAX];
    size_t n_hops; /* 0: source and target are one language */
};

/** Read "en-pt". @return 0; -EINVAL */
int plan_pair_parse(const char *text, struct plan_pair *out);

/**
 * Find the path with the fewest hops; among equals the one over English, then by the alphabet, so
 * that the same pairs in any order give the same plan.
 *
 * @return 0; -ENOENT when there is none within PLAN_HOPS_MAX
 */
int plan_find(const struct plan_pair *pairs, size_t n, const char *source, const char *target,
              struct plan *out);

#endif
