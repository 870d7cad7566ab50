/* What is special about a chat: variables of the template that requests have fields for, the formats in which the model
 * writes, what binds its answer. */
#include "pipeline/pipeline_internal.h"

#include <stdio.h>

#define KWARGS_DEPTH 250 /* of chat_template_kwargs, which the request's body bounds further */

/* ---- variables ---- */

/* reasoning_effort "none" says that too. */
static int thinking_of(const struct gen_request *r)
{
    return r->thinking < 0 && str_eq(r->reasoning_effort, STR("none")) ? 0 : r->thinking;
}

int pipeline__thinking(const struct gen_request *r)
{
    const struct json *given = json_get(r->template_kwargs, "enable_thinking");
    return json_type(given) == JSON_BOOL ? json_bool(given) : thinking_of(r);
}

/* Said twice, it has to be the same. */
static bool check_twice(const struct json *given, const char *name, bool same, struct error *err)
{
    return !given || same ||
           error_set_param(err, ERR_INVALID, "chat_template_kwargs",
                           "'chat_template_kwargs' and '%s' say different things about '%s'; give only one.", name,
                           name);
}

static bool check_variables(const struct gen_request *r, struct error *err)
{
    const struct json *thinking = json_get(r->template_kwargs, "enable_thinking"),
                      *effort = json_get(r->template_kwargs, "reasoning_effort");
    if (r->thinking == 1 && str_eq(r->reasoning_effort, STR("none"))) {
        return error_set_param(err, ERR_INVALID, "reasoning_effort",
                               "'reasoning_effort' is \"none\", but 'enable_thinking' is true.");
    }
    bool same_thinking =
        thinking_of(r) < 0 || (json_type(thinking) == JSON_BOOL && json_bool(thinking) == (thinking_of(r) == 1));
    bool same_effort = !r->reasoning_effort.ptr || str_eq(json_str(effort), r->reasoning_effort);
    return check_twice(thinking, "enable_thinking", same_thinking, err) &&
           check_twice(effort, "reasoning_effort", same_effort, err);
}

/* chat_template_kwargs with what other fields say; NULL, and no error: there are none. */
static struct json *make_variables(const struct gen_request *r, struct error *err)
{
    struct buf text;
    struct json_iter it = json_members(r->template_kwargs);
    int thinking = thinking_of(r);
    if ((json_len(r->template_kwargs) == 0 && thinking < 0 && !r->reasoning_effort.ptr) || !check_variables(r, err)) {
        return NULL;
    }
    buf_init(&text, LIMIT_HTTP_BODY);
    struct json_writer w = json_writer(&text);
    json_begin_object(&w);
    while (json_next(&it)) {
        json_member_json(&w, it.key.ptr, it.value);
    }
    if (thinking >= 0 && !json_get(r->template_kwargs, "enable_thinking")) {
        json_member_bool(&w, "enable_thinking", thinking == 1);
    }
    if (r->reasoning_effort.ptr && !json_get(r->template_kwargs, "reasoning_effort")) {
        json_member_str(&w, "reasoning_effort", r->reasoning_effort);
    }
    json_end_object(&w);
    struct json *kwargs =
        buf_ok(&text, "variables of the chat template", err) ? json_parse(buf_view(&text), KWARGS_DEPTH, err) : NULL;
    buf_release(&text);
    return kwargs;
}

/* ---- the prompt ---- */

bool pipeline_render_chat(const struct pipeline *p, const struct gen_request *r, struct buf *out, struct error *err)
{
    struct error why = {0};
    if (!p->options.chat) {
        return error_set_param(
            err, ERR_UNSUPPORTED, "messages",
            "this model has no chat template; give one with --chat-template, or use /v1/completions.");
    }
    struct json *kwargs = make_variables(r, &why);
    struct chat_render render = {
        .messages = r->messages,
        .tools = gen_request_has_tools(r) ? r->tools : NULL,
        .kwargs = kwargs,
        .add_generation_prompt = r->add_generation_prompt,
        .continue_final_message = r->continue_final_message,
        .now_s = r->created_s,
    };
    bool ok = !why.code && chat_template_render(p->options.chat, &render, out, &why);
    json_free(kwargs);
    if (!ok) {
        *err = why;
        if (!err->param[0]) {
            snprintf(err->param, sizeof err->param, "messages");
        }
    }
    return ok;
}

/* ---- the answer ---- */

/* The markers of what is looked for; with raw_output all of them, since the answer is what the model writes. */
static void choose_markers(const struct marker_ids *m, struct gen_request *r)
{
    bool reasoning = r->reasoning_format || r->raw_output, tools = r->tool_format || r->raw_output;
    size_t from = reasoning ? 0 : m->n_reasoning, until = tools ? m->n : m->n_reasoning;
    r->shown_ids = m->ids ? m->ids + from : NULL;
    r->n_shown_ids = until - from;
}

bool pipeline__choose_output(const struct pipeline *p, struct gen_request *r, struct error *err)
{
    const struct output_formats *f = &p->options.formats;
    r->tool_format = gen_request_has_tools(r) && !r->raw_output ? f->tools : NULL;
    r->reasoning_format = r->raw_output ? NULL : f->reasoning;
    r->in_reasoning = r->reasoning_format && reasoning_format_is_open(r->reasoning_format, r->rendered);
    choose_markers(&p->markers, r);
    if (gen_request_has_tools(r) && !f->tools && !r->raw_output) {
        bool own = json_len(r->tools) > r->mcp.n_tools; /* not those of MCP servers alone */
        const char *param = !own ? gen_mcp_field(&r->mcp) : r->legacy_functions ? "functions" : "tools";
        return error_set_param(err, ERR_UNSUPPORTED, param,
                               "'%s' is not available: this model's chat template has no tools; the server's "
                               "--tool-format may name a format.",
                               param);
    }
    return true;
}
