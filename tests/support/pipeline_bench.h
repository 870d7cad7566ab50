/* A pipeline over a port that the test plays: what goes out for what comes in. The vocabulary is the tiny byte-level
 * one of random models: ids 0 to 255 are bytes. */
#ifndef TANDEM_TESTS_SUPPORT_PIPELINE_BENCH_H
#define TANDEM_TESTS_SUPPORT_PIPELINE_BENCH_H

#include "pipeline/generation.h"

#define BENCH_EOS      256
#define BENCH_THINK    260 /* <think>, of pipeline_bench_open_chat */
#define BENCH_MAX_JOBS 64

struct fake_port {
    struct engine_port port;
    struct job *jobs[BENCH_MAX_JOBS]; /* [n_jobs] copies, as they were submitted */
    int n_jobs;
    uint64_t cancelled_job;
    uint32_t cancelled_choice;
    int n_cancels, n_distrusts;
    struct engine_event event;
    bool pending;
    struct error refuse; /* answers the next submits */
};

struct pipeline_bench {
    struct buf bytes;
    struct model_file *file;
    struct tokenizer *tokenizer;
    struct chat_template *chat; /* NULL: none */
    struct fake_port port;
    struct pipeline *pipeline;
    struct mcp_host *mcp; /* of pipeline_bench_open_chat, which it is set before; NULL: none */
    int n_held;           /* uses of the pipeline by workers */
};

void pipeline_bench_open(struct pipeline_bench *b, const struct pipeline_observer *observer);
/* Likewise, of a model with this chat template, whose formats are found in it; its context is longer. Control tokens
 * from BENCH_THINK on: <think>, </think>, <tool_call>, </tool_call>, and Harmony's: <|start|>, <|channel|>,
 * <|message|>, <|constrain|>, <|end|>, <|call|>, <|return|>. */
void pipeline_bench_open_chat(struct pipeline_bench *b, const char *template_source);
void pipeline_bench_close(struct pipeline_bench *b);
const struct job *pipeline_bench_last(const struct pipeline_bench *b); /* submitted */
void pipeline_bench_forget_jobs(struct pipeline_bench *b);             /* begins to count them anew */
/* The port has this event, and the pipeline takes it. */
void pipeline_bench_send(struct pipeline_bench *b, struct engine_event event);
/* TOKENS of a choice of the job-th job submitted; ids of bytes are given as text, FINISH_STOP adds the end of text. */
void pipeline_bench_tokens(struct pipeline_bench *b, int job, uint32_t choice, uint32_t index, const char *text,
                           enum finish_reason finish);

#endif
