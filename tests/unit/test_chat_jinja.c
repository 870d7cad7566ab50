/* The Jinja engine: what templates give (rows of template and text, whose texts are jinja2's), errors with their lines,
 * and the budgets of steps, output, memory and depth. The live comparison is tests/parity/check_jinja.py. */
#include "base/array.h"
#include "base/utf8.h"
#include "chat/jinja.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#define NOW_S 1700000000 /* 2023-11-14 22:13:20 UTC */

static const char context_text[] =
    "{\"messages\": [{\"role\": \"system\", \"content\": \"Be brief.\"}, {\"role\": \"user\", \"content\": "
    "\"h\\u00e9llo <b>\"}, {\"role\": \"assistant\", \"content\": null}], \"n\": 7, \"f\": 2.5, \"s\": \"Hello "
    "World\", "
    "\"u\": \"\\u00e9\\u65e5\\ud83d\\ude00\", \"xs\": [3, 1, 2], \"ws\": [\"b\", \"A\", \"c\", \"a\"], \"d\": {\"b\": "
    "2, "
    "\"a\": [1, null, true], \"c\": \"<\\u00e9>\"}, \"people\": [{\"name\": \"Ann\", \"age\": 31}, {\"name\": \"bob\", "
    "\"age\": 25}, {\"name\": \"Cid\", \"age\": 31}], \"empty\": \"\", \"nothing\": null, \"yes\": true}";

struct row {
    const char *template, *text;
};

static const struct row whitespace[] = {
    {"{% if yes %}\n  a\n{% endif %}\nb", "  a\nb"},
    {"  {% if yes %}  \nx\n  {% endif %}\n y", "  \nx\n y"},
    {"  {%+ if yes %}x{%+ endif %}", "  x"},
    {"{% if yes +%}\nx{% endif %}", "\nx"},
    {"a  {%- if yes -%}  b  {%- endif -%}  c", "abc"},
    {"a \n {{- n -}} \n b", "a7b"},
    {"a {{ n }}\n", "a 7"},
    {"a\n\n", "a\n"},
    {"{# comment #}\nx{#- y -#}  z", "xz"},
    {"  {# alone #}\nx", "x"},
    {"x {#- {{ n }} {% bad %} -#} y", "xy"},
    {"{% raw %}{{ n }} {% if %} {# #}{% endraw %}|", "{{ n }} {% if %} {# #}|"},
    {"{% raw -%}  x  {%- endraw %} y", "x y"},
    {"{%- for x in xs %}\n- {{ x }}\n{%- endfor %}", "- 3- 1- 2"},
    {"{% set a = 1 %}\n{% set b = 2 %}\n{{ a + b }}\n\n", "3\n"},
    {"{{ \"{{\" }} { % } {{ '}}' }}", "{{ { % } }}"},
    {"\t{% if yes %}\t{% endif %}\t|", "\t\t|"},
};

static const struct row loops[] = {
    {"{% for x in xs %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ "
     "loop.last }}{{ loop.length }}{{ loop.depth }};{% endfor %}",
     "1032TrueFalse31;2121FalseFalse31;3210FalseTrue31;"},
    {"{% for x in xs %}{{ loop.previtem|default('-') }}<{{ x }}>{{ loop.nextitem|default('-') }} {% endfor %}",
     "-<3>1 3<1>2 1<2>- "},
    {"{% for x in [1, 1, 2, 2, 1] %}{{ loop.changed(x) }} {{ loop.cycle('a', 'b') }};{% endfor %}",
     "True a;False b;True a;False b;True a;"},
    {"{% for x in [] %}x{% else %}none{% endfor %}", "none"},
    {"{% for x in xs if x > 1 %}{{ x }}/{{ loop.length }} {% endfor %}", "3/2 2/2 "},
    {"{% for x in xs if x > 9 %}{{ x }}{% else %}nothing{% endfor %}", "nothing"},
    {"{% for x in range(10) %}{% if x == 3 %}{% continue %}{% endif %}{% if x == 6 %}{% break %}{% endif %}{{ x }}{% "
     "endfor %}",
     "01245"},
    {"{% for a in xs %}{% for b in ws %}{% if b == 'c' %}{% break %}{% endif %}{{ a }}{{ b }} {% endfor %}|{% endfor "
     "%}",
     "3b 3A |1b 1A |2b 2A |"},
    {"{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", "b=2;a=[1, None, True];c=<\303\251>;"},
    {"{% for k, v in d|dictsort %}{{ k }};{% endfor %}", "a;b;c;"},
    {"{% for c in u %}[{{ c }}]{% endfor %}", "[\303\251][\346\227\245][\360\237\230\200]"},
    {"{% for x in [[1, [2]], [3, []]] recursive %}{{ x[0] if x is sequence else x }}({% if x is sequence %}{{ "
     "loop(x[1]) }}{% endif %}{{ loop.depth }}){% endfor %}",
     "1(2(2)1)3(1)"},
    {"{% for m in messages %}{{ loop.parent is defined }}{{ m.role }}{% endfor %}",
     "FalsesystemFalseuserFalseassistant"},
    {"{% for (a, b), c in [((1, 2), 3)] %}{{ a }}{{ b }}{{ c }}{% endfor %}", "123"},
    {"{% for x in range(10, 0, -3) %}{{ x }} {% endfor %}{{ range(5)[1:4]|list }} {{ range(0, 10, 2)|length }}",
     "10 7 4 1 [1, 2, 3] 5"},
    {"{% for x in nothing_at_all %}x{% endfor %}|", "|"},
};

static const struct row scopes[] = {
    {"{% set x = 1 %}{% for i in xs %}{% set x = i %}{% endfor %}{{ x }}", "1"},
    {"{% set ns = namespace(x=0, seen=[]) %}{% for i in xs %}{% set ns.x = ns.x + i %}{% set ns.seen = ns.seen + [i] "
     "%}{% endfor %}{{ ns.x }} {{ ns.seen }}",
     "6 [3, 1, 2]"},
    {"{% set ns = namespace() %}{% set ns.found = false %}{% for i in xs if not ns.found %}{% set ns.found = true %}{{ "
     "i }}{% endfor %}",
     "3"},
    {"{% with a = 1, b = n %}{{ a }}{{ b }}{% endwith %}{{ a is defined }}", "17False"},
    {"{% if yes %}{% set z = 5 %}{% endif %}{{ z }}", "5"},
    {"{% set a, b = 1, 2 %}{{ b }}{{ a }}", "21"},
    {"{% set block %}x{{ n }}{% endset %}{{ block }} {{ block is string }}", "x7 True"},
    {"{% set block | upper | trim %} abc {% endset %}[{{ block }}]", "[ABC]"},
    {"{% filter upper %}a{{ s }}{% endfilter %}", "AHELLO WORLD"},
    {"{% set loop_outer = 1 %}{% for i in [1] %}{{ loop_outer }}{% endfor %}", "1"},
    {"{% block title %}in a block {{ n }}{% endblock %}", "in a block 7"},
    {"{% generation %}answer {{ n }}{% endgeneration %}!", "answer 7!"},
    {"{% for m in messages %}{% generation %}{{ m.role }}{% endgeneration %},{% endfor %}", "system,user,assistant,"},
};

static const struct row macros[] = {
    {"{% macro f(a, b=2, c='x') %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ f(1) }} {{ f(1, 5) }} {{ f(c=3, a=4) }} {{ f() "
     "}}",
     "12x 15x 423 2x"},
    {"{% macro f(a) %}{{ a }} {{ varargs }} {{ kwargs }}{% endmacro %}{{ f(1, 2, 3, k=4) }}", "1 (2, 3) {'k': 4}"},
    {"{% macro f(a) %}{{ a }}{{ caller() }}{% endmacro %}{% call f(1) %}body {{ n }}{% endcall %}", "1body 7"},
    {"{% macro f() %}{{ caller('x', y=2) }}{% endmacro %}{% call(a, y) f() %}{{ a }}-{{ y }}{% endcall %}", "x-2"},
    {"{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(4) }}", "43210"},
    {"{% macro f(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ f(1) }}", "11"},
    {"{% macro f() %}{{ n }}{% set n = 1 %}{% endmacro %}{{ f() }}|{{ n }}", "7|7"},
    {"{% macro f(x) %}{{ x|upper }}{% endmacro %}{{ ['a', 'b']|map('upper')|join }}{{ f('c')|lower }} {{ f.name }} {{ "
     "f.arguments }}",
     "ABc f ('x',)"},
    {"{% set m %}{% macro g() %}in{% endmacro %}{{ g() }}{% endset %}{{ m }}", "in"},
    {"{{ cycler('a', 'b').next() }} {% set j = joiner(', ') %}{{ j() }}1{{ j() }}2{{ j() }}3", "a 1, 2, 3"},
};

static const struct row json[] = {
    {"{{ d|tojson }}", "{\"b\": 2, \"a\": [1, null, true], \"c\": \"<\303\251>\"}"},
    {"{{ d|tojson(indent=2) }}",
     "{\n  \"b\": 2,\n  \"a\": [\n    1,\n    null,\n    true\n  ],\n  \"c\": \"<\303\251>\"\n}"},
    {"{{ d|tojson(sort_keys=true) }}", "{\"a\": [1, null, true], \"b\": 2, \"c\": \"<\303\251>\"}"},
    {"{{ d|tojson(separators=(',', ':')) }}", "{\"b\":2,\"a\":[1,null,true],\"c\":\"<\303\251>\"}"},
    {"{{ d|tojson(separators=(' ;', ' = '), indent=1, sort_keys=true) }}",
     "{\n \"a\" = [\n  1 ;\n  null ;\n  true\n ] ;\n \"b\" = 2 ;\n \"c\" = \"<\303\251>\"\n}"},
    {"{{ d|tojson(ensure_ascii=true) }} {{ u|tojson(ensure_ascii=true) }}",
     "{\"b\": 2, \"a\": [1, null, true], \"c\": \"<\\u00e9>\"} \"\\u00e9\\u65e5\\ud83d\\ude00\""},
    {"{{ u|tojson }} {{ \"a\\\"b\\\\c/\n\\x01\"|tojson }}",
     "\"\303\251\346\227\245\360\237\230\200\" \"a\\\"b\\\\c/\\n\\u0001\""},
    {"{{ [1, 2.0, 1e100, -0.0, true, none, [], {}, (1, 2)]|tojson }}",
     "[1, 2.0, 1e+100, -0.0, true, null, [], {}, [1, 2]]"},
    {"{{ []|tojson(indent=4) }} {{ {'a': []}|tojson(indent=4) }} {{ {'a': {'b': 1}}|tojson(4) if false else 0 }}",
     "[] {\n    \"a\": []\n} 0"},
    {"{{ {1: 2, none: 3, true: 4, 2.5: 5}|tojson }}", "{\"1\": 4, \"null\": 3, \"2.5\": 5}"},
    {"{{ \"<script>&'\"|tojson }}", "\"<script>&'\""},
};

static const struct row expressions[] = {
    {"{{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 2 ** 10 }} {{ 1 / 4 }} {{ 2 ** -1 }} {{ 1e16 }} {{ 0.1 + 0.2 }} {{ "
     "0.0 }} {{ 0.0 // 1 }} {{ -0.0 }}",
     "3 -4 2 1024 0.25 0.5 1e+16 0.30000000000000004 0.0 0.0 -0.0"},
    {"{{ 1 < 2 < 3 }} {{ 'a' in s }} {{ 'e' in s }} {{ 3 not in xs }} {{ not '' }} {{ '' or 'x' }} {{ 0 and 1 }}",
     "True False True False True x 0"},
    {"{{ 'a' if yes else 'b' }} {{ 'a' if not yes }}|", "a |"},
    {"{{ s[0] }} {{ s[-1] }} {{ s[::-1] }} {{ s[2:5] }} {{ xs[1:] }} {{ xs[::-1] }} {{ u[1] }} {{ u[::-1] }}",
     "H d dlroW olleH llo [1, 2] [2, 1, 3] \346\227\245 \360\237\230\200\346\227\245\303\251"},
    {"{{ d.b }} {{ d['b'] }} {{ d.get('zz', 'q') }} {{ d.missing is defined }} {{ d['a'][-1] }} {{ messages[0]['role'] "
     "}} {{ messages[-1].content is none }}",
     "2 2 q False True system True"},
    {"{{ '%s is %d and %.2f%%' % ('x', 3, 2.5) }} {{ '{0} {1:>5} {name!r}'.format('a', 'b', name='c') }}",
     "x is 3 and 2.50% a     b 'c'"},
    {"{{ '{:05.1f}|{:,}|{:^7}|{:*<4}|{:+d}|{:#x}|{:%}'.format(3.14159, 1234567, 'mid', 'a', 5, 255, 0.5) }}",
     "003.1|1,234,567|  mid  |a***|+5|0xff|50.000000%"},
    {"{{ s.split() }} {{ s.upper() }} {{ s.replace('l', 'L') }} {{ ' x '.strip() }} {{ s.startswith('He') }} {{ "
     "'a,b'.split(',') }} {{ s.find('W') }} {{ 'x\ny'.splitlines() }}",
     "['Hello', 'World'] HELLO WORLD HeLLo WorLd x True ['a', 'b'] 6 ['x', 'y']"},
    {"{{ xs|sort }} {{ ws|sort }} {{ ws|sort(case_sensitive=true) }} {{ xs|sort(reverse=true) }} {{ "
     "people|sort(attribute='age,name')|map(attribute='name')|list }}",
     "[1, 2, 3] ['A', 'a', 'b', 'c'] ['A', 'a', 'b', 'c'] [3, 2, 1] ['bob', 'Ann', 'Cid']"},
    {"{{ xs|sum }} {{ xs|max }} {{ xs|min }} {{ xs|first }} {{ xs|last }} {{ xs|join('-') }} {{ xs|length }} {{ "
     "xs|reverse|list }} {{ [1, 1, 2]|unique|list }}",
     "6 3 1 3 2 3-1-2 3 [2, 1, 3] [1, 2]"},
    {"{{ people|selectattr('age', 'gt', 30)|map(attribute='name')|join(', ') }} {{ people|rejectattr('age', 'equalto', "
     "31)|list|length }} {{ people|groupby('age')|map('first')|list }}",
     "Ann, Cid 1 [25, 31]"},
    {"{{ messages|map(attribute='role')|list }} {{ messages|selectattr('role', 'in', ['user', 'system'])|list|length "
     "}} {{ xs|select('odd')|list }} {{ xs|map('string')|list }}",
     "['system', 'user', 'assistant'] 2 [3, 1] ['3', '1', '2']"},
    {"{{ xs|batch(2, 0)|list }} {{ xs|slice(2)|list }} {{ d|items|list }} {{ s|wordcount }} {{ s|truncate(8) }} {{ "
     "s|center(15) }}| {{ 'a\nb'|indent(2, true) }}",
     "[[3, 1], [2, 0]] [[3, 1], [2]] [('b', 2), ('a', [1, None, True]), ('c', '<\303\251>')] 2 Hello World   Hello "
     "World  |   a\n  b"},
    {"{{ nothing|default('x') }} {{ nothing|default('x', true) }} {{ missing|default('y') }} {{ missing }}|{{ missing "
     "is undefined }} {{ nothing is none }} {{ xs is sequence }} {{ d is mapping }} {{ s is string }} {{ n is number "
     "}} {{ f is float }} {{ n is integer }} {{ yes is boolean }} {{ xs is iterable }} {{ 4 is divisibleby(2) }}",
     "None x y |True True True True True True True True True True True"},
    {"{{ '<a & \"b\">'|e }} {{ '<p>x&lt;y&#33;</p>'|striptags }} {{ 'a b/c'|urlencode }} {{ 'x'|safe }} {{ {'class': "
     "'a', 'id': none}|xmlattr }}",
     "&lt;a &amp; &#34;b&#34;&gt; x<y! a%20b/c x  class=\"a\""},
    {"{{ '42'|int + 1 }} {{ 'x'|int(7) }} {{ '0x1f'|int(0, 16) }} {{ '2.5'|float }} {{ 2.567|round(2) }} {{ 2.5|round "
     "}} {{ 2.1|round(0, 'ceil')|int }} {{ -3|abs }} {{ 'abc'|list }} {{ 3|string + 'x' }}",
     "43 7 31 2.5 2.57 2.0 3 3 ['a', 'b', 'c'] 3x"},
    {"{{ s|lower|title }} {{ 'stra\\u00dfe'.upper() }} {{ '\\u01c6\\u00df\\u0130'.casefold() }} {{ 'ab'.translate({97: "
     "'X', 98: none}) }} {{ 'the quick brown fox'|wordwrap(9) }} {{ u|length }}",
     "Hello World STRASSE \307\206ssi\314\207 X the quick\nbrown fox 3"},
    {"{{ [1, 'a', none, 2.0, true, [(1,)], {'k': \"it's\"}] }} {{ (1, 2) ~ 'x' }} {{ {'a': 1} == {'a': 1.0} }} {{ [1, "
     "2] < [1, 3] }}",
     "[1, 'a', None, 2.0, True, [(1,)], {'k': \"it's\"}] (1, 2)x True True"},
    {"{{ [none, true]|join('/') }} {{ '%s' % none }} {{ none ~ '' }} {{ 'a' ~ 1 ~ 2.5 }} {{ '\\u00e9\\x41' }} {{ 'a' "
     "'b' }} {{ 1_000 }} {{ dict(a=1, b=2) }}",
     "None/True None None a12.5 \303\251A ab 1000 {'a': 1, 'b': 2}"},
    {"{{ '{:.3} {:012,.1f} {:#.3g} {:_x} {:04,} {:.0%}'.format(-334.0, 1234.5, 2.0, 65535, 1, 0.256) }} {{ "
     "'%5.1f|%-6d|%+d|%#o|%%|%r|%(k)s' % {'k': 1} if false else '%5.1f|%-6d|%+d|%#o|%%|%r' % (2.25, 3, 4, 8, 'q') }}",
     "-3.34e+02 00,001,234.5 2.00 ffff 0,001 26%   2.2|3     |+4|0o10|%|'q'"},
    {"{{ 'co-operate-e-mail'|wordwrap(2) }} {{ '&#x80;&#6;&#65 &ampx'|striptags }} {{ '0x1'|int(base=missing) }} {{ "
     "{'a\\x00': 1}|xmlattr|length }} {{ ('a'|e)|list }} {{ 2.55|round(1.0, 'floor') }}",
     "co\n-o\npe\nra\nte\n-\ne-\nma\nil \342\202\254A &x 0 7 ['a'] 2.5"},
};

/* ---- rendering ---- */

/* The text, or the error in *err (then the buffer may hold the part before it). */
static bool render_with(const char *template, const char *context_json, const struct jinja_limits *limits,
                        struct buf *out, struct error *err)
{
    struct json *context = json_parse(str_of(context_json), 0, err);
    assert_non_null(context);
    struct jinja_template *t = jinja_compile(str_of(template), err);
    bool ok = t && jinja_render(t, context, NOW_S, limits, out, err);
    jinja_free(t);
    json_free(context);
    return ok;
}

static void expect_text(const char *template, const char *context_json, const char *text)
{
    struct error err = {0};
    struct buf out;
    buf_init(&out, (size_t)1 << 20);
    if (!render_with(template, context_json, NULL, &out, &err)) {
        fail_msg("%s\n  failed: %s", template, err.msg);
    }
    buf_putc(&out, '\0');
    if (strcmp(out.data, text) != 0) {
        fail_msg("%s\n  want %s\n  got  %s", template, text, out.data);
    }
    buf_release(&out);
}

static void expect_error(const char *template, const struct jinja_limits *limits, enum error_code code,
                         const char *message)
{
    struct error err = {0};
    struct buf out;
    buf_init(&out, (size_t)1 << 24);
    if (render_with(template, context_text, limits, &out, &err)) {
        fail_msg("%s\n  gave %zu bytes of text, but should fail: %s", template, out.len, message);
    }
    if (err.code != code || strcmp(err.msg, message) != 0) {
        fail_msg("%s\n  want %d %s\n  got  %d %s", template, code, message, err.code, err.msg);
    }
    buf_release(&out);
}

static void expect_rows(const struct row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        expect_text(rows[i].template, context_text, rows[i].text);
    }
}

static void test_rows(void **state)
{
    (void)state;
    expect_rows(whitespace, ARRAY_LEN(whitespace));
    expect_rows(loops, ARRAY_LEN(loops));
    expect_rows(scopes, ARRAY_LEN(scopes));
    expect_rows(macros, ARRAY_LEN(macros));
    expect_rows(json, ARRAY_LEN(json));
    expect_rows(expressions, ARRAY_LEN(expressions));
}

static void test_newlines_of_source(void **state)
{
    (void)state;
    expect_text("a\r\nb\rc\n", "{}", "a\nb\nc");
    expect_text("{% if 1 %}\r\nx\r\n{% endif %}\r\n", "{}", "x\n");
    expect_text("", "{}", "");
    expect_text("\n", "{}", "");
}

static void test_appends(void **state)
{
    (void)state;
    struct error err = {0};
    struct buf out;
    struct jinja_limits limits = {.max_output = 3}; /* of what the template writes */
    buf_init(&out, 100);
    buf_puts(&out, "before ");
    assert_true(render_with("{{ 'abc' }}", "{}", &limits, &out, &err));
    assert_string_equal(out.data, "before abc");
    buf_release(&out);
}

static void test_full_buffer(void **state)
{
    (void)state;
    struct error err = {0};
    struct buf out;
    buf_init(&out, 4);
    assert_false(render_with("{{ 'abcdef' }}", "{}", NULL, &out, &err));
    assert_int_equal(err.code, ERR_TOO_LARGE);
    buf_release(&out);
}

static void test_time(void **state)
{
    (void)state;
    assert_int_equal(setenv("TZ", "UTC", 1), 0);
    tzset();
    expect_text("{{ strftime_now('%Y-%m-%d %H:%M:%S') }}", "{}", "2023-11-14 22:13:20");
    expect_text("{{ strftime_now('%d %b %Y, %A, %j %f %%') }}", "{}", "14 Nov 2023, Tuesday, 318 000000 %");
    expect_text("[{{ strftime_now('') }}] [{{ strftime_now('h\xC3\xA9 %y') }}]", "{}", "[] [h\xC3\xA9 23]");
    expect_text("{% set d = strftime_now('%d') | int %}{{ d + 1 }}", "{}", "15");
    assert_int_equal(setenv("TZ", "XYZ-5", 1), 0); /* five hours east */
    tzset();
    expect_text("{{ strftime_now('%d %H') }}", "{}", "15 03");
    expect_error("{{ strftime_now('%c' * 100) }}", NULL, ERR_INVALID,
                 "template line 1: what strftime_now gives is too long.");
    expect_error("\n{{ strftime_now('x' * 1000) }}", NULL, ERR_INVALID,
                 "template line 2: the format of strftime_now is too long.");
}

/* ---- errors ---- */

struct failure {
    const char *template, *message;
};

static void expect_failures(const struct failure *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        expect_error(rows[i].template, NULL, ERR_INVALID, rows[i].message);
    }
}

static void test_syntax_errors(void **state)
{
    (void)state;
    static const struct failure rows[] = {
        {"{% if yes %}\n{% for x in xs %}\n{% endif %}", "template line 3: Encountered unknown tag 'endif'."},
        {"a\n{% if yes %}b", "template line 2: Unexpected end of template. Expected 'endif' for the block of line 2."},
        {"{{ 1 +\n }}", "template line 2: unexpected 'end of print statement'"},
        {"{{ 'abc }}", "template line 1: unexpected char ''' at 3"},
        {"{{ (1, 2] }}", "template line 1: unexpected ']'"},
        {"\n\n{{ x | nosuchfilter }}", "template line 3: No filter named 'nosuchfilter'."},
        {"{{ x is nosuchtest }}", "template line 1: No test named 'nosuchtest'."},
        {"{% nosuchtag %}", "template line 1: Encountered unknown tag 'nosuchtag'."},
        {"{% break %}", "template line 1: break or continue outside of a loop"},
        {"{% set true = 1 %}", "template line 1: can't assign to 'true'"},
        {"{% raw %}\n{{ x }}", "template line 1: Missing end of raw directive"},
        {"x {# never\nclosed", "template line 1: Missing end of comment tag"},
        {"{% block a %}{% endblock %}\n{% block a %}{% endblock %}", "template line 2: block 'a' defined twice"},
        {"{% endfor %}", "template line 1: Encountered unknown tag 'endfor'."},
        {"{{ a b }}", "template line 1: expected token 'end of print statement', got 'b'"},
        {"{% for x %}{% endfor %}", "template line 1: expected token 'in', got 'end of statement block'"},
        {"{{ 9223372036854775808 }}", "template line 1: the integer has more than 64 bits."},
        {"{% macro f(a=1, b) %}{% endmacro %}", "template line 1: non-default argument follows default argument"},
        {"{{ x.y.  }}", "template line 1: expected name or number"},
    };
    expect_failures(rows, ARRAY_LEN(rows));
}

static void test_render_errors(void **state)
{
    (void)state;
    static const struct failure rows[] = {
        {"{{ nowhere.x }}", "template line 1: 'nowhere' is undefined"},
        {"\n{{ d.missing.x }}", "template line 2: 'dict object' has no attribute 'missing'"},
        {"{{ xs[9].x }}", "template line 1: list object has no element 9"},
        {"{{ 1 + 's' }}", "template line 1: unsupported operand type(s) for +: 'int' and 'str'"},
        {"{{ 'a' < 1 }}", "template line 1: '<' not supported between instances of 'str' and 'int'"},
        {"a\nb\n{{ 1 // 0 }}", "template line 3: division by zero"},
        {"{% for x in 5 %}{% endfor %}", "template line 1: 'int' object is not iterable"},
        {"{% for a, b in [[1]] %}{% endfor %}", "template line 1: not enough values to unpack (expected 2, got 1)"},
        {"{{ n() }}", "template line 1: 'int' object is not callable"},
        {"{{ s.nosuch() }}", "template line 1: 'str object' has no attribute 'nosuch'"},
        {"{{ xs.append(1) }}", "template line 1: access to attribute 'append' of 'list' object is unsafe."},
        {"{{ d.update({}) }}", "template line 1: access to attribute 'update' of 'dict' object is unsafe."},
        {"{{ s.__class__ }}{{ s.__class__.x }}", "template line 1: 'str object' has no attribute '__class__'"},
        {"{% set n.x = 1 %}", "template line 1: cannot assign attribute on non-namespace object"},
        {"{{ range(1, 2, 0) }}", "template line 1: range() arg 3 must not be zero"},
        {"{{ missing|tojson }}", "template line 1: Object of type Undefined is not JSON serializable"},
        {"{{ range|tojson }}", "template line 1: Object of type function is not JSON serializable"},
        {"{{ 9223372036854775807 + 1 }}", "template line 1: integer overflow: the result has more than 64 bits."},
        {"{{ 2 ** 64 }}", "template line 1: integer overflow: the result has more than 64 bits."},
        {"{{ '%d' % 'x' }}", "template line 1: %d format: a real number is required, not str"},
        {"{{ '{} {}'.format(1) }}", "template line 1: Replacement index 1 out of range for positional args tuple"},
        {"{% macro f() %}\n{{ nowhere.x }}\n{% endmacro %}\n\n{{ f() }}", "template line 2: 'nowhere' is undefined"},
        {"{% macro f(a) %}{% endmacro %}{{ f(1, 2) }}", "template line 1: macro 'f' takes not more than 1 argument(s)"},
        {"{% include 'x' %}", "template line 1: 'include' is not available: a chat template has no other templates."},
        {"{% autoescape true %}{{ s }}{% endautoescape %}", "template line 1: autoescape is not supported."},
        {"{{ xs|join|first|list|sum }}", "template line 1: unsupported operand type(s) for +: 'int' and 'str'"},
        {"{{ xs|random }}", "template line 1: the filters pprint, random and urlize are not supported."},
    };
    expect_failures(rows, ARRAY_LEN(rows));
}

static void test_raise(void **state)
{
    (void)state;
    expect_error("{{ raise_exception('Roles must alternate!') }}", NULL, ERR_INVALID, "Roles must alternate!");
    expect_error("a\n{% for x in xs %}{% if x == 1 %}{{ raise_exception('no ' ~ x ~ ' h\xC3\xA9') }}{% endif %}"
                 "{% endfor %}",
                 NULL, ERR_INVALID, "no 1 h\xC3\xA9");
    expect_error("{{ raise_exception(none) }}", NULL, ERR_INVALID, "None");
    expect_error("{{ raise_exception('') }}", NULL, ERR_INVALID,
                 "template line 1: raise_exception was called without a message.");
    /* One that is too long is cut, not inside a character. */
    for (int n = 225; n < 245; n++) {
        struct error err = {0};
        struct buf out;
        char template[100];
        buf_init(&out, 100);
        snprintf(template, sizeof template, "{{ raise_exception('x' * %d ~ '\xE6\x97\xA5' * 9) }}", n);
        assert_false(render_with(template, "{}", NULL, &out, &err));
        assert_true(utf8_valid(str_of(err.msg)) && str_starts(str_of(err.msg), STR("xxxxxxxx")));
        buf_release(&out);
    }
}

static void test_source_limits(void **state)
{
    (void)state;
    struct error err = {0};
    size_t size = ((size_t)1 << 20) + 1;
    char *big = malloc(size);
    assert_non_null(big);
    memset(big, 'x', size);
    assert_null(jinja_compile((struct str){big, size}, &err));
    assert_int_equal(err.code, ERR_INVALID);
    struct jinja_template *t = jinja_compile((struct str){big, size - 1}, &err);
    assert_non_null(t);
    jinja_free(t);
    memset(big, '(', 4000);
    memcpy(big, "{{ ", 3);
    assert_null(jinja_compile((struct str){big, 4000}, &err));
    assert_non_null(strstr(err.msg, "template line 1: "));
    free(big);
    assert_null(jinja_compile(STR("ab\xFF"), &err));
    assert_string_equal(err.msg, "the template is not valid UTF-8.");
}

/* A template of n nested statements; odd kinds of nesting too. */
static bool nests(const char *open, const char *close, int n)
{
    struct error err = {0};
    struct buf source;
    buf_init(&source, (size_t)1 << 20);
    for (int i = 0; i < n; i++) {
        buf_puts(&source, open);
    }
    for (int i = 0; i < n; i++) {
        buf_puts(&source, close);
    }
    struct jinja_template *t = jinja_compile(buf_view(&source), &err);
    bool ok = t != NULL;
    assert_true(ok || strstr(err.msg, "template line 1: "));
    jinja_free(t);
    buf_release(&source);
    return ok;
}

static void test_nesting_of_source(void **state)
{
    (void)state;
    static const struct row kinds[] = {{"{% if yes %}", "{% endif %}"},
                                       {"{% for x in xs %}", "{% endfor %}"},
                                       {"{% macro f() %}", "{% endmacro %}"},
                                       {"{% filter upper %}", "{% endfilter %}"}};
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        assert_true(nests(kinds[i].template, kinds[i].text, 40));
        assert_false(nests(kinds[i].template, kinds[i].text, 20000));
    }
    assert_false(nests("{{ not ", "}}", 20000));
    assert_false(nests("{{ [", "]}}", 20000));
}

/* ---- budgets ---- */

static void test_steps(void **state)
{
    (void)state;
    struct jinja_limits few = {.max_steps = 1000};
    expect_error("a\n{% for i in range(100000) %}{% endfor %}", &few, ERR_TOO_LARGE,
                 "template line 2: the template takes more steps than it may.");
    expect_error("{{ range(100000)|sum }}", &few, ERR_TOO_LARGE,
                 "template line 1: the template takes more steps than it may.");
    expect_error("{% macro f() %}{% for i in range(90) %}{{ i }}{% endfor %}{% endmacro %}{% for i in range(90) %}"
                 "{{ f() }}{% endfor %}",
                 &few, ERR_TOO_LARGE, "template line 1: the template takes more steps than it may.");
    /* Work that grows with the length of strings costs steps, too. */
    expect_error("{% set x = 'ab' * 20000 %}{% for i in range(300) %}{{ x.count('ba') and '' }}{% endfor %}", &few,
                 ERR_TOO_LARGE, "template line 1: the template takes more steps than it may.");
    /* The default suffices for a million turns. */
    expect_text("{% set ns = namespace(n=0) %}{% for i in range(1000) %}{% for k in range(1000) %}{% set ns.n = ns.n + "
                "1 %}{% endfor %}{% endfor %}{{ ns.n }}",
                "{}", "1000000");
}

static void test_output(void **state)
{
    (void)state;
    struct jinja_limits limits = {.max_output = 10};
    struct error err = {0};
    struct buf out;
    buf_init(&out, 100);
    assert_true(render_with("0123456789", "{}", &limits, &out, &err));
    assert_int_equal(out.len, 10);
    buf_release(&out);
    expect_error("0123456789\nx", &limits, ERR_TOO_LARGE, "template line 1: the output has more than 10 bytes.");
    expect_error("{% for i in xs %}{{ 'abcd' }}{% endfor %}", &limits, ERR_TOO_LARGE,
                 "template line 1: the output has more than 10 bytes.");
    expect_error("{% set x %}0123456789a{% endset %}", &limits, ERR_TOO_LARGE,
                 "template line 1: the output has more than 10 bytes.");
}

static void test_memory(void **state)
{
    (void)state;
    struct jinja_limits limits = {.max_memory = (size_t)1 << 20};
    static const char *const templates[] = {
        "{% set ns = namespace(x='abcdefgh') %}{% for i in range(40) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{% set ns = namespace(x='abcdefgh') %}{% for i in range(40) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set x = [0] * 1000000 %}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(40) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set x = range(100000)|list %}",
        "{% set x = 'ab'|list * 100000 %}",
        "{% set ns = namespace(d={}) %}{% for i in range(100000) %}{% set ns.d = dict(ns.d, x=i) %}{% endfor %}",
    };
    for (size_t i = 0; i < ARRAY_LEN(templates); i++) {
        expect_error(templates[i], &limits, ERR_TOO_LARGE,
                     "template line 1: the template takes more memory than it may.");
    }
    /* Without the limits of a caller, the defaults hold. */
    struct error err = {0};
    struct buf out;
    buf_init(&out, 100);
    assert_false(render_with("{% set x = 'x' * 9000000000000000000 %}", "{}", NULL, &out, &err));
    assert_int_equal(err.code, ERR_TOO_LARGE);
    assert_false(render_with("{% set x = [1, 2] * 9000000000000000000 %}", "{}", NULL, &out, &err));
    assert_int_equal(err.code, ERR_TOO_LARGE);
    assert_false(render_with("{% set x = '%9000000000000000000d' % 1 %}", "{}", NULL, &out, &err));
    buf_release(&out);
}

static void test_depth(void **state)
{
    (void)state;
    struct error err = {0};
    struct buf out;
    expect_error("{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}\n{{ f(0) }}", NULL, ERR_INVALID,
                 "template line 1: the template nests deeper than 600 levels.");
    buf_init(&out, (size_t)1 << 20);
    assert_true(render_with("{% macro f(n) %}{{ n }} {% if n < 90 %}{{ f(n + 1) }}{% endif %}{% endmacro %}{{ f(0) }}",
                            "{}", NULL, &out, &err));
    assert_true(str_ends(buf_view(&out), STR(" 89 90 ")));
    /* A value may be nested deeper than it can be shown. */
    buf_clear(&out);
    assert_true(
        render_with("{% set ns = namespace(x=1) %}{% for i in range(5000) %}{% set ns.x = [ns.x] %}{% endfor %}ok",
                    "{}", NULL, &out, &err));
    assert_string_equal(out.data, "ok");
    static const char *const uses[] = {"{{ ns.x }}", "{{ ns.x|tojson }}", "{{ ns.x == [ns.x] }}", "{{ ns.x < [1] }}",
                                       "{{ ns.x|string|length }}"};
    for (size_t i = 0; i < ARRAY_LEN(uses); i++) {
        char template[200];
        snprintf(template, sizeof template,
                 "{%% set ns = namespace(x=1) %%}{%% for i in range(5000) %%}{%% set ns.x = [ns.x] %%}{%% endfor %%}%s",
                 uses[i]);
        err.code = ERR_NONE;
        bool ok = render_with(template, "{}", NULL, &out, &err);
        assert_true(ok || err.code == ERR_INVALID);
        assert_true(i >= 2 || !ok);
    }
    buf_release(&out);
}

/* ---- threads ---- */

struct shared {
    const struct jinja_template *t;
    struct buf out;
    bool ok;
};

static void *render_often(void *arg)
{
    struct shared *s = arg;
    struct error err = {0};
    struct json *context = json_parse(STR("{\"xs\": [1, 2, 3]}"), 0, &err);
    s->ok = context != NULL;
    for (int i = 0; s->ok && i < 200; i++) {
        buf_clear(&s->out);
        s->ok = jinja_render(s->t, context, NOW_S, NULL, &s->out, &err);
    }
    json_free(context);
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    struct error err = {0};
    struct shared shared[4];
    pthread_t threads[4];
    struct jinja_template *t = jinja_compile(
        STR("{% macro f(x) %}<{{ x }}>{% endmacro %}{% for x in xs|sort(reverse=true) %}{{ f(x) }}{% endfor %}"), &err);
    assert_non_null(t);
    for (size_t i = 0; i < ARRAY_LEN(shared); i++) {
        shared[i].t = t;
        buf_init(&shared[i].out, 1000);
        assert_int_equal(pthread_create(&threads[i], NULL, render_often, &shared[i]), 0);
    }
    for (size_t i = 0; i < ARRAY_LEN(shared); i++) {
        pthread_join(threads[i], NULL);
        assert_true(shared[i].ok);
        assert_string_equal(shared[i].out.data, "<3><2><1>");
        buf_release(&shared[i].out);
    }
    jinja_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),          cmocka_unit_test(test_newlines_of_source),
        cmocka_unit_test(test_appends),       cmocka_unit_test(test_full_buffer),
        cmocka_unit_test(test_time),          cmocka_unit_test(test_syntax_errors),
        cmocka_unit_test(test_render_errors), cmocka_unit_test(test_raise),
        cmocka_unit_test(test_source_limits), cmocka_unit_test(test_nesting_of_source),
        cmocka_unit_test(test_steps),         cmocka_unit_test(test_output),
        cmocka_unit_test(test_memory),        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
