/* traceparent, tracestate and X-Request-Id over arbitrary bytes. The input's lines are the values of those fields, in
 * turn. What is accepted is accepted again after it was written, and holds nothing that a log or a header must not. */
#include "http/trace_context.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok) {
        abort();
    }
}

static void check_parent(struct str value)
{
    struct trace_context first, second;
    char text[TRACEPARENT_LEN + 1];
    if (!traceparent_parse(value, &first)) {
        return;
    }
    traceparent_write(&first, text);
    check(traceparent_parse(str_of(text), &second));
    check(memcmp(first.trace_id, second.trace_id, TRACE_ID_SIZE) == 0);
    check(memcmp(first.span_id, second.span_id, SPAN_ID_SIZE) == 0 && first.sampled == second.sampled);
}

static void check_state(struct str value)
{
    struct buf once, twice;
    buf_init(&once, TRACESTATE_MAX);
    buf_init(&twice, TRACESTATE_MAX);
    if (tracestate_parse(value, &once)) {
        check(!once.failed && once.len > 0);
        check(tracestate_parse(buf_view(&once), &twice));
        check(str_eq(buf_view(&once), buf_view(&twice)));
        for (size_t i = 0; i < once.len; i++) {
            check(once.data[i] >= 0x20 && once.data[i] < 0x7f);
        }
    }
    buf_release(&once);
    buf_release(&twice);
}

static void check_id(struct str value)
{
    if (!request_id_valid(value)) {
        return;
    }
    check(value.len > 0 && value.len <= REQUEST_ID_MAX);
    for (size_t i = 0; i < value.len; i++) {
        check(value.ptr[i] > 0x20 && value.ptr[i] < 0x7f && !strchr("\"\\/%,;?#", value.ptr[i]));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str rest = {(const char *)data, size}, line;
    struct http_header headers[LIMIT_HTTP_HEADER_COUNT];
    struct http_request request = {.headers = headers};
    while (request.n_headers < LIMIT_HTTP_HEADER_COUNT && str_split(&rest, '\n', &line)) {
        static const struct str names[] = {{"traceparent", 11}, {"tracestate", 10}, {"x-request-id", 12}};
        headers[request.n_headers] = (struct http_header){names[request.n_headers % 3], line};
        request.n_headers++;
        check_parent(line);
        check_state(line);
        check_id(line);
    }
    struct trace_context context;
    struct buf state;
    buf_init(&state, TRACESTATE_MAX);
    if (!trace_context_of(&request, &context, &state)) {
        check(state.len == 0);
    }
    check(!state.failed);
    buf_release(&state);
    return 0;
}
