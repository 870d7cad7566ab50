/* Structs that cross the ABI: a size first, copied up to what both sides know. Errors likewise. */
#include "lib/tandem_internal.h"

#include "base/array.h"
#include "base/limits.h"

#include <stdio.h>

#define STRUCT_MAX KIB(64) /* a size beyond it was never set */

static struct tandem_model_options default_model_options(void)
{
    return (struct tandem_model_options){.size = sizeof(struct tandem_model_options), .prefix_cache = true};
}

static struct tandem_request default_request(void)
{
    struct tandem_request r = {.size = sizeof r,
                               .add_special_tokens = true,
                               .parallel_tool_calls = true,
                               .thinking = -1,
                               .thinking_budget = -1,
                               .max_tokens = -1,
                               .n_choices = 1,
                               .cache_prompt = true};
#define X(name, type, fallback, min, max, help) r.name = fallback;
    SAMPLING_TABLE(X)
#undef X
    return r;
}

bool options__take(void *to, size_t known, const void *from, size_t size, const char *name, struct error *err)
{
    const unsigned char *bytes = from;
    if (size < sizeof size || size > STRUCT_MAX) {
        return error_set_param(err, ERR_INVALID, "size",
                               "%s has no size; its init function sets it before anything else is set.", name);
    }
    for (size_t i = known; i < size; i++) {
        if (bytes[i]) {
            return error_set_param(err, ERR_UNSUPPORTED, "size",
                                   "%s says something that this library does not know: it is older than the program.",
                                   name);
        }
    }
    memcpy(to, from, size < known ? size : known);
    return true;
}

void options__give(void *to, size_t size, const void *from, size_t known)
{
    size_t n = size < known ? size : known;
    if (n > sizeof size) {
        memcpy((char *)to + sizeof size, (const char *)from + sizeof size, n - sizeof size);
    }
    if (size > known && size <= STRUCT_MAX) {
        memset((char *)to + known, 0, size - known);
    }
}

/* A program with a newer header has more members; they are zero, which is their default. */
static void init(void *to, size_t size, const void *defaults, size_t known)
{
    memset(to, 0, size);
    memcpy(to, defaults, size < known ? size : known);
    if (size >= sizeof size) {
        memcpy(to, &size, sizeof size);
    }
}

void tandem_model_options_init(struct tandem_model_options *options, size_t size)
{
    struct tandem_model_options defaults = default_model_options();
    init(options, size, &defaults, sizeof defaults);
}

void tandem_request_init(struct tandem_request *request, size_t size)
{
    struct tandem_request defaults = default_request();
    init(request, size, &defaults, sizeof defaults);
}

/* ---- errors ---- */

/* Codes of the server that a library has no use for are left out: they are internal here. */
static const struct {
    enum error_code own;
    enum tandem_code code;
} codes[] = {
    {ERR_NONE, TANDEM_OK},
    {ERR_INVALID, TANDEM_INVALID},
    {ERR_UNKNOWN_FIELD, TANDEM_INVALID},
    {ERR_UNSUPPORTED, TANDEM_UNSUPPORTED},
    {ERR_NOT_IMPLEMENTED, TANDEM_UNSUPPORTED},
    {ERR_CONTEXT_EXCEEDED, TANDEM_CONTEXT_EXCEEDED},
    {ERR_NOT_FOUND, TANDEM_NOT_FOUND},
    {ERR_MODEL_NOT_FOUND, TANDEM_NOT_FOUND},
    {ERR_TOO_LARGE, TANDEM_TOO_LARGE},
    {ERR_OVERLOADED, TANDEM_OVERLOADED},
    {ERR_UNAVAILABLE, TANDEM_OVERLOADED},
    {ERR_TIMEOUT, TANDEM_DEADLINE},
    {ERR_DEADLINE, TANDEM_DEADLINE},
    {ERR_NO_MEMORY, TANDEM_NO_MEMORY},
    {ERR_IO, TANDEM_IO},
    {ERR_FORBIDDEN, TANDEM_IO},
    {ERR_FORMAT, TANDEM_BAD_FORMAT},
    {ERR_BAD_NUMBERS, TANDEM_BAD_NUMBERS},
    {ERR_DEVICE, TANDEM_DEVICE},
    {ERR_CANCELLED, TANDEM_CANCELLED},
};

enum tandem_code error__code(enum error_code code)
{
    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        if (codes[i].own == code) {
            return codes[i].code;
        }
    }
    return TANDEM_INTERNAL;
}

void error__give(struct tandem_error *to, const struct error *from)
{
    if (to) {
        to->code = error__code(from->code);
        snprintf(to->param, sizeof to->param, "%s", from->param);
        snprintf(to->message, sizeof to->message, "%s", from->msg);
    }
}

const char *tandem_code_name(enum tandem_code code)
{
    static const char *const names[] = {"OK",         "INVALID",     "UNSUPPORTED", "CONTEXT_EXCEEDED", "NOT_FOUND",
                                        "TOO_LARGE",  "OVERLOADED",  "DEADLINE",    "NO_MEMORY",        "IO",
                                        "BAD_FORMAT", "BAD_NUMBERS", "DEVICE",      "CANCELLED",        "INTERNAL"};
    size_t i = (size_t)code;
    return i < ARRAY_LEN(names) ? names[i] : "INTERNAL";
}
