/* The plain structs of llguidance's C interface that Tandem passes, as the pinned crate has them (its llguidance.h is
 * made by the crate's build, so it is not there where only headers are compiled). tests/abi compares them with the
 * crate's. */
#ifndef TANDEM_GRAMMAR_LLGUIDANCE_STRUCTS_H
#define TANDEM_GRAMMAR_LLGUIDANCE_STRUCTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct LlgTokenizer;
struct LlgMatcher;

typedef size_t (*LlgTokenizeFn)(const void *user_data, const uint8_t *bytes, size_t bytes_len, uint32_t *output_tokens,
                                size_t output_tokens_len);

struct LlgParserLimits { /* 0: its default */
    size_t max_items_in_row;
    uint64_t initial_lexer_fuel;
    uint64_t step_lexer_fuel;
    size_t step_max_items;
    size_t max_lexer_states;
    size_t max_grammar_size;
    bool precompute_large_lexemes;
    bool verbose_errors;
};

struct LlgConstraintInit {
    const struct LlgTokenizer *tokenizer;
    uint32_t log_buffer_level;
    uint32_t log_stderr_level;
    bool ff_tokens_ok;
    bool backtrack_ok;
    struct LlgParserLimits limits;
};

struct LlgTokenizerInitV2 {
    size_t struct_size;
    uint32_t vocab_size;
    uint32_t tok_eos;
    const uint32_t *token_lens; /* [vocab_size] */
    const uint8_t *token_bytes; /* all of them, one behind the other */
    const char *tokenizer_json;
    bool tokenize_assumes_string;
    LlgTokenizeFn tokenize_fn;
    bool use_approximate_greedy_tokenize_fn;
    const void *tokenize_user_data;
    const char *const *slices;
    const uint32_t *tok_eos_extra; /* [tok_eos_extra_count] */
    uint32_t tok_eos_extra_count;
};

#endif
