#include "api/logprobs.h"

static void put_token(struct json_writer *w, struct str bytes, float logprob)
{
    json_member_str(w, "token", bytes);
    json_member_double(w, "logprob", (double)logprob);
    json_key(w, "bytes");
    json_begin_array(w);
    for (size_t i = 0; i < bytes.len; i++) {
        json_put_int(w, (uint8_t)bytes.ptr[i]);
    }
    json_end_array(w);
}

void logprobs_put(struct buf *out, const struct gen_event *e)
{
    for (size_t i = 0; i < e->n_tokens; i++) {
        const struct gen_token *t = &e->tokens[i];
        struct json_writer w = {.out = out, .need_comma = out->len > 0};
        json_begin_object(&w);
        put_token(&w, t->bytes, t->logprob);
        json_key(&w, "top_logprobs");
        json_begin_array(&w);
        for (uint32_t k = 0; k < t->n_top; k++) {
            json_begin_object(&w);
            put_token(&w, t->top[k].bytes, t->top[k].logprob);
            json_end_object(&w);
        }
        json_end_array(&w);
        json_end_object(&w);
    }
}
