/* Bodies of error replies, in the shape of the API that was spoken. */
#include "api/api_internal.h"

#include "base/array.h"

#include <stdio.h>

void api__write_error(struct buf *out, const struct error *err)
{
    const struct error_info *info = error_info(err->code);
    struct json_writer w = json_writer(out);
    json_begin_object(&w);
    json_key(&w, "error");
    json_begin_object(&w);
    json_member_cstr(&w, "message", err->msg);
    json_member_cstr(&w, "type", info->openai_type);
    json_member_cstr(&w, "param", err->param[0] ? err->param : NULL);
    json_member_cstr(&w, "code", info->openai_code[0] ? info->openai_code : NULL);
    json_end_object(&w);
    json_end_object(&w);
}

/* Refusals that clients understand by a code of their own: they then do without. */
static const struct {
    const char *param, *error_code;
} detailed[] = {{"thread", "thread_unsupported_request"}};

static void put_details(struct json_writer *w, const struct error *err)
{
    for (size_t i = 0; i < ARRAY_LEN(detailed); i++) {
        if (err->code == ERR_UNSUPPORTED && strcmp(err->param, detailed[i].param) == 0) {
            json_key(w, "details");
            json_begin_object(w);
            json_member_cstr(w, "error_code", detailed[i].error_code);
            json_end_object(w);
        }
    }
}

/* It has no place for the field at fault but the sentence; "prompt is too long" has to begin it. */
void api__write_anthropic_error(struct buf *out, const struct error *err, const char *request_id)
{
    char message[sizeof err->param + sizeof err->msg + 2];
    bool named = !err->param[0] || strstr(err->msg, err->param) || err->code == ERR_CONTEXT_EXCEEDED;
    snprintf(message, sizeof message, "%s%s%s", named ? "" : err->param, named ? "" : ": ", err->msg);
    struct json_writer w = json_writer(out);
    json_begin_object(&w);
    json_member_cstr(&w, "type", "error");
    json_key(&w, "error");
    json_begin_object(&w);
    json_member_cstr(&w, "type", error_info(err->code)->anthropic_type);
    json_member_cstr(&w, "message", message);
    put_details(&w, err);
    json_end_object(&w);
    if (request_id[0]) {
        json_member_cstr(&w, "request_id", request_id);
    }
    json_end_object(&w);
}

static bool is_below(struct str path, struct str folder)
{
    return str_starts(path, folder) && (path.len == folder.len || path.ptr[folder.len] == '/');
}

bool api__speaks_anthropic(const struct http_request *head)
{
    return is_below(head->path, STR("/v1/messages")) || http_header_get(head, "anthropic-version").ptr ||
           (is_below(head->path, STR("/v1/models")) && http_header_get(head, "x-api-key").ptr);
}

bool api__speaks_ollama(const struct http_request *head)
{
    return is_below(head->path, STR("/api"));
}

void api__write_ollama_error(struct buf *out, const struct error *err)
{
    struct json_writer w = json_writer(out);
    json_begin_object(&w);
    json_member_cstr(&w, "error", err->msg);
    json_end_object(&w);
}

void api__write_error_for(const struct http_request *head, const struct error *err, const char *request_id,
                          struct buf *out)
{
    if (head && api__speaks_anthropic(head)) {
        api__write_anthropic_error(out, err, request_id);
    } else if (head && api__speaks_ollama(head)) {
        api__write_ollama_error(out, err);
    } else {
        api__write_error(out, err);
    }
}

void api__error_body(const struct http_request *head, const struct error *err, struct buf *out, void *arg)
{
    (void)arg;
    api__write_error_for(head, err, "", out);
}
