#!/usr/bin/env python3
"""Random schemas at a temperature at which a model writes nonsense: what ends by itself has to obey its schema.

Generation i of a seed is always the same request: a chat, a message or a response, streamed or not, of tools with random
schemas (random_schemas.py), one of which has to be called ("required", or by its name; strict or not), or with an answer that
is bound by a strict schema. Several run at once.

    schema_run.py [--model smollm2 qwen2.5-coder] [--generations 1000] [--from 0] [--seed 1] [--at-once 16] [--max-tokens 400]

The generations are shared out evenly between the models. Whatever has ended is parsed without double keys and validated by
the package jsonschema, with the formats that it knows. Prompts name the tools only, so that time goes into answers. Exit status 1 when less
than 80 % end by themselves (the others need more than --max-tokens), when one that ended does not obey, or is refused."""
import argparse
import collections
import concurrent.futures
import json
import os
import pathlib
import sys
import tempfile
import threading
import time

import jsonschema

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "e2e"), str(ROOT / "tests" / "structured")]
import random_schemas

FINISHED_SHARE = 0.8
TEMPLATE = """\
{%- if tools %}<|im_start|>system
Tools: {% for tool in tools %}{{ tool.function.name }} {% endfor %}
<tool_call>
{"name": <function-name>, "arguments": <args-json-object>}
</tool_call><|im_end|>
{% endif %}
{%- for m in messages %}<|im_start|>{{ m.role }}
{{ m.content or "" }}{%- for call in m.tool_calls or [] %}
<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>{% endfor %}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
PROMPTS = ["What is the weather?", "Order two of them.", "Who was that?", "Go on.", "Send it to my friend, please.", "1 + 1?"]

Case = collections.namedtuple("Case", "i api stream mode tools schema named strict prompt parallel seed")
# finished: it ended by itself; items: [(schema, JSON text)] to validate
Answer = collections.namedtuple("Answer", "finished items")


def case_of(seed, i):
    rng = random_schemas.rng_of(seed, i)
    mode = rng.choice(["required", "named", "format"])
    tools = random_schemas.random_tools(rng) if mode != "format" else []
    return Case(i, ["chat", "messages", "responses"][i % 3], rng.random() < 0.5, mode, tools,
                random_schemas.random_schema(rng) if mode == "format" else None, rng.choice(tools)[0] if tools else None,
                rng.random() < 0.5, rng.choice(PROMPTS), rng.random() < 0.2, rng.randrange(1 << 30))


# ---- the three APIs ----

class Chat:
    path = "/v1/chat/completions"

    @staticmethod
    def body(case):
        body = {"messages": [{"role": "user", "content": case.prompt}]}
        if case.mode == "format":
            return {**body, "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": case.schema}}}
        choice = "required" if case.mode == "required" else {"type": "function", "function": {"name": case.named}}
        return {**body, "tool_choice": choice, "parallel_tool_calls": case.parallel, "tools": [
            {"type": "function", "function": {"name": n, "parameters": s, "strict": case.strict}} for n, s in case.tools]}

    @staticmethod
    def answer(case, reply):
        message = reply["choices"][0]["message"]
        calls = [(c["function"]["name"], c["function"]["arguments"]) for c in message.get("tool_calls") or []]
        return answer_of(case, reply["choices"][0]["finish_reason"] in ("stop", "tool_calls"), calls, message["content"])

    @staticmethod
    def streamed(case, events):
        calls, text, finish = [], "", None
        for event in events:
            for choice in event.get("choices", []):
                text += choice["delta"].get("content") or ""
                finish = choice["finish_reason"] or finish
                for c in choice["delta"].get("tool_calls") or []:
                    if c["index"] == len(calls):
                        calls.append([c["function"]["name"], ""])
                    calls[c["index"]][1] += c["function"].get("arguments") or ""
        return answer_of(case, finish in ("stop", "tool_calls"), calls, text)


class Messages:
    path = "/v1/messages"

    @staticmethod
    def body(case):
        body = {"messages": [{"role": "user", "content": case.prompt}]}
        if case.mode == "format":
            return {**body, "output_config": {"format": {"type": "json_schema", "schema": case.schema}}}
        choice = {"type": "any"} if case.mode == "required" else {"type": "tool", "name": case.named}
        return {**body, "tool_choice": {**choice, "disable_parallel_tool_use": not case.parallel},
                "tools": [{"name": n, "input_schema": s, "strict": case.strict} for n, s in case.tools]}

    @staticmethod
    def answer(case, reply):
        calls = [(b["name"], json.dumps(b["input"])) for b in reply["content"] if b["type"] == "tool_use"]
        text = "".join(b["text"] for b in reply["content"] if b["type"] == "text")
        return answer_of(case, reply["stop_reason"] in ("end_turn", "tool_use"), calls, text)

    @staticmethod
    def streamed(case, events):
        calls, text, stop = [], "", None
        for event in events:
            if event["type"] == "content_block_start" and event["content_block"]["type"] == "tool_use":
                calls.append([event["content_block"]["name"], ""])
            elif event["type"] == "content_block_delta":
                text += event["delta"].get("text", "")
                if "partial_json" in event["delta"]:
                    calls[-1][1] += event["delta"]["partial_json"]
            elif event["type"] == "message_delta":
                stop = event["delta"]["stop_reason"]
        return answer_of(case, stop in ("end_turn", "tool_use"), [(n, a or "{}") for n, a in calls], text)


class Responses:
    path = "/v1/responses"

    @staticmethod
    def body(case):
        body = {"model": "default", "input": case.prompt, "store": False}
        if case.mode == "format":
            return {**body, "text": {"format": {"type": "json_schema", "name": "answer", "strict": True, "schema": case.schema}}}
        choice = "required" if case.mode == "required" else {"type": "function", "name": case.named}
        return {**body, "tool_choice": choice, "parallel_tool_calls": case.parallel, "tools": [
            {"type": "function", "name": n, "parameters": s, "strict": case.strict} for n, s in case.tools]}

    @staticmethod
    def answer(case, reply):
        calls = [(o["name"], o["arguments"]) for o in reply["output"] if o["type"] == "function_call"]
        text = "".join(c["text"] for o in reply["output"] if o["type"] == "message" for c in o["content"])
        return answer_of(case, reply["status"] == "completed", calls, text)

    @staticmethod
    def streamed(case, events):
        """The deltas have to make what the last event has whole."""
        deltas, last = collections.defaultdict(str), None
        for event in events:
            if event["type"].endswith((".output_text.delta", ".function_call_arguments.delta")):
                deltas[event["output_index"]] += event["delta"]
            last = event.get("response", last)
        for i, item in enumerate(last["output"]):
            whole = item["arguments"] if item["type"] == "function_call" else "".join(c["text"] for c in item["content"])
            assert deltas[i] == whole, f"deltas {deltas[i]!r} are not {whole!r}"
        return Responses.answer(case, last)


APIS = {"chat": Chat, "messages": Messages, "responses": Responses}


def answer_of(case, finished, calls, text):
    if case.mode == "format":
        return Answer(finished, [(case.schema, text)])
    schemas = dict(case.tools)
    assert not finished or calls, "no call, though one has to come"
    assert case.parallel or len(calls) <= 1, "more than one call"
    for name, _ in calls:
        assert name in schemas and (case.mode != "named" or name == case.named), f"a call of {name}"
    return Answer(finished, [(schemas[name], arguments) for name, arguments in calls])


# ---- validating ----

def no_double_keys(pairs):
    assert len({k for k, _ in pairs}) == len(pairs), "a key comes twice"
    return dict(pairs)


def fault_of(schema, text):
    """Why a text does not obey; None: it does."""
    cls = jsonschema.Draft202012Validator
    try:
        value = json.loads(text, object_pairs_hook=no_double_keys)
    except (ValueError, AssertionError) as error:
        return f"no JSON: {error}"
    error = jsonschema.exceptions.best_match(cls(schema, format_checker=cls.FORMAT_CHECKER).iter_errors(value))
    return error and f"{error.json_path}: {error.message}"


# ---- running ----

def events_of(reply):
    for line in reply.iter_lines():
        if line.startswith("data: {"):
            event = json.loads(line[len("data: "):])
            assert "error" not in event or not event["error"], event
            yield event


def run_case(http, case, fields):
    """(finished, [fault])"""
    api = APIS[case.api]
    body = {**api.body(case), "temperature": 1.5, "seed": case.seed, "stream": case.stream, **fields[case.api]}
    try:
        with http.stream("POST", api.path, json=body) as reply:
            if reply.status_code != 200:
                return False, [f"{reply.status_code} {reply.read().decode()[:400]}"]
            if case.stream:
                answer = api.streamed(case, events_of(reply))
            else:
                answer = api.answer(case, json.loads(reply.read()))
    except AssertionError as error:
        return False, [str(error)]
    faults = [fault_of(schema, text) for schema, text in answer.items] if answer.finished else []
    return answer.finished, [f"{fault} in {text[:300]!r}" for fault, (_, text) in zip(faults, answer.items) if fault]


class Tally:
    def __init__(self):
        self.n, self.finished, self.faults = collections.Counter(), collections.Counter(), []
        self.lock = threading.Lock()

    def add(self, case, finished, faults):
        with self.lock:
            for key in (case.api, "streamed" if case.stream else "whole", case.mode, "strict" if case.strict or case.schema else "not strict", "all"):
                self.n[key] += 1
                self.finished[key] += finished
            self.faults += [f"generation {case.i}, {case.api}, {case.mode}: {fault}" for fault in faults]


def run_all(server, cases, at_once, max_tokens):
    tally = Tally()
    fields = {"chat": {"max_tokens": max_tokens}, "messages": {"max_tokens": max_tokens}, "responses": {"max_output_tokens": max_tokens}}
    with server.new_http(timeout=600) as http, concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        list(pool.map(lambda case: tally.add(case, *run_case(http, case, fields)), cases))
    return tally


def new_server(path, folder, **arguments):
    from harness import Server
    template = pathlib.Path(folder) / "tools.jinja"
    template.write_text(TEMPLATE)
    return Server(path, "--threads", 2, "--kv-memory", "512M", "--max-context", 2048, "--chat-template", template, **arguments)


def missed_by(tally):
    return bool(tally.faults) or tally.finished["all"] < FINISHED_SHARE * tally.n["all"]


def report(name, tally, seconds):
    parts = [f"{key} {tally.finished[key]}/{tally.n[key]}" for key in sorted(tally.n) if key != "all"]
    done, n = tally.finished["all"], tally.n["all"]
    print(f"{name}: {done} of {n} ended by themselves ({100 * done / max(n, 1):.1f} %), {len(tally.faults)} faults, {seconds:.0f} s")
    print(f"  ended: {', '.join(parts)}", flush=True)
    for fault in tally.faults[:20]:
        print(f"  FAILED: {fault}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="*", default=["smollm2", "qwen2.5-coder"], choices=["smollm2", "qwen2.5-coder"])
    parser.add_argument("--generations", type=int, default=1000)
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first generation's number")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--at-once", type=int, default=16)
    parser.add_argument("--max-tokens", type=int, default=400)
    a = parser.parse_args()
    os.environ.setdefault("TANDEM_TEST_BACKEND", "cpu")
    from harness import QWEN, SMOLLM, models_folder  # reads the environment
    missed, each = 0, a.generations // len(a.model)
    for i, name in enumerate(a.model):
        path = models_folder() / {"smollm2": SMOLLM, "qwen2.5-coder": QWEN}[name]
        cases = [case_of(a.seed, a.first + j * len(a.model) + i) for j in range(each)]
        with tempfile.TemporaryDirectory() as folder, new_server(path, folder) as server:
            start = time.monotonic()
            tally = run_all(server, cases, a.at_once, a.max_tokens)
            report(name, tally, time.monotonic() - start)
            missed += missed_by(tally)
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
