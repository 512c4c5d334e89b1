/*
 * progress.h - how far a long download is: a bar on a terminal, a line now and then elsewhere
 */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
    bool terminal;
    bool on_line;      /* a bar stands on the terminal's last line */
    int64_t shown_ms;  /* when it was drawn */
    int64_t begun_ms;  /* of this download */
    uint64_t begun_at; /* bytes that were there before */
    const char *file;  /* the download that is shown */
    int quarter;       /* of it, the last that got a line of its own */
};

/** Standard error is where it is shown. */
void progress_init(struct progress *progress);

/** Bytes so far; cheap: draws ten times a second at most. `total` 0: not known. */
void progress_show(struct progress *progress, const char *what, const char *file, uint64_t done,
                   uint64_t total);

/** Take the bar away, before anything else is printed. */
void progress_clear(struct progress *progress);

#endif
