/* What is where in a schema: nodes by their JSON, schemas by URI and anchor, and where references lead. */
#include "grammar/json_schema_internal.h"

#include "grammar/json_pointer.h"

#include <stdarg.h>
#include <stdio.h>

/* ---- messages ---- */

/* Fills at from its end with the way to n; returns where it begins. What does not fit is left out at the front. */
static const char *place_of(const struct node *n, char *at, size_t size)
{
    size_t begin = size - 1;
    at[begin] = '\0';
    for (; n && n->parent; n = n->parent) {
        struct str parts[] = {n->way.name, str_of(n->way.keyword)};
        for (size_t p = 0; p < ARRAY_LEN(parts); p++) {
            bool pointer = p == 0 && !n->way.keyword[0]; /* has its slashes already */
            if (!parts[p].ptr || (p == 1 && !parts[p].len)) {
                continue;
            }
            if (parts[p].len + 5 > begin) {
                memcpy(at + begin - 3, "...", 3);
                return at + begin - 3;
            }
            begin -= parts[p].len;
            memcpy(at + begin, parts[p].ptr, parts[p].len);
            if (!pointer) {
                at[--begin] = '/';
            }
        }
    }
    return at + begin;
}

bool json_schema__refuse(struct compiler *c, const struct node *n, const char *keyword, const char *fmt, ...)
{
    char at[100], why[160];
    va_list args;
    va_start(args, fmt);
    vsnprintf(why, sizeof why, fmt, args);
    va_end(args);
    const char *place = place_of(n, at, sizeof at);
    return error_set(c->err, ERR_INVALID, "the schema at '%s' has a wrong `%s`: %s", place, keyword, why);
}

bool json_schema__full(struct compiler *c)
{
    return arena_full(c->schema->arena, "compiled JSON Schema", c->err);
}

/* ---- nodes ---- */

static struct str address_of(const struct json *const *v)
{
    return (struct str){(const char *)v, sizeof *v};
}

static struct node *find_node(const struct compiler *c, const struct json *v)
{
    return json_schema__map_get(&c->nodes, address_of(&v));
}

static struct str join(struct compiler *c, struct str a, char between, struct str b)
{
    char *text = arena_alloc(c->schema->arena, a.len + b.len + 2);
    if (!text) {
        json_schema__full(c);
        return (struct str){NULL, 0};
    }
    memcpy(text, a.ptr ? a.ptr : "", a.len);
    text[a.len] = between;
    memcpy(text + a.len + 1, b.ptr ? b.ptr : "", b.len);
    return (struct str){text, a.len + 1 + b.len};
}

static bool put_uri(struct compiler *c, const struct node *n, const char *keyword, struct str uri)
{
    const struct node *known = uri.ptr ? json_schema__map_get(&c->uris, uri) : NULL;
    if (!uri.ptr) {
        return false;
    }
    if (known && known != n) {
        return json_schema__refuse(c, n, keyword, "'" STR_FMT "' is used twice.", STR_ARG(uri));
    }
    return known || json_schema__map_put(&c->uris, uri, (void *)n, c->err);
}

static bool choose_draft(struct compiler *c, const struct node *n, struct resource *r)
{
    static const struct {
        const char *uri;
        enum draft draft;
    } drafts[] = {{"https://json-schema.org/draft/2020-12/schema", DRAFT_2020},
                  {"http://json-schema.org/draft-07/schema", DRAFT_7},
                  {"https://json-schema.org/draft-07/schema", DRAFT_7}};
    const struct json *v = json_get(n->json, "$schema");
    struct str uri = json_str(v);
    if (!v) {
        return true;
    }
    if (str_ends(uri, STR("#"))) {
        uri.len--;
    }
    for (size_t i = 0; i < ARRAY_LEN(drafts); i++) {
        if (str_eq(uri, str_of(drafts[i].uri))) {
            r->draft = drafts[i].draft;
            return true;
        }
    }
    json_schema__refuse(c, n, "$schema", "'" STR_FMT "' is not supported; drafts 2020-12 and 7 are.", STR_ARG(uri));
    c->err->code = ERR_UNSUPPORTED;
    return false;
}

static bool new_resource(struct compiler *c, struct node *n, struct str uri, enum draft draft)
{
    struct resource *r = arena_alloc(c->schema->arena, sizeof *r);
    if (!r || !uri.ptr) {
        return json_schema__full(c);
    }
    *r = (struct resource){.uri = uri, .draft = draft, .root = n};
    n->resource = r;
    return choose_draft(c, n, r);
}

static bool put_anchor(struct compiler *c, struct node *n, const char *keyword, struct str name)
{
    struct resource *r = n->resource;
    if (!put_uri(c, n, keyword, join(c, r->uri, '#', name))) {
        return false;
    }
    if (!str_eq(str_of(keyword), STR("$dynamicAnchor"))) {
        return true;
    }
    struct anchor *a = arena_alloc(c->schema->arena, sizeof *a);
    if (!a) {
        return json_schema__full(c);
    }
    *a = (struct anchor){name, n, r->dynamic};
    r->dynamic = a;
    return true;
}

static bool take_anchors(struct compiler *c, struct node *n)
{
    static const char *const keywords[] = {"$anchor", "$dynamicAnchor"};
    for (size_t i = 0; i < ARRAY_LEN(keywords) && n->resource->draft == DRAFT_2020; i++) {
        const struct json *v = json_get(n->json, keywords[i]);
        if (v && (json_type(v) != JSON_STRING || !json_str(v).len)) {
            return json_schema__refuse(c, n, keywords[i], "expected a name, got %s.", json_type_name(json_type(v)));
        }
        if (v && !put_anchor(c, n, keywords[i], json_str(v))) {
            return false;
        }
    }
    return true;
}

/* What n's own $id and anchors say. In draft 7 an $id beside a $ref says nothing, and "#name" is an anchor. */
static bool take_names(struct compiler *c, struct node *n)
{
    const struct json *v = json_get(n->json, "$id");
    struct resource *outer = n->resource;
    struct str id = json_str(v);
    size_t hash = str_find_char(id, '#');
    if (v && json_type(v) != JSON_STRING) {
        return json_schema__refuse(c, n, "$id", "expected a URI, got %s.", json_type_name(json_type(v)));
    }
    const struct json *own = json_get(n->json, "$schema"); /* has not been read yet */
    bool draft_7 = own ? str_find(json_str(own), STR("draft-07")) != STR_NPOS : outer->draft == DRAFT_7;
    if (!v || (draft_7 && json_get(n->json, "$ref"))) {
        return take_anchors(c, n);
    }
    struct str name = hash == STR_NPOS ? STR("") : str_slice(id, hash + 1, id.len);
    if (name.len && !draft_7) {
        return json_schema__refuse(c, n, "$id", "'" STR_FMT "' has a fragment.", STR_ARG(id));
    }
    id = hash == STR_NPOS ? id : str_slice(id, 0, hash);
    if (id.len) {
        struct str uri = json_schema__uri_resolve(c->schema->arena, outer->uri, id);
        if (!new_resource(c, n, uri, outer->draft) || !put_uri(c, n, "$id", uri)) {
            return false;
        }
    }
    return take_anchors(c, n) && (!name.len || put_anchor(c, n, "$id", name));
}

/* A node for v, in its parent's resource or, without a parent, in one of its own. */
static struct node *new_node(struct compiler *c, const struct node *parent, struct way way, const struct json *v)
{
    struct node *n = arena_alloc(c->schema->arena, sizeof *n);
    if (!n) {
        json_schema__full(c);
        return NULL;
    }
    *n = (struct node){.json = v, .parent = parent, .way = way, .resource = parent ? parent->resource : NULL};
    n->is_bool = json_type(v) == JSON_BOOL;
    n->allows = n->is_bool && json_bool(v);
    if (!n->is_bool && json_type(v) != JSON_OBJECT && !parent) {
        error_set(c->err, ERR_INVALID, "a JSON Schema is an object or a boolean, not %s.",
                  json_type_name(json_type(v)));
        return NULL;
    }
    if (!n->is_bool && json_type(v) != JSON_OBJECT) {
        json_schema__refuse(c, parent, way.keyword, "expected a schema (an object or a boolean), got %s.",
                            json_type_name(json_type(v)));
        return NULL;
    }
    if (!json_schema__map_put(&c->nodes, address_of(&n->json), n, c->err)) {
        return NULL;
    }
    return n;
}

static struct node *enqueue(struct compiler *c, struct node *n)
{
    if (!n->is_bool) {
        *(c->last ? &c->last->next : &c->first) = n;
        c->last = n;
    }
    return n;
}

struct node *json_schema__child(struct compiler *c, const struct node *parent, struct way way, const struct json *v)
{
    struct node *n = find_node(c, v);
    if (n) {
        return n; /* a reference came here first */
    }
    n = new_node(c, parent, way, v);
    return n && (n->is_bool || take_names(c, n)) ? enqueue(c, n) : NULL;
}

/* ---- documents ---- */

static struct json *copy_of(const struct json *v, struct error *err)
{
    struct buf text;
    struct json *copy = NULL;
    buf_init(&text, LIMIT_SCHEMA_SIZE);
    json_print(&text, v);
    if (buf_ok(&text, "JSON Schema", err)) {
        copy = json_parse_bounded(buf_view(&text), LIMIT_SCHEMA_DEPTH, LIMIT_SCHEMA_VALUES, err);
    }
    if (!copy && err->code == ERR_INVALID) { /* what came was a tree: it can only be too large */
        err->code = ERR_TOO_LARGE;
        error_wrap(err, "the JSON Schema");
    }
    buf_release(&text);
    return copy;
}

/* Takes the tree over. */
static struct node *add_document(struct compiler *c, struct json *tree, struct str uri, enum draft draft)
{
    struct json_schema *s = c->schema;
    if (!tree) {
        return NULL;
    }
    if (s->n_documents == ARRAY_LEN(s->documents)) {
        json_free(tree);
        error_set(c->err, ERR_TOO_LARGE, "the schema refers to more than %d documents.", LIMIT_SCHEMA_DOCUMENTS);
        return NULL;
    }
    s->documents[s->n_documents++] = tree;
    struct node *n = new_node(c, NULL, (struct way){"$ref", {NULL, 0}}, tree);
    if (!n || !new_resource(c, n, uri, draft) || !put_uri(c, n, "$id", n->resource->uri)) {
        return NULL;
    }
    return n->is_bool || take_names(c, n) ? enqueue(c, n) : NULL;
}

/* The document of that URI, which is not there yet. */
static struct node *load(struct compiler *c, struct str uri, enum draft draft)
{
    const char *text = json_schema__metaschema(uri);
    if (text) {
        return add_document(c, json_parse(str_of(text), LIMIT_SCHEMA_DEPTH, c->err), uri, draft);
    }
    for (size_t i = 0; i < c->options->n_documents; i++) {
        const struct json_schema_document *d = &c->options->documents[i];
        struct str name = str_ends(d->uri, STR("#")) ? str_slice(d->uri, 0, d->uri.len - 1) : d->uri;
        if (str_eq(name, uri)) {
            return add_document(c, copy_of(d->schema, c->err), uri, draft);
        }
    }
    return NULL;
}

/* ---- references ---- */

static const struct json *step_into(const struct json *at, struct str token)
{
    uint64_t index;
    bool plain = token.len && (token.len == 1 || token.ptr[0] != '0') && token.ptr[0] != '-';
    if (json_type(at) == JSON_ARRAY) {
        return plain && str_to_u64(token, &index) ? json_at(at, (size_t)index) : NULL;
    }
    return strlen(token.ptr) == token.len ? json_get(at, token.ptr) : NULL; /* ends in NUL, see unescape_token */
}

/* ~1 and ~0, in place; token is followed by a NUL afterwards: the separator's byte, or the arena's zeroes. */
static struct str unescape_token(char *token, size_t len)
{
    size_t n = json_pointer_unescape(token, len);
    token[n] = '\0';
    return (struct str){token, n};
}

/* Follows a JSON Pointer (unescaped from the URI) from the root of a resource. NULL without an error: nothing there. */
static struct node *follow(struct compiler *c, const struct node *root, struct str pointer)
{
    const struct node *last = root;
    const struct json *at = root->json;
    struct str whole = arena_str(c->schema->arena, pointer);
    size_t skipped = 0; /* of the pointer, up to `last` */
    char *p = (char *)pointer.ptr, *end = p + pointer.len;
    if (pointer.len && !whole.ptr) {
        json_schema__full(c);
        return NULL;
    }
    while (p < end && at) {
        char *next = memchr(p + 1, '/', (size_t)(end - p - 1));
        size_t len = (size_t)((next ? next : end) - p - 1);
        at = step_into(at, unescape_token(p + 1, len));
        p = next ? next : end;
        struct node *known = at ? find_node(c, at) : NULL;
        if (known) {
            last = known;
            whole = str_slice(whole, (size_t)(p - pointer.ptr) - skipped, whole.len);
            skipped = (size_t)(p - pointer.ptr);
        }
    }
    if (!at || (json_type(at) != JSON_OBJECT && json_type(at) != JSON_BOOL)) {
        return NULL;
    }
    return last->json == at ? (struct node *)last : json_schema__child(c, last, (struct way){"", whole}, at);
}

static const struct anchor *dynamic_anchor(const struct resource *r, struct str name)
{
    const struct anchor *a = r->dynamic;
    while (a && !str_eq(a->name, name)) {
        a = a->next;
    }
    return a;
}

static struct node *target_of(struct compiler *c, const struct pending *p, struct str uri, struct str fragment)
{
    struct node *root = json_schema__map_get(&c->uris, uri);
    struct str decoded = json_schema__uri_unescape(c->schema->arena, fragment);
    if (!root) {
        return NULL;
    }
    if (!decoded.ptr) {
        json_schema__full(c);
        return NULL;
    }
    if (!decoded.len || decoded.ptr[0] == '/') {
        return follow(c, root, decoded);
    }
    struct str anchor = join(c, root->resource->uri, '#', decoded);
    struct node *n = anchor.ptr ? json_schema__map_get(&c->uris, anchor) : NULL;
    if (n && p->dynamic && dynamic_anchor(n->resource, decoded)) {
        p->rule->u.reference.dynamic = decoded;
    }
    return n;
}

/* Resolves p, or loads the document it needs and leaves it for the next time. */
static bool resolve(struct compiler *c, struct pending *p, bool *again)
{
    const char *keyword = p->dynamic ? "$dynamicRef" : "$ref";
    struct str uri = json_schema__uri_resolve(c->schema->arena, p->node->resource->uri, p->text);
    if (!uri.ptr) {
        return json_schema__full(c);
    }
    size_t hash = str_find_char(uri, '#');
    struct str fragment = hash == STR_NPOS ? STR("") : str_slice(uri, hash + 1, uri.len);
    uri = hash == STR_NPOS ? uri : str_slice(uri, 0, hash);
    c->err->code = ERR_NONE;
    if (!json_schema__map_get(&c->uris, uri) && load(c, uri, p->node->resource->draft)) {
        *again = true;
        return true;
    }
    struct node *target = c->err->code == ERR_NONE ? target_of(c, p, uri, fragment) : NULL;
    p->rule->u.reference.target = target;
    if (!target && c->err->code == ERR_NONE) {
        return json_schema__refuse(c, p->node, keyword, "'" STR_FMT "' leads to no schema%s.", STR_ARG(p->text),
                                   json_schema__map_get(&c->uris, uri) ? "" : " here, and nothing is fetched");
    }
    return target != NULL;
}

static bool drain(struct compiler *c)
{
    while (c->first) {
        struct node *n = c->first;
        c->first = n->next;
        c->last = c->first ? c->last : NULL;
        if (!json_schema__compile_rules(c, n)) {
            return false;
        }
    }
    return true;
}

bool json_schema__compile_all(struct compiler *c, const struct json *schema)
{
    struct error *outer = c->err, mine = {0}; /* so that ERR_NONE says that nothing has failed */
    c->err = &mine;
    c->schema->root = add_document(c, copy_of(schema, c->err), STR(""), DRAFT_2020);
    bool ok = c->schema->root && drain(c);
    while (ok && c->references) {
        struct pending *p = c->references;
        bool again = false;
        c->references = p->next;
        ok = resolve(c, p, &again);
        if (ok && again) {
            p->next = c->references;
            c->references = p;
        }
        ok = ok && drain(c);
    }
    c->err = outer;
    if (!ok) {
        *outer = mine;
    }
    return ok;
}
