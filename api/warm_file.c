#include "api/warm_file.h"

#include "api/api_internal.h"
#include "base/limits.h"
#include "base/sys_file.h"

#include <stdio.h>

#define AT(member) offsetof(struct warm_prompt, member)

static bool parse_messages(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    struct warm_prompt *p = d->target;
    p->messages = v;
    return (json_type(v) == JSON_ARRAY || field_type_error(err, name, "an array of messages", v)) &&
           request_check_messages(v, err);
}

static bool parse_tools(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    struct warm_prompt *p = d->target;
    p->tools = json_len(v) ? v : NULL;
    return json_type(v) == JSON_ARRAY || field_type_error(err, name, "an array", v);
}

static bool parse_kwargs(struct decoding *d, const struct json *v, const char *name, struct error *err)
{
    struct warm_prompt *p = d->target;
    p->kwargs = v;
    return json_type(v) == JSON_OBJECT || field_type_error(err, name, "an object", v);
}

static const struct field fields[] = {
    {"messages", FIELD_CUSTOM, 0, 0, 0, parse_messages, NULL, "array", "a conversation"},
    {"tools", FIELD_CUSTOM, 0, 0, 0, parse_tools, NULL, "array", "its tools"},
    {"chat_template_kwargs", FIELD_CUSTOM, 0, 0, 0, parse_kwargs, NULL, "object", "variables for the template"},
    {"prompt", FIELD_STR, AT(text), 0, 0, NULL, NULL, NULL, "a text as it is"},
    {NULL, FIELD_BOOL, 0, 0, 0, NULL, NULL, NULL, NULL},
};

static bool decode(const struct json *v, struct warm_list *list, struct error *err)
{
    static const struct field *const tables[] = {fields};
    struct warm_prompt *p = &list->items[list->n];
    struct buf unknown;
    struct decoding d = {.arena = list->arena, .target = p, .ignored = &unknown};
    if (json_type(v) != JSON_OBJECT) {
        return error_set(err, ERR_INVALID, "An object with 'messages' or 'prompt' is expected, but got %s.",
                         json_type_name(json_type(v)));
    }
    buf_init(&unknown, KIB(16));
    bool ok = fields_decode(&d, v, tables, 1, err);
    if (ok && unknown.len) {
        ok = error_set(err, ERR_UNKNOWN_FIELD,
                       "Unknown: '%.100s'; a prompt has 'messages', 'tools', 'chat_template_kwargs', or 'prompt'.",
                       unknown.data);
    }
    buf_release(&unknown);
    if (!ok) {
        return false;
    }
    bool has_text = p->text.len > 0;
    return has_text != (p->messages != NULL) || error_set(err, ERR_INVALID,
                                                          has_text ? "'messages' and 'prompt' exclude each other."
                                                                   : "One of 'messages' and 'prompt' is needed.");
}

static struct json *parse(struct str text, struct warm_list *list, struct error *err)
{
    struct json *root = json_parse_bounded(text, LIMIT_JSON_DEPTH, LIMIT_WARM_VALUES, err);
    return json_keep(root, list->arena, "the warm prompts", err);
}

static bool check_room(const struct warm_list *list, struct error *err)
{
    return list->n < LIMIT_WARM_PROMPTS ||
           error_set(err, ERR_TOO_LARGE, "At most %d warm prompts are possible.", LIMIT_WARM_PROMPTS);
}

/* An error's line is that of the member it names, or of the prompt. */
static bool parse_array(struct str text, struct warm_list *list, struct error *err)
{
    const struct json *root = parse(text, list, err);
    for (size_t i = 0; root && i < json_len(root); i++) {
        char path[128];
        snprintf(path, sizeof path, "[%zu]", i);
        int line = json_line_of(text, path);
        err->param[0] = '\0';
        if (!check_room(list, err) || !decode(json_at(root, i), list, err)) {
            snprintf(path, sizeof path, "[%zu].%s", i, err->param);
            int at = err->param[0] ? json_line_of(text, path) : 0;
            return error_wrap(err, "line %d", at ? at : line);
        }
        list->items[list->n++].line = line;
    }
    return root != NULL;
}

/* The same error again, with the line that it has in the file. */
static bool bad_line(struct str line, int number, struct error *err)
{
    struct buf text;
    buf_init(&text, LIMIT_WARM_FILE);
    for (int i = 1; i < number; i++) {
        buf_putc(&text, '\n');
    }
    buf_append(&text, line);
    struct json *root =
        text.failed ? NULL : json_parse_bounded(buf_view(&text), LIMIT_JSON_DEPTH, LIMIT_WARM_VALUES, err);
    json_free(root);
    buf_release(&text);
    return false;
}

static bool parse_lines(struct str text, struct warm_list *list, struct error *err)
{
    struct str line;
    for (int number = 1; str_split(&text, '\n', &line); number++) {
        if (str_trim(line).len == 0) {
            continue;
        }
        if (!check_room(list, err)) {
            return error_wrap(err, "line %d", number);
        }
        const struct json *root = parse(line, list, err);
        if (!root) {
            return bad_line(line, number, err);
        }
        if (!decode(root, list, err)) {
            return error_wrap(err, "line %d", number);
        }
        list->items[list->n++].line = number;
    }
    return true;
}

bool warm_file_parse(struct str text, struct warm_list *out, struct error *err)
{
    *out = (struct warm_list){.arena = arena_create(LIMIT_WARM_FILE)};
    out->items = out->arena ? arena_alloc_array(out->arena, LIMIT_WARM_PROMPTS, sizeof *out->items) : NULL;
    if (!out->items) {
        warm_list_release(out);
        return error_set(err, ERR_NO_MEMORY, "There is no memory for warm prompts.");
    }
    bool ok = str_starts(str_trim(text), STR("[")) ? parse_array(text, out, err) : parse_lines(text, out, err);
    if (ok && out->n == 0) {
        ok = error_set(err, ERR_INVALID, "There is no prompt in it.");
    }
    if (!ok) {
        warm_list_release(out);
    }
    return ok;
}

bool warm_file_read(const char *path, struct warm_list *out, struct error *err)
{
    struct buf text = {0};
    *out = (struct warm_list){0};
    bool ok = file_read(path, LIMIT_WARM_FILE, &text, err) && warm_file_parse(buf_view(&text), out, err);
    buf_release(&text);
    return ok || error_wrap(err, "--warm-prompts '%s'", path);
}
