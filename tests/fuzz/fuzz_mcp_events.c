/* A stream of server-sent events as the answer of a server: each event's data is a message for a session (over
 * http/sse_reader.h, as mcp/exchange.c reads it). The first byte says how the bytes are split. */
#include "base/limits.h"
#include "base/log.h"
#include "http/sse_reader.h"
#include "tests/support/mcp_peer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok) {
        __builtin_trap();
    }
}

static void count(void *arg, const struct json *result, const struct error *err)
{
    check((result != NULL) == (err == NULL));
    ++*(int *)arg;
}

static void read_stream(struct peer *p, struct str input, size_t piece)
{
    struct sse_reader r;
    struct sse_incoming event;
    struct error err = {0};
    enum sse_read what = SSE_READ_MORE;
    sse_reader_init(&r, KIB(64));
    for (size_t from = 0; from < input.len && what != SSE_READ_ERROR; from += piece) {
        struct str bytes = str_slice(input, from, from + piece);
        while ((what = sse_reader_next(&r, &bytes, &event, &err)) == SSE_READ_EVENT) {
            if (event.data.len && str_eq(event.name, STR("message")) && !p->transport.closing) {
                p->transport.events.on_message(p->transport.events.arg, event.data);
            }
        }
    }
    sse_reader_release(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct peer p;
    struct error err = {0};
    int n = 0;
    if (size < 1) {
        return 0;
    }
    log_set_level(LOG_LEVEL_ERROR);
    peer_start(&p, MCP_HTTP, "2025-11-25");
    peer_say(&p, "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"protocolVersion\":\"2025-11-25\",\"capabilities\":{"
                 "\"tools\":{}}}}");
    check(p.ready);
    uint64_t id = session_request(p.session, &(struct session_request){.method = "m", .done = count, .arg = &n}, &err);
    check(id == 2);
    read_stream(&p, (struct str){(const char *)data + 1, size - 1}, (size_t)data[0] + 1);
    check(n <= 1);
    peer_end(&p);
    return 0;
}
