/* Messages of a request over arbitrary JSON, through templates of each kind: those that take strings or parts,
 * arguments as objects or strings, and one that shows everything as JSON. What is rendered is valid UTF-8 and the same
 * when it is rendered again. Input: an object with messages, tools, kwargs, add_generation_prompt and continue. */
#include "base/utf8.h"
#include "chat/chat_template.h"

#include <stdlib.h>

#define MAX_OUTPUT ((size_t)64 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HEAD "{% for m in messages %}<{{ m.role }}>"
#define TAIL "</s>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"

static const char *const templates[] = {
    HEAD
    "{{ m.content }}{% for c in m.tool_calls or [] %}{{ c.function.name }}{{ c.function.arguments + '' }}{% endfor "
    "%}" TAIL,
    HEAD
    "{% if m.content is string %}{{ m.content | trim }}{% else %}{% for p in m.content %}{{ p.text }}{% endfor %}{% "
    "endif %}" TAIL,
    HEAD "{% for p in m.content %}{{ p.text }}{% endfor %}" TAIL,
    "{{ tools | tojson(indent=2) }}" HEAD "{{ m | tojson }}" TAIL,
    HEAD "{{ m.reasoning_content }}{{ m.content or '' }}{% for c in m.tool_calls or [] %}{% for k, v in "
         "c.function.arguments | items %}{{ k }}={{ v | string }}{% endfor %}{% endfor %}" TAIL,
    /* whole tools, ids of nine characters */
    "{% for t in tools or [] %}{{ t.function | tojson }}{{ t.function.description + '' }}{% endfor %}" HEAD
    "{{ m.name }}{{ m.content }}{% for c in m.tool_calls or [] %}{% if c.id|length != 9 %}{{ raise_exception('id') "
    "}}{% "
    "endif %}{{ c.function.name }}{{ c.function.arguments | tojson }}{% endfor %}" TAIL,
    /* ids of the template's own */
    HEAD "{{ m.tool_call_id }}{{ m.content }}{% for c in m.tool_calls or [] %}functions.{{ c.function.name }}:{{ "
         "loop.index0 }}{{ c.function.arguments | tojson }}{% endfor %}" TAIL,
};

static void require(bool ok)
{
    if (!ok) {
        abort();
    }
}

static bool render(const struct chat_template *t, const struct chat_render *r, struct buf *out)
{
    struct error err = {0};
    buf_init(out, MAX_OUTPUT);
    bool ok = chat_template_render(t, r, out, &err);
    require(utf8_valid(buf_view(out)));
    require(ok || (err.code != ERR_NONE && err.msg[0] && utf8_valid(str_of(err.msg)) && utf8_valid(str_of(err.param))));
    return ok;
}

static void render_twice(const struct chat_template *t, const struct chat_render *r)
{
    struct buf first, second;
    bool ok = render(t, r, &first);
    require(render(t, r, &second) == ok);
    require(!ok || str_eq(buf_view(&first), buf_view(&second)));
    buf_release(&first);
    buf_release(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = {0};
    struct json *request = json_parse((struct str){(const char *)data, size}, 64, &err);
    const char *source = templates[size % (sizeof templates / sizeof *templates)];
    const struct json *messages = json_get(request, "messages"), *tools = json_get(request, "tools"),
                      *kwargs = json_get(request, "kwargs");
    if (json_type(messages) == JSON_ARRAY) {
        struct chat_template *t = chat_template_create(str_of(source), NULL, &err);
        require(t != NULL);
        render_twice(
            t, &(struct chat_render){.messages = messages,
                                     .tools = json_type(tools) == JSON_ARRAY ? tools : NULL,
                                     .kwargs = json_type(kwargs) == JSON_OBJECT ? kwargs : NULL,
                                     .add_generation_prompt = json_bool(json_get(request, "add_generation_prompt")),
                                     .continue_final_message = json_bool(json_get(request, "continue"))});
        chat_template_free(t);
    }
    json_free(request);
    return 0;
}
