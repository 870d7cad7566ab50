/* Metadata of a model: lookup, typed access, overrides. */
#include "tensor/model_file_internal.h"

#include "base/limits.h"

#include <math.h>

static const char *type_name(enum meta_type type)
{
    static const char *const names[] = {"nothing", "an integer", "a number", "a boolean", "a string", "an array"};
    return names[type];
}

const struct meta_value *meta__find(const struct meta_table *table, struct str key)
{
    size_t i;
    return name_index_find(&table->index, key, &i) ? &table->entries[i].value : NULL;
}

size_t model_file_n_meta(const struct model_file *f)
{
    return f->meta->n;
}

struct str model_file_meta_key(const struct model_file *f, size_t i)
{
    return f->meta->entries[i].key;
}

struct meta_value model_file_meta_at(const struct model_file *f, size_t i)
{
    return f->meta->entries[i].value;
}

struct meta_value meta_get(const struct model_file *f, const char *key)
{
    const struct meta_value *v = meta__find(f->meta, str_of(key));
    return v ? *v : (struct meta_value){.type = META_NONE};
}

/* ---- typed access ---- */

static bool missing(const char *key, struct error *err)
{
    return error_set(err, ERR_FORMAT, "The model's metadata lacks the key '%s'.", key);
}

static bool wrong_type(const char *key, enum meta_type want, enum meta_type got, struct error *err)
{
    return error_set(err, ERR_FORMAT, "The metadata key '%s' is %s instead of %s.", key, type_name(got),
                     type_name(want));
}

static bool int_of(const struct meta_value *v, const char *key, int64_t min, int64_t max, int64_t *out,
                   struct error *err)
{
    if (v->type != META_INT)
        return wrong_type(key, META_INT, v->type, err);
    if (v->i < min || v->i > max)
        return error_set(err, ERR_FORMAT, "The metadata key '%s' is %lld, not in the range from %lld to %lld.", key,
                         (long long)v->i, (long long)min, (long long)max);
    *out = v->i;
    return true;
}

bool meta__int_or(const struct meta_table *table, const char *key, int64_t min, int64_t max, int64_t fallback,
                  int64_t *out, struct error *err)
{
    const struct meta_value *v = meta__find(table, str_of(key));
    if (v)
        return int_of(v, key, min, max, out, err);
    *out = fallback;
    return true;
}

bool meta_int_or(const struct model_file *f, const char *key, int64_t min, int64_t max, int64_t fallback, int64_t *out,
                 struct error *err)
{
    return meta__int_or(f->meta, key, min, max, fallback, out, err);
}

bool meta_int(const struct model_file *f, const char *key, int64_t min, int64_t max, int64_t *out, struct error *err)
{
    const struct meta_value *v = meta__find(f->meta, str_of(key));
    return v ? int_of(v, key, min, max, out, err) : missing(key, err);
}

bool meta_float_or(const struct model_file *f, const char *key, double fallback, double *out, struct error *err)
{
    const struct meta_value *v = meta__find(f->meta, str_of(key));
    if (!v) {
        *out = fallback;
        return true;
    }
    if (v->type != META_FLOAT && v->type != META_INT)
        return wrong_type(key, META_FLOAT, v->type, err);
    double x = v->type == META_INT ? (double)v->i : v->f;
    if (!isfinite(x))
        return error_set(err, ERR_FORMAT, "The metadata key '%s' is not a finite number.", key);
    *out = x;
    return true;
}

bool meta_bool_or(const struct model_file *f, const char *key, bool fallback, bool *out, struct error *err)
{
    const struct meta_value *v = meta__find(f->meta, str_of(key));
    if (v && v->type != META_BOOL)
        return wrong_type(key, META_BOOL, v->type, err);
    *out = v ? v->b : fallback;
    return true;
}

bool meta_str(const struct model_file *f, const char *key, struct str *out, struct error *err)
{
    const struct meta_value *v = meta__find(f->meta, str_of(key));
    if (!v)
        return missing(key, err);
    if (v->type != META_STRING)
        return wrong_type(key, META_STRING, v->type, err);
    *out = v->s;
    return true;
}

struct str meta_str_or(const struct model_file *f, const char *key, struct str fallback)
{
    const struct meta_value *v = meta__find(f->meta, str_of(key));
    return v && v->type == META_STRING ? v->s : fallback;
}

/* ---- arrays ---- */

static const struct meta_items *array_of(const struct meta_value *v, enum meta_type item_type)
{
    return v->type == META_ARRAY && v->item_type == item_type ? v->items : NULL;
}

bool meta_array_int(const struct meta_value *v, size_t i, int64_t *out)
{
    const struct meta_items *a = array_of(v, META_INT);
    if (!a)
        return false;
    *out = gguf__int(a->type, a->data + i * gguf__type_size(a->type));
    return true;
}

bool meta_array_float(const struct meta_value *v, size_t i, double *out)
{
    const struct meta_items *a = array_of(v, META_FLOAT);
    if (!a)
        return false;
    *out = gguf__float(a->type, a->data + i * gguf__type_size(a->type));
    return true;
}

bool meta_array_bool(const struct meta_value *v, size_t i, bool *out)
{
    const struct meta_items *a = array_of(v, META_BOOL);
    if (!a)
        return false;
    *out = a->data[i] != 0;
    return true;
}

bool meta_array_str(const struct meta_value *v, size_t i, struct str *out)
{
    const struct meta_items *a = array_of(v, META_STRING);
    if (!a)
        return false;
    *out = a->strs[i];
    return true;
}

/* ---- overrides ---- */

static bool parse_override(struct str type, struct str text, struct meta_value *out)
{
    if (str_eq(type, STR("int"))) {
        out->type = META_INT;
        out->source_type = GGUF_I64;
        return str_to_i64(text, &out->i);
    }
    if (str_eq(type, STR("float"))) {
        out->type = META_FLOAT;
        out->source_type = GGUF_F64;
        return str_to_f64(text, &out->f);
    }
    if (str_eq(type, STR("bool"))) {
        out->type = META_BOOL;
        out->source_type = GGUF_BOOL;
        out->b = str_eq(text, STR("true"));
        return out->b || str_eq(text, STR("false"));
    }
    out->type = META_STRING;
    out->source_type = GGUF_STRING;
    out->s = text;
    return str_eq(type, STR("str"));
}

static bool put_override(struct model_file *f, struct str key, const struct meta_value *value, struct error *err)
{
    struct meta_table *table = f->meta;
    size_t i;
    if (name_index_find(&table->index, key, &i)) {
        enum meta_type old = table->entries[i].value.type;
        /* "10000" for a float is meant as one; JSON has both kinds of number where a float is meant. */
        bool number = (old == META_FLOAT && value->type == META_INT) ||
                      (f->is_folder && old == META_INT && value->type == META_FLOAT);
        if (old != value->type && !number)
            return error_set(err, ERR_INVALID, "The override of '" STR_FMT "' gives %s, but the model has %s there.",
                             STR_ARG(str_slice(key, 0, 96)), type_name(value->type), type_name(old));
    } else {
        i = table->n;
        if (!name_index_add(&table->index, key, i))
            return error_set(err, ERR_INTERNAL, "The metadata index is inconsistent.");
        table->n++;
    }
    table->entries[i] = (struct meta_entry){key, *value};
    return true;
}

bool model_file_override(struct model_file *f, const char *spec, struct error *err)
{
    if (f->n_overrides == LIMIT_GGUF_OVERRIDES)
        return error_set(err, ERR_TOO_LARGE, "More than %d metadata overrides were given.", LIMIT_GGUF_OVERRIDES);
    struct str copy = arena_str(f->arena, str_of(spec));
    if (!copy.ptr)
        return arena_full(f->arena, "index of a model file", err);
    size_t equals = str_find_char(copy, '=');
    struct str key = str_slice(copy, 0, equals), rest = str_slice(copy, equals + (equals != STR_NPOS), copy.len);
    size_t colon = str_find_char(rest, ':');
    struct meta_value value = {0};
    if (key.len == 0 || equals == STR_NPOS || colon == STR_NPOS ||
        !parse_override(str_slice(rest, 0, colon), str_slice(rest, colon + 1, rest.len), &value))
        return error_set(err, ERR_INVALID,
                         "The override '%.96s' is not KEY=TYPE:VALUE with a TYPE of int, float, bool or str.", spec);
    if (str_eq(key, STR(GGUF_KEY_ALIGNMENT)) || str_starts(key, STR("split.")) ||
        str_starts(key, STR("config.quantization")))
        return error_set(err, ERR_INVALID,
                         "The metadata key '" STR_FMT "' describes the file and cannot be overridden.",
                         STR_ARG(str_slice(key, 0, 96)));
    if (!put_override(f, key, &value, err))
        return false;
    f->overrides[f->n_overrides++] = copy;
    return true;
}
