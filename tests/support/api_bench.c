#include "tests/support/api_bench.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static void close_call(struct api_bench *b)
{
    buf_release(&b->call.ignored);
    buf_release(&b->call.reply);
    arena_free(b->call.arena);
    b->call = (struct call){0};
}

int api_bench_setup(void **state)
{
    struct api_bench *b = calloc(1, sizeof *b);
    b->app.options = app_options_default();
    buf_init(&b->text, MIB(16));
    buf_init(&b->shown, MIB(16));
    *state = b;
    return 0;
}

int api_bench_teardown(void **state)
{
    struct api_bench *b = *state;
    close_call(b);
    buf_release(&b->text);
    buf_release(&b->shown);
    free(b);
    return 0;
}

struct str api_bench_json(struct api_bench *b, const char *text)
{
    buf_clear(&b->text);
    for (const char *c = text; *c; c++) {
        buf_putc(&b->text, *c == '\'' ? '"' : *c);
    }
    return buf_view(&b->text);
}

const struct route *api_bench_route(api_decoder *decode)
{
    for (int i = 0; i < api__n_routes; i++) {
        if (api__routes[i].decode == decode) {
            return &api__routes[i];
        }
    }
    return NULL;
}

bool api_bench_open(struct api_bench *b, api_decoder *decode, const char *body)
{
    close_call(b);
    b->err = (struct error){0};
    b->call = (struct call){.app = &b->app, .route = api_bench_route(decode), .arena = arena_create(MIB(64))};
    buf_init(&b->call.ignored, KIB(2));
    buf_init(&b->call.reply, MIB(1));
    if (b->call.arena) {
        struct json *root = json_parse(api_bench_json(b, body), LIMIT_JSON_DEPTH, &b->err);
        b->call.body = json_keep(root, b->call.arena, "the request", &b->err);
    }
    return b->call.body != NULL;
}

bool api_bench_decode(struct api_bench *b, api_decoder *decode, const char *body)
{
    return api_bench_open(b, decode, body) && decode(&b->call, &b->err);
}

void api_bench_expect(struct api_bench *b, const struct json *v, const char *expected)
{
    buf_clear(&b->shown);
    json_print(&b->shown, v);
    struct str got = buf_view(&b->shown), want = api_bench_json(b, expected);
    if (!str_eq(got, want)) {
        fail_msg("got  " STR_FMT "\nwant " STR_FMT, STR_ARG(got), STR_ARG(want));
    }
}
