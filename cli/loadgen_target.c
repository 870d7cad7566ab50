#include "cli/loadgen_target.h"

#include "base/array.h"

#include <stdio.h>
#include <stdlib.h>

#define WORD_MAX 2000 /* bytes of a target's word */

static const struct {
    const char *name, *path;
} apis[] = {
    [LOADGEN_CHAT] = {"chat", "/chat/completions"},
    [LOADGEN_COMPLETIONS] = {"completions", "/completions"},
};

const char *loadgen_api_name(enum loadgen_api api)
{
    return apis[api].name;
}

bool loadgen_api_parse(const char *name, enum loadgen_api *out, struct error *err)
{
    for (size_t i = 0; i < ARRAY_LEN(apis); i++) {
        if (strcmp(name, apis[i].name) == 0) {
            *out = (enum loadgen_api)i;
            return true;
        }
    }
    return error_set(err, ERR_INVALID, "--api: '%.40s' is neither chat nor completions.", name);
}

/* ---- one word ---- */

/* The parts of a word: views of it. */
struct parts {
    struct str label, scheme, host, path, query, model; /* scheme with "://", path without '/' at its end */
};

static size_t first_of(struct str s, const char *chars)
{
    size_t n = 0;
    while (n < s.len && !strchr(chars, s.ptr[n])) {
        n++;
    }
    return n;
}

static bool split(const char *word, struct parts *p, struct error *err)
{
    struct str rest = str_of(word);
    size_t mark = first_of(rest, "=:/?#"), at;
    *p = (struct parts){.scheme = STR("http://")};
    if (mark < rest.len && rest.ptr[mark] == '=') {
        p->label = str_slice(rest, 0, mark);
        rest = str_slice(rest, mark + 1, rest.len);
        if (p->label.len == 0 || p->label.len > LOADGEN_LABEL_MAX) {
            return error_set(err, ERR_INVALID, "target '%.80s': a label has 1 to %d bytes.", word, LOADGEN_LABEL_MAX);
        }
    }
    if ((at = str_find_char(rest, '#')) != STR_NPOS) {
        p->model = str_slice(rest, at + 1, rest.len);
        rest = str_slice(rest, 0, at);
        if (p->model.len == 0) {
            return error_set(err, ERR_INVALID, "target '%.80s': no model behind the '#'.", word);
        }
    }
    if ((at = str_find_char(rest, '?')) != STR_NPOS) {
        p->query = str_slice(rest, at, rest.len);
        rest = str_slice(rest, 0, at);
    }
    if ((at = str_find(rest, STR("://"))) != STR_NPOS) {
        p->scheme = str_slice(rest, 0, at + 3);
        rest = str_slice(rest, at + 3, rest.len);
    }
    at = str_find_char(rest, '/');
    p->host = str_slice(rest, 0, at);
    p->path = at == STR_NPOS ? p->path : str_slice(rest, at, rest.len);
    while (str_ends(p->path, STR("/"))) {
        p->path.len--;
    }
    return p->host.len ||
           error_set(err, ERR_INVALID, "target '%.80s' names no host; expected [LABEL=]URL[#MODEL].", word);
}

/* The parts behind each other; NULL when the arena is full. */
static const char *join(struct arena *arena, const struct str *parts, size_t n)
{
    struct buf text;
    buf_init(&text, 4 * WORD_MAX);
    for (size_t i = 0; i < n; i++) {
        buf_append(&text, parts[i]);
    }
    const char *copy = text.failed ? NULL : arena_strdup(arena, buf_view(&text));
    buf_release(&text);
    return copy;
}

static bool fill_urls(const struct parts *p, const char *word, enum loadgen_api api, struct arena *arena,
                      struct loadgen_target *t, struct error *err)
{
    struct str base = p->path, chat = str_of(apis[LOADGEN_CHAT].path),
               completions = str_of(apis[LOADGEN_COMPLETIONS].path);
    bool names_endpoint = str_ends(base, completions);
    enum loadgen_api named = str_ends(base, chat) ? LOADGEN_CHAT : LOADGEN_COMPLETIONS;
    if (names_endpoint && named != api) {
        return error_set(err, ERR_INVALID, "target '%.80s' is an endpoint of --api %s, but --api is %s.", word,
                         loadgen_api_name(named), loadgen_api_name(api));
    }
    if (names_endpoint) {
        base.len -= named == LOADGEN_CHAT ? chat.len : completions.len;
    } else if (base.len == 0) {
        base = STR("/v1");
    }
    const struct str url[] = {p->scheme, p->host, base, str_of(apis[api].path), p->query};
    const struct str models[] = {p->scheme, p->host, base, STR("/models"), p->query};
    t->url = join(arena, url, ARRAY_LEN(url));
    t->models_url = join(arena, models, ARRAY_LEN(models));
    return (t->url && t->models_url) || arena_full(arena, "the list of targets", err);
}

static bool parse_one(const char *word, const char *model, enum loadgen_api api, struct arena *arena,
                      struct loadgen_target *t, struct str *host, struct error *err)
{
    struct parts p;
    if (strlen(word) > WORD_MAX) {
        return error_set(err, ERR_INVALID, "target '%.60s...' has more than %d bytes.", word, WORD_MAX);
    }
    if (!split(word, &p, err) || !fill_urls(&p, word, api, arena, t, err)) {
        return false;
    }
    t->label = p.label.len ? arena_strdup(arena, p.label) : NULL;
    t->model = p.model.len ? arena_strdup(arena, p.model) : model;
    t->server = t->fingerprint = "";
    *host = p.host;
    return (!p.label.len || t->label) && (!p.model.len || t->model) ? true
                                                                    : arena_full(arena, "the list of targets", err);
}

/* ---- labels ---- */

static bool is_taken(const struct loadgen_target *t, int n, const char *label)
{
    for (int i = 0; i < n; i++) {
        if (t[i].label && strcmp(t[i].label, label) == 0) {
            return true;
        }
    }
    return false;
}

/* Targets without a label get their host as one, then with their model, then with a number. */
static bool fill_labels(struct loadgen_target *t, const struct str *hosts, int n, struct arena *arena,
                        struct error *err)
{
    for (int i = 0; i < n; i++) {
        if (t[i].label && is_taken(t, i, t[i].label)) {
            return error_set(err, ERR_INVALID, "two targets have the label '%.40s'.", t[i].label);
        }
    }
    for (int i = 0; i < n; i++) {
        char label[2 * LOADGEN_LABEL_MAX];
        if (t[i].label) {
            continue;
        }
        int host_len = hosts[i].len < LOADGEN_LABEL_MAX ? (int)hosts[i].len : LOADGEN_LABEL_MAX;
        snprintf(label, sizeof label, "%.*s", host_len, hosts[i].ptr);
        if (is_taken(t, n, label) && t[i].model) {
            snprintf(label, sizeof label, "%.*s#%.30s", host_len, hosts[i].ptr, t[i].model);
        }
        for (int k = 2; is_taken(t, n, label); k++) {
            snprintf(label, sizeof label, "%.*s (%d)", host_len, hosts[i].ptr, k);
        }
        if (!(t[i].label = arena_strdup(arena, str_of(label)))) {
            return arena_full(arena, "the list of targets", err);
        }
    }
    return true;
}

/* ---- keys ---- */

static bool set_key(struct loadgen_target *t, const char *variable, bool demanded, struct arena *arena,
                    struct error *err)
{
    const char *key = getenv(variable);
    if (!key || !key[0]) {
        return !demanded || error_set(err, ERR_INVALID, "--api-key-env: the variable '%.60s' is not set.", variable);
    }
    const struct str parts[] = {STR("Bearer "), str_of(key)};
    t->auth = join(arena, parts, ARRAY_LEN(parts));
    return t->auth || error_set(err, ERR_INVALID, "--api-key-env: the key in '%.60s' is too long.", variable);
}

/* --api-key-env LABEL=NAME is for one target, NAME for all that have none of their own; NULL: neither. */
static const char *variable_of(const struct loadgen_target *t, const struct option_list *words)
{
    const char *general = NULL;
    for (int i = 0; i < words->n; i++) {
        const char *equals = strchr(words->items[i], '=');
        struct str label = {words->items[i], equals ? (size_t)(equals - words->items[i]) : 0};
        if (equals && str_eq(label, str_of(t->label))) {
            return equals + 1;
        }
        general = equals || general ? general : words->items[i];
    }
    return general;
}

static bool check_key_words(const struct loadgen_target *t, int n, const struct option_list *words, struct error *err)
{
    for (int i = 0; i < words->n; i++) {
        char label[2 * LOADGEN_LABEL_MAX];
        size_t equals = str_find_char(str_of(words->items[i]), '=');
        snprintf(label, sizeof label, "%.*s", (int)(equals < sizeof label ? equals : sizeof label), words->items[i]);
        if (equals != STR_NPOS && !is_taken(t, n, label)) {
            return error_set(err, ERR_INVALID, "--api-key-env: '%.80s' names no target by its label.", words->items[i]);
        }
    }
    return true;
}

static bool fill_keys(struct loadgen_target *t, int n, const struct option_list *words, struct arena *arena,
                      struct error *err)
{
    static const char *const usual[] = {"TANDEM_BENCH_API_KEY", "OPENAI_API_KEY"};
    bool ok = check_key_words(t, n, words, err);
    for (int i = 0; ok && i < n; i++) {
        const char *variable = variable_of(&t[i], words);
        ok = !variable || set_key(&t[i], variable, true, arena, err);
        for (size_t k = 0; k < ARRAY_LEN(usual) && ok && words->n == 0 && !t[i].auth; k++) {
            ok = set_key(&t[i], usual[k], false, arena, err);
        }
    }
    return ok;
}

bool loadgen_targets_parse(const struct options *o, enum loadgen_api api, struct arena *arena,
                           struct loadgen_target **targets, int *n, struct error *err)
{
    const struct option_list *words = o->arguments.n ? &o->arguments : &o->bench_serve.targets;
    struct str hosts[OPTIONS_MAX_LIST];
    struct loadgen_target *t = arena_alloc_array(arena, OPTIONS_MAX_LIST, sizeof *t);
    if (words->n == 0) {
        return error_set(err, ERR_INVALID,
                         "`tandem bench-serve` needs what to measure, such as 127.0.0.1:8000 or "
                         "LABEL=http://host/v1#MODEL.");
    }
    if (!t) {
        return arena_full(arena, "the list of targets", err);
    }
    for (int i = 0; i < words->n; i++) {
        if (!parse_one(words->items[i], o->bench_serve.model, api, arena, &t[i], &hosts[i], err)) {
            return false;
        }
    }
    *targets = t;
    *n = words->n;
    return fill_labels(t, hosts, *n, arena, err) && fill_keys(t, *n, &o->bench_serve.api_key_env, arena, err);
}
