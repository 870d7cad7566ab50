/* Shared by the pre-tokenizer's table, its class runs and its main patterns. */
#ifndef TANDEM_TEXT_PRETOKENIZER_INTERNAL_H
#define TANDEM_TEXT_PRETOKENIZER_INTERNAL_H

#include "base/utf8.h"
#include "text/pretokenizer.h"
#include "text/unicode.h"

struct pre__char {
    uint32_t code_point;
    unsigned cls;
    unsigned len; /* 0 at the end of the text */
};

static inline struct pre__char pre__char_at(struct str text, size_t at)
{
    if (at >= text.len)
        return (struct pre__char){0, 0, 0};
    unsigned char c = (unsigned char)text.ptr[at];
    if (c < 0x80)
        return (struct pre__char){c, unicode_class(c), 1};
    uint32_t code_point;
    size_t len = utf8_decode((struct str){text.ptr + at, text.len - at}, &code_point);
    if (code_point == UTF8_INVALID) /* not in valid text; U+FFFD then */
        code_point = 0xFFFD;
    return (struct pre__char){code_point, unicode_class(code_point), (unsigned)len};
}

/* End of the run of characters whose class has a bit of mask. */
static inline size_t pre__run(struct str text, size_t at, unsigned mask)
{
    for (;;) {
        struct pre__char c = pre__char_at(text, at);
        if (!c.len || !(c.cls & mask))
            return at;
        at += c.len;
    }
}

/* End of the run of characters whose class has no bit of mask. */
static inline size_t pre__run_not(struct str text, size_t at, unsigned mask)
{
    for (;;) {
        struct pre__char c = pre__char_at(text, at);
        if (!c.len || (c.cls & mask))
            return at;
        at += c.len;
    }
}

/* Stages; see pretokenizer_runs.c and pretokenizer_patterns.c. */
size_t pre__class_runs(const struct pre_stage *stage, struct str text, size_t at);
size_t pre__byte_digits(const struct pre_stage *stage, struct str text, size_t at);
size_t pre__final_space(const struct pre_stage *stage, struct str text, size_t at);
size_t pre__gpt2(const struct pre_stage *stage, struct str text, size_t at);
size_t pre__cl100k(const struct pre_stage *stage, struct str text, size_t at);
size_t pre__cased(const struct pre_stage *stage, struct str text, size_t at);
size_t pre__deepseek3(const struct pre_stage *stage, struct str text, size_t at);

/* The cased letters of DeepSeek LLM's pattern. */
#define PRE__N_DEEPSEEK_LETTERS 87
extern const struct pre_range pre__deepseek_letters[PRE__N_DEEPSEEK_LETTERS];

#endif
