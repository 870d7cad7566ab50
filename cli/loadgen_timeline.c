#include "cli/loadgen_timeline.h"

#include "cli/loadgen_plot.h"

#include <math.h>
#include <stdlib.h>

#define WIDTH     1160.0
#define LEFT      58.0
#define RIGHT     16.0
#define TOP       10.0
#define RATE      64.0 /* height of the curve of tokens a second */
#define BETWEEN   14.0
#define BOTTOM    40.0
#define N_BINS    120 /* of that curve */
#define NS_PER_S  1e9
#define MIN_WIDTH 0.7 /* of a bar */

struct frame {
    double span_s, lane_height, lanes_y, height;
    int n_lanes;
};

static double at_x(const struct frame *f, double s)
{
    double share = s / f->span_s;
    share = share < 0 ? 0 : share > 1 ? 1 : share;
    return LEFT + share * (WIDTH - LEFT - RIGHT);
}

/* ---- lanes ---- */

/* The lane of each sample, or -1 when all are taken; returns how many are used. Samples are in order of sending. */
static int assign_lanes(const struct loadgen_run *run, size_t n, int *lanes)
{
    int64_t free_from[LOADGEN_TIMELINE_LANES] = {0};
    int n_lanes = 0;
    for (size_t i = 0; i < n; i++) {
        const struct loadgen_sample *s = &run->samples[i];
        int lane = 0;
        while (lane < n_lanes && free_from[lane] > s->sent_ns) {
            lane++;
        }
        lanes[i] = lane < LOADGEN_TIMELINE_LANES ? lane : -1;
        if (lanes[i] >= 0) {
            free_from[lane] = s->end_ns;
            n_lanes = lane == n_lanes ? n_lanes + 1 : n_lanes;
        }
    }
    return n_lanes;
}

static void put_bar(const struct frame *f, int lane, double from_s, double to_s, const char *class, int color,
                    struct buf *out)
{
    double x = at_x(f, from_s), width = at_x(f, to_s) - x;
    buf_printf(out, "<rect class=\"%s\"", class);
    if (color >= 0) {
        buf_printf(out, " style=\"fill:var(--c%d)\"", color % PLOT_COLORS);
    }
    buf_printf(out, " x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>", x, f->lanes_y + lane * f->lane_height,
               width > MIN_WIDTH ? width : MIN_WIDTH, f->lane_height - 1);
}

static void put_request(const struct frame *f, const struct loadgen_sample *s, int lane, int color, struct buf *out)
{
    double sent = (double)s->sent_ns / NS_PER_S, end = (double)s->end_ns / NS_PER_S;
    double first = s->first_ns > 0 ? (double)s->first_ns / NS_PER_S : end;
    buf_puts(out, "<g>");
    if (s->outcome != LOADGEN_OK) {
        put_bar(f, lane, sent, end, "failed", -1, out);
    } else if (s->first_ns > 0) {
        put_bar(f, lane, sent, first, "waits", color, out);
        put_bar(f, lane, first, end, "runs", color, out);
    } else {
        put_bar(f, lane, sent, end, "runs", color, out);
    }
    buf_printf(out, "<title>request %llu: %s\nsent at %.2f s", (unsigned long long)s->index,
               loadgen_outcome_name(s->outcome), sent);
    if (s->first_ns > 0) {
        buf_printf(out, "\nfirst token after %.0f ms", 1e3 * (first - sent));
    }
    buf_printf(out, "\nended after %.0f ms\n%llu tokens</title></g>\n", 1e3 * (end - sent),
               (unsigned long long)s->completion_tokens);
}

/* ---- tokens a second ---- */

static void count_tokens(const struct loadgen_run *run, double span_s, double bins[N_BINS])
{
    for (size_t i = 0; i < run->n_samples; i++) {
        const struct loadgen_sample *s = &run->samples[i];
        double per_event = s->completion_tokens ? (double)s->completion_tokens / (double)(s->n_gaps + 1) : 1;
        int64_t at = s->first_ns;
        for (size_t k = 0; s->first_ns > 0 && k <= s->n_gaps; k++) {
            int bin = (int)((double)at / NS_PER_S / span_s * N_BINS);
            bins[bin < 0 ? 0 : bin < N_BINS ? bin : N_BINS - 1] += per_event;
            at += k < s->n_gaps ? run->gaps[s->gaps_at + k] : 0;
        }
    }
    for (int i = 0; i < N_BINS; i++) {
        bins[i] *= N_BINS / span_s;
    }
}

static void put_rate(const struct loadgen_run *run, const struct frame *f, int color, struct buf *out)
{
    double bins[N_BINS] = {0}, most = 0;
    char number[40];
    count_tokens(run, f->span_s, bins);
    for (int i = 0; i < N_BINS; i++) {
        most = bins[i] > most ? bins[i] : most;
    }
    if (!(most > 0)) {
        return;
    }
    buf_printf(out, "<path class=\"rate\" style=\"fill:var(--c%d)\" d=\"M%.1f %.1f", color % PLOT_COLORS, LEFT,
               TOP + RATE);
    for (int i = 0; i < N_BINS; i++) {
        double y = TOP + RATE * (1 - bins[i] / most);
        buf_printf(out, "L%.1f %.1fL%.1f %.1f", at_x(f, i * f->span_s / N_BINS), y,
                   at_x(f, (i + 1) * f->span_s / N_BINS), y);
    }
    buf_printf(out, "L%.1f %.1fZ\"/>\n", WIDTH - RIGHT, TOP + RATE);
    buf_printf(out, "<text class=\"tick\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%s</text>", LEFT - 8, TOP + 8,
               loadgen_plot_number(round(most), number, sizeof number));
    buf_printf(out, "<text class=\"tick\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">tok/s</text>\n", LEFT - 8,
               TOP + 22);
}

static void put_time_axis(const struct frame *f, struct buf *out)
{
    double step = loadgen_plot_step(f->span_s), y = f->height - BOTTOM + 4;
    char number[40];
    for (int i = 0; i * step <= f->span_s * 1.0001; i++) {
        double x = at_x(f, i * step);
        buf_printf(out, "<path class=\"grid\" d=\"M%.1f %.1fV%.1f\"/>", x, TOP, y);
        buf_printf(out, "<text class=\"tick\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%s</text>\n", x, y + 16,
                   loadgen_plot_number(i * step, number, sizeof number));
    }
    buf_printf(out, "<text class=\"axis\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">seconds</text>\n",
               (LEFT + WIDTH - RIGHT) / 2, y + 32);
}

void loadgen_timeline(const struct loadgen_run *run, const char *name, int color, double span_s, struct buf *out)
{
    size_t n = run->n_samples < LOADGEN_TIMELINE_REQUESTS ? run->n_samples : LOADGEN_TIMELINE_REQUESTS;
    int *lanes = malloc((n + 1) * sizeof *lanes);
    struct frame f = {.span_s = span_s > 0 ? span_s : (double)run->duration_ns / NS_PER_S};
    f.span_s = f.span_s > 0 ? f.span_s : 1;
    f.n_lanes = lanes ? assign_lanes(run, n, lanes) : 0;
    f.lane_height = f.n_lanes <= 8 ? 16 : f.n_lanes <= 32 ? 9 : 5;
    f.lanes_y = TOP + RATE + BETWEEN;
    f.height = f.lanes_y + f.n_lanes * f.lane_height + BOTTOM;
    buf_printf(out, "<svg viewBox=\"0 0 %.0f %.0f\" role=\"img\"><title>", WIDTH, f.height);
    loadgen_escape(out, name);
    buf_puts(out, "</title>\n");
    put_time_axis(&f, out);
    put_rate(run, &f, color, out);
    for (size_t i = 0; lanes && i < n; i++) {
        if (lanes[i] >= 0) {
            put_request(&f, &run->samples[i], lanes[i], color, out);
        }
    }
    buf_puts(out, "</svg>\n");
    free(lanes);
}
