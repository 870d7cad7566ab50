/* Bodies to decoders of api/ without a server: a call with its route, as the loop would have made it. Quotes in the
 * JSON of tests are single ones. */
#ifndef TANDEM_TESTS_SUPPORT_API_BENCH_H
#define TANDEM_TESTS_SUPPORT_API_BENCH_H

#include "api/api_internal.h"

struct api_bench {
    struct app app;
    struct call call; /* the last one; its arena is freed with the next */
    struct error err;
    struct buf text, shown; /* scratch */
};

typedef bool api_decoder(struct call *c, struct error *err);

int api_bench_setup(void **state); /* of cmocka: *state is the bench */
int api_bench_teardown(void **state);

/* With double quotes; until the next one. */
struct str api_bench_json(struct api_bench *b, const char *text);
/* The route whose decoder this is. */
const struct route *api_bench_route(api_decoder *decode);
/* A new call with this body, not decoded yet. False: memory failed, or it is no JSON; b->err says which. */
bool api_bench_open(struct api_bench *b, api_decoder *decode, const char *body);
/* Whether the body is accepted; else b->err says why not. */
bool api_bench_decode(struct api_bench *b, api_decoder *decode, const char *body);
void api_bench_expect(struct api_bench *b, const struct json *v, const char *expected);

#endif
