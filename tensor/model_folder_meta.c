/* Metadata of a folder: JSON files by path, and chat templates. Everything is walked twice: to count, and to keep.
 * Recursion is bounded by the depth that the JSON reader allows. */
#include "tensor/model_folder_internal.h"

#include "base/utf8.h"

#define PATH_MAX_SIZE 4096 /* of a key; far beyond what any file has */

struct flattener {
    const struct folder *folder;
    struct arena *arena;
    struct meta_table *table; /* entries NULL: only counts */
    struct buf path;
    struct error *err;
};

static bool add(struct flattener *fl, const struct meta_value *value)
{
    struct meta_table *table = fl->table;
    if (table->n == LIMIT_FOLDER_KEYS)
        return error_set(fl->err, ERR_FORMAT, "The JSON files hold more than %d metadata keys.", LIMIT_FOLDER_KEYS);
    if (!table->entries) {
        table->n++;
        return true;
    }
    struct str key = arena_str(fl->arena, buf_view(&fl->path));
    if (!key.ptr)
        return arena_full(fl->arena, "index of a model folder", fl->err);
    if (!name_index_add(&table->index, key, table->n))
        return error_set(fl->err, ERR_FORMAT, "The JSON files have the metadata key '%.96s' twice.", key.ptr);
    table->entries[table->n++] = (struct meta_entry){key, *value};
    return true;
}

/* ---- values ---- */

static enum meta_type type_of(const struct json *v)
{
    switch (json_type(v)) {
    case JSON_BOOL:
        return META_BOOL;
    case JSON_INT:
        return META_INT;
    case JSON_DOUBLE:
        return META_FLOAT;
    case JSON_STRING:
        return META_STRING;
    default:
        return META_NONE;
    }
}

static bool copy_str(struct flattener *fl, const struct json *v, struct str *out)
{
    *out = STR("");
    if (!fl->table->entries)
        return true;
    *out = arena_str(fl->arena, json_str(v));
    return out->ptr || arena_full(fl->arena, "index of a model folder", fl->err);
}

static bool add_scalar(struct flattener *fl, const struct json *v)
{
    static const enum gguf_type source_types[] = {
        [META_INT] = GGUF_I64, [META_FLOAT] = GGUF_F64, [META_BOOL] = GGUF_BOOL, [META_STRING] = GGUF_STRING};
    struct meta_value value = {.type = type_of(v)};
    value.source_type = source_types[value.type];
    if (value.type == META_INT)
        value.i = json_int(v);
    else if (value.type == META_FLOAT)
        value.f = json_double(v);
    else if (value.type == META_BOOL)
        value.b = json_bool(v);
    else if (!copy_str(fl, v, &value.s))
        return false;
    return add(fl, &value);
}

/* The type of all items; integers among floats count as floats. META_NONE for mixed, empty and nested arrays. */
static enum meta_type item_type(const struct json *array)
{
    enum meta_type type = type_of(json_at(array, 0));
    for (size_t i = 1; i < json_len(array) && type != META_NONE; i++) {
        enum meta_type other = type_of(json_at(array, i));
        bool numbers = (type == META_INT || type == META_FLOAT) && (other == META_INT || other == META_FLOAT);
        if (other != type)
            type = numbers ? META_FLOAT : META_NONE;
    }
    return type;
}

static bool fill_strs(struct flattener *fl, const struct json *array, struct meta_items *items)
{
    struct str *strs = arena_alloc_array(fl->arena, json_len(array), sizeof(*strs));
    items->type = GGUF_STRING;
    items->strs = strs;
    if (!strs)
        return arena_full(fl->arena, "index of a model folder", fl->err);
    for (size_t i = 0; i < json_len(array); i++) {
        if (!copy_str(fl, json_at(array, i), &strs[i]))
            return false;
    }
    return true;
}

static bool fill_packed(struct flattener *fl, const struct json *array, enum meta_type type, struct meta_items *items)
{
    items->type = type == META_INT ? GGUF_I64 : type == META_FLOAT ? GGUF_F64 : GGUF_BOOL;
    size_t size = gguf__type_size(items->type);
    uint8_t *data = arena_alloc_array(fl->arena, json_len(array), size);
    items->data = data;
    if (!data)
        return arena_full(fl->arena, "index of a model folder", fl->err);
    for (size_t i = 0; i < json_len(array); i++) {
        const struct json *v = json_at(array, i);
        int64_t integer = json_int(v);
        double number = json_double(v);
        if (type == META_BOOL)
            data[i] = json_bool(v);
        else
            memcpy(data + i * size, type == META_INT ? (const void *)&integer : &number, size);
    }
    return true;
}

static bool add_array(struct flattener *fl, const struct json *array, enum meta_type type)
{
    struct meta_value value = {.type = META_ARRAY, .item_type = type, .n = json_len(array), .source_type = GGUF_ARRAY};
    if (fl->table->entries) {
        struct meta_items *items = arena_alloc(fl->arena, sizeof(*items));
        if (!items)
            return arena_full(fl->arena, "index of a model folder", fl->err);
        value.items = items;
        if (type == META_STRING ? !fill_strs(fl, array, items) : !fill_packed(fl, array, type, items))
            return false;
    }
    return add(fl, &value);
}

/* ---- the tree ---- */

static bool flatten(struct flattener *fl, const struct json *v);

static bool flatten_member(struct flattener *fl, const struct json *v, struct str key)
{
    size_t len = fl->path.len;
    buf_putc(&fl->path, '.');
    buf_append(&fl->path, key);
    if (!buf_ok(&fl->path, "path of a metadata key", fl->err))
        return false;
    bool ok = flatten(fl, v);
    buf_truncate(&fl->path, len);
    return ok;
}

static bool flatten_item(struct flattener *fl, const struct json *v, size_t i)
{
    size_t len = fl->path.len;
    buf_printf(&fl->path, ".%zu", i);
    if (!buf_ok(&fl->path, "path of a metadata key", fl->err))
        return false;
    bool ok = flatten(fl, v);
    buf_truncate(&fl->path, len);
    return ok;
}

static bool flatten_array(struct flattener *fl, const struct json *array)
{
    enum meta_type type = item_type(array);
    if (type != META_NONE)
        return add_array(fl, array, type);
    for (size_t i = 0; i < json_len(array); i++) {
        const struct json *item = json_at(array, i);
        bool nested = json_type(item) == JSON_OBJECT || json_type(item) == JSON_ARRAY;
        if (nested && !flatten_item(fl, item, i))
            return false;
    }
    return true;
}

static bool flatten(struct flattener *fl, const struct json *v)
{
    switch (json_type(v)) {
    case JSON_NULL:
        return true;
    case JSON_ARRAY:
        return flatten_array(fl, v);
    case JSON_OBJECT:
        for (struct json_iter it = json_members(v); json_next(&it);) {
            if (!flatten_member(fl, it.value, it.key))
                return false;
        }
        return true;
    default:
        return add_scalar(fl, v);
    }
}

static bool flatten_document(struct flattener *fl, const struct json *root, const char *name)
{
    buf_clear(&fl->path);
    buf_puts(&fl->path, name);
    return flatten(fl, root);
}

/* ---- templates ---- */

static bool add_template(struct flattener *fl, struct str name, struct str text)
{
    struct meta_value value = {.type = META_STRING, .s = text, .source_type = GGUF_STRING};
    if (!utf8_valid(text) || !utf8_valid(name) || name.len == 0 || memchr(name.ptr, '\0', name.len))
        return error_set(fl->err, ERR_FORMAT, "The chat template '%.60s', or its name, is not valid text.",
                         name.len ? name.ptr : "");
    buf_clear(&fl->path);
    buf_puts(&fl->path, "tokenizer.chat_template");
    if (!str_eq(name, STR("default"))) {
        buf_putc(&fl->path, '.');
        buf_append(&fl->path, name);
    }
    return buf_ok(&fl->path, "name of a chat template", fl->err) && add(fl, &value);
}

/* A template out of JSON: its text lies in the tree, which goes away. */
static bool add_json_template(struct flattener *fl, const struct json *name, const struct json *text)
{
    struct str copy;
    if (json_type(name) != JSON_STRING || json_type(text) != JSON_STRING)
        return error_set(fl->err, ERR_FORMAT, "A chat template in a list is not an object with name and template.");
    return copy_str(fl, text, &copy) && add_template(fl, json_str(name), copy);
}

/* chat_template: a string, or a list of {"name": ..., "template": ...}, or an object from names to templates. */
static bool add_json_templates(struct flattener *fl, const struct json *v)
{
    struct str copy;
    switch (json_type(v)) {
    case JSON_NULL:
        return true;
    case JSON_STRING:
        return copy_str(fl, v, &copy) && add_template(fl, STR("default"), copy);
    case JSON_ARRAY:
        for (size_t i = 0; i < json_len(v); i++) {
            const struct json *item = json_at(v, i);
            if (!add_json_template(fl, json_get(item, "name"), json_get(item, "template")))
                return false;
        }
        return true;
    case JSON_OBJECT:
        for (struct json_iter it = json_members(v); json_next(&it);) {
            if (json_type(it.value) != JSON_STRING)
                return error_set(fl->err, ERR_FORMAT, "The chat template '%.60s' is %s instead of a string.",
                                 it.key.ptr, json_type_name(json_type(it.value)));
            if (!copy_str(fl, it.value, &copy) || !add_template(fl, it.key, copy))
                return false;
        }
        return true;
    default:
        return error_set(fl->err, ERR_FORMAT, "chat_template is %s instead of a string or a list.",
                         json_type_name(json_type(v)));
    }
}

/* Templates in files of their own; *n: how many. */
static bool add_file_templates(struct flattener *fl, size_t *n)
{
    const struct model_file *f = fl->folder->f;
    const struct str prefix = STR(FOLDER_TEMPLATES "/"), suffix = STR(".jinja");
    for (size_t i = 0; i < f->n_documents; i++) {
        const struct model_document *d = &f->documents[i];
        bool main = str_eq(d->name, STR(FOLDER_TEMPLATE)), additional = str_starts(d->name, prefix);
        struct str name = main ? STR("default") : str_slice(d->name, prefix.len, d->name.len - suffix.len);
        if (!main && !additional)
            continue;
        ++*n;
        if (!add_template(fl, name, d->text))
            return false;
    }
    return true;
}

/* As transformers has it: templates in files of their own take the place of all that JSON files have. */
static bool add_templates(struct flattener *fl)
{
    const struct json *other = json_get(fl->folder->template_json, "chat_template");
    size_t n = 0;
    if (!add_file_templates(fl, &n))
        return false;
    if (n > 0)
        return true;
    return add_json_templates(fl, other ? other : json_get(fl->folder->tokenizer, "chat_template"));
}

/* ---- all of it ---- */

static bool flatten_all(struct flattener *fl)
{
    const struct folder *folder = fl->folder;
    return flatten_document(fl, folder->config, "config") &&
           flatten_document(fl, folder->generation, "generation_config") &&
           flatten_document(fl, folder->tokenizer, "tokenizer_config") && add_templates(fl);
}

static bool fill_table(struct flattener *fl)
{
    struct meta_table *table = fl->table;
    size_t capacity = table->n + LIMIT_GGUF_OVERRIDES;
    table->entries = arena_alloc_array(fl->arena, capacity, sizeof(*table->entries));
    if (!table->entries || !name_index_init(&table->index, fl->arena, capacity))
        return arena_full(fl->arena, "index of a model folder", fl->err);
    table->n = 0;
    return flatten_all(fl);
}

bool folder__flatten(const struct folder *folder, struct error *err)
{
    struct flattener fl = {.folder = folder, .arena = folder->f->arena, .table = folder->f->meta, .err = err};
    buf_init(&fl.path, PATH_MAX_SIZE);
    bool ok = flatten_all(&fl) && fill_table(&fl);
    buf_release(&fl.path);
    return ok;
}
