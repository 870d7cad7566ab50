/* /tokenize, /detokenize, /apply-template: what the model reads, through the same code as requests. */
#include "api/api_internal.h"
#include "api/openai/openai_legacy.h"

#include "base/utf8.h"

#define AT(member) offsetof(struct text_request, member)

struct text_request {
    struct str model, content;
    bool has_content, add_special, parse_special, with_pieces;
    const struct json *messages, *tools, *kwargs, *tokens;
    bool add_generation_prompt, continue_final_message;
};

static bool parse_content(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    struct text_request *r = d->target;
    if (json_type(v) != JSON_STRING) {
        return field_type_error(err, name, "a string", v);
    }
    if (r->has_content) {
        return error_set_param(err, ERR_INVALID, name, "'content' and 'prompt' are the same field; give only one.");
    }
    r->content = json_str(v);
    r->has_content = true;
    return true;
}

static bool parse_messages(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    struct text_request *r = d->target;
    if (json_type(v) != JSON_ARRAY) {
        return field_type_error(err, name, "an array of messages", v);
    }
    if (!request_check_messages(v, err)) {
        return false;
    }
    r->messages = openai_modern_messages(v, d->arena, err);
    return r->messages != NULL;
}

static bool parse_tools(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    struct text_request *r = d->target;
    r->tools = json_len(v) ? v : NULL;
    return json_type(v) == JSON_ARRAY || field_type_error(err, name, "an array", v);
}

static bool parse_kwargs(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    struct text_request *r = d->target;
    r->kwargs = v;
    return json_type(v) == JSON_OBJECT || field_type_error(err, name, "an object", v);
}

static bool parse_tokens(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    struct text_request *r = d->target;
    if (json_type(v) != JSON_ARRAY) {
        return field_type_error(err, name, "an array of token ids", v);
    }
    for (size_t i = 0; i < json_len(v); i++) {
        if (json_type(json_at(v, i)) != JSON_INT) {
            return field_type_error(err, name, "an array of token ids", json_at(v, i));
        }
    }
    r->tokens = v;
    return true;
}

#define MODEL_FIELD                                                                                        \
    {                                                                                                      \
        "model", FIELD_STR, AT(model), 0, 512, NULL, NULL, NULL, "name of a served model; may be left out" \
    }
#define MESSAGE_FIELDS                                                                                              \
    {"messages", FIELD_CUSTOM, 0, 0, 0, parse_messages, NULL, "array", "a conversation"},                           \
        {"tools", FIELD_CUSTOM, 0, 0, 0, parse_tools, NULL, "array", "tools that the template shows to the model"}, \
        {"chat_template_kwargs", FIELD_CUSTOM, 0, 0, 0, parse_kwargs, NULL, "object", "variables of the template"}, \
        {"add_generation_prompt",    FIELD_BOOL, AT(add_generation_prompt), 0, 0, NULL, NULL, NULL,                 \
         "open the assistant's turn"},                                                                              \
    {                                                                                                               \
        "continue_final_message", FIELD_BOOL, AT(continue_final_message), 0, 0, NULL, NULL, NULL,                   \
            "go on with the last message"                                                                           \
    }

const struct field api__tokenize_fields[] = {
    MODEL_FIELD,
    MESSAGE_FIELDS,
    {"content", FIELD_CUSTOM, 0, 0, 0, parse_content, NULL, "string", "text; this or prompt or messages"},
    {"prompt", FIELD_CUSTOM, 0, 0, 0, parse_content, NULL, "string", "the same as content"},
    {"add_special", FIELD_BOOL, AT(add_special), 0, 0, NULL, NULL, NULL,
     "begin-of-text token, where the model has one"},
    {"add_special_tokens", FIELD_BOOL, AT(add_special), 0, 0, NULL, NULL, NULL, "the same"},
    {"parse_special", FIELD_BOOL, AT(parse_special), 0, 0, NULL, NULL, NULL,
     "names of control tokens become their ids; default true"},
    {"with_pieces", FIELD_BOOL, AT(with_pieces), 0, 0, NULL, NULL, NULL, "tokens as objects with id and piece"},
    {0},
};

const struct field api__detokenize_fields[] = {
    MODEL_FIELD,
    {"tokens", FIELD_CUSTOM, 0, 0, 0, parse_tokens, NULL, "array of integers", "token ids; required"},
    {0},
};

const struct field api__template_fields[] = {MODEL_FIELD, MESSAGE_FIELDS, {0}};

static bool decode(struct call *c, struct error *err)
{
    struct text_request *r = arena_alloc(c->arena, sizeof *r);
    if (!r) {
        return arena_full(c->arena, "the request", err);
    }
    *r = (struct text_request){.parse_special = true, .add_generation_prompt = true};
    struct decoding d = api__decoding(c, r);
    if (!api__decode_body(c, &d, c->body, err)) {
        return false;
    }
    c->request.model = r->model;
    c->extra = r;
    return true;
}

static bool render(struct call *c, const struct text_request *r, struct buf *out, struct error *err)
{
    struct gen_request chat;
    gen_request_init(&chat, c->arena, GEN_CHAT);
    chat.messages = r->messages;
    chat.tools = r->tools;
    chat.template_kwargs = r->kwargs;
    chat.continue_final_message = r->continue_final_message;
    chat.add_generation_prompt = r->add_generation_prompt && !r->continue_final_message;
    return pipeline_render_chat(served_model_pipeline(c->model), &chat, out, err) &&
           buf_ok(out, "the rendered chat template", err);
}

/* ---- tokenize ---- */

bool api__decode_tokenize(struct call *c, struct error *err)
{
    if (!decode(c, err)) {
        return false;
    }
    const struct text_request *r = c->extra;
    if (r->messages && r->has_content) {
        return error_set_param(err, ERR_INVALID, "messages",
                               "'messages' is not available together with 'content' or 'prompt'.");
    }
    return r->messages || r->has_content || field_missing_error(err, "content");
}

/* As llama.cpp has it: a piece that is no whole UTF-8 is an array of bytes. */
static void put_piece(struct json_writer *w, struct str piece)
{
    if (utf8_valid(piece)) {
        json_put_str(w, piece);
        return;
    }
    json_begin_array(w);
    for (size_t i = 0; i < piece.len; i++) {
        json_put_int(w, (uint8_t)piece.ptr[i]);
    }
    json_end_array(w);
}

static void put_tokens(struct buf *out, const struct tokenizer *t, const struct token_list *list, bool with_pieces)
{
    struct json_writer w = json_writer(out);
    json_begin_object(&w);
    json_key(&w, "tokens");
    json_begin_array(&w);
    for (size_t i = 0; i < list->n; i++) {
        if (!with_pieces) {
            json_put_int(&w, list->ids[i]);
            continue;
        }
        json_begin_object(&w);
        json_member_int(&w, "id", list->ids[i]);
        json_key(&w, "piece");
        put_piece(&w, tokenizer_bytes(t, list->ids[i]));
        json_end_object(&w);
    }
    json_end_array(&w);
    json_member_uint(&w, "count", list->n);
    json_end_object(&w);
}

bool api__work_tokenize(struct call *c, struct error *err)
{
    const struct text_request *r = c->extra;
    const struct tokenizer *t = pipeline_options(served_model_pipeline(c->model))->tokenizer;
    struct encode_options options = {.add_special = r->add_special && !r->messages, .parse_special = r->parse_special};
    struct token_list list = {0};
    struct buf text;
    buf_init(&text, JINJA_DEFAULT_OUTPUT);
    bool ok = (!r->messages || render(c, r, &text, err)) &&
              tokenizer_encode(t, r->messages ? buf_view(&text) : r->content, options, &list, err);
    if (ok) {
        put_tokens(&c->reply, t, &list, r->with_pieces);
    }
    token_list_release(&list);
    buf_release(&text);
    return ok;
}

/* ---- detokenize ---- */

bool api__decode_detokenize(struct call *c, struct error *err)
{
    if (!decode(c, err)) {
        return false;
    }
    const struct text_request *r = c->extra;
    return r->tokens || field_missing_error(err, "tokens");
}

bool api__work_detokenize(struct call *c, struct error *err)
{
    const struct text_request *r = c->extra;
    const struct tokenizer *t = pipeline_options(served_model_pipeline(c->model))->tokenizer;
    size_t n = json_len(r->tokens);
    int32_t *ids = arena_alloc_array(c->arena, n ? n : 1, sizeof *ids);
    if (!ids) {
        return arena_full(c->arena, "the request", err);
    }
    for (size_t i = 0; i < n; i++) {
        int64_t id = json_int(json_at(r->tokens, i));
        if (id < 0 || id >= tokenizer_n_vocab(t)) {
            return error_set_param(err, ERR_INVALID, "tokens",
                                   "Invalid value for 'tokens': token id %lld is outside the vocabulary of %d tokens.",
                                   (long long)id, tokenizer_n_vocab(t));
        }
        ids[i] = (int32_t)id;
    }
    struct buf text;
    buf_init(&text, LIMIT_HTTP_REPLY);
    tokenizer_decode(t, ids, n, false, &text);
    struct json_writer w = json_writer(&c->reply);
    json_begin_object(&w);
    json_member_str(&w, "content", buf_view(&text));
    json_key(&w, "prompt"); /* vLLM's name */
    json_put_str(&w, buf_view(&text));
    json_end_object(&w);
    bool ok = buf_ok(&text, "the text", err);
    buf_release(&text);
    return ok;
}

/* ---- apply-template ---- */

bool api__decode_template(struct call *c, struct error *err)
{
    if (!decode(c, err)) {
        return false;
    }
    const struct text_request *r = c->extra;
    return r->messages || field_missing_error(err, "messages");
}

bool api__work_template(struct call *c, struct error *err)
{
    struct buf text;
    buf_init(&text, JINJA_DEFAULT_OUTPUT);
    bool ok = render(c, c->extra, &text, err);
    if (ok) {
        struct json_writer w = json_writer(&c->reply);
        json_begin_object(&w);
        json_member_str(&w, "prompt", buf_view(&text));
        json_end_object(&w);
    }
    buf_release(&text);
    return ok;
}
