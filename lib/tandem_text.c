/* Text to tokens and back, and chats to prompts: without an engine, on the caller's thread. */
#include "lib/tandem_internal.h"

#include "base/limits.h"
#include "base/sys_locale.h"

#include <stdlib.h>

void tandem_free(void *memory)
{
    free(memory);
}

static bool check_flags(unsigned flags, unsigned known, struct tandem_error *error)
{
    struct error err = {0};
    if ((flags & ~known) == 0) {
        return true;
    }
    error_set_param(&err, ERR_INVALID, "flags", "The flags 0x%x are none of this function's, which are 0x%x.",
                    flags & ~known, known);
    error__give(error, &err);
    return false;
}

int32_t *tandem_tokenize(const struct tandem_model *model, const char *text, size_t size, unsigned flags, size_t *n,
                         struct tandem_error *error)
{
    struct error err = {0};
    struct token_list tokens = {0};
    struct encode_options how = {.add_special = flags & TANDEM_ADD_SPECIAL,
                                 .parse_special = flags & TANDEM_PARSE_SPECIAL};
    if (!check_flags(flags, TANDEM_ADD_SPECIAL | TANDEM_PARSE_SPECIAL, error)) {
        return NULL;
    }
    struct str whole = size == SIZE_MAX ? str_of(text) : (struct str){text, size};
    bool ok = tokenizer_encode(model->tokenizer, whole, how, &tokens, &err);
    if (ok && !tokens.ids && !(tokens.ids = malloc(sizeof tokens.ids[0]))) {
        ok = error_set(&err, ERR_NO_MEMORY, "There is no memory for tokens.");
    }
    if (!ok) {
        token_list_release(&tokens);
        error__give(error, &err);
        return NULL;
    }
    *n = tokens.n;
    return tokens.ids;
}

/* Ownership of its bytes leaves; an empty text is one too. */
static char *take_text(struct buf *text, const char *what, size_t *size, struct tandem_error *error)
{
    struct error err = {0};
    size_t len = text->len;
    char *taken = NULL;
    if (buf_ok(text, what, &err)) {
        taken = len ? buf_take(text, &len) : calloc(1, 1);
        if (!taken) {
            error_set(&err, ERR_NO_MEMORY, "There is no memory for %s.", what);
        }
    }
    buf_release(text);
    if (!taken) {
        error__give(error, &err);
    } else if (size) {
        *size = len;
    }
    return taken;
}

char *tandem_detokenize(const struct tandem_model *model, const int32_t *ids, size_t n, unsigned flags, size_t *size,
                        struct tandem_error *error)
{
    struct buf text;
    if (!check_flags(flags, TANDEM_SKIP_SPECIAL, error)) {
        return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= tokenizer_n_vocab(model->tokenizer)) {
            struct error err = {0};
            error_set_param(&err, ERR_INVALID, "ids", "Token id %d is outside the vocabulary of %d tokens.", ids[i],
                            tokenizer_n_vocab(model->tokenizer));
            error__give(error, &err);
            return NULL;
        }
    }
    buf_init(&text, LIMIT_HTTP_REPLY);
    tokenizer_decode(model->tokenizer, ids, n, flags & TANDEM_SKIP_SPECIAL, &text);
    return take_text(&text, "the text", size, error);
}

char *tandem_render_chat(const struct tandem_model *model, const struct tandem_request *request, size_t *size,
                         struct tandem_error *error)
{
    struct gen_request r;
    struct error err = {0};
    struct buf text;
    buf_init(&text, JINJA_DEFAULT_OUTPUT);
    void *outside = sys_locale_use(model->locale);
    bool ok = request__read(model, request, &r, &err);
    if (ok && r.input != GEN_CHAT) {
        ok = error_set_param(&err, ERR_INVALID, "messages", "A chat to render needs messages, not a prompt.");
    }
    ok = ok && pipeline_render_chat(model->pipeline, &r, &text, &err);
    sys_locale_use(outside);
    adapter__release(model, &r);
    arena_free(r.arena);
    if (!ok) {
        buf_release(&text);
        error__give(error, &err);
        return NULL;
    }
    return take_text(&text, "the prompt", size, error);
}
