/* A workload's file: whatever is accepted gives bodies that are JSON objects with a prompt and a model, arrival times
 * in order, and checks that can be asked.
 *
 * The first byte: bit 0 the API, bit 1 a stream, bit 2 --max-tokens, bit 3 --ignore-eos, bit 4 --body. */
#include "base/json.h"
#include "cli/loadgen_workload.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MAX_LINES 32

static void check(bool ok)
{
    if (!ok) {
        __builtin_trap();
    }
}

static void check_body(const struct loadgen_workload *w, uint64_t index, enum loadgen_api api)
{
    struct buf body;
    struct error err;
    buf_init(&body, LOADGEN_BODY_MAX);
    loadgen_workload_body(w, index, "m", &body);
    struct json *root = json_parse(buf_view(&body), 80, &err);
    check(root && json_type(root) == JSON_OBJECT);
    check(json_get(root, "model") && json_get(root, api == LOADGEN_CHAT ? "messages" : "prompt"));
    check(!json_get(root, "check") && !json_get(root, "at_ms"));
    json_free(root);
    buf_release(&body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    struct loadgen_workload_options o = {
        .api = data[0] & 1 ? LOADGEN_COMPLETIONS : LOADGEN_CHAT,
        .stream = data[0] & 2,
        .max_tokens = data[0] & 4 ? 5 : 0,
        .ignore_eos = data[0] & 8,
        .body = data[0] & 16 ? "{\"max_tokens\":3,\"temperature\":0,\"ignore_eos\":null}" : NULL,
    };
    struct error err = {0}, why;
    struct loadgen_workload *w = loadgen_workload_parse(&o, (struct str){(const char *)data + 1, size - 1}, &err);
    check(w ? err.code == ERR_NONE : err.code != ERR_NONE && err.msg[0]);
    double before = 0;
    for (size_t i = 0; w && i < loadgen_workload_lines(w) && i < MAX_LINES; i++) {
        const struct loadgen_check *c = loadgen_workload_check(w, i);
        check_body(w, i, o.api);
        check(loadgen_workload_at_ms(w, i) >= before);
        before = loadgen_workload_at_ms(w, i);
        if (c) {
            (void)!loadgen_check_passes(c, STR("some text {\"a\": 1}"), "stop", &why);
        }
    }
    loadgen_workload_free(w);
    return 0;
}
