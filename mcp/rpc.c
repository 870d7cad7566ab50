#include "mcp/rpc.h"

#include "base/limits.h"

struct json *rpc_parse(struct str text, struct error *err)
{
    if (text.len > LIMIT_MCP_MESSAGE) {
        error_set(err, ERR_PROTOCOL, "a message has %zu bytes, at most %zu are taken.", text.len, LIMIT_MCP_MESSAGE);
        return NULL;
    }
    struct json *tree = json_parse_bounded(text, LIMIT_MCP_DEPTH, LIMIT_MCP_VALUES, err);
    if (!tree) {
        err->code = err->code == ERR_NO_MEMORY ? ERR_NO_MEMORY : ERR_PROTOCOL;
        error_wrap(err, "a message is no JSON");
    }
    return tree;
}

bool rpc_count(const struct json *tree, size_t *n, struct error *err)
{
    bool batch = json_type(tree) == JSON_ARRAY;
    if (!batch && json_type(tree) != JSON_OBJECT) {
        return error_set(err, ERR_PROTOCOL, "a message must be an object, and %s came.",
                         json_type_name(json_type(tree)));
    }
    *n = batch ? json_len(tree) : 1;
    return (*n > 0 && *n <= LIMIT_MCP_BATCH) ||
           error_set(err, ERR_PROTOCOL, "a batch of %zu messages came, 1 to %d are taken.", *n, LIMIT_MCP_BATCH);
}

static bool bad(struct error *err, const char *what)
{
    return error_set(err, ERR_PROTOCOL, "a message is no JSON-RPC: %s.", what);
}

static bool read_params(const struct json *v, struct rpc_message *out, struct error *err)
{
    out->params = json_get(v, "params");
    return !out->params || json_type(out->params) == JSON_OBJECT || bad(err, "'params' is no object");
}

static bool read_method(const struct json *v, struct rpc_message *out, struct error *err)
{
    const struct json *id = json_get(v, "id"), *method = json_get(v, "method");
    if (json_type(method) != JSON_STRING) {
        return bad(err, "'method' is no string");
    }
    if (id && json_type(id) != JSON_STRING && json_type(id) != JSON_INT) {
        return bad(err, "the 'id' of a request is neither a string nor an integer");
    }
    out->kind = id ? RPC_REQUEST : RPC_NOTIFICATION;
    out->id = id;
    out->method = json_str(method);
    return read_params(v, out, err);
}

static bool read_error(const struct json *e, struct rpc_message *out, struct error *err)
{
    if (json_type(e) != JSON_OBJECT || json_type(json_get(e, "code")) != JSON_INT) {
        return bad(err, "'error' is no object with a code");
    }
    out->kind = RPC_ERROR;
    out->code = json_int(json_get(e, "code"));
    out->text = json_str(json_get(e, "message"));
    out->data = json_get(e, "data");
    return true;
}

/* We only give positive integers; a server that sends them back as strings is understood. */
static uint64_t call_of(const struct json *id)
{
    uint64_t call = 0;
    if (json_type(id) == JSON_INT) {
        call = json_int(id) > 0 ? (uint64_t)json_int(id) : 0;
    } else if (json_type(id) == JSON_STRING && !str_to_u64(json_str(id), &call)) {
        call = 0;
    }
    return call;
}

bool rpc_read(const struct json *tree, size_t i, struct rpc_message *out, struct error *err)
{
    const struct json *v = json_type(tree) == JSON_ARRAY ? json_at(tree, i) : tree;
    *out = (struct rpc_message){0};
    if (json_type(v) != JSON_OBJECT) {
        return bad(err, "it is no object");
    }
    if (!str_eq(json_str(json_get(v, "jsonrpc")), STR("2.0"))) {
        return bad(err, "'jsonrpc' is not \"2.0\"");
    }
    if (json_get(v, "method")) {
        return read_method(v, out, err);
    }
    out->call = call_of(json_get(v, "id"));
    if (json_get(v, "error")) {
        return read_error(json_get(v, "error"), out, err);
    }
    out->kind = RPC_RESULT;
    out->result = json_get(v, "result");
    return json_type(out->result) == JSON_OBJECT || bad(err, "it has no 'method', no 'error', and no object 'result'");
}

/* ---- writing ---- */

void rpc_begin(struct json_writer *w, uint64_t id, const char *method)
{
    json_begin_object(w);
    json_member_cstr(w, "jsonrpc", "2.0");
    if (id) {
        json_member_uint(w, "id", id);
    }
    json_member_cstr(w, "method", method);
    json_key(w, "params");
    json_begin_object(w);
}

void rpc_end(struct json_writer *w)
{
    json_end_object(w);
    json_end_object(w);
}

static struct json_writer begin_answer(struct buf *out, const struct json *id)
{
    struct json_writer w = json_writer(out);
    json_begin_object(&w);
    json_member_cstr(&w, "jsonrpc", "2.0");
    json_member_json(&w, "id", id);
    return w;
}

void rpc_answer_empty(struct buf *out, const struct json *id)
{
    struct json_writer w = begin_answer(out, id);
    json_key(&w, "result");
    json_begin_object(&w);
    json_end_object(&w);
    json_end_object(&w);
}

void rpc_answer_error(struct buf *out, const struct json *id, int code, const char *message)
{
    struct json_writer w = begin_answer(out, id);
    json_key(&w, "error");
    json_begin_object(&w);
    json_member_int(&w, "code", code);
    json_member_cstr(&w, "message", message);
    json_end_object(&w);
    json_end_object(&w);
}
