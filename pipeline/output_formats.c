#include "pipeline/output_formats.h"

#include <stdlib.h>

/* ---- lists of names ---- */

void output_formats_list_tools(struct buf *out)
{
    buf_puts(out, "auto, none");
    for (size_t i = 0; i < tool_format_count(); i++) {
        buf_printf(out, ", %s", tool_format_name(tool_format_at(i)));
    }
}

void output_formats_list_reasoning(struct buf *out)
{
    buf_puts(out, "auto, none");
    for (size_t i = 0; i < reasoning_format_count(); i++) {
        buf_printf(out, ", %s", reasoning_format_name(reasoning_format_at(i)));
    }
}

/* ---- the choice ---- */

static bool unknown(const char *option, const char *name, void (*list)(struct buf *out), struct error *err)
{
    struct buf names;
    buf_init(&names, 4096);
    list(&names);
    error_set(err, ERR_INVALID, "%s: '%.40s' is none of %.160s.", option, name, names.data ? names.data : "");
    buf_release(&names);
    return false;
}

static bool is_word(const char *name, const char *word)
{
    return strcmp(name, word) == 0;
}

static bool choose_tools(const char *name, const struct chat_template *chat, struct output_formats *out,
                         struct error *err)
{
    if (!name || is_word(name, "auto")) {
        out->tools = chat ? tool_format_detect(chat_template_source(chat)) : NULL;
        return true;
    }
    out->tools = is_word(name, "none") ? NULL : tool_format_find(str_of(name));
    return out->tools || is_word(name, "none") || unknown("--tool-format", name, output_formats_list_tools, err);
}

static bool choose_reasoning(const char *name, const struct chat_template *chat, struct output_formats *out,
                             struct error *err)
{
    if (!name || is_word(name, "auto")) {
        out->reasoning = chat ? reasoning_format_detect(chat_template_source(chat)) : NULL;
        return true;
    }
    out->reasoning = is_word(name, "none") ? NULL : reasoning_format_find(str_of(name));
    return out->reasoning || is_word(name, "none") ||
           unknown("--reasoning-format", name, output_formats_list_reasoning, err);
}

bool output_formats_choose(const char *tools, const char *reasoning, const struct chat_template *chat,
                           struct output_formats *out, struct error *err)
{
    return choose_tools(tools, chat, out, err) && choose_reasoning(reasoning, chat, out, err);
}

const char *output_formats_tools(const struct output_formats *f)
{
    return f->tools ? tool_format_name(f->tools) : NULL;
}

const char *output_formats_reasoning(const struct output_formats *f)
{
    return f->reasoning ? reasoning_format_name(f->reasoning) : NULL;
}

/* ---- the markers that are tokens ---- */

int32_t output_formats_marker_id(const struct tokenizer *t, const char *marker)
{
    int32_t id = tokenizer_find(t, str_of(marker));
    return id >= 0 && tokenizer_kind(t, id) == TOKEN_CONTROL ? id : -1;
}

static void add_markers(struct marker_ids *m, const char *const *markers, size_t n, const struct tokenizer *t)
{
    for (size_t i = 0; i < n; i++) {
        int32_t id = output_formats_marker_id(t, markers[i]);
        if (id >= 0) {
            m->ids[m->n++] = id;
        }
    }
}

bool marker_ids_init(struct marker_ids *m, const struct output_formats *f, const struct tokenizer *t, struct error *err)
{
    size_t n_reasoning = 0, n_tools = 0;
    const char *const *reasoning = f->reasoning ? reasoning_format_markers(f->reasoning, &n_reasoning) : NULL;
    const char *const *tools = f->tools ? tool_format_markers(f->tools, &n_tools) : NULL;
    *m = (struct marker_ids){0};
    if (n_reasoning + n_tools == 0) {
        return true;
    }
    m->ids = calloc(n_reasoning + n_tools, sizeof *m->ids);
    if (!m->ids) {
        return error_set(err, ERR_NO_MEMORY, "no memory for the markers of a model's output.");
    }
    add_markers(m, reasoning, n_reasoning, t);
    m->n_reasoning = m->n;
    add_markers(m, tools, n_tools, t);
    return true;
}

void marker_ids_release(struct marker_ids *m)
{
    free(m->ids);
    *m = (struct marker_ids){0};
}
