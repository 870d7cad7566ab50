/* Making and freeing of compiled schemas. */
#include "grammar/json_schema_internal.h"

#include <stdlib.h>

static struct json_schema *new_schema(const struct json_schema_options *o, struct error *err)
{
    struct json_schema *s = calloc(1, sizeof *s);
    struct arena *arena = s ? arena_create(LIMIT_SCHEMA_ARENA) : NULL;
    if (!arena) {
        free(s);
        error_set(err, ERR_NO_MEMORY, "no memory for a JSON Schema.");
        return NULL;
    }
    s->arena = arena;
    s->max_steps = o->max_steps ? o->max_steps : LIMIT_SCHEMA_STEPS;
    return s;
}

struct json_schema *json_schema_compile(const struct json *schema, const struct json_schema_options *o,
                                        struct error *err)
{
    static const struct json_schema_options defaults = {0};
    struct compiler c = {.options = o ? o : &defaults, .err = err};
    if (c.options->n_documents > LIMIT_SCHEMA_DOCUMENTS) {
        error_set(err, ERR_TOO_LARGE, "%zu documents for a JSON Schema, more than %d.", c.options->n_documents,
                  LIMIT_SCHEMA_DOCUMENTS);
        return NULL;
    }
    c.schema = new_schema(c.options, err);
    if (!c.schema) {
        return NULL;
    }
    bool ok = json_schema__compile_all(&c, schema);
    json_schema__map_release(&c.nodes);
    json_schema__map_release(&c.uris);
    if (!ok) {
        json_schema_free(c.schema);
        return NULL;
    }
    return c.schema;
}

void json_schema_free(struct json_schema *s)
{
    if (!s) {
        return;
    }
    json_schema__regex_free(s->regexes);
    for (size_t i = 0; i < s->n_documents; i++) {
        json_free(s->documents[i]);
    }
    arena_free(s->arena);
    free(s);
}
