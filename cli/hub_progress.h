/* How a model comes from the Hub, on standard error: on a terminal one line that changes, elsewhere a line now and
 * then. One thread. */
#ifndef TANDEM_CLI_HUB_PROGRESS_H
#define TANDEM_CLI_HUB_PROGRESS_H

#include "base/buf.h"
#include "hub/pull.h"

struct hub_progress_view {
    const char *what; /* "owner/name" */
    bool terminal;
    int64_t shown_ms; /* 0: nothing yet */
    double rate;      /* bytes a second, lately */
    int64_t rate_ms;
    uint64_t rate_brought;
    bool said_waiting;
};

void hub_progress_init(struct hub_progress_view *v, const char *what);
void hub_progress_show(void *view, const struct hub_progress *p);             /* as hub_pull_options.on_progress */
void hub_progress_wait(void *view, const struct error *err, int64_t wait_ms); /* as hub_client_options.on_wait */
void hub_progress_end(struct hub_progress_view *v);                           /* of a line that is not finished */

/* "1.2 GiB", "870 MiB", "12 KiB". */
void hub_size_text(uint64_t size, char out[24]);
/* The line, without its end: "owner/name  34% of 1.2 GiB, 23.1 MiB/s, 35 s left: model.gguf". */
void hub_progress_line(const struct hub_progress_view *v, const struct hub_progress *p, struct buf *out);

#endif
