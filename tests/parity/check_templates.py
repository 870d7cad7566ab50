#!/usr/bin/env python3
"""Compares what chat templates of real models render (chat/chat_template.h, with messages as the APIs bring them) with what
transformers renders for the same conversation in the shape that the model's documentation shows.

Usage: check_templates.py [--build FOLDER | --probe PROGRAM] [--only WORD] [--show N] [--transformers] [--write]
The templates come from tools/parity/template_source.py, the conversations and the rules of their shape from
tools/parity/template_chats.py, the expectation from tools/parity/jinja_oracle.py: jinja2 set up as transformers does it. With
--transformers (a Python that has it; `make test` needs none) the oracle itself is compared with transformers: with 5.24.0 they
are equal for all templates and conversations. Where a template raises, Tandem has to fail with its words; where it fails by
accident (an undefined variable), Tandem has to fail. docs/TEMPLATES.md is the outcome as a table; --write makes it, and one that
is stale is a difference. Exit status 1 on a difference, 77 where jinja2 or the templates are missing; with CI set they may not
be."""
import argparse
import collections
import datetime
import json
import os
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools" / "parity"))
try:
    import jinja_oracle as oracle
    import template_chats
except ImportError as missing:
    print("skip: %s (pip install jinja2)" % missing)
    sys.exit(77)
import source_package
import template_source

NOW = 1700000000
TABLE = ROOT / "docs" / "TEMPLATES.md"


def probe(args, jobs, *flags):
    text = "".join(json.dumps(job) + "\n" for job in jobs).encode()
    out = subprocess.run([args.probe, "--special", *flags], input=text, stdout=subprocess.PIPE, check=True).stdout
    lines = out.decode().split("\n")[:-1]
    assert len(lines) == len(jobs), (len(lines), len(jobs))
    return [json.loads(line) for line in lines]


def variables(name, chat):
    return {**template_chats.VARIABLES.get(name, {}), **chat.get("kwargs", {})}


def conversation(chat):
    return chat["messages"], chat.get("continue_final_message", False)


def options(shape, chat):
    return dict(tools=shape.tools(chat["tools"]), continue_final_message=chat.get("continue_final_message", False),
                add_generation_prompt=chat.get("add_generation_prompt", False), **template_chats.SPECIAL, **variables(shape.name, chat))


def equal(want, got):
    kind, text = want
    if kind == "ok":
        return got.get("text") == text
    error = got.get("error")
    if error is None or kind == "error":
        return error is not None
    if kind == "refused":
        return error.startswith("continue_final_message is set, but")
    return len(error) >= min(len(text.encode()), 200) and text.startswith(error)


def show(label, want, got):
    a, b = want[1], got.get("text", got.get("error"))
    at = next((i for i in range(min(len(a), len(b))) if a[i] != b[i]), min(len(a), len(b)))
    print("%s\n  differ at %d: want %s %r\n  got %r" % (label, at, want[0], a[max(0, at - 80) : at + 120], b[max(0, at - 80) : at + 120]))


Row = collections.namedtuple("Row", "name caps rendered raised differ words failures")


def check_template(args, env, name, source):
    shape = template_chats.Shape(env, name, source)
    chats = list(template_chats.chats())
    jobs = [{"chat": {**chat, "kwargs": variables(name, chat)}, "now": NOW} for _, chat in chats]
    jobs[0]["template"] = source
    got = probe(args, jobs)
    want = [oracle.apply_chat(env, source, shape.messages(*conversation(chat)), **options(shape, chat)) for _, chat in chats]
    wrong = [i for i in range(len(chats)) if not equal(want[i], got[i])]
    for i in wrong[: args.show]:
        show("%s, %s" % (name, chats[i][0]), want[i], got[i])
    caps = probe(args, [{"template": source}], "--caps")[0].get("text", "").split()
    caps = {key: value == "1" for key, value in zip(caps[::2], caps[1::2])}
    words = collections.Counter(text for kind, text in want if kind == "raise")
    failures = collections.Counter(g["error"] for (kind, _), g in zip(want, got) if kind == "error" and "error" in g)
    rendered = sum(kind == "ok" for kind, _ in want)
    return Row(name, caps, rendered, len(want) - rendered, len(wrong), words, failures)


def check_oracle(env, name, source):
    """The oracle against transformers; the number of differences."""
    import transformers.utils.chat_template_utils as theirs

    class Fixed(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls.fromtimestamp(NOW, tz)

    theirs.datetime = Fixed
    shape = template_chats.Shape(env, name, source)
    differ = 0
    for label, chat in template_chats.chats():
        messages = shape.messages(*conversation(chat))
        want = oracle.apply_chat(env, source, messages, **options(shape, chat))
        try:
            text = theirs.render_jinja_template([json.loads(json.dumps(messages))], chat_template=source, **options(shape, chat))[0][0]
            same = want == ("ok", text)
        except Exception as e:
            same = want[0] != "ok" and (want[0] != "raise" or want[1] == str(e))
        same = same and theirs._normalize_chat_messages(chat["messages"]) == oracle.without_nulls(chat["messages"])
        differ += not same
        if not same:
            print("%s, %s: the oracle differs from transformers" % (name, label))
    return differ


def yes(value):
    return "yes" if value else "-"


def table(rows, n):
    lines = [
        "# Chat templates", "",
        "Made by `tests/parity/check_templates.py --write`: %d templates of real models, each with %d conversations, rendered by Tandem" % (len(rows), n),
        "and, from the shape of messages that the model's documentation shows, by jinja2 set up as transformers does it. The rules of that",
        "shape are in the headers of `chat/chat_template.h` and `tools/parity/template_chats.py`.", "",
        "System, tools (definitions show), calls (tool calls in the history show), results, reasoning (`reasoning_content` shows), parts",
        "(content parts of a user are passed on), developer: what probing found. Adapted: what the template takes otherwise than the API",
        "brings it, beside arguments as an object. Equal: conversations rendered alike, and those that the template refuses and Tandem refuses with it.",
        "Every template refuses one: to continue a message without text.", "",
        "| template | system | developer | tools | calls | results | reasoning | parts | adapted | equal | refused | differ |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"]
    for r in rows:
        caps = [yes(r.caps.get(c)) for c in ("system", "developer", "tools", "calls", "tool", "reasoning", "parts")]
        lines.append("| %s | %s | %s | %d | %d | %d |" % (r.name, " | ".join(caps), adapted(r.name), r.rendered, r.raised, r.differ))
    lines += ["", "## What templates refuse", "", "In their own words, with the number of conversations:", ""]
    for r in rows:
        lines += ["- %s: %s (%d)" % (r.name, " ".join(text.split()), k) for text, k in sorted(r.words.items())]
    lines += ["", "## Where templates fail", "", "By accident, in Python as in Tandem; the words are Tandem's:", ""]
    for r in rows:
        lines += ["- %s: %s (%d)" % (r.name, " ".join(text.split()), k) for text, k in sorted(r.failures.items())]
    lines += ["", "Three of these are not for transformers: the templates of Kimi-K2-Instruct and Kimi-K2-Thinking change lists, which its sandbox",
              "forbids, and llama-cpp-deepseek-r1 writes a generator as JSON. Those named tool_use are for requests with tools; others go to the",
              "model's default template."]
    return "\n".join(lines) + "\n"


def adapted(name):
    made = []
    if name in template_chats.TEXT_ARGUMENTS:
        made.append("arguments as text")
    if name in template_chats.EMPTY_CONTENT:
        made.append("empty content is %s" % {None: "none", "": '""'}[template_chats.EMPTY_CONTENT[name]])
    if name in template_chats.WHOLE_TOOLS:
        made.append("whole tools")
    if name in template_chats.THINKING_PARTS:
        made.append("reasoning as a part")
    if name in template_chats.NINE:
        made.append("ids of nine characters")
    if name in template_chats.OWN_IDS:
        made.append("the template's own ids")
    return ", ".join(made) or "-"


def check_table(args, text):
    if args.write:
        TABLE.write_text(text)
    if TABLE.exists() and TABLE.read_text() == text:
        return 0
    print("%s is stale: run tests/parity/check_templates.py --write" % TABLE.relative_to(ROOT))
    return 1


def parsed():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build", help="folder of jinja_probe")
    parser.add_argument("--probe", type=pathlib.Path, help="path of the probe instead")
    parser.add_argument("--only", default="", help="templates whose names hold this")
    parser.add_argument("--show", type=int, default=3, help="differences shown of each template")
    parser.add_argument("--transformers", action="store_true", help="compare the oracle with transformers instead")
    parser.add_argument("--write", action="store_true", help="write docs/TEMPLATES.md")
    args = parser.parse_args()
    args.probe = args.probe or args.build / "jinja_probe"
    return args


def main():
    args, start = parsed(), time.time()
    os.environ["TZ"] = "UTC"
    time.tzset()
    env = oracle.environment(NOW)
    try:
        found = [(name, text) for name, text in template_source.templates(args.build) if args.only in name]
    except source_package.Absent as reason:
        print("%s: %s" % ("failed" if os.environ.get("CI") else "skip", reason))
        return 1 if os.environ.get("CI") else 77
    n = sum(1 for _ in template_chats.chats())
    if args.transformers:
        differ = sum(check_oracle(env, name, text) for name, text in found)
        print("oracle: %d templates, %d conversations each, %d differ from transformers" % (len(found), n, differ))
        return 1 if differ else 0
    rows = [check_template(args, env, name, text) for name, text in found]
    differ = sum(r.differ for r in rows)
    if not args.only and not os.environ.get("TANDEM_TEMPLATES"):
        differ += check_table(args, table(rows, n))
    print("%d templates, %d conversations (%d refused by the template), %d differences, %.1f s"
          % (len(rows), len(rows) * n, sum(r.raised for r in rows), differ, time.time() - start))
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
