"""The official JSON-Schema-Test-Suite, how its instances are written for constraints, and what checks by it have in common.

It comes in the source distribution of jsonschema, at the version that tests/requirements.txt names, and is kept in
<build>/cache."""
import argparse
import collections
import itertools
import json
import pathlib
import re
import time

import source_package

ROOT = pathlib.Path(__file__).resolve().parents[2]
SKIPPED = 77
AT_LEAST = 100  # files of the suite
DRAFTS = {"draft2020-12": "https://json-schema.org/draft/2020-12/schema", "draft7": "http://json-schema.org/draft-07/schema#"}
MOST_ORDERS = 120  # in which an instance is written

Case = collections.namedtuple("Case", "draft file description schema tests")  # tests: [(description, instance, valid)]


def bring_suite(build):
    """The folder of the suite, or None."""
    version = re.search(r"^jsonschema==(\S+)", (ROOT / "tests" / "requirements.txt").read_text(), re.M).group(1)
    prefix = f"jsonschema-{version}/json/"

    def place_of(member):
        name = member.removeprefix(prefix)
        return name if name != member and name.startswith(("tests/", "remotes/")) else None

    try:
        return source_package.brought(f"jsonschema=={version}", build / "cache" / f"json-schema-suite-{version}", place_of, AT_LEAST)
    except source_package.Absent as reason:
        print(reason)
        return None


def with_draft(draft, schema):
    """Schemas of draft 7 have to say so."""
    if draft == "draft7" and isinstance(schema, dict) and "$schema" not in schema:
        return {"$schema": DRAFTS[draft], **schema}
    return schema


def cases(suite, draft, folder="."):
    for path in sorted((suite / "tests" / draft / folder).glob("*.json")):
        for case in json.loads(path.read_text("utf-8")):
            tests = [(t["description"], t["data"], t["valid"]) for t in case["tests"]]
            yield Case(draft, path.stem, case["description"], with_draft(draft, case["schema"]), tests)


# ---- instances as texts ----

def orders(value):
    """The value with the members of its objects in every order, and whole numbers without a fraction."""
    if isinstance(value, list):
        for items in itertools.product(*map(list, map(few, value))):
            yield list(items)
    elif isinstance(value, dict):
        for keys in itertools.permutations(value):
            for values in itertools.product(*(list(few(value[k])) for k in keys)):
                yield dict(zip(keys, values))
    elif isinstance(value, float) and value.is_integer() and abs(value) < 2 ** 53:
        yield int(value)
    else:
        yield value


def few(value):
    return itertools.islice(orders(value), MOST_ORDERS)


def texts(value):
    """Compact JSON of an instance. A constraint accepts it when it accepts one of these: what is written has the order of
    the schema's properties."""
    return [json.dumps(v, ensure_ascii=False, separators=(",", ":")) for v in few(value)]


# ---- checks ----

def arguments(description, verbose, **more):
    """What a check is called with; more: numbers by name, with what they are without. verbose: what it then says besides."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=ROOT / "build", type=pathlib.Path)
    parser.add_argument("--suite", type=pathlib.Path, help="the suite's folder, instead of bringing it")
    for name, value in {"random": 4000, "seed": 1, **more}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--verbose", action="store_true", help=f"also {verbose}")
    return parser.parse_args()


def outcome(wrong, suite, start):
    """A check's exit status; suite None: it could not be brought."""
    print("%d wrong, %.1f s" % (wrong, time.time() - start))
    if not suite and not wrong:
        print("skip: the test suite could not be brought")
        return SKIPPED
    return 1 if wrong else 0
