#include "cli/options.h"

#include "base/array.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/sys_file.h"

#include <ctype.h>
#include <float.h>
#include <stdio.h>
#include <stdlib.h>

enum option_kind { OPTION_STR, OPTION_INT, OPTION_SIZE, OPTION_FLOAT, OPTION_I32, OPTION_BOOL, OPTION_LIST };

struct option {
    const char *name; /* without dashes */
    enum option_kind kind;
    int commands; /* enum command */
    size_t offset;
    double min, max;
    const char *fallback; /* as the user would write it; NULL: unset */
    const char *value;    /* name of the value in help */
    const char *help;
};

#define KV_DISK_DEFAULT_GB 10

#define AT(member)    offsetof(struct options, member)
#define S             COMMAND_SERVE
#define R             COMMAND_RUN
#define I             COMMAND_INSPECT
#define L             COMMAND_LIST
#define E             COMMAND_ENGINE
#define B             COMMAND_BENCH
#define K             COMMAND_BENCH_KERNELS
#define V             COMMAND_BENCH_SERVE
#define LOADGEN(name) AT(bench_serve.name)
#define INT_MAX_      2147483647.0
#define KIND_float    OPTION_FLOAT
#define KIND_int32_t  OPTION_I32
#define TEXT_(x)      #x
#define TEXT(x)       TEXT_(x)

static const struct option table[] = {
    {"config", OPTION_STR, S | R | V, AT(config), 0, 0, NULL, "FILE", "JSON file with options by these names"},
    {"log-level", OPTION_STR, S | R | I | E | B | K | V, AT(log_level), 0, 0, "info", "LEVEL",
     "error, warn, info or debug"},
    {"log-format", OPTION_STR, S | E, AT(log_format), 0, 0, "text", "FORMAT", "text, logfmt or json"},

    {"host", OPTION_STR, S, AT(host), 0, 0, "127.0.0.1", "ADDRESS", "address to listen on"},
    {"port", OPTION_INT, S, AT(port), 0, 65535, "8000", "PORT", "port to listen on; 0: any free one"},
    {"listen", OPTION_LIST, S, AT(listen), 0, 0, NULL, "WHERE",
     "instead: 127.0.0.1:8000, [::1]:8000, unix:PATH or fd:N (one that listens already); may be repeated"},
    {"insecure-no-auth", OPTION_BOOL, S, AT(insecure_no_auth), 0, 0, "off", NULL,
     "allow to listen beyond this machine without keys"},
    {"api-keys", OPTION_STR, S, AT(api_keys), 0, 0, NULL, "FILE",
     "API keys as JSON, besides those in the variable TANDEM_API_KEY (docs/SECURITY.md); its text is read again on "
     "SIGHUP"},
    {"allowed-host", OPTION_LIST, S, AT(allowed_hosts), 0, 0, NULL, "NAME",
     "without keys: another name or pattern (*.example.com) that Host may have; may be repeated"},
    {"cors-origin", OPTION_LIST, S, AT(cors_origins), 0, 0, NULL, "ORIGIN",
     "https://chat.example.com: its pages may use the server; with keys, *: all may; may be repeated"},
    {"cache-salt-per-key", OPTION_BOOL, S, AT(cache_salt_per_key), 0, 0, "off", NULL,
     "requests find cached prefixes of their own API key only"},
    {"strict-fields", OPTION_BOOL, S, AT(strict_fields), 0, 0, "off", NULL, "refuse unknown request fields"},
    {"max-body", OPTION_SIZE, S, AT(max_body), 1024, 1073741824.0, "32M", "SIZE", "largest request body"},
    {"max-connections", OPTION_INT, S, AT(max_connections), 1, 100000, "1024", "N", "open connections"},
    {"max-connections-per-client", OPTION_INT, S, AT(max_client_connections), -1, 100000, "0", "N",
     "of one address (of IPv6, one /64); 0: 256, and any number from this machine; -1: any number"},
    {"header-timeout-ms", OPTION_INT, S, AT(header_timeout_ms), 100, 3600000, "10000", "MS",
     "for a request's head, and for the handshake of TLS"},
    {"body-timeout-ms", OPTION_INT, S, AT(body_timeout_ms), 100, 3600000, "30000", "MS",
     "for a request's body, as long as nothing of it comes"},
    {"min-body-rate", OPTION_INT, S, AT(min_body_rate), 0, 1000000000, "1024", "BYTES",
     "bytes a second: each second's worth adds one to the time for the whole body; 0: any rate"},
    {"idle-timeout-ms", OPTION_INT, S, AT(idle_timeout_ms), 100, 86400000, "75000", "MS",
     "close a connection that waits for its next request for so long"},
    {"tls-cert", OPTION_STR, S, AT(tls_cert), 0, 0, NULL, "FILE",
     "PEM certificate with its chain: TCP listeners speak https (docs/SECURITY.md)"},
    {"tls-key", OPTION_STR, S, AT(tls_key), 0, 0, NULL, "FILE", "its private key, PEM, without a passphrase"},
    {"drain-timeout-ms", OPTION_INT, S, AT(drain_timeout_ms), 0, 86400000, "30000", "MS",
     "on SIGTERM, time for running requests"},
    {"keepalive-ms", OPTION_INT, S, AT(keepalive_ms), 100, 3600000, "15000", "MS",
     "comments on streams that are silent for so long"},
    {"stall-timeout-ms", OPTION_INT, S, AT(stall_timeout_ms), 1000, 3600000, "60000", "MS",
     "cancel a client that takes nothing of its reply for so long"},
    {"stream-interval-ms", OPTION_INT, S, AT(stream_interval_ms), 0, 60000, "0", "MS",
     "gather tokens for so long before they are sent"},
    {"stream-interval-tokens", OPTION_INT, S, AT(stream_interval_tokens), 1, 4096, "1", "N",
     "gather so many tokens before they are sent"},
    {"timeout-ms", OPTION_INT, S, AT(default_timeout_ms), 0, 86400000, "0", "MS",
     "fail requests after so long; 0: never"},
    {"queue-timeout-ms", OPTION_INT, S, AT(queue_timeout_ms), 0, 86400000, "0", "MS",
     "fail requests that are not begun after so long; 0: never"},
    {"first-token-timeout-ms", OPTION_INT, S, AT(first_token_timeout_ms), 0, 86400000, "0", "MS",
     "fail requests that have given no token after so long; 0: never"},
    {"pressure-file", OPTION_STR, S, AT(pressure_file), 0, 0, NULL, "FILE",
     "read here how short memory is (none, warn or critical) instead of asking the system"},
    {"log-content", OPTION_BOOL, S, AT(log_content), 0, 0, "off", NULL,
     "write prompts and answers to the log, which is never done otherwise"},
    {"otlp-endpoint", OPTION_STR, S, AT(otlp_endpoint), 0, 0, NULL, "URL",
     "send spans of requests to this OpenTelemetry collector, as OTLP over HTTP in JSON (docs/OBSERVABILITY.md)"},
    {"otlp-sample", OPTION_FLOAT, S, AT(otlp_sample), 0, 1, "1", "RATIO",
     "share of the traces that begin here to be sent; a caller's own decision is followed"},
    {"journal", OPTION_STR, S, AT(journal), 0, 0, NULL, "DIR",
     "keep requests with background or detach in this folder, through restarts (docs/RELIABILITY.md)"},
    {"journal-sync", OPTION_STR, S, AT(journal_sync), 0, 0, "normal", "WHEN",
     "normal: commits survive kill -9; full: an fsync each, they survive a power loss"},
    {"journal-max-mb", OPTION_INT, S, AT(journal_max_mb), 0, 1e9, "1024", "MB",
     "size of its database, in MiB; finished requests make room; 0: no limit"},
    {"journal-max-age-hours", OPTION_FLOAT, S, AT(journal_max_age_hours), 0, 1e6, "72", "HOURS",
     "how long it keeps finished requests, and waits with those that cannot run; 0: no limit"},

    {"retry-initial-ms", OPTION_INT, S, AT(retry_initial_ms), 1, 600000, "200", "MS",
     "longest wait before a lost engine is started for the second time in a row; the first time is at once"},
    {"retry-max-ms", OPTION_INT, S, AT(retry_max_ms), 1, 3600000, "10000", "MS", "longest wait before any start"},
    {"retry-multiplier", OPTION_FLOAT, S, AT(retry_multiplier), 1, 100, "2", "FACTOR",
     "of the wait, from one start to the next"},
    {"retry-limit", OPTION_INT, S, AT(retry_limit), 0, 1000, "8", "N",
     "engines that may be lost under a request, one after another, without a new token of it"},
    {"restart-limit", OPTION_INT, S, AT(restart_limit), 1, 64, "10", "N",
     "engines of a model that may be lost within the window; one more, and it counts as failed"},
    {"restart-window-ms", OPTION_INT, S, AT(restart_window_ms), 1000, 86400000, "60000", "MS", "that window"},
    {"restart-retry-ms", OPTION_INT, S, AT(restart_retry_ms), 100, 86400000, "30000", "MS",
     "a failed model is tried again after so long"},
    {"heartbeat-timeout-ms", OPTION_INT, S, AT(heartbeat_timeout_ms), 300, 86400000, "1000", "MS",
     "an engine that shows no life for so long is replaced"},
    {"hang-timeout-ms", OPTION_INT, S, AT(hang_timeout_ms), 1000, 86400000, "10000", "MS",
     "a step that takes longer than this, and 20 times longer than expected, is a hang: the engine is replaced"},

    {"served-model-name", OPTION_LIST, S, AT(names), 0, 0, NULL, "NAME",
     "name or pattern (gpt-*) to answer to; may be repeated"},
    {"chat-template", OPTION_STR, S | R, AT(chat_template), 0, 0, NULL, "FILE",
     "Jinja template instead of the model's own"},
    {"override-kv", OPTION_LIST, S | R | I | E | B, AT(overrides), 0, 0, NULL, "KEY=TYPE:VALUE",
     "change a metadata key; TYPE is int, float, bool or str; may be repeated"},
    {"rope-scaling", OPTION_STR, S | R | I | E | B, AT(rope_scaling), 0, 0, NULL, "KIND[:FACTOR[:CONTEXT]]",
     "none, linear:F, llama3:F or yarn:F, instead of what the model says"},
    {"max-context", OPTION_INT, S | R | I | E, AT(max_context), 0, LIMIT_CONTEXT, "0", "TOKENS",
     "longest sequence; 0: the model's"},
    {"max-sequences", OPTION_INT, S | E, AT(max_sequences), 0, 4096, "0", "N", "sequences running at once; 0: 64"},
    {"max-batch-tokens", OPTION_INT, S | R | E | B, AT(max_batch_tokens), 0, 65536, "0", "N",
     "rows of one step; 0: chosen for the kernels"},
    {"max-waiting", OPTION_INT, S | E, AT(max_waiting), 0, 1000000, "0", "N",
     "requests in the queue before 429; 0: 1024"},
    {"prefill-chunk", OPTION_INT, S | E | B, AT(prefill_chunk), 0, 65536, "0", "N",
     "prompt tokens of one sequence in a step; 0: as many as fit"},
    {"max-itl-factor", OPTION_FLOAT, S | E, AT(max_itl_factor), 0, 1000, "2.5", "FACTOR",
     "prompts may make a step this many times as long as those who decode need; 0: any"},
    {"speculation", OPTION_STR, S | R | E, AT(speculation), 0, 0, "auto", "WHEN",
     "guess tokens and check several at a time: auto (where it pays), off or on; answers do not depend on it"},
    {"max-draft-tokens", OPTION_INT, S | R | E, AT(max_draft_tokens), 0, 31, "0", "N",
     "guessed tokens of one sequence in a step; 0: 15"},
    {"draft-model", OPTION_STR, S | R | E, AT(draft_model), 0, 0, NULL, "MODEL",
     "smaller model with the same tokenizer that guesses tokens too"},
    {"draft-kv-memory", OPTION_SIZE, S | R | E, AT(draft_kv_memory), 0, 1e15, "0", "SIZE",
     "memory for its KV pages; 0: an eighth of kv-memory"},
    {"kv-memory", OPTION_SIZE, S | R | E, AT(kv_memory), 0, 1e15, "0", "SIZE",
     "memory for KV pages; 0: a quarter of what is left"},
    {"kv-type", OPTION_STR, S | R | I | E | B, AT(kv_type), 0, 0, "f16", "TYPE", "f32, f16 or, on the cpu backend, q8"},
    {"prefix-cache", OPTION_BOOL, S | E, AT(prefix_cache), 0, 0, "on", NULL, "reuse KV pages of equal prefixes"},
    {"reserve-output", OPTION_BOOL, S | E, AT(reserve_output), 0, 0, "on", NULL,
     "admit with room for what answers are expected to grow to"},
    {"kv-disk-dir", OPTION_STR, S | R | E, AT(kv_disk_dir), 0, 0, NULL, "DIR",
     "keep KV pages for later prefix hits in this folder too, through restarts (docs/CACHE.md)"},
    {"kv-disk-gb", OPTION_FLOAT, S | R | E, AT(kv_disk_gb), 0, 1e6, "0", "GB",
     "most that the folder's files may take, in GiB; 0: 10"},
    {"warm-prompts", OPTION_STR, S, AT(warm_prompts), 0, 0, NULL, "FILE",
     "prompts to have in the prefix cache at any time, as JSON (docs/CACHE.md)"},
    {"warm-wait", OPTION_BOOL, S, AT(warm_wait), 0, 0, "off", NULL,
     "be ready only when the warm prompts are in the cache for the first time"},
    {"threads", OPTION_INT, S | R | E, AT(threads), 0, 256, "0", "N", "kernel threads; 0: as many as may be used"},
    {"backend", OPTION_STR, S | R | E | B, AT(backend), 0, 0, "auto", "NAME",
     "auto, cpu or mlx; auto: mlx where it finds a GPU"},
    {"mlx-device", OPTION_STR, S | R | E | B, AT(mlx_device), 0, 0, "auto", "DEVICE",
     "of the mlx backend: auto, cpu or gpu"},
    {"mlx-type", OPTION_STR, S | R | E | B, AT(mlx_type), 0, 0, "auto", "TYPE",
     "its activations: auto, f32, f16 or bf16; auto: the model's on a GPU, f32 on a CPU"},
    {"cpu-kernels", OPTION_STR, S | R | E | B | K, AT(cpu_kernels), 0, 0, "auto", "SET",
     "auto, reference; x86-64: avx2, avx512; arm64: neon, i8mm"},
    {"sandbox", OPTION_BOOL, S | E, AT(sandbox), 0, 0, "on", NULL,
     "confine engines to their models and caches, without network and programs (docs/SECURITY.md)"},
    {"script", OPTION_STR, S | E, AT(script), 0, 0, NULL, "FILE",
     "test builds: tokens from a script instead of the model"},
    {"fault", OPTION_STR, S | E, AT(fault), 0, 0, NULL, "SPEC",
     "test builds: what goes wrong on purpose in the engine (docs/RELIABILITY.md)"},

#define X(name, type, fallback, low, high, what) \
    {#name, KIND_##type, S | R, AT(sampling.name), low, high, TEXT(fallback), "VALUE", what},
    SAMPLING_TABLE(X)
#undef X
        {"max-tokens", OPTION_INT, S | R, AT(max_tokens), -1, LIMIT_CONTEXT, "-1", "N",
         "tokens of an answer; -1: as many as fit"},
    {"seed", OPTION_INT, R, AT(seed), -1, 9e15, "-1", "N", "of the sampler; -1: random"},
    {"system", OPTION_STR, R, AT(system), 0, 0, NULL, "TEXT", "system message"},
    {"raw", OPTION_BOOL, R, AT(raw), 0, 0, "off", NULL, "complete the prompt as it is, without the chat template"},
    {"tensors", OPTION_BOOL, I, AT(tensors), 0, 0, "off", NULL,
     "list every tensor and what becomes of it on each backend"},
    {"json", OPTION_BOOL, I | L, AT(json), 0, 0, "off", NULL, "as JSON"},

    {"tests", OPTION_STR, B, AT(tests), 0, 0, "prefill,decode,batch", "LIST", "which of prefill, decode and batch"},
    {"prompt", OPTION_STR, B, AT(prompt), 0, 0, "64,512", "LIST", "prefill: tokens of the prompt"},
    {"context", OPTION_STR, B, AT(context), 0, 0, "256,1024", "LIST",
     "decode: tokens of each sequence when the last is generated"},
    {"gen", OPTION_INT, B, AT(gen), 2, 65536, "64", "N", "decode, batch: tokens generated by each stream"},
    {"streams", OPTION_STR, B, AT(streams), 0, 0, "1,4,16", "LIST", "decode, batch: sequences at once"},
    {"batch-prompt", OPTION_STR, B, AT(batch_prompt), 0, 0, "100", "LIST",
     "batch: tokens of each prompt, prefilled within the time that counts"},
    {"threads", OPTION_STR, B | K, AT(thread_list), 0, 0, NULL, "LIST",
     "kernel threads, each number in turn; 0: as many as may be used; bench: that, bench-kernels: 1 and that"},
    {"ops", OPTION_BOOL, B, AT(op_shares), 0, 0, "off", NULL, "where the time goes, op by op (cpu backend)"},
    {"op", OPTION_STR, K, AT(op), 0, 0, NULL, "LIST", "only ops whose names begin so: linear, mlp, attention ..."},
    {"type", OPTION_STR, K, AT(type), 0, 0, NULL, "LIST",
     "weights: only types whose names begin so, or all; without it the usual ones"},
    {"shape", OPTION_STR, K, AT(shape), 0, 0, NULL, "LIST",
     "only shapes whose names begin so: smollm2, qwen2.5-0.5b.head ...; or a matrix: 14336x4096"},
    {"kv-type", OPTION_STR, K, AT(kv_types), 0, 0, NULL, "LIST", "of attention; without it all"},
    {"tokens", OPTION_STR, K, AT(tokens), 0, 0, NULL, "LIST",
     "rows of a step; without it 1,2,4,8,16,64,256,512 and, of attention, prompts of 512 and 4096"},
    {"repeat", OPTION_INT, B | K, AT(repeat), 1, 1000, "5", "N", "times each is measured; medians are shown"},
    {"json", OPTION_STR, B | K, AT(json_file), 0, 0, NULL, "FILE", "write the figures as JSON; -: to standard output"},
    {"csv", OPTION_STR, B | K, AT(csv_file), 0, 0, NULL, "FILE", "write them as CSV; -: to standard output"},
    {"target", OPTION_LIST, V, LOADGEN(targets), 0, 0, NULL, "[LABEL=]URL[#MODEL]",
     "what to measure, as the arguments name it; may be repeated"},
    {"model", OPTION_STR, V, LOADGEN(model), 0, 0, NULL, "NAME", "of targets that name none [the server's first]"},
    {"api", OPTION_STR, V, LOADGEN(api), 0, 0, "chat", "NAME", "chat or completions"},
    {"api-key-env", OPTION_LIST, V, LOADGEN(api_key_env), 0, 0, NULL, "[LABEL=]NAME",
     "environment variable with the API key [TANDEM_BENCH_API_KEY, OPENAI_API_KEY]; may be repeated"},
    {"ca-file", OPTION_STR, V, LOADGEN(ca_file), 0, 0, NULL, "FILE", "trusted certificates instead of the system's"},
    {"concurrency", OPTION_STR, V, LOADGEN(concurrency), 0, 0, NULL, "N,N,...",
     "requests in flight, one point each [1,2,4,8,16]"},
    {"rate", OPTION_STR, V, LOADGEN(rate), 0, 0, NULL, "R,R,...",
     "instead: requests a second, at random moments, one point each"},
    {"requests", OPTION_INT, V, LOADGEN(requests), 0, 10000000, "0", "N",
     "of a point; 0: 16 or more, by its load, or as many as its duration takes"},
    {"duration", OPTION_FLOAT, V, LOADGEN(duration_s), 0, 86400, "0", "SECONDS",
     "start no request of a point after so long; 0: no limit"},
    {"warmup", OPTION_INT, V, LOADGEN(warmup), 0, 100000, "1", "N", "requests to each target before it is measured"},
    {"repeat", OPTION_INT, V, LOADGEN(repeat), 1, 1000, "1", "N", "measure each point so often; medians are reported"},
    {"prompt-set", OPTION_STR, V, LOADGEN(prompt_set), 0, 0, "chat", "NAME",
     "short, chat, code, long or shared-prefix"},
    {"prompt-tokens", OPTION_INT, V, LOADGEN(prompt_tokens), 0, 1000000, "0", "N",
     "length of a prompt, about; 0: the set's"},
    {"max-tokens", OPTION_INT, V, LOADGEN(max_tokens), 0, LIMIT_CONTEXT, "0", "N",
     "of an answer; 0: the prompt set's, or what the workload says"},
    {"workload", OPTION_STR, V, LOADGEN(workload), 0, 0, NULL, "FILE",
     "requests from a file instead, one JSON object a line"},
    {"body", OPTION_STR, V, LOADGEN(body), 0, 0, NULL, "JSON", "fields for every request, such as {\"temperature\":0}"},
    {"ignore-eos", OPTION_BOOL, V, LOADGEN(ignore_eos), 0, 0, "off", NULL,
     "answers as long as allowed, where the server knows the field"},
    {"stream", OPTION_BOOL, V, LOADGEN(stream), 0, 0, "on", NULL,
     "ask for streams; without, only whole answers are timed"},
    {"seed", OPTION_INT, V, LOADGEN(seed), -1, 9e15, "-1", "N", "of prompts and arrivals; -1: random"},
    {"timeout", OPTION_FLOAT, V, LOADGEN(timeout_s), 0.001, 86400, "600", "SECONDS", "for one request"},
    {"wait", OPTION_FLOAT, V, LOADGEN(wait_s), 0, 86400, "0", "SECONDS",
     "for targets that are not there yet, before anything is measured"},
    {"slo", OPTION_STR, V, LOADGEN(slo), 0, 0, NULL, "LIMITS",
     "service level for goodput, in ms: ttft=500,itl=50,tpot=50,e2e=10000, or some of them"},
    {"json", OPTION_STR, V, LOADGEN(json), 0, 0, NULL, "FILE", "write all figures as JSON; -: to standard output"},
    {"details", OPTION_BOOL, V, LOADGEN(details), 0, 0, "off", NULL, "with every request in it"},
    {"csv", OPTION_STR, V, LOADGEN(csv), 0, 0, NULL, "FILE",
     "write the figures of each run as a table; -: to standard output"},
    {"html", OPTION_STR, V, LOADGEN(html), 0, 0, NULL, "FILE", "write a report with plots; -: to standard output"},
    {"quiet", OPTION_BOOL, V, LOADGEN(quiet), 0, 0, "off", NULL, "no progress"},

    {"model", OPTION_STR, E, AT(model), 0, 0, NULL, "FILE", "model file"},
    {"socket-fd", OPTION_INT, E, AT(socket_fd), 0, INT_MAX_, NULL, "FD", "socket to the gateway"},
    {"pool-fd", OPTION_INT, E, AT(pool_fd), -1, INT_MAX_, "-1", "FD", "shared memory of the KV pool"},
    {"pool-size", OPTION_SIZE, E, AT(pool_size), 0, 1e15, "0", "SIZE", "its size"},
    {"watch-fd", OPTION_INT, E, AT(watch_fd), -1, INT_MAX_, "-1", "FD", "shared memory of the watchdog's words"},
    {"epoch", OPTION_INT, E, AT(epoch), 0, 4294967295.0, "1", "N", "incarnation of the engine"},
    {"seals-fd", OPTION_INT, E, AT(seals_fd), -1, INT_MAX_, "-1", "FD", "shared memory of the KV pages' seals"},
    {"seals-size", OPTION_SIZE, E, AT(seals_size), 0, 1e15, "0", "SIZE", "its size"},
};

/* What SIGHUP reads again; the rest of the table stays as it was at the start. */
static const char *const reloadable[] = {
    "log-level",         "allowed-host",       "cors-origin",
    "max-body",          "max-connections",    "max-connections-per-client",
    "header-timeout-ms", "body-timeout-ms",    "min-body-rate",
    "idle-timeout-ms",   "drain-timeout-ms",   "keepalive-ms",
    "stall-timeout-ms",  "stream-interval-ms", "stream-interval-tokens",
};

/* "top_k" of the sampling table is --top-k. */
static bool names_equal(struct str given, const char *name)
{
    struct str n = str_of(name);
    if (given.len != n.len) {
        return false;
    }
    for (size_t i = 0; i < n.len; i++) {
        char a = given.ptr[i] == '_' ? '-' : given.ptr[i], b = n.ptr[i] == '_' ? '-' : n.ptr[i];
        if (a != b) {
            return false;
        }
    }
    return true;
}

static void flag_name(const char *name, char *out, size_t size)
{
    snprintf(out, size, "--%s", name);
    for (char *c = out; *c; c++) {
        *c = *c == '_' ? '-' : *c;
    }
}

/* ---- values ---- */

static bool parse_size(struct str text, double *out)
{
    static const char units[] = "KMGT";
    double factor = 1;
    if (text.len && (text.ptr[text.len - 1] == 'B' || text.ptr[text.len - 1] == 'b')) {
        text.len--;
    }
    bool binary = text.len && text.ptr[text.len - 1] == 'i';
    text.len -= binary;
    const char *unit = text.len ? strchr(units, toupper((unsigned char)text.ptr[text.len - 1])) : NULL;
    if (binary && !unit) {
        return false;
    }
    if (unit && *unit) {
        for (const char *u = units; u <= unit; u++) {
            factor *= 1024;
        }
        text.len--;
    }
    return str_to_f64(text, out) && (*out *= factor, true);
}

static bool parse_bool(struct str text, bool *out)
{
    static const struct str yes[] = {{"on", 2}, {"true", 4}, {"yes", 3}, {"1", 1}},
                            no[] = {{"off", 3}, {"false", 5}, {"no", 2}, {"0", 1}};
    for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
        if (str_eq(text, yes[i]) || str_eq(text, no[i])) {
            *out = str_eq(text, yes[i]);
            return true;
        }
    }
    return false;
}

static bool set_number(const struct option *o, const char *text, void *slot, const char *where, struct error *err)
{
    double value;
    int64_t whole;
    bool is_int = o->kind == OPTION_INT || o->kind == OPTION_I32;
    bool ok = is_int                   ? str_to_i64(str_of(text), &whole)
              : o->kind == OPTION_SIZE ? parse_size(str_of(text), &value)
                                       : str_to_f64(str_of(text), &value);
    if (is_int && ok) {
        value = (double)whole;
    }
    if (!ok || value < o->min || value > o->max) {
        return error_set(err, ERR_INVALID, "%s: expected %s from %.10g to %.10g, but got '%.60s'.", where,
                         is_int                   ? "an integer"
                         : o->kind == OPTION_SIZE ? "a size such as 512M"
                                                  : "a number",
                         o->min, o->max, text);
    }
    switch (o->kind) {
    case OPTION_INT:
        *(int64_t *)slot = whole;
        break;
    case OPTION_I32:
        *(int32_t *)slot = (int32_t)whole;
        break;
    case OPTION_SIZE:
        *(uint64_t *)slot = (uint64_t)value;
        break;
    default:
        *(float *)slot = (float)value;
        break;
    }
    return true;
}

static bool set_value(const struct option *o, const char *text, struct options *out, const char *where,
                      struct error *err)
{
    void *slot = (char *)out + o->offset;
    struct option_list *list = slot;
    switch (o->kind) {
    case OPTION_STR:
        *(const char **)slot = text;
        return true;
    case OPTION_LIST:
        if (list->n == OPTIONS_MAX_LIST) {
            return error_set(err, ERR_INVALID, "%s: at most %d values are possible.", where, OPTIONS_MAX_LIST);
        }
        list->items[list->n++] = text;
        return true;
    case OPTION_BOOL:
        return parse_bool(str_of(text), slot) ||
               error_set(err, ERR_INVALID, "%s: expected on or off, but got '%.60s'.", where, text);
    default:
        return set_number(o, text, slot, where, err);
    }
}

/* ---- sources ---- */

static bool set_defaults(enum command command, struct options *out, struct error *err)
{
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        bool sampling = strchr(table[i].name, '_') || table[i].kind == OPTION_FLOAT;
        if (table[i].fallback && (table[i].commands & command || sampling) &&
            !set_value(&table[i], table[i].fallback, out, table[i].name, err)) {
            return false;
        }
    }
    return true;
}

static const struct option *find(struct str name, enum command command)
{
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        if (table[i].commands & command && names_equal(name, table[i].name)) {
            return &table[i];
        }
    }
    return NULL;
}

static bool read_environment(enum command command, struct options *out, struct error *err)
{
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        char name[80];
        snprintf(name, sizeof name, "TANDEM_%s", table[i].name);
        for (char *c = name; *c; c++) {
            *c = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
        }
        const char *value = table[i].commands & command & ~COMMAND_ENGINE ? getenv(name) : NULL;
        if (value && table[i].kind == OPTION_LIST) {
            ((struct option_list *)((char *)out + table[i].offset))->n = 0; /* instead of the config file's */
        }
        if (value && !set_value(&table[i], value, out, name, err)) {
            return false;
        }
    }
    return true;
}

static bool set_scalar(const struct option *o, const struct json *v, struct arena *arena, struct options *out,
                       const char *where, struct error *err)
{
    struct str text = json_type(v) == JSON_STRING ? json_str(v)
                      : json_type(v) == JSON_BOOL ? str_of(json_bool(v) ? "on" : "off")
                                                  : json_number_text(v);
    bool is_text = o->kind == OPTION_STR || o->kind == OPTION_LIST;
    if (json_type(v) == JSON_OBJECT || json_type(v) == JSON_ARRAY || json_type(v) == JSON_NULL ||
        (is_text && json_type(v) != JSON_STRING)) {
        return error_set(err, ERR_INVALID, "%s: expected %s, but got %s.", where,
                         is_text ? "a string" : "a string, a number or a boolean", json_type_name(json_type(v)));
    }
    if (text.len && memchr(text.ptr, '\0', text.len)) {
        return error_set(err, ERR_INVALID, "%s: a NUL character is not possible.", where);
    }
    const char *copy = arena_strdup(arena, text);
    return copy ? set_value(o, copy, out, where, err) : arena_full(arena, "the configuration", err);
}

static bool set_from_json(const struct option *o, const struct json *v, struct arena *arena, struct options *out,
                          const char *where, struct error *err)
{
    if (json_type(v) != JSON_ARRAY || o->kind != OPTION_LIST) {
        return set_scalar(o, v, arena, out, where, err);
    }
    for (size_t i = 0; i < json_len(v); i++) {
        if (!set_scalar(o, json_at(v, i), arena, out, where, err)) {
            return false;
        }
    }
    return true;
}

bool options_read_config(enum command command, struct str text, struct arena *arena, struct options *out,
                         struct error *err)
{
    struct json *root = json_parse(text, 0, err);
    bool ok = root != NULL;
    if (ok && json_type(root) != JSON_OBJECT) {
        ok = error_set(err, ERR_INVALID, "an object is expected.");
    }
    for (struct json_iter it = json_members(root); ok && json_next(&it);) {
        char where[160];
        snprintf(where, sizeof where, "line %d, '%.60s'", json_line_of(text, it.key.ptr), it.key.ptr);
        const struct option *o = find(it.key, command & ~COMMAND_ENGINE); /* names may mean something else elsewhere */
        o = o ? o : find(it.key, COMMAND_ALL & ~COMMAND_ENGINE);
        if (!o) {
            ok = error_set(err, ERR_INVALID, "%s: no such option.", where);
        } else if (o->commands & command) {
            ok = set_from_json(o, it.value, arena, out, where, err);
        }
    }
    json_free(root);
    return ok;
}

static bool read_config(enum command command, const char *path, struct arena *arena, struct options *out,
                        struct error *err)
{
    struct buf text = {0};
    bool ok = file_read(path, MIB(1), &text, err) && options_read_config(command, buf_view(&text), arena, out, err);
    buf_release(&text);
    return ok || error_wrap(err, "config file '%s'", path);
}

/* One flag at argv[*i]; steps over its value. */
static bool read_flag(enum command command, int argc, char **argv, int *i, struct options *out, struct error *err)
{
    struct str word = str_of(argv[*i] + 2);
    size_t equals = str_find_char(word, '=');
    struct str name = str_slice(word, 0, equals == STR_NPOS ? word.len : equals);
    bool negated = false;
    const struct option *o = find(name, command);
    if (!o && str_starts(name, STR("no-"))) {
        o = find(str_slice(name, 3, name.len), command);
        negated = o && o->kind == OPTION_BOOL;
        o = negated ? o : NULL;
    }
    if (!o && command == COMMAND_SERVE && str_eq(name, STR("api-key"))) {
        return error_set(err, ERR_INVALID,
                         "--api-key: a key on the command line is seen by everybody who lists processes; set "
                         "TANDEM_API_KEY, or name a file with --api-keys.");
    }
    if (!o) {
        return error_set(err, ERR_INVALID, "unknown option '%.80s'; --help lists those there are.", argv[*i]);
    }
    char where[80];
    const char *value = equals == STR_NPOS ? NULL : word.ptr + equals + 1;
    flag_name(o->name, where, sizeof where);
    if (negated && value) {
        return error_set(err, ERR_INVALID, "--no-%s takes no value.", where + 2);
    }
    if (!value && o->kind == OPTION_BOOL) {
        bool explicit = *i + 1 < argc && (strcmp(argv[*i + 1], "on") == 0 || strcmp(argv[*i + 1], "off") == 0);
        value = negated ? "off" : explicit ? argv[++*i] : "on";
    } else if (!value && *i + 1 < argc) {
        value = argv[++*i];
    } else if (!value) {
        return error_set(err, ERR_INVALID, "%s needs a value: %s.", where, o->help);
    }
    return set_value(o, value, out, where, err);
}

static bool read_words(enum command command, int argc, char **argv, struct options *out, struct error *err)
{
    bool flags = true; /* until "--" */
    for (int i = 0; i < argc; i++) {
        if (flags && strcmp(argv[i], "--") == 0) {
            flags = false;
        } else if (flags && str_starts(str_of(argv[i]), STR("--"))) {
            if (!read_flag(command, argc, argv, &i, out, err)) {
                return false;
            }
        } else if (!out->model && !(command & (L | V))) {
            out->model = argv[i];
        } else if (!(command & (R | V))) {
            return error_set(err, ERR_INVALID, "unexpected argument '%.80s'.", argv[i]);
        } else if (out->arguments.n == OPTIONS_MAX_LIST) {
            return error_set(err, ERR_INVALID,
                             command == V ? "more than %d targets are not possible."
                                          : "a prompt of more than %d words must be quoted.",
                             OPTIONS_MAX_LIST);
        } else {
            out->arguments.items[out->arguments.n++] = argv[i];
        }
    }
    return true;
}

/* A list given on the command line replaces the one of the config file or the environment. */
static void clear_lists_given(int argc, char **argv, struct options *out, enum command command)
{
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++) {
        struct str word = str_of(argv[i]);
        if (!str_starts(word, STR("--"))) {
            continue;
        }
        size_t equals = str_find_char(word, '=');
        const struct option *o = find(str_slice(word, 2, equals == STR_NPOS ? word.len : equals), command);
        if (o && o->kind == OPTION_LIST) {
            ((struct option_list *)((char *)out + o->offset))->n = 0;
        }
    }
}

bool options_parse(enum command command, int argc, char **argv, struct arena *arena, struct options *out,
                   struct error *err)
{
    *out = (struct options){
        .socket_fd = -1, .pool_fd = -1, .watch_fd = -1, .seals_fd = -1, .command = command, .argc = argc, .argv = argv};
    struct options words = *out;
    if (!read_words(command, argc, argv, &words, err)) { /* first, to know the config file */
        return false;
    }
    const char *config = words.config ? words.config : command & (S | R | V) ? getenv("TANDEM_CONFIG") : NULL;
    if (!set_defaults(command, out, err) || (config && !read_config(command, config, arena, out, err)) ||
        !read_environment(command, out, err)) {
        return false;
    }
    clear_lists_given(argc, argv, out, command);
    return read_words(command, argc, argv, out, err);
}

/* ---- reading again ---- */

static bool is_reloadable(const struct option *o)
{
    for (size_t i = 0; i < ARRAY_LEN(reloadable); i++) {
        if (strcmp(reloadable[i], o->name) == 0) {
            return (o->commands & S) != 0;
        }
    }
    return false;
}

static bool same_text(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static size_t value_size(enum option_kind kind)
{
    static const size_t sizes[] = {
        [OPTION_STR] = sizeof(char *),
        [OPTION_INT] = sizeof(int64_t),
        [OPTION_SIZE] = sizeof(uint64_t),
        [OPTION_FLOAT] = sizeof(float),
        [OPTION_I32] = sizeof(int32_t),
        [OPTION_BOOL] = sizeof(bool),
        [OPTION_LIST] = sizeof(struct option_list),
    };
    return sizes[kind];
}

static bool same_value(const struct option *o, const void *a, const void *b)
{
    const struct option_list *x = a, *y = b;
    if (o->kind == OPTION_STR) {
        return same_text(*(const char *const *)a, *(const char *const *)b);
    }
    if (o->kind != OPTION_LIST) {
        return memcmp(a, b, value_size(o->kind)) == 0;
    }
    bool same = x->n == y->n;
    for (int i = 0; same && i < x->n; i++) {
        same = same_text(x->items[i], y->items[i]);
    }
    return same;
}

bool options_reload(const struct options *now, struct arena *arena, struct options *out, struct buf *fixed,
                    struct error *err)
{
    if (!options_parse(now->command, now->argc, now->argv, arena, out, err)) {
        return false;
    }
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        const struct option *o = &table[i];
        const char *old = (const char *)now + o->offset;
        char *new = (char *)out + o->offset;
        if (!(o->commands & now->command) || is_reloadable(o)) {
            continue;
        }
        if (!same_value(o, old, new)) {
            buf_printf(fixed, "%s%s", fixed->len ? " " : "", o->name);
        }
        memcpy(new, old, value_size(o->kind)); /* equal ones too: strings of the start outlive this arena */
    }
    return true;
}

/* ---- help ---- */

struct backend_words options_backend(const struct options *o)
{
    return (struct backend_words){
        .backend = o->backend, .cpu_kernels = o->cpu_kernels, .mlx_device = o->mlx_device, .mlx_type = o->mlx_type};
}

bool options_kv_disk(const struct options *o, uint64_t *size, struct error *err)
{
    double gb = o->kv_disk_gb > 0 ? (double)o->kv_disk_gb : KV_DISK_DEFAULT_GB;
    *size = (uint64_t)(gb * (double)GIB(1));
    return o->kv_disk_gb == 0 || o->kv_disk_dir ||
           error_set(err, ERR_INVALID, "--kv-disk-gb is the limit of a folder: give --kv-disk-dir too.");
}

bool options_speculation(const struct options *o, enum speculation *when, struct error *err)
{
    return speculation_parse(str_of(o->speculation), when, err) &&
           (o->draft_kv_memory == 0 || o->draft_model ||
            error_set(err, ERR_INVALID, "--draft-kv-memory is that of a draft model: give --draft-model too."));
}

void options_help(enum command command, struct buf *out)
{
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        const struct option *o = &table[i];
        char flag[80], left[120];
        if (!(o->commands & command)) {
            continue;
        }
        flag_name(o->name, flag, sizeof flag);
        snprintf(left, sizeof left, "%s%s%s", flag, o->value ? " " : "", o->value ? o->value : "");
        buf_printf(out, "  %-38s %s", left, o->help);
        if (o->fallback) {
            buf_printf(out, " [%s]", o->fallback);
        }
        buf_puts(out, is_reloadable(o) && command == S ? " (again on SIGHUP)\n" : "\n");
    }
}

void options_docs(struct buf *out)
{
    buf_puts(out, "# Options\n\nGenerated from the program's table by `make docs`; do not edit.\n\n"
                  "Each option can be given as a flag, as an environment variable (`TANDEM_KV_MEMORY` for "
                  "`--kv-memory`) or in the "
                  "JSON file named\nby `--config` (`\"kv-memory\": \"2G\"`). Flags win over the environment, the "
                  "environment over "
                  "the file.\n\nWhat is marked with \"again on SIGHUP\" `tandem serve` reads again from the file when "
                  "it gets that signal\n([SECURITY.md](SECURITY.md), Reloading).\n\n| option | default | commands | "
                  "|\n| --- | --- | --- | --- |\n");
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        const struct option *o = &table[i];
        char flag[80];
        int commands = o->commands & ~E;
        if (!commands) {
            continue;
        }
        flag_name(o->name, flag, sizeof flag);
        buf_printf(out, "| `%s%s%s` | %s |%s%s%s%s%s%s%s | %s%s |\n", flag, o->value ? " " : "",
                   o->value ? o->value : "", o->fallback ? o->fallback : "", commands & S ? " serve" : "",
                   commands & R ? " run" : "", commands & I ? " inspect" : "", commands & L ? " list" : "",
                   commands & B ? " bench" : "", commands & K ? " bench-kernels" : "",
                   commands & V ? " bench-serve" : "", o->help, is_reloadable(o) ? "; again on SIGHUP" : "");
    }
}
