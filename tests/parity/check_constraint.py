#!/usr/bin/env python3
"""Random walks under the masks of grammar/: whatever the masks allow, and ends where they let it end, must obey the schema
(`jsonschema`), the regular expression (`re`) or the grammar that it was made for.

Usage: check_constraint.py [--build FOLDER] [--walks N] [--seed S] [--bench]
The probe is tests/tools/constraint_probe.c in the build folder; the vocabularies are those of the real models in
$TANDEM_MODELS, by default the tandem/models folder of the cache. --bench prints what masks cost instead. Exit status 1 on
any text that does not obey, 77 when a package or all models are missing."""
import argparse
import json
import os
import re
import subprocess
import sys

try:
    import jsonschema
except ImportError:
    print("skip: jsonschema is not installed")
    sys.exit(77)

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MODELS = ["smollm2-135m-instruct-q4_1.gguf", "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"]

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["x", "y", 1, None]}, "maxItems": 4},
        "address": {"$ref": "#/$defs/address"},
    },
    "required": ["name", "address"],
    "additionalProperties": False,
    "$defs": {"address": {"type": "object", "properties": {"street": {"type": "string"}, "zip": {"type": "string", "pattern": "^[0-9]{5}$"}},
                          "required": ["zip"], "additionalProperties": False}},
}
SCHEMAS = [
    PERSON,
    {"type": "object"},
    {"type": ["string", "null", "number"]},
    {"type": "number", "minimum": -2.5, "exclusiveMaximum": 17},
    {"type": "integer", "multipleOf": 7, "minimum": 10, "maximum": 500},
    {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "boolean"}], "items": {"type": "string"}, "minItems": 1, "maxItems": 5},
    {"type": "array", "items": {"type": "array", "items": {"type": "integer"}, "maxItems": 3}, "minItems": 2, "maxItems": 3},
    {"type": "string", "format": "ipv4"},
    {"type": "string", "format": "uuid"},
    {"type": "string", "format": "date-time"},
    {"type": "string", "pattern": "^(foo|ba[rz])+-[a-f]{2,3}$"},
    {"type": "string", "minLength": 3, "maxLength": 9},
    {"const": {"a": [1, "two", None, {"b": True}], "c": "d\n\"e\""}},
    {"enum": ["red", "green\u00e9", 3, 2.5, None, False, [1, 2]]},
    {"anyOf": [{"type": "string", "maxLength": 3}, {"type": "object", "properties": {"k": {"type": "null"}}, "required": ["k"]}]},
    {"oneOf": [{"type": "object", "properties": {"kind": {"const": "a"}, "v": {"type": "integer"}}, "required": ["kind", "v"]},
               {"type": "object", "properties": {"kind": {"const": "b"}, "w": {"type": "string"}}, "required": ["kind"]}]},
    {"allOf": [{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}, {"properties": {"a": {"minimum": 5}, "b": {"type": "null"}}}]},
    {"$ref": "#/$defs/node", "$defs": {"node": {"type": "object", "properties": {"v": {"type": "integer"}, "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
                                              "required": ["v", "next"], "additionalProperties": False}}},
    {"type": "object", "patternProperties": {"^n_": {"type": "integer"}, "^s_": {"type": "string", "maxLength": 4}}, "additionalProperties": False, "maxProperties": 3},
    {"type": "object", "additionalProperties": {"type": "boolean"}, "minProperties": 1, "maxProperties": 3},
]
# Beyond what llguidance enforces: what is left must hold, and what was left out is named.
WIDENED = [
    ({"type": "array", "items": {"type": "integer", "minimum": 3}, "uniqueItems": True, "maxItems": 4}, ["/uniqueItems"]),
    ({"type": "object", "properties": {"a": {"type": "string", "not": {"const": "x"}, "maxLength": 3}}, "required": ["a"], "propertyNames": {"maxLength": 1}},
     ["/properties/a/not", "/propertyNames"]),
    ({"oneOf": [{"type": "integer"}, {"type": "number", "minimum": 2}]}, ["/oneOf"]),
]
REGEXES = [r"[a-z]{1,8}@[a-z]{1,8}\.(com|org)", r"([0-9]{3}-){2}[0-9]{4}", r"(?i:yes|no|maybe)!*", r"[a-zA-Z_]+( [a-z]+){0,4}", r"[^\n]{2,30}\n", r"a|b|", r"[\u00e0-\u00ff]{2}",
           r"(true|false)(,(true|false)){0,3}", r"\s{1,3}x?", r".{3}"]
CHOICES = [["yes", "no"], ["a", "ab", "abc", "b c\u00e9\n"], ["\"quoted\"", "back\\slash", "\u2028"]]
ARITHMETIC = 'root ::= expr\nexpr ::= term (("+" | "-") term)*\nterm ::= factor (("*" | "/") factor)*\nfactor ::= [0-9]{1,4} | "(" expr ")"\n'
JSON_GBNF = r'''root   ::= value
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::= "{" ws ( string ":" ws value ("," ws string ":" ws value)* )? "}" ws
array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws
ws ::= | " " | "\n" [ \t]{0,20}
'''


def obeys(schema):
    validator = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)

    def check(text):
        return validator.is_valid(json.loads(text, parse_constant=lambda name: 1 / 0))
    return check


def is_json(text):
    json.loads(text)
    return True


def is_arithmetic(text):
    return re.fullmatch(r"[0-9+\-*/()]+", text) and compile(re.sub(r"\d+", "1", text), "text", "eval") is not None


def jobs(walks, seed):
    common = {"n": walks, "seed": seed}
    for schema in SCHEMAS:
        yield json.dumps(schema)[:60], {"schema": schema, "binding": True, **common}, obeys(schema), []
    for schema, dropped in WIDENED:
        yield json.dumps(schema)[:60], {"schema": schema, **common}, is_json, dropped
    for regex in REGEXES:
        yield regex, {"kind": "regex", "grammar": regex, **common}, lambda text, r=regex: re.fullmatch(r, text) is not None, []
    for choice in CHOICES:
        yield str(choice), {"kind": "choice", "grammar": json.dumps(choice), **common}, lambda text, c=choice: text in c, []
    yield "GBNF of arithmetic", {"kind": "gbnf", "grammar": ARITHMETIC, **common}, is_arithmetic, []
    yield "GBNF of JSON", {"kind": "gbnf", "grammar": JSON_GBNF, **common}, is_json, []
    lark = "start: \"call \" NAME \" \" %json {\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"}}}\nNAME: /[a-z_]{1,9}/"
    yield "Lark with %json", {"kind": "lark", "grammar": lark, **common}, lambda t: isinstance(json.loads(re.fullmatch(r"call [a-z_]{1,9} (.*)", t, re.S)[1]), dict), []


def ask(args, model, lines, *flags):
    done = subprocess.run([args.probe, model, *flags], input="".join(json.dumps(line) + "\n" for line in lines), capture_output=True, text=True, encoding="utf-8", check=True)
    return [json.loads(line) for line in done.stdout.split("\n") if line]


def holds(check, text):
    try:
        return bool(check(text))
    except (ValueError, SyntaxError, TypeError, ZeroDivisionError):
        return False


def check_model(args, model, flags):
    todo = list(jobs(args.walks, args.seed))
    bad = texts = unfinished = 0
    for (name, line, check, dropped), answer in zip(todo, ask(args, model, [t[1] for t in todo], *flags), strict=True):
        if "error" in answer or answer["dropped"] != dropped:
            print("%s: %s" % (name, answer.get("error") or "left out: %s" % answer["dropped"]))
            bad += 1
            continue
        wrong = [t for t in answer["texts"] if not holds(check, t)]
        for text in wrong[:3]:
            print("%s: %r does not obey" % (name, text))
        bad += len(wrong)
        texts += len(answer["texts"])
        unfinished += answer["unfinished"]
        if not answer["texts"]:
            print("%s: no walk came to an end" % name)
            bad += 1
    print("%s %s: %d texts, %d walks cut off, %d wrong" % (os.path.basename(model), " ".join(flags), texts, unfinished, bad), flush=True)
    return bad


def bench(args, model):
    cases = [("schema of a person", {"schema": PERSON}), ("any object", {"schema": {"type": "object"}}), ("any JSON", {"schema": True}),
             ("regex .*", {"kind": "regex", "grammar": "(?s:.*)"}), ("GBNF of JSON", {"kind": "gbnf", "grammar": JSON_GBNF})]
    for flags in ([], ["--canonical"]):
        for (name, line), answer in zip(cases, ask(args, model, [{"n": 40, "seed": args.seed, "max_tokens": 100, **line} for _, line in cases], "--bench", *flags), strict=True):
            print(json.dumps({"model": os.path.basename(model), "grammar": name, "canonical": bool(flags),
                              **{k: round(v, 2) if isinstance(v, float) else v for k, v in answer.items() if k not in ("texts", "dropped", "ms")}}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=os.path.join(ROOT, "build"))
    parser.add_argument("--walks", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bench", action="store_true")
    args = parser.parse_args()
    args.probe = os.path.join(args.build, "constraint_probe")
    cache = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "tandem", "models")
    folder = os.environ.get("TANDEM_MODELS") or cache
    models = [m for m in (os.path.join(folder, name) for name in MODELS) if os.path.exists(m)]
    if not models or not os.path.exists(args.probe):
        print("skip: no model in %s, or no %s" % (folder, args.probe))
        sys.exit(77)
    if args.bench:
        for model in models:
            bench(args, model)
        return
    bad = sum(check_model(args, model, flags) for model in models for flags in ([], ["--canonical"]))
    print("constraints: %d wrong" % bad)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
