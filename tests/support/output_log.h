/* What a parser of outputs says, as one line: "T text|R reasoning|C name#id|A arguments|E ok". Pieces of one kind that
 * follow each other are one entry, so that logs of differently cut texts are equal. */
#ifndef TANDEM_TESTS_SUPPORT_OUTPUT_LOG_H
#define TANDEM_TESTS_SUPPORT_OUTPUT_LOG_H

#include "chat/output.h"

struct output_log {
    struct buf text;
    enum output_kind last;
    bool any;
    size_t source_end, n_calls;
    bool ordered; /* source_end never fell, calls are counted up */
};

static inline void output_log_add(struct output_log *log, const struct output_piece *piece)
{
    static const char *const names[] = {"T ", "R ", "C ", "A ", "E "};
    if (!log->any || log->last != piece->kind || piece->kind == OUTPUT_CALL) {
        buf_puts(&log->text, log->any ? "|" : "");
        buf_puts(&log->text, names[piece->kind]);
    }
    log->any = true;
    log->last = piece->kind;
    log->ordered = log->ordered && piece->source_end >= log->source_end &&
                   (piece->kind < OUTPUT_CALL || piece->call == log->n_calls);
    log->source_end = piece->source_end;
    log->n_calls += piece->kind == OUTPUT_CALL_END;
    buf_append(&log->text, piece->text);
    if (piece->id.ptr) {
        buf_puts(&log->text, "#");
        buf_append(&log->text, piece->id);
    }
    if (piece->kind == OUTPUT_CALL_END) {
        buf_puts(&log->text, piece->complete ? "ok" : "cut");
    }
}

static inline void output_log_drain(struct output_log *log, struct output_parser *p)
{
    struct output_piece piece;
    while (output_parser_next(p, &piece)) {
        output_log_add(log, &piece);
    }
}

/* The whole text, cut at `cut` (beyond its end: not at all). False: *err. */
static inline bool output_log_run(struct output_log *log, const struct output_options *o, struct str text, size_t cut,
                                  struct error *err)
{
    *log = (struct output_log){.ordered = true};
    buf_init(&log->text, (size_t)1 << 26);
    struct output_parser *p = output_parser_create(o, err);
    bool ok = p && output_parser_feed(p, str_slice(text, 0, cut), err);
    if (ok && cut < text.len) {
        output_log_drain(log, p);
        ok = output_parser_feed(p, str_slice(text, cut, text.len), err);
    }
    if (ok) {
        output_log_drain(log, p);
        ok = output_parser_end(p, err);
        output_log_drain(log, p);
    }
    output_parser_free(p);
    return ok;
}

/* The same in pieces of n bytes. */
static inline bool output_log_run_by(struct output_log *log, const struct output_options *o, struct str text, size_t n,
                                     struct error *err)
{
    *log = (struct output_log){.ordered = true};
    buf_init(&log->text, (size_t)1 << 26);
    struct output_parser *p = output_parser_create(o, err);
    bool ok = p != NULL;
    for (size_t at = 0; ok && at < text.len; at += n) {
        ok = output_parser_feed(p, str_slice(text, at, at + n), err);
        if (ok) {
            output_log_drain(log, p);
        }
    }
    ok = ok && output_parser_end(p, err);
    if (ok) {
        output_log_drain(log, p);
    }
    output_parser_free(p);
    return ok;
}

#endif
