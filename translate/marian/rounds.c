#include "translate/marian/rounds.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ROWS 32   /* hypotheses of one round for each processor: a tenth of a second */
#define LOOK_MS 5 /* how often a waiting call looks whether it is given up */
#define MOST_PICKS 4096

/* One call. Lives as long as parts of it are in a round, also when its caller has gone. */
struct group {
    struct group *next;
    struct parts parts;
    struct part **order; /* (parts.n) longest first, so that rounds have parts of similar length */
    struct marian_search search;
    size_t n_taken, n_done;
    volatile int cancelled; /* the batches' copy: the caller's flag may go away */
    bool gone;              /* nobody waits: free it after its round */
    int err;
    pthread_cond_t done;
};

struct pick {
    struct group *group;
    struct part *part;
};

/* A round cut into batches. */
struct round {
    const struct marian_student *student;
    struct marian_search search;
    struct pick picks[MOST_PICKS]; /* (n) */
    struct part *parts[MOST_PICKS];
    size_t n;
    size_t starts[MOST_PICKS + 1]; /* (n_batches + 1) in picks */
    int errs[MOST_PICKS];          /* (n_batches) */
    size_t n_batches;
};

struct rounds {
    struct compute *pool;
    pthread_mutex_t lock;
    pthread_cond_t wake; /* for the thread: there is work, or the end */
    pthread_t thread;
    bool stop;
    struct group *first; /* those with parts that wait */
    struct round round;  /* the thread's */
};

static int by_length(const void *a, const void *b)
{
    const struct part *left = *(struct part *const *)a, *right = *(struct part *const *)b;

    return left->n < right->n ? 1 : left->n > right->n ? -1 : 0;
}

static int by_part_length(const void *a, const void *b)
{
    return by_length(&((const struct pick *)a)->part, &((const struct pick *)b)->part);
}

static void group_free(struct group *group)
{
    parts_fini(&group->parts);
    pthread_cond_destroy(&group->done);
    free(group->order);
    free(group);
}

/* Takes the parts on success. */
static int group_create(struct parts *parts, const struct marian_search *search, struct group **out)
{
    struct group *group = calloc(1, sizeof(*group));
    pthread_condattr_t attr;

    if (!group)
        return -ENOMEM;
    group->order = malloc(sizeof(*group->order) * parts->n);
    if (!group->order) {
        free(group);
        return -ENOMEM;
    }
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&group->done, &attr);
    pthread_condattr_destroy(&attr);
    group->search = *search;
    group->parts = *parts;
    *parts = (struct parts){0};
    for (size_t i = 0; i < group->parts.n; i++) {
        group->order[i] = &group->parts.list[i];
        group->order[i]->cancelled = &group->cancelled;
    }
    qsort(group->order, group->parts.n, sizeof(*group->order), by_length);
    *out = group;
    return 0;
}

static struct group **link_of(struct rounds *rounds, const struct group *group)
{
    struct group **link = &rounds->first;

    while (*link && *link != group)
        link = &(*link)->next;
    return link;
}

static void queue_add(struct rounds *rounds, struct group *group)
{
    group->next = NULL;
    *link_of(rounds, NULL) = group;
}

static void queue_remove(struct rounds *rounds, const struct group *group)
{
    struct group **link = link_of(rounds, group);

    if (*link)
        *link = group->next;
}

/* A part of each call in turn, of those that search like the first one. */
static void pick(struct rounds *rounds, struct round *round)
{
    size_t threads = (size_t)compute_n_threads(rounds->pool), most;
    bool any = true;

    round->search = rounds->first->search;
    most = threads * (ROWS / round->search.beam_size);
    if (most > MOST_PICKS)
        most = MOST_PICKS;
    for (round->n = 0; any && round->n < most;) {
        any = false;
        for (struct group *group = rounds->first; group && round->n < most; group = group->next) {
            if (group->n_taken == group->parts.n ||
                group->search.beam_size != round->search.beam_size ||
                group->search.n_best != round->search.n_best)
                continue;
            round->picks[round->n++] = (struct pick){group, group->order[group->n_taken++]};
            any = true;
        }
    }
}

/* Those with nothing left to take go; who was first is last, so that all searches have their turn. */
static void rotate(struct rounds *rounds)
{
    struct group *first = rounds->first;

    queue_remove(rounds, first);
    if (first->n_taken < first->parts.n)
        queue_add(rounds, first);
    for (struct group **link = &rounds->first; *link;) {
        if ((*link)->n_taken == (*link)->parts.n)
            *link = (*link)->next;
        else
            link = &(*link)->next;
    }
}

/* Batches of similar length, as many as there are threads. */
static void cut(struct round *round, size_t threads)
{
    size_t pieces = 0;
    size_t most = (round->n + threads - 1) / threads;

    qsort(round->picks, round->n, sizeof(round->picks[0]), by_part_length);
    round->n_batches = 0;
    for (size_t i = 0; i < round->n; i++) {
        round->parts[i] = round->picks[i].part;
        if (i == 0 || i - round->starts[round->n_batches - 1] >= most ||
            pieces + round->parts[i]->n > BATCH_MOST_PIECES) {
            round->starts[round->n_batches++] = i;
            pieces = 0;
        }
        pieces += round->parts[i]->n;
    }
    round->starts[round->n_batches] = round->n;
}

static void run_batches(void *arg, size_t begin, size_t end)
{
    struct round *round = arg;

    for (size_t i = begin; i < end; i++)
        round->errs[i] =
            batch_translate(round->student, &round->search, round->parts + round->starts[i],
                            round->starts[i + 1] - round->starts[i]);
}

static void finish(struct round *round)
{
    for (size_t i = 0; i < round->n_batches; i++)
        for (size_t at = round->starts[i]; at < round->starts[i + 1]; at++) {
            struct group *group = round->picks[at].group;

            if (round->errs[i])
                group->err = round->errs[i];
            group->n_done++;
            if (group->gone && group->n_done == group->n_taken)
                group_free(group);
            else if (group->n_done == group->parts.n)
                pthread_cond_signal(&group->done);
        }
}

static void *rounds_thread(void *arg)
{
    struct rounds *rounds = arg;
    struct round *round = &rounds->round;

    pthread_mutex_lock(&rounds->lock);
    while (!rounds->stop) {
        if (!rounds->first) {
            pthread_cond_wait(&rounds->wake, &rounds->lock);
            continue;
        }
        pick(rounds, round);
        rotate(rounds);
        pthread_mutex_unlock(&rounds->lock);
        cut(round, (size_t)compute_n_threads(rounds->pool));
        if (round->n_batches == 1)
            run_batches(round, 0, 1);
        else
            compute_parallel_for(rounds->pool, round->n_batches, 1, run_batches, round);
        pthread_mutex_lock(&rounds->lock);
        finish(round);
    }
    pthread_mutex_unlock(&rounds->lock);
    return NULL;
}

int rounds_create(const struct marian_student *student, struct compute *pool, struct rounds **out)
{
    struct rounds *rounds = calloc(1, sizeof(*rounds));
    int err;

    if (!rounds)
        return -ENOMEM;
    rounds->round.student = student;
    rounds->pool = pool;
    pthread_mutex_init(&rounds->lock, NULL);
    pthread_cond_init(&rounds->wake, NULL);
    err = pthread_create(&rounds->thread, NULL, rounds_thread, rounds);
    if (err) {
        pthread_cond_destroy(&rounds->wake);
        pthread_mutex_destroy(&rounds->lock);
        free(rounds);
        return -err;
    }
    *out = rounds;
    return 0;
}

void rounds_destroy(struct rounds **out)
{
    struct rounds *rounds = *out;

    if (!rounds)
        return;
    pthread_mutex_lock(&rounds->lock);
    rounds->stop = true;
    pthread_cond_signal(&rounds->wake);
    pthread_mutex_unlock(&rounds->lock);
    pthread_join(rounds->thread, NULL);
    pthread_cond_destroy(&rounds->wake);
    pthread_mutex_destroy(&rounds->lock);
    free(rounds);
    *out = NULL;
}

static bool is_set(const volatile int *flag)
{
    return flag && __atomic_load_n(flag, __ATOMIC_RELAXED);
}

/* Sleep until something is done, but not past the next look at the caller's flag. */
static void wait_some(struct rounds *rounds, struct group *group)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += LOOK_MS * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_nsec -= 1000000000L;
        until.tv_sec++;
    }
    pthread_cond_timedwait(&group->done, &rounds->lock, &until);
}

/* Leave without the group: at once when none of it runs, else its round frees it. */
static int give_up(struct rounds *rounds, struct group *group)
{
    queue_remove(rounds, group);
    __atomic_store_n(&group->cancelled, 1, __ATOMIC_RELAXED);
    group->gone = true;
    if (group->n_done == group->n_taken)
        group_free(group);
    return -ECANCELED;
}

int rounds_run(struct rounds *rounds, struct parts *parts, const struct marian_search *search,
               const volatile int *cancel)
{
    struct group *group = NULL;
    int err;

    if (is_set(cancel))
        return -ECANCELED;
    err = group_create(parts, search, &group);
    if (err)
        return err;
    pthread_mutex_lock(&rounds->lock);
    queue_add(rounds, group);
    pthread_cond_signal(&rounds->wake);
    while (group->n_done < group->parts.n && !is_set(cancel))
        wait_some(rounds, group);
    if (group->n_done < group->parts.n) {
        err = give_up(rounds, group);
        pthread_mutex_unlock(&rounds->lock);
        return err;
    }
    pthread_mutex_unlock(&rounds->lock);
    err = group->err;
    *parts = group->parts;
    group->parts = (struct parts){0};
    group_free(group);
    return err;
}
