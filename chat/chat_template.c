/* Chat templates: what a template can take is found by rendering small conversations when it is created; messages are
 * adapted to it, then rendered as transformers' apply_chat_template does (utils/chat_template_utils.py). */
#include "chat/chat_template_internal.h"

#include "base/utf8.h"

#include <stdlib.h>

#define CHAT_CONTEXT_DEPTH 250 /* of the JSON that a template gets: what clients send is far flatter */

/* ---- the special tokens ---- */

static bool add_special(struct json_writer *w, const struct tokenizer *t, const char *name, int32_t id)
{
    struct str piece = id >= 0 ? tokenizer_piece(t, id) : (struct str){NULL, 0};
    if (piece.len) {
        json_member_str(w, name, piece);
    }
    return piece.len > 0;
}

/* {"bos_token": "<s>", ...}: those that the tokenizer has. */
static struct json *special_variables(const struct tokenizer *t, struct error *err)
{
    struct buf text;
    buf_init(&text, (size_t)1 << 20);
    struct json_writer w = json_writer(&text);
    json_begin_object(&w);
    if (t) {
        const struct special_tokens *s = tokenizer_special(t);
        add_special(&w, t, "bos_token", s->bos);
        add_special(&w, t, "eos_token", s->eos);
        add_special(&w, t, "unk_token", s->unk);
        add_special(&w, t, "sep_token", s->sep);
        add_special(&w, t, "pad_token", s->pad);
        add_special(&w, t, "mask_token", s->mask);
    }
    json_end_object(&w);
    struct json *special = buf_ok(&text, "special tokens", err) ? json_parse(buf_view(&text), 0, err) : NULL;
    buf_release(&text);
    return special;
}

/* ---- lifetime ---- */

struct chat_template *chat_template_create(struct str source, const struct tokenizer *tokenizer, struct error *err)
{
    struct chat_template *t = calloc(1, sizeof *t);
    char *copy = malloc(source.len + 1);
    if (!t || !copy) {
        free(t);
        free(copy);
        error_set(err, ERR_NO_MEMORY, "no memory for the chat template.");
        return NULL;
    }
    if (source.len) {
        memcpy(copy, source.ptr, source.len);
    }
    copy[source.len] = '\0';
    t->source = (struct str){copy, source.len};
    t->jinja = jinja_compile(source, err);
    t->special = t->jinja ? special_variables(tokenizer, err) : NULL;
    if (!t->special) {
        chat_template_free(t);
        return NULL;
    }
    chat__probe(t);
    return t;
}

/* The template named tool_use, which some models have beside their own. */
static bool add_tool_use(struct chat_template *t, struct str source, const struct tokenizer *tokenizer,
                         struct error *err)
{
    t->tool_use = chat_template_create(source, tokenizer, err);
    if (t->tool_use) {
        struct chat_caps caps = t->tool_use->caps;
        t->caps.tools = caps.tools;
        t->caps.tool_calls = caps.tool_calls;
        t->caps.tool_role = caps.tool_role;
    }
    return t->tool_use != NULL;
}

struct chat_template *chat_template_from_model_file(const struct model_file *file, const struct tokenizer *tokenizer,
                                                    struct error *err)
{
    struct meta_value v = meta_get(file, "tokenizer.chat_template"),
                      tool_use = meta_get(file, "tokenizer.chat_template.tool_use");
    if (v.type != META_STRING) {
        error_set(err, ERR_NOT_FOUND, "the model has no chat template (tokenizer.chat_template).");
        return NULL;
    }
    struct chat_template *t = chat_template_create(v.s, tokenizer, err);
    if (!t) {
        error_wrap(err, "chat template of the model");
    } else if (tool_use.type == META_STRING && !add_tool_use(t, tool_use.s, tokenizer, err)) {
        error_wrap(err, "chat template of the model for tool use");
        chat_template_free(t);
        t = NULL;
    }
    return t;
}

void chat_template_free(struct chat_template *t)
{
    if (t) {
        chat_template_free(t->tool_use);
        jinja_free(t->jinja);
        json_free(t->special);
        free((char *)t->source.ptr);
        free(t);
    }
}

struct str chat_template_source(const struct chat_template *t)
{
    return t->source;
}

struct chat_caps chat_template_caps(const struct chat_template *t)
{
    return t->caps;
}

/* ---- variables ---- */

static bool reserved(struct str name)
{
    return str_eq(name, STR("messages")) || str_eq(name, STR("tools")) || str_eq(name, STR("add_generation_prompt"));
}

static bool put_kwargs(struct json_writer *w, const struct json *kwargs, struct error *err)
{
    struct json_iter it = json_members(kwargs);
    while (json_next(&it)) {
        if (reserved(it.key)) {
            return error_set_param(err, ERR_INVALID, "chat_template_kwargs",
                                   "chat_template_kwargs may not set '" STR_FMT "': the request has a field for it.",
                                   STR_ARG(it.key));
        }
        json_member_json(w, it.key.ptr, it.value);
    }
    return true;
}

/* Special tokens and documents, where the request's own variables do not name them. */
static void put_defaults(struct json_writer *w, const struct json *special, const struct json *kwargs)
{
    struct json_iter it = json_members(special);
    bool documents = false;
    while (json_next(&it)) {
        bool given = false;
        struct json_iter k = json_members(kwargs);
        while (json_next(&k)) {
            given |= str_eq(k.key, it.key);
        }
        if (!given) {
            json_member_json(w, it.key.ptr, it.value);
        }
    }
    struct json_iter k = json_members(kwargs);
    while (json_next(&k)) {
        documents |= str_eq(k.key, STR("documents"));
    }
    if (!documents) {
        json_member_null(w, "documents");
    }
}

static bool put_context(const struct chat_template *t, const struct chat_render *r, struct buf *out, struct error *err)
{
    struct json_writer w = json_writer(out);
    json_begin_object(&w);
    json_key(&w, "messages");
    if (!chat__put_messages(t, r, &w, err)) {
        return false;
    }
    json_key(&w, "tools");
    if (r->tools) {
        chat__put_tools(t, r->tools, &w);
    } else {
        json_put_null(&w);
    }
    json_member_bool(&w, "add_generation_prompt", r->add_generation_prompt);
    put_defaults(&w, t->special, r->kwargs);
    if (r->kwargs && !put_kwargs(&w, r->kwargs, err)) {
        return false;
    }
    json_end_object(&w);
    return buf_ok(out, "variables of the chat template", err);
}

bool chat__render(const struct chat_template *t, const struct chat_render *r, const struct jinja_limits *limits,
                  struct buf *out, struct error *err)
{
    struct buf text;
    struct json *context = NULL;
    buf_init(&text, CHAT_MAX_CONTEXT);
    bool ok = put_context(t, r, &text, err) &&
              (context = json_parse(buf_view(&text), CHAT_CONTEXT_DEPTH, err)) != NULL &&
              jinja_render(t->jinja, context, r->now_s, limits, out, err);
    json_free(context);
    buf_release(&text);
    return ok;
}

/* ---- the last message stays open ---- */

static bool is_python_space(struct str s, size_t at, size_t *size)
{
    uint32_t c;
    *size = utf8_decode(str_slice(s, at, s.len), &c);
    return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

static struct str right_stripped(struct str s)
{
    while (s.len) {
        size_t at = s.len - 1, size;
        while (at > 0 && ((unsigned char)s.ptr[at] & 0xC0) == 0x80) {
            at--;
        }
        if (!is_python_space(s, at, &size)) {
            break;
        }
        s.len = at;
    }
    return s;
}

static struct str stripped(struct str s)
{
    size_t size = 0;
    s = right_stripped(s);
    while (s.len && is_python_space(s, 0, &size)) {
        s = str_slice(s, size, s.len);
    }
    return s;
}

static size_t find_last(struct str s, struct str what)
{
    for (size_t i = s.len < what.len ? 0 : s.len - what.len + 1; i-- > 0;) {
        if (memcmp(s.ptr + i, what.ptr, what.len) == 0) {
            return i;
        }
    }
    return STR_NPOS;
}

/* Cuts what was rendered behind the tag that stands at the end of the last message. */
static bool cut_at_tag(struct buf *out, size_t start, struct str content, struct error *err)
{
    struct str text = str_slice(buf_view(out), start, out->len), tag = STR(CHAT_CONTINUE_TAG);
    size_t at = find_last(text, stripped(tag));
    if (at == STR_NPOS || str_find(text, stripped(content)) == STR_NPOS) {
        return error_set_param(err, ERR_INVALID, "continue_final_message",
                               "continue_final_message is set, but the chat template does not show the final message "
                               "as it is.");
    }
    bool kept = str_starts(str_slice(text, at, text.len), tag);
    struct str open = str_slice(text, 0, at);
    open = kept ? open : right_stripped(open);
    buf_truncate(out, start + open.len);
    return true;
}

static bool check_continue(const struct chat_template *t, const struct chat_render *r, struct error *err)
{
    if (r->add_generation_prompt) {
        return error_set_param(err, ERR_INVALID, "continue_final_message",
                               "continue_final_message and add_generation_prompt exclude each other.");
    }
    if (json_len(r->messages) == 0) {
        return error_set_param(err, ERR_INVALID, "continue_final_message",
                               "continue_final_message is set, but there are no messages.");
    }
    if (str_find(t->source, STR("content")) == STR_NPOS) {
        return error_set_param(err, ERR_INVALID, "continue_final_message",
                               "continue_final_message is set, but the chat template does not use the content.");
    }
    return true;
}

bool chat_template_render(const struct chat_template *t, const struct chat_render *r, struct buf *out,
                          struct error *err)
{
    size_t start = out->len;
    t = r->tools && t->tool_use ? t->tool_use : t;
    if (!r->continue_final_message) {
        return chat__render(t, r, NULL, out, err);
    }
    struct buf content;
    buf_init(&content, CHAT_MAX_CONTEXT);
    bool ok = check_continue(t, r, err) && chat__final_text(t, r, &content, err) &&
              chat__render(t, r, NULL, out, err) && cut_at_tag(out, start, buf_view(&content), err);
    buf_release(&content);
    return ok;
}
