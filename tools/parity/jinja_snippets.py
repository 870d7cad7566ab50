"""Small templates, by what they try, for the vectors and the live check. Every one is rendered with CONTEXT."""

CONTEXT = {
    "messages": [
        {"role": "system", "content": "You are helpful."},
        {"role": "user", "content": "Hello <b>World</b> & 'friends'"},
        {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1, "b": [1.5, None]}}}]},
        {"role": "tool", "content": "42"},
    ],
    "tools": None,
    "add_generation_prompt": True,
    "bos_token": "<s>",
    "n": 7,
    "neg": -3,
    "f": 2.5,
    "big": 123456789012,
    "s": "Hello World",
    "u": "héllo wörld ñ 日本語 😀",
    "text": "  line one\n\n  line two\ttab  \nlast ",
    "empty": "",
    "t": True,
    "no": False,
    "nothing": None,
    "xs": [3, 1, 2],
    "words": ["banana", "Apple", "cherry", "apple"],
    "mixed": [1, "a", None, 2.0, True, [1], {"k": 1}],
    "d": {"b": 2, "a": 1, "C": 3},
    "deep": {"x": {"y": {"z": [10, 20, 30]}}},
    "people": [
        {"name": "Ann", "age": 31, "city": "Rome"},
        {"name": "bob", "age": 25, "city": "rome"},
        {"name": "Cid", "age": 31, "city": "Oslo"},
        {"name": "dan", "city": "Bern"},
    ],
    "items": "shadow",
    "sub": {"items": [1, 2], "keys": "k", "get": 5, "other": {"a b": 1}},
}

LITERALS = r"""
{{ 1 }} {{ 1.0 }} {{ 1e3 }} {{ 1e16 }} {{ 1e-5 }} {{ 0.1 }} {{ 1_000 }} {{ 0x1F }} {{ 0b101 }} {{ 0o17 }} {{ 1_0.5_0 }} {{ 00 }}
{{ 'a' }} {{ "b" }} {{ 'it''s' }} {{ "a" 'b' "c" }} {{ 'x\ny\tz\\ \' \" \x41 \u00e9 \U0001F600 \101 \q \0' }}
{{ true }} {{ True }} {{ false }} {{ False }} {{ none }} {{ None }} {{ [1, 2, 'x', none] }} {{ (1,) }} {{ () }} {{ (1, 2) }} {{ 1, 2 }} {{ {} }} {{ {'a': 1, 2: [3], 'n': none} }}
{{ [] }} {{ [1,] }} {{ {'a': 1,} }} {{ [[1], (2, 3), {'x': {'y': 1}}] }}
{{ ['it\'s', "say \"hi\"", 'both \' and "', 'nl\n', '\x00\x1f\x7f\u200b', 'é', '\U0001F600'] }}
{{ 'é\'\é' }}
{{ 3.14159 }} {{ 100000000000000000.0 }} {{ 123456789.123456789 }} {{ 1e22 }} {{ 1e21 }} {{ 0.00001 }} {{ 0.0001 }} {{ 5e-324 }} {{ 1.7976931348623157e308 }} {{ -0.0 }}
{{ [1.0, 1e100, -2.50] }} {{ 1.5e3 }} {{ 2.0 * 3 }} {{ 1/3 }} {{ 2/1 }} {{ 1e15 }} {{ 123456789012345680.0 }}
{{ 'a' 'b'.upper() }} {{ "\
x" }}
{{ 1.e }}
{{ 'unclosed }}
{{ "\xZZ" }}
"""

OPERATORS = r"""
{{ 1 + 2 * 3 - 4 / 2 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ 7 // -2 }} {{ 7 % 3 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ 7.5 // 2 }} {{ -7.5 % 2 }} {{ 2 ** 10 }} {{ 2 ** -1 }} {{ 2 ** 3 ** 2 }} {{ -2 ** 2 }} {{ 2.0 ** 0.5 }}
{{ 10 / 4 }} {{ 10 / 5 }} {{ 1 / 0 }}
{{ 1 // 0 }}
{{ 1 % 0 }}
{{ 1.0 // 0 }}
{{ 'a' + 'b' }} {{ 'a' * 3 }} {{ 3 * 'ab' }} {{ [1] + [2] }} {{ [1, 2] * 2 }} {{ (1,) + (2,) }} {{ 'a' * -1 }} {{ 'a' * true }}
{{ 'a' + 1 }}
{{ 1 + 'a' }}
{{ [1] + (2,) }}
{{ none + 1 }}
{{ {} + {} }}
{{ 'a' ~ 1 ~ none ~ 2.5 ~ [1] ~ true ~ missing }} {{ 1 ~ 2 }}
{{ 1 < 2 }} {{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 3 > 2 >= 2 }} {{ 1 == 1.0 }} {{ 1 == true }} {{ 'a' < 'b' }} {{ [1, 2] < [1, 3] }} {{ (1, 2) == (1, 2) }} {{ [1] == (1,) }} {{ 1 != 2 }} {{ 'a' == 'a' != 'b' }}
{{ 1 < 'a' }}
{{ none < 1 }}
{{ [1] < ['a'] }}
{{ {} < {} }}
{{ 1 in [1, 2] }} {{ 3 not in [1, 2] }} {{ 'a' in 'abc' }} {{ 'x' in {'x': 1} }} {{ 1 in (1,) }} {{ 'z' not in 'abc' }} {{ not 1 in [2] }} {{ none in [none] }} {{ 1.0 in [1] }} {{ '' in 'abc' }}
{{ 1 in 'abc' }}
{{ 1 in 5 }}
{{ 'a' in none }}
{{ 'a' in missing }} {{ missing in [1] }} {{ missing in [missing] }}
{{ true and false }} {{ 1 and 2 }} {{ 0 and 2 }} {{ 0 or 'x' }} {{ '' or none }} {{ not true }} {{ not '' }} {{ not not 1 }} {{ 1 or x.y.z }} {{ 0 or [] or {} }} {{ not 1 == 2 }} {{ true and not false }}
{{ 1 if true else 2 }} {{ 1 if false else 2 }} {{ 1 if false }}|{{ 'a' if 0 else 'b' if 0 else 'c' }} {{ ('x' if false) is defined }} {{ 1 + (2 if true else 3) }} {{ 1 if true if false else 3 }}
{{ (1 if false) + 1 }}
{{ -1 }} {{ +1 }} {{ --1 }} {{ -f }} {{ -'a' }}
{{ +none }}
{{ -n|abs }} {{ (-n)|abs }} {{ -3|abs + 1 }} {{ 2 + 3|string ~ 'x' }} {{ 1 + 2|float }} {{ 'a' ~ 'b'|upper }}
{{ 9223372036854775807 }} {{ 9223372036854775807 // 2 }} {{ -9223372036854775807 - 1 }} {{ true + true }} {{ true * 3 }} {{ -true }}
{{ 1.5 + 1 }} {{ 1e308 * 10 }} {{ -1e308 * 10 }} {{ 1e308 * 10 - 1e308 * 10 }}
{{ 7 % 2.5 }} {{ -7.5 // 2 }} {{ 0.0 // 1 }} {{ -0.0 // 1 }} {{ 5 // 0.3 }} {{ 1e20 // 3 }} {{ 3 % -2.5 }}
{{ 10 // 3 * 3 + 10 % 3 }} {{ (1, 2) < (1, 2, 3) }} {{ [] < [1] }} {{ 'B' < 'a' }} {{ 'é' > 'z' }} {{ '😀' > '日' }}
{{ range(3) == range(3) }} {{ range(0) == range(1, 1) }} {{ {'a': 1} == {'a': 1.0} }} {{ {'a': 1} == {'a': 2} }} {{ [none] == [none] }} {{ missing == missing }} {{ missing == none }} {{ missing != 1 }}
{{ 2 ** 0.5 ** 2 }} {{ 4 ** 0.5 }} {{ 0 ** 0 }} {{ 0.0 ** -1 }}
{{ 1 < 2 == true }} {{ 1 in [1] == true }} {{ (1 in [1]) == true }}
{{ 'abc' 'def' in 'xabcdefx' }} {{ 5 is odd and 4 is even or x }}
{{ 1 == 1 and 'yes' or 'no' }} {{ s and n }} {{ nothing or empty or 'last' }}
{{ 9007199254740993 == 9007199254740992.0 }} {{ 9007199254740993 > 9007199254740992.0 }} {{ 1 < 1.5 }} {{ 2 > 1.5 }} {{ -1 > -1.5 }}
"""

ACCESS = r"""
{{ s[0] }} {{ s[-1] }} {{ u[1] }} {{ u[-1] }} {{ xs[0] }} {{ xs[-1] }} {{ d['a'] }} {{ d.a }} {{ deep.x.y.z[1] }} {{ deep['x']['y'].z[-1] }} {{ xs.0 }} {{ people.0.name }} {{ (1, 2)[1] }} {{ range(5)[2] }} {{ xs[true] }}
{{ s[100] }}|{{ xs[100] }}|{{ d.zzz }}|{{ d['zzz'] }}|{{ missing }}|{{ xs['a'] }}|{{ n.foo }}|{{ nothing.foo }}|{{ s.foo }}|{{ xs[1.0] }}|{{ d[[1]] }}|{{ n[0] }}
{{ missing.foo }}
{{ missing['foo'] }}
{{ missing[0] }}
{{ d.zzz.y }}
{{ nothing.foo.bar }}
{{ missing() }}
{{ d.zzz() }}
{{ n() }}
{{ s.nosuch() }}
{{ s[1:3] }} {{ s[:5] }} {{ s[6:] }} {{ s[-5:] }} {{ s[::-1] }} {{ s[::2] }} {{ s[8:2:-2] }} {{ s[:] }} {{ u[1:4] }} {{ u[::-1] }} {{ xs[1:] }} {{ xs[:-1] }} {{ xs[::-1] }} {{ (1, 2, 3)[1:] }} {{ range(10)[2:8:3]|list }} {{ range(10)[::-1]|list }} {{ s[5:100] }} {{ s[100:] }}| {{ s[-100:3] }} {{ xs[5:1] }} {{ s[none:2] }} {{ xs[-2:] }} {{ messages[1:]|length }} {{ xs[2:0:-1] }} {{ range(10)[5] }} {{ range(3)[10] }}|
{{ s[::0] }}
{{ s['a':] }}
{{ d[1:] }}
{{ nothing[1:] }}
{{ missing[1:] }}
{{ sub.items }}
{{ sub['items'] }} {{ sub.items() }} {{ sub['get'] }} {{ sub.keys() }} {{ sub['keys'] }} {{ sub.other['a b'] }} {{ sub.get('other') }} {{ sub.get('zz') }} {{ sub.get('zz', 3) }} {{ sub.get }}{# address #}
{{ d['items'] is defined }} {{ d['nope'] is defined }} {{ d.keys is callable }} {{ 'a' in d.keys() }} {{ 2 in d.values() }} {{ ('a', 1) in d.items() }}
{{ d.items() }} {{ d.keys() }} {{ d.values() }} {{ d.items()|list }} {{ d.keys()|list }} {{ d.items()|length }} {{ d.items()[0] is defined }} {{ {}.items() }}
{{ xs.append(1) }}
{{ xs.append }}
{{ d.update({'z': 1}) }}
{{ d.pop('a') }}
{% set _ = xs.append(4) %}{{ xs }}
{{ d.clear is defined }} {{ xs.pop is defined }} {{ xs.pop is callable }} {{ xs.copy() }} {{ d.copy() }}
{{ s.__class__ }}|{{ s.__class__.__mro__ }}
{{ ''.__class__.mro() }}
{{ s.format.__globals__ }}|
{{ xs[missing] }}|{{ d[missing] is defined }}
{{ x[1, 2] }}
{{ d[1, 2] is defined }} {{ {(1, 2): 'pair'}[1, 2] }} {{ {1: 'one'}[true] }} {{ {1: 'one'}[1.0] }} {{ {none: 1}[none] }} {{ {true: 1, 1: 2} }}
{{ {[1]: 2} }}
{{ xs[0]['a'] is defined }} {{ 1.5.real }} {{ 5 .real }} {{ (5).bit_length() }} {{ f.is_integer() }} {{ (2.0).is_integer() }}
{{ s.upper()[0:2].lower() }} {{ s.split(' ')[0] }} {{ messages[0]['content'][:3] }} {{ (xs + [9])[-1] }} {{ [1, 2, 3][1] }} {{ {'a': {'b': 1}}.a.b }}
{{ messages[-1].content }} {{ messages[2].tool_calls[0].function.arguments.b[0] }} {{ messages[2].tool_calls[0]['function']['name'] }}
{{ messages|length }} {{ messages[1:]|map(attribute='role')|join(',') }}
{{ sub.items[0] }}|{{ sub['items'][0] }}
{{ u|length }} {{ u[6:11] }} {{ u[-3:-1] }} {{ u.index('w') }} {{ u.find('日') }} {{ u[20:] }}|
"""

STATEMENTS = r"""
{% if true %}a{% endif %}{% if false %}b{% else %}c{% endif %}{% if 0 %}d{% elif 1 %}e{% else %}f{% endif %}{% if [] %}g{% elif none %}h{% endif %}
{% for x in xs %}{{ x }},{% endfor %}{% for x in [] %}a{% else %}none{% endfor %}{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}{% for k in d %}{{ k }}{% endfor %}{% for c in 'abc' %}{{ c }}-{% endfor %}
{% for x in xs %}{{ loop.index }}/{{ loop.length }} {{ loop.index0 }} {{ loop.revindex }} {{ loop.revindex0 }} {{ loop.first }} {{ loop.last }} {{ loop.previtem }} {{ loop.nextitem }} {{ loop.depth }} {{ loop.depth0 }}|{% endfor %}
{% for x in xs if x > 1 %}{{ loop.index }}{{ x }}{{ loop.last }}{{ loop.length }} {% endfor %}
{% for x in xs if x > 5 %}x{% else %}none{% endfor %}
{% for x in range(10) %}{% if x == 2 %}{% continue %}{% endif %}{% if x == 5 %}{% break %}{% endif %}{{ x }}{% endfor %}
{% for x in [1] %}{% break %}{% else %}else{% endfor %}|{% for x in [1, 2] %}{% continue %}{% else %}else{% endfor %}|{% for x in [1, 2] %}{% if x == 2 %}{% break %}{% endif %}{% else %}else{% endfor %}
{% for a, b in [(1, 2), [3, 4]] %}{{ a }}{{ b }}{% endfor %}{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}
{% for a, b in [(1, 2, 3)] %}{{ a }}{% endfor %}
{% for a, b in [1] %}{{ a }}{% endfor %}
{% for x in 5 %}{% endfor %}
{% for x in none %}{% endfor %}
{% for x in missing %}a{% else %}empty{% endfor %}
{% for x in xs %}{% for y in xs %}{{ loop.index }}{{ x }}{{ y }} {% endfor %}{{ loop.index }};{% endfor %}
{% for x in xs %}{% set outer = loop %}{% for y in [1, 2] %}{{ outer.index }}.{{ loop.index }} {% endfor %}{% endfor %}
{% for x in xs %}{{ loop.cycle('odd', 'even') }} {{ loop.changed(x > 1) }} {% endfor %}
{% for x in [1, [2, [3, 4]], 5] recursive %}{% if x is iterable %}[{{ loop(x) }}]{% else %}{{ x }}@{{ loop.depth }}{% endif %}{% endfor %}
{% for x in [1] %}{{ loop([1]) }}{% endfor %}
{% for p in people|groupby('city') %}{{ p.grouper }}:{{ p.list|map(attribute='name')|join('+') }} {{ p[0] }}{{ p|length }};{% endfor %}
{% set x = 1 %}{{ x }}{% set x = x + 1 %}{{ x }}{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set (c, d2) = [3, 4] %}{{ c }}{{ d2 }}
{% set x %}block {{ n }}{% endset %}[{{ x }}]{% set y | upper | trim %} abc {{ s }} {% endset %}[{{ y }}]
{% set ns = namespace(a=1, b='x') %}{% for i in [1, 2, 3] %}{% set ns.a = ns.a + i %}{% endfor %}{{ ns.a }} {{ ns.b }} {{ ns['a'] }} {{ ns.zz }}|{{ ns }}
{% set x = 1 %}{% for i in [1, 2] %}{% set x = x + i %}{{ x }}{% endfor %}{{ x }}
{% for i in [1, 2] %}{% if i == 2 %}{{ q }}{% endif %}{% set q = i %}{% endfor %}[{{ q }}]
{% if true %}{% set z = 5 %}{% endif %}{{ z }}{% if false %}{% set n = 6 %}{% endif %}{{ n }}
{% for x in xs %}{{ n }}{% endfor %}{% set n = 100 %}{{ n }}
{{ n }}{% for x in xs %}{{ n }}{% endfor %}{% set n = 100 %}{{ n }}
{% macro m() %}{{ n }}{% endmacro %}{{ m() }}{% set n = 1 %}{{ m() }}
{% macro m() %}{{ late }}{% endmacro %}[{{ m() }}]{% set late = 1 %}[{{ m() }}]
{% for x in xs %}{% set s = 'changed' %}{{ s }}{% endfor %}{{ s }}
{% set ns = namespace() %}{% set ns.x = 1 %}{{ ns.x }}{% set ns = namespace({'k': 2}, j=3) %}{{ ns.k }}{{ ns.j }}
{% set x.y = 1 %}
{% set d.y = 1 %}
{% set ns = namespace(_x=1) %}
{% set ns = namespace() %}{% set ns._x = 1 %}
{% macro f(a, b=2, c='x') %}{{ a }}-{{ b }}-{{ c }}{% endmacro %}{{ f(1) }} {{ f(1, 3) }} {{ f(1, c='y') }} {{ f(a=9) }} {{ f() }} {{ f(*[1, 2]) }} {{ f(**{'a': 5, 'c': 6}) }} {{ f(1, *[2], **{'c': 3}) }}
{% macro f(a) %}{{ a }}{% endmacro %}{{ f(1, 2) }}
{% macro f(a) %}{{ a }}{% endmacro %}{{ f(b=2) }}
{% macro f(a) %}{{ a }}{% endmacro %}{{ f(1, a=2) }}
{% macro f(a) %}{{ a }}|{{ varargs }}|{{ kwargs }}{% endmacro %}{{ f(1, 2, 3, x=4) }} {{ f() }}
{% macro f(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ f(1) }}
{% macro f(a) %}{{ a.b }}{% endmacro %}{{ f() }}
{% macro f(a) %}{{ a is defined }}{% endmacro %}{{ f() }} {{ f(none) }}
{% macro wrap(t) %}<{{ t }}>{{ caller() }}</{{ t }}>{% endmacro %}{% call wrap('b') %}inner {{ n }}{% endcall %}
{% macro each(xs) %}{% for x in xs %}{{ caller(x, loop.index) }}{% endfor %}{% endmacro %}{% call(v, i) each([5, 6]) %}{{ i }}={{ v }};{% endcall %}
{% macro f() %}x{% endmacro %}{% call f() %}y{% endcall %}
{% macro f() %}{{ caller is defined }}{% endmacro %}{{ f() }}{% call f() %}{% endcall %}
{% macro fact(n) %}{% if n <= 1 %}1{% else %}{{ n * fact(n - 1)|int }}{% endif %}{% endmacro %}{{ fact(10) }}
{% macro f(a, b) %}{% endmacro %}{{ f.name }} {{ f.arguments }} {{ f.catch_kwargs }} {{ f.catch_varargs }} {{ f.caller }} {{ f }}
{{ f(1) }}{% macro f(x) %}{{ x }}{% endmacro %}
{% macro a() %}A{{ b() }}{% endmacro %}{% macro b() %}B{% endmacro %}{{ a() }}
{% for i in [1, 2] %}{% macro g() %}{{ i }}{% endmacro %}{{ g() }}{% endfor %}
{% set ns = namespace(f=none) %}{% macro g(x) %}<{{ x }}>{% endmacro %}{% set ns.f = g %}{{ ns.f(3) }}
{% filter upper %}abc {{ s }}{% endfilter %}{% filter replace('a', 'b') | indent(2) %}aaa{% endfilter %}
{% filter trim %}  x  {% set hidden = 1 %}{% endfilter %}{{ hidden }}
{% with a = 1, b = n %}{{ a }}{{ b }}{% set inner = 2 %}{% endwith %}{{ a }}{{ inner }}
{% with %}{% set q = 1 %}{{ q }}{% endwith %}{{ q }}
{% with a = 1 %}{% with a = 2, b = a %}{{ a }}{{ b }}{% endwith %}{{ a }}{% endwith %}
{% raw %}{{ not }} {% rendered %} {# at all #}{% endraw %}
{% generation %}gen {{ n }}{% set g = 1 %}{% endgeneration %}{{ g }}
{% for m in messages %}{% generation %}{{ m.role }}{{ loop.index }}{% endgeneration %}{% endfor %}
{% block a %}block {{ n }}{% endblock %} {% block b scoped %}x{% endblock b %}
{% print 1, 'a' %} {% print n %}
{% autoescape false %}<{{ messages[1].content }}>{% endautoescape %}
{% if missing %}a{% else %}b{% endif %}{% if missing.x is defined %}{% endif %}
{% if d.zz is defined %}a{% endif %}{% if d.zz is not defined and d.a %}b{% endif %}
{% include 'x' %}
{% if false %}{% include 'x' %}{% endif %}ok
{% extends 'x' %}
{% import 'x' as y %}
{% nosuch %}
{% endif %}
{% if true %}
{% for x in xs %}
{% for x in xs %}{% endif %}
{% if x %}{% endfor %}{% endif %}
{% break %}
{% macro m() %}{% break %}{% endmacro %}
{% for x in xs %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}
{% for loop in xs %}{% endfor %}
{% for x in xs %}{% set loop = 1 %}{% endfor %}
{% set true = 1 %}
{% set 'a' = 1 %}
{% set a %}
{% set a = %}
{% macro f(a=1, b) %}{% endmacro %}
{% macro f(a, a) %}{% endmacro %}
{{ f(a=1, 2) }}
{{ f(**{}, *[]) }}
{% call 5 %}{% endcall %}
{% do xs.append(1) %}
{{ }}
{% %}
{{ 1 2 }}
{{ (1 }}
{{ 1) }}
{{ [1 }}
{{ a b }}
{{ a.}}
{{ a | }}
{{ a is }}
{{ n | nosuch }}
{{ n is nosuch }}
{% if false %}{{ n | nosuch }}{% endif %}ok
{% if true %}{{ n | nosuch }}{% endif %}ok
{{ (n | nosuch) if false else 'ok' }}
{% for x in [1] %}{% if true %}{% for y in [] %}{{ y|nosuch }}{% endfor %}{% endif %}{% endfor %}
{{ raise_exception('custom: message') }}
{% if true %}{{ raise_exception('roles must alternate ' ~ n) }}{% endif %}
{% for x in xs -%}  {{ x }}  {%- endfor %}| {%- if true -%} z {%- endif -%} |
{% set a = [] %}{% for x in xs %}{% set a = a + [x] %}{% endfor %}{{ a }}
{% set ns = namespace(found=false) %}{% for m in messages if not ns.found %}{{ m.role }}{% if m.role == 'user' %}{% set ns.found = true %}{% endif %}{% endfor %}
{% set ns = namespace(x=0) %}{% for m in messages %}{% if loop.first and m.role == 'system' %}{% set ns.x = 1 %}{% else %}{{ m.role }}{{ (loop.index0 - ns.x) % 2 }}{% endif %}{% endfor %}
{% for x in [1, 2, 3] %}{{ x }}{{ ', ' if not loop.last }}{% endfor %}
{% for x in xs|sort %}{{ loop.previtem is defined }}{{ loop.nextitem|default('end') }} {% endfor %}
{% for x in {'a': 1}|items %}{{ x }}{% endfor %}{% for k, v in d|dictsort %}{{ k }}{{ v }}{% endfor %}
{% for x in xs|map('string') %}{{ loop.length }}{{ x }}{{ loop.revindex }} {% endfor %}
{% for x in xs %}{{ loop }} {% endfor %}
{% set g = xs|map('string') %}{{ g|list }}{{ g|list }}{{ 'x' if g }}
{% set g = xs|select('odd') %}{{ g|first }}{{ g|list }}
{% for x in xs %}{% filter upper %}a{{ x }}{% if x == 1 %}{% break %}{% endif %}{% endfilter %}{% endfor %}|
{% set caller = 5 %}{% macro f() %}{{ caller }}{% endmacro %}{{ f() }}
{% macro f(caller=3) %}{{ caller }}{% endmacro %}{{ f() }}
{% macro f(caller) %}{{ caller }}{% endmacro %}
{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.current }}{{ c.next() }}{{ c.next() }}{% set _ = c.reset() %}{{ c.current }}
{{ cycler() }}
{% set j = joiner('|') %}{{ j() }}a{{ j() }}b{{ j() }}
{{ lipsum }}
{{ strftime_now('%Y-%m-%d %H:%M:%S %d %b %B %j %%') }}
{{ range(5)|list }} {{ range(2, 5)|list }} {{ range(5, 0, -2)|list }} {{ range(0)|list }} {{ range(3) }} {{ range(1, 10, 3) }} {{ range(5)|length }} {{ 3 in range(5) }} {{ range(5)|last }} {{ range(4)|sum }}
{{ range(1000000) }}
{{ range('a') }}
{{ range(1, 2, 0) }}
{{ range() }}
{{ dict(a=1, b=2) }} {{ dict([('x', 1), ['y', 2]]) }} {{ dict({'a': 1}, b=2) }} {{ dict() }} {{ dict(d)|length }}
{{ dict(5) }}
{{ dict([1]) }}
{{ namespace }}{{ x }}
"""

FILTERS = r"""
{{ neg|abs }} {{ f|abs }} {{ -2.5|abs }} {{ true|abs }}
{{ 'a'|abs }}
{{ xs|batch(2)|list }} {{ xs|batch(2, 'x')|list }} {{ xs|batch(5)|list }} {{ 'abcde'|batch(2)|list }}
{{ 'hELLO wORLD'|capitalize }} {{ 'ß'|capitalize }} {{ 5|capitalize }} {{ u|capitalize }}
{{ 'ab'|center(7) }}| {{ 'abc'|center(6) }}| {{ 'a'|center }}|
{{ xs|count }} {{ s|length }} {{ d|length }} {{ missing|length }} {{ u|count }}
{{ n|length }}
{{ nothing|length }}
{{ missing|default('x') }} {{ missing|d }}| {{ empty|default('x') }}| {{ empty|default('x', true) }} {{ nothing|default('x') }} {{ nothing|default('x', boolean=true) }} {{ d.zz|default(5) }} {{ none|d('z', 1) }} {{ 0|default(7, true) }}
{{ missing.x|default('y') }}
{{ d|dictsort }} {{ d|dictsort(true) }} {{ d|dictsort(by='value') }} {{ d|dictsort(reverse=true) }} {{ d|dictsort(false, 'value', true) }} {{ {}|dictsort }}
{{ d|dictsort(by='x') }}
{{ xs|dictsort }}
{{ {1: 2, 'a': 3}|dictsort }}
{{ '<a href="x">&\'</a>'|e }} {{ '<'|escape|escape }} {{ '<'|forceescape }} {{ 5|e }} {{ '<'|e ~ '<' }} {{ ('<'|e) + '<' }} {{ '<'|safe|e }} {{ ('<'|safe + '>')|e }} {{ '<' + ('>'|safe) }} {{ ('%s'|safe) % '<' }} {{ '<'|safe is escaped }} {{ ['<'|safe] }}
{{ 1|filesizeformat }} {{ 999|filesizeformat }} {{ 1000|filesizeformat }} {{ 1500000|filesizeformat }} {{ 1024|filesizeformat(true) }} {{ 123456789|filesizeformat(binary=true) }} {{ '5000'|filesizeformat }} {{ 0|filesizeformat }} {{ 1e30|filesizeformat }}
{{ xs|first }} {{ 'abc'|first }} {{ d|first }} {{ []|first }}| {{ missing|first }}| {{ ''|first is defined }}
{{ 5|first }}
{{ '1.5'|float }} {{ 'x'|float }} {{ 'x'|float(2.5) }} {{ 3|float }} {{ nothing|float }} {{ ' 1e3 '|float }} {{ 'inf'|float }} {{ 'nan'|float }} {{ '1_000.5'|float }} {{ [1]|float }} {{ '-.5'|float }} {{ '0x10'|float }} {{ '-Infinity'|float }}
{{ missing|float }}
{{ '%s-%s'|format(1, 'a') }} {{ '%(a)s'|format(a=1) }} {{ 'x'|format }} {{ '%d%%'|format(5) }}
{{ '%s'|format(1, a=2) }}
{{ '%s'|format(1, 2) }}
{{ '%s'|format }}
{% for g in people|groupby('age', default=0) %}{{ g.grouper }}{{ g.list|length }};{% endfor %} {{ people|groupby('city')|map('first')|list }} {{ people|groupby('city', case_sensitive=true)|map(attribute='grouper')|list }} {{ people|groupby('city')|map(attribute=0)|list }}
{{ people|groupby('age') }}
{{ text|indent }}| {{ text|indent(2) }}| {{ text|indent(2, true) }}| {{ text|indent(2, true, true) }}| {{ text|indent('> ', first=true, blank=true) }}| {{ ''|indent }}| {{ 'a'|indent(width=3, first=true) }}
{{ 5|indent }}
{{ '42'|int }} {{ '42.9'|int }} {{ 'x'|int }} {{ 'x'|int(7) }} {{ '0x1f'|int(base=16) }} {{ '1f'|int(0, 16) }} {{ '101'|int(base=2) }} {{ 3.99|int }} {{ -3.99|int }} {{ true|int }} {{ nothing|int }} {{ ' 12 '|int }} {{ '1_000'|int }} {{ '+5'|int }} {{ '-5'|int }} {{ '0b11'|int(0, 0) }} {{ '1e3'|int }} {{ [1]|int }} {{ '010'|int }} {{ '0x10'|int }} {{ '٣'|int if false }}
{{ missing|int }}
{{ d|items|list }} {{ missing|items|list }} {{ {}|items|list }}
{{ xs|items|list }}
{{ xs|join }} {{ xs|join(', ') }} {{ 'abc'|join('-') }} {{ people|join('|', attribute='name') }} {{ []|join(',') }}| {{ missing|join }}| {{ mixed|join(' ') }} {{ d|join(',') }} {{ xs|join(5) }} {{ [none, true]|join('/') }}
{{ 5|join }}
{{ xs|last }} {{ 'abc'|last }} {{ d|last }} {{ []|last }}| {{ range(3)|last }}
{{ xs|map('string')|last }}
{{ 'abc'|list }} {{ d|list }} {{ range(3)|list }} {{ (1, 2)|list }} {{ d.items()|list }} {{ missing|list }}
{{ 5|list }}
{{ 'HeLLo'|lower }} {{ 5|lower }} {{ 'ÀÉ ΑΣ ЖЯ İ'|lower }} {{ none|lower }} {{ missing|lower }}|
{{ xs|map('string')|list }} {{ words|map('upper')|join(',') }} {{ people|map(attribute='name')|list }} {{ people|map(attribute='age', default='?')|list }} {{ [[1, 2], [3, 4]]|map(attribute=0)|list }} {{ [[1, 2], [3, 4]]|map(attribute='1')|list }} {{ [[1, 2], [3, 4]]|map('first')|list }} {{ [1, 2]|map('default', 5)|list }} {{ ['a,b']|map('replace', ',', ';')|list }} {{ []|map('x')|list }} {{ [deep]|map(attribute='x.y.z.1')|list }}
{{ [1]|map('nosuch')|list }}
{{ [1]|map|list }}
{{ people|map(attribute='age')|list }}
{{ people|map(attribute='age.x')|list }}
{{ xs|max }} {{ xs|min }} {{ words|max }} {{ words|min }} {{ words|max(case_sensitive=true) }} {{ people|max(attribute='name') }} {{ []|max }}| {{ 'hello'|max }} {{ [1, 2.5]|max }} {{ [[1, 2], [1, 3]]|max }}
{{ [1, 'a']|max }}
{{ people|min(attribute='age') }}
{{ xs|reject('odd')|list }} {{ mixed|reject('none')|list }} {{ people|rejectattr('age')|list }} {{ people|rejectattr('city', 'equalto', 'Rome')|map(attribute='name')|list }} {{ xs|reject|list }} {{ [0, 1]|reject|list }}
{{ 'a b a'|replace('a', 'x') }} {{ 'aaa'|replace('a', 'b', 2) }} {{ 'abc'|replace('', '-') }} {{ 'abc'|replace('', '-', 2) }} {{ 5|replace('5', '6') }} {{ 'abc'|replace('b', '') }} {{ 'x'|replace(old='x', new='y') }} {{ 'a1'|replace(1, 2) }} {{ 'aa'|replace('a', 'b', count=1) }}
{{ xs|reverse|list }} {{ 'abc'|reverse }} {{ u|reverse }} {{ (1, 2)|reverse|list }} {{ d|reverse|list }} {{ range(3)|reverse|list }} {{ xs|map('string')|reverse }} {{ missing|reverse|list }} {{ d.items()|reverse|list }}
{{ 5|reverse }}
{{ 42.55|round }} {{ 42.55|round(1) }} {{ 42.55|round(1, 'floor') }} {{ 42.55|round(1, 'ceil') }} {{ 42|round }} {{ 0.5|round }} {{ 1.5|round }} {{ 2.5|round }} {{ 2.675|round(2) }} {{ -0.5|round }} {{ 1234|round(-2) }} {{ 1250|round(-2) }} {{ 1350|round(-2) }} {{ 1234.5|round(-2) }} {{ 3.7|round(method='floor') }} {{ 42|round(1, 'ceil') }} {{ true|round }} {{ 42.4|round|int }}
{{ 1.5|round(1, 'x') }}
{{ 'a'|round }}
{{ '<b>'|safe }} {{ 5|safe }} {{ ('a'|safe).upper() }} {{ ('<'|safe ~ '<')|e }}
{{ xs|select('odd')|list }} {{ mixed|select|list }} {{ mixed|select('string')|list }} {{ xs|select('gt', 1)|list }} {{ xs|select('in', [1, 2])|list }} {{ people|selectattr('age')|map(attribute='name')|list }} {{ people|selectattr('age', 'defined')|list|length }} {{ people|selectattr('age', 'eq', 31)|map(attribute='name')|join }} {{ messages|selectattr('role', 'equalto', 'user')|list|length }} {{ xs|select('>', 1)|list }} {{ messages|selectattr('tool_calls')|list|length }} {{ xs|select('divisibleby', 3)|list }} {{ people|selectattr('name', 'in', ['Ann', 'Cid'])|map(attribute='age')|sum }}
{{ xs|select('nosuch')|list }}
{{ xs|selectattr|list }}
{{ xs|selectattr('a')|list }}
{{ range(7)|slice(3)|list }} {{ range(7)|slice(3, 'x')|list }} {{ xs|slice(5)|list }} {{ []|slice(2)|list }}
{{ xs|sort }} {{ xs|sort(reverse=true) }} {{ words|sort }} {{ words|sort(case_sensitive=true) }} {{ people|sort(attribute='name')|map(attribute='name')|list }} {{ people[:3]|sort(attribute='age,name', reverse=true)|map(attribute='name')|list }} {{ 'hello'|sort }} {{ d|sort }} {{ [[2, 1], [1, 2]]|sort }} {{ [[2, 1], [1, 2]]|sort(attribute=1) }} {{ []|sort }} {{ [true, 0, 2.5]|sort }} {{ d.items()|sort(attribute='1') }}
{{ [1, 'a']|sort }}
{{ people|sort(attribute='age') }}
{{ [none, 1]|sort }}
{{ 5|string }} {{ [1]|string }} {{ none|string }} {{ missing|string }}| {{ 5|string + 'x' }} {{ 1.0|string }} {{ true|string }}
{{ '<p>Hello <b>World</b>  &amp; <!-- x -->all</p>'|striptags }} {{ 'a < b'|striptags }} {{ '<a><b'|striptags }} {{ '&lt;x&gt; &#65;'|striptags }}
{{ xs|sum }} {{ people[:3]|sum(attribute='age') }} {{ []|sum }} {{ xs|sum(start=10) }} {{ [1.5, 2]|sum }} {{ [[1], [2]]|sum(start=[]) }} {{ missing|sum }}
{{ words|sum }}
{{ ['a']|sum(start='') }}
{{ 'hello wORLD-foo (bar) [baz] don\'t éa'|title }} {{ 5|title }} {{ 'a\tb\nc'|title }}
{{ d|tojson }} {{ messages[2]|tojson }} {{ xs|tojson(indent=2) }} {{ messages[2]|tojson(indent=4) }} {{ u|tojson }} {{ u|tojson(ensure_ascii=true) }} {{ d|tojson(sort_keys=true) }} {{ {'b': 1, 'a': [1, {'z': []}], 'e': {}}|tojson(indent=2, sort_keys=true) }} {{ d|tojson(separators=(',', ':')) }} {{ [1.0, 1e100, true, none, 'é"\\/\n\x01\x7f']|tojson }} {{ (1, 2)|tojson }} {{ '<&>\''|tojson }} {{ 'x'|tojson|safe }} {{ {1: 2, none: 3, true: 4, 1.5: 5}|tojson }} {{ []|tojson(indent=2) }} {{ xs|tojson(indent='--') }} {{ xs|tojson(true, 0) }} {{ d|tojson(indent=none) }} {{ 'a\u2028b'|tojson }}
{{ missing|tojson }}
{{ xs|map('string')|tojson }}
{{ range(3)|tojson }}
{{ d.items()|tojson }}
{{ {(1, 2): 3}|tojson }}
{{ {'a': 1, 2: 3}|tojson(sort_keys=true) }}
{{ namespace(a=1)|tojson }}
{{ (1e308 * 10)|tojson }} {{ ('nan'|float)|tojson }}
{{ '  x  '|trim }}| {{ 'xxaxx'|trim('x') }} {{ text|trim }}| {{ 5|trim }} {{ '\u00a0x\u3000'|trim }} {{ none|trim }} {{ 'abc'|trim('') }} {{ missing|trim }}|
{{ 'foo bar baz qux'|truncate(9) }} {{ 'foo bar baz qux'|truncate(9, true) }} {{ 'foo bar baz qux'|truncate(11) }} {{ 'foo bar baz qux'|truncate(11, false, '...', 0) }} {{ s|truncate(5, end='') }} {{ u|truncate(8, leeway=0) }} {{ 'abcdefghij'|truncate(5, leeway=0) }} {{ missing|truncate }}|
{{ s|truncate(1) }}
{{ [1, 1.0, 'a', 'A', 'b', true]|unique|list }} {{ words|unique|list }} {{ words|unique(case_sensitive=true)|list }} {{ people|unique(attribute='city')|map(attribute='name')|list }} {{ 'abcabc'|unique|join }}
{{ [[1]]|unique|list }}
{{ 'straße ñ ŉ'|upper }} {{ 5|upper }} {{ 'ὀδυσσεύς'|upper }} {{ missing|upper }}|
{{ 'a b/c?d=é&'|urlencode }} {{ {'a b': 'c/d', 'e': 1}|urlencode }} {{ [('x', 'y z')]|urlencode }} {{ 5|urlencode }}
{{ 'Hello, big-world! foo_bar é'|wordcount }} {{ ''|wordcount }}
{{ 'the quick brown fox jumped'|wordwrap(10) }} {{ 'aaaaaaaaaaaaaa bb'|wordwrap(5) }} {{ 'aaaaaaaaaaaaaa bb'|wordwrap(5, false) }} {{ 'well-known co-operate e-mail x--y foo---bar'|wordwrap(8) }} {{ 'one two\nthree four five'|wordwrap(8, wrapstring='|') }} {{ 'a-bc-def-ghi'|wordwrap(5, break_on_hyphens=false) }} {{ '  lead  and   gaps '|wordwrap(6, wrapstring='|') }} {{ ''|wordwrap }}|
{{ {'class': 'a b', 'id': none, 'x': '<>', 'n': 5}|xmlattr }} {{ {}|xmlattr }}| {{ {'a': 1}|xmlattr(false) }}
{{ {'a b': 1}|xmlattr }}
{{ d|attr('keys') is callable }} {{ s|attr('nosuch') is defined }} {{ d|attr('a') is defined }}
{{ words|sort|first|upper|length }} {{ xs|map('string')|map('int')|sum }} {{ (words|join(' '))|title }} {{ messages|map(attribute='content')|select('string')|map('length')|list }}
{{ words|map('length')|max }} {{ people|map(attribute='name')|map('lower')|sort|join(',') }}
{{ xs|list == xs }} {{ [1, 2]|reverse|first }} {{ 'a,b,c'.split(',')|map('upper')|join('') }} {{ 3|string|int + 1 }}
{{ s|replace('World', n) }} {{ '%05.1f|%x|%o|%e|%g|%c|%r|%5s|%-5s|%+d|% d|%#x|%.3s|%i|%u|%X|%G|%%' % (3.14159, 255, 8, 12345.678, 0.0001, 'A', 'q', 'ab', 'ab', 5, 5, 255, 'abcdef', 7, 8, 255, 1e10) }}
{{ '%s' % none }} {{ '%s %s' % (1, [2]) }} {{ '%(x)s %(y)05d' % {'x': 1, 'y': 42} }} {{ 'a%sb' % 5 }} {{ '%*d|%.*f' % (5, 42, 2, 3.14159) }} {{ 'abc' % {} }} {{ '%s' % [1, 2] }} {{ '%d' % 3.99 }} {{ '%s' % missing }} {{ '%c' % 97 }} {{ '%5.2f%%' % 12.345 }} {{ '%.0f' % 2.5 }} {{ '%5d|%-5d|%05d' % (42, 42, -42) }} {{ '%x' % -255 }} {{ '%.3d' % 5 }} {{ '%s' % ((1, 2),) }}
{{ '%d' % 'a' }}
{{ '%s %s' % 1 }}
{{ '%s' % (1, 2) }}
{{ 'abc' % 5 }}
{{ '%z' % 5 }}
{{ '%' % 5 }}
{{ '%(a)s' % {} }}
{{ '%(a)s' % 5 }}
{{ '%x' % 1.5 }}
"""

TESTS = r"""
{{ missing is defined }} {{ n is defined }} {{ d.a is defined }} {{ d.zz is defined }} {{ missing is undefined }} {{ nothing is defined }} {{ missing is not defined }} {{ nothing is none }} {{ n is not none }} {{ missing is none }}
{{ 3 is odd }} {{ 3 is even }} {{ 4 is divisibleby 2 }} {{ 4 is divisibleby(3) }} {{ 4 is not divisibleby 3 }} {{ -3 is odd }} {{ 2.0 is even }} {{ 9 is divisibleby 3 and true }}
{{ 'a' is odd }}
{{ 5 is divisibleby 0 }}
{{ true is boolean }} {{ 1 is boolean }} {{ true is true }} {{ 1 is true }} {{ false is false }} {{ 0 is false }} {{ 1 is integer }} {{ true is integer }} {{ 1.0 is integer }} {{ 1.0 is float }} {{ 1 is float }} {{ 1 is number }} {{ 1.5 is number }} {{ true is number }} {{ '1' is number }}
{{ 'a' is string }} {{ 1 is string }} {{ d is mapping }} {{ xs is mapping }} {{ xs is sequence }} {{ d is sequence }} {{ 's' is sequence }} {{ 5 is sequence }} {{ missing is sequence }} {{ range(3) is sequence }} {{ d.items() is sequence }} {{ (1,) is sequence }} {{ none is sequence }}
{{ xs is iterable }} {{ 's' is iterable }} {{ 5 is iterable }} {{ missing is iterable }} {{ none is iterable }} {{ d is iterable }} {{ xs|map('string') is iterable }} {{ d.keys() is iterable }}
{{ range is callable }} {{ s.upper is callable }} {{ n is callable }} {{ missing is callable }} {{ namespace is callable }}
{{ 'abc' is lower }} {{ 'Abc' is lower }} {{ 'ABC' is upper }} {{ 'ABC1' is upper }} {{ '1' is upper }} {{ 'é' is lower }} {{ 'É' is upper }} {{ 5 is lower }} {{ '' is lower }} {{ none is upper }}
{{ n is sameas n }} {{ true is sameas true }} {{ none is sameas none }} {{ 1 is sameas true }} {{ xs is sameas xs }} {{ [1] is sameas [1] }} {{ 1 is sameas 1.0 }}
{{ 1 is eq 1 }} {{ 1 is equalto 2 }} {{ 1 is ne 2 }} {{ 1 is lt 2 }} {{ 2 is gt 1 }} {{ 2 is ge 2 }} {{ 2 is le 1 }} {{ 1 is in [1, 2] }} {{ 5 is in xs }} {{ 'a' is in 'abc' }} {{ 1 is lessthan 2 }} {{ 1 is greaterthan 2 }}
{{ 1 is lt 'a' }}
{{ 'x'|e is escaped }} {{ 'x' is escaped }} {{ 'upper' is filter }} {{ 'nosuch' is filter }} {{ 'odd' is test }} {{ 'nosuch' is test }}
{{ n is none or n is number }} {{ not n is none }} {{ n is string or 'x' }} {{ (n is number) == true }} {{ n is defined and n > 3 }} {{ 'a' if n is odd else 'b' }} {{ [1, 2] is iterable and [1, 2] is not string }} {{ n is not string and n is number }}
{{ n is odd is even }}
{{ 1 is defined is defined }}
{{ messages[0].content is string }} {{ messages[2].content is none }} {{ messages[2].tool_calls is defined }} {{ messages[0].tool_calls is defined }} {{ messages[0]['tool_calls'] is not defined }} {{ messages[2]['content'] is not none }}
{{ d.zz.q is defined }}
{{ n is eq(7) }} {{ n is in(xs + [7]) }} {{ 's' in s is string }} {{ xs is not mapping }} {{ tools is none }} {{ tools is not none and tools|length > 0 }}
"""

METHODS = r"""
{{ s.upper() }} {{ s.lower() }} {{ s.title() }} {{ s.capitalize() }} {{ s.swapcase() }} {{ 'ß'.upper() }} {{ 'ΑΣ ΑΣΑ'.lower() }} {{ 'don\'t stop'.title() }} {{ 'ǆ'.title() }} {{ 'éa'.capitalize() }} {{ 'ŉ'.upper() }} {{ 'ﬁ'.upper() }} {{ 'İ'.lower() }} {{ 'ÀÉ'.swapcase() }} {{ 'x'.casefold() }}
{{ '  a '.strip() }}| {{ '  a '.lstrip() }}| {{ '  a '.rstrip() }}| {{ 'xxaxx'.strip('x') }} {{ 'abcba'.strip('ab') }} {{ 'aéa'.strip('aé') }}| {{ 'a\n\n'.rstrip('\n') }}| {{ 'abc'.lstrip('a') }} {{ '\u3000 a'.strip() }} {{ 'x'.strip(none) }}
{{ 'a'.strip(1) }}
{{ 'a b  c'.split() }} {{ 'a,b,,c'.split(',') }} {{ 'a,b,c'.split(',', 1) }} {{ ' a b c '.split(none, 1) }} {{ ''.split() }} {{ ''.split(',') }} {{ 'a--b'.split('--') }} {{ 'a b c'.split(maxsplit=1) }} {{ 'a,b'.split(sep=',') }} {{ 'a\tb\nc'.split() }} {{ 'abc'.split('x') }} {{ 'a,b,c'.split(',')[-1] }} {{ 'a b'.split(' ', 0) }}
{{ 'a'.split('') }}
{{ 'a'.split(1) }}
{{ 'a,b,c'.rsplit(',', 1) }} {{ 'a b  c '.rsplit() }} {{ ' a b c '.rsplit(none, 1) }} {{ 'a,b,c'.rsplit(',') }} {{ 'abc'.rsplit('x', 1) }}
{{ 'a\nb\r\nc\n'.splitlines() }} {{ 'a\nb'.splitlines(true) }} {{ ''.splitlines() }} {{ 'a\x0bb\x1cc\u2028d\x85e'.splitlines() }} {{ '\n'.splitlines() }} {{ '\n\na'.splitlines(keepends=true) }}
{{ s.startswith('Hello') }} {{ s.startswith('x') }} {{ s.startswith(('x', 'H')) }} {{ s.startswith('World', 6) }} {{ s.endswith('World') }} {{ s.endswith(('x', 'd')) }} {{ s.endswith('Hello', 0, 5) }} {{ s.startswith('') }} {{ s.startswith('W', -5) }} {{ s.startswith('', 50) }} {{ u.endswith('😀') }} {{ u.startswith('ö', 7) }}
{{ s.startswith(1) }}
{{ s.startswith(['H']) }}
{{ s.replace('l', 'L') }} {{ s.replace('l', 'L', 1) }} {{ s.replace('', '.') }} {{ s.replace('o', '') }} {{ u.replace('ö', 'oe') }} {{ 'aaa'.replace('aa', 'b') }} {{ ''.replace('', 'x') }} {{ 'ab'.replace('', '-', 1) }}
{{ s.replace('l') }}
{{ s.replace('l', 1) }}
{{ s.find('o') }} {{ s.find('zz') }} {{ s.find('o', 5) }} {{ s.rfind('o') }} {{ s.index('W') }} {{ s.rindex('o') }} {{ s.count('l') }} {{ s.count('') }} {{ 'aaaa'.count('aa') }} {{ s.find('') }} {{ s.rfind('') }} {{ u.find('w') }} {{ u.rfind('l') }} {{ s.count('l', 4) }} {{ s.find('o', -4) }} {{ s.find('l', 0, 3) }} {{ s.find('', 11) }} {{ s.find('', 12) }} {{ s.rfind('o', 0, 5) }}
{{ s.index('zz') }}
{{ s.rindex('zz') }}
{{ ', '.join(words) }} {{ ''.join(['a', 'b']) }} {{ '-'.join('abc') }} {{ ','.join([]) }}| {{ ','.join(d) }} {{ ' '.join(words|map('upper')) }} {{ ','.join(d.keys()) }}
{{ ','.join([1]) }}
{{ ','.join(5) }}
{{ 'abc'.isdigit() }} {{ '123'.isdigit() }} {{ ''.isdigit() }} {{ '12a'.isalnum() }} {{ 'é'.isalpha() }} {{ ' '.isspace() }} {{ 'ABC'.isupper() }} {{ 'abc'.islower() }} {{ 'Abc Def'.istitle() }} {{ '²'.isdigit() }} {{ '²'.isdecimal() }} {{ '½'.isnumeric() }} {{ '日本'.isalpha() }} {{ 'a_1'.isidentifier() }} {{ 'é'.isascii() }} {{ '\n'.isprintable() }} {{ '٣'.isdigit() }} {{ 'aB'.isupper() }} {{ 'ªº'.islower() }} {{ 'Ⅷ'.isupper() }}
{{ 'abc'.removeprefix('a') }} {{ 'abc'.removesuffix('c') }} {{ 'abc'.removeprefix('x') }} {{ '42'.zfill(5) }} {{ '-42'.zfill(5) }} {{ '+7'.zfill(2) }} {{ 'a'.ljust(3) }}| {{ 'a'.rjust(3) }}| {{ 'a'.center(4) }}| {{ 'ab'.center(5, '*') }} {{ 'abc'.center(6, '-') }} {{ 'é'.ljust(3, '.') }} {{ 'abc'.ljust(2) }}
{{ 'a'.center(4, 'xy') }}
{{ 'a=b=c'.partition('=') }} {{ 'a=b=c'.rpartition('=') }} {{ 'abc'.partition('x') }} {{ 'abc'.rpartition('x') }} {{ 'a\tb'.expandtabs(4) }}| {{ 'a\tb'.expandtabs() }}|
{{ '{} {}'.format(1, 'a') }} {{ '{0}{1}{0}'.format('x', 'y') }} {{ '{a} {b}'.format(a=1, b=[2]) }} {{ '{{}}'.format() }} {{ '{0.x}'.format({'x': 1}) }} {{ '{0[x]}'.format({'x': 1}) }} {{ '{0[1]}'.format([1, 2]) }} {{ '{:5}|{:<5}|{:>5}|{:^5}|{:*^7}'.format(1, 'a', 'b', 'c', 'd') }} {{ '{:05d} {:+d} {:,} {:_} {:x} {:#x} {:b} {:o} {:X} {:c}'.format(42, 5, 1234567, 1234567, 255, 255, 5, 8, 255, 65) }} {{ '{:.2f} {:8.3f} {:e} {:g} {:%} {:.1%} {:.3}'.format(3.14159, 2.5, 12345.678, 0.00001, 0.25, 0.256, 3.14159) }} {{ '{!r} {!s}'.format('a', 'b') }} {{ '{:{}}'.format('a', 5) }}| {{ '{:{w}.{p}f}'.format(3.14159, w=8, p=2) }} {{ '{}'.format(none) }} {{ '{}'.format(true) }} {{ '{:d}'.format(true) }} {{ '{:.2}'.format('abc') }} {{ '{:10.3}|'.format('abcdef') }} {{ '{:,.2f}'.format(1234567.891) }} {{ '{}'.format([1, 'a']) }} {{ '{:>+8.2f}|{:<08d}|{:=+6d}'.format(1.5, 3, 4) }} {{ '{:05}'.format('ab') }} {{ '{:06.2f}'.format(-1.5) }} {{ '{}'.format(1.0) }} {{ '{:10}|'.format(1.5) }} {{ '{:e}'.format(5) }}
{{ '{} {}'.format(1) }}
{{ '{a}'.format() }}
{{ '{'.format() }}
{{ '}'.format() }}
{{ '{:d}'.format('a') }}
{{ '{:x}'.format(1.5) }}
{{ '{:5}'.format([1]) }}
{{ '{} {0}'.format(1) }}
{{ '{0.__class__}'.format('a') }}|
{{ '{!x}'.format(1) }}
{{ '{:q}'.format(1) }}
{{ d.get('a') }} {{ d.get('zz') }} {{ d.get('zz', 'def') }} {{ d.items()|list }} {{ d.keys()|sort }} {{ d.values()|sum }} {{ {}.get(1) }} {{ {}.fromkeys([1, 2], 'x') }} {{ dict.fromkeys is defined }}
{{ d.get() }}
{{ d.get([1]) }}
{{ d.get('a', default=1) }}
{{ xs.index(1) }} {{ xs.count(1) }} {{ (1, 2, 1).count(1) }} {{ (1, 2).index(2) }} {{ range(5).index(3) }} {{ xs.index(3, 0, 1) }}
{{ xs.index(99) }}
{{ xs.nosuch }}|
{{ s.upper(1) }}
{{ s.upper(x=1) }}
{{ s.lower().split('o')|join('0') }} {{ '<think>a</think>b'.split('</think>')[-1].lstrip('\n') }} {{ 'a</think>b'.split('</think>')[0].rstrip('\n').split('<think>')[-1] }} {{ text.strip().split('\n')|map('trim')|list }} {{ s[0].isupper() and s[1:].islower() }}
{{ ('a' ~ 'b').upper() }} {{ 'a'.__len__ }}| {{ 5 .__class__ }}|
{{ 'Tim\u0065'.lower()|title }} {{ 'ab' in 'cab' and 'yes' }} {{ 'abc'.find('c') == 2 }} {{ (s ~ '!').endswith('!') }}
"""

WHITESPACE = [
    "a\n{% if true %}\nb\n{% endif %}\nc\n",
    "a\n  {% if true %}  \n  b\n  {% endif %}\nc\n\n",
    "a\n  {%+ if true %}\n  b\n  {%- endif %}\nc",
    "  {{ n }}  \n  {{- n -}}  \n  x",
    "a {%- if true -%} b {%- endif -%} c",
    "a\n\t {# comment #}\nb{# x #}c\n{#- y -#}\n d",
    "{% if true +%}\n  x{% endif +%}\n y",
    "{% raw %}\n  {{ x }}\n{% endraw %}\nz",
    "x  {%- raw -%}  {{ y }}  {%- endraw -%}  z",
    "a\n  {% raw %} b {% endraw %}\nc",
    "a\r\nb\rc\n{% if true %}\r\nd{% endif %}",
    "\n\n{{ n }}\n\n",
    "{{ n }}\n",
    "   {% set x = 1 %}   \n   {{ x }}",
    "a  {% set x = 1 %}\n   {%- set y = 2 %}\n b",
    "{% for x in xs %}\n  {{ x }}\n{% endfor %}\n",
    "{% for x in xs -%}\n  {{ x }}\n{%- endfor %}\n",
    "{%- for x in xs %}{{ x }}{% endfor -%}\n   end",
    "{#- a -#} b {# c -#}\n\n d",
    "{{ '{{' }} {{ '}}' }} {{ \"%}\" }} { { } } {# }} #}",
    "{{ {'a': {'b': 1}}['a']['b'] }}{{ {} }}{{{'a':1}['a']}}",
    "{{ n }}{{n}}{{  n  }}{{-n-}}",
    "{%if true%}x{%endif%}{%-if true-%}y{%-endif-%}",
    "a\n{% if true %}b{% endif %}\n\n\nc",
    "a\n    {% if true %}\n    {% endif %}    \nb",
    "text with { and } and % and # and {%raw%}{{{%endraw%}",
    "{# unclosed",
    "{% raw %} unclosed",
    "{{ n ",
    "{% if n",
    "{{ n }",
    "{{ (n }} )",
    "{% if n } %}",
    "{{ n $ }}",
    "{{ n ? }}",
    "{{ ! }}",
    "{% if true %}a{% else -%}  b{% endif %}",
    "\u00a0{%- if true -%}\u3000x{% endif %}",
    "a \x0b\x0c {%- if true %}x{% endif %}",
    "{% macro m(a,\n  b=2\n) -%}\n  {{ a }}\n{%- endmacro %}\n{{ m(1) }}",
    "{{ 'multi\nline' }}\n{{ n\n + 1 }}",
    "{{ 'a\\\nb' }}",
    "{%- set x -%}\n  y\n{%- endset -%}\n[{{ x }}]",
    "{% if true -%}\n\n  a\n\n{%- elif false -%} b {%- else -%} c {%- endif %}",
    "{%+ raw %}x{% endraw +%}\ny",
    "a\n {%+ if true +%} \n b {%+ endif %}",
    "{{ 1 }}\n{# c #}\n{{ 2 }}\n {# d #} {{ 3 }}",
    "  {#+ keep #}x",
    "{% if true: %}x{% endif %}{% for i in xs: %}{{ i }}{% endfor %}",
    "{{ n is defined }}{{n|default(1)}}{{n.x|default('q')}}",
    "{{ +1 }}{{+1}}{{-1}}{{ -1 }}",
    "{{ 'a' if n else }}",
    "{% set x = {'a': 1,\n 'b': [1,\n 2]} %}{{ x.b[1] }}",
]


def snippets():
    """All templates, in order, without duplicates."""
    seen = {}
    for group in (LITERALS, OPERATORS, ACCESS, STATEMENTS, FILTERS, TESTS, METHODS):
        lines, pending = [], ""
        for line in group.strip("\n").split("\n"):
            pending += line
            if line.endswith("\\"):
                pending += "\n"
                continue
            lines.append(pending)
            pending = ""
        for line in lines:
            seen[line] = None
            # one expression at a time, so that an error hides nothing
            parts = line.split(" {{ ")
            if line.startswith("{{") and len(parts) > 1 and "{%" not in line:
                for part in parts:
                    seen[part if part.startswith("{{") else "{{ " + part] = None
    for template in WHITESPACE:
        seen[template] = None
    return list(seen)
