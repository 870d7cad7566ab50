#!/usr/bin/env python3
"""Schemas as constraints: Tandem beside llguidance and xgrammar used directly, on the official JSON-Schema-Test-Suite.

    schema_peers.py [--build build] [--only Tandem llguidance xgrammar]

Of the required tests of drafts 2020-12 and 7, and of the formats': the share of schemas that an engine refuses, of valid
instances that it lets be written (of all, those of refused schemas included), and of invalid ones. Instances are compact JSON;
one counts as accepted when any order of its members is. The peers lie in <build>/schema-peers, a venv of its own: xgrammar
without torch and transformers, which it imports and does not need for this, so that stubs stand in for them.

Tandem runs as for a strict schema: what it cannot enforce it refuses. llguidance has its defaults, which refuse what is not
known, too. xgrammar has any_whitespace and strict_mode=False, the meaning that JSON Schema has: it leaves out what it does
not know."""
import argparse
import json
import pathlib
import subprocess
import sys
import types
import unittest.mock

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "parity"), str(ROOT / "tools" / "parity")]

PACKAGES = ["llguidance==1.9.1", "apache-tvm-ffi==0.1.15.post2", "pydantic==2.14.4", "numpy==2.4.6"]
ALONE = ["xgrammar==0.2.9"]  # without what it requires
PARTS = [("draft2020-12", "."), ("draft2020-12", "optional/format"), ("draft7", "."), ("draft7", "optional/format")]
PATIENCE_S = 20  # for one schema


# ---- in the venv: a line in, a line out ----

class Bytes:
    """A tokenizer with one token per byte."""
    eos_token_id, bos_token_id = 256, None
    tokens = [bytes([i]) for i in range(256)] + [b"<eos>"]
    special_token_ids = [256]

    def __call__(self, text):
        return list(text if isinstance(text, bytes) else text.encode())


def llguidance_judge():
    from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper
    tokenizer = LLTokenizer(TokenizerWrapper(Bytes()))

    def judge(schema, texts):
        grammar = LLMatcher.grammar_from_json_schema(json.dumps(schema))
        matcher = LLMatcher(tokenizer, grammar, log_level=0)
        if matcher.is_error():
            return matcher.get_error(), []
        verdicts = []
        for text in texts:
            matcher = LLMatcher(tokenizer, grammar, log_level=0)
            ids = list(text.encode())
            verdicts.append(matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting())
        return None, verdicts
    return judge


class Stub(types.ModuleType):
    """Whatever is asked of it: a class for a name with a capital, else what may be called and looked into."""
    __version__ = "0"

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        value = type(name, (), {}) if name[0].isupper() else unittest.mock.MagicMock()
        setattr(self, name, value)
        return value


def xgrammar_judge():
    for name in ("torch", "transformers", "triton"):
        sys.modules[name] = Stub(name)
    import xgrammar
    vocabulary = xgrammar.TokenizerInfo(Bytes.tokens, vocab_type=xgrammar.VocabType.RAW, vocab_size=257, stop_token_ids=[256])
    compiler = xgrammar.GrammarCompiler(vocabulary, cache_enabled=False)

    def judge(schema, texts):
        try:
            grammar = compiler.compile_json_schema(json.dumps(schema), any_whitespace=True, strict_mode=False)
        except Exception as error:  # whatever it has
            return str(error) or type(error).__name__, []
        verdicts = []
        for text in texts:
            matcher = xgrammar.GrammarMatcher(grammar, terminate_without_stop_token=True)
            verdicts.append(bool(matcher.accept_string(text)) and matcher.is_terminated())
        return None, verdicts
    return judge


JUDGES = {"llguidance": llguidance_judge, "xgrammar": xgrammar_judge}


def serve(name):
    judge = JUDGES[name]()
    for line in sys.stdin:
        job = json.loads(line)
        print(json.dumps(judge(job["schema"], job["texts"])), flush=True)


# ---- here ----

class Peer:
    """A judge in a process, since one may end at a schema; that counts as refused."""

    def __init__(self, name, python):
        self.name, self.python, self.process = name, python, None

    def start(self):
        self.process = subprocess.Popen([str(self.python), __file__, "--judge", self.name], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, text=True, encoding="utf-8")

    def judge(self, schema, texts):
        import select
        if self.process is None:
            self.start()
        self.process.stdin.write(json.dumps({"schema": schema, "texts": texts}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline() if select.select([self.process.stdout], [], [], PATIENCE_S)[0] else ""
        if not line:
            self.process.kill()
            self.process.wait()
            self.process = None
            return "it ended, or takes too long", [], []
        reason, verdicts = json.loads(line)
        return reason, verdicts, []


def peer_python(build):
    folder = build / "schema-peers"
    python = folder / "bin" / "python"
    if not (folder / "made").exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*pip, *PACKAGES], check=True)
        subprocess.run([*pip, "--no-deps", *ALONE], check=True)
        (folder / "made").touch()
    return python


def share(part, whole):
    return f"{100 * part / max(whole, 1):.1f} %"


def measure(engine, suite, draft, folder):
    """The tally, and how many schemas let something invalid be written."""
    import check_schema_masks
    import schema_suite
    total, unsound = check_schema_masks.Tally(), set()
    for i, case in enumerate(schema_suite.cases(suite, draft, folder)):
        total.add(check_schema_masks.run_case(engine, case, lambda *_, i=i: unsound.add(i)))
    return total, len(unsound)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=ROOT / "build", type=pathlib.Path)
    parser.add_argument("--only", nargs="*", default=["Tandem", "llguidance", "xgrammar"])
    parser.add_argument("--judge", choices=sorted(JUDGES), help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.judge:
        return serve(a.judge)
    import check_schema_masks
    import schema_suite
    suite = schema_suite.bring_suite(a.build)
    python = peer_python(a.build)
    engines = [check_schema_masks.Tandem(a.build) if name == "Tandem" else Peer(name, python) for name in a.only]
    print("| draft, tests | | schemas refused | valid instances accepted | invalid ones accepted | schemas that accept any |\n|" + " --- |" * 6)
    for draft, folder in PARTS:
        for engine in engines:
            t, n_unsound = measure(engine, suite, draft, folder)
            print(f"| {draft}, {'required' if folder == '.' else 'formats'} | {engine.name} | {share(t.refused, t.schemas)} of {t.schemas} | "
                  f"{share(t.accepted, t.valid)} of {t.valid} | {t.unsound} of {t.invalid} | {n_unsound} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
