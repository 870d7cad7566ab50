/* What a server says to a session that waits for answers: the first byte chooses era and transport, the second how the
 * bytes are split; then lines, each of them a message. Results are taken for lists of tools and for results of calls.
 * Over HTTP, what an `endpoint` event may say is the first line. */
#include "base/limits.h"
#include "base/log.h"
#include "mcp/content.h"
#include "mcp/http_text.h"
#include "mcp/lines.h"
#include "mcp/tool.h"
#include "tests/support/mcp_peer.h"

#include <string.h>

#define N_REQUESTS 4

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok) {
        __builtin_trap();
    }
}

static void take_tools(const struct json *result)
{
    const struct json *tools = json_get(result, "tools");
    for (size_t i = 0; json_type(tools) == JSON_ARRAY && i < json_len(tools); i++) {
        struct tool t;
        struct error err = {0};
        struct buf out;
        buf_init(&out, LIMIT_MCP_MESSAGE);
        if (tool_read(json_at(tools, i), i % 2, &t, &err)) {
            struct mcp_name *names[] = {&t.name}, *order[1];
            struct json_writer w = json_writer(&out);
            t.name.server = STR("peer");
            names_merge(names, 1, order);
            check(t.name.merged[0] && strlen(t.name.merged) <= LIMIT_MCP_TOOL_NAME);
            tool_put_openai(&t, &w);
            for (size_t k = 0; k < t.n_headers; k++) {
                tool_header_value(&t.headers[k], result, &out);
            }
        } else {
            check(err.code == ERR_PROTOCOL);
        }
        buf_release(&out);
    }
}

static void on_answer(void *arg, const struct json *result, const struct error *err)
{
    int *n_answers = arg;
    struct error failure = {0};
    struct buf text;
    ++*n_answers;
    check((result != NULL) == (err == NULL) && (!err || err->msg[0]));
    buf_init(&text, LIMIT_MCP_MESSAGE);
    if (result && !content_text(result, 100, &text, &failure)) {
        check(failure.code != ERR_NONE);
    }
    take_tools(result);
    buf_release(&text);
}

static void on_progress(void *arg, double progress, double total, struct str message)
{
    (void)arg;
    (void)progress;
    (void)total;
    (void)message;
}

static void begin_requests(struct peer *p, int *n_answers)
{
    struct error err = {0};
    for (int i = 0; i < N_REQUESTS; i++) {
        check(session_request(
                  p->session,
                  &(struct session_request){
                      .method = "tools/call", .on_progress = on_progress, .done = on_answer, .arg = &n_answers[i]},
                  &err) != 0);
    }
}

static void read_lines(struct peer *p, struct str input, size_t piece)
{
    struct lines l;
    struct str line;
    lines_init(&l, KIB(64));
    for (size_t from = 0; from < input.len; from += piece) {
        struct str bytes = str_slice(input, from, from + piece);
        enum lines_read what;
        while ((what = lines_next(&l, &bytes, &line)) != LINES_MORE) {
            if (what == LINES_LINE && !p->transport.closing) {
                p->transport.events.on_message(p->transport.events.arg, line);
            }
        }
    }
    lines_release(&l);
}

static void join_endpoint(struct str line)
{
    static const struct str base = STR("https://host:1/a/sse");
    struct buf out;
    struct error err = {0};
    buf_init(&out, KIB(8));
    if (http_text_join(base, str_slice(line, 0, str_find_char(line, '\n')), &out, &err)) {
        check(str_eq_nocase(http_text_origin(buf_view(&out)), STR("https://host:1")));
    }
    buf_release(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct peer p;
    int n_answers[N_REQUESTS] = {0};
    if (size < 2) {
        return 0;
    }
    log_set_level(LOG_LEVEL_ERROR);
    struct str input = {(const char *)data + 2, size - 2};
    bool http = data[0] & 1, modern = data[0] & 2, ready = !(data[0] & 4);
    peer_start(&p, http ? MCP_HTTP : MCP_STDIO, NULL);
    if (ready) {
        peer_become_ready(&p, modern ? "2026-07-28" : "2025-03-26",
                          "{\"tools\":{\"listChanged\":true},\"logging\":{}}");
        begin_requests(&p, n_answers);
    }
    if (http) {
        join_endpoint(input);
    }
    read_lines(&p, input, (size_t)data[1] + 1);
    for (int i = 0; i < N_REQUESTS; i++) {
        check(n_answers[i] <= 1);
    }
    peer_end(&p);
    check(p.gone);
    return 0;
}
