/* The parts that OpenAI's chat and text completion objects share: heads, usage, timings, the ends of choices, whole
 * chunks. */
#ifndef TANDEM_API_OPENAI_OBJECTS_H
#define TANDEM_API_OPENAI_OBJECTS_H

#include "api/generate.h"

const char *reply_model(const struct gen_reply *r);       /* as asked; the served model's name when nothing was asked */
const char *reply_fingerprint(const struct gen_reply *r); /* of the engine that computed the last of it; "": unknown */

/* An object opened up to its array of choices: id, object, created, model, system_fingerprint, choices. */
struct json_writer reply_begin(const struct gen_reply *r, struct buf *out, const char *object);
/* Closes the choices of a body and adds its usage, and timings where they are wanted; the object stays open. */
void reply_end_choices(const struct gen_reply *r, struct json_writer *w);

/* An event of the stream opened up to its array of choices, in out; the object is the same for all of an answer. */
struct json_writer reply_begin_chunk(struct gen_reply *r, const char *object, struct buf *out);
/* Closes a chunk and its event, with the usage so far or null, and timings, where the request wants them. */
void reply_end_chunk(struct gen_reply *r, struct json_writer *w, const struct gen_event *e);
/* Likewise, of the chunk that only opens a choice: it has no timings. */
void reply_end_role_chunk(struct gen_reply *r, struct json_writer *w, const struct gen_event *e);
/* The last chunk: no choices, the whole usage; nothing unless the request wants it. */
void reply_usage_chunk(struct gen_reply *r, const char *object, const struct gen_event *e, struct buf *out);
/* No choices, "prompt_progress" in llama.cpp's shape. */
void reply_progress_chunk(struct gen_reply *r, const char *object, const struct gen_event *e, struct buf *out);

/* An error inside a stream, and how every stream ends and is kept alive. */
void reply_stream_error(struct gen_reply *r, const struct error *err, struct buf *out);
#define OPENAI_STREAM_END "data: [DONE]\n\n"
#define OPENAI_KEEPALIVE  ": keep-alive\n\n"

/* What a choice gathers, whatever the object: text, token ids and digests; those alone; how it ended. */
void reply_gather_delta(struct reply_choice *c, const struct gen_event *e);
void reply_gather_tokens(struct reply_choice *c, const struct gen_event *e);
void reply_gather_finish(struct reply_choice *c, const struct gen_event *e);
/* The last members of a choice (finish_reason, stop_reason, token_ids, tandem_digests) and its closing brace. */
void reply_end_choice(const struct gen_reply *r, struct json_writer *w, const struct reply_choice *c);
void reply_end_chunk_choice(struct gen_reply *r, struct json_writer *w, const struct gen_event *e);

/* "key": [items] */
void reply_array(struct json_writer *w, const char *key, const struct buf *items);
/* The JSON array of a prompt's logprobs, in vLLM's shape. */
void reply_prompt_logprobs(struct buf *out, const struct gen_event *e);

#endif
