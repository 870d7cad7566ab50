/* Strings to pointers, for the index: open addressing, at most half full. */
#include "grammar/json_schema_internal.h"

#include "base/hash.h"

#include <stdlib.h>

#define NODES_MAX (4 * (size_t)LIMIT_SCHEMA_VALUES)

struct map_slot {
    struct str key;
    void *value; /* NULL: free */
};

static struct map_slot *slot_of(const struct map *m, struct str key)
{
    size_t i = (size_t)xxh3(key.ptr ? key.ptr : "", key.len, 0) & (m->cap - 1);
    while (m->slots[i].value && !str_eq(m->slots[i].key, key)) {
        i = (i + 1) & (m->cap - 1);
    }
    return &m->slots[i];
}

void *json_schema__map_get(const struct map *m, struct str key)
{
    return m->cap ? slot_of(m, key)->value : NULL;
}

static bool map_grow(struct map *m, struct error *err)
{
    struct map bigger = {.cap = m->cap ? m->cap * 2 : 64};
    bigger.slots = bigger.cap <= NODES_MAX ? calloc(bigger.cap, sizeof *bigger.slots) : NULL;
    if (!bigger.slots) {
        return error_set(err, ERR_NO_MEMORY, "no memory for an index of %zu schemas.", bigger.cap);
    }
    for (size_t i = 0; i < m->cap; i++) {
        if (m->slots[i].value) {
            *slot_of(&bigger, m->slots[i].key) = m->slots[i];
        }
    }
    bigger.n = m->n;
    json_schema__map_release(m);
    *m = bigger;
    return true;
}

bool json_schema__map_put(struct map *m, struct str key, void *value, struct error *err)
{
    if (m->n * 2 >= m->cap && !map_grow(m, err)) {
        return false;
    }
    *slot_of(m, key) = (struct map_slot){key, value};
    m->n++;
    return true;
}

void json_schema__map_release(struct map *m)
{
    free(m->slots);
    *m = (struct map){0};
}
