#!/usr/bin/env python3
"""Schemas as constraints (grammar/schema_widen.h, binding) accept nothing that their schema does not.

For each schema of the official JSON-Schema-Test-Suite, drafts 2020-12 and 7, and for random ones, that compiles: every
invalid instance of the suite, written in every order, has to be refused, and texts that the masks let a random walk write
have to be valid (`jsonschema`, with the formats that it knows). Random patterns are compared with Python's `re`.

    check_schema_masks.py [--build build] [--suite FOLDER] [--random N] [--patterns N] [--walks N] [--seed N] [--verbose]

The vocabulary is the small one of the tests, so that no model is needed. Exit status 1 when something invalid is accepted,
77 where the suite cannot be brought."""
import decimal
import json
import pathlib
import random
import re
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools" / "parity"))
import schema_suite
from check_json_schema import keyword, random_schema
from probe import Probe

FOLDERS = [".", "optional", "optional/format"]
# Instances that the suite calls invalid and a constraint may let be written: (file, description of the case) -> reason.
ANNOTATIONS = "contentEncoding and contentMediaType are annotations"
EXCEPTIONS = {
    ("content", "validation of string-encoded content based on media type"): ANNOTATIONS,
    ("content", "validation of binary string-encoding"): ANNOTATIONS,
    ("content", "validation of binary-encoded media type documents"): ANNOTATIONS,
}
OTHER_DIALECT = {"ecmascript-regex"}  # \W is anything but letters of ASCII there, and not in Python
VALID_AT_LEAST = 0.3  # of the valid instances: else the probe or the texts are wrong


class Tandem:
    """Judges texts by the binding path; walks: how many are made of each schema."""
    name = "Tandem"

    def __init__(self, build, walks=0, seed=0):
        self.probe = Probe(build / "constraint_probe", "small", stderr=subprocess.DEVNULL)
        self.walks, self.seed = walks, seed

    def judge(self, schema, texts):
        """(reason it is refused or None, whether each text is accepted, texts of walks)"""
        answer = self.probe.ask({"schema": schema, "binding": True, "n": self.walks, "seed": self.seed, "max_tokens": 80,
                                 "feed": texts})
        return answer.get("error"), answer.get("fed", []), answer.get("texts", [])


class Tally:
    def __init__(self):
        self.schemas = self.refused = self.valid = self.accepted = self.invalid = self.unsound = 0

    def add(self, other):
        for key, value in vars(other).items():
            setattr(self, key, getattr(self, key) + value)


def run_case(engine, case, on_unsound, on_walk=None, verbose=False):
    """Every test of one schema; on_unsound(case, description, text) for an invalid instance that is accepted."""
    t = Tally()
    written = [schema_suite.texts(instance) for _, instance, _ in case.tests]
    reason, verdicts, walks = engine.judge(case.schema, [text for texts in written for text in texts])
    t.schemas = 1
    t.refused = reason is not None
    if verbose and reason:
        print(f"  {case.draft}/{case.file}: {case.description}: refused: {reason[:160]}")
    at = 0
    for (description, _, valid), texts in zip(case.tests, written):
        t.valid += valid
        t.invalid += not valid
        if reason is not None:
            continue
        yes = [text for text, verdict in zip(texts, verdicts[at:at + len(texts)]) if verdict]
        at += len(texts)
        t.accepted += valid and bool(yes)
        t.unsound += not valid and bool(yes)
        if yes and not valid:
            on_unsound(case, description, yes[0])
        if verbose and valid and not yes:
            print(f"  {case.draft}/{case.file}: {case.description} / {description}: {texts[0][:200]} is not accepted")
    for text in walks if on_walk else []:
        on_walk(case, text)
    return t


# ---- what the masks let be written ----

def exact(text):
    """JSON with numbers as they are written: multiples of 0.0001 are none to binary fractions."""
    return json.loads(text, parse_float=decimal.Decimal)


def is_whole(checker, value):
    return not isinstance(value, bool) and isinstance(value, (int, decimal.Decimal)) and value == int(value)


class Oracle:
    """Counts texts of walks that their schema does not allow."""

    def __init__(self):
        import jsonschema
        from jsonschema import validators
        self.classes = {draft: validators.extend(cls, type_checker=cls.TYPE_CHECKER.redefine("integer", is_whole))
                        for draft, cls in (("draft2020-12", jsonschema.Draft202012Validator), ("draft7", jsonschema.Draft7Validator))}
        self.checked = self.wrong = 0

    def __call__(self, case, text):
        cls = self.classes[case.draft]
        if case.file in OTHER_DIALECT:
            return
        try:
            valid = cls(exact(json.dumps(case.schema)), format_checker=cls.FORMAT_CHECKER).is_valid(exact(text))
        except json.JSONDecodeError:
            valid = False
        except Exception:  # a reference that leads nowhere, a recursion without end, a pattern that Python has not
            return
        self.count(case, text, valid)

    def count(self, case, text, valid):
        self.checked += 1
        if not valid:
            self.wrong += 1
            if self.wrong <= 40:
                print(f"  {case.draft}/{case.file}: {json.dumps(case.schema)[:600]} lets {text!r} be written")


class PatternOracle(Oracle):
    """Of schemas whose text is a string with a pattern. Python writes some things in another way."""
    TRANSLATED = [("$", r"\Z"), ("(?<stop>", "(?:"), (r"\cA", r"\x01"), ("[a[&]", r"[a\[&]"), ("[&&a]", "[&a]"), ("[b~~a]", "[b~a]")]

    def __call__(self, case, text):
        pattern = case.schema["pattern"]
        for old, new in self.TRANSLATED:
            pattern = pattern.replace(old, new)
        self.count(case, text, re.search(pattern, json.loads(text)) is not None)


ATOMS = ["a", "b", "\u00e9", r"\d", r"\D", r"\w", r"\s", r"\S", ".", "[a-c]", "[^a]", r"[\s\d]", r"[^\S]", "[a[&]", "[&&a]", "[b~~a]", r"\.", r"\/",
         "(?:ab|c)", "(a|b)", "(?<stop>ab)", r"\u0041", r"\x42", r"[\b]", r"\cA", r"\0", r"\t", "(^a|b)", "(a|b$)", "-", "\"", "(?:x{2})", "[+-]", "\\\\"]
QUANTIFIERS = ["", "", "", "*", "+", "?", "{2}", "{1,3}", "{2,}", "*?"]


def random_pattern(rng):
    def branch():
        text = "".join(rng.choice(ATOMS) + rng.choice(QUANTIFIERS) for _ in range(rng.randrange(1, 5)))
        return rng.choice(["", "^", "^"]) + text + rng.choice(["", "$", "$"])
    return "|".join(branch() for _ in range(rng.choice([1, 1, 1, 2, 3])))


def pattern_cases(n, seed):
    rng = random.Random(seed)
    for i in range(n):
        schema = {"type": "string", "pattern": random_pattern(rng)}
        if rng.random() < 0.2:
            schema["maxLength"] = rng.randrange(3, 9)
        yield schema_suite.Case("draft2020-12", f"pattern {i}", "", schema, [])


def random_cases(n, seed):
    rng = random.Random(seed)
    for i in range(n):
        draft = rng.choice(sorted(schema_suite.DRAFTS))
        schema = {"$schema": schema_suite.DRAFTS[draft], "$defs": {"d": random_schema(rng, draft, 1), "e": random_schema(rng, draft, 0)}}
        schema.update(keyword(rng, draft, 3) for _ in range(rng.randrange(1, 4)))
        yield schema_suite.Case(draft, f"random {i}", "", schema, [])


def check_suite(engine, suite, verbose):
    oracle, total = Oracle(), Tally()
    unsound = excepted = 0

    def on_unsound(case, description, text):
        nonlocal unsound, excepted
        if (case.file, case.description) in EXCEPTIONS:
            excepted += 1
            return
        unsound += 1
        print(f"  {case.draft}/{case.file}: {case.description} / {description}: {text[:200]} is accepted")

    for draft in schema_suite.DRAFTS:
        for folder in FOLDERS:
            t = Tally()
            for case in schema_suite.cases(suite, draft, folder):
                t.add(run_case(engine, case, on_unsound, oracle, verbose))
            print("%-13s %-15s %4d of %4d schemas refused, %4d of %4d valid instances accepted, %d of %4d invalid ones" % (
                draft, folder, t.refused, t.schemas, t.accepted, t.valid, t.unsound, t.invalid), flush=True)
            total.add(t)
    print("%d walks, %d wrong; %d invalid instances accepted, %d of them excepted" % (
        oracle.checked, oracle.wrong, unsound + excepted, excepted))
    return unsound + oracle.wrong + (total.accepted < VALID_AT_LEAST * total.valid)


def check_walks(name, engine, cases, oracle):
    n = refused = 0
    for case in cases:
        n += 1
        refused += run_case(engine, case, None, oracle).refused
    print("%d of %d random %s refused; %d of %d walks wrong" % (refused, n, name, oracle.wrong, oracle.checked), flush=True)
    return oracle.wrong + (oracle.checked < n // 10)


def main():
    args = schema_suite.arguments(__doc__, "what is refused and what is not accepted", patterns=1500, walks=3)
    start = time.time()
    suite = args.suite or schema_suite.bring_suite(args.build)
    engine = Tandem(args.build, args.walks, args.seed)
    wrong = check_suite(engine, suite, args.verbose) if suite else 0
    wrong += check_walks("schemas", engine, random_cases(args.random, args.seed), Oracle())
    wrong += check_walks("patterns", engine, pattern_cases(args.patterns, args.seed), PatternOracle())
    return schema_suite.outcome(wrong, suite, start)


if __name__ == "__main__":
    sys.exit(main())
