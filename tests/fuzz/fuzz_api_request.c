/* Bodies of every route through JSON parsing and field decoding: first byte chooses the route and whether unknown
 * fields are refused. */
#include "api/anthropic.h"
#include "base/array.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool (*const decoders[])(struct call *c, struct error *err) = {
    api__decode_chat,       api__decode_completion, api__decode_infill,   api__decode_tokenize,
    api__decode_detokenize, api__decode_template,   api__decode_messages, api__decode_count,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = {0};
    if (size < 1) {
        return 0;
    }
    struct app app = {.options = app_options_default()};
    app.options.strict_fields = data[0] & 0x80;
    struct call c = {.app = &app, .arena = arena_create(MIB(16))};
    buf_init(&c.ignored, KIB(2));
    buf_init(&c.reply, MIB(1));
    c.body = c.arena ? json_parse((struct str){(const char *)data + 1, size - 1}, LIMIT_JSON_DEPTH, &err) : NULL;
    if (c.body && !decoders[(data[0] & 0x7F) % ARRAY_LEN(decoders)](&c, &err) &&
        (err.code == ERR_NONE || !err.msg[0])) {
        __builtin_trap(); /* a refusal must say why */
    }
    json_free(c.body);
    buf_release(&c.ignored);
    buf_release(&c.reply);
    arena_free(c.arena);
    return 0;
}
