/* Renders templates for the parity checks. Standard input: one JSON object per line,
 *     {"template": "...", "context": {...}, "now": 0}                                        the engine alone
 *     {"template": "...", "chat": {"messages": [...], "tools": [...], "kwargs": {...}, "add_generation_prompt": true,
 *      "continue_final_message": false}, "now": 0}                                            a chat
 * A chat without "template" takes that of the chat before it. With --special, the templates get <s>, </s>, <pad> and
 * <unk> from a tokenizer.
 * Standard output: per line {"text": "..."} or {"error": "...", "code": "INVALID"}. With --caps: the capabilities that
 * were found by probing the template. */
#include "base/array.h"
#include "chat/chat_template.h"
#include "tensor/gguf_writer.h"
#include "tests/support/read_line.h"

#include <stdio.h>

#define MAX_LINE ((size_t)256 << 20)

struct probe {
    struct buf bytes; /* of the model file that the tokenizer comes from */
    struct model_file *file;
    struct tokenizer *tokenizer; /* NULL without --special */
    struct chat_template *kept;  /* of the chat before */
    bool caps;
};

static bool make_tokenizer(struct probe *p, struct error *err)
{
    static const struct str tokens[] = {STR("a"), STR("b"), STR("<s>"), STR("</s>"), STR("<pad>"), STR("<unk>")},
                            merges[] = {STR("a b")};
    static const int32_t types[] = {1, 1, 3, 3, 3, 2};
    struct gguf_writer *w = gguf_writer_create();
    gguf_put_str(w, "general.architecture", STR("llama"));
    gguf_put_str(w, "tokenizer.ggml.model", STR("gpt2"));
    gguf_put_str(w, "tokenizer.ggml.pre", STR("gpt-2"));
    gguf_put_str_array(w, "tokenizer.ggml.tokens", tokens, ARRAY_LEN(tokens));
    gguf_put_str_array(w, "tokenizer.ggml.merges", merges, 0);
    gguf_put_array(w, "tokenizer.ggml.token_type", GGUF_I32, types, ARRAY_LEN(types));
    gguf_put_int(w, "tokenizer.ggml.bos_token_id", GGUF_U32, 2);
    gguf_put_int(w, "tokenizer.ggml.eos_token_id", GGUF_U32, 3);
    gguf_put_int(w, "tokenizer.ggml.padding_token_id", GGUF_U32, 4);
    gguf_put_int(w, "tokenizer.ggml.unknown_token_id", GGUF_U32, 5);
    bool ok = gguf_write_buf(w, &p->bytes, err) &&
              (p->file = model_file_open_memory(p->bytes.data, p->bytes.len, err)) &&
              (p->tokenizer = tokenizer_from_model_file(p->file, err));
    gguf_writer_free(w);
    return ok;
}

static bool render_plain(const struct json *job, struct buf *out, struct error *err)
{
    struct jinja_template *t = jinja_compile(json_str(json_get(job, "template")), err);
    bool ok = t && jinja_render(t, json_get(job, "context"), json_int(json_get(job, "now")), NULL, out, err);
    jinja_free(t);
    return ok;
}

static bool render_chat(struct probe *p, const struct json *job, struct buf *out, struct error *err)
{
    const struct json *chat = json_get(job, "chat"), *template = json_get(job, "template");
    if (template) {
        chat_template_free(p->kept);
        p->kept = chat_template_create(json_str(template), p->tokenizer, err);
    }
    struct chat_render r = {.messages = json_get(chat, "messages"),
                            .tools = json_get(chat, "tools"),
                            .kwargs = json_get(chat, "kwargs"),
                            .add_generation_prompt = json_bool(json_get(chat, "add_generation_prompt")),
                            .continue_final_message = json_bool(json_get(chat, "continue_final_message")),
                            .now_s = json_int(json_get(job, "now"))};
    return p->kept && chat_template_render(p->kept, &r, out, err);
}

static bool print_caps(const struct probe *p, const struct json *job, struct buf *out, struct error *err)
{
    struct chat_template *t = chat_template_create(json_str(json_get(job, "template")), p->tokenizer, err);
    if (t) {
        struct chat_caps c = chat_template_caps(t);
        buf_printf(out, "system %d developer %d parts %d tools %d calls %d tool %d reasoning %d", c.system_role,
                   c.developer_role, c.content_parts, c.tools, c.tool_calls, c.tool_role, c.reasoning);
    }
    chat_template_free(t);
    return t != NULL;
}

static void answer(struct probe *p, struct str line)
{
    struct error err = {0};
    struct buf out, reply;
    buf_init(&out, MAX_LINE);
    buf_init(&reply, 8 * MAX_LINE);
    struct json *job = json_parse(line, 300, &err);
    bool ok = job && (p->caps                 ? print_caps(p, job, &out, &err)
                      : json_get(job, "chat") ? render_chat(p, job, &out, &err)
                                              : render_plain(job, &out, &err));
    struct json_writer w = json_writer(&reply);
    json_begin_object(&w);
    json_member_str(&w, ok ? "text" : "error", ok ? buf_view(&out) : str_of(err.msg));
    if (!ok) {
        json_member_cstr(&w, "code", error_info(err.code)->name);
    }
    json_end_object(&w);
    printf("%s\n", reply.data);
    json_free(job);
    buf_release(&out);
    buf_release(&reply);
}

int main(int argc, char **argv)
{
    struct error err = {0};
    struct probe p = {0};
    struct buf line;
    bool ok = true;
    buf_init(&line, MAX_LINE);
    buf_init(&p.bytes, MAX_LINE);
    for (int i = 1; i < argc; i++) {
        p.caps |= str_eq(str_of(argv[i]), STR("--caps"));
        ok = ok && (!str_eq(str_of(argv[i]), STR("--special")) || make_tokenizer(&p, &err));
    }
    while (ok && read_line(stdin, &line)) {
        answer(&p, buf_view(&line));
    }
    if (!ok) {
        fprintf(stderr, "jinja_probe: %s\n", err.msg);
    }
    chat_template_free(p.kept);
    tokenizer_free(p.tokenizer);
    model_file_close(p.file);
    buf_release(&p.bytes);
    buf_release(&line);
    return ok ? 0 : 1;
}
