#include "pipeline/adapter_set.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct adapter_words server_words = {
    .name = "lora_name", .path = "lora_path", .max_adapters = "--lora-max", .max_size = "--lora-memory"};

static const struct adapter_words *words_of(const struct adapter_set *s)
{
    return s->words ? s->words : &server_words;
}

void adapter_set_release(struct adapter_set *s)
{
    for (size_t i = 0; i < WIRE_MAX_ADAPTERS; i++) {
        free(s->items[i]);
        s->items[i] = NULL;
    }
}

/* ---- adding ---- */

static bool is_name_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
           c == '-';
}

bool adapter_name_check(struct str name, const char *field, struct error *err)
{
    bool ok = name.len > 0 && name.len <= ADAPTER_NAME_MAX && name.ptr[0] != '.' && name.ptr[0] != '-';
    for (size_t i = 0; ok && i < name.len; i++) {
        ok = is_name_byte(name.ptr[i]);
    }
    return ok || error_set_param(err, ERR_INVALID, field,
                                 "the name of an adapter has 1 to %d letters, digits, '.', '_' and '-', the first of "
                                 "them a letter, a digit or '_'.",
                                 ADAPTER_NAME_MAX);
}

bool adapter_option_split(const char *text, struct str *name, const char **path, struct error *err)
{
    const char *equals = strchr(text, '=');
    if (!equals || !equals[1]) {
        return error_set(err, ERR_INVALID, "--lora: expected NAME=PATH, but got '%.100s'.", text);
    }
    *name = (struct str){text, (size_t)(equals - text)};
    *path = equals + 1;
    return adapter_name_check(*name, server_words.name, err) || error_wrap(err, "--lora");
}

bool adapter_facts_read(const char *path, struct adapter_facts *facts, struct error *err)
{
    struct adapter_file *file = adapter_file_open(path, err);
    if (file) {
        *facts = *adapter_file_facts(file);
    }
    adapter_file_close(file);
    return file != NULL;
}

uint64_t adapter_set_size(const struct adapter_set *s)
{
    uint64_t size = 0;
    for (size_t i = 0; i < WIRE_MAX_ADAPTERS; i++) {
        const struct served_adapter *a = s->items[i];
        size += a && !a->refused ? a->facts.memory_size : 0;
    }
    return size;
}

static bool check_room(const struct adapter_set *s, uint64_t size, size_t *place, struct error *err)
{
    size_t n = 0, at = WIRE_MAX_ADAPTERS;
    for (size_t i = 0; i < WIRE_MAX_ADAPTERS; i++) {
        n += s->items[i] != NULL;
        at = !s->items[i] && at == WIRE_MAX_ADAPTERS ? i : at;
    }
    const struct adapter_words *words = words_of(s);
    *place = at;
    if (n >= s->max_adapters || at == WIRE_MAX_ADAPTERS) {
        return error_set_param(err, ERR_INVALID, words->name,
                               "there are %zu adapters of this model already, as many as %s allows; unload one first.",
                               n, words->max_adapters);
    }
    uint64_t used = adapter_set_size(s), left = s->max_size > used ? s->max_size - used : 0;
    return size <= left ||
           error_set_param(err, ERR_NO_ROOM, words->path,
                           "the adapter takes %llu KiB, and of the %llu KiB that %s allows %llu are left.",
                           (unsigned long long)((size + 1023) >> 10), (unsigned long long)(s->max_size >> 10),
                           words->max_size, (unsigned long long)(left >> 10));
}

struct served_adapter *adapter_set_add(struct adapter_set *s, struct str name, const char *path,
                                       const struct adapter_facts *facts, struct error *err)
{
    const struct adapter_words *words = words_of(s);
    size_t place;
    if (!adapter_name_check(name, words->name, err)) {
        return NULL;
    }
    if (adapter_set_find(s, name)) {
        error_set_param(err, ERR_INVALID, words->name,
                        "the model has an adapter named '" STR_FMT "' already; unload it first.", STR_ARG(name));
        return NULL;
    }
    if (strlen(path) >= WIRE_ADAPTER_PATH) {
        error_set_param(err, ERR_INVALID, words->path, "the path of an adapter has at most %d bytes.",
                        WIRE_ADAPTER_PATH - 1);
        return NULL;
    }
    struct served_adapter *a = check_room(s, facts->memory_size, &place, err) ? calloc(1, sizeof *a) : NULL;
    if (!a) {
        if (!err->code) {
            error_set(err, ERR_NO_MEMORY, "no memory for an adapter.");
        }
        return NULL;
    }
    *a = (struct served_adapter){
        .facts = *facts, .number = (uint32_t)place + 1, .listed = true, .added_s = clock_wall_s()};
    snprintf(a->name, sizeof a->name, STR_FMT, STR_ARG(name));
    snprintf(a->path, sizeof a->path, "%s", path);
    s->items[place] = a;
    return a;
}

/* ---- users ---- */

struct served_adapter *adapter_set_find(const struct adapter_set *s, struct str name)
{
    for (size_t i = 0; i < WIRE_MAX_ADAPTERS; i++) {
        struct served_adapter *a = s->items[i];
        if (a && a->listed && str_eq(str_of(a->name), name)) {
            return a;
        }
    }
    return NULL;
}

/* Once nobody has it and nobody can come to have it. */
static void free_unused(struct adapter_set *s, struct served_adapter *a)
{
    if (!a->listed && !a->loaded && s->under_way != a->number && a->n_users == 0) {
        s->items[a->number - 1] = NULL;
        free(a);
    }
}

void adapter_set_unlist(struct adapter_set *s, struct served_adapter *a)
{
    a->listed = false;
    free_unused(s, a);
}

void adapter_set_hold(struct served_adapter *a)
{
    a->n_users++;
}

void adapter_set_release_one(struct adapter_set *s, struct served_adapter *a)
{
    a->n_users--;
    free_unused(s, a);
}

/* ---- the engine ---- */

static bool wants_load(const struct served_adapter *a)
{
    return !a->loaded && !a->refused && (a->listed || a->n_users > 0);
}

bool adapter_set_next(struct adapter_set *s, struct adapter_order *order)
{
    for (size_t i = 0; i < WIRE_MAX_ADAPTERS && !s->under_way; i++) {
        const struct served_adapter *a = s->items[i];
        bool drop = a && a->loaded && !a->listed && a->n_users == 0;
        if (!a || (!drop && !wants_load(a))) {
            continue;
        }
        *order = (struct adapter_order){.number = a->number, .digest = a->facts.digest};
        snprintf(order->path, sizeof order->path, "%s", drop ? "" : a->path);
        s->under_way = a->number;
        s->loading = !drop;
        return true;
    }
    return false;
}

void adapter_set_take_back(struct adapter_set *s)
{
    s->under_way = 0;
}

bool adapter_set_done(struct adapter_set *s, const struct adapter_done *done, struct error *err)
{
    struct served_adapter *a = s->items[done->number - 1];
    if (s->under_way != done->number || !a) {
        return error_set(err, ERR_PROTOCOL, "the engine speaks of adapter %u, of which nobody has asked it.",
                         done->number);
    }
    s->under_way = 0;
    a->loaded = s->loading && !done->error.code;
    s->n_drops += !s->loading;
    if (s->loading) {
        a->n_losses = 0;
        a->refused = done->error.code != ERR_NONE;
        a->failure = done->error;
        s->n_loads += !a->refused;
        s->n_failed_loads += a->refused;
    }
    free_unused(s, a);
    return true;
}

void adapter_set_fresh(struct adapter_set *s)
{
    struct served_adapter *a = s->under_way ? s->items[s->under_way - 1] : NULL;
    if (a && s->loading && ++a->n_losses >= ADAPTER_LOSSES_MAX) {
        a->refused = true;
        s->n_failed_loads++;
        error_set(&a->failure, ERR_UNAVAILABLE, "%u engines ended while they loaded it.", a->n_losses);
    }
    s->under_way = 0;
    for (size_t i = 0; i < WIRE_MAX_ADAPTERS; i++) {
        a = s->items[i];
        if (a) {
            a->loaded = false;
            a->refused = a->refused && a->n_losses >= ADAPTER_LOSSES_MAX; /* it may be otherwise now */
            free_unused(s, a);
        }
    }
}

/* ---- looking ---- */

size_t adapter_set_n_listed(const struct adapter_set *s)
{
    size_t n = 0;
    for (size_t i = 0; i < WIRE_MAX_ADAPTERS; i++) {
        n += s->items[i] && s->items[i]->listed;
    }
    return n;
}

const struct served_adapter *adapter_set_at(const struct adapter_set *s, size_t i)
{
    for (size_t k = 0; k < WIRE_MAX_ADAPTERS; k++) {
        const struct served_adapter *a = s->items[k];
        if (a && a->listed && i-- == 0) {
            return a;
        }
    }
    return NULL;
}

void adapter_fingerprint(const struct sha256 *digest, const char *engine, char out[17])
{
    char hex[2 * SHA256_SIZE + 1];
    struct sha256_ctx *ctx = sha256_create();
    sha256_update(ctx, engine, strlen(engine));
    sha256_update(ctx, digest->bytes, sizeof digest->bytes);
    struct sha256 both = sha256_finish(ctx);
    sha256_free(ctx);
    sha256_hex(&both, hex);
    memcpy(out, hex, 16);
    out[16] = '\0';
}
