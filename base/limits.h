/* Bounds of everything that grows with outside input. A limit that an operator may change is a default here and an
 * option in cli/options; the rest is fixed. */
#ifndef TANDEM_BASE_LIMITS_H
#define TANDEM_BASE_LIMITS_H

#define KIB(n) ((size_t)(n) << 10)
#define MIB(n) ((size_t)(n) << 20)
#define GIB(n) ((size_t)(n) << 30)

/* HTTP */
#define LIMIT_HTTP_LINE         KIB(16) /* request line */
#define LIMIT_HTTP_HEADERS      KIB(64) /* all header fields together */
#define LIMIT_HTTP_HEADER_COUNT 100
#define LIMIT_HTTP_BODY         MIB(32)
#define LIMIT_HTTP_CONNECTIONS  1024
#define LIMIT_HTTP_PIPELINE     16       /* requests of one connection waiting for their turn */
#define LIMIT_HTTP_REPLY        MIB(64)  /* one non-streaming reply */
#define LIMIT_HTTP_OUT_BUFFER   KIB(256) /* unsent bytes of one stream before its source is paused */

/* requests */
#define LIMIT_JSON_DEPTH    32
#define LIMIT_MESSAGES      4096
#define LIMIT_STOPS         16
#define LIMIT_STOP_SIZE     256 /* bytes of one stop string */
#define LIMIT_LOGIT_BIAS    1024
#define LIMIT_TOP_LOGPROBS  20
#define LIMIT_CHOICES       64 /* n and best_of */
#define LIMIT_PROMPTS       64 /* prompts of one completion request */
#define LIMIT_REQUEST_ARENA MIB(256)

/* models */
#define LIMIT_GGUF_KEYS      65536
#define LIMIT_GGUF_TENSORS   65536
#define LIMIT_GGUF_DIMS      4
#define LIMIT_GGUF_SHARDS    1024
#define LIMIT_GGUF_KEY       65535    /* bytes of a metadata key */
#define LIMIT_GGUF_NAME      255      /* bytes of a tensor name */
#define LIMIT_GGUF_INDEX     MIB(256) /* what the reader builds in memory for one model */
#define LIMIT_GGUF_OVERRIDES 64       /* --override-kv */
#define LIMIT_VOCAB          (1u << 20)
#define LIMIT_CONTEXT        (1u << 22)

/* wire */
#define LIMIT_FRAME MIB(16)

#endif
