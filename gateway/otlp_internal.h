/* Shared by otlp.c and otlp_json.c only. */
#ifndef TANDEM_GATEWAY_OTLP_INTERNAL_H
#define TANDEM_GATEWAY_OTLP_INTERNAL_H

#include "gateway/otlp.h"
#include "http/client.h"

#define OTLP_MAX_HEADERS 32

struct otlp_headers { /* what goes out with every batch */
    struct http_header items[OTLP_MAX_HEADERS];
    size_t n;
    struct arena *arena; /* of their texts */
};

/* Content-Type and what `text` (NULL: nothing) says; INVALID says which one, not what it holds. */
NODISCARD bool otlp__read_headers(struct otlp_headers *h, const char *text, struct error *err);

/* What stands before and behind the spans of a batch. */
void otlp__begin_batch(struct buf *out, const struct otlp_options *o);
void otlp__end_batch(struct buf *out);

/* Spans that the collector refused although it said 200. */
uint64_t otlp__rejected(struct str reply);

#endif
