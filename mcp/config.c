#include "mcp/config_internal.h"

#include "base/array.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/sys_file.h"
#include "mcp/names.h"
#include "mcp/policy.h"
#include "mcp/revision.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const kind_names[] = {
    [MCP_STDIO] = "stdio", [MCP_HTTP] = "http", [MCP_SSE] = "sse", [MCP_HTTP_AUTO] = "http or sse"};

const char *mcp_transport_name(enum mcp_transport_kind kind)
{
    return kind_names[kind];
}

/* ---- values ---- */

static bool bad_type(const struct json *v, const char *expected, struct error *err)
{
    return error_set(err, ERR_INVALID, "expected %s, not %s.", expected, json_type_name(json_type(v)));
}

static bool read_text(const struct config_reader *r, const struct json *v, const char **out, struct error *err)
{
    if (json_type(v) != JSON_STRING) {
        return bad_type(v, "a string", err);
    }
    *out = config__expand(r, json_str(v), err);
    return *out != NULL;
}

static bool check_count(const struct json *v, struct error *err)
{
    return json_len(v) <= LIMIT_MCP_WORDS ||
           error_set(err, ERR_INVALID, "%zu values, at most %d are possible.", json_len(v), LIMIT_MCP_WORDS);
}

static bool read_words(const struct config_reader *r, const struct json *v, struct mcp_words *out, struct error *err)
{
    if (json_type(v) != JSON_ARRAY) {
        return bad_type(v, "an array of strings", err);
    }
    const char **items = arena_alloc_array(r->arena, json_len(v) + 1, sizeof *items);
    if (!check_count(v, err)) {
        return false;
    }
    if (!items) {
        return arena_full(r->arena, "the configuration", err);
    }
    for (size_t i = 0; i < json_len(v); i++) {
        if (!read_text(r, json_at(v, i), &items[i], err)) {
            return false;
        }
    }
    *out = (struct mcp_words){items, json_len(v)};
    return true;
}

static bool read_pairs(const struct config_reader *r, const struct json *v, struct mcp_pairs *out, struct error *err)
{
    if (json_type(v) != JSON_OBJECT) {
        return bad_type(v, "an object of strings", err);
    }
    struct mcp_pair *items = arena_alloc_array(r->arena, json_len(v) + 1, sizeof *items);
    if (!check_count(v, err)) {
        return false;
    }
    struct json_iter it = json_members(v);
    for (size_t i = 0; items && json_next(&it); i++) {
        items[i].name = arena_strdup(r->arena, it.key);
        if (!items[i].name) {
            items = NULL;
        } else if (!read_text(r, it.value, &items[i].value, err)) {
            return error_wrap(err, "'%.60s'", items[i].name);
        }
    }
    *out = (struct mcp_pairs){items, json_len(v)};
    return items || arena_full(r->arena, "the configuration", err);
}

/* ---- members of a server ---- */

struct server_reader {
    const struct config_reader *r;
    struct mcp_server_config *out;
    bool has_type;
};

static bool read_type(struct server_reader *s, const struct json *v, struct error *err)
{
    static const struct {
        const char *name;
        enum mcp_transport_kind kind;
    } types[] = {{"stdio", MCP_STDIO},
                 {"http", MCP_HTTP},
                 {"streamable-http", MCP_HTTP},
                 {"streamableHttp", MCP_HTTP},
                 {"sse", MCP_SSE}};
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        if (str_eq(json_str(v), str_of(types[i].name))) {
            s->out->kind = types[i].kind;
            s->has_type = true;
            return true;
        }
    }
    return error_set(err, ERR_INVALID, "expected \"stdio\", \"http\", \"streamable-http\" or \"sse\".");
}

static bool read_command(struct server_reader *s, const struct json *v, struct error *err)
{
    return read_text(s->r, v, &s->out->command, err) && policy_check_command(s->out->command, err);
}

static bool read_args(struct server_reader *s, const struct json *v, struct error *err)
{
    return read_words(s->r, v, &s->out->args, err);
}

static bool read_env(struct server_reader *s, const struct json *v, struct error *err)
{
    if (!read_pairs(s->r, v, &s->out->env, err)) {
        return false;
    }
    for (size_t i = 0; i < s->out->env.n; i++) {
        if (!policy_check_variable(s->out->env.items[i].name, err)) {
            return false;
        }
    }
    return true;
}

static bool read_cwd(struct server_reader *s, const struct json *v, struct error *err)
{
    return read_text(s->r, v, &s->out->cwd, err) &&
           (s->out->cwd[0] == '/' || error_set(err, ERR_INVALID, "expected an absolute path."));
}

static bool read_url(struct server_reader *s, const struct json *v, struct error *err)
{
    if (!read_text(s->r, v, &s->out->url, err)) {
        return false;
    }
    struct str url = str_of(s->out->url);
    return str_starts(url, STR("http://")) || str_starts(url, STR("https://")) ||
           error_set(err, ERR_INVALID, "expected a URL that begins with http:// or https://.");
}

static bool read_headers(struct server_reader *s, const struct json *v, struct error *err)
{
    if (!read_pairs(s->r, v, &s->out->headers, err)) {
        return false;
    }
    for (size_t i = 0; i < s->out->headers.n; i++) {
        if (!policy_check_header(s->out->headers.items[i].name, s->out->headers.items[i].value, err)) {
            return false;
        }
    }
    return true;
}

static bool read_allow(struct server_reader *s, const struct json *v, struct error *err)
{
    return read_words(s->r, v, &s->out->allow, err);
}

static bool read_deny(struct server_reader *s, const struct json *v, struct error *err)
{
    return read_words(s->r, v, &s->out->deny, err);
}

static bool read_timeout(struct server_reader *s, const struct json *v, struct error *err)
{
    if (json_type(v) != JSON_INT || json_int(v) < 1 || json_int(v) > MCP_MAX_TIMEOUT_MS) {
        return error_set(err, ERR_INVALID, "expected milliseconds from 1 to %d.", MCP_MAX_TIMEOUT_MS);
    }
    s->out->timeout_ms = json_int(v);
    return true;
}

static bool read_disabled(struct server_reader *s, const struct json *v, struct error *err)
{
    s->out->disabled = json_bool(v);
    return json_type(v) == JSON_BOOL || bad_type(v, "true or false", err);
}

static bool read_protocol(struct server_reader *s, const struct json *v, struct error *err)
{
    const struct mcp_revision *revision = mcp_revision_find(json_str(v));
    if (!revision) {
        return error_set(err, ERR_INVALID, "expected a revision of the protocol, such as \"%s\".",
                         mcp_revision_at(0)->name);
    }
    s->out->protocol = revision->name;
    return true;
}

enum member_of { OF_ANY, OF_PROCESS, OF_URL };

static const struct member {
    const char *name;
    enum member_of of;
    bool (*read)(struct server_reader *s, const struct json *v, struct error *err);
} members[] = {
    {"type", OF_ANY, read_type},       {"command", OF_PROCESS, read_command}, {"args", OF_PROCESS, read_args},
    {"env", OF_PROCESS, read_env},     {"cwd", OF_PROCESS, read_cwd},         {"url", OF_URL, read_url},
    {"headers", OF_URL, read_headers}, {"allow", OF_ANY, read_allow},         {"deny", OF_ANY, read_deny},
    {"timeout", OF_ANY, read_timeout}, {"disabled", OF_ANY, read_disabled},   {"protocol", OF_ANY, read_protocol},
};

static const struct member *find_member(struct str name)
{
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        if (str_eq(name, str_of(members[i].name))) {
            return &members[i];
        }
    }
    return NULL;
}

/* ---- a server ---- */

/* Appends "line N: " and where; text is the whole file's. */
static bool at_line(struct str text, const char *path, struct error *err)
{
    int line = json_line_of(text, path);
    return line ? error_wrap(err, "line %d, '%.80s'", line, path) : error_wrap(err, "'%.80s'", path);
}

static bool read_members(struct server_reader *s, struct str text, const struct json *v, struct error *err)
{
    char path[160];
    struct json_iter it = json_members(v);
    while (json_next(&it)) {
        const struct member *m = find_member(it.key);
        snprintf(path, sizeof path, "mcpServers.%s.%.*s", s->out->name, STR_ARG(str_slice(it.key, 0, 80)));
        if (!m) {
            error_set(err, ERR_INVALID, "there is no such member.");
            return at_line(text, path, err);
        }
        if (!m->read(s, it.value, err)) {
            return at_line(text, path, err);
        }
    }
    return true;
}

/* Members that belong to the other kind of server, and those that are missing. */
static bool check_kind(const struct server_reader *s, const struct json *v, struct error *err)
{
    struct mcp_server_config *out = s->out;
    if (!s->has_type) {
        out->kind = out->url && !out->command ? MCP_HTTP_AUTO : MCP_STDIO;
    }
    bool process = out->kind == MCP_STDIO;
    if (process ? !out->command : !out->url) {
        return error_set(err, ERR_INVALID, "'%s' is missing.", process ? "command" : "url");
    }
    struct json_iter it = json_members(v);
    while (json_next(&it)) {
        enum member_of of = find_member(it.key)->of;
        if (of == (process ? OF_URL : OF_PROCESS)) {
            return error_set(err, ERR_INVALID, "'" STR_FMT "' is for servers with a %s.", STR_ARG(it.key),
                             process ? "URL" : "command");
        }
    }
    return true;
}

static bool read_server(const struct config_reader *r, struct str text, struct json_iter *it,
                        struct mcp_server_config *out, struct error *err)
{
    char path[80];
    struct server_reader s = {.r = r, .out = out};
    if (!names_is_plain(it->key, LIMIT_MCP_SERVER_NAME)) {
        return error_set(err, ERR_INVALID, "a server's name must be 1 to %d letters, digits, '_' and '-': '%.*s'.",
                         LIMIT_MCP_SERVER_NAME, STR_ARG(str_slice(it->key, 0, 60)));
    }
    out->name = arena_strdup(r->arena, it->key);
    out->timeout_ms = MCP_DEFAULT_TIMEOUT_MS;
    if (!out->name) {
        return arena_full(r->arena, "the configuration", err);
    }
    snprintf(path, sizeof path, "mcpServers.%s", out->name);
    if (json_type(it->value) != JSON_OBJECT) {
        bad_type(it->value, "an object", err);
        return at_line(text, path, err);
    }
    return read_members(&s, text, it->value, err) && (check_kind(&s, it->value, err) || at_line(text, path, err));
}

static bool read_servers(const struct config_reader *r, struct str text, const struct json *v, struct mcp_config *out,
                         struct error *err)
{
    if (json_type(v) != JSON_OBJECT || json_len(v) > LIMIT_MCP_SERVERS) {
        error_set(err, ERR_INVALID, "expected an object with at most %d servers.", LIMIT_MCP_SERVERS);
        return at_line(text, "mcpServers", err);
    }
    struct mcp_server_config *servers = arena_alloc_array(r->arena, json_len(v) + 1, sizeof *servers);
    if (!servers) {
        return arena_full(r->arena, "the configuration", err);
    }
    struct json_iter it = json_members(v);
    for (size_t i = 0; json_next(&it); i++) {
        if (!read_server(r, text, &it, &servers[i], err)) {
            return false;
        }
    }
    *out = (struct mcp_config){servers, json_len(v)};
    return true;
}

/* ---- the file ---- */

static const char *real_environment(void *arg, const char *name)
{
    (void)arg;
    return getenv(name);
}

static bool check_root(struct str text, const struct json *root, struct error *err)
{
    char path[100];
    struct json_iter it = json_members(root);
    if (json_type(root) != JSON_OBJECT || !json_get(root, "mcpServers")) {
        return error_set(err, ERR_INVALID, "expected an object with the member 'mcpServers'.");
    }
    while (json_next(&it)) {
        if (!str_eq(it.key, STR("mcpServers"))) {
            snprintf(path, sizeof path, "%.*s", STR_ARG(str_slice(it.key, 0, 80)));
            error_set(err, ERR_INVALID, "there is no such member.");
            return at_line(text, path, err);
        }
    }
    return true;
}

bool mcp_config_read(struct str text, mcp_getenv lookup, void *lookup_arg, struct arena *arena, struct mcp_config *out,
                     struct error *err)
{
    struct config_reader r = {lookup ? lookup : real_environment, lookup_arg, arena};
    struct json *root = json_parse_bounded(text, LIMIT_JSON_DEPTH, LIMIT_MCP_VALUES, err);
    *out = (struct mcp_config){0};
    bool ok = root && check_root(text, root, err) && read_servers(&r, text, json_get(root, "mcpServers"), out, err);
    json_free(root);
    return ok;
}

bool mcp_config_read_file(const char *path, struct arena *arena, struct mcp_config *out, struct error *err)
{
    struct buf text;
    if (!file_read(path, LIMIT_MCP_CONFIG, &text, err)) {
        return false;
    }
    bool ok = mcp_config_read(buf_view(&text), NULL, NULL, arena, out, err) || error_wrap(err, "'%s'", path);
    memory_wipe(text.data, text.len); /* secrets may stand in it */
    buf_release(&text);
    return ok;
}
