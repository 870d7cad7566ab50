/* Lines first, then what each line means. A line is complete at its CR or LF; the LF of a CR LF is skipped when it
 * comes, so that an event never waits for it. */
#include "http/sse_reader.h"

static const char byte_order_mark[] = "\xef\xbb\xbf";
#define MARK_SIZE 3

void sse_reader_init(struct sse_reader *r, size_t max_event)
{
    *r = (struct sse_reader){.retry_ms = -1, .max_event = max_event};
    buf_init(&r->line, max_event);
    buf_init(&r->name, max_event);
    buf_init(&r->data, max_event + 1); /* the LF behind the last line is taken off again */
    buf_init(&r->id, max_event);
}

void sse_reader_release(struct sse_reader *r)
{
    buf_release(&r->line);
    buf_release(&r->name);
    buf_release(&r->data);
    buf_release(&r->id);
}

/* ---- lines ---- */

/* The mark may come in pieces; bytes that turn out to be none belong to the first line. */
static void skip_mark(struct sse_reader *r, struct str *input)
{
    while (r->mark >= 0 && r->mark < MARK_SIZE && input->len) {
        if (input->ptr[0] != byte_order_mark[r->mark]) {
            buf_append_bytes(&r->line, byte_order_mark, (size_t)r->mark);
            r->mark = -1;
            return;
        }
        r->mark++;
        *input = str_slice(*input, 1, input->len);
    }
    if (r->mark == MARK_SIZE) {
        r->mark = -1;
    }
}

static size_t line_length(struct str s)
{
    size_t n = 0;
    while (n < s.len && s.ptr[n] != '\n' && s.ptr[n] != '\r') {
        n++;
    }
    return n;
}

/* Moves bytes from input to the line; true: the line is complete. */
static bool read_line(struct sse_reader *r, struct str *input)
{
    if (r->mark >= 0) {
        skip_mark(r, input);
    }
    if (r->skip_lf && input->len) {
        *input = str_slice(*input, input->ptr[0] == '\n', input->len);
        r->skip_lf = false;
    }
    size_t n = line_length(*input);
    buf_append(&r->line, str_slice(*input, 0, n));
    if (n == input->len) {
        *input = str_slice(*input, n, n);
        return false;
    }
    r->skip_lf = input->ptr[n] == '\r';
    *input = str_slice(*input, n + 1, input->len);
    return true;
}

/* ---- fields ---- */

static void set(struct buf *b, struct str value)
{
    buf_clear(b);
    buf_append(b, value);
}

static void set_retry(struct sse_reader *r, struct str value)
{
    int64_t ms;
    if (value.len && value.ptr[0] != '-' && str_to_i64(value, &ms)) {
        r->retry_ms = ms;
    }
}

static void read_field(struct sse_reader *r, struct str line)
{
    size_t colon = str_find_char(line, ':');
    struct str field = str_slice(line, 0, colon), value = {"", 0};
    if (colon != STR_NPOS) {
        bool blank = colon + 1 < line.len && line.ptr[colon + 1] == ' ';
        value = str_slice(line, colon + 1 + blank, line.len);
    }
    if (str_eq(field, STR("data"))) {
        buf_append(&r->data, value);
        buf_putc(&r->data, '\n');
    } else if (str_eq(field, STR("event"))) {
        set(&r->name, value);
    } else if (str_eq(field, STR("id")) && str_find_char(value, '\0') == STR_NPOS) {
        set(&r->id, value);
    } else if (str_eq(field, STR("retry"))) {
        set_retry(r, value);
    } /* comments (an empty name) and other fields mean nothing */
}

static bool all_ok(const struct sse_reader *r, struct error *err)
{
    const struct buf *const bufs[] = {&r->line, &r->name, &r->data, &r->id};
    for (size_t i = 0; i < sizeof bufs / sizeof bufs[0]; i++) {
        if (!buf_ok(bufs[i], "a server-sent event", err)) {
            return false;
        }
    }
    return true;
}

/* At an empty line. False: there is nothing to hand out. */
static bool dispatch(struct sse_reader *r, struct sse_incoming *event)
{
    if (r->data.len == 0) {
        buf_clear(&r->name);
        return false;
    }
    event->name = r->name.len ? buf_view(&r->name) : STR("message");
    event->data = str_slice(buf_view(&r->data), 0, r->data.len - 1);
    event->id = buf_view(&r->id);
    r->dispatched = true;
    return true;
}

enum sse_read sse_reader_next(struct sse_reader *r, struct str *input, struct sse_incoming *event, struct error *err)
{
    if (r->dispatched) {
        buf_clear(&r->data);
        buf_clear(&r->name);
        r->dispatched = false;
    }
    while (input->len) {
        bool complete = read_line(r, input), empty = r->line.len == 0;
        if (complete && !empty) {
            read_field(r, buf_view(&r->line));
        }
        if (!all_ok(r, err)) {
            return SSE_READ_ERROR;
        }
        if (complete) {
            buf_clear(&r->line);
        }
        if (complete && empty && dispatch(r, event)) {
            return SSE_READ_EVENT;
        }
    }
    return SSE_READ_MORE;
}
