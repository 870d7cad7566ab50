#!/usr/bin/env python3
"""Compares the Jinja engine of chat/ with jinja2, live: snippets, random expressions, and real chat templates.

Usage: check_jinja.py [--build FOLDER | --probe PROGRAM] [--only snippets|random|templates|corpus] [--random N]
       [--seed N] [--corpus FOLDER]
The probe is tests/tools/jinja_probe.c. A corpus is a folder of inputs of tests/fuzz/fuzz_chat_jinja.c: what the fuzzer found. Real templates: every *.jinja in the folder $TANDEM_TEMPLATES (where absent, only
those of the models in $TANDEM_MODELS), each with several conversations, also through transformers' own rendering where
that package is installed. Where jinja2 raises, the engine has to fail too. Exit status 1 on a difference, 77 when jinja2
is missing."""
import argparse
import glob
import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tools", "parity"))
try:
    import jinja_oracle as oracle
except ImportError as missing:
    print("skip: %s (pip install jinja2)" % missing)
    sys.exit(77)
import jinja_conversations
import jinja_random
import jinja_snippets
import jinja_typed

NOW = 1700000000
# What the engine refuses by design: integers beyond 64 bits, complex numbers, slices of what has none (jinja2 computes
# expressions of constants at compile time by other rules), the filters pprint, random and urlize, tables of translate
# that are no dict, batch(0), %a of the % operator, autoescape, formats of strftime_now beyond 512 bytes, an indent of
# tojson beyond 1024, what takes more than the budget.
BY_DESIGN = (
    "subscriptable by a slice", "more than 64 bits", "complex numbers", "is not supported", "are not supported", "more memory than",
    "more steps than", "has more than", "strftime_now is too long", "a count that is not 0", "unsupported format character 'a'",
    "tojson takes an indent of at most")
# Where the engine gives text and jinja2 may fail: sort's `reverse` may be any value, as newer Pythons take it.
LENIENT = "object cannot be interpreted as an integer"
# Different, and not in the random grammars: a negative constant to a power that is no constant, where jinja2 computes
# -(2 ** n) for (-2) ** n; unknown filters in parts of an expression that jinja2 drops since the rest is constant. Names
# of HTML entities in striptags, but for those of XML and nbsp: left out by unsettled().
# What shows a Python object: its address or its class.
PYTHON_OBJECT = re.compile(r" at 0x[0-9a-f]+>|<jinja2\.|<class '|<built-in |<(?:Recursive)?Loop", re.I)
shown = 0


def probe(args, jobs, *flags):
    text = "".join(json.dumps(job) + "\n" for job in jobs).encode()
    out = subprocess.run([args.probe, *flags], input=text, stdout=subprocess.PIPE, check=True).stdout
    lines = out.decode().split("\n")[:-1]
    assert len(lines) == len(jobs), (len(lines), len(jobs))
    return [json.loads(line) for line in lines]


def agrees(expected, got):
    """True, or why not; None: not compared."""
    kind, text = expected
    if kind != "error" and "error" in got and any(reason in got["error"] for reason in BY_DESIGN):
        return None
    if kind == "ok":
        if PYTHON_OBJECT.search(text):
            return None  # an error of a generator shows only when it is read, and nobody reads one that is printed
        return got.get("text") == text
    if "text" in got:
        return None if LENIENT in text else False
    if kind == "raise" and text[:1] in ("", "\0"):
        return True
    return kind != "raise" or got["error"] == text[: len(got["error"])] and len(got["error"]) >= min(len(text.encode()), 200)


def report(name, template, context, expected, got):
    global shown
    shown += 1
    if shown <= 25:
        print("%s: %s" % (name, template if len(template) < 300 else template[:100] + "..."))
        if context:
            print("  context %s" % json.dumps(context)[:300])
        show_difference(expected, got)


def show_difference(expected, got):
    if expected[0] == "ok" and "text" in got and len(expected[1]) > 200:
        a, b = expected[1], got["text"]
        at = next((i for i in range(min(len(a), len(b))) if a[i] != b[i]), min(len(a), len(b)))
        print("  differ at %d: want %r got %r" % (at, a[max(0, at - 60) : at + 60], b[max(0, at - 60) : at + 60]))
    else:
        print("  want %s %r\n  got  %r" % (expected[0], expected[1][:400], got))


RENDER = """import json, sys; sys.path.insert(0, sys.argv[1]); import jinja_oracle
job = json.load(sys.stdin); print(json.dumps(jinja_oracle.render(jinja_oracle.environment(%d), job["template"], job["context"])))""" % NOW


def depends_on_addresses(job):
    """Whether jinja2's text holds pieces of a Python object's address: it is another one in another process."""
    texts = set()
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", RENDER, os.path.join(ROOT, "tools", "parity")], input=json.dumps(job), text=True, capture_output=True)
        texts.add(done.stdout)
    return len(texts) > 1


def unsettled(job):
    """Whether a difference says nothing about the engine."""
    if "context" not in job:
        return False
    return "striptags" in job["template"] and re.search("&[A-Za-z]", job["template"]) or depends_on_addresses(job)


def compare(name, jobs, expected, got, labels=None):
    wrong = skipped = failing = 0
    for i, (job, want, have) in enumerate(zip(jobs, expected, got)):
        verdict = agrees(want, have)
        if verdict is False and unsettled(job):
            verdict = None
        skipped += verdict is None
        failing += want[0] != "ok"
        if verdict is False:
            wrong += 1
            report(labels[i] if labels else name, job["template"], None if labels else job.get("shown"), want, have)
    print("%-36s %6d cases (%d raise), %d differ%s" % (name, len(jobs), failing, wrong, ", %d left out" % skipped if skipped else ""))
    return wrong


def check_snippets(args):
    env = oracle.environment(NOW)
    jobs = [{"template": t, "context": jinja_snippets.CONTEXT, "now": NOW} for t in jinja_snippets.snippets()]
    expected = [oracle.render(env, j["template"], j["context"]) for j in jobs]
    return compare("snippets", jobs, expected, probe(args, jobs))


def check_random(args):
    return sum(check_grammar(args, name, grammar) for name, grammar in (("random", jinja_random), ("typed", jinja_typed)))


def check_grammar(args, name, grammar):
    env = oracle.environment(NOW)
    rng = random.Random(args.seed)
    context = jinja_random.CONTEXT
    templates = [grammar.template(rng) for _ in range(args.random)]
    jobs = [{"template": t, "context": context, "now": NOW} for t in templates]
    expected = [oracle.render(env, t, context) for t in templates]
    return compare("%s templates, seed %d" % (name, args.seed), jobs, expected, probe(args, jobs))


def real_templates():
    folder = os.environ.get("TANDEM_TEMPLATES")
    for path in sorted(glob.glob(os.path.join(folder, "*.jinja"))) if folder else []:
        with open(path, encoding="utf-8", newline="") as f:
            yield os.path.basename(path), f.read()
    cache = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "tandem", "models")
    for path in sorted(glob.glob(os.path.join(os.environ.get("TANDEM_MODELS") or cache, "*.gguf"))):
        try:
            import gguf
        except ImportError:
            print("skip: gguf is not installed")
            return
        field = gguf.GGUFReader(path).get_field("tokenizer.chat_template")
        if field:
            yield os.path.basename(path), bytes(field.parts[field.data[0]]).decode("utf-8")


def check_templates(args):
    env = oracle.environment(NOW)
    wrong = n = rendered = 0
    jobs, expected, labels = [], [], []
    for name, source in real_templates():
        n += 1
        for label, context in jinja_conversations.contexts():
            jobs.append({"template": source, "context": context, "now": NOW})
            expected.append(oracle.render(env, source, context))
            labels.append("%s, %s" % (name, label))
            rendered += expected[-1][0] == "ok"
    if not n:
        print("skip: no templates; set TANDEM_TEMPLATES to a folder of *.jinja files")
        return 0
    wrong = compare("real templates (%d)" % n, jobs, expected, probe(args, jobs), labels)
    bad = {labels[i].split(", ")[0] for i, (w, g) in enumerate(zip(expected, probe(args, jobs))) if agrees(w, g) is False}
    print("%-36s %6d of %d templates equal in all conversations; %d renders gave text" % ("", n - len(bad), n, rendered))
    return wrong + check_chats(args)


def corpus_jobs(folder):
    """Templates as the fuzz target reads them: the first line may be an object with the variables."""
    for path in sorted(glob.glob(os.path.join(folder, "*"))):
        with open(path, "rb") as f:
            data = f.read()
        try:
            text, context = data.decode("utf-8"), jinja_random.CONTEXT
            first, _, rest = text.partition("\n")
            if first.startswith("{") and not first.startswith(("{{", "{%", "{#")):
                context, text = json.loads(first), rest
        except ValueError:
            continue
        yield {"template": text, "context": context, "now": NOW}


class TooLong(BaseException):
    pass


def limited(env, job):
    """What jinja2 gives within two seconds and little memory; None when that is not enough."""

    def stop(*_):
        raise TooLong

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(2)
    try:
        return oracle.render(env, job["template"], job["context"])
    except (TooLong, MemoryError):
        return None
    finally:
        signal.alarm(0)


def check_corpus(args):
    if not args.corpus:
        return 0
    env = oracle.environment(NOW)
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    pairs = [(job, limited(env, job)) for job in corpus_jobs(args.corpus)]
    jobs = [job for job, want in pairs if want]
    return compare("corpus (%d too long)" % (len(pairs) - len(jobs)), jobs, [want for _, want in pairs if want], probe(args, jobs))


def check_chats(args):
    """continue_final_message and reasoning, through transformers itself."""
    try:
        from transformers.utils.chat_template_utils import render_jinja_template
    except ImportError:
        print("skip: transformers is not installed")
        return 0
    jobs, expected, labels = [], [], []
    for name, source in real_templates():
        if "strftime_now" in source:
            continue  # transformers takes the clock's time
        for label, chat in jinja_conversations.chats():
            kwargs = dict(chat.get("kwargs") or {})
            try:
                text = render_jinja_template(
                    [json.loads(json.dumps(chat["messages"]))], tools=chat.get("tools"), chat_template=source,
                    continue_final_message=chat.get("continue_final_message", False),
                    add_generation_prompt=chat.get("add_generation_prompt", False), **kwargs,
                )[0][0]
                expected.append(("ok", text))
            except Exception as e:
                expected.append(("error", str(e)))
            jobs.append({"template": source, "chat": chat, "now": NOW})
            labels.append("%s, %s" % (name, label))
    return compare("chats through transformers", jobs, expected, probe(args, jobs), labels)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", default=os.path.join(ROOT, "build"), help="folder of jinja_probe")
    parser.add_argument("--probe", help="path of the probe instead")
    parser.add_argument("--only", choices=["snippets", "random", "templates", "corpus"])
    parser.add_argument("--corpus", help="folder of inputs of the fuzz target")
    parser.add_argument("--random", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    args.probe = args.probe or os.path.join(args.build, "jinja_probe")
    start = time.time()
    wrong = 0
    for name, check in (("snippets", check_snippets), ("random", check_random), ("templates", check_templates), ("corpus", check_corpus)):
        if not args.only or args.only == name:
            wrong += check(args)
    print("%d differences, %.1f s" % (wrong, time.time() - start))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
