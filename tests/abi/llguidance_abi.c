/* Compiles only when grammar/llguidance_*.h say what the header of the pinned crate says: the structs lie the same, and
 * the functions may be declared by both. */
#define LlgParserLimits    OurParserLimits
#define LlgConstraintInit  OurConstraintInit
#define LlgTokenizerInitV2 OurTokenizerInitV2
#define LlgTokenizeFn      OurTokenizeFn
#include "grammar/llguidance_structs.h"
#undef LlgParserLimits
#undef LlgConstraintInit
#undef LlgTokenizerInitV2
#undef LlgTokenizeFn

#include <llguidance.h>

#include "grammar/llguidance_abi.h"

#define SAME_SIZE(name) _Static_assert(sizeof(struct Our##name) == sizeof(struct Llg##name), #name)
#define SAME(name, field)                                                                                     \
    _Static_assert(offsetof(struct Our##name, field) == offsetof(struct Llg##name, field), #name "." #field); \
    _Static_assert(sizeof(((struct Our##name *)0)->field) == sizeof(((struct Llg##name *)0)->field), #name "." #field)

SAME_SIZE(ParserLimits);
SAME(ParserLimits, max_items_in_row);
SAME(ParserLimits, initial_lexer_fuel);
SAME(ParserLimits, step_lexer_fuel);
SAME(ParserLimits, step_max_items);
SAME(ParserLimits, max_lexer_states);
SAME(ParserLimits, max_grammar_size);
SAME(ParserLimits, precompute_large_lexemes);
SAME(ParserLimits, verbose_errors);

SAME_SIZE(ConstraintInit);
SAME(ConstraintInit, tokenizer);
SAME(ConstraintInit, log_buffer_level);
SAME(ConstraintInit, log_stderr_level);
SAME(ConstraintInit, ff_tokens_ok);
SAME(ConstraintInit, backtrack_ok);
SAME(ConstraintInit, limits);

SAME_SIZE(TokenizerInitV2);
SAME(TokenizerInitV2, struct_size);
SAME(TokenizerInitV2, vocab_size);
SAME(TokenizerInitV2, tok_eos);
SAME(TokenizerInitV2, token_lens);
SAME(TokenizerInitV2, token_bytes);
SAME(TokenizerInitV2, tokenizer_json);
SAME(TokenizerInitV2, tokenize_assumes_string);
SAME(TokenizerInitV2, tokenize_fn);
SAME(TokenizerInitV2, use_approximate_greedy_tokenize_fn);
SAME(TokenizerInitV2, tokenize_user_data);
SAME(TokenizerInitV2, slices);
SAME(TokenizerInitV2, tok_eos_extra);
SAME(TokenizerInitV2, tok_eos_extra_count);

_Static_assert(__builtin_types_compatible_p(OurTokenizeFn, LlgTokenizeFn), "LlgTokenizeFn");
