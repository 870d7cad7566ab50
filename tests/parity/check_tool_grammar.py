#!/usr/bin/env python3
"""Checks the grammars of tool calls with llguidance, live, and against the parser of outputs. Calls are written as the models
write them, independently of the table; the grammar has to accept them and the parser to find them, whether the format's markers
are special tokens or text. Unknown tools, missing arguments, wrong types, cut-off calls and plain text have to be refused.

Usage: check_tool_grammar.py [--build FOLDER] [FORMAT...]
Exit status 1 on any difference, 77 when a package is missing."""
import argparse
import json
import pathlib
import sys

try:
    from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper
except ImportError as missing:
    print(f"skip: {missing} (pip install llguidance)")
    sys.exit(77)

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools" / "parity"))
from probe import Probe  # noqa: E402 (needs the path)

TOOLS = [
    {"type": "function", "function": {"name": "get_weather", "parameters": {
        "type": "object", "required": ["city"], "additionalProperties": False, "$defs": {"t": {"type": "string"}},
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}, "unit": {"type": "string", "enum": ["c", "f"]},
                       "tags": {"type": "array", "items": {"$ref": "#/$defs/t"}}, "on": {"type": "boolean"}}}}},
    {"type": "function", "function": {"name": "now", "parameters": {
        "type": "object", "properties": {}, "additionalProperties": False}}},
    {"type": "function", "function": {"name": "opt", "parameters": {
        "type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "additionalProperties": False}}},
]
NESTED = {"city": "a <b> \n\"q\" \u00e9", "days": -3, "unit": "c", "tags": ["x", "y"], "on": True}
BYTES, FIRST_SPECIAL = 256, 257
DS = {"calls_begin": "<\uff5ctool\u2581calls\u2581begin\uff5c>", "calls_end": "<\uff5ctool\u2581calls\u2581end\uff5c>",
      "begin": "<\uff5ctool\u2581call\u2581begin\uff5c>", "end": "<\uff5ctool\u2581call\u2581end\uff5c>", "sep": "<\uff5ctool\u2581sep\uff5c>"}


# ---- calls as the models write them; calls: [(name, arguments)] ----

def dump(value):
    return json.dumps(value, ensure_ascii=False)


def plain(value):
    return value if isinstance(value, str) else dump(value)


def objects(calls, name="name", arguments="arguments", sep=", "):
    return sep.join(dump({name: n, arguments: a}) for n, a in calls)


def listed(begin, end="", **keys):
    return lambda calls: begin + "[" + objects(calls, **keys) + "]" + end


def each(begin, end, between="", **keys):
    return lambda calls: between.join(begin + objects([call], **keys) + end for call in calls)


def named(begin, write, between="", end=""):
    return lambda calls: begin + between.join(write(n, dump(a), i) for i, (n, a) in enumerate(calls)) + end


def tagged(begin, call, param, call_end, between, end, outer=True):
    def write(calls):
        blocks = [call.format(n) + "".join(param(k, v) for k, v in a.items()) + call_end for n, a in calls]
        return begin + between.join(blocks) + end if outer else between.join(begin + b + end for b in blocks)
    return write


def python(begin, between, end):
    def value(v):
        return repr(v) if isinstance(v, bool) else dump(v)
    return lambda calls: begin + between.join(f"{n}({', '.join(f'{k}={value(v)}' for k, v in a.items())})" for n, a in calls) + end


def gemma(begin, end, quote):
    def value(v):
        if isinstance(v, str):
            return quote + v + quote
        return "[" + ",".join(map(value, v)) + "]" if isinstance(v, list) else dump(v)
    return lambda calls: "".join(f"{begin}call:{n}{{{','.join(f'{k}:{value(v)}' for k, v in a.items())}}}{end}" for n, a in calls)


HERMES = each("<tool_call>\n", "\n</tool_call>", "\n")
LLAMA = each("", "", "; ", arguments="parameters")
DSML = "\uff5cDSML\uff5c"
FORMATS = {
    "harmony": named("", lambda n, a, i: f"<|channel|>commentary to=functions.{n} <|constrain|>json<|message|>{a}<|call|>"),
    "gemma4": gemma("<|tool_call>", "<tool_call|>", '<|"|>'),
    "functiongemma": gemma("<start_function_call>", "<end_function_call>", "<escape>"),
    "deepseek-v3.2": tagged(
        f"<{DSML}function_calls>\n", f'<{DSML}invoke name="{{}}">\n',
        lambda k, v: f'<{DSML}parameter name="{k}" string="{str(isinstance(v, str)).lower()}">{plain(v)}</{DSML}parameter>\n',
        f"</{DSML}invoke>", "\n", f"\n</{DSML}function_calls>"),
    "deepseek-v3": named(DS["calls_begin"], lambda n, a, i: f"{DS['begin']}function{DS['sep']}{n}\n```json\n{a}\n```{DS['end']}",
                         "\n", DS["calls_end"]),
    "deepseek-v3.1": named(DS["calls_begin"], lambda n, a, i: f"{DS['begin']}{n}{DS['sep']}{a}{DS['end']}", "", DS["calls_end"]),
    "step3": tagged(
        "<\uff5ctool_calls_begin\uff5c>", '<\uff5ctool_call_begin\uff5c>function<\uff5ctool_sep\uff5c><steptml:invoke name="{}">',
        lambda k, v: f'<steptml:parameter name="{k}">{plain(v)}</steptml:parameter>',
        "</steptml:invoke><\uff5ctool_call_end\uff5c>", "", "<\uff5ctool_calls_end\uff5c>"),
    "kimi-k2": named("<|tool_calls_section_begin|>",
                     lambda n, a, i: f"<|tool_call_begin|>functions.{n}:{i}<|tool_call_argument_begin|>{a}<|tool_call_end|>",
                     "", "<|tool_calls_section_end|>"),
    "minimax-m2": tagged("<minimax:tool_call>\n", '<invoke name="{}">\n',
                         lambda k, v: f'<parameter name="{k}">{plain(v)}</parameter>\n', "</invoke>", "\n", "\n</minimax:tool_call>"),
    "seed-oss": tagged("<seed:tool_call>\n", "<function={}>\n", lambda k, v: f"<parameter={k}>{plain(v)}</parameter>\n",
                       "</function>", "\n", "\n</seed:tool_call>", outer=False),
    "glm": tagged("<tool_call>", "{}\n", lambda k, v: f"<arg_key>{k}</arg_key>\n<arg_value>{plain(v)}</arg_value>\n",
                  "", "\n", "</tool_call>", outer=False),
    "qwen3-coder": tagged("<tool_call>\n", "<function={}>\n", lambda k, v: f"<parameter={k}>\n{plain(v)}\n</parameter>\n",
                          "</function>", "\n", "\n</tool_call>", outer=False),
    "functionary-v3.2": named("", lambda n, a, i: f"{n}\n{a}", ">>>"),
    "functionary-v3.1": named("", lambda n, a, i: f"<function={n}>{a}</function>"),
    "mistral-v11": named("", lambda n, a, i: f"[TOOL_CALLS]{n}[ARGS]{a}"),
    "mistral": listed("[TOOL_CALLS]"),
    "nemotron": listed("<TOOLCALL>", "</TOOLCALL>"),
    "granite": listed("<|tool_call|>", "<|/tool_call|>"),
    "granite-20b-fc": each("<function_call>", "</function_call>"),
    "cohere": listed("<|START_ACTION|>", "<|END_ACTION|>", name="tool_name", arguments="parameters"),
    "lfm2": python("<|tool_call_start|>[", ", ", "]<|tool_call_end|>"),
    "olmo3": python("<function_calls>\n", "\n", "\n</function_calls>"),
    "internlm2": each("<|action_start|><|plugin|>\n", "<|action_end|>", arguments="parameters"),
    "apertus": lambda calls: "<|tools_prefix|>[" + ", ".join(dump({n: a}) for n, a in calls) + "]<|tools_suffix|>",
    "gigachat3": each("<|message_sep|>\n\nfunction call<|role_sep|>\n", ""),
    "gigachat3.1": each("<|function_call|>", ""),
    "minimax-m1": lambda calls: "<tool_calls>\n" + objects(calls, sep="\n") + "\n</tool_calls>",
    "tool-calls-list": listed("<tool_calls>", "</tool_calls>"),
    "hermes": HERMES,
    "functools": listed("functools"),
    "xlam": listed(""),
    "llama4-pythonic": python("[", ", ", "]"),
    "llama4": LLAMA,
    "llama3": LLAMA,
    "gemma": python("```tool_code\n", "\n", "\n```"),
    "generic": HERMES,
}


# ---- a tokenizer of bytes and special tokens ----

class Tokens:
    def __init__(self, specials):
        self.tokens = [bytes([i]) for i in range(BYTES)] + [b"<eos>"] + [s.encode() for s in specials]
        self.eos_token_id, self.bos_token_id = BYTES, None
        self.special_token_ids = list(range(BYTES, FIRST_SPECIAL + len(specials)))

    def __call__(self, text):
        return list(text if isinstance(text, bytes) else text.encode())


def encode(text, specials):
    ids, rest = [], text.encode()
    by_length = sorted(((s.encode(), FIRST_SPECIAL + i) for i, s in enumerate(specials)), key=lambda x: -len(x[0]))
    while rest:
        found = next(((s, i) for s, i in by_length if rest.startswith(s)), (rest[:1], rest[0]))
        ids.append(found[1])
        rest = rest[len(found[0]):]
    return ids


class FormatProbe(Probe):
    def ask(self, **job):
        answer = super().ask(job)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer


def fault(tokenizer, grammar, ids):
    """Why the grammar refuses the tokens; None: it accepts them."""
    matcher = LLMatcher(tokenizer, LLMatcher.grammar_from_lark(grammar), log_level=0)
    taken = 0 if matcher.is_error() else matcher.try_consume_tokens(ids)
    if matcher.is_error():
        return matcher.get_error()
    return f"stops at {taken} of {len(ids)}" if taken < len(ids) else None if matcher.is_accepting() else "wants more"


def cases(write, harmony, bare):
    """(options, text, the calls in it or None when it has to be refused)"""
    one, full = [("get_weather", {"city": "Paris", "days": 5})], [("get_weather", NESTED)]
    yield {}, write(one), one
    yield {}, write(full), full
    for name, args in (("now", {}), ("opt", {}), ("opt", {"b": 1}), ("opt", {"a": 2, "b": 1}), ("opt", {"a": 2})):
        yield {}, write([(name, args)]), [(name, args)]
    for name, args in (("nope", {}), ("get_weather", {"days": 5}), ("get_weather", {"city": "x", "days": "many"}),
                       ("get_weather", {"city": "x", "unit": "k"}), ("get_weather", {"city": "x", "else": 1})):
        yield {}, write([(name, args)]), None
    yield {}, "Hello", None
    yield {}, write(one)[:-1], None
    many = one + [("now", {})] + full
    if not harmony:
        yield {"parallel": True}, write(many), many
        yield {"parallel": True}, write(one), one
        yield {}, write(many), None
    if not bare:
        yield {"text_first": True}, "I will <look>.\n" + write(one), one
        yield {"text_first": True}, write(one), one
        yield {"text_first": True}, "no call", None
        yield {"text_first": True, "parallel": True}, "x" + write(one if harmony else many), one if harmony else many
        yield {"after_trigger": True}, write(one), one


def check_format(probe, row, specials):
    name, failures, n = row["name"], 0, 0
    tokenizer = LLTokenizer(TokenizerWrapper(Tokens(specials)))
    tokens = {s: FIRST_SPECIAL + i for i, s in enumerate(specials)}
    for options, text, calls in cases(FORMATS[name], name == "harmony", not row["triggers"]):
        grammar = probe.ask(format=name, tools=TOOLS, tokens=tokens, **options)["grammar"]
        fed = text[len(row["triggers"][0]):] if options.get("after_trigger") else text
        why = fault(tokenizer, grammar, encode(fed, specials))
        n += 1
        if (why is None) != (calls is not None):
            failures += 1
            print(f"{name}, {len(specials)} special tokens, {options}: {fed!r}: {why or 'accepted'}\n{grammar}")
        if calls is None:
            continue
        found = probe.ask(format=name, tools=TOOLS, output=text)["calls"]
        if [(c["name"], json.loads(c["arguments"]), c["complete"]) for c in found] != [(n, a, True) for n, a in calls]:
            failures += 1
            print(f"{name}: the parser finds {found} in {text!r}")
    return failures, n


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("formats", nargs="*")
    args = parser.parse_args()
    probe = FormatProbe(args.build / "tool_format_probe")
    failures = n = 0
    for row in probe.ask()["formats"]:
        if args.formats and row["name"] not in args.formats:
            continue
        for specials in ([], row["markers"]):
            result = check_format(probe, row, specials)
            failures, n = failures + result[0], n + result[1]
    print(f"tool grammars: {n} outputs checked, {failures} failures")
    return 1 if failures or not n else 0


if __name__ == "__main__":
    sys.exit(main())
