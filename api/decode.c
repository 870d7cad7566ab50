/* What decoders of all APIs begin with. */
#include "api/api_internal.h"

#include "base/rng.h"

#include <stdio.h>

struct decoding api__decoding(struct call *c, void *target)
{
    return (struct decoding){
        .arena = c->arena, .target = target, .ignored = &c->ignored, .strict = c->app->options.strict_fields};
}

bool api__decode_body(struct call *c, struct decoding *d, const struct json *body, struct error *err)
{
    return fields_decode(d, body, c->route->fields, c->route->n_fields, err);
}

void api__init_request(const struct call *c, struct gen_request *r, enum gen_input input, const char *id_prefix)
{
    const struct app_options *o = &c->app->options;
    uint64_t random[2];
    rng_entropy(random, sizeof random);
    gen_request_init(r, c->arena, input);
    r->received_us = c->received_us;
    r->interval_ms = o->stream_interval_ms;
    r->interval_tokens = o->stream_interval_tokens;
    snprintf(r->id, sizeof r->id, "%s%016llx%08x", id_prefix, (unsigned long long)random[0], (unsigned)random[1]);
}
