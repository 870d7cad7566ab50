"""The declarations of tandem.h, made by make_cdef.py."""
CDEF = """
uint32_t tandem_api_version(void);
const char *tandem_version(void);
enum tandem_code {
    TANDEM_OK = 0,
    TANDEM_INVALID = 1,
    TANDEM_UNSUPPORTED = 2,
    TANDEM_CONTEXT_EXCEEDED = 3,
    TANDEM_NOT_FOUND = 4,
    TANDEM_TOO_LARGE = 5,
    TANDEM_OVERLOADED = 6,
    TANDEM_DEADLINE = 7,
    TANDEM_NO_MEMORY = 8,
    TANDEM_IO = 9,
    TANDEM_BAD_FORMAT = 10,
    TANDEM_BAD_NUMBERS = 11,
    TANDEM_DEVICE = 12,
    TANDEM_CANCELLED = 13,
    TANDEM_INTERNAL = 14
};
struct tandem_error {
    enum tandem_code code;
    char param[64];
    char message[512];
};
const char *tandem_code_name(enum tandem_code code);
enum tandem_log_level { TANDEM_LOG_ERROR = 0, TANDEM_LOG_WARN = 1, TANDEM_LOG_INFO = 2, TANDEM_LOG_DEBUG = 3 };
typedef void tandem_log_fn(void *arg, int level, const char *line, size_t size);
void tandem_set_log(enum tandem_log_level level, tandem_log_fn *log, void *arg);
struct tandem_model;
struct tandem_model_options {
    size_t size;
    const char *backend;
    const char *cpu_kernels;
    const char *mlx_device, *mlx_type;
    const char *kv_type;
    uint64_t kv_memory;
    uint32_t threads;
    uint32_t max_context;
    uint32_t max_sequences;
    uint32_t max_batch_tokens;
    bool prefix_cache;
    const char *chat_template;
    const char *tool_format;
    const char *reasoning_format;
    const char *speculation;
    const char *draft_model;
    void (*progress)(void *arg, float fraction);
    void *progress_arg;
};
void tandem_model_options_init(struct tandem_model_options *options, size_t size);
struct tandem_model *tandem_model_load(const char *path, const struct tandem_model_options *options,
                                                  struct tandem_error *error);
void tandem_model_free(struct tandem_model *model);
struct tandem_model_info {
    size_t size;
    const char *architecture;
    const char *backend;
    const char *fingerprint;
    const char *tool_format, *reasoning_format;
    bool has_chat_template;
    uint32_t n_vocab, n_context, max_sequences;
    int32_t bos, eos;
    uint64_t n_params;
    uint64_t weights_size, kv_size;
};
void tandem_model_get_info(const struct tandem_model *model, struct tandem_model_info *info);
bool tandem_model_load_adapter(struct tandem_model *model, const char *name, const char *path,
                                          struct tandem_error *error);
bool tandem_model_unload_adapter(struct tandem_model *model, const char *name, struct tandem_error *error);
struct tandem_adapter_info {
    size_t size;
    char name[65];
    char fingerprint[17];
    uint32_t rank;
    uint32_t n_weights;
    uint32_t n_running;
    double alpha;
    uint64_t memory_size;
};
bool tandem_model_get_adapter(const struct tandem_model *model, uint32_t index,
                                         struct tandem_adapter_info *info);
void tandem_free(void *memory);
int32_t *tandem_tokenize(const struct tandem_model *model, const char *text, size_t size, unsigned flags,
                                    size_t *n, struct tandem_error *error);
char *tandem_detokenize(const struct tandem_model *model, const int32_t *ids, size_t n, unsigned flags,
                                   size_t *size, struct tandem_error *error);
struct tandem_message {
    const char *role;
    const char *content;
};
struct tandem_bias {
    int32_t id;
    float bias;
};
struct tandem_request {
    size_t size;
    const char *prompt;
    const int32_t *prompt_ids;
    size_t n_prompt_ids;
    const struct tandem_message *messages;
    size_t n_messages;
    const char *messages_json;
    bool add_special_tokens;
    const char *tools_json;
    const char *tool_choice;
    const char *tool_name;
    bool parallel_tool_calls;
    int thinking;
    const char *reasoning_effort;
    int64_t thinking_budget;
    const char *template_variables_json;
    bool continue_final_message;
    bool json_object;
    const char *json_schema;
    const char *regex;
    const char *grammar;
    const char *choices_json;
    int64_t max_tokens;
    uint32_t min_tokens;
    uint32_t n_choices;
    const char *const *stops;
    size_t n_stops;
    const int32_t *stop_ids;
    size_t n_stop_ids;
    bool ignore_eos;
    int64_t timeout_ms;
    int32_t priority;
    bool cache_prompt;
    bool has_seed;
    uint64_t seed;
    float temperature;
    float top_p;
    int32_t top_k;
    float min_p;
    float typical_p;
    float top_n_sigma;
    float presence_penalty, frequency_penalty;
    float repetition_penalty;
    float xtc_probability, xtc_threshold;
    float dry_multiplier, dry_base;
    int32_t dry_allowed_length, dry_penalty_last_n;
    const struct tandem_bias *bias;
    size_t n_bias;
    const char *adapter;
};
void tandem_request_init(struct tandem_request *request, size_t size);
char *tandem_render_chat(const struct tandem_model *model, const struct tandem_request *request,
                                    size_t *size, struct tandem_error *error);
enum tandem_event_kind {
    TANDEM_EVENT_TEXT = 1,
    TANDEM_EVENT_REASONING = 2,
    TANDEM_EVENT_CALL = 3,
    TANDEM_EVENT_ARGUMENTS = 4,
    TANDEM_EVENT_CALL_END = 5,
    TANDEM_EVENT_FINISH = 6,
    TANDEM_EVENT_END = 7
};
enum tandem_finish {
    TANDEM_FINISH_NONE = 0,
    TANDEM_FINISH_STOP = 1,
    TANDEM_FINISH_LENGTH = 2,
    TANDEM_FINISH_CALLS = 3,
    TANDEM_FINISH_CANCELLED = 4,
    TANDEM_FINISH_ERROR = 5
};
struct tandem_usage {
    uint64_t prompt, cached;
    uint64_t completion, reasoning;
};
struct tandem_event {
    size_t size;
    enum tandem_event_kind kind;
    uint32_t choice;
    const char *text;
    size_t text_size;
    uint32_t call;
    const char *call_id, *call_name;
    const char
        *call_fault;
    enum tandem_finish finish;
    const char *stop;
    struct tandem_usage usage;
    const struct tandem_error *error;
};
typedef bool tandem_event_fn(void *arg, const struct tandem_event *event);
struct tandem_generation;
struct tandem_generation *tandem_generate(struct tandem_model *model, const struct tandem_request *request,
                                                     tandem_event_fn *on_event, void *arg, struct tandem_error *error);
void tandem_generation_cancel(struct tandem_generation *generation);
bool tandem_generation_wait(const struct tandem_generation *generation, int64_t timeout_ms);
void tandem_generation_free(struct tandem_generation *generation);
struct tandem_answer;
struct tandem_answer *tandem_generate_wait(struct tandem_model *model, const struct tandem_request *request,
                                                      struct tandem_error *error);
void tandem_answer_free(struct tandem_answer *answer);
const char *tandem_answer_text(const struct tandem_answer *answer, uint32_t choice, size_t *size);
const char *tandem_answer_reasoning(const struct tandem_answer *answer, uint32_t choice, size_t *size);
enum tandem_finish tandem_answer_finish(const struct tandem_answer *answer, uint32_t choice);
uint32_t tandem_answer_n_calls(const struct tandem_answer *answer, uint32_t choice);
struct tandem_call {
    size_t size;
    const char *id, *name, *arguments;
    const char *fault;
};
bool tandem_answer_get_call(const struct tandem_answer *answer, uint32_t choice, uint32_t index,
                                       struct tandem_call *call);
struct tandem_usage tandem_answer_usage(const struct tandem_answer *answer);
#define TANDEM_API_VERSION 2
#define TANDEM_ADD_SPECIAL 1
#define TANDEM_PARSE_SPECIAL 2
#define TANDEM_SKIP_SPECIAL 4
"""
