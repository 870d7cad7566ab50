#!/usr/bin/env python3
"""grammar/json_schema.c against the official JSON-Schema-Test-Suite, drafts 2020-12 and 7, and against the Python
package jsonschema, live: random schemas with random values, and the metaschemas applied to random schemas.

    check_json_schema.py [--build build] [--suite FOLDER] [--random N] [--seed N] [--verbose]

The suite comes in the source distribution of jsonschema, at the version that tests/requirements.txt names, and is kept
in <build>/cache. Exit status 77 where it cannot be brought.
"""
import json
import pathlib
import random
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools" / "parity"))
from probe import Probe
from schema_suite import DRAFTS, arguments, bring_suite, outcome, with_draft

# What is not as the suite has it: (draft, file, description of the case, of the test or None for all) -> reason.
EXCEPTIONS = {
    ("draft2020-12", "vocabulary", "schema that uses custom metaschema with with no validation vocabulary", None):
        "metaschemas of others are refused: $schema chooses between two drafts",
    ("draft2020-12", "vocabulary", "ignore unrecognized optional vocabulary", None):
        "metaschemas of others are refused: $schema chooses between two drafts",
}
UNASSERTED = "a format that says nothing"
OPTIONAL_EXCEPTIONS = {  # files of optional/ and optional/format/
    "content": "contentEncoding and contentMediaType are annotations",
    "cross-draft": "draft 2019-09 is not supported",
    "format-assertion": "metaschemas of others are refused",
    "idn-email": UNASSERTED, "idn-hostname": UNASSERTED, "iri": UNASSERTED, "iri-reference": UNASSERTED, "uri-template": UNASSERTED,
}


def remotes(suite, draft):
    """Documents that the suite expects at localhost:1234: those of the draft, and the ones that no draft owns."""
    found = []
    for path in sorted((suite / "remotes").rglob("*.json")):
        name = path.relative_to(suite / "remotes").as_posix()
        if not name.startswith("draft") or name.startswith(draft + "/"):
            schema = json.loads(path.read_text("utf-8"))
            if "metaschema" not in name and schema_of(schema) in (None, DRAFTS[draft]):
                found.append({"uri": "http://localhost:1234/" + name, "schema": schema})
    return found


def schema_of(schema):
    return schema.get("$schema") if isinstance(schema, dict) else None


def run_file(probe, draft, path, exceptions, format_on):
    """passed, excepted, failed"""
    counts = [0, 0, 0]
    for case in json.loads(path.read_text("utf-8")):
        answer = probe.ask({"schema": with_draft(draft, case["schema"]), "data": [t["data"] for t in case["tests"]], "format": format_on})
        for i, test in enumerate(case["tests"]):
            key = (draft, path.stem, case["description"])
            if "valid" in answer and answer["valid"][i] == test["valid"]:
                counts[0] += 1
            elif (*key, None) in exceptions or (*key, test["description"]) in exceptions or path.stem in exceptions:
                counts[1] += 1
            else:
                counts[2] += 1
                print(f"  {draft}/{path.stem}: {case['description']} / {test['description']}: expected {test['valid']}, got "
                      f"{answer['valid'][i] if 'valid' in answer else answer['error']}")
    return counts


def check_suite(probe, suite):
    failed = 0
    for draft in DRAFTS:
        probe.tell({"documents": remotes(suite, draft)})
        for label, folder, exceptions, format_on in (("required", ".", EXCEPTIONS, False),
                                                     ("optional", "optional", OPTIONAL_EXCEPTIONS, False),
                                                     ("format", "optional/format", OPTIONAL_EXCEPTIONS, True)):
            total = [0, 0, 0]
            for path in sorted((suite / "tests" / draft / folder).glob("*.json")):
                counts = run_file(probe, draft, path, exceptions, format_on)
                total = [a + b for a, b in zip(total, counts)]
            print("%-13s %-9s %5d passed, %3d excepted, %3d failed" % (draft, label, *total))
            failed += total[2]
    probe.tell({"documents": []})
    return failed


# ---- random schemas ----

KEYS = ["a", "b", "c", "ab", "x-1", "\u00e4"]
VALUES = [None, True, False, 0, 1, 2, -1, 1.0, 1.5, 0.1, 0.3, 1e2, 12345678901234567890, "", "a", "b", "ab", "aab", "\u00e4\U0001f600", "x-1"]
PATTERNS = ["^a", "b$", "^[a-c]+$", "a{2}", "^x-\\d$", "^.{2}$", "^(?!a)"]  # not "", which jsonschema forgets in additionalProperties
TYPES = ["null", "boolean", "integer", "number", "string", "array", "object"]


def random_value(rng, depth):
    kind = rng.random()
    if depth == 0 or kind < 0.5:
        return rng.choice(VALUES)
    if kind < 0.75:
        return [random_value(rng, depth - 1) for _ in range(rng.randrange(5))]
    return {rng.choice(KEYS): random_value(rng, depth - 1) for _ in range(rng.randrange(5))}


def keyword(rng, draft, depth):
    def sub():
        return random_schema(rng, draft, depth - 1)

    def subs():
        return [sub() for _ in range(rng.randrange(1, 4))]

    def by_key():
        return {rng.choice(KEYS): sub() for _ in range(rng.randrange(1, 4))}

    def keys():
        return rng.sample(KEYS, rng.randrange(3))

    plain = {
        "type": lambda: rng.choice([rng.choice(TYPES), rng.sample(TYPES, 2)]),
        "enum": lambda: [random_value(rng, 1) for _ in range(3)], "const": lambda: random_value(rng, 1),
        "minimum": lambda: rng.choice([0, 1, 1.5]), "maximum": lambda: rng.choice([0, 1, 1.5]),
        "exclusiveMinimum": lambda: rng.choice([0, 1, 1.5]), "exclusiveMaximum": lambda: rng.choice([0, 1, 2]),
        "multipleOf": lambda: rng.choice([1, 2, 0.5, 3]), "minLength": lambda: rng.randrange(3), "maxLength": lambda: rng.randrange(3),
        "pattern": lambda: rng.choice(PATTERNS), "required": keys, "minItems": lambda: rng.randrange(3),
        "maxItems": lambda: rng.randrange(4), "minProperties": lambda: rng.randrange(3), "maxProperties": lambda: rng.randrange(4),
        "uniqueItems": lambda: True,
    }
    nested = {
        "properties": by_key, "patternProperties": lambda: {rng.choice(PATTERNS): sub()}, "additionalProperties": sub,
        "propertyNames": sub, "items": sub, "contains": sub, "allOf": subs, "anyOf": subs, "oneOf": subs, "not": sub,
        "if": sub, "then": sub, "else": sub, "$ref": lambda: rng.choice(["#/$defs/d", "#/$defs/e"]),
    }
    if draft == "draft7":
        nested.update({"dependencies": lambda: {rng.choice(KEYS): rng.choice([keys, sub])()}, "additionalItems": sub,
                       "items": lambda: rng.choice([sub, subs])()})
    else:
        plain.update({"minContains": lambda: rng.randrange(3), "maxContains": lambda: rng.randrange(3),
                      "dependentRequired": lambda: {rng.choice(KEYS): keys()}})
        nested.update({"prefixItems": subs, "dependentSchemas": by_key, "unevaluatedItems": sub, "unevaluatedProperties": sub})
    table = plain if depth == 0 or rng.random() < 0.4 else nested
    name = rng.choice(sorted(table))
    return name, table[name]()


def random_schema(rng, draft, depth):
    if rng.random() < 0.08:
        return rng.random() < 0.6
    return dict(keyword(rng, draft, depth) for _ in range(rng.randrange(1, 4)))


def check_random(args, probe):
    import jsonschema
    import jsonschema.exceptions

    wrong = valid = given_up = n = 0
    rng = random.Random(args.seed)
    oracles = {"draft2020-12": jsonschema.Draft202012Validator, "draft7": jsonschema.Draft7Validator}
    for _ in range(args.random):
        draft = rng.choice(sorted(DRAFTS))
        schema = {"$schema": DRAFTS[draft], "$defs": {"d": random_schema(rng, draft, 1), "e": random_schema(rng, draft, 0)}}
        schema.update(keyword(rng, draft, 3) for _ in range(rng.randrange(1, 4)))
        data = [random_value(rng, 3) for _ in range(8)]
        answer = probe.ask({"schema": schema, "data": data})
        for i, value in enumerate(data):
            try:
                expected = oracles[draft](schema).is_valid(value)
            except RecursionError:
                given_up += 1
                continue
            got = answer["valid"][i] if "valid" in answer else answer["error"]
            if got is None:  # the two look at keywords in different orders, and so into a recursion or not
                given_up += 1
                continue
            n += 1
            valid += expected
            if got != expected:
                wrong += 1
                if wrong <= 20:
                    print(f"  expected {expected}, got {got}: {json.dumps(schema)} of {json.dumps(value)}")
    print("random pairs: %d equal of %d, %d of them valid (%d recursions without end)" % (n - wrong, n, valid, given_up))
    return wrong + (given_up * 50 > n)


def check_metaschemas(args, probe):
    """Random and broken schemas, against the metaschemas; and whatever a metaschema refuses is refused in compilation."""
    import jsonschema

    wrong = refused = lenient = 0
    rng = random.Random(args.seed + 1)
    oracles = {"draft2020-12": jsonschema.Draft202012Validator, "draft7": jsonschema.Draft7Validator}
    for _ in range(args.random // 4):
        draft = rng.choice(sorted(DRAFTS))
        schema = dict(keyword(rng, draft, 2) for _ in range(2))
        if rng.random() < 0.5 and schema:
            schema[rng.choice(sorted(schema))] = random_value(rng, 1)
        oracle = oracles[draft]
        expected = oracle(oracle.META_SCHEMA).is_valid(schema)
        got = probe.ask({"schema": {"$ref": DRAFTS[draft]}, "data": [schema]})
        wrong += got.get("valid") != [expected]
        if got.get("valid") != [expected]:
            print(f"  expected {expected}, got {got}: {json.dumps(schema)}")
        refused += not expected
        compiled = probe.ask({"schema": {"$schema": DRAFTS[draft], "$defs": {"d": {}, "e": {}}, **schema}, "data": []})
        lenient += not expected and "valid" in compiled
        if args.verbose and not expected and "valid" in compiled:
            print(f"  compiles: {json.dumps(schema)}")
        unknown = any(part in compiled.get("error", "") for part in ("leads to no schema", "digits are supported"))
        if expected and "valid" not in compiled and not unknown:
            wrong += 1
            print(f"  not compiled: {compiled['error']}: {json.dumps(schema)}")
    print("metaschemas: %d differences; %d schemas refused by them, of which %d compile" % (wrong, refused, lenient))
    return wrong


def main():
    args = arguments(__doc__, "schemas that compile although a metaschema refuses them")
    start = time.time()
    probe = Probe(args.build / "json_schema_probe")
    suite = args.suite or bring_suite(args.build)
    wrong = check_random(args, probe) + check_metaschemas(args, probe)
    if suite:
        wrong += check_suite(probe, suite)
    return outcome(wrong, suite, start)


if __name__ == "__main__":
    sys.exit(main())
