#include "model/quantize_plan.h"

#include "base/array.h"
#include "model/model_internal.h"
#include "tensor/quantize.h"

#include <ctype.h>
#include <stdio.h>

enum part_class {
    CLASS_FLOAT, /* never quantized */
    CLASS_EMBD,
    CLASS_HEAD,
    CLASS_VALUE,
    CLASS_DOWN, /* of the layers that keep more */
    CLASS_OTHER,
    CLASS_COUNT
};

static const struct rule {
    int bits;
    enum dtype gguf[CLASS_COUNT];
    uint8_t folder[CLASS_COUNT]; /* bits */
} rules[] = {
    {8, {DTYPE_F32, DTYPE_Q8_0, DTYPE_Q8_0, DTYPE_Q8_0, DTYPE_Q8_0, DTYPE_Q8_0}, {0, 8, 8, 8, 8, 8}},
    {6, {DTYPE_F32, DTYPE_Q6_K, DTYPE_Q8_0, DTYPE_Q8_0, DTYPE_Q6_K, DTYPE_Q6_K}, {0, 6, 8, 8, 6, 6}},
    {4, {DTYPE_F32, DTYPE_Q6_K, DTYPE_Q6_K, DTYPE_Q6_K, DTYPE_Q6_K, DTYPE_Q4_K}, {0, 6, 6, 6, 6, 4}},
};

static bool keeps_more(int layer, int n_layers)
{
    int edge = n_layers / 8;
    return layer < edge || layer >= n_layers - edge || (layer - edge) % 3 == 2;
}

static enum part_class class_of(const struct plan_tensor *t)
{
    if (t->vector || t->part == PART_ROUTER || t->part == PART_SHARED_ROUTER || t->part == PART_STREAM_ROUTER ||
        weights__is_taps(t->part))
        return CLASS_FLOAT;
    switch (t->part) {
    case PART_EMBD:
        return t->tied ? CLASS_HEAD : CLASS_EMBD;
    case PART_LAYER_EMBD:
        return CLASS_EMBD;
    case PART_OUTPUT:
    case PART_STREAMS_IN: /* small, and every layer hangs on them */
    case PART_STREAMS_OUT:
    case PART_LAYER_PROJ:
    case PART_LAUREL_LEFT:
    case PART_LAUREL_RIGHT:
    case PART_DELTA_GATES:
        return CLASS_HEAD;
    case PART_V:
        return CLASS_VALUE;
    case PART_DOWN:
    case PART_EXPERT_DOWN:
    case PART_SHARED_DOWN:
        return keeps_more(t->layer, t->n_layers) ? CLASS_DOWN : CLASS_OTHER;
    default:
        return CLASS_OTHER;
    }
}

static const struct rule *rule_of(int bits)
{
    for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
        if (rules[i].bits == bits)
            return &rules[i];
    }
    return &rules[0];
}

/* What a row of k elements can be in, instead. */
static enum dtype fitting(enum dtype type, uint64_t k)
{
    if (k % (uint64_t)dtype_info(type)->block_len == 0)
        return type;
    if (k % 32 != 0)
        return DTYPE_F16;
    return type == DTYPE_Q4_K ? DTYPE_Q4_1 : type == DTYPE_Q5_K ? DTYPE_Q5_1 : DTYPE_Q8_0;
}

bool plan_is_quantized(enum dtype type)
{
    return type == DTYPE_GROUPED || dtype_info(type)->quantized;
}

static bool is_float(enum dtype type)
{
    return type == DTYPE_F32 || type == DTYPE_F16 || type == DTYPE_BF16;
}

struct plan_choice quantize_plan_gguf(const struct precision *p, const struct plan_tensor *t)
{
    enum part_class c = class_of(t);
    enum dtype type;
    if (c == CLASS_FLOAT) /* what llama.cpp wants them in */
        type = DTYPE_F32;
    else if (p->kind == PRECISION_KEEP)
        type = is_float(t->source) ? t->source : DTYPE_F16;
    else
        type = p->kind == PRECISION_TYPE ? p->type : rule_of(p->bits)->gguf[c];
    return (struct plan_choice){.type = fitting(type, t->k)};
}

/* Bits of a type of GGUF's, to ask a folder for by name; 0: floats. */
static int bits_of(enum dtype type)
{
    switch (type) {
    case DTYPE_Q8_0:
        return 8;
    case DTYPE_Q6_K:
        return 6;
    case DTYPE_Q5_K:
    case DTYPE_Q5_0:
    case DTYPE_Q5_1:
        return 5;
    case DTYPE_Q4_K:
    case DTYPE_Q4_0:
    case DTYPE_Q4_1:
        return 4;
    default:
        return 0;
    }
}

struct plan_choice quantize_plan_folder(const struct precision *p, const struct plan_tensor *t, enum dtype floats)
{
    enum part_class c = class_of(t);
    int bits = p->kind == PRECISION_BITS ? rule_of(p->bits)->folder[c] : 0;
    if (p->kind == PRECISION_TYPE && c != CLASS_FLOAT)
        bits = bits_of(p->type);
    if (bits == 0 || t->k % 32 != 0)
        return (struct plan_choice){.type = floats};
    return (struct plan_choice){.type = DTYPE_GROUPED, .bits = bits, .group_size = t->k % 64 == 0 ? 64 : 32};
}

/* ---- words ---- */

static void upper(const char *word, char *out, size_t size)
{
    size_t n = 0;
    for (; word[n] && n + 1 < size; n++)
        out[n] = (char)toupper((unsigned char)word[n]);
    out[n] = '\0';
}

bool precision_parse(const char *word, struct precision *out, struct error *err)
{
    char name[16];
    enum dtype type;
    if (strcmp(word, "keep") == 0) {
        *out = (struct precision){.kind = PRECISION_KEEP};
        return true;
    }
    for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
        if (strlen(word) == 1 && word[0] - '0' == rules[i].bits) {
            *out = (struct precision){.kind = PRECISION_BITS, .bits = rules[i].bits};
            return true;
        }
    }
    upper(word, name, sizeof(name));
    if (strlen(word) < sizeof(name) && dtype_from_name(name, &type) && (is_float(type) || quantize_type_known(type))) {
        *out = (struct precision){.kind = PRECISION_TYPE, .type = type};
        return true;
    }
    return error_set(err, ERR_INVALID,
                     "'%.40s' is no precision: 8, 6, 4, keep, f32, f16, bf16, q8_0, q6_k, q5_k, q4_k, q5_0, q5_1, q4_0 "
                     "and q4_1 are.",
                     word);
}

const char *precision_name(const struct precision *p, char *buf, size_t size)
{
    if (p->kind == PRECISION_BITS)
        snprintf(buf, size, "%d", p->bits);
    else
        snprintf(buf, size, "%s", p->kind == PRECISION_KEEP ? "keep" : dtype_info(p->type)->name);
    for (char *c = buf; *c; c++)
        *c = (char)tolower((unsigned char)*c);
    return buf;
}
