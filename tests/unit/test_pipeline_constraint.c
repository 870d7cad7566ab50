/* What requests say of their answers, as the constraint of their jobs: what it lets a model write, whether it waits for
 * a call, what comes before it; and what is refused. */
#include "tests/support/failing_memory.h"
#include "tests/support/pipeline_bench.h"

#include "grammar/constraint.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TOOL(name, more)      "{\"type\": \"function\", \"function\": {\"name\": \"" name "\"" more "}}"
#define PARAMETERS(text)      ", \"parameters\": {\"type\": \"object\", " text "}"
#define CALL(name, arguments) "<tool_call>\n{\"name\": \"" name "\", \"arguments\": " arguments "}\n</tool_call>"
#define ADD                                                                                            \
    TOOL("add", PARAMETERS("\"properties\": {\"a\": {\"type\": \"integer\"}}, \"required\": [\"a\"], " \
                           "\"additionalProperties\": false"))

static const char template_source[] =
    "{% if tools %}tools <tool_call>\n{\"name\": .., \"arguments\": ..}\n</tool_call> {% endif %}"
    "{% for m in messages %}{{ m.content }}{% endfor %}"
    "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% elif enable_thinking %}<think>"
    "{% endif %}";

struct fixture {
    struct pipeline_bench bench;
    struct gen_request request;
    struct arena *arena; /* of specs */
    struct constraint_vocab *vocab;
};

static const struct json *parse(struct fixture *f, const char *text)
{
    struct error err = {0};
    struct json *root = json_keep(json_parse(str_of(text), 0, &err), f->arena, "test", &err);
    assert_non_null(root);
    return root;
}

/* A request of its own for every look. */
static void renew(struct fixture *f)
{
    arena_free(f->request.arena);
    gen_request_init(&f->request, arena_create(1 << 20), GEN_CHAT);
    f->request.messages = parse(f, "[{\"role\": \"user\", \"content\": \"hi\"}]");
    f->request.max_tokens = 100;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct error err = {0};
    pipeline_bench_open_chat(&f->bench, template_source);
    f->arena = arena_create(1 << 24);
    f->vocab = constraint_vocab_create(f->bench.tokenizer, &(struct constraint_vocab_options){0}, &err);
    assert_non_null(f->vocab);
    renew(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    arena_free(f->request.arena);
    arena_free(f->arena);
    constraint_vocab_free(f->vocab);
    pipeline_bench_close(&f->bench);
    free(f);
    return 0;
}

/* ---- looking ---- */

static void prepare(struct fixture *f)
{
    struct error err = {0};
    if (!pipeline_prepare(f->bench.pipeline, &f->request, &err)) {
        fail_msg("%s: %s", err.param, err.msg);
    }
}

static void refuse(struct fixture *f, const char *param, const char *words)
{
    struct error err = {0};
    assert_false(pipeline_prepare(f->bench.pipeline, &f->request, &err));
    if (strcmp(err.param, param) != 0 || !strstr(err.msg, words)) {
        fail_msg("%s: %s", err.param, err.msg);
    }
    assert_true(err.code == ERR_UNSUPPORTED || err.code == ERR_INVALID);
    renew(f);
}

static struct constraint_spec spec_of(struct fixture *f)
{
    struct constraint_spec spec;
    struct error err = {0};
    const struct job *job = &f->request.jobs[0];
    assert_non_null(job->constraint);
    assert_true(constraint_spec_decode((struct str){job->constraint, job->constraint_size}, f->arena, &spec, &err));
    return spec;
}

/* The whole text may be written, and 'end': end there. Markers are their tokens. */
static bool lets(struct fixture *f, const char *text, bool end)
{
    static const char *const markers[] = {"<think>",   "</think>",    "<tool_call>", "</tool_call>",
                                          "<|start|>", "<|channel|>", "<|message|>", "<|constrain|>",
                                          "<|end|>",   "<|call|>",    "<|return|>"};
    struct constraint_spec spec = spec_of(f);
    struct error err = {0};
    struct constraint *c = constraint_compile(f->vocab, &spec, NULL, &err);
    struct constraint_state *s = constraint_state_create(c, &err);
    bool ok = s != NULL;
    while (ok && *text) {
        uint32_t mask[16];
        int32_t id = (uint8_t)*text;
        size_t len = 1;
        for (size_t i = 0; i < sizeof markers / sizeof markers[0]; i++) {
            if (strncmp(text, markers[i], strlen(markers[i])) == 0) {
                id = BENCH_THINK + (int32_t)i;
                len = strlen(markers[i]);
            }
        }
        int applies = constraint_state_mask(s, mask, &err);
        ok = (applies == 0 || (applies == 1 && (mask[id / 32] >> (id % 32) & 1))) &&
             constraint_state_accept(s, id, &err);
        text += len;
    }
    ok = ok && (!end || constraint_state_can_stop(s));
    constraint_state_free(s);
    constraint_release(c);
    return ok;
}

/* ---- formats ---- */

static void set_format(struct fixture *f, enum gen_format kind, const char *text, bool strict)
{
    bool json = kind == GEN_FORMAT_SCHEMA || kind == GEN_FORMAT_CHOICE || kind == GEN_FORMAT_STRUCTURAL_TAG;
    f->request.format = (struct gen_answer_format){.kind = kind, .strict = strict, .field = "format"};
    if (json) {
        f->request.format.schema = parse(f, text);
    } else {
        f->request.format.text = str_of(text);
    }
}

static void test_nothing_asked(void **state)
{
    struct fixture *f = *state;
    prepare(f);
    assert_null(f->request.jobs[0].constraint);
    renew(f);
    f->request.tools = parse(f, "[" ADD "]");
    f->request.tool_choice = GEN_TOOLS_NONE;
    prepare(f);
    assert_null(f->request.jobs[0].constraint);
    renew(f);
    set_format(f, GEN_FORMAT_REGEX, "a", true);
    f->request.max_tokens = 0; /* nothing is written */
    f->request.input = GEN_PROMPTS;
    f->request.prompts = &(struct gen_prompt){.text = STR("ab")};
    f->request.n_prompts = 1;
    prepare(f);
    assert_null(f->request.jobs[0].constraint);
}

static void test_formats(void **state)
{
    static const struct {
        enum gen_format kind;
        const char *text, *good, *bad;
    } cases[] = {
        {GEN_FORMAT_JSON, "", "{\"a\": [1]}", "[1]"},
        {GEN_FORMAT_SCHEMA, "{\"type\": \"integer\"}", "12", "a"},
        {GEN_FORMAT_REGEX, "a+b", "aab", "b"},
        {GEN_FORMAT_CHOICE, "[\"yes\", \"no\"]", "no", "maybe"},
        {GEN_FORMAT_LARK, "start: \"x\" /[0-9]/", "x1", "xx"},
        {GEN_FORMAT_GBNF, "root ::= \"x\" [0-9]", "x1", "xx"},
    };
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (int chat = 0; chat < 2; chat++) {
            struct gen_prompt prompt = {.text = STR("ab")};
            renew(f);
            set_format(f, cases[i].kind, cases[i].text, true);
            f->request.input = chat ? GEN_CHAT : GEN_PROMPTS;
            f->request.prompts = &prompt;
            f->request.n_prompts = 1;
            prepare(f);
            assert_true(lets(f, cases[i].good, true));
            assert_false(lets(f, cases[i].bad, false));
            assert_int_equal(lets(f, "<think>hm</think>", false), chat); /* reasoning comes first, in a chat */
            assert_int_equal(f->request.widened.len, 0);
        }
    }
}

/* A request that comes meanwhile has the vocabulary as well. */
static void test_a_vocabulary_made_before(void **state)
{
    struct fixture *f = *state;
    pipeline_prepare_constraints(f->bench.pipeline);
    pipeline_prepare_constraints(f->bench.pipeline);
    set_format(f, GEN_FORMAT_REGEX, "[ab]+", true);
    prepare(f);
    assert_true(f->request.jobs[0].constraint_size > 0);
}

static void test_bad_formats(void **state)
{
    struct fixture *f = *state;
    set_format(f, GEN_FORMAT_REGEX, "(a", true);
    refuse(f, "format", "format: the grammar cannot be used");
    set_format(f, GEN_FORMAT_LARK, "start: (", true);
    refuse(f, "format", "line 1");
    set_format(f, GEN_FORMAT_GBNF, "root ::= missing", true);
    refuse(f, "format", "line 1, column 10");
    set_format(f, GEN_FORMAT_SCHEMA, "{\"type\": \"nonsense\"}", true);
    refuse(f, "format", "nonsense");
    set_format(f, GEN_FORMAT_SCHEMA, "{\"properties\": {\"a\": {\"not\": {}}}}", true);
    refuse(f, "format", "/properties/a/not");
    set_format(f, GEN_FORMAT_SCHEMA, "{\"properties\": {\"a\": {\"not\": {}}, \"b\": {\"uniqueItems\": true}}}", false);
    prepare(f);
    assert_true(str_eq(f->request.widened, STR("format:/properties/a/not, format:/properties/b/uniqueItems")));
    assert_true(lets(f, "{\"a\": 1}", true));
}

#define TAG(triggers, structures) "{\"triggers\": [" triggers "], \"structures\": [" structures "]}"
#define STRUCTURE(begin, schema)  "{\"begin\": \"" begin "\", \"schema\": {" schema "}, \"end\": \"</f>\"}"

static void test_structural_tags(void **state)
{
    static const char good[] =
        TAG("\"<f=\", \"[!\"", STRUCTURE("<f=a>", "\"type\": \"integer\"") ", " STRUCTURE(
                                   "<f=bb>", "\"type\": \"boolean\"") ", " STRUCTURE("[!", "\"type\": \"null\""));
    static const char *const bad[] = {
        "[]",
        TAG("", STRUCTURE("<f=a>", "")),
        TAG("\"<f=\"", ""),
        TAG("\"<f=\"", STRUCTURE("<g=a>", "")),
        TAG("\"<f=\", \"[!\"", STRUCTURE("<f=a>", "")),
        TAG("\"<f=\"", STRUCTURE("<f=a>", "\"not\": {}")),
        TAG("1", STRUCTURE("<f=a>", "")),
    };
    struct fixture *f = *state;
    set_format(f, GEN_FORMAT_STRUCTURAL_TAG, good, true);
    prepare(f);
    assert_true(lets(f, "", true));
    assert_true(lets(f, "any text < f=", true));
    assert_true(lets(f, "text <f=a>12</f> and <f=bb>true</f>[!null</f> more", true));
    assert_true(lets(f, "<f=<f=a>", false) == false);
    assert_false(lets(f, "text <f=c>", false));
    assert_false(lets(f, "text <f=a>true", false));
    assert_false(lets(f, "text <f=a>12</f> and <f=bb>1", false));
    assert_false(lets(f, "text <f=a>12", true));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        renew(f);
        set_format(f, GEN_FORMAT_STRUCTURAL_TAG, bad[i], true);
        refuse(f, "format", "");
    }
}

/* ---- calls ---- */

static void test_required_calls(void **state)
{
    struct fixture *f = *state;
    f->request.tools = parse(f, "[" ADD ", " TOOL("sub", "") "]");
    f->request.tool_choice = GEN_TOOLS_REQUIRED;
    set_format(f, GEN_FORMAT_REGEX, "a", true); /* of an answer that there will not be */
    prepare(f);
    assert_true(lets(f, CALL("add", "{\"a\": 1}"), true));
    assert_true(lets(f, CALL("sub", "{\"x\": [1]}"), true));
    assert_true(lets(f, "<think>hm</think>\n\n" CALL("sub", "{}"), true));
    assert_true(lets(f, CALL("add", "{\"a\": 1}") "\n" CALL("sub", "{}"), true));
    assert_false(lets(f, "a", false));
    assert_false(lets(f, CALL("add", "{\"a\": \"1\"}"), false));
    assert_false(lets(f, CALL("add", "{}"), false));
    assert_false(lets(f, CALL("mul", "{}"), false));
    assert_false(lets(f, "", true));
    renew(f);
    f->request.tools = parse(f, "[" ADD ", " TOOL("sub", "") "]");
    f->request.tool_choice = GEN_TOOLS_NAMED;
    f->request.tool_name = STR("sub");
    f->request.parallel_tool_calls = false;
    prepare(f);
    assert_true(lets(f, CALL("sub", "{}"), true));
    assert_false(lets(f, CALL("add", "{\"a\": 1}"), false));
    assert_false(lets(f, CALL("sub", "{}") "\n" CALL("sub", "{}"), false));
}

static void test_automatic_calls(void **state)
{
    struct fixture *f = *state;
    f->request.tools = parse(f, "[" ADD "]");
    prepare(f);
    struct constraint_spec spec = spec_of(f);
    assert_int_equal(spec.n_triggers, 1);
    assert_true(lets(f, "any text, {\"a\": \"b\"}", true));
    assert_true(lets(f, "well: " CALL("add", "{\"a\": 1}"), true));
    assert_false(lets(f, "well: " CALL("add", "{\"a\": \"1\"}"), false));
    assert_true(lets(f, "<think>" CALL("x", "{\"a\": \"1\"}"), false)); /* a thought about calls */
}

/* Text is not held up by tools that no grammar can be made of. */
static void test_automatic_calls_that_cannot_be_described(void **state)
{
    struct fixture *f = *state;
    f->request.tools = parse(f, "[" TOOL("f", ", \"parameters\": {\"type\": \"nonsense\"}") "]");
    prepare(f);
    assert_null(f->request.jobs[0].constraint);
    renew(f);
    f->request.tools = parse(f, "[" TOOL("f", ", \"strict\": true, \"parameters\": {\"type\": \"nonsense\"}") "]");
    refuse(f, "tools[0].function.parameters", "wrong `type`");
    f->request.legacy_functions = true;
    f->request.tools = parse(f, "[" ADD ", " TOOL("f", ", \"strict\": true" PARAMETERS("\"not\": {}")) "]");
    refuse(f, "functions[1].parameters", "/not");
    f->request.tools = parse(f, "[" ADD ", " TOOL("f", PARAMETERS("\"not\": {}")) "]");
    prepare(f);
    assert_true(str_eq(f->request.widened, STR("f:/not")));
}

static void test_a_format_or_calls(void **state)
{
    struct fixture *f = *state;
    f->request.tools = parse(f, "[" ADD "]");
    set_format(f, GEN_FORMAT_SCHEMA, "{\"type\": \"integer\"}", true);
    prepare(f);
    assert_true(lets(f, "12", true));
    assert_true(lets(f, CALL("add", "{\"a\": 1}"), true));
    assert_false(lets(f, "text", false));
    assert_false(lets(f, CALL("add", "{}"), false));
    renew(f);
    f->request.tools = parse(f, "[" ADD "]");
    set_format(f, GEN_FORMAT_REGEX, "a", true);
    refuse(f, "format", "only JSON formats");
}

/* ---- reasoning ---- */

static void test_reasoning(void **state)
{
    struct fixture *f = *state;
    f->request.thinking = 1; /* the prompt opens it */
    f->request.thinking_budget = 3;
    set_format(f, GEN_FORMAT_REGEX, "a", true);
    prepare(f);
    assert_true(spec_of(f).think_open);
    assert_true(lets(f, "hm</think>a", true));
    assert_true(lets(f, "hmm</think>a", true));
    assert_false(lets(f, "hmmm", false));
    assert_false(lets(f, "hm", true));
    renew(f);
    f->request.thinking = 0; /* it was switched off */
    set_format(f, GEN_FORMAT_REGEX, "a", true);
    prepare(f);
    assert_true(lets(f, "a", true));
    assert_false(lets(f, "<think>", false));
    renew(f);
    f->request.reasoning_effort = STR("none"); /* likewise */
    set_format(f, GEN_FORMAT_REGEX, "a", true);
    prepare(f);
    assert_false(lets(f, "<think>", false));
    renew(f);
    f->request.template_kwargs = parse(f, "{\"enable_thinking\": false}");
    set_format(f, GEN_FORMAT_REGEX, "a", true);
    prepare(f);
    assert_false(lets(f, "<think>", false));
    renew(f);
    set_format(f, GEN_FORMAT_REGEX, "a", true);
    prepare(f);
    assert_true(lets(f, "<think>hm</think>a", true));
    renew(f);
    f->request.thinking_budget = 0; /* and nothing else is bound */
    prepare(f);
    assert_int_equal(spec_of(f).kind, CONSTRAINT_NONE);
    assert_true(lets(f, "text <think></think> text", true));
    assert_false(lets(f, "<think>a", false));
}

/* ---- channels ---- */

#define ANALYSIS(text) "<|channel|>analysis<|message|>" text "<|end|>"
#define FINAL(text)    "<|channel|>final<|message|>" text
#define CALLS(name, arguments) \
    "<|channel|>commentary to=functions." name " <|constrain|>json<|message|>" arguments "<|call|>"
#define NEXT "<|start|>assistant"

static int setup_channels(void **state)
{
    static const char harmony[] =
        "{% for m in messages %}<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>{% endfor %}"
        "{% if tools %}<|channel|>commentary{% endif %}<|start|>assistant";
    struct fixture *f = calloc(1, sizeof *f);
    struct error err = {0};
    pipeline_bench_open_chat(&f->bench, harmony);
    f->arena = arena_create(1 << 24);
    f->vocab = constraint_vocab_create(f->bench.tokenizer, &(struct constraint_vocab_options){0}, &err);
    assert_non_null(f->vocab);
    renew(f);
    *state = f;
    return 0;
}

/* An answer that is bound is JSON in the final channel, with reasoning before it or without. */
static void test_formats_in_channels(void **state)
{
    struct fixture *f = *state;
    set_format(f, GEN_FORMAT_SCHEMA, "{\"type\": \"integer\"}", true);
    prepare(f);
    assert_true(lets(f, FINAL("12"), true));
    assert_true(lets(f, "<|channel|>final <|constrain|>json<|message|>12", true));
    assert_true(lets(f, ANALYSIS("hm: \"final\"") NEXT FINAL("12"), true));
    assert_false(lets(f, FINAL("a"), false));
    assert_false(lets(f, "12", false));
    assert_false(lets(f, "<|channel|>commentary", false));
    assert_false(lets(f, ANALYSIS("hm") "12", false));
    assert_false(lets(f, ANALYSIS("hm"), true));
    renew(f);
    set_format(f, GEN_FORMAT_REGEX, "a", true);
    refuse(f, "format", "only JSON formats");
    f->request.thinking_budget = 2; /* and nothing else is bound */
    prepare(f);
    assert_true(lets(f, ANALYSIS("hm") NEXT FINAL("text"), true));
    assert_false(lets(f, "<|channel|>analysis<|message|>hmm", false));
}

static void test_calls_in_channels(void **state)
{
    struct fixture *f = *state;
    f->request.tools = parse(f, "[" ADD "]");
    f->request.tool_choice = GEN_TOOLS_REQUIRED;
    prepare(f);
    assert_true(lets(f, CALLS("add", "{\"a\": 1}"), true));
    assert_true(lets(f, ANALYSIS("hm") NEXT CALLS("add", "{\"a\": 1}"), true));
    assert_false(lets(f, CALLS("add", "{}"), false));
    assert_false(lets(f, CALLS("sub", "{\"a\": 1}"), false));
    assert_false(lets(f, FINAL("12"), false));
    renew(f);
    f->request.tools = parse(f, "[" ADD "]");
    set_format(f, GEN_FORMAT_SCHEMA, "{\"type\": \"integer\"}", true);
    prepare(f);
    assert_true(lets(f, ANALYSIS("hm") NEXT FINAL("12"), true));
    assert_true(lets(f, ANALYSIS("hm") NEXT CALLS("add", "{\"a\": 1}"), true));
    assert_false(lets(f, FINAL("a"), false));
    renew(f);
    f->request.tools = parse(f, "[" ADD "]"); /* automatic: bound once they begin, wherever that is */
    prepare(f);
    assert_true(lets(f, ANALYSIS("hm") NEXT FINAL("text"), true));
    assert_true(lets(f, ANALYSIS("hm") NEXT CALLS("add", "{\"a\": 1}"), true));
    assert_false(lets(f, ANALYSIS("hm") NEXT CALLS("add", "{}"), false));
}

/* ---- memory ---- */

static bool prepare_once(struct fixture *f, long n, struct error *err)
{
    renew(f);
    f->request.tools = parse(f, "[" ADD ", " TOOL("sub", "") "]");
    set_format(f, GEN_FORMAT_SCHEMA, "{\"type\": \"integer\"}", false);
    n_allocations = 0;
    fail_at = n;
    bool ok = pipeline_prepare(f->bench.pipeline, &f->request, err);
    fail_at = -1;
    return ok;
}

/* But those of the compiler, which ends the process: it has compiled this one. */
static void test_every_allocation_may_fail(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    bool done = !CAN_FAIL;
    assert_true(prepare_once(f, -1, &err));
    for (long n = 0; !done; n++) {
        struct error why = {0};
        bool ok = prepare_once(f, n, &why);
        done = n_allocations <= n;
        assert_true(ok || why.code == ERR_NO_MEMORY || why.code == ERR_TOO_LARGE);
        assert_true(!done || ok);
        assert_true(n < 20000);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_nothing_asked),
        TEST(test_formats),
        TEST(test_a_vocabulary_made_before),
        TEST(test_bad_formats),
        cmocka_unit_test_setup_teardown(test_formats_in_channels, setup_channels, teardown),
        cmocka_unit_test_setup_teardown(test_calls_in_channels, setup_channels, teardown),
        TEST(test_structural_tags),
        TEST(test_required_calls),
        TEST(test_automatic_calls),
        TEST(test_automatic_calls_that_cannot_be_described),
        TEST(test_a_format_or_calls),
        TEST(test_reasoning),
        TEST(test_every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
