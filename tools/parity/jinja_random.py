"""Random templates from a small grammar: template(rng). The same seed gives the same templates."""

CONTEXT = {
    "a": 3, "b": -2, "c": 2.5, "s": "Hello World", "u": "\u00e9\u00df \u65e5\u672c \U0001F600x", "e": "", "n": None, "t": True, "k": False,
    "xs": [3, 1, 2], "ws": ["b", "A", "c", "a"], "d": {"x": 1, "y": "two", "z": [1, 2]}, "ms": [{"r": "u", "c": "hi", "v": 3}, {"r": "a", "c": " yo ", "v": 1}, {"r": "u", "c": "", "v": 2}],
}
NAMES = list(CONTEXT) + ["missing", "a", "s", "xs", "d", "ms"]
ATOMS = ["1", "0", "-1", "7", "2.5", "1e3", "'a'", "'b c'", "\"x,y\"", "''", "true", "false", "none", "[]", "{}", "()", "(1, 'a')", "[1, 'b', none]", "{'x': 2, 'q': 'w'}", "'\u00e9'", "range(4)"]
BINARY = ["+", "-", "*", "/", "//", "%", "**", "~", "==", "!=", "<", "<=", ">", ">=", "in", "not in", "and", "or", "+", "~", "=="]
FILTERS = """abs capitalize center(9) count default('z') default('z',true) d dictsort escape first float forceescape format(1) indent indent(2,true)
int int(5) items join join(',') join('-',attribute='v') last length list lower map('string') map('upper') map(attribute='r') map(attribute='v',default=0) max min
reject('odd') reject rejectattr('c') replace('l','L') replace('a','') reverse round round(1) round(1,'floor') safe select('string') select selectattr('v','gt',1)
selectattr('c') slice(2) sort sort(reverse=true) sort(attribute='v') string striptags sum sum(attribute='v') title tojson tojson(indent=2) trim trim('H') truncate(5) truncate(6,true,'.',0) unique
upper urlencode wordcount wordwrap(4) xmlattr batch(2) batch(2,'-') attr('x') groupby('r') filesizeformat list|length list|first string|length first|upper""".split()
TESTS = "defined undefined none string number integer float mapping sequence iterable boolean true false odd even divisibleby(2) eq(3) ne('a') gt(1) lt(2) in([1,'a']) lower upper callable escaped sameas(none)".split()
METHODS = """upper() lower() title() strip() lstrip() rstrip() split() split(',') split('l',1) rsplit('o') splitlines() startswith('H') endswith('d') replace('o','0') find('o') rfind('l') count('l')
index('H') isdigit() isalpha() isspace() isupper() islower() join(ws) join('ab') format(1,x=2) capitalize() swapcase() zfill(4) ljust(4) rjust(5,'.') center(6) partition(' ') rpartition('o')
removeprefix('H') removesuffix('d') get('x') get('q',5) items() keys() values() copy() index(1) count(1) append(1) pop() update({}) nosuch nosuch() isalnum() expandtabs() strip('H d')""".split()


def atom(rng):
    return rng.choice(NAMES) if rng.random() < 0.6 else rng.choice(ATOMS)


def postfix(rng, depth):
    base = atom(rng) if rng.random() < 0.7 else "(" + expression(rng, depth - 1) + ")"
    kind = rng.random()
    if kind < 0.25:
        return "%s|%s" % (base, rng.choice(FILTERS))
    if kind < 0.4:
        return "%s.%s" % (base if not base[0].isdigit() and base[0] != "-" else "(%s)" % base, rng.choice(METHODS))
    if kind < 0.5:
        return "%s[%s]" % (base, rng.choice(["0", "-1", "'x'", "1", "5", "a", "s", "'z'", "none", "true", "1.0"]))
    if kind < 0.6:
        bound = lambda: rng.choice(["", "", "0", "1", "-1", "2", "-3", "10", "none"])
        return "%s[%s:%s%s]" % (base, bound(), bound(), rng.choice(["", "", ":", ":2", ":-1", ":-2"]))
    if kind < 0.68:
        return "%s.%s" % (base if not base[0].isdigit() and base[0] != "-" else "(%s)" % base, rng.choice(["x", "y", "z", "r", "items", "v", "q"]))
    if kind < 0.78:
        return "%s is %s%s" % (base, rng.choice(["", "not "]), rng.choice(TESTS))
    return base


def expression(rng, depth):
    kind = rng.random()
    if depth <= 0 or kind < 0.4:
        return postfix(rng, depth)
    if kind < 0.75:
        return "%s %s %s" % (expression(rng, depth - 1), rng.choice(BINARY), expression(rng, depth - 1))
    if kind < 0.8:
        return "not " + expression(rng, depth - 1)
    if kind < 0.84:
        return "-" + postfix(rng, depth)
    if kind < 0.9:
        return "%s if %s%s" % (expression(rng, depth - 1), expression(rng, depth - 1), rng.choice(["", " else " + expression(rng, depth - 1)]))
    if kind < 0.93:
        return "[%s]" % ", ".join(expression(rng, depth - 1) for _ in range(rng.randrange(3)))
    if kind < 0.95:
        return "{%s}" % ", ".join("'%s': %s" % (k, expression(rng, depth - 1)) for k in "xy"[: rng.randrange(3)])
    if kind < 0.97:
        return "'%s' %% %s" % (rng.choice(["%s", "%d|", "%5s", "%r", "%s %s", "%.2f", "%x", "%%", "%(x)s"]), "(" + expression(rng, depth - 1) + ")")
    return "%s ~ %s" % (postfix(rng, depth), postfix(rng, depth))


def space(rng):
    return rng.choice(["", "", "", " ", "\n", "  \n ", "\n  "])


def tag(rng, text):
    return "{%" + rng.choice(["", "", "-", "+"]) + " " + text + " " + rng.choice(["", "", "-", "+"]) + "%}"


def statement(rng, depth):
    kind = rng.random()
    if depth <= 0 or kind < 0.35:
        return "{{%s %s %s}}" % (rng.choice(["", "-"]), expression(rng, 2), rng.choice(["", "-"]))
    if kind < 0.45:
        return rng.choice(["text", " x ", "{", "}", "\u00e9\n", "{# c #}", "  {#- c -#} ", "\t"])
    if kind < 0.6:
        middle = tag(rng, "else") + body(rng, depth - 1) if rng.random() < 0.5 else ""
        return tag(rng, "if " + expression(rng, 1)) + body(rng, depth - 1) + middle + tag(rng, "endif")
    if kind < 0.75:
        over = rng.choice(["xs", "ws", "ms", "d", "s", "d.items()", "range(3)", "missing", "e", "xs|sort", "ws|map('upper')", expression(rng, 1)])
        test = " if " + expression(rng, 1) if rng.random() < 0.25 else ""
        extra = rng.choice(["", "{{ loop.index }}", "{{ loop.last }}", "{{ i }}", "{{ loop.length }}", "{{ loop.previtem }}", "{% if loop.index > 1 %}{% break %}{% endif %}", "{% if i == 1 %}{% continue %}{% endif %}"])
        orelse = tag(rng, "else") + body(rng, 0) if rng.random() < 0.2 else ""
        return tag(rng, "for i in %s%s" % (over, test)) + extra + body(rng, depth - 1) + orelse + tag(rng, "endfor")
    if kind < 0.85:
        return tag(rng, "set %s = %s" % (rng.choice(["a", "v", "w", "s", "i"]), expression(rng, 2)))
    if kind < 0.89:
        return tag(rng, "set v") + body(rng, depth - 1) + tag(rng, "endset")
    if kind < 0.93:
        name = rng.choice("fg")
        return tag(rng, "macro %s(p, q=a)" % name) + "{{ p }}{{ q }}" + body(rng, depth - 1) + tag(rng, "endmacro") + "{{ %s(%s) }}" % (name, rng.choice(["", "1", "s, 2", "q=5"]))
    if kind < 0.95:
        return tag(rng, "filter " + rng.choice(["upper", "trim", "replace('l','L')", "length"])) + body(rng, depth - 1) + tag(rng, "endfilter")
    if kind < 0.97:
        return tag(rng, "with v = %s" % expression(rng, 1)) + body(rng, depth - 1) + tag(rng, "endwith")
    return "{% set ns = namespace(x=1) %}" + tag(rng, "for i in xs") + "{% set ns.x = ns.x + i %}" + tag(rng, "endfor") + "{{ ns.x }}"


def body(rng, depth):
    return space(rng) + "".join(statement(rng, depth) + space(rng) for _ in range(rng.randrange(1, 3)))


def template(rng):
    kind = rng.random()
    if kind < 0.6:
        return "{{ %s }}" % expression(rng, 3)
    return body(rng, 2)
