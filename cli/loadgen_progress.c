#include "cli/loadgen_progress.h"

#include "base/utf8.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define BAR_CELLS     16
#define DEFAULT_WIDTH 80
#define LINE_MAX_SIZE 2000

static bool speaks_utf8(void)
{
    static const char *const names[] = {"LC_ALL", "LC_CTYPE", "LANG"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const char *value = getenv(names[i]);
        if (value && value[0]) {
            return strstr(value, "UTF-8") || strstr(value, "utf8") || strstr(value, "UTF8");
        }
    }
    return false;
}

void loadgen_screen_init(struct loadgen_screen *s, bool quiet, int n_runs)
{
    *s = (struct loadgen_screen){.quiet = quiet, .n_runs = n_runs};
    s->terminal = isatty(STDERR_FILENO) == 1;
    s->unicode = speaks_utf8();
}

static int terminal_width(void)
{
    struct winsize size;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : DEFAULT_WIDTH;
}

/* ---- the bar ---- */

/* What is done of the run, 0 to 1: by requests or by time, whichever is nearer to its end. */
static double share_of(const struct loadgen_progress *p)
{
    double requests = p->n_total ? (double)p->n_done / (double)p->n_total : 0;
    double time = p->duration_s > 0 ? p->elapsed_s / p->duration_s : 0;
    double share = requests > time ? requests : time;
    return share < 1 ? share : 1;
}

static void put_bar(const struct loadgen_screen *s, double share, struct buf *out)
{
    int full = (int)(share * BAR_CELLS);
    for (int i = 0; i < BAR_CELLS; i++) {
        buf_puts(out, s->unicode ? (i < full ? "\xe2\x94\x81" : "\xe2\x94\x80") : i < full ? "#" : ".");
    }
}

static void put_count(const struct loadgen_screen *s, struct buf *out)
{
    if (s->n_runs) {
        buf_printf(out, "[%d/%d] ", s->n_begun, s->n_runs);
    }
    buf_puts(out, s->what);
}

/* Cut after so many characters. */
static void cut(struct buf *line, int width)
{
    size_t at = 0;
    uint32_t c;
    for (int n = 0; n < width && at < line->len; n++) {
        at += utf8_decode(str_slice(buf_view(line), at, line->len), &c);
    }
    buf_truncate(line, at);
}

void loadgen_screen_line(const struct loadgen_screen *s, const struct loadgen_progress *p, int width, struct buf *out)
{
    double share = share_of(p), left_s = share > 0.02 ? p->elapsed_s * (1 - share) / share : NAN;
    put_count(s, out);
    buf_puts(out, "  ");
    put_bar(s, share, out);
    buf_printf(out, "  %llu", (unsigned long long)p->n_done);
    if (p->n_total) {
        buf_printf(out, "/%llu", (unsigned long long)p->n_total);
    }
    if (p->n_failed) {
        buf_printf(out, " (%llu failed)", (unsigned long long)p->n_failed);
    }
    buf_printf(out, ", %.0f tokens/s, %.0f s", p->elapsed_s > 0 ? (double)p->n_tokens / p->elapsed_s : 0, p->elapsed_s);
    if (!isnan(left_s)) {
        buf_printf(out, ", %.0f s left", left_s);
    }
    buf_printf(out, ", %llu running", (unsigned long long)p->n_in_flight);
    cut(out, width);
}

void loadgen_screen_clear(struct loadgen_screen *s)
{
    if (s->terminal && !s->quiet) {
        fputs("\r\033[K", stderr);
        fflush(stderr);
    }
}

void loadgen_screen_begin(struct loadgen_screen *s, const char *what)
{
    snprintf(s->what, sizeof s->what, "%s", what);
    s->n_begun++;
    loadgen_screen_show(s, &(struct loadgen_progress){0});
}

void loadgen_screen_show(void *screen, const struct loadgen_progress *p)
{
    struct loadgen_screen *s = screen;
    struct buf line;
    if (s->quiet || !s->terminal) {
        return;
    }
    buf_init(&line, LINE_MAX_SIZE);
    loadgen_screen_line(s, p, terminal_width() - 1, &line);
    fprintf(stderr, "\r%s\033[K", line.data ? line.data : "");
    fflush(stderr);
    buf_release(&line);
}

void loadgen_screen_end(struct loadgen_screen *s, const struct loadgen_figures *f)
{
    struct buf line;
    if (s->quiet) {
        return;
    }
    buf_init(&line, LINE_MAX_SIZE);
    put_count(s, &line);
    buf_printf(&line, ": %.0f requests in %.1f s, %.2f/s, %.1f tokens/s", f->completed, f->duration_s,
               isnan(f->requests_per_s) ? 0 : f->requests_per_s,
               isnan(f->output_tokens_per_s) ? 0 : f->output_tokens_per_s);
    if (!isnan(f->ttft.p50)) {
        buf_printf(&line, ", TTFT %.0f ms", f->ttft.p50);
    }
    if (!isnan(f->itl.p50)) {
        buf_printf(&line, ", ITL %.1f ms", f->itl.p50);
    }
    if (f->failed > 0) {
        buf_printf(&line, ", %.0f failed", f->failed);
    }
    loadgen_screen_clear(s);
    fprintf(stderr, "%s\n", line.data ? line.data : "");
    buf_release(&line);
}
