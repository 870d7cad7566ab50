#include "tests/support/pipeline_bench.h"

#include "base/utf8.h"
#include "tests/support/random_model.h"
#include "text/vocab.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct fake_port *fake_of(const struct engine_port *p)
{
    return (struct fake_port *)p;
}

static bool fake_submit(struct engine_port *p, const struct job *job, struct error *err)
{
    struct fake_port *f = fake_of(p);
    if (f->refuse.code) {
        *err = f->refuse;
        return false;
    }
    assert_true(f->n_jobs < BENCH_MAX_JOBS);
    f->jobs[f->n_jobs++] = job_copy(job);
    return true;
}

static void fake_cancel(struct engine_port *p, uint64_t job, uint32_t choice)
{
    struct fake_port *f = fake_of(p);
    f->cancelled_job = job;
    f->cancelled_choice = choice;
    f->n_cancels++;
}

static const struct engine_event *fake_next(struct engine_port *p)
{
    struct fake_port *f = fake_of(p);
    bool pending = f->pending;
    f->pending = false;
    return pending ? &f->event : NULL;
}

static const struct engine_info *fake_info(const struct engine_port *p)
{
    (void)p;
    return NULL;
}

static void fake_distrust(struct engine_port *p, const struct error *why)
{
    assert_int_equal(why->code, ERR_PROTOCOL);
    fake_of(p)->n_distrusts++;
}

static const struct engine_port_ops fake_ops = {fake_submit, fake_cancel, fake_next, fake_info, fake_distrust};

static const char plain_model[] =
    "{\"metadata\":{\"general.architecture\":[\"str\",\"llama\"]},\"tensors\":[{\"name\":\"x\",\"shape\":[1]}]}";

/* The same vocabulary with markers behind it, as JSON for random_model_create. */
static void put_chat_model(struct buf *out)
{
    static const char *const specials[] = {"<|endoftext|>", "<|im_start|>",  "<|im_end|>",   "<|pad|>",   "<think>",
                                           "</think>",      "<tool_call>",   "</tool_call>", "<|start|>", "<|channel|>",
                                           "<|message|>",   "<|constrain|>", "<|end|>",      "<|call|>",  "<|return|>"};
    const size_t n = 256 + sizeof specials / sizeof specials[0];
    buf_puts(out, "{\"metadata\":{\"general.architecture\":[\"str\",\"llama\"],\"tokenizer.ggml.model\":[\"str\","
                  "\"gpt2\"],\"tokenizer.ggml.pre\":[\"str\",\"gpt-2\"],\"tokenizer.ggml.eos_token_id\":[\"u32\",256],"
                  "\"tokenizer.ggml.bos_token_id\":[\"u32\",256],\"tokenizer.ggml.merges\":[\"str[]\",[]],"
                  "\"tokenizer.ggml.tokens\":[\"str[]\",[");
    for (size_t i = 0; i < n; i++) {
        char letter[8] = {0};
        size_t len = i < 256 ? utf8_encode(vocab_letter_of_byte((uint8_t)i), letter) : 0;
        json_quote(out, i < 256 ? (struct str){letter, len} : str_of(specials[i - 256]));
        buf_puts(out, i + 1 < n ? "," : "]],\"tokenizer.ggml.token_type\":[\"i32[]\",[");
    }
    for (size_t i = 0; i < n; i++) {
        buf_puts(out, i < 256 ? "1" : "3");
        buf_puts(out, i + 1 < n ? "," : "]]},\"tensors\":[{\"name\":\"x\",\"shape\":[1]}]}");
    }
}

static void open_model(struct pipeline_bench *b, struct str config)
{
    struct error err = {0};
    struct random_model *m = random_model_create(config, NULL, &err);
    assert_non_null(m);
    buf_init(&b->bytes, 1 << 20);
    assert_true(gguf_write_buf(random_model_writer(m), &b->bytes, &err));
    random_model_free(m);
    b->file = model_file_open_memory(b->bytes.data, b->bytes.len, &err);
    assert_non_null(b->file);
    b->tokenizer = tokenizer_from_model_file(b->file, &err);
    assert_non_null(b->tokenizer);
    b->port.port.ops = &fake_ops;
}

static void hold(void *arg, bool held)
{
    ((struct pipeline_bench *)arg)->n_held += held ? 1 : -1;
}

void pipeline_bench_open_chat(struct pipeline_bench *b, const char *template_source)
{
    struct error err = {0};
    struct buf config;
    buf_init(&config, 1 << 16);
    put_chat_model(&config);
    open_model(b, buf_view(&config));
    buf_release(&config);
    b->chat = chat_template_create(str_of(template_source), b->tokenizer, &err);
    assert_non_null(b->chat);
    struct pipeline_options o = {
        .tokenizer = b->tokenizer,
        .chat = b->chat,
        .port = &b->port.port,
        .n_context = 4000,
        .default_max_tokens = -1,
        .retry_limit = PIPELINE_RETRY_LIMIT,
        .mcp = b->mcp,
        .hold = hold,
        .hold_arg = b,
    };
    assert_true(output_formats_choose("auto", "auto", b->chat, &o.formats, &err));
    b->pipeline = pipeline_create(&o, &err);
    assert_non_null(b->pipeline);
}

void pipeline_bench_open(struct pipeline_bench *b, const struct pipeline_observer *observer)
{
    struct error err = {0};
    open_model(b, str_of(plain_model));
    struct pipeline_options o = {
        .tokenizer = b->tokenizer,
        .port = &b->port.port,
        .n_context = 100,
        .default_max_tokens = -1,
        .retry_limit = PIPELINE_RETRY_LIMIT,
        .observer = *observer,
    };
    b->pipeline = pipeline_create(&o, &err);
    assert_non_null(b->pipeline);
}

void pipeline_bench_close(struct pipeline_bench *b)
{
    pipeline_free(b->pipeline);
    chat_template_free(b->chat);
    tokenizer_free(b->tokenizer);
    model_file_close(b->file);
    buf_release(&b->bytes);
    pipeline_bench_forget_jobs(b);
}

const struct job *pipeline_bench_last(const struct pipeline_bench *b)
{
    assert_true(b->port.n_jobs > 0);
    return b->port.jobs[b->port.n_jobs - 1];
}

void pipeline_bench_forget_jobs(struct pipeline_bench *b)
{
    for (int i = 0; i < b->port.n_jobs; i++) {
        free(b->port.jobs[i]);
    }
    b->port.n_jobs = 0;
}

void pipeline_bench_send(struct pipeline_bench *b, struct engine_event event)
{
    b->port.event = event;
    b->port.pending = true;
    pipeline_pump(b->pipeline);
}

void pipeline_bench_tokens(struct pipeline_bench *b, int job, uint32_t choice, uint32_t index, const char *text,
                           enum finish_reason finish)
{
    int32_t ids[64];
    struct token_logprob logprobs[64] = {0};
    uint32_t n = (uint32_t)strlen(text);
    for (uint32_t i = 0; i < n; i++) {
        ids[i] = (uint8_t)text[i];
        logprobs[i] = (struct token_logprob){.id = ids[i], .logprob = -0.5f * (float)(choice + 1), .rank = 1};
    }
    if (finish == FINISH_STOP) {
        ids[n] = BENCH_EOS;
        logprobs[n++] = (struct token_logprob){.id = BENCH_EOS};
    }
    pipeline_bench_send(b, (struct engine_event){.kind = ENGINE_TOKENS,
                                                 .job = b->port.jobs[job]->id,
                                                 .choice = choice,
                                                 .index = index,
                                                 .n = n,
                                                 .ids = ids,
                                                 .logprobs = logprobs,
                                                 .finish = finish,
                                                 .stop_id = finish == FINISH_STOP ? BENCH_EOS : -1});
}
