#include "cli/hub_progress.h"

#include "base/clock.h"
#include "base/limits.h"
#include "base/utf8.h"

#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define TERMINAL_MS 100
#define LINES_MS    5000
#define RATE_MS     500  /* of one look at the rate */
#define RATE_SHARE  0.3  /* of the newest look in what is shown */
#define MIN_RATE    1024 /* below it nothing is said of the time left */
#define BAR_WIDTH   24
#define SHOWN_NAME  40

void hub_progress_init(struct hub_progress_view *v, const char *what)
{
    *v = (struct hub_progress_view){.what = what, .terminal = isatty(STDERR_FILENO), .rate_ms = clock_ms()};
}

void hub_size_text(uint64_t size, char out[24])
{
    if (size >= GIB(1)) {
        snprintf(out, 24, "%.1f GiB", (double)size / (double)GIB(1));
    } else if (size >= MIB(1)) {
        snprintf(out, 24, "%.0f MiB", (double)size / (double)MIB(1));
    } else {
        snprintf(out, 24, "%.0f KiB", (double)size / (double)KIB(1));
    }
}

static void put_time_left(int64_t seconds, struct buf *out)
{
    if (seconds >= 3600) {
        buf_printf(out, ", %d h %02d min left", (int)(seconds / 3600), (int)(seconds % 3600 / 60));
    } else if (seconds >= 60) {
        buf_printf(out, ", %d min %02d s left", (int)(seconds / 60), (int)(seconds % 60));
    } else {
        buf_printf(out, ", %d s left", (int)seconds);
    }
}

static void put_bar(double share, struct buf *out)
{
    int full = (int)(share * BAR_WIDTH);
    buf_putc(out, '[');
    for (int i = 0; i < BAR_WIDTH; i++) {
        buf_putc(out, i < full ? '#' : '.');
    }
    buf_puts(out, "] ");
}

/* A name from the Hub has no control characters; it is cut to fit. */
static void put_file(const char *file, struct buf *out)
{
    struct str name = str_of(file);
    buf_puts(out, ": ");
    buf_append(out, str_slice(name, 0, utf8_cut(name, SHOWN_NAME)));
}

void hub_progress_line(const struct hub_progress_view *v, const struct hub_progress *p, struct buf *out)
{
    char total[24], rate[24];
    double share = p->total ? (double)p->done / (double)p->total : 1;
    hub_size_text(p->total, total);
    buf_printf(out, "%.96s  ", v->what);
    if (v->terminal) {
        put_bar(share, out);
    }
    buf_printf(out, "%3.0f%% of %s", 100 * share, total);
    if (v->rate >= MIN_RATE && p->file) {
        hub_size_text((uint64_t)v->rate, rate);
        buf_printf(out, ", %s/s", rate);
        put_time_left((int64_t)((double)(p->total - p->done) / v->rate), out);
    }
    if (p->waiting) {
        buf_puts(out, ", another program brings the same");
    }
    if (p->file) {
        put_file(p->file, out);
    }
}

static void look_at_rate(struct hub_progress_view *v, const struct hub_progress *p, int64_t now)
{
    if (v->rate_brought == 0) { /* what went before the first byte is no time of bringing */
        v->rate_ms = now;
        v->rate_brought = p->brought;
    } else if (now - v->rate_ms >= RATE_MS) {
        double rate = 1000.0 * (double)(p->brought - v->rate_brought) / (double)(now - v->rate_ms);
        v->rate = v->rate > 0 ? (1 - RATE_SHARE) * v->rate + RATE_SHARE * rate : rate;
        v->rate_ms = now;
        v->rate_brought = p->brought;
    }
}

/* A line that is longer than the terminal is wide could not be taken back. */
static void cut_to_terminal(struct buf *line)
{
    struct winsize size;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1 && line->len >= size.ws_col) {
        buf_truncate(line, utf8_cut(buf_view(line), size.ws_col - 1u));
    }
}

void hub_progress_show(void *view, const struct hub_progress *p)
{
    struct hub_progress_view *v = view;
    int64_t now = clock_ms();
    struct buf line;
    look_at_rate(v, p, now);
    bool first = v->shown_ms == 0, waits = p->waiting && !v->said_waiting;
    if (!first && p->file && !waits && now - v->shown_ms < (v->terminal ? TERMINAL_MS : LINES_MS)) {
        return;
    }
    if (p->brought == 0 && !p->waiting) {
        return; /* what was here */
    }
    v->said_waiting = p->waiting;
    v->shown_ms = now;
    buf_init(&line, KIB(1));
    hub_progress_line(v, p, &line);
    if (v->terminal) {
        cut_to_terminal(&line);
    }
    fprintf(stderr, v->terminal ? "\r\033[K%s%s" : "%s%s\n", line.data ? line.data : "",
            v->terminal && !p->file ? "\n" : "");
    fflush(stderr);
    if (!p->file) {
        v->shown_ms = 0;
    }
    buf_release(&line);
}

void hub_progress_wait(void *view, const struct error *err, int64_t wait_ms)
{
    struct hub_progress_view *v = view;
    hub_progress_end(v);
    fprintf(stderr, "tandem: %s Another attempt in %.1f s.\n", err->msg, (double)wait_ms / 1000);
}

void hub_progress_end(struct hub_progress_view *v)
{
    if (v->terminal && v->shown_ms) {
        fputc('\n', stderr);
    }
    v->shown_ms = 0;
}
