/* adapter_config.json, as PEFT's LoraConfig writes it. */
#include "model/adapter_internal.h"

#include "base/array.h"
#include "base/utf8.h"

#include <math.h>

/* ---- fields ---- */

/* All that LoraConfig had up to PEFT 0.20 (peft/tuners/lora/config.py, peft/config.py, at first peft/tuners/lora.py).
 * Those that are refused change what an adapter means. They may be there when they say nothing: null, false, "none",
 * empty. So may one that is not in the table: what it means nobody here knows. */
static const struct field {
    const char *name;
    const char *refused; /* NULL: it is read below, or says how the adapter came to be, or where it goes, which its
                            tensors say too */
} fields[] = {
    {"peft_type", NULL},
    {"r", NULL},
    {"lora_alpha", NULL},
    {"use_rslora", NULL},
    {"rank_pattern", NULL},
    {"alpha_pattern", NULL},
    {"init_lora_weights", NULL},

    {"auto_mapping", NULL},
    {"base_model_name_or_path", NULL},
    {"corda_config", NULL}, /* init_lora_weights says whether it was begun like this; so of the next ones */
    {"ensure_weight_tying", NULL},
    {"eva_config", NULL}, /* other ranks and scales than r and lora_alpha are in the patterns */
    {"exclude_modules", NULL},
    {"fan_in_fan_out", NULL}, /* how the base model's weight lies; a and b lie as ever */
    {"inference_mode", NULL},
    {"layers_pattern", NULL},
    {"layers_to_transform", NULL},
    {"loftq_config", NULL},
    {"lora_dropout", NULL},
    {"lora_ga_config", NULL},
    {"megatron_config", NULL},
    {"megatron_core", NULL},
    {"merge_weights", NULL},
    {"peft_version", NULL},
    {"qalora_group_size", NULL}, /* with use_qalora */
    {"revision", NULL},
    {"runtime_config", NULL},
    {"target_modules", NULL},
    {"task_type", NULL},
    {"velora_config", NULL}, /* of the gradient */

    {"alora_invocation_tokens", "Adapters that begin with a token (aLoRA)"},
    {"arrow_config", "Routing between adapters (Arrow)"},
    {"bias", "Trained biases"},
    {"kasa_config", "Singular values between the halves (KaSA)"},
    {"layer_replication", "Replicated layers"},
    {"lora_bias", "Biases of an adapter's own"},
    {"modules_to_save", "Modules saved as a whole"},
    {"monteclora_config", "Random adapters (MonteCLoRA)"},
    {"target_parameters", "Parameters that are no modules"},
    {"trainable_token_indices", "Trained tokens"},
    {"use_bdlora", "Block-diagonal adapters (BD-LoRA)"},
    {"use_dora", "Weights decomposed into magnitude and direction (DoRA)"},
    {"use_qalora", "Pooled inputs (QALoRA)"},
};

static bool says_nothing(const struct json *v)
{
    switch (json_type(v)) {
    case JSON_NULL:
        return true;
    case JSON_BOOL:
        return !json_bool(v);
    case JSON_STRING:
        return str_eq(json_str(v), STR("none")) || json_str(v).len == 0;
    case JSON_ARRAY:
    case JSON_OBJECT:
        return json_len(v) == 0;
    default:
        return false;
    }
}

static const struct field *find_field(struct str name)
{
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        if (str_eq(str_of(fields[i].name), name))
            return &fields[i];
    }
    return NULL;
}

static bool check_fields(const struct json *root, struct error *err)
{
    for (struct json_iter it = json_members(root); json_next(&it);) {
        const struct field *f = find_field(it.key);
        if (says_nothing(it.value) || (f && !f->refused))
            continue;
        if (f)
            return error_set(err, ERR_UNSUPPORTED, ADAPTER_CONFIG ": %s: %s are not supported.", f->name, f->refused);
        return error_set(err, ERR_UNSUPPORTED,
                         ADAPTER_CONFIG ": '" STR_FMT "' is not known, and may change what the adapter means.",
                         STR_ARG(str_slice(it.key, 0, utf8_cut(it.key, 60))));
    }
    return true;
}

/* Other ways to begin take a part of the base model's weights away, which the file does not hold. */
static bool check_start(const struct json *root, struct error *err)
{
    static const char *const leave_base[] = {"gaussian", "eva", "orthogonal", "mica"};
    const struct json *start = json_get(root, "init_lora_weights");
    struct str kind = json_str(start);
    bool known = json_type(start) == JSON_NULL || json_type(start) == JSON_BOOL;
    for (size_t i = 0; json_type(start) == JSON_STRING && i < ARRAY_LEN(leave_base); i++)
        known = known || str_eq(kind, str_of(leave_base[i]));
    return known || error_set(err, ERR_UNSUPPORTED,
                              ADAPTER_CONFIG ": init_lora_weights: '" STR_FMT
                                             "' may change the base model; save the adapter converted to plain LoRA.",
                              STR_ARG(str_slice(kind, 0, utf8_cut(kind, 40))));
}

/* ---- patterns ---- */

static bool is_plain(struct str key)
{
    for (size_t i = 0; i < key.len; i++) {
        char c = key.ptr[i];
        bool name = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
        bool escaped = c == '\\' && i + 1 < key.len && key.ptr[i + 1] == '.';
        if (!name && c != '.' && !escaped && !(c == '^' && i == 0))
            return false;
    }
    return key.len > 0;
}

/* The end of a name, as long as the key: '.' is any character, as in a regular expression. */
static bool key_ends(struct str key, struct str name)
{
    size_t k = key.len, n = name.len;
    while (k > 0 && n > 0) {
        bool escaped = k > 1 && key.ptr[k - 1] == '.' && key.ptr[k - 2] == '\\';
        if (key.ptr[k - 1] != name.ptr[n - 1] && (key.ptr[k - 1] != '.' || escaped))
            return false;
        k -= escaped ? 2 : 1;
        n--;
    }
    return k == 0 && (n == 0 || name.ptr[n - 1] == '.');
}

static bool matches(struct str key, struct str name)
{
    bool whole = key.len > 0 && key.ptr[0] == '^';
    struct str rest = whole ? str_slice(key, 1, key.len) : key;
    size_t escapes = 0;
    for (size_t i = 0; i < rest.len; i++)
        escapes += rest.ptr[i] == '\\';
    return key_ends(rest, name) && (!whole || rest.len - escapes == name.len);
}

double adapter__pattern_of(const struct json *pattern, struct str module, double fallback)
{
    for (struct json_iter it = json_members(pattern); json_next(&it);) {
        if (matches(it.key, module))
            return json_double(it.value);
    }
    return fallback;
}

static bool read_pattern(const struct json *root, const char *name, double min, double max, const struct json **out,
                         struct error *err)
{
    const struct json *pattern = json_get(root, name);
    *out = NULL;
    if (says_nothing(pattern))
        return true;
    if (json_type(pattern) != JSON_OBJECT)
        return error_set(err, ERR_FORMAT, ADAPTER_CONFIG ": %s is %s instead of an object.", name,
                         json_type_name(json_type(pattern)));
    for (struct json_iter it = json_members(pattern); json_next(&it);) {
        struct str shown = str_slice(it.key, 0, utf8_cut(it.key, 80));
        bool number = json_type(it.value) == JSON_INT || json_type(it.value) == JSON_DOUBLE;
        double value = number ? json_double(it.value) : NAN;
        if (!is_plain(it.key))
            return error_set(err, ERR_UNSUPPORTED,
                             ADAPTER_CONFIG ": %s: '" STR_FMT "' is a regular expression; names are supported.", name,
                             STR_ARG(shown));
        if (!(value >= min && value <= max))
            return error_set(err, ERR_FORMAT, ADAPTER_CONFIG ": %s: '" STR_FMT "' is no number from %g to %g.", name,
                             STR_ARG(shown), min, max);
    }
    *out = pattern;
    return true;
}

/* ---- the rest ---- */

static bool read_number(const struct json *root, const char *name, double min, double max, double *out,
                        struct error *err)
{
    const struct json *v = json_get(root, name);
    double value = json_type(v) == JSON_INT || json_type(v) == JSON_DOUBLE ? json_double(v) : NAN;
    if (!(value >= min && value <= max))
        return error_set(err, ERR_FORMAT, ADAPTER_CONFIG ": %s has to be a number from %g to %g.", name, min, max);
    *out = value;
    return true;
}

bool adapter__read_config(const struct json *root, struct adapter_config *out, struct error *err)
{
    struct str type = json_str(json_get(root, "peft_type"));
    const struct json *rslora = json_get(root, "use_rslora");
    double rank;
    if (json_type(root) != JSON_OBJECT)
        return error_set(err, ERR_FORMAT, ADAPTER_CONFIG " holds %s instead of an object.",
                         json_type_name(json_type(root)));
    if (json_type(json_get(root, "peft_type")) != JSON_STRING || !str_eq(type, STR("LORA")))
        return error_set(err, ERR_UNSUPPORTED, ADAPTER_CONFIG ": peft_type: '" STR_FMT "' is not supported; LORA is.",
                         STR_ARG(str_slice(type, 0, utf8_cut(type, 40))));
    if (!check_fields(root, err) || !check_start(root, err) ||
        !read_number(root, "r", 1, BACKEND_MAX_ADAPTER_RANK, &rank, err) ||
        !read_number(root, "lora_alpha", -ADAPTER_MAX_ALPHA, ADAPTER_MAX_ALPHA, &out->alpha, err) ||
        !read_pattern(root, "rank_pattern", 1, BACKEND_MAX_ADAPTER_RANK, &out->rank_pattern, err) ||
        !read_pattern(root, "alpha_pattern", -ADAPTER_MAX_ALPHA, ADAPTER_MAX_ALPHA, &out->alpha_pattern, err))
        return false;
    if (rslora && json_type(rslora) != JSON_BOOL)
        return error_set(err, ERR_FORMAT, ADAPTER_CONFIG ": use_rslora is no boolean.");
    out->rank = (int)rank;
    out->rslora = json_bool(rslora);
    return true;
}
