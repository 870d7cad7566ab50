/* Dicts in order of insertion. Small ones are searched from the front; larger ones have a table of slots. Keys that
 * compare equal in Python hash alike: 1, 1.0 and True. */
#include "base/hash.h"
#include "chat/jinja_internal.h"

#define LINEAR_MAX 8

struct jdict *jinja__dict(struct render *r, size_t cap)
{
    struct jdict *d = jinja__alloc(r, 1, sizeof *d);
    if (d && cap) {
        d->pairs = jinja__alloc(r, cap, sizeof *d->pairs);
        d->cap = cap;
    }
    return d && (!cap || d->pairs) ? d : NULL;
}

static uint64_t mix(uint64_t a, uint64_t b)
{
    return (a ^ (b + 0x9E3779B97F4A7C15u + (a << 6) + (a >> 2))) * 0xD6E8FEB86659FD93u;
}

bool jinja__hash(struct render *r, const struct jval *v, int depth, uint64_t *out)
{
    double f = v->type == J_FLOAT ? v->f : 0;
    uint64_t h = v->type, item;
    switch (v->type) {
    case J_STRING:
        *out = xxh3(v->s.ptr, v->s.len, r->hash_seed);
        return jinja__charge_bytes(r, v->s.len);
    case J_BOOL:
    case J_INT:
        *out = mix(J_INT, (uint64_t)jval_to_int(v));
        return true;
    case J_FLOAT:
        if (f >= -9223372036854775808.0 && f < 9223372036854775808.0 && f == (double)(int64_t)f) {
            *out = mix(J_INT, (uint64_t)(int64_t)f);
        } else {
            *out = xxh3(&f, sizeof f, r->hash_seed);
        }
        return true;
    case J_TUPLE:
        if (depth > JINJA_MAX_VALUE_DEPTH) {
            return jinja__fail(r, "a value is nested deeper than %d levels.", JINJA_MAX_VALUE_DEPTH);
        }
        for (size_t i = 0; i < v->list->n; i++) {
            if (!jinja__hash(r, &v->list->items[i], depth + 1, &item)) {
                return false;
            }
            h = mix(h, item);
        }
        *out = h;
        return jinja__charge(r, v->list->n);
    case J_LIST:
    case J_DICT:
    case J_VIEW:
        return jinja__fail(r, "unhashable type: '%s'", jinja__type_name(v));
    case J_NONE:
    case J_UNDEFINED:
        *out = mix(h, 0);
        return true;
    default:
        *out = mix(h, (uint64_t)(uintptr_t)v->list);
        return true;
    }
}

static bool find_pair(struct render *r, const struct jdict *d, const struct jval *key, uint64_t hash,
                      struct jpair **out)
{
    bool same = false;
    *out = NULL;
    if (!d->slots) {
        for (size_t i = 0; i < d->n; i++) {
            if (d->pairs[i].hash != hash) {
                continue;
            }
            if (!jinja__equal(r, &d->pairs[i].key, key, 0, &same)) {
                return false;
            }
            if (same) {
                *out = &d->pairs[i];
                return true;
            }
        }
        return true;
    }
    for (size_t at = hash & (d->n_slots - 1); d->slots[at]; at = (at + 1) & (d->n_slots - 1)) {
        struct jpair *p = &d->pairs[d->slots[at] - 1];
        if (p->hash == hash) {
            if (!jinja__equal(r, &p->key, key, 0, &same)) {
                return false;
            }
            if (same) {
                *out = p;
                return true;
            }
        }
    }
    return true;
}

bool jinja__dict_find(struct render *r, const struct jdict *d, const struct jval *key, const struct jval **out)
{
    uint64_t hash = 0;
    struct jpair *p;
    if (!jinja__hash(r, key, 0, &hash) || !find_pair(r, d, key, hash, &p)) {
        return false;
    }
    *out = p ? &p->value : NULL;
    return true;
}

const struct jval *jinja__dict_get(struct render *r, const struct jdict *d, struct str key)
{
    const struct jval *found;
    struct jval name = jval_str(key);
    return jinja__dict_find(r, d, &name, &found) ? found : NULL;
}

static bool rebuild_slots(struct render *r, struct jdict *d)
{
    size_t n = d->n_slots ? d->n_slots * 2 : 4 * LINEAR_MAX;
    while (n < d->cap * 2) {
        n *= 2;
    }
    uint32_t *slots = jinja__alloc(r, n, sizeof *slots);
    if (!slots) {
        return false;
    }
    for (size_t i = 0; i < d->n; i++) {
        size_t at = d->pairs[i].hash & (n - 1);
        while (slots[at]) {
            at = (at + 1) & (n - 1);
        }
        slots[at] = (uint32_t)i + 1;
    }
    d->slots = slots;
    d->n_slots = n;
    return jinja__charge(r, d->n);
}

static bool grow(struct render *r, struct jdict *d)
{
    size_t cap = d->cap ? d->cap * 2 : 4;
    struct jpair *pairs = jinja__alloc(r, cap, sizeof *pairs);
    if (!pairs) {
        return false;
    }
    if (d->n) {
        memcpy(pairs, d->pairs, d->n * sizeof *pairs);
    }
    d->pairs = pairs;
    d->cap = cap;
    return true;
}

bool jinja__dict_put(struct render *r, struct jdict *d, const struct jval *key, const struct jval *value)
{
    uint64_t hash = 0;
    struct jpair *p;
    if (!jinja__hash(r, key, 0, &hash) || !find_pair(r, d, key, hash, &p)) {
        return false;
    }
    if (p) {
        p->value = *value;
        return true;
    }
    if (d->n == d->cap && !grow(r, d)) {
        return false;
    }
    d->pairs[d->n++] = (struct jpair){*key, *value, hash};
    if (d->n > LINEAR_MAX && d->n * 2 > d->n_slots) {
        return rebuild_slots(r, d);
    }
    if (d->slots) {
        size_t at = hash & (d->n_slots - 1);
        while (d->slots[at]) {
            at = (at + 1) & (d->n_slots - 1);
        }
        d->slots[at] = (uint32_t)d->n;
    }
    return jinja__charge(r, 1);
}
