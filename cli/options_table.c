#include "cli/options_internal.h"

#include "api/volatile_lines.h"
#include "base/array.h"
#include "base/limits.h"

#include <float.h>
#include <stdio.h>

#define AT(member)    offsetof(struct options, member)
#define S             COMMAND_SERVE
#define R             COMMAND_RUN
#define I             COMMAND_INSPECT
#define L             COMMAND_LIST
#define E             COMMAND_ENGINE
#define B             COMMAND_BENCH
#define K             COMMAND_BENCH_KERNELS
#define V             COMMAND_BENCH_SERVE
#define Q             COMMAND_QUANTIZE
#define C             COMMAND_CONVERT
#define X_            COMMAND_EVAL
#define H             COMMAND_SEARCH
#define A             COMMAND_ALIAS
#define LOADGEN(name) AT(bench_serve.name)
#define INT_MAX_      2147483647.0
#define KIND_float    OPTION_FLOAT
#define KIND_int32_t  OPTION_I32
#define TEXT_(x)      #x
#define TEXT(x)       TEXT_(x)
#define QUOTED(line)  " '" line "'"

const struct option options__table[] = {
    {"config", OPTION_STR, S | R | V, AT(config), 0, 0, NULL, "FILE", "JSON file with options by these names"},
    {"log-level", OPTION_STR, S | R | I | E | B | K | V | Q | C | X_, AT(log_level), 0, 0, "info", "LEVEL",
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
    {"drop-volatile-lines", OPTION_BOOL, S, AT(drop_volatile_lines), 0, 0, "on", NULL,
     "leave out lines at the top of system prompts that change with each request, so that prefixes are found in the "
     "cache:" VOLATILE_LINES(QUOTED)},
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
     "keep responses, and requests with background or detach, in this folder, through restarts (docs/RELIABILITY.md)"},
    {"journal-sync", OPTION_STR, S, AT(journal_sync), 0, 0, "normal", "WHEN",
     "normal: commits survive kill -9; full: an fsync each, they survive a power loss"},
    {"journal-max-mb", OPTION_INT, S, AT(journal_max_mb), 0, 1e9, "1024", "MB",
     "size of its database, in MiB; finished requests make room; 0: no limit"},
    {"journal-max-age-hours", OPTION_FLOAT, S, AT(journal_max_age_hours), 0, 1e6, "72", "HOURS",
     "how long it keeps finished requests, and waits with those that cannot run; 0: no limit"},
    {"file-max-mb", OPTION_INT, S, AT(file_max_mb), 1, 65536, "200", "MB",
     "size of one file of /v1/files, which lie in the journal, in MiB (docs/BATCHES.md)"},
    {"files-max-mb", OPTION_INT, S, AT(files_max_mb), 0, 1e9, "512", "MB", "of all of them, in MiB; 0: no limit"},
    {"batch-max-rows", OPTION_INT, S, AT(batch_max_rows), 1, 1000000, "50000", "N", "requests of one batch"},
    {"batch-max-running", OPTION_INT, S, AT(batch_max_running), 0, 4096, "0", "N",
     "requests of batches that run at once, behind all others; 0: half of --max-sequences"},
    {"batch-patience-ms", OPTION_INT, S, AT(batch_patience_ms), 1, 86400000, "60000", "MS",
     "how long they wait for others to wait no more, and for a model that nobody uses to make room for theirs"},
    {"mcp-config", OPTION_STR, S, AT(mcp_config), 0, 0, NULL, "FILE",
     "MCP servers whose tools requests may have, in the usual JSON (docs/MCP.md)"},
    {"mcp-max-turns", OPTION_INT, S, AT(mcp_max_turns), 1, 100, "10", "N",
     "turns of the model in one request with such tools"},
    {"mcp-default", OPTION_BOOL, S, AT(mcp_default), 0, 0, "off", NULL,
     "requests have the tools of all these servers unless they say no"},

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

    {"models", OPTION_STR, S, AT(models), 0, 0, NULL, "FILE",
     "JSON file of models that are loaded on demand, each with its own options (docs/ON_DEMAND.md); its text is read "
     "again on "
     "SIGHUP; TANDEM_MODELS is the models folder, not this"},
    {"pull", OPTION_STR, S, AT(pull), 0, 0, "start", "WHEN",
     "models of the Hub that are not here come at the start; use: those that are loaded on demand at their first use; "
     "ask: likewise, and any repository that a request names (docs/ON_DEMAND.md)"},
    {"keep-alive", OPTION_STR, S, AT(keep_alive), 0, 0, NULL, "DURATION",
     "unload models that are loaded on demand after so long without requests: 5m, 1h30m, 0; -1: never [5m]"},
    {"served-model-name", OPTION_LIST, S, AT(names), 0, 0, NULL, "NAME",
     "name or pattern (gpt-*) to answer to; may be repeated"},
    {"chat-template", OPTION_STR, S | R, AT(chat_template), 0, 0, NULL, "FILE",
     "Jinja template instead of the model's own"},
    {"tool-format", OPTION_STR, S, AT(tool_format), 0, 0, "auto", "NAME",
     "how the model writes tool calls; auto: as its template does"},
    {"reasoning-format", OPTION_STR, S, AT(reasoning_format), 0, 0, "auto", "NAME",
     "how the model marks its reasoning; auto: as its template does"},
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
    {"max-itl-factor", OPTION_FLOAT, S | E, AT(max_itl_factor), 0, 1000, "1.8", "FACTOR",
     "prompts may make a step this many times as long as those who decode need; 0: any"},
    {"speculation", OPTION_STR, S | R | E, AT(speculation), 0, 0, "auto", "WHEN",
     "guess tokens and check several at a time: auto (where it pays), off or on; answers do not depend on it"},
    {"max-draft-tokens", OPTION_INT, S | R | E, AT(max_draft_tokens), 0, 31, "0", "N",
     "guessed tokens of one sequence in a step; 0: 15"},
    {"draft-model", OPTION_STR, S | R | E, AT(draft_model), 0, 0, NULL, "MODEL",
     "smaller model with the same tokenizer that guesses tokens too"},
    {"draft-kv-memory", OPTION_SIZE, S | R | E, AT(draft_kv_memory), 0, 1e15, "0", "SIZE",
     "memory for its KV pages; 0: an eighth of kv-memory"},
    {"lora", OPTION_LIST, S | R | E, AT(loras), 0, 0, NULL, "NAME=PATH",
     "adapter of the model, a PEFT folder or a GGUF file, for requests with the model BASE:NAME, may be repeated; run: "
     "the one to answer with (docs/LORA.md)"},
    {"lora-dir", OPTION_STR, S | E, AT(lora_dir), 0, 0, NULL, "DIR",
     "allow that adapters are loaded at run time, from beneath this folder only"},
    {"lora-max", OPTION_INT, S, AT(lora_max), 0, 64, "0", "N",
     "adapters of a model at once; 0: 16, or as many as --lora names"},
    {"lora-memory", OPTION_SIZE, S, AT(lora_memory), 0, 1e15, "0", "SIZE",
     "memory for the adapters of a model; 0: what those of --lora take, and 256 MiB more with --lora-dir"},
    {"kv-memory", OPTION_SIZE, S | R | E, AT(kv_memory), 0, 1e15, "0", "SIZE",
     "memory for KV pages; 0: a quarter of what is left"},
    {"quantize", OPTION_STR, S | R | I, AT(quantize), 0, 0, "auto", "BITS",
     "of a model in full precision: auto (what fits and is fast enough), none, 8, 6 or 4 (docs/QUANTIZATION.md)"},
    {"quantize", OPTION_STR, B, AT(quantize), 0, 0, "none", "BITS", "likewise; none: as it is"},
    {"memory", OPTION_SIZE, S | R | I | B, AT(memory), 0, 1e15, "0", "SIZE",
     "for weights, KV pages and scratch, of all engines; 0: what the machine or its control group has left; of models "
     "on demand the file's of --models, else four fifths of that"},
    {"kv-type", OPTION_STR, S | R | I | E | B | Q | X_, AT(kv_type), 0, 0, "f16", "TYPE",
     "f32, f16 or, on the cpu backend, q8"},
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
    {"threads", OPTION_INT, S | R | E | Q | C | X_, AT(threads), 0, 256, "0", "N",
     "kernel threads; 0: as many as may be used"},
    {"backend", OPTION_STR, S | R | E | B | X_, AT(backend), 0, 0, "auto", "NAME",
     "auto, cpu or mlx; auto: mlx where it finds a GPU"},
    {"mlx-device", OPTION_STR, S | R | E | B | X_, AT(mlx_device), 0, 0, "auto", "DEVICE",
     "of the mlx backend: auto, cpu or gpu"},
    {"mlx-type", OPTION_STR, S | R | E | B | X_, AT(mlx_type), 0, 0, "auto", "TYPE",
     "its activations: auto, f32, f16 or bf16; auto: the model's on a GPU, f32 on a CPU"},
    {"cpu-kernels", OPTION_STR, S | R | E | B | K | Q | X_, AT(cpu_kernels), 0, 0, "auto", "SET",
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
    {"measure", OPTION_BOOL, I, AT(measure), 0, 0, "on", NULL,
     "measure the bandwidth of the memory, for the expected speed; takes a second"},
    {"json", OPTION_BOOL, I | L | X_ | H | A, AT(json), 0, 0, "off", NULL, "as JSON"},
    {"limit", OPTION_INT, H, AT(n_search), 1, 1000, "20", "N", "models at most"},
    {"remove", OPTION_BOOL, A, AT(remove), 0, 0, "off", NULL, "remove the alias"},

    {"type", OPTION_STR, Q, AT(precision), 0, 0, "4", "TYPE",
     "8, 6 or 4: bits by the rule of docs/QUANTIZATION.md; or the type of every matrix: q8_0, q6_k, q5_k, q4_k, q5_0, "
     "q5_1, q4_0, q4_1"},
    {"type", OPTION_STR, C, AT(precision), 0, 0, "keep", "TYPE",
     "f32, f16 or bf16; keep: floats as they are, what is quantized as f16"},
    {"format", OPTION_STR, Q | C, AT(format), 0, 0, "auto", "FORMAT",
     "gguf, or mlx: a folder; auto: gguf where the output's name ends so"},
    {"calibrate", OPTION_STR, Q, AT(calibrate), 0, 0, NULL, "FILE",
     "text that is run first: columns that matter to it get less error"},
    {"importance", OPTION_STR, Q, AT(importance), 0, 0, NULL, "FILE",
     "where what --calibrate finds is stored; without it, read from there"},
    {"requantize", OPTION_BOOL, Q, AT(requantize), 0, 0, "off", NULL, "quantize what is quantized already"},
    {"text", OPTION_STR, X_, AT(text), 0, 0, NULL, "FILE", "text to predict"},
    {"against", OPTION_STR, X_, AT(against), 0, 0, NULL, "MODEL2",
     "compare with another precision of the same model: KL divergence, most likely tokens"},
    {"window", OPTION_INT, Q | X_, AT(window), 2, LIMIT_CONTEXT, "512", "TOKENS", "the text is read in windows"},
    {"stride", OPTION_INT, X_, AT(stride), 0, LIMIT_CONTEXT, "0", "TOKENS",
     "from one window to the next; 0: half a window, so that every token has at least as much context"},
    {"quiet", OPTION_BOOL, Q | C | X_, AT(quiet), 0, 0, "off", NULL, "no progress"},

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
    {0},
};

/* What SIGHUP reads again; the rest of the table stays as it was at the start. */
static const char *const reloadable[] = {
    "log-level",         "allowed-host",       "cors-origin",
    "max-body",          "max-connections",    "max-connections-per-client",
    "header-timeout-ms", "body-timeout-ms",    "min-body-rate",
    "idle-timeout-ms",   "drain-timeout-ms",   "keepalive-ms",
    "stall-timeout-ms",  "stream-interval-ms", "stream-interval-tokens",
};

bool options__is_reloadable(const struct option *o)
{
    for (size_t i = 0; i < ARRAY_LEN(reloadable); i++) {
        if (strcmp(reloadable[i], o->name) == 0) {
            return (o->commands & COMMAND_SERVE) != 0;
        }
    }
    return false;
}

/* What a model may have for itself. */
static const char *const of_models[] = {"chat-template",
                                        "tool-format",
                                        "reasoning-format",
                                        "override-kv",
                                        "rope-scaling",
                                        "max-context",
                                        "max-sequences",
                                        "max-batch-tokens",
                                        "max-waiting",
                                        "prefill-chunk",
                                        "max-itl-factor",
                                        "speculation",
                                        "max-draft-tokens",
                                        "draft-model",
                                        "draft-kv-memory",
                                        "kv-memory",
                                        "quantize",
                                        "kv-type",
                                        "prefix-cache",
                                        "reserve-output",
                                        "kv-disk-dir",
                                        "kv-disk-gb",
                                        "threads",
                                        "backend",
                                        "mlx-device",
                                        "mlx-type",
                                        "cpu-kernels",
                                        "sandbox",
                                        "lora",
                                        "lora-dir",
                                        "lora-max",
                                        "lora-memory",
                                        "script",
                                        "fault",
                                        "max-tokens",
                                        "timeout-ms",
                                        "queue-timeout-ms",
                                        "first-token-timeout-ms",
#define X(name, ...) #name,
                                        SAMPLING_TABLE(X)
#undef X
};

bool options__is_of_model(const struct option *o)
{
    for (size_t i = 0; i < ARRAY_LEN(of_models); i++) {
        if (strcmp(of_models[i], o->name) == 0) {
            return true;
        }
    }
    return false;
}

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

const struct option *options__find(struct str name, int commands)
{
    for (const struct option *o = options__table; o->name; o++) {
        if (o->commands & commands && names_equal(name, o->name)) {
            return o;
        }
    }
    return NULL;
}

void options__flag(const struct option *o, char *out, size_t size)
{
    snprintf(out, size, "--%s", o->name);
    for (char *c = out; *c; c++) {
        *c = *c == '_' ? '-' : *c;
    }
}
