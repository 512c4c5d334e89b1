#include "cli/progress.h"

#include "base/clock.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define REDRAW_MS 100
#define BAR_WIDTH 24
#define SMALL 1000000 /* bytes: below this it is over before it is read */

void progress_init(struct progress *progress)
{
    *progress = (struct progress){.terminal = isatty(STDERR_FILENO) == 1};
}

void progress_clear(struct progress *progress)
{
    if (progress->on_line)
        fprintf(stderr, "\r\033[K");
    progress->on_line = false;
}

static void begin(struct progress *progress, const char *file, uint64_t done, int64_t now_ms)
{
    progress->file = file;
    progress->begun_ms = now_ms;
    progress->begun_at = done;
    progress->shown_ms = 0;
    progress->quarter = 0;
}

static void draw(struct progress *progress, const char *what, uint64_t done, uint64_t total,
                 int64_t now_ms)
{
    static const char BAR[] = "########################";
    int64_t spent_ms = now_ms - progress->begun_ms;
    double rate =
        spent_ms > 200 ? (double)(done - progress->begun_at) / 1000 / (double)spent_ms : 0;

    fprintf(stderr, "\r\033[K%-24s ", what);
    if (total > 0)
        fprintf(stderr, "[%-*.*s] %.1f of %.1f MB", BAR_WIDTH, (int)(done * BAR_WIDTH / total), BAR,
                (double)done / 1e6, (double)total / 1e6);
    else
        fprintf(stderr, "%.1f MB", (double)done / 1e6);
    if (rate > 0)
        fprintf(stderr, ", %.1f MB/s", rate);
    fflush(stderr);
    progress->on_line = true;
    progress->shown_ms = now_ms;
}

void progress_show(struct progress *progress, const char *what, const char *file, uint64_t done,
                   uint64_t total)
{
    int64_t now_ms = clock_now_ms();
    int quarter = total > 0 ? (int)(done * 4 / total) : 0;

    if (progress->file != file || done < progress->begun_at)
        begin(progress, file, done, now_ms);
    if (total > 0 && total < SMALL)
        return;
    if (progress->terminal) {
        if (now_ms - progress->shown_ms >= REDRAW_MS)
            draw(progress, what, done, total, now_ms);
    } else if (quarter > progress->quarter) {
        fprintf(stderr, "%s: %.1f of %.1f MB\n", what, (double)done / 1e6, (double)total / 1e6);
        progress->quarter = quarter;
    }
}
