/* A generation request, whatever API it came by: what a decoder fills and pipeline_prepare checks and turns into jobs.
 * All pointers live in the request's arena (or in the JSON body, which the arena owns). */
#ifndef TANDEM_PIPELINE_GEN_REQUEST_H
#define TANDEM_PIPELINE_GEN_REQUEST_H

#include "base/arena.h"
#include "base/json.h"
#include "base/limits.h"
#include "http/trace_context.h"
#include "wire/job.h"

enum gen_input { GEN_CHAT, GEN_PROMPTS, GEN_INFILL };

enum gen_tool_choice {
    GEN_TOOLS_AUTO,     /* the model decides */
    GEN_TOOLS_NONE,     /* it is shown none, or its calls are text */
    GEN_TOOLS_REQUIRED, /* at least one call, of any tool */
    GEN_TOOLS_NAMED     /* of one tool: tool_name */
};

enum gen_format {
    GEN_FORMAT_TEXT,
    GEN_FORMAT_JSON,
    GEN_FORMAT_SCHEMA,
    GEN_FORMAT_REGEX,
    GEN_FORMAT_CHOICE,
    GEN_FORMAT_LARK,
    GEN_FORMAT_GBNF,
    GEN_FORMAT_STRUCTURAL_TAG
};

/* What the answer has to look like: response_format, guided_*. */
struct gen_answer_format {
    enum gen_format kind;
    const struct json *schema; /* SCHEMA; CHOICE: array of strings; STRUCTURAL_TAG: its object */
    struct str text;           /* REGEX, LARK, GBNF */
    bool strict;               /* SCHEMA: what cannot be enforced is refused, instead of left out */
    const char *field;         /* that asked for it, for errors */
};

struct json_schema;      /* grammar/json_schema.h */
struct schema_key;       /* pipeline/grammar_check.h */
struct tool_format;      /* chat/tool_format.h */
struct reasoning_format; /* chat/reasoning_format.h */

struct gen_mcp_server { /* one whose tools a request wants */
    struct str name;
    /* Which of them, by the names that it gives them: */
    const struct json *tools;   /* array; NULL: all */
    const struct json *configs; /* object of {"enabled": boolean}; NULL: says nothing */
    bool others_off;            /* those that configs does not speak of */
    bool read_only;             /* only those of which it says that */
};

struct gen_mcp_tool {
    struct str name;               /* as the model sees it */
    struct str own_name, server;   /* as its server calls it, and that server's name in the configuration */
    const struct json *definition; /* OpenAI's tool object, with the server's annotations; NULL until it is prepared */
};

/* Tools of MCP servers that a request has besides its own (mcp/mcp_host.h, mcp/mcp_loop.h). */
struct gen_mcp {
    bool wanted, declined, by_default; /* it has them; it said no; the server gives them to all */
    struct gen_mcp_server *servers;    /* [n_servers]; none: every server that is ready */
    size_t n_servers;
    const char *field; /* that asked for them, for errors; NULL: mcp */
    int64_t max_calls; /* in all its turns; 0: no limit of its own */
    /* made by mcp_host_choose and mcp_host_merge */
    struct str definitions;     /* JSON array */
    struct gen_mcp_tool *tools; /* [n_tools] */
    size_t n_tools;
    bool merged;
};

struct gen_prompt {
    struct str text;
    const int32_t *ids; /* [n_ids]: token ids given by the client; NULL: text */
    size_t n_ids;
};

struct gen_request {
    struct arena *arena; /* owns everything here */
    enum gen_input input;
    char id[48];                         /* public id of the answer's object: "chatcmpl-...", "cmpl-..." */
    char request_id[REQUEST_ID_MAX + 1]; /* of the HTTP request (X-Request-Id); "": none */
    int64_t created_s;
    int64_t received_us; /* monotonic: its time begins; gen_request_init's time unless a decoder knows better */
    struct str model;    /* as asked; {NULL,0}: the default */

    /* GEN_CHAT */
    const struct json *messages, *tools, *template_kwargs; /* array; array or NULL; object or NULL */
    bool add_generation_prompt, continue_final_message;    /* default true, false */
    /* tools: OpenAI's tool objects; "strict": true binds a tool's calls to its schema */
    enum gen_tool_choice tool_choice;
    struct str tool_name;
    struct gen_mcp mcp;
    bool only_allowed;           /* the choice names those of the tools that the model is shown */
    bool parallel_tool_calls;    /* default true */
    bool raw_output;             /* what the model writes is the answer, markers and all: no reasoning, no calls */
    int thinking;                /* enable_thinking: 1, 0; -1: the template's default */
    struct str reasoning_effort; /* {NULL,0}: the template's default */
    int64_t thinking_budget;     /* tokens of reasoning at most; -1: no limit of its own */
    const char *thinking_budget_field; /* that said so, for errors; NULL: thinking_budget */
    struct gen_answer_format format;   /* of the answer, after the reasoning; also of GEN_PROMPTS */
    /* GEN_PROMPTS; with has_suffix each prompt becomes a fill-in-the-middle prompt */
    struct gen_prompt *prompts; /* [n_prompts] */
    size_t n_prompts;
    bool has_suffix;
    struct str suffix;
    /* GEN_INFILL: text before and after the cursor, then `infill_prompt` already typed; extra files */
    struct str infill_prefix, infill_suffix, infill_prompt;
    const struct json *infill_extra; /* array of {"filename", "text"} or NULL */
    bool add_special_tokens;         /* BOS for text prompts; default true */

    struct sampling sampling;
    uint32_t sampling_given; /* bits, in the order of SAMPLING_TABLE: the request has said it */
    bool has_seed;           /* else one is drawn */
    uint64_t seed;
    int64_t max_tokens;   /* -1: as far as the context goes */
    bool clip_max_tokens; /* more of them than the context has room for are as many as it has; a prompt without room
                             for one is refused in Anthropic's words */
    int64_t max_completion_tokens; /* as decoded; a decoder moves it to max_tokens */
    uint32_t min_tokens;
    uint32_t n, best_of; /* 1, and n when 0 */
    bool echo;
    bool logprobs;
    uint32_t n_top;
    bool prompt_logprobs;
    uint32_t n_prompt_top;
    const struct str *stops; /* [n_stops], none empty */
    size_t n_stops;
    bool include_stop; /* include_stop_str_in_output */
    const int32_t *stop_ids;
    size_t n_stop_ids;
    const struct str *dry_breakers; /* [n_dry_breakers] texts; tokenized by prepare; NULL: the defaults */
    size_t n_dry_breakers;
    bool ignore_eos;
    int64_t truncate_prompt_tokens; /* keep the last so many prompt tokens; 0: never; -1: what the context allows */
    const struct job_bias *bias;
    size_t n_bias;
    bool has_prediction;
    struct str prediction; /* GEN_CHAT: what the client expects of the answer; tokenized by prepare */
    enum speculation speculation;
    int32_t priority;
    int64_t timeout_ms;       /* until it ends; 0: the server's default, which pipeline_prepare puts here */
    bool digest;              /* test builds */
    bool cache_prompt;        /* default true */
    bool skip_special_tokens; /* default true */
    uint64_t api_key;         /* id of the key it came with (gateway/api_keys.h); 0: none */
    uint64_t cache_salt;      /* prefix-cache hits do not cross salts */
    uint32_t adapter;         /* see struct job; 0: none */
    struct sha256 adapter_digest;
    bool unobserved; /* nobody's request: the pipeline's observer is not told of it */
    bool return_token_ids;
    bool timings;           /* with the end of the answer */
    bool timings_per_token; /* and in every chunk */

    /* delivery */
    bool stream, return_progress;
    bool include_reasoning;  /* default true: the answer shows it */
    bool legacy_functions;   /* asked with `functions`: the answer has a function_call instead of tool_calls */
    bool background, detach; /* it is kept, and goes on without its client */
    bool has_stream_options, include_usage, continuous_usage; /* usage in a last chunk; in every chunk */
    bool stepwise; /* no event of more than one token, so that all who read the answer get the same events */
    int64_t interval_ms, interval_tokens; /* a delta is flushed when either is reached; 0 and 1: at once */

    /* made by pipeline_prepare */
    int64_t queue_timeout_ms, first_token_timeout_ms; /* the server's; 0: none. All times begin with received_us */
    struct job *jobs;                                 /* [n_jobs], one per prompt */
    size_t n_jobs;
    int64_t *n_truncated; /* [n_jobs] prompt tokens cut by truncate_prompt_tokens */
    struct str rendered;  /* GEN_CHAT: the template's output */
    /* GEN_CHAT: how what the model writes is taken apart; both NULL: it is text */
    const struct tool_format *tool_format;
    const struct reasoning_format *reasoning_format;
    bool in_reasoning;                             /* the prompt has opened the reasoning */
    const struct schema_key *tool_keys;            /* [of tools] of their parameters; NULL: it has none */
    const struct json_schema *const *tool_schemas; /* [of tools] that arguments are checked with; NULL: they are not */
    struct str widened;       /* what decoding does not enforce of schemas: "where:pointer, ..."; empty: nothing */
    const int32_t *shown_ids; /* [n_shown_ids] control tokens that are markers of the formats; the pipeline's */
    size_t n_shown_ids;
};

static inline bool gen_request_has_tools(const struct gen_request *r) /* that its model is shown, and may call */
{
    return r->input == GEN_CHAT && r->tool_choice != GEN_TOOLS_NONE && json_len(r->tools) > 0;
}

struct str gen_tool_name(const struct json *tool); /* of OpenAI's tool object */
/* The tool of that name in an array of them; NULL: there is none. */
const struct json *gen_tool_find(const struct json *tools, struct str name);

static inline const char *gen_mcp_field(const struct gen_mcp *m)
{
    return m->field ? m->field : "mcp";
}

static inline bool gen_request_wants_tokens(const struct gen_request *r) /* with the events that they made */
{
    return r->logprobs || r->return_token_ids || r->digest;
}

/* Defaults as commented above. */
void gen_request_init(struct gen_request *r, struct arena *arena, enum gen_input input);

#endif
