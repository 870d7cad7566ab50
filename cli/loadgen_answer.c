#include "cli/loadgen_answer.h"

#include "base/array.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/utf8.h"
#include "http/sse_reader.h"

#include <stdio.h>
#include <stdlib.h>

#define REPLY_MAX    LIMIT_HTTP_REPLY
#define ARRIVALS_MAX ((size_t)1 << 24)
#define EVENT_MAX    MIB(4)
#define REPLY_DEPTH  64

static const char *const outcome_names[] = {
#define X(code, name) [LOADGEN_##code] = name,
    LOADGEN_OUTCOMES(X)
#undef X
};

const char *loadgen_outcome_name(enum loadgen_outcome outcome)
{
    return outcome_names[outcome];
}

/* ---- text for people ---- */

void loadgen_clean_text(struct str s, char *out, size_t size)
{
    size_t n = 0;
    for (uint32_t c; s.len;) {
        size_t used = utf8_decode(s, &c);
        bool shown = c != UTF8_INVALID && c >= 0x20 && !(c >= 0x7f && c < 0xa0);
        size_t width = shown ? used : 1;
        if (n + width >= size) {
            break;
        }
        memcpy(out + n, shown ? s.ptr : c == UTF8_INVALID ? "?" : " ", width);
        n += width;
        s = str_slice(s, used, s.len);
    }
    out[n] = '\0';
}

/* {"error": {"message": ...}}, {"error": "..."}, {"message": ...} and {"detail": ...} are all about. */
static struct str message_of(const struct json *root)
{
    const struct json *error = json_get(root, "error"), *detail = json_get(root, "detail");
    const struct json *found = json_type(error) == JSON_OBJECT   ? json_get(error, "message")
                               : json_type(error) == JSON_STRING ? error
                               : json_get(root, "message")       ? json_get(root, "message")
                                                                 : detail;
    return json_str(found);
}

void loadgen_error_text(struct str body, char *out, size_t size)
{
    struct error ignored;
    struct json *root = json_parse(body, REPLY_DEPTH, &ignored);
    struct str message = message_of(root);
    loadgen_clean_text(str_trim(message.len ? message : body), out, size);
    json_free(root);
}

/* ---- gathering ---- */

void loadgen_reply_init(struct loadgen_reply *r)
{
    *r = (struct loadgen_reply){0};
    buf_init(&r->bytes, REPLY_MAX);
}

void loadgen_reply_release(struct loadgen_reply *r)
{
    buf_release(&r->bytes);
    free(r->arrivals);
    r->arrivals = NULL;
}

bool loadgen_reply_add(struct loadgen_reply *r, struct str bytes, int64_t at_ns)
{
    struct error ignored;
    buf_append(&r->bytes, bytes);
    if (r->bytes.failed ||
        !array_reserve(&r->arrivals, &r->arrivals_cap, r->n_arrivals + 1, ARRIVALS_MAX, "pieces", &ignored)) {
        return false;
    }
    r->arrivals[r->n_arrivals++] = (struct loadgen_arrival){r->bytes.len, at_ns};
    return true;
}

/* ---- reading ---- */

static void fail(struct loadgen_answer *a, enum loadgen_outcome outcome, struct str message)
{
    a->outcome = outcome;
    loadgen_clean_text(message, a->message, sizeof a->message);
}

static bool is_output(const struct json *v)
{
    return (json_type(v) == JSON_STRING && json_str(v).len) || (json_type(v) == JSON_ARRAY && json_len(v)) ||
           json_type(v) == JSON_OBJECT;
}

/* part: a choice's delta or message, or the choice itself (completions). */
static bool has_output(const struct json *part)
{
    static const char *const fields[] = {"content", "text",       "reasoning_content", "reasoning",
                                         "refusal", "tool_calls", "function_call",     "audio"};
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        if (is_output(json_get(part, fields[i]))) {
            return true;
        }
    }
    return false;
}

/* The choices of a chunk or of a whole reply; true: one of them has output. */
static bool read_choices(struct loadgen_answer *a, const struct json *choices, const char *part_name)
{
    bool output = false;
    for (size_t i = 0; i < json_len(choices); i++) {
        const struct json *choice = json_at(choices, i), *index = json_get(choice, "index");
        const struct json *part = json_get(choice, part_name), *reason = json_get(choice, "finish_reason");
        part = part ? part : choice;
        output = has_output(part) || output;
        if (index ? json_int(index) != 0 : i != 0) {
            continue;
        }
        buf_append(&a->text, json_str(json_get(part, json_get(part, "content") ? "content" : "text")));
        if (json_type(reason) == JSON_STRING) {
            loadgen_clean_text(json_str(reason), a->finish_reason, sizeof a->finish_reason);
        }
    }
    return output;
}

static uint64_t count_of(const struct json *v)
{
    int64_t n = json_type(v) == JSON_INT ? json_int(v) : 0;
    return n > 0 ? (uint64_t)n : 0;
}

static void read_usage(struct loadgen_answer *a, const struct json *usage)
{
    if (json_type(usage) == JSON_OBJECT && json_type(json_get(usage, "completion_tokens")) == JSON_INT) {
        a->has_usage = true;
        a->prompt_tokens = count_of(json_get(usage, "prompt_tokens"));
        a->completion_tokens = count_of(json_get(usage, "completion_tokens"));
        a->cached_tokens = count_of(json_get(json_get(usage, "prompt_tokens_details"), "cached_tokens"));
    }
}

static void read_common(struct loadgen_answer *a, const struct json *root)
{
    struct str fingerprint = json_str(json_get(root, "system_fingerprint"));
    if (fingerprint.len) {
        loadgen_clean_text(fingerprint, a->fingerprint, sizeof a->fingerprint);
    }
    read_usage(a, json_get(root, "usage"));
}

static bool add_gap(struct loadgen_answer *a, int64_t ns)
{
    struct error err;
    if (!array_reserve(&a->gaps, &a->gaps_cap, a->n_gaps + 1, ARRIVALS_MAX, "token events", &err)) {
        fail(a, LOADGEN_NOT_UNDERSTOOD, str_of(err.msg));
        return false;
    }
    a->gaps[a->n_gaps++] = ns;
    return true;
}

static bool count_token(struct loadgen_answer *a, int64_t at_ns)
{
    bool ok = a->n_events == 0 || add_gap(a, at_ns - a->last_ns);
    a->first_ns = a->n_events ? a->first_ns : at_ns;
    a->last_ns = at_ns;
    a->n_events++;
    return ok;
}

static bool read_chunk(struct loadgen_answer *a, const struct json *root, int64_t at_ns)
{
    const struct json *choices = json_get(root, "choices");
    if (json_get(root, "error")) {
        struct str message = message_of(root);
        fail(a, LOADGEN_STREAM_ERROR, message.len ? message : STR("an error without a message"));
        return false;
    }
    read_common(a, root);
    if (json_len(choices) == 0) {
        return true; /* usage, progress */
    }
    a->end_ns = at_ns;
    return !read_choices(a, choices, "delta") || count_token(a, at_ns);
}

static bool read_event(struct loadgen_answer *a, const struct sse_incoming *event, int64_t at_ns, bool *done)
{
    struct error err;
    if (*done || str_eq(event->data, STR("[DONE]"))) {
        *done = true;
        return true;
    }
    struct json *root = json_parse(event->data, REPLY_DEPTH, &err);
    bool ok = root && read_chunk(a, root, at_ns);
    if (!root) {
        fail(a, LOADGEN_NOT_UNDERSTOOD, str_of(err.msg));
    }
    json_free(root);
    return ok;
}

/* Every event of the stream, with the time of the piece that completes it. */
static bool read_events(struct loadgen_answer *a, const struct loadgen_reply *r, bool *done)
{
    struct sse_reader reader;
    struct sse_incoming event;
    struct error err;
    bool ok = true;
    sse_reader_init(&reader, EVENT_MAX);
    for (size_t i = 0, from = 0; i < r->n_arrivals && ok; from = r->arrivals[i++].end) {
        struct str piece = str_slice(buf_view(&r->bytes), from, r->arrivals[i].end);
        enum sse_read what = SSE_READ_MORE;
        while (ok && (what = sse_reader_next(&reader, &piece, &event, &err)) == SSE_READ_EVENT) {
            ok = read_event(a, &event, r->arrivals[i].at_ns, done);
        }
        if (what == SSE_READ_ERROR) {
            fail(a, LOADGEN_NOT_UNDERSTOOD, str_of(err.msg));
            ok = false;
        }
    }
    sse_reader_release(&reader);
    return ok;
}

static void read_stream(struct loadgen_answer *a, const struct loadgen_reply *r)
{
    bool done = false;
    if (!r->is_stream) {
        fail(a, LOADGEN_NOT_UNDERSTOOD, STR("the reply is no stream of events (--no-stream asks for none)"));
        return;
    }
    if (!read_events(a, r, &done)) {
        return;
    }
    if (!a->finish_reason[0] && !done) {
        fail(a, LOADGEN_CUT_OFF, STR("the stream ended without a finish reason"));
    } else if (a->end_ns == 0) {
        fail(a, LOADGEN_NOT_UNDERSTOOD, STR("the stream has no choices"));
    } else if (a->n_events == 0) {
        a->first_ns = a->last_ns = a->end_ns;
    }
}

static void read_whole(struct loadgen_answer *a, const struct loadgen_reply *r)
{
    struct error err;
    struct json *root = json_parse(buf_view(&r->bytes), REPLY_DEPTH, &err);
    const struct json *choices = json_get(root, "choices");
    a->end_ns = r->n_arrivals ? r->arrivals[r->n_arrivals - 1].at_ns : 0;
    if (!root) {
        fail(a, LOADGEN_NOT_UNDERSTOOD, str_of(err.msg));
    } else if (json_get(root, "error")) {
        fail(a, LOADGEN_STREAM_ERROR, message_of(root));
    } else if (json_len(choices) == 0) {
        fail(a, LOADGEN_NOT_UNDERSTOOD, STR("the reply has no choices"));
    } else {
        read_common(a, root);
        (void)read_choices(a, choices, "message");
    }
    json_free(root);
}

static enum loadgen_outcome outcome_of(enum error_code code)
{
    switch (code) {
    case ERR_UNAVAILABLE:
        return LOADGEN_NO_CONNECTION;
    case ERR_DEADLINE:
        return LOADGEN_TIMEOUT;
    case ERR_TOO_LARGE:
    case ERR_NO_MEMORY:
        return LOADGEN_NOT_UNDERSTOOD;
    case ERR_CANCELLED:
        return LOADGEN_INTERRUPTED;
    default:
        return LOADGEN_BROKEN;
    }
}

void loadgen_answer_read(const struct loadgen_reply *r, bool wants_stream, struct loadgen_answer *out)
{
    *out = (struct loadgen_answer){.status = r->status};
    buf_init(&out->text, REPLY_MAX);
    if (r->failure.code) {
        fail(out, outcome_of(r->failure.code), str_of(r->failure.msg));
    } else if (r->status != 200) {
        out->outcome = LOADGEN_STATUS;
        loadgen_error_text(buf_view(&r->bytes), out->message, sizeof out->message);
    } else if (wants_stream) {
        read_stream(out, r);
    } else {
        read_whole(out, r);
    }
    if (!out->has_usage) {
        out->completion_tokens = out->n_events;
    }
}

void loadgen_answer_release(struct loadgen_answer *a)
{
    buf_release(&a->text);
    free(a->gaps);
    a->gaps = NULL;
}
