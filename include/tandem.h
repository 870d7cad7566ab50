/* Tandem as a library: language models in your own process, by the pipeline and the engine of the server.
 *
 *     struct tandem_error error;
 *     struct tandem_model *model = tandem_model_load("model.gguf", NULL, &error);
 *     struct tandem_request request;
 *     tandem_request_init(&request, sizeof request);
 *     request.prompt = "The capital of France is";
 *     request.max_tokens = 16;
 *     struct tandem_answer *answer = model ? tandem_generate_wait(model, &request, &error) : NULL;
 *     if (answer)
 *         puts(tandem_answer_text(answer, 0, NULL));
 *     else
 *         fprintf(stderr, "%s\n", error.message);
 *     tandem_answer_free(answer);
 *     tandem_model_free(model);
 *
 * Threads. A model has one thread for all of its events and a pool of threads that compute. Every function may be
 * called from any thread, at any time, and several at once, unless its comment says otherwise. Callbacks of a
 * generation are called on the model's event thread, one at a time: while one runs, no other generation of that model
 * gets events, so it should be short. In a callback every function may be called but those that wait; they say so. The
 * threads of a model have all signals blocked but those of faults (SIGSEGV and its like); no handler is installed, no
 * signal is sent. Numbers are written as JSON has them whatever setlocale has chosen, which callbacks have as ever.
 *
 * Ownership. What a function gets is copied before it returns, unless its comment says otherwise. What a function
 * gives to free is freed with the function named there; what it lends says how long it lives. All texts are UTF-8. A
 * text that is given ends with a NUL; a text that is got is followed by one, which its size does not count.
 *
 * Errors. A function that can fail takes a struct tandem_error, or NULL, which it sets when it fails and leaves alone
 * when not. A model that cannot be loaded and a request that cannot be run are errors. The library never exits and
 * never prints. It lives in your process, though: a fault in it ends the process, and so does a system without random
 * numbers or without memory for a lock. The server keeps an engine in a process of its own for that reason.
 *
 * Versions. A struct of options begins with its size, which its init function sets: a program that was compiled with an
 * older header runs with a newer library, which takes defaults for what the program does not know. Functions are only
 * added; in the shared library each has the version in which it came. Structs without a size stay as they are. Numbers
 * of the enums do not change, but more may come: a program ignores events that it does not know.
 *
 * After fork() the child uses no model of its parent. C11 and C++. */
#ifndef TANDEM_H
#define TANDEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TANDEM_API __attribute__((visibility("default")))

/* Grows when this header does. */
#define TANDEM_API_VERSION 2

TANDEM_API uint32_t tandem_api_version(void); /* of the library: at least that of the header it is used with */
TANDEM_API const char *tandem_version(void);  /* of the release: "0.1.0" */

/* ---- errors ---- */

enum tandem_code {
    TANDEM_OK = 0,
    TANDEM_INVALID = 1,          /* a field has a value that it may not have: see param */
    TANDEM_UNSUPPORTED = 2,      /* this model, or this build, cannot do what is asked for */
    TANDEM_CONTEXT_EXCEEDED = 3, /* prompt and answer are longer than the model's context */
    TANDEM_NOT_FOUND = 4,        /* there is no such file, or no such adapter */
    TANDEM_TOO_LARGE = 5,        /* something is larger than its limit, which the message names */
    TANDEM_OVERLOADED = 6,       /* too many generations wait; later it may work */
    TANDEM_DEADLINE = 7,         /* its timeout_ms are over */
    TANDEM_NO_MEMORY = 8,
    TANDEM_IO = 9,           /* a file could not be read or written */
    TANDEM_BAD_FORMAT = 10,  /* a file is damaged, or not what it should be */
    TANDEM_BAD_NUMBERS = 11, /* the model computed what is no number */
    TANDEM_DEVICE = 12,      /* the device of the backend failed */
    TANDEM_CANCELLED = 13,
    TANDEM_INTERNAL = 14
};

struct tandem_error {
    enum tandem_code code;
    char param[64];    /* the field at fault ("stops", "messages[2].content"), as it is called here or in the server's
                          API; or "" */
    char message[512]; /* one sentence */
};

/* "CONTEXT_EXCEEDED"; lives for ever. An unknown code has the name of INTERNAL. */
TANDEM_API const char *tandem_code_name(enum tandem_code code);

/* ---- log ---- */

enum tandem_log_level { TANDEM_LOG_ERROR = 0, TANDEM_LOG_WARN = 1, TANDEM_LOG_INFO = 2, TANDEM_LOG_DEBUG = 3 };

/* level: an enum tandem_log_level. line: one line of text without its end, with time, level and what happened as
 * key=value pairs; lives until the call returns. Prompts and answers are never in it. Called on any thread, several at
 * a time. */
typedef void tandem_log_fn(void *arg, int level, const char *line, size_t size);

/* Lines up to this level go to log; NULL, as at first: there is no log. For the whole process; not while a model is
 * loaded or being loaded. */
TANDEM_API void tandem_set_log(enum tandem_log_level level, tandem_log_fn *log, void *arg);

/* ---- models ---- */

struct tandem_model; /* a loaded model and its engine */

struct tandem_model_options {
    size_t size;                       /* set by tandem_model_options_init */
    const char *backend;               /* "auto", "cpu" or "mlx"; NULL: auto */
    const char *cpu_kernels;           /* a kernel set, to compare them; NULL: the best of this processor */
    const char *mlx_device, *mlx_type; /* as the options of the server; NULL: the defaults */
    const char *kv_type;               /* of cached keys and values: "f16", "q8" or "f32"; NULL: f16 */
    uint64_t kv_memory;                /* bytes for them; 0: 1 GiB, at most a quarter of the memory that is available */
    uint32_t threads;                  /* that compute; 0: one for each core that the process may use */
    uint32_t max_context;              /* tokens of one sequence; 0: the model's, as far as kv_memory holds them */
    uint32_t max_sequences;            /* that run at once; others wait; 0: 64 */
    uint32_t max_batch_tokens;         /* of one step; 0: 256 */
    bool prefix_cache;                 /* equal beginnings of prompts are computed once; true */
    const char *chat_template;         /* Jinja text instead of the model's own; NULL: that */
    const char *tool_format;           /* in which the model writes tool calls; NULL: found from the template */
    const char *reasoning_format;      /* likewise of its reasoning */
    const char *speculation; /* "auto", "on" or "off": guess tokens, which never changes an answer; NULL: auto */
    const char *draft_model; /* path of a small model that guesses; NULL: none */
    /* Called while the model is loaded, with a fraction from 0 to 1, on a thread of the library. NULL: nobody asks. */
    void (*progress)(void *arg, float fraction);
    void *progress_arg;
};

/* size: sizeof *options. Sets every member to its default. */
TANDEM_API void tandem_model_options_init(struct tandem_model_options *options, size_t size);

/* Loads a GGUF file (the first of a split one) or a folder with config.json and safetensors. Waits until the model is
 * ready, which takes a second for a small one. options: NULL for the defaults. NULL: error says why. Free it with
 * tandem_model_free. Not in a callback. */
TANDEM_API struct tandem_model *tandem_model_load(const char *path, const struct tandem_model_options *options,
                                                  struct tandem_error *error);

/* Ends what still runs as cancelled, with the events of that, and frees the model. Handles of its generations stay
 * valid and have to be freed; they may be waited for, cancelled and freed meanwhile and afterwards, by any thread.
 * Nothing else of the model may be used then. Waits. In a callback it does nothing. NULL is fine. */
TANDEM_API void tandem_model_free(struct tandem_model *model);

struct tandem_model_info {    /* texts live as long as the model */
    size_t size;              /* set by whoever asks: sizeof */
    const char *architecture; /* "llama" */
    const char *backend;      /* what it is computed by */
    const char *fingerprint;  /* of build, model, backend, kernels, cache type: equal ones and seeds mean equal bytes */
    const char *tool_format, *reasoning_format; /* NULL: it has none */
    bool has_chat_template;
    uint32_t n_vocab, n_context, max_sequences;
    int32_t bos, eos; /* token ids; -1: it has none */
    uint64_t n_params;
    uint64_t weights_size, kv_size; /* bytes */
};

/* Fills as many bytes of *info as info->size says; 0, NULL and false for what this library does not know of. */
TANDEM_API void tandem_model_get_info(const struct tandem_model *model, struct tandem_model_info *info);

/* ---- adapters ---- */

/* A low-rank adapter ("LoRA") changes some weights of the answers to requests that name it, and of no others: requests
 * with different ones, and with none, run in one batch. Since version 2. */

/* Loads a folder as PEFT writes it, or a GGUF file, under a name of 1 to 64 letters, digits, '.', '_' and '-' that no
 * adapter of the model has. Reads the file on this thread, waits until requests can have it, and lets nobody else wait.
 * A model has at most 64, those included that only running generations have. The file may be read once more while it is
 * loaded: where numbers were not finite. False: error says why. Not in a callback. */
TANDEM_API bool tandem_model_load_adapter(struct tandem_model *model, const char *name, const char *path,
                                          struct tandem_error *error);

/* No request finds it any more; another may have its name at once. Generations that have it keep it; its memory is free
 * when the last of them has ended. Does not wait. False: NOT_FOUND. */
TANDEM_API bool tandem_model_unload_adapter(struct tandem_model *model, const char *name, struct tandem_error *error);

struct tandem_adapter_info {
    size_t size;          /* set by whoever asks: sizeof */
    char name[65];        /* as it was loaded */
    char fingerprint[17]; /* of answers with it, instead of the model's; it covers the adapter's values */
    uint32_t rank;        /* the largest of its parts */
    uint32_t n_weights;   /* that it changes */
    uint32_t n_running;   /* generations that have it now */
    double alpha;
    uint64_t memory_size; /* bytes, about */
};

/* Fills as many bytes of *info as info->size says. False: fewer than index + 1 are loaded. Which one has which index
 * changes when others come and go. */
TANDEM_API bool tandem_model_get_adapter(const struct tandem_model *model, uint32_t index,
                                         struct tandem_adapter_info *info);

/* ---- text and tokens ---- */

/* Frees what tandem_tokenize, tandem_detokenize and tandem_render_chat give. NULL is fine. */
TANDEM_API void tandem_free(void *memory);

#define TANDEM_ADD_SPECIAL   1u /* tokenize: the tokens that the model wants around a text, such as its beginning */
#define TANDEM_PARSE_SPECIAL 2u /* tokenize: the text of a control token ("<|im_end|>") is that token */
#define TANDEM_SKIP_SPECIAL  4u /* detokenize: control tokens give no text */

/* The *n tokens of a text of size bytes (SIZE_MAX: until its NUL). flags: TANDEM_ADD_SPECIAL,
 * TANDEM_PARSE_SPECIAL; others are refused. tandem_free the result, which is not NULL where there are no tokens. NULL:
 * error. */
TANDEM_API int32_t *tandem_tokenize(const struct tandem_model *model, const char *text, size_t size, unsigned flags,
                                    size_t *n, struct tandem_error *error);

/* The text of n tokens; *size, unless NULL, is its bytes. flags: TANDEM_SKIP_SPECIAL; others are refused. What is no
 * UTF-8 becomes U+FFFD. tandem_free the result. NULL: error. */
TANDEM_API char *tandem_detokenize(const struct tandem_model *model, const int32_t *ids, size_t n, unsigned flags,
                                   size_t *size, struct tandem_error *error);

/* ---- requests ---- */

struct tandem_message {
    const char *role;    /* "system", "user", "assistant" ... */
    const char *content; /* its text */
};

struct tandem_bias {
    int32_t id;
    float bias; /* added to the token's logit; -100 to 100 */
};

struct tandem_request {
    size_t size; /* set by tandem_request_init */

    /* What the model reads: exactly one of these four. The last two are a chat, which goes through the template. */
    const char *prompt;
    const int32_t *prompt_ids; /* [n_prompt_ids] */
    size_t n_prompt_ids;
    const struct tandem_message *messages; /* [n_messages] */
    size_t n_messages;
    const char *messages_json; /* a JSON array of OpenAI's message objects: tool calls and results, parts of text */

    bool add_special_tokens; /* prompt: what the model wants before a text; true */

    /* Of a chat. */
    const char *tools_json;       /* a JSON array of OpenAI's tool objects; NULL: none */
    const char *tool_choice;      /* "auto", "none" or "required"; NULL: auto */
    const char *tool_name;        /* the one tool that has to be called; NULL: tool_choice says */
    bool parallel_tool_calls;     /* more than one call in an answer; true */
    int thinking;                 /* 1, 0: the template's enable_thinking; -1, the default: as the template has it */
    const char *reasoning_effort; /* a variable of some templates; NULL: none */
    int64_t thinking_budget;      /* tokens of reasoning at most, 0 to 4194304; -1: no limit of its own */
    const char *template_variables_json; /* more variables of the template: a JSON object; NULL: none */
    bool continue_final_message;         /* the last message, of the assistant, is gone on with; false */

    /* What the answer has to be: at most one of these five. Every token is chosen so that it is. */
    bool json_object;         /* any JSON object */
    const char *json_schema;  /* JSON that obeys this JSON Schema; what of it cannot be enforced is an error */
    const char *regex;        /* a text that this expression matches */
    const char *grammar;      /* in Lark, or in GBNF */
    const char *choices_json; /* one of the strings of a JSON array */

    /* How long it is, and how often. */
    int64_t max_tokens; /* at least 1; -1, the default: as far as the context goes */
    uint32_t min_tokens;
    uint32_t n_choices;       /* answers to one prompt; 1 to 64; 1 */
    const char *const *stops; /* [n_stops] texts that end it, at most 16 */
    size_t n_stops;
    const int32_t *stop_ids; /* [n_stop_ids] tokens that end it, besides the model's, at most 64 */
    size_t n_stop_ids;
    bool ignore_eos;
    int64_t timeout_ms; /* until its end; 0: none */
    int32_t priority;   /* lower first; -1000000 to 1000000; 0 */
    bool cache_prompt;  /* takes and leaves pages in the prefix cache; true */

    /* How tokens are chosen. */
    bool has_seed; /* false: a new one is drawn */
    uint64_t seed;
    float temperature;                              /* 0: always the likeliest; 1 */
    float top_p;                                    /* 1: off */
    int32_t top_k;                                  /* 0: off */
    float min_p;                                    /* 0: off */
    float typical_p;                                /* 1: off */
    float top_n_sigma;                              /* -1: off */
    float presence_penalty, frequency_penalty;      /* 0: off */
    float repetition_penalty;                       /* 1: off */
    float xtc_probability, xtc_threshold;           /* 0: off; 0.1 */
    float dry_multiplier, dry_base;                 /* 0: off; 1.75 */
    int32_t dry_allowed_length, dry_penalty_last_n; /* 2; -1: all */
    const struct tandem_bias *bias;                 /* [n_bias], at most 1024 */
    size_t n_bias;

    const char *adapter; /* name of a loaded adapter of the model; NULL: none. Since version 2 */
};

/* size: sizeof *request. Sets every member to its default. */
TANDEM_API void tandem_request_init(struct tandem_request *request, size_t size);

/* The prompt that the request's chat becomes; *size, unless NULL, is its bytes. tandem_free the result. NULL: error. */
TANDEM_API char *tandem_render_chat(const struct tandem_model *model, const struct tandem_request *request,
                                    size_t *size, struct tandem_error *error);

/* ---- generations ---- */

enum tandem_event_kind {
    TANDEM_EVENT_TEXT = 1,      /* more of a choice's text, whole characters */
    TANDEM_EVENT_REASONING = 2, /* more of its reasoning */
    TANDEM_EVENT_CALL = 3,      /* it begins a tool call: call_id, call_name */
    TANDEM_EVENT_ARGUMENTS = 4, /* more of that call's arguments, JSON */
    TANDEM_EVENT_CALL_END = 5,  /* that call's arguments have ended; call_fault */
    TANDEM_EVENT_FINISH = 6,    /* a choice has ended: finish, stop, usage of the choice */
    TANDEM_EVENT_END = 7        /* all has ended, well or not: error, usage of all. The last event, always there */
};

enum tandem_finish {
    TANDEM_FINISH_NONE = 0,
    TANDEM_FINISH_STOP = 1,   /* the model's own end, or a stop */
    TANDEM_FINISH_LENGTH = 2, /* max_tokens, or the context */
    TANDEM_FINISH_CALLS = 3,  /* it has called tools */
    TANDEM_FINISH_CANCELLED = 4,
    TANDEM_FINISH_ERROR = 5
};

struct tandem_usage {        /* tokens */
    uint64_t prompt, cached; /* cached: of the prompt, taken from the prefix cache */
    uint64_t completion, reasoning;
};

struct tandem_event { /* texts live until the callback returns; size says which members there are */
    size_t size;
    enum tandem_event_kind kind;
    uint32_t choice;
    const char *text; /* TEXT, REASONING, ARGUMENTS; else NULL */
    size_t text_size;
    uint32_t call; /* CALL, ARGUMENTS, CALL_END: which of the choice's calls, from 0 */
    const char *call_id, *call_name;
    const char
        *call_fault; /* CALL_END: why the arguments are no JSON, or do not obey the tool's schema; NULL: they do */
    enum tandem_finish finish;
    const char *stop; /* FINISH by one of the request's stops: which; else NULL */
    struct tandem_usage usage;
    const struct tandem_error *error; /* END: NULL unless the generation failed; CANCELLED is no failure */
};

/* Called on the model's event thread, in order, END last. False: the generation is cancelled; events that say how it
 * ended still come. Do not throw through it. */
typedef bool tandem_event_fn(void *arg, const struct tandem_event *event);

struct tandem_generation; /* a request that runs, or has ended */

/* Checks the request, renders and tokenizes it on this thread, and starts it; does not wait for the model. Many may run
 * at once: they share the steps of the engine. The request may be changed and freed at once. NULL: error says why, and
 * there are no events. What fails later is told by END. Free it with tandem_generation_free. */
TANDEM_API struct tandem_generation *tandem_generate(struct tandem_model *model, const struct tandem_request *request,
                                                     tandem_event_fn *on_event, void *arg, struct tandem_error *error);

/* It ends soon, with FINISH_CANCELLED. Does not wait; no effect on one that has ended. */
TANDEM_API void tandem_generation_cancel(struct tandem_generation *generation);

/* Waits until END has been taken, at most so long (-1: as long as it takes). False: it has not. In a callback it does
 * not wait. */
TANDEM_API bool tandem_generation_wait(const struct tandem_generation *generation, int64_t timeout_ms);

/* Cancels it if it runs and frees the handle. When it returns no callback runs and none will; it waits for one that
 * does, so a lock that the callback takes may not be held. In a callback it does not wait, and that callback is the
 * last. Nothing may use the handle meanwhile or afterwards. NULL is fine. */
TANDEM_API void tandem_generation_free(struct tandem_generation *generation);

/* ---- answers as a whole ---- */

struct tandem_answer;

/* Runs a request to its end and gives all of it. NULL: error. tandem_answer_free the result. Waits; in a callback it is
 * an error. */
TANDEM_API struct tandem_answer *tandem_generate_wait(struct tandem_model *model, const struct tandem_request *request,
                                                      struct tandem_error *error);
TANDEM_API void tandem_answer_free(struct tandem_answer *answer); /* NULL is fine */

/* What choice 0 to n_choices - 1 holds. The results live as long as the answer; *size, unless NULL, is the text's
 * bytes. NULL, 0 and FINISH_NONE for what there is not. */
TANDEM_API const char *tandem_answer_text(const struct tandem_answer *answer, uint32_t choice, size_t *size);
TANDEM_API const char *tandem_answer_reasoning(const struct tandem_answer *answer, uint32_t choice, size_t *size);
TANDEM_API enum tandem_finish tandem_answer_finish(const struct tandem_answer *answer, uint32_t choice);
TANDEM_API uint32_t tandem_answer_n_calls(const struct tandem_answer *answer, uint32_t choice);

struct tandem_call {                   /* a tool call */
    size_t size;                       /* set by whoever asks: sizeof */
    const char *id, *name, *arguments; /* arguments: JSON */
    const char *fault;                 /* why they are no JSON, or do not obey the tool's schema; NULL: they do */
};
/* Fills as many bytes of *call as call->size says. False: there is no such call. */
TANDEM_API bool tandem_answer_get_call(const struct tandem_answer *answer, uint32_t choice, uint32_t index,
                                       struct tandem_call *call);
TANDEM_API struct tandem_usage tandem_answer_usage(const struct tandem_answer *answer); /* of all choices */

#ifdef __cplusplus
}
#endif

#endif
