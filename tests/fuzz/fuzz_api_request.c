/* Bodies of every route through JSON parsing and field decoding: first byte chooses the route, whether the journal had
 * it, and whether unknown fields are refused. What a response is made of is made, too. */
#include "api/anthropic/anthropic.h"
#include "api/ollama/ollama.h"
#include "api/responses/responses.h"
#include "base/array.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool (*const decoders[])(struct call *c, struct error *err) = {
    api__decode_chat,       api__decode_completion,  api__decode_infill,          api__decode_tokenize,
    api__decode_detokenize, api__decode_template,    api__decode_messages,        api__decode_count,
    api__decode_responses,  api__decode_ollama_chat, api__decode_ollama_generate, api__decode_ollama_show,
};

static const struct route *route_of(bool (*decode)(struct call *c, struct error *err))
{
    int i = 0;
    while (api__routes[i].decode != decode) {
        i++;
    }
    return &api__routes[i];
}

static void use_response(struct call *c)
{
    struct error err = {0};
    size_t n = responses_n_droppable(c);
    struct json_writer w = json_writer(&c->reply);
    struct responses_view v = {.call = c, .status = "queued", .model = "m"};
    bool made = responses_messages(c, 0, &err) && responses_messages(c, n, &err);
    if (!made && !err.msg[0]) {
        __builtin_trap();
    }
    responses_put_object(&w, &v);
    for (size_t i = 0; i < responses_n_items(c); i++) {
        responses_put_item(&w, c, i);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = {0};
    if (size < 1) {
        return 0;
    }
    struct app app = {.options = app_options_default()};
    app.options.strict_fields = data[0] & 0x80;
    size_t route = (data[0] & 0x3F) % ARRAY_LEN(decoders);
    struct call c = {
        .app = &app, .route = route_of(decoders[route]), .arena = arena_create(MIB(16)), .rebuilt = data[0] & 0x40};
    buf_init(&c.ignored, KIB(2));
    buf_init(&c.reply, MIB(1));
    c.body = c.arena ? json_parse((struct str){(const char *)data + 1, size - 1}, LIMIT_JSON_DEPTH, &err) : NULL;
    bool ok = c.body && decoders[route](&c, &err);
    if (c.body && !ok && (err.code == ERR_NONE || !err.msg[0])) {
        __builtin_trap(); /* a refusal must say why */
    }
    if (ok && decoders[route] == api__decode_responses) {
        use_response(&c);
    }
    json_free(c.body);
    buf_release(&c.ignored);
    buf_release(&c.reply);
    arena_free(c.arena);
    return 0;
}
