/* Options of all commands, from flags, environment and a JSON config file, through one table; --help and
 * docs/OPTIONS.md are made from it. Flags win over the environment (TANDEM_KV_MEMORY for --kv-memory), the environment
 * over the config file ("kv-memory"). */
#ifndef TANDEM_CLI_OPTIONS_H
#define TANDEM_CLI_OPTIONS_H

#include "backend/backend.h"
#include "base/arena.h"
#include "base/buf.h"
#include "wire/job.h"

#define OPTIONS_MAX_LIST 32

enum command {
    COMMAND_SERVE = 1 << 0,
    COMMAND_RUN = 1 << 1,
    COMMAND_INSPECT = 1 << 2,
    COMMAND_LIST = 1 << 3,
    COMMAND_ENGINE = 1 << 4, /* started by serve; not for people */
    COMMAND_BENCH = 1 << 5,
    COMMAND_BENCH_KERNELS = 1 << 6,
    COMMAND_BENCH_SERVE = 1 << 7,
    COMMAND_QUANTIZE = 1 << 8,
    COMMAND_CONVERT = 1 << 9,
    COMMAND_EVAL = 1 << 10,
    COMMAND_PULL = 1 << 11,
    COMMAND_RM = 1 << 12,
    COMMAND_SEARCH = 1 << 13,
    COMMAND_ALIAS = 1 << 14,
    COMMAND_ALL = (1 << 15) - 1
};

struct option_list {
    const char *items[OPTIONS_MAX_LIST];
    int n;
};

struct bench_serve_options {
    struct option_list targets, api_key_env;
    const char *model, *api, *ca_file;
    const char *concurrency, *rate; /* lists, separated by commas */
    int64_t requests, warmup, repeat;
    float duration_s, timeout_s, wait_s;
    const char *prompt_set, *workload, *body;
    int64_t prompt_tokens, max_tokens, seed;
    bool ignore_eos, stream;
    const char *slo;
    const char *json, *csv, *html;
    bool details, quiet;
};

struct options {
    const char *config, *log_level, *log_format;
    /* model */
    const char *model;        /* the first argument; for the engine --model */
    struct option_list names; /* --served-model-name */
    struct option_list overrides;
    const char *tool_format, *reasoning_format;
    const char *chat_template, *rope_scaling, *backend, *cpu_kernels, *mlx_device, *mlx_type, *kv_type, *script, *fault;
    uint64_t kv_memory;
    int64_t threads, max_context, max_batch_tokens, max_sequences, max_waiting, prefill_chunk;
    bool prefix_cache, reserve_output;
    const char *kv_disk_dir;
    float kv_disk_gb;
    const char *pull;                /* start, use or ask */
    const char *models, *keep_alive; /* --models FILE; a duration, NULL: the file's or 5m */
    const char *warm_prompts;
    bool warm_wait;
    struct option_list loras; /* NAME=PATH */
    const char *lora_dir;
    int64_t lora_max;
    uint64_t lora_memory;
    const char *speculation, *draft_model;
    int64_t max_draft_tokens;
    uint64_t draft_kv_memory;
    float max_itl_factor;
    /* server */
    struct option_list listen;
    const char *host;
    int64_t port;
    bool insecure_no_auth, strict_fields, drop_volatile_lines;
    const char *api_keys;
    struct option_list allowed_hosts, cors_origins;
    bool cache_salt_per_key;
    uint64_t max_body;
    int64_t max_connections, drain_timeout_ms, keepalive_ms, stall_timeout_ms;
    int64_t stream_interval_ms, stream_interval_tokens;
    int64_t default_timeout_ms, queue_timeout_ms, first_token_timeout_ms;
    const char *pressure_file;
    int64_t retry_initial_ms, retry_max_ms, retry_limit, restart_limit, restart_window_ms, restart_retry_ms;
    float retry_multiplier;
    int64_t heartbeat_timeout_ms, hang_timeout_ms;
    bool sandbox;
    bool log_content;
    const char *otlp_endpoint;
    float otlp_sample;
    int64_t max_client_connections, header_timeout_ms, body_timeout_ms, min_body_rate, idle_timeout_ms;
    const char *tls_cert, *tls_key;
    const char *journal, *journal_sync;
    int64_t journal_max_mb, file_max_mb, files_max_mb, batch_max_rows, batch_max_running, batch_patience_ms;
    float journal_max_age_hours;
    const char *mcp_config;
    int64_t mcp_max_turns;
    bool mcp_default;
    /* generation */
    struct sampling sampling;
    int64_t max_tokens, seed;
    const char *system;
    bool raw, json;   /* run: no chat template; inspect, list, search, alias: as JSON */
    bool tensors;     /* inspect: each of them */
    bool measure;     /* inspect: the memory's bandwidth */
    bool remove;      /* alias */
    int64_t n_search; /* search: models at most */
    /* bench, bench-kernels: lists are parsed by the command */
    const char *tests, *prompt, *context, *streams, *batch_prompt, *thread_list, *op, *type, *shape, *tokens, *kv_types;
    const char *json_file, *csv_file;
    int64_t gen, repeat;
    bool op_shares;
    const char *quantize; /* auto, none, 8, 6, 4 */
    uint64_t memory;
    /* quantize, convert, eval */
    const char *format, *precision, *calibrate, *importance, *text, *against;
    bool requantize, quiet;
    int64_t window, stride;
    /* engine */
    int64_t socket_fd, pool_fd, watch_fd, epoch, seals_fd;
    uint64_t pool_size, seals_size;
    struct bench_serve_options bench_serve;
    /* what is left */
    enum command command; /* and its words, as they came: options_reload reads them again */
    int argc;
    char **argv;
    /* Behind the model; bench-serve: the targets; serve: more models; search: the words behind the first. */
    struct option_list arguments;
};

/* Parses the words behind the command; "--" ends the flags. A list in one source replaces that of a weaker one. Strings
 * live in argv, the environment or the arena. INVALID names the flag, the variable or the config file's line; an option
 * that has no effect beside another one, or without it, is INVALID too, unless it has its default. */
NODISCARD bool options_parse(enum command command, int argc, char **argv, struct arena *arena, struct options *out,
                             struct error *err);

/* Reads everything again that *now was made of. Of options that can only be set at the start, *out keeps what *now has;
 * the names of those that would have changed are appended to *fixed, separated by blanks. options_help says which can
 * change. On failure *out is not to be used. */
NODISCARD bool options_reload(const struct options *now, struct arena *arena, struct options *out, struct buf *fixed,
                              struct error *err);

/* The text of a config file over what is in *out; options_parse does it for --config. Keys that belong to another
 * command are fine: one file may serve all. Strings are copied into the arena. */
NODISCARD bool options_read_config(enum command command, struct str text, struct arena *arena, struct options *out,
                                   struct error *err);

struct backend_words options_backend(const struct options *o); /* views of its strings */

/* The strings of the options that models have (options__is_of_model) are copied into the arena. False: it is full. */
NODISCARD bool options_keep_model_strings(struct options *o, struct arena *arena);

/* The bytes of --kv-disk-gb. INVALID: it is given and the folder is not. */
NODISCARD bool options_kv_disk(const struct options *o, uint64_t *size, struct error *err);

/* What --speculation says. INVALID: it says something else, or --draft-kv-memory is given without a draft model. */
NODISCARD bool options_speculation(const struct options *o, enum speculation *when, struct error *err);

void options_help(enum command command, struct buf *out); /* its options, for --help */
void options_docs(struct buf *out);                       /* docs/OPTIONS.md */

#endif
