"""Random templates whose expressions mostly have the right types, so that more of them give text than with jinja_random:
template(rng). Variables are those of jinja_random.CONTEXT; the same seed gives the same templates."""

NUMBERS = ["a", "b", "c", "0", "1", "7", "-3", "2.5", "0.1", "1e3", "xs[0]", "ms[0].v", "d.x", "true"]
STRINGS = ["s", "u", "e", "'a'", "'x y  z'", "\"<q> & 'w'\"", "'a\\nb\\n\\nc'", "d.y", "ms[1].c", "'12'", "' \\tq'", "ws[0]", "'%'", "'\u00df\u01c6\u0130'"]
LISTS = ["xs", "ws", "ms", "[]", "d.z", "(1, 2)", "range(5)|list", "[[1], [2, 3]]", "d.keys()|list"]
DICTS = ["d", "ms[0]", "{}", "{'k': 1, 'b': [1, 'x']}", "dict(z=1, y='t')"]
SMALL = ["0", "1", "2", "3", "-1", "5", "8"]


def number(rng, depth):
    if depth <= 0:
        return rng.choice(NUMBERS)
    kind = rng.randrange(9)
    if kind < 3:
        left, right = number(rng, depth - 1), number(rng, depth - 1)
        return rng.choice(["(%s + %s)", "(%s - %s)", "(%s * %s)", "(%s / %s)", "(%s // %s)", "(%s %% %s)"]) % (left, right)
    if kind == 3 and rng.random() < 0.3:  # not of a negative constant: jinja2 computes (-2) ** n as -(2 ** n)
        return "(%s ** %s)" % (rng.choice(["a", "b", "c", "xs[0]"]), rng.choice(NUMBERS))
    if kind == 3:
        return "%s|%s" % (rng.choice([string, listing, mapping])(rng, depth - 1), rng.choice(["length", "count"]))
    if kind == 4:
        return "(%s).%s(%s)" % (string(rng, depth - 1), rng.choice(["find", "rfind", "count"]), string(rng, 0))
    if kind == 5:
        return "(%s)|%s" % (number(rng, depth - 1), rng.choice(["abs", "round", "round(1)", "round(2, 'ceil')", "round(-1)", "int", "float", "default(3)"]))
    if kind == 6:
        return "%s|%s" % (string(rng, depth - 1), rng.choice(["int", "float", "int(7)", "int(0, 16)", "wordcount"]))
    if kind == 7:
        return "%s|%s" % (rng.choice(["xs", "[1, 2.5]", "d.z"]), rng.choice(["sum", "max", "min", "first", "last", "sum(start=%s)" % number(rng, 0)]))
    return "(%s if %s else %s)" % (number(rng, depth - 1), boolean(rng, depth - 1), number(rng, depth - 1))


STRING_FILTERS = """upper lower title capitalize trim trim('a') center(9) indent(2) indent('> ',true) replace('a','--') replace('','.') replace('l','L',1) string escape safe e
truncate(5) truncate(8,true) truncate(9,false,'..',2) wordwrap(5) wordwrap(4,false) wordwrap(3,true,'|') striptags urlencode tojson forceescape last first default('q') reverse|string""".split()
STRING_METHODS = """upper() lower() title() capitalize() swapcase() strip() lstrip() rstrip('\\n') strip('ax') zfill(6) ljust(7,'*') rjust(6) center(8,'-') expandtabs(4) casefold()
replace('a','b') replace('','-',2) removeprefix('a') removesuffix('z') join(ws) partition('\\x20')[0] rpartition('\\x20')[2] format(1) translate({97:'Q'})""".split()
FORMATS = ["{}", "{:>5}", "{:<7}|", "{:^6}", "{:*^9}", "{!r}", "{!s:>4}", "{0}{0}", "{:{}}", "a{{}}{}"]
NUMBER_FORMATS = ["{:d}", "{:5}", "{:05}", "{:+}", "{:,}", "{:_}", "{:x}", "{:#b}", "{:.2f}", "{:e}", "{:g}", "{:%}", "{:010.3f}", "{:<8}", "{:=+9,.1f}", "{:.3}"]
PERCENTS = ["%d", "%5d", "%-5d|", "%05d", "%+d", "% d", "%x", "%#o", "%.2f", "%10.3e", "%g", "%s", "%r", "%i%%", "%c"]


def string(rng, depth):
    if depth <= 0:
        return rng.choice(STRINGS)
    kind = rng.randrange(10)
    if kind == 0:
        return "(%s ~ %s)" % (anything(rng, depth - 1), anything(rng, depth - 1))
    if kind == 1:
        return "(%s + %s)" % (string(rng, depth - 1), string(rng, depth - 1))
    if kind == 2:
        return "%s|%s" % (string(rng, depth - 1), rng.choice(STRING_FILTERS))
    if kind == 3:
        return "(%s).%s" % (string(rng, depth - 1), rng.choice(STRING_METHODS))
    if kind == 4:
        bound = lambda: rng.choice(["", "", "0", "1", "-1", "2", "-3", "10"])
        return "%s[%s:%s%s]" % (string(rng, depth - 1), bound(), bound(), rng.choice(["", "", ":", ":2", ":-1", ":-2"]))
    if kind == 5:
        of = anything(rng, depth - 1)
        return rng.choice(["(%s)|string", "(%s)|tojson", "(%s)|tojson(indent=2)", "(%s)|tojson(sort_keys=true)", "(%s)|tojson(ensure_ascii=true)", "(%s)|tojson(separators=(',', ':'))"]) % of
    if kind == 6:
        return "%s|%s" % (listing(rng, depth - 1), rng.choice(["join", "join(', ')", "join(%s)" % string(rng, 0), "map('string')|join('|')", "join(attribute='v')"]))
    if kind == 7:
        return "'%s'.format(%s, 9)" % (rng.choice(FORMATS), anything(rng, depth - 1)) if rng.random() < 0.5 else "'%s'.format(%s)" % (rng.choice(NUMBER_FORMATS), number(rng, depth - 1))
    if kind == 8:
        return "('%s' %% (%s,))" % (rng.choice(PERCENTS), number(rng, depth - 1))
    return "(%s * %s)" % (string(rng, depth - 1), rng.choice(SMALL))


LIST_FILTERS = """reverse|list unique|list list batch(2)|list batch(3,0)|list slice(2)|list slice(3,'-')|list select|list reject('none')|list select('string')|list
map('string')|list map('string')|map('upper')|list select('mapping')|list map(attribute='v')|list map(attribute='v',default='-')|list map('tojson')|list""".split()
SORTED = """xs|sort ws|sort ws|sort(reverse=true) ws|sort(case_sensitive=true) ms|sort(attribute='v') ms|sort(attribute='r,c') ms|selectattr('v','gt',1)|list ms|rejectattr('c')|list
ms|map(attribute='c')|list ms|groupby('r')|list ms|groupby('v')|map(attribute='grouper')|list d|dictsort d|dictsort(by='value')|list d|items|list d.items()|list d.values()|list ms|selectattr('r','equalto','u')|list
ws|unique|list ws|unique(case_sensitive=true)|list ms|unique(attribute='r')|list ws|map('upper')|sort xs|select('odd')|list xs|reject('divisibleby',3)|list ws|map('replace','a','b')|list""".split()


def listing(rng, depth):
    if depth <= 0:
        return rng.choice(LISTS)
    kind = rng.randrange(8)
    if kind == 0:
        return "[%s]" % ", ".join(anything(rng, depth - 1) for _ in range(rng.randrange(4)))
    if kind == 1:
        return "(%s|list + %s|list)" % (listing(rng, depth - 1), listing(rng, depth - 1))
    if kind == 2:
        bound = lambda: rng.choice(["", "", "0", "1", "-1", "2", "-3"])
        return "(%s)[%s:%s%s]" % (listing(rng, depth - 1), bound(), bound(), rng.choice(["", "", ":2", ":-1"]))
    if kind == 3:
        return "%s|%s" % (listing(rng, depth - 1), rng.choice(LIST_FILTERS))
    if kind == 4:
        return rng.choice(SORTED)
    if kind == 5:
        return "(%s).%s" % (string(rng, depth - 1), rng.choice(["split()", "split(',')", "split('a', 1)", "rsplit(' ', 1)", "splitlines()", "splitlines(true)", "rsplit()", "partition('a')"]))
    if kind == 6:
        return "%s|list" % rng.choice([string, mapping])(rng, depth - 1)
    return "(%s * %s)" % (listing(rng, depth - 1), rng.choice(["0", "1", "2"]))


def mapping(rng, depth):
    if depth <= 0 or rng.random() < 0.5:
        return rng.choice(DICTS)
    keys = rng.sample(["'k'", "'b'", "1", "none", "(1, 2)", "2.0", "true"], rng.randrange(3))
    return "{%s}" % ", ".join("%s: %s" % (k, anything(rng, depth - 1)) for k in keys)


TESTS = "defined undefined none string number integer float mapping sequence iterable boolean true false callable".split()


def boolean(rng, depth):
    kind = rng.randrange(8)
    if kind == 0 or depth <= 0:
        return rng.choice(["t", "k", "true", "missing is defined", "n is none", "s == 'x'"])
    if kind == 1:
        return "(%s %s %s)" % (number(rng, depth - 1), rng.choice(["<", "<=", ">", ">=", "==", "!="]), number(rng, depth - 1))
    if kind == 2:
        return "(%s %s %s)" % (string(rng, depth - 1), rng.choice(["<", "==", "!=", "in", "not in", ">="]), string(rng, depth - 1))
    if kind == 3:
        return "(%s %s %s)" % (anything(rng, depth - 1), rng.choice(["in", "not in", "==", "!="]), listing(rng, depth - 1))
    if kind == 4:
        return "(%s is %s%s)" % (anything(rng, depth - 1), rng.choice(["", "not "]), rng.choice(TESTS))
    if kind == 5:
        return "(not %s)" % anything(rng, depth - 1)
    if kind == 6:
        return "(%s).%s" % (string(rng, depth - 1), rng.choice(["startswith('a')", "endswith(('a', 'd'))", "isdigit()", "isalpha()", "isspace()", "isupper()", "istitle()", "islower()", "isalnum()", "isidentifier()"]))
    return "(%s %s %s)" % (anything(rng, depth - 1), rng.choice(["and", "or"]), anything(rng, depth - 1))


def anything(rng, depth):
    return rng.choice([number, string, string, listing, mapping, boolean])(rng, depth)


def trim(rng):
    return rng.choice(["", "", "-", "+"])


def statement(rng, depth):
    kind = rng.randrange(9) if depth > 0 else 0
    tag = lambda text: "{%%%s %s %s%%}" % (trim(rng), text, trim(rng))
    inner = lambda: rng.choice(["", " ", "\n", "\n  "]) + statement(rng, depth - 1) + rng.choice(["", " ", "\n"])
    if kind < 2:
        return "{{%s %s %s}}" % (rng.choice(["", "-"]), anything(rng, 3), rng.choice(["", "-"]))
    if kind == 2:
        return tag("if " + boolean(rng, 2)) + inner() + tag("elif " + boolean(rng, 1)) + inner() + tag("else") + inner() + tag("endif")
    if kind == 3:
        test = " if " + rng.choice(["v", "v is string", boolean(rng, 1)]) if rng.random() < 0.3 else ""
        show = rng.choice(["{{ v }}", "{{ loop.index0 }}/{{ loop.length }}", "{{ loop.revindex }}", "{{ loop.cycle('x', 'y') }}", "{{ loop.changed(v) }}", "{{ loop.previtem }}", "{{ loop.nextitem|default('.') }}"])
        leave = rng.choice(["", "", tag("if loop.index == 2") + tag("break") + tag("endif"), tag("if loop.first") + tag("continue") + tag("endif")])
        return tag("for v in " + listing(rng, 2) + test) + leave + show + inner() + (tag("else") + inner() if rng.random() < 0.3 else "") + tag("endfor")
    if kind == 4:
        return tag("set v = " + anything(rng, 3)) + inner() + "{{ v }}"
    if kind == 5:
        return tag("set v%s" % rng.choice(["", " | upper", " | trim"])) + inner() + tag("endset") + "{{ v|length }}"
    if kind == 6:
        return (tag("macro f(p, q=%s)" % anything(rng, 1)) + "[{{ p }}|{{ q }}|{{ varargs }}|{{ kwargs }}]" + inner() + "{{ caller() if caller }}" + tag("endmacro")
                + rng.choice(["{{ f(%s) }}" % anything(rng, 2), "{{ f(1, q=2, z=%s) }}" % anything(rng, 1), tag("call f(2, 3, 4)") + inner() + tag("endcall")]))
    if kind == 7:
        return tag("set ns = namespace(x=%s)" % anything(rng, 1)) + tag("for i in xs") + tag("set ns.x = ns.x ~ i") + tag("endfor") + "{{ ns.x }}" + inner()
    name, rest = rng.choice([("filter", " upper"), ("with", " v = 1"), ("generation", "")])
    return tag(name + rest) + inner() + tag("end" + name)


def template(rng):
    return statement(rng, 2) + rng.choice(["", "\n", " x\n"])
