/* MCP servers from a configuration, driven by lines on standard input; what happens is written as JSON, one object a
 * line.
 *
 *     mcp_probe CONFIG [RETRY_MS [RETRY_MAX_MS [START_TIMEOUT_MS]]]
 *
 *     status                              {"event":"status","servers":[...]}
 *     tools                               {"event":"tools","tools":[...]}
 *     call KEY TIMEOUT_MS TOOL ARGUMENTS  {"event":"progress","key":...}*, {"event":"result","key":...}
 *     cancel KEY                          nothing
 *     read KEY SERVER URI                 {"event":"result","key":...}
 *     prompt KEY SERVER NAME ARGUMENTS    likewise
 *     list SERVER resources|templates|prompts
 *     quit, or the end of the input       {"event":"closed"}
 */
#include "base/limits.h"
#include "base/log.h"
#include "base/sys_proc.h"
#include "mcp/lines.h"
#include "mcp/mcp.h"

#include "base/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#define MAX_KEYS 256

struct probe;

struct keyed {
    struct probe *probe;
    char key[32];
    uint64_t id; /* 0: free */
};

struct probe {
    struct loop *loop;
    struct mcp *mcp;
    struct lines in;
    uv_pipe_t input;
    char read_buffer[65536];
    struct keyed keys[MAX_KEYS];
    bool closing;
};

static void print(struct buf *out)
{
    buf_putc(out, '\n');
    fwrite(out->data, 1, out->len, stdout);
    fflush(stdout);
    buf_release(out);
}

static struct json_writer begin(struct buf *out, const char *event, const char *key)
{
    buf_init(out, SIZE_MAX);
    struct json_writer w = json_writer(out);
    json_begin_object(&w);
    json_member_cstr(&w, "event", event);
    if (key) {
        json_member_cstr(&w, "key", key);
    }
    return w;
}

static void on_result(void *arg, const struct mcp_result *r)
{
    struct keyed *k = arg;
    struct buf out;
    struct json_writer w = begin(&out, "result", k->key);
    json_member_bool(&w, "is_error", r->is_error);
    json_member_str(&w, "text", r->text);
    if (r->structured.len) {
        json_member_raw(&w, "structured", r->structured);
    }
    json_member_cstr(&w, "code", error_info(r->error.code)->name);
    json_end_object(&w);
    print(&out);
    k->id = 0;
}

static void on_progress(void *arg, double progress, double total, struct str message)
{
    struct keyed *k = arg;
    struct buf out;
    struct json_writer w = begin(&out, "progress", k->key);
    json_member_double(&w, "progress", progress);
    json_member_double(&w, "total", total);
    json_member_str(&w, "message", message);
    json_end_object(&w);
    print(&out);
}

static void print_refusal(const char *key, const struct error *err)
{
    struct buf out;
    struct json_writer w = begin(&out, "result", key);
    json_member_bool(&w, "is_error", true);
    json_member_cstr(&w, "text", err->msg);
    json_member_cstr(&w, "code", error_info(err->code)->name);
    json_member_bool(&w, "refused", true);
    json_end_object(&w);
    print(&out);
}

static struct keyed *new_key(struct probe *p, struct str key)
{
    for (int i = 0; i < MAX_KEYS; i++) {
        struct keyed *k = &p->keys[i];
        if (!k->id) {
            k->probe = p;
            snprintf(k->key, sizeof k->key, STR_FMT, STR_ARG(key));
            return k;
        }
    }
    abort();
}

static void do_call(struct probe *p, struct str *words, struct str rest)
{
    struct error err = {0};
    int64_t timeout = 0;
    struct keyed *k = new_key(p, words[1]);
    (void)str_to_i64(words[2], &timeout);
    k->id = mcp_call(p->mcp,
                     &(struct mcp_call_options){.tool = words[3],
                                                .arguments = rest,
                                                .timeout_ms = timeout,
                                                .on_progress = on_progress,
                                                .done = on_result,
                                                .arg = k},
                     &err);
    if (!k->id) {
        print_refusal(k->key, &err);
    }
}

static size_t server_of(struct probe *p, struct str name)
{
    char text[128];
    size_t i = 0;
    snprintf(text, sizeof text, STR_FMT, STR_ARG(name));
    return mcp_find_server(p->mcp, str_of(text), &i) ? i : 0;
}

static void do_get(struct probe *p, struct str *words, struct str rest)
{
    struct error err = {0};
    struct keyed *k = new_key(p, words[1]);
    struct mcp_get_options options = {.server = server_of(p, words[2]), .done = on_result, .arg = k};
    if (str_eq(words[0], STR("read"))) {
        options.uri = words[3];
    } else {
        options.prompt = words[3];
        options.arguments = rest;
    }
    k->id = mcp_get(p->mcp, &options, &err);
    if (!k->id) {
        print_refusal(k->key, &err);
    }
}

static void do_cancel(struct probe *p, struct str key)
{
    for (int i = 0; i < MAX_KEYS; i++) {
        if (p->keys[i].id && str_eq(str_of(p->keys[i].key), key)) {
            mcp_call_cancel(p->mcp, p->keys[i].id);
            p->keys[i].id = 0;
        }
    }
}

static void do_list(struct probe *p, struct str server, struct str kind)
{
    struct buf out;
    struct json_writer w = begin(&out, "list", NULL);
    json_key(&w, "items");
    mcp_put_list(p->mcp, server_of(p, server),
                 str_eq(kind, STR("prompts"))     ? MCP_KIND_PROMPTS
                 : str_eq(kind, STR("templates")) ? MCP_KIND_TEMPLATES
                                                  : MCP_KIND_RESOURCES,
                 &out);
    buf_puts(&out, "}");
    print(&out);
}

static void do_print(struct probe *p, const char *event)
{
    struct buf out;
    struct json_writer w = begin(&out, event, NULL);
    bool status = strcmp(event, "status") == 0;
    json_key(&w, status ? "servers" : "tools");
    if (status) {
        mcp_put_status(p->mcp, &out);
    } else {
        mcp_tools(p->mcp, NULL, NULL, &out);
    }
    buf_puts(&out, "}");
    print(&out);
}

static void on_closed(void *arg)
{
    struct probe *p = arg;
    struct buf out;
    struct json_writer w = begin(&out, "closed", NULL);
    json_end_object(&w);
    print(&out);
    mcp_free(p->mcp);
    loop_stop(p->loop);
}

static void quit(struct probe *p)
{
    if (!p->closing) {
        p->closing = true;
        uv_close((uv_handle_t *)&p->input, NULL);
        mcp_close(p->mcp, on_closed, p);
    }
}

static void command(struct probe *p, struct str line)
{
    struct str words[4] = {{NULL, 0}}, rest = line;
    for (int i = 0; i < 4 && str_split(&rest, ' ', &words[i]); i++) {
    }
    if (str_eq(words[0], STR("status")) || str_eq(words[0], STR("tools"))) {
        do_print(p, str_eq(words[0], STR("tools")) ? "tools" : "status");
    } else if (str_eq(words[0], STR("call"))) {
        do_call(p, words, rest);
    } else if (str_eq(words[0], STR("cancel"))) {
        do_cancel(p, words[1]);
    } else if (str_eq(words[0], STR("list"))) {
        do_list(p, words[1], words[2]);
    } else if (str_eq(words[0], STR("quit"))) {
        quit(p);
    } else {
        do_get(p, words, rest);
    }
}

static void on_allocate(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    struct probe *p = handle->data;
    (void)suggested;
    *out = uv_buf_init(p->read_buffer, sizeof p->read_buffer);
}

static void on_input(uv_stream_t *stream, ssize_t n, const uv_buf_t *bytes)
{
    struct probe *p = stream->data;
    struct str rest = {bytes->base, n > 0 ? (size_t)n : 0}, line;
    while (!p->closing && lines_next(&p->in, &rest, &line) == LINES_LINE) {
        command(p, line);
    }
    if (n < 0) {
        quit(p);
    }
}

static void on_change(void *arg)
{
    struct buf out;
    struct json_writer w = begin(&out, "change", NULL);
    (void)arg;
    json_end_object(&w);
    print(&out);
}

static int64_t number(int argc, char **argv, int i)
{
    int64_t v = 0;
    return argc > i && str_to_i64(str_of(argv[i]), &v) ? v : 0;
}

int main(int argc, char **argv)
{
    struct probe *p = calloc(1, sizeof *p);
    struct error err = {0};
    struct mcp_config config;
    struct arena *arena = arena_create(MIB(8));
    log_init(&(struct log_options){.level = LOG_LEVEL_DEBUG, .format = LOG_FORMAT_LOGFMT, .fd = 2, .process = "probe"});
    sys_ignore_sigpipe();
    if (argc < 2 || !p || !arena || !mcp_config_read_file(argv[1], arena, &config, &err) ||
        !(p->loop = loop_create(1, &err))) {
        fprintf(stderr, "mcp_probe: %s\n", err.msg);
        return 2;
    }
    struct mcp_options options = {.version = "test",
                                  .retry_ms = number(argc, argv, 2),
                                  .retry_max_ms = number(argc, argv, 3),
                                  .start_timeout_ms = number(argc, argv, 4),
                                  .on_change = on_change,
                                  .arg = p};
    p->mcp = mcp_create(p->loop, &config, &options, &err);
    if (!p->mcp) {
        fprintf(stderr, "mcp_probe: %s\n", err.msg);
        return 2;
    }
    lines_init(&p->in, MIB(8));
    uv_pipe_init(loop_uv(p->loop), &p->input, 0);
    p->input.data = p;
    uv_pipe_open(&p->input, 0);
    uv_read_start((uv_stream_t *)&p->input, on_allocate, on_input);
    loop_run(p->loop);
    loop_free(p->loop);
    lines_release(&p->in);
    arena_free(arena);
    free(p);
    return 0;
}
