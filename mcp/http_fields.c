#include "mcp/http_fields.h"

#include "mcp/http_text.h"

#define OWN_FIELDS 32 /* besides those of the configuration */

void http_fields_init(struct http_fields *f, struct mcp_pairs configured)
{
    *f = (struct http_fields){.cap = configured.n + OWN_FIELDS};
    f->arena = arena_create(LIMIT_HTTP_HEADERS * 4);
    f->items = f->arena ? arena_alloc_array(f->arena, f->cap, sizeof *f->items) : NULL;
    for (size_t i = 0; f->items && i < configured.n; i++) { /* views: the configuration outlives this */
        f->items[f->n++] = (struct http_header){str_of(configured.items[i].name), str_of(configured.items[i].value)};
    }
    f->failed = !f->items;
}

void http_fields_release(struct http_fields *f)
{
    arena_free(f->arena);
}

void http_fields_add(struct http_fields *f, const char *name, struct str value)
{
    struct str copy = f->failed ? (struct str){NULL, 0} : arena_str(f->arena, value);
    struct str key = f->failed ? copy : arena_str(f->arena, str_of(name));
    f->failed = f->failed || f->n == f->cap || (value.len && !copy.ptr) || !key.ptr;
    if (!f->failed) {
        f->items[f->n++] = (struct http_header){key, value.len ? copy : STR("")};
    }
}

void http_fields_add_encoded(struct http_fields *f, const char *name, struct str value)
{
    struct buf text;
    buf_init(&text, LIMIT_HTTP_HEADERS);
    http_text_value(value, &text);
    f->failed = f->failed || text.failed;
    http_fields_add(f, name, buf_view(&text));
    buf_release(&text);
}
