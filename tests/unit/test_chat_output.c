/* What models write, taken apart: one table per format, of outputs as the models give them and of texts that only look
 * like calls. Every row is fed whole, byte by byte and cut at every place, with the same result. */
#include "base/array.h"
#include "chat/reasoning_format.h"
#include "chat/tool_format.h"
#include "tests/support/output_log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const char definitions_json[] =
    "[{\"type\":\"function\",\"function\":{\"name\":\"get_weather\",\"parameters\":{\"type\":\"object\","
    "\"properties\":{\"city\":{\"type\":\"string\"},\"days\":{\"type\":\"integer\"},\"metric\":{\"type\":\"boolean\"},"
    "\"tags\":{\"type\":\"array\",\"items\":{\"type\":\"string\"}},\"note\":{\"type\":[\"string\",\"null\"]},"
    "\"where\":{\"$ref\":\"#/$defs/place\"},\"any\":{},\"kind\":{\"enum\":[\"5\",\"6\"]},"
    "\"opt\":{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"null\"}]}},"
    "\"$defs\":{\"place\":{\"type\":\"object\"}}}}},"
    "{\"type\":\"function\",\"function\":{\"name\":\"now\",\"parameters\":{\"type\":\"object\",\"properties\":{}}}},"
    "{\"type\":\"function\",\"function\":{\"name\":\"exact\",\"strict\":true,\"parameters\":{\"type\":\"object\"}}}]";

struct row {
    const char *text, *log;
};

struct format_rows {
    const char *tools, *reasoning;
    bool in_reasoning;
    const struct row *rows;
    size_t n;
};

static void compare(const struct format_rows *f, const struct row *row, const struct output_log *log, size_t cut)
{
    struct str got = buf_view(&log->text);
    if (!str_eq(got, str_of(row->log))) {
        fail_msg("%s, cut at %zu: %s\n  want %s\n  got  " STR_FMT, f->tools ? f->tools : f->reasoning, cut, row->text,
                 row->log, STR_ARG(got));
    }
    assert_true(log->ordered);
    assert_true(log->source_end <= strlen(row->text));
}

static void run_row(const struct format_rows *f, const struct output_options *o, const struct row *row)
{
    struct str text = str_of(row->text);
    struct error err = {0};
    struct output_log log;
    for (size_t cut = text.len + 1; cut-- > 0;) {
        assert_true(output_log_run(&log, o, text, cut, &err));
        compare(f, row, &log, cut);
        buf_release(&log.text);
    }
    assert_true(output_log_run_by(&log, o, text, 1, &err));
    compare(f, row, &log, 1);
    buf_release(&log.text);
}

static void run_rows(const struct format_rows *f)
{
    struct error err = {0};
    struct json *definitions = json_parse(str_of(definitions_json), 0, &err);
    assert_non_null(definitions);
    struct output_options o = {.definitions = definitions, .in_reasoning = f->in_reasoning};
    if (f->tools) {
        o.tools = tool_format_find(str_of(f->tools));
        assert_non_null(o.tools);
    }
    if (f->reasoning) {
        o.reasoning = reasoning_format_find(str_of(f->reasoning));
        assert_non_null(o.reasoning);
    }
    for (size_t i = 0; i < f->n; i++) {
        run_row(f, &o, &f->rows[i]);
    }
    json_free(definitions);
}

#define RUN(...) run_rows(&(struct format_rows){__VA_ARGS__, .rows = rows, .n = ARRAY_LEN(rows)})

static void test_text(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"", ""},
        {"Hello.", "T Hello."},
        {"  \n two \n", "T   \n two \n"},
        {"<tool_call>{\"name\":\"now\",\"arguments\":{}}</tool_call>",
         "T <tool_call>{\"name\":\"now\",\"arguments\":{}}</tool_call>"},
        {"<think>x</think>y", "T <think>x</think>y"},
    };
    RUN(NULL);
}

static void test_hermes(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}\n</tool_call>",
         "C get_weather|A {\"city\": \"Paris\"}|E ok"},
        {"Let me see.\n<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>\n",
         "T Let me see.|C now|A {}|E ok"},
        {"<tool_call>\n{\"arguments\": {\"city\": \"O\\\"x\"}, \"name\": \"get_weather\"}\n</tool_call>\n<tool_call>\n"
         "{\"name\": \"now\"}\n</tool_call>",
         "C get_weather|A {\"city\": \"O\\\"x\"}|E ok|C now|A {}|E ok"},
        {"<tool_call>{\"name\": \"x\", \"arguments\": \"{\\\"a\\\": \\\"\\\\u00e9\\\\n\\\"}\"}</tool_call>",
         "C x|A {\"a\": \"\\u00e9\\n\"}|E ok"},
        {"<tool_call>{\"name\": \"x\", \"arguments\": {\"a\": \"l1\nl2\"}}</tool_call>",
         "C x|A {\"a\": \"l1\\nl2\"}|E ok"},
        {"<tool_call>{\"name\": \"x\", \"arguments\": null}</tool_call> done", "C x|A {}|E ok|T done"},
        {"<tool_call>{\"name\": \"x\", \"arguments\": \"\"}</tool_call>", "C x|A {}|E ok"},
        {"<tool_call>{\"name\": \"x\", \"arguments\": {\"t\": \"</tool_call>\"}}</tool_call>",
         "C x|A {\"t\": \"</tool_call>\"}|E ok"},
        /* cut off */
        {"<tool_call>{\"name\": \"x\", \"arguments\": {\"a\": [1, ", "C x|A {\"a\": [1, |E cut"},
        {"<tool_call>{\"name\": \"x\"", "C x|E cut"},
        {"<tool_call>{\"name\": \"x", "T <tool_call>{\"name\": \"x"},
        {"<tool_call>{\"arguments\": {\"a\": 1}", "T <tool_call>{\"arguments\": {\"a\": 1}"},
        {"a <tool_c", "T a <tool_c"},
        /* malformed */
        {"<tool_call>{\"name\": \"x\", \"arguments\": {\"a\": }}</tool_call>b", "C x|A {\"a\": }}|E cut|T b"},
        {"<tool_call>{\"name\": \"x\", \"arguments\": [1]}</tool_call>b", "C x|A [1]}|E cut|T b"},
        {"<tool_call>{\"name\": \"x\", \"arguments\": \"no\"}</tool_call>b", "C x|A no|E cut|T b"},
        {"<tool_call>{\"arguments\": 5, \"name\": \"x\"}</tool_call>b", "C x|A 5|E cut|T b"},
        {"<tool_call>{\"name\": \"x\", \"arguments\": {} \"</tool_call>b", "C x|A {}\"|E cut|T b"},
        /* no calls */
        {"Use <tool_call> tags.", "T Use <tool_call> tags."},
        {"<tool_call>{\"nome\": 1}</tool_call>", "T <tool_call>{\"nome\": 1}</tool_call>"},
        {"<tool_call>{\"name\": \"\"}</tool_call>", "T <tool_call>{\"name\": \"\"}</tool_call>"},
        {"<tool_call>[]</tool_call>", "T <tool_call>[]</tool_call>"},
        {"<tool_call><tool_call>{\"name\": \"x\"}</tool_call>", "T <tool_call>|C x|A {}|E ok"},
        {"<tool_call>\n<function=now>\n</function>\n</tool_call>", "C now|A {}|E ok"},
        /* an array, and the closing tag forgotten */
        {"<tool_call>[{\"name\": \"x\", \"arguments\": {}}, {\"name\": \"y\", \"arguments\": {\"b\":2}}]</tool_call>",
         "C x|A {}|E ok|C y|A {\"b\":2}|E ok"},
        {"<tool_call>{\"name\": \"x\", \"arguments\": {}} <tool_call>{\"name\": \"y\", \"arguments\": {}}",
         "C x|A {}|E ok|C y|A {}|E ok"},
    };
    RUN("hermes");
}

/* Small models forget the tags, or write a Markdown block: the name of a tool of the request makes it a call. */
static void test_hermes_without_tags(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}",
         "C get_weather|A {\"city\": \"Paris\"}|E ok"},
        {"\n{\"name\": \"now\", \"arguments\": {}}\n{\"name\": \"now\"}", "C now|A {}|E ok|C now|A {}|E ok"},
        {"I look.\n```json\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Rome\"}}\n```",
         "T I look.|C get_weather|A {\"city\": \"Rome\"}|E ok"},
        {"{\"name\": \"now\", \"arguments\": {\"a\": [1", "C now|A {\"a\": [1|E cut"},
        /* a strict tool's arguments are bound behind the tag alone */
        {"{\"name\": \"exact\", \"arguments\": {}}", "T {\"name\": \"exact\", \"arguments\": {}}"},
        {"<tool_call>{\"name\": \"exact\", \"arguments\": {}}</tool_call>", "C exact|A {}|E ok"},
        /* answers that are JSON */
        {"{\"name\": \"Alice\", \"arguments\": {}}", "T {\"name\": \"Alice\", \"arguments\": {}}"},
        {"{\"city\": \"now\", \"name\": \"now\"}", "T {\"city\": \"now\", \"name\": \"now\"}"},
        {"```json\n{\"city\": \"Rome\"}\n```", "T ```json\n{\"city\": \"Rome\"}\n```"},
        {"Say {\"name\": \"now\"}", "T Say {\"name\": \"now\"}"},
    };
    RUN("hermes");
}

/* An answer that is JSON does not wait for its end to be known for one. */
static void test_json_answer_streams(void **state)
{
    (void)state;
    struct error err = {0};
    struct json *definitions = json_parse(str_of(definitions_json), 0, &err);
    const char *formats[] = {"hermes", "llama3"};
    for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
        struct output_options o = {.tools = tool_format_find(str_of(formats[i])), .definitions = definitions};
        struct output_parser *p = output_parser_create(&o, &err);
        struct output_piece piece;
        assert_non_null(p);
        assert_true(output_parser_feed(p, STR("{\"items\": ["), &err));
        assert_true(output_parser_next(p, &piece));
        assert_int_equal(piece.kind, OUTPUT_TEXT);
        assert_true(str_starts(piece.text, STR("{\"items\"")));
        output_parser_free(p);
    }
    json_free(definitions);
}

static void test_hermes_reasoning(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"<think>\nA plan.\n</think>\n\nHi.", "R A plan.|T Hi."},
        {"<think>\n\n</think>\n\nHi.", "T Hi."},
        {"\n<think>a <tool_call>{\"name\":\"now\"}</tool_call> b</think>\n<tool_call>{\"name\":\"now\"}</tool_call>",
         "R a <tool_call>{\"name\":\"now\"}</tool_call> b|C now|A {}|E ok"},
        {"Hi <think>no</think>", "T Hi <think>no</think>"},
        {"</think>Hi", "T Hi"},
        {"<think>never ends \n", "R never ends \n"},
        {"<thin", "T <thin"},
        {"<think>a</thi", "R a</thi"},
    };
    static const struct row open[] = {
        {"A plan.\n</think>\n\nHi.", "R A plan.|T Hi."},
        {"</think>\n\nHi.</think>", "T Hi.</think>"},
        {"\n\nx <think> y", "R x <think> y"},
    };
    RUN("hermes", "qwen3");
    run_rows(&(struct format_rows){"hermes", "qwen3", .in_reasoning = true, .rows = open, .n = ARRAY_LEN(open)});
}

static void test_qwen_coder(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"Ok.\n<tool_call>\n<function=get_weather>\n<parameter=city>\nParis \"x\"\n</parameter>\n<parameter=days>\n5\n"
         "</parameter>\n</function>\n</tool_call>",
         "T Ok.|C get_weather|A {\"city\":\"Paris \\\"x\\\"\",\"days\":5}|E ok"},
        {"<function=get_weather>\n<parameter=city>\na\n\nb\n</parameter>\n</function>\n</tool_call>",
         "C get_weather|A {\"city\":\"a\\n\\nb\"}|E ok"},
        {"<tool_call>\n<function=get_weather>\n<parameter=metric>\nTrue\n</parameter>\n<parameter=tags>\n[\"a\", "
         "\"b\"]\n</parameter>\n<parameter=where>\n{\"x\": 1}\n</parameter>\n<parameter=any>\n7\n</parameter>\n"
         "</function>\n</tool_call>\n<tool_call>\n<function=now>\n</function>\n</tool_call>",
         "C get_weather|A {\"metric\":true,\"tags\":[\"a\", \"b\"],\"where\":{\"x\": 1},\"any\":7}|E ok|C now|A {}|E "
         "ok"},
        {"<tool_call><function=get_weather><parameter=kind>5</parameter><parameter=note>null</parameter>"
         "<parameter=opt>nul</parameter><parameter=days>many</parameter><parameter=any>a b</parameter>"
         "</function></tool_call>x",
         "C get_weather|A {\"kind\":\"5\",\"note\":null,\"opt\":\"nul\",\"days\":\"many\",\"any\":\"a b\"}|E ok|T x"},
        {"<tool_call><function=get_weather><parameter=tags>['a\"', \"it's\", True, {'x\\n': None}]</parameter>"
         "<parameter=metric>['a</parameter></function></tool_call>",
         "C get_weather|A {\"tags\":[\"a\\\"\", \"it's\", true, {\"x\\n\": null}],\"metric\":\"['a\"}|E ok"},
        {"<tool_call><function=get_weather><parameter=tags>['\\xe9\\x41\\d', "
         "'\\ud83d\\ude00\\0']</parameter></function>",
         "C get_weather|A {\"tags\":[\"éA\\\\d\", \"😀\\u0000\"]}|E ok"}, /* all of Python's escapes */
        {"<tool_call><function=other><parameter=a><b></c></parameter></function></tool_call>",
         "C other|A {\"a\":\"<b></c>\"}|E ok"},
        {"<tool_call>\n<function=get_weather>\n<parameter=city>\nPar", "C get_weather|A {\"city\":\"Par|E cut"},
        {"<tool_call>\n<function=get_weather>\n<parameter=days>\n1", "C get_weather|A {\"days\":|E cut"},
        {"<tool_call>\n<function=now>\noops</function>\n</tool_call>x", "C now|A {oops|E cut|T x"},
        {"The tag <function= is", "T The tag <function= is"},
        {"<tool_call>{\"name\": \"now\", \"arguments\": {}}</tool_call>", "C now|A {}|E ok"},
    };
    RUN("qwen3-coder");
}

static void test_llama(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"{\"name\": \"get_weather\", \"parameters\": {\"city\": \"Paris\"}}",
         "C get_weather|A {\"city\": \"Paris\"}|E ok"},
        {"<|python_tag|>{\"type\": \"function\", \"name\": \"now\", \"parameters\": {}}", "C now|A {}|E ok"},
        {"{\"name\": \"now\", \"parameters\": {}}; {\"name\": \"now\", \"parameters\": {\"a\":1}}\n",
         "C now|A {}|E ok|C now|A {\"a\":1}|E ok"},
        {"{\"name\": \"unknown\", \"parameters\": {\"city\": \"P\"}} x",
         "T {\"name\": \"unknown\", \"parameters\": {\"city\": \"P\"}} x"},
        {"{\"a\": [1, 2]}\n", "T {\"a\": [1, 2]}\n"},
        {"{\"name\": 5, \"parameters\": {}}", "T {\"name\": 5, \"parameters\": {}}"},
        {"[1, 2]", "T [1, 2]"},
        {"{ not json", "T { not json"},
        {"Sure: {\"name\": \"now\", \"parameters\": {}}", "T Sure: {\"name\": \"now\", \"parameters\": {}}"},
        {"<function=get_weather>{\"city\": \"Rome\"}</function>", "C get_weather|A {\"city\": \"Rome\"}|E ok"},
        {"<function=now></function>.", "C now|A {}|E ok|T ."},
        {"[get_weather(city='Ro\\'me', days=3, metric=True, tags=[\"a\", 'b'], where={'x': None, 1: (2,)}), now()]",
         "C get_weather|A {\"city\":\"Ro'me\",\"days\":3,\"metric\":true,\"tags\":[\"a\",\"b\"],"
         "\"where\":{\"x\":null,\"1\":[2]}}|E ok|C now|A {}|E ok"},
        {"[get_weather(city=\"a\\u00e9\\ud83d\\ude00\\d\\x41\")]", "C get_weather|A {\"city\":\"aé😀\\\\dA\"}|E ok"},
        {"[get_weather(city=\"\\x4\x11\")]", "C get_weather|A {\"city\":\"\\\\x4\\u0011\"}|E ok"}, /* no digit */
        {"[other(a=1)]", "T [other(a=1)]"},
        {"[get_weather(city=f(1))]", "C get_weather|A {\"city\":f(1))]|E cut"},
        {"[get_weather(city=\"Pa", "C get_weather|A {\"city\":\"Pa|E cut"},
        {"<|python_tag|>now.call(a=\"b\")", "C now|A {\"a\":\"b\"}|E ok"},
        {"<|python_tag|>print(1)", "T <|python_tag|>print(1)"},
    };
    RUN("llama3");
}

static void test_mistral(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"[TOOL_CALLS] [{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}, \"id\": \"abcdef123\"}]",
         "C get_weather|A {\"city\": \"Paris\"}|E ok"},
        {"[TOOL_CALLS][{\"id\": \"abcdef123\", \"name\": \"x\", \"arguments\": {}}, {\"name\": \"y\", "
         "\"arguments\": {\"a\": 1}}]",
         "C x#abcdef123|A {}|E ok|C y|A {\"a\": 1}|E ok"},
        {"Hm.[TOOL_CALLS]x{\"a\": 1}[TOOL_CALLS]y[ARGS]{}", "T Hm.|C x|A {\"a\": 1}|E ok|C y|A {}|E ok"},
        {"[TOOL_CALLS]x[CALL_ID]abcdef123[ARGS]{\"a\": \"[TOOL_CALLS]\"}",
         "C x#abcdef123|A {\"a\": \"[TOOL_CALLS]\"}|E ok"},
        {"[TOOL_CALLS]x[ARGS]{\"a\": 1", "C x|A {\"a\": 1|E cut"},
        {"[TOOL_CALLS] what is it?", "T [TOOL_CALLS] what is it?"},
        {"[TOOL_CALLS]", "T [TOOL_CALLS]"},
        {"[TOOL_CALLS][{\"name\": \"x\", \"arguments\": {}}, oops", "C x|A {}|E ok|T oops"},
    };
    RUN("mistral");
    RUN("mistral-v11");
}

static void test_deepseek(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"Ok<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n{\"city\": "
         "\"Paris\"}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n```json\n{}\n```<｜tool▁"
         "call▁end｜><｜tool▁calls▁end｜>",
         "T Ok|C get_weather|A {\"city\": \"Paris\"}|E ok|C now|A {}|E ok"},
        {"<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{\"city\": \"Paris\"}<｜tool▁call▁end｜><"
         "｜tool▁call▁begin｜>now<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
         "C get_weather|A {\"city\": \"Paris\"}|E ok|C now|A {}|E ok"},
        {"<｜tool▁calls▁begin｜> none", "T <｜tool▁calls▁begin｜> none"},
        {"<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>now<｜tool▁sep｜>{\"a\"", "C now|A {\"a\"|E cut"},
    };
    static const struct row dsml[] = {
        {"\n\n<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"get_weather\">\n<｜DSML｜parameter name=\"city\" "
         "string=\"true\">5</｜DSML｜parameter>\n<｜DSML｜parameter name=\"any\" string=\"false\">[1]</｜DSML｜"
         "parameter>\n</｜DSML｜invoke>\n<｜DSML｜invoke name=\"now\">\n</｜DSML｜invoke>\n</｜DSML｜function_calls>",
         "C get_weather|A {\"city\":\"5\",\"any\":[1]}|E ok|C now|A {}|E ok"},
        {"<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"now\">\n</｜DSML｜invoke>\n</｜DSML｜tool_calls>",
         "C now|A {}|E ok"},
    };
    RUN("deepseek-v3");
    RUN("deepseek-v3.1");
    run_rows(&(struct format_rows){"deepseek-v3.2", .rows = dsml, .n = ARRAY_LEN(dsml)});
}

static void test_kimi(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"Ok.<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>{"
         "\"city\":"
         " \"Paris\"}<|tool_call_end|><|tool_call_begin|>functions.now:1<|tool_call_argument_begin|><|tool_call_end|>"
         "<|tool_calls_section_end|>",
         "T Ok.|C get_weather#functions.get_weather:0|A {\"city\": \"Paris\"}|E ok|C now#functions.now:1|A {}|E ok"},
        {"<|tool_calls_section_begin|><|tool_call_begin|>functions.a.b:12 <|tool_call_argument_begin|> {}",
         "C a.b#functions.a.b:12|A {}|E ok"},
        {"<think>so "
         "<|tool_calls_section_begin|><|tool_call_begin|>now:0<|tool_call_argument_begin|>{}<|tool_call_end|>",
         "R so|C now#now:0|A {}|E ok"},
    };
    RUN("kimi-k2", "kimi-k2");
}

static void test_tags(void **state)
{
    (void)state;
    static const struct row glm[] = {
        {"\n<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Paris</arg_value>\n<arg_key>days</arg_key>\n"
         "<arg_value>5</arg_value>\n</tool_call>\n<tool_call>now\n</tool_call>",
         "C get_weather|A {\"city\":\"Paris\",\"days\":5}|E ok|C now|A {}|E ok"},
        {"<tool_call>get_weather<arg_key>city</arg_key><arg_value> a\nb </arg_value></tool_call>",
         "C get_weather|A {\"city\":\" a\\nb \"}|E ok"},
        {"<tool_call>now</tool_call>", "C now|A {}|E ok"},
        {"<tool_call> and then </tool_call>", "T <tool_call> and then </tool_call>"},
    };
    static const struct row minimax[] = {
        {"Ok\n<minimax:tool_call>\n<invoke name=\"get_weather\">\n<parameter name=\"city\">Paris</parameter>\n"
         "<parameter name=\"tags\">[\"x\"]</parameter>\n</invoke>\n<invoke name=\"now\">\n</invoke>\n"
         "</minimax:tool_call>",
         "T Ok|C get_weather|A {\"city\":\"Paris\",\"tags\":[\"x\"]}|E ok|C now|A {}|E ok"},
    };
    static const struct row seed[] = {
        {"<seed:tool_call>\n<function=get_weather>\n<parameter=city>\nx</parameter>\n</function>\n</seed:tool_call>",
         "C get_weather|A {\"city\":\"\\nx\"}|E ok"},
    };
    static const struct row step[] = {
        {"<｜tool_calls_begin｜><｜tool_call_begin｜>function<｜tool_sep｜><steptml:invoke name=\"get_weather\">"
         "<steptml:parameter name=\"city\">Paris</steptml:parameter><steptml:parameter "
         "name=\"days\">2</steptml:parameter></steptml:invoke><｜tool_call_end｜><｜tool_call_begin｜>function<｜tool_"
         "sep｜><steptml:invoke name=\"now\"></steptml:invoke><｜tool_call_end｜><｜tool_calls_end｜>",
         "C get_weather|A {\"city\":\"Paris\",\"days\":2}|E ok|C now|A {}|E ok"},
    };
    run_rows(&(struct format_rows){"glm", .rows = glm, .n = ARRAY_LEN(glm)});
    run_rows(&(struct format_rows){"minimax-m2", .rows = minimax, .n = ARRAY_LEN(minimax)});
    run_rows(&(struct format_rows){"seed-oss", .rows = seed, .n = ARRAY_LEN(seed)});
    run_rows(&(struct format_rows){"step3", .rows = step, .n = ARRAY_LEN(step)});
}

static void test_lists(void **state)
{
    (void)state;
    const struct format_rows formats[] = {
        {"granite", .rows = &(struct row){"<|tool_call|>[{\"name\": \"now\", \"arguments\": {}}]", "C now|A {}|E ok"},
         .n = 1},
        {"phi4-mini",
         .rows = &(struct row){"<|tool_call|>[{\"name\": \"now\", \"arguments\": {}}]<|/tool_call|>x",
                               "C now|A {}|E ok|T x"},
         .n = 1},
        {"granite-20b-fc",
         .rows = &(struct row){"<function_call> {\"name\": \"now\", \"arguments\": {}}", "C now|A {}|E ok"}, .n = 1},
        {"nemotron",
         .rows = &(struct row){"<TOOLCALL>[{\"name\": \"now\", \"arguments\": {}}, {\"name\": \"b\", \"arguments\": "
                               "{\"x\": 1}}]</TOOLCALL>",
                               "C now|A {}|E ok|C b|A {\"x\": 1}|E ok"},
         .n = 1},
        {"minimax-m1",
         .rows = &(struct row){"<tool_calls>\n{\"name\": \"now\", \"arguments\": {}}\n{\"name\": \"b\", "
                               "\"arguments\": {\"x\": 1}}\n</tool_calls>",
                               "C now|A {}|E ok|C b|A {\"x\": 1}|E ok"},
         .n = 1},
        {"jamba",
         .rows = &(struct row){"<tool_calls>[\n    {\"name\": \"now\", \"arguments\": {}}\n]</tool_calls>",
                               "C now|A {}|E ok"},
         .n = 1},
        {"cohere", "cohere",
         .rows = &(struct row){"<|START_THINKING|>I will.<|END_THINKING|><|START_ACTION|>[\n    {\"tool_call_id\": "
                               "\"0\", \"tool_name\": \"now\", \"parameters\": {}}\n]<|END_ACTION|>",
                               "R I will.|C now#0|A {}|E ok"},
         .n = 1},
        {"internlm2",
         .rows = &(struct row){"Ok<|action_start|><|plugin|>\n{\"name\": \"now\", \"parameters\": {}}<|action_end|>",
                               "T Ok|C now|A {}|E ok"},
         .n = 1},
        {"apertus", "apertus",
         .rows = &(struct row){"<|inner_prefix|>Hm.<|tools_prefix|>[{\"now\": {}}, {\"get_weather\": {\"city\": "
                               "\"P\"}}]<|tools_suffix|>",
                               "R Hm.|C now|A {}|E ok|C get_weather|A {\"city\": \"P\"}|E ok"},
         .n = 1},
        {"apertus", .rows = &(struct row){"<|tools_prefix|>[{\"now\": 1}]", "T <|tools_prefix|>[{\"now\": 1}]"},
         .n = 1},
        {"gigachat3",
         .rows = &(struct row){"Ok<|message_sep|>\n\nfunction call<|role_sep|>\n{\"name\": \"now\", \"arguments\": "
                               "{}}",
                               "T Ok|C now|A {}|E ok"},
         .n = 1},
        {"gigachat3",
         .rows = &(struct row){"function call<|role_sep|>\n{\"name\": \"now\", \"arguments\": {}}", "C now|A {}|E ok"},
         .n = 1},
        {"gigachat3.1",
         .rows = &(struct row){"<|function_call|>{\"name\": \"now\", \"arguments\": {}}", "C now|A {}|E ok"}, .n = 1},
        {"functools", .rows = &(struct row){"functools[{\"name\": \"now\", \"arguments\": {}}]", "C now|A {}|E ok"},
         .n = 1},
        {"xlam", .rows = &(struct row){"[{\"name\": \"now\", \"arguments\": {}}]", "C now|A {}|E ok"}, .n = 1},
        {"xlam",
         .rows = &(struct row){"[{\"name\": \"nix\", \"arguments\": {}}]", "T [{\"name\": \"nix\", "
                                                                           "\"arguments\": {}}]"},
         .n = 1},
        {"generic", .rows = &(struct row){"```json\n{\"name\": \"now\", \"parameters\": {}}\n```", "C now|A {}|E ok"},
         .n = 1},
        {"generic", .rows = &(struct row){"```json\n{\"a\": 1}\n```", "T ```json\n{\"a\": 1}\n```"}, .n = 1},
    };
    for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
        run_rows(&formats[i]);
    }
}

static void test_notations(void **state)
{
    (void)state;
    static const struct row gemma4[] = {
        {"<|channel>thought\nhm\n<channel|>Ok<|tool_call>call:get_weather{city:<|\"|>Par\"is<|\"|>,days:3,tags:[<|\"|>"
         "a<|\"|>,<|\"|>b<|\"|>],where:{x:true}}<tool_call|><|tool_call>call:now{}<tool_call|>",
         "R hm|T Ok|C get_weather|A {\"city\":\"Par\\\"is\",\"days\":3,\"tags\":[\"a\",\"b\"],\"where\":{\"x\":true}}|"
         "E ok|C now|A {}|E ok"},
        {"<|tool_call>call:get_weather{city:<|\"|>Par", "C get_weather|A {\"city\":\"Par|E cut"},
    };
    static const struct row function_gemma[] = {
        {"<start_function_call>call:get_weather{city:<escape>New York<escape>,days:-2}<end_function_call>",
         "C get_weather|A {\"city\":\"New York\",\"days\":-2}|E ok"},
    };
    static const struct row tool_code[] = {
        {"Sure.\n```tool_code\nget_weather(city=\"Paris\")\nnow()\n```",
         "T Sure.|C get_weather|A {\"city\":\"Paris\"}|E ok|C now|A {}|E ok"},
        {"```tool_code\nprint(1)\n```", "T ```tool_code\nprint(1)\n```"},
    };
    static const struct row lfm2[] = {
        {"<|tool_call_start|>[get_weather(city=\"Paris\"), now()]<|tool_call_end|>Checking.",
         "C get_weather|A {\"city\":\"Paris\"}|E ok|C now|A {}|E ok|T Checking."},
    };
    static const struct row olmo[] = {
        {"<function_calls>\nget_weather(city=\"Paris\", days=1)\nnow()\n</function_calls>",
         "C get_weather|A {\"city\":\"Paris\",\"days\":1}|E ok|C now|A {}|E ok"},
    };
    static const struct row functionary[] = {
        {"all\nHello", "T Hello"},
        {"get_weather\n{\"city\": \"Rome\"}>>>now\n{}", "C get_weather|A {\"city\": \"Rome\"}|E ok|C now|A {}|E ok"},
        {"all\nWait.>>>now\n{}", "T Wait.|C now|A {}|E ok"},
        {">>> print\n1", "T >>> print\n1"},
    };
    run_rows(&(struct format_rows){"gemma4", "gemma4", .rows = gemma4, .n = ARRAY_LEN(gemma4)});
    run_rows(&(struct format_rows){"functiongemma", .rows = function_gemma, .n = ARRAY_LEN(function_gemma)});
    run_rows(&(struct format_rows){"gemma", .rows = tool_code, .n = ARRAY_LEN(tool_code)});
    run_rows(&(struct format_rows){"lfm2", .rows = lfm2, .n = ARRAY_LEN(lfm2)});
    run_rows(&(struct format_rows){"olmo3", .rows = olmo, .n = ARRAY_LEN(olmo)});
    run_rows(&(struct format_rows){"functionary-v3.2", .rows = functionary, .n = ARRAY_LEN(functionary)});
}

static void test_harmony(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"<|channel|>analysis<|message|>Need it.<|end|><|start|>assistant<|channel|>final<|message|>Hi.<|return|>",
         "R Need it.|T Hi."},
        {"<|channel|>analysis<|message|>So<|end|><|start|>assistant<|channel|>commentary to=functions.get_weather "
         "<|constrain|>json<|message|>{\"city\": \"Paris\"}<|call|>",
         "R So|C get_weather|A {\"city\": \"Paris\"}|E ok"},
        {"<|channel|>commentary<|message|>First.<|end|><|start|>assistant to=functions.now<|channel|>commentary "
         "json<|message|>{}<|call|>",
         "T First.|C now|A {}|E ok"},
        {"Just text", "T Just text"},
        {"<|channel|>final<|message|>cut", "T cut"},
        {"<|channel|>fin", ""},
        {"<|channel|>commentary to=functions.now <|constrain|>json<|message|>{\"a\": ", "C now|A {\"a\": |E cut"},
        {"<|channel|>commentary to=functions.now<|message|><|call|>", "C now|A {}|E ok"},
        {"<|channel|>commentary to=functions.now<|message|>{\"a\" 1}<|call|><|start|>assistant<|channel|>final<|message"
         "|>x",
         "C now|A {\"a\" 1}|E cut|T x"},
    };
    RUN("harmony", "harmony");
}

static void test_reasoning(void **state)
{
    (void)state;
    const struct format_rows formats[] = {
        {NULL, "magistral", .rows = &(struct row){"[THINK]a\n[/THINK]b", "R a|T b"}, .n = 1},
        {NULL, "seed-oss", .rows = &(struct row){"<seed:think>a</seed:think>b", "R a|T b"}, .n = 1},
        {NULL, "granite", .rows = &(struct row){"<think>a</think>\n<response>b</response>", "R a|T b"}, .n = 1},
        {NULL, "granite-3.2",
         .rows = &(struct row){"Here's my thought process:\na\n\nHere is my response:\nb", "R a|T b"}, .n = 1},
        {NULL, "hunyuan", .rows = &(struct row){"<think>\na\n</think>\n<answer>\nb\n</answer>", "R a|T b"}, .n = 1},
        {NULL, "cohere",
         .rows = &(struct row){"<|START_THINKING|>a<|END_THINKING|><|START_RESPONSE|>b<|END_RESPONSE|>", "R a|T b"},
         .n = 1},
        {NULL, "exaone-deep", .rows = &(struct row){"<thought>\na\n</thought>\n\nb", "R a|T b"}, .n = 1},
        {NULL, "kimi-vl", .rows = &(struct row){"◁think▷a◁/think▷b", "R a|T b"}, .n = 1},
        {NULL, "gemma", .rows = &(struct row){"<|channel>thought\na\n<channel|>b", "R a|T b"}, .n = 1},
        {NULL, "apriel",
         .rows = &(struct row){"Here are my reasoning steps:\na\n[BEGIN FINAL RESPONSE]\nb\n[END FINAL RESPONSE]",
                               "R a|T b"},
         .n = 1},
    };
    for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
        run_rows(&formats[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_hermes),
        cmocka_unit_test(test_hermes_reasoning),
        cmocka_unit_test(test_qwen_coder),
        cmocka_unit_test(test_llama),
        cmocka_unit_test(test_mistral),
        cmocka_unit_test(test_deepseek),
        cmocka_unit_test(test_kimi),
        cmocka_unit_test(test_tags),
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_notations),
        cmocka_unit_test(test_harmony),
        cmocka_unit_test(test_reasoning),
        cmocka_unit_test(test_hermes_without_tags),
        cmocka_unit_test(test_json_answer_streams),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
