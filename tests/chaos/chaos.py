#!/usr/bin/env python3
"""Ends the engine again and again under many streams, and compares what their clients got with undisturbed answers.

32 streams of 512 tokens with mixed parameters, half of them with speculation on, run to their end; every fourth is a chat with
tools, a schema or bound reasoning, which may end earlier. Meanwhile the engine is ended at random moments, by

    kill      SIGKILL
    segv      SIGSEGV
    stop      SIGSTOP: it hangs, and the watchdog has to notice
    memory    the system, for want of memory: a control group of its own with a limit (root on Linux; else left out)

A fault counts when at least half of the streams stand between 10% and 90% of their output, and by where it met them:

    decode    all streams have their prompts behind them
    prefill   another prompt of 1,500 tokens is being prefilled
    long      the streams have contexts of 2,000 tokens and more

    chaos.py [--model smollm2:135m] [--faults 100] [--streams 32] [--seed 1]
    chaos.py --backend mlx --model tiny --faults 20 --situations decode
    chaos.py --adapters 3                           streams of the model and of random adapters, in turn
    chaos.py --models 5 --faults 20 --tokens 6000    instead: models that come and go (switching.py)

Every stream has to end with the text, reasoning, calls, token ids, logprobs, finish reason and usage (but for cached_tokens) of an
undisturbed run of the same server. On the mlx backend a resumed answer may differ from the undisturbed one; there every stream has to
complete, and what was sent must not be repeated or changed: it is as long as asked for, and its tokens make its text.

Prints, by class of fault: how long it took to notice, and from then to the next token; then how much context of 8 streams with
6,000 tokens each the next engine took over. Exit status 1 when an answer differs or a target is missed.
"""
import argparse
import contextlib
import json
import os
import pathlib
import random
import signal
import statistics
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))

FAULTS = ["kill", "segv", "stop", "memory"]
SITUATIONS = ["decode", "prefill", "long"]
RECOVERY_S = 2.0        # beside the loading of the model
ADOPTED_SHARE = 0.95
LONG_PROMPT, PRESSED_PROMPT, ADOPTED_CONTEXT = 2000, 1500, 6000
WORDS = ("time river stone light music garden winter letter window science answer people market morning ocean bridge "
         "paper forest number village").split()


def text_of(rng, n_words):
    return " ".join(rng.choice(WORDS) for _ in range(n_words))


# ---- requests ----

SAMPLING = [
    {"temperature": 0},
    {"temperature": 1, "seed": 1},
    {"temperature": 0.8, "seed": 2, "top_p": 0.9, "logprobs": 3},
    {"temperature": 0.8, "seed": 3, "presence_penalty": 0.8, "frequency_penalty": 0.4},
    {"temperature": 0, "repetition_penalty": 1.2, "logprobs": 1},
    {"temperature": 1.2, "seed": 4, "min_p": 0.05, "top_k": 50},
    {"temperature": 0.9, "seed": 5, "dry_multiplier": 0.8},
    {"temperature": 0.7, "seed": 6, "stop": ["qqqq"], "min_tokens": 100, "logit_bias": {"28": -4}},
]


WORDS_600 = "([a-z]{1,9} ){600}"  # longer than an answer may be
FILE = {"type": "object", "additionalProperties": False, "required": ["path", "lines"],
        "properties": {"path": {"enum": ["a.txt", "b.txt"]},
                       "lines": {"type": "array", "minItems": 300, "items": {"type": "string", "maxLength": 30}}}}
WRITE = {"type": "function", "function": {"name": "write", "strict": True, "parameters": FILE}}
NAMED = {"type": "function", "function": {"name": "write"}}
AGENTS = [
    {"tools": [WRITE], "tool_choice": "required", "temperature": 1.2, "seed": 11},
    {"response_format": {"type": "json_schema", "json_schema": {"name": "file", "strict": True, "schema": FILE}}, "temperature": 1,
     "seed": 12, "logprobs": True, "top_logprobs": 2},
    {"enable_thinking": True, "thinking_budget": 150, "guided_regex": WORDS_600, "temperature": 1, "seed": 13},
    {"enable_thinking": True, "thinking_budget": 100, "tools": [WRITE], "tool_choice": NAMED, "temperature": 0.8, "seed": 14},
]


def agent_request(a, prompt, i):
    return {"messages": [{"role": "user", "content": prompt}], "max_tokens": a.tokens, "return_token_ids": True,
            "stream_options": {"include_usage": True}, **AGENTS[i % len(AGENTS)]}


def requests_of(a, situation, rng):
    words = LONG_PROMPT if situation == "long" else 60
    shared = text_of(rng, words * 3 // 4)
    bodies = []
    for i in range(a.streams):
        prompt = f"{shared} {text_of(rng, words // 4)} A story about {i}: "
        if i % 4 == 3:
            bodies.append(agent_request(a, prompt, i // 4))
            continue
        bodies.append({"prompt": prompt, "max_tokens": a.tokens, "ignore_eos": True, "return_token_ids": True,
                       "speculation": "on" if i % 2 else "off", "stream_options": {"include_usage": True},
                       **SAMPLING[i % len(SAMPLING)]})
    for i, body in enumerate(bodies):
        if i % (a.adapters + 1):
            body["model"] = f"default:a{i % (a.adapters + 1)}"
    return bodies


def write_adapters(a, folder):
    """Options for so many of them, for SmolLM2 135M or the small random model."""
    from lora_adapters import SMOLLM_SHAPE, TINY_SHAPE, write_peft
    shape = TINY_SHAPE if a.model == "tiny" else SMOLLM_SHAPE
    return [word for i in range(1, a.adapters + 1)
            for word in ("--lora", f"a{i}={write_peft(pathlib.Path(folder) / f'a{i}', shape, i, strength=0.2)}")]


class Stream:
    """One request and what came of it so far; read by one thread."""

    def __init__(self, body):
        self.body = body
        self.path = "/v1/chat/completions" if "messages" in body else "/v1/completions"
        self.text, self.ids, self.logprobs, self.finish, self.usage, self.error = "", [], [], None, None, None
        self.reasoning, self.calls = "", []
        self.times = []  # of its events

    def run(self, server):
        with server.new_http(timeout=600) as http:
            for kind, value in server.stream(self.path, self.body, http):
                if kind != "data":
                    continue
                self.times.append(time.monotonic())
                if "error" in value:
                    self.error = value["error"]
                self.usage = value.get("usage") or self.usage
                for choice in value.get("choices", []):
                    self.take(choice)

    def take(self, choice):
        delta, logprobs = choice.get("delta", {}), choice.get("logprobs") or {}
        self.text += choice.get("text") or delta.get("content") or ""
        self.reasoning += delta.get("reasoning_content") or ""
        for call in delta.get("tool_calls", []):
            self.calls += [""] * (call["index"] + 1 - len(self.calls))
            self.calls[call["index"]] += "".join(call["function"].get(k) or "" for k in ("name", "arguments"))
        self.ids += choice.get("token_ids") or []
        self.logprobs += logprobs.get("token_logprobs") or logprobs.get("content") or []
        self.finish = choice["finish_reason"] or self.finish

    def in_the_middle(self):
        return self.finish is None and 0.1 <= len(self.ids) / self.body["max_tokens"] <= 0.9

    def result(self):
        usage = {k: v for k, v in (self.usage or {}).items() if k.endswith("_tokens")}
        return {"text": self.text, "reasoning": self.reasoning, "calls": self.calls, "ids": self.ids, "logprobs": self.logprobs,
                "finish": self.finish, "usage": usage, "error": self.error}


class Together:
    """Streams that run at the same time, each in a thread."""

    def __init__(self, server, bodies):
        self.streams = [Stream(b) for b in bodies]
        self.threads = [threading.Thread(target=s.run, args=(server,), daemon=True) for s in self.streams]
        for t in self.threads:
            t.start()

    def in_the_middle(self):
        return sum(s.in_the_middle() for s in self.streams)

    def running(self):
        return any(t.is_alive() for t in self.threads)

    def join(self):
        for t in self.threads:
            t.join()
        return [s.result() for s in self.streams]


# ---- faults ----

class MemoryGroup:
    """A control group with a limit that an engine exceeds as soon as it touches anything new, which it may not for long: all
    it decodes with has been touched before. Then it is given a job that wants memory."""

    PATIENCE_S = 2.0

    def __init__(self):
        v1, v2 = pathlib.Path("/sys/fs/cgroup/memory"), pathlib.Path("/sys/fs/cgroup")
        base = v1 if (v1 / "tasks").exists() else v2
        self.path, self.limit = base / f"tandem-chaos-{os.getpid()}", None
        try:
            self.path.mkdir()
            self.limit = self.path / ("memory.limit_in_bytes" if base == v1 else "memory.max")
            self.limit.write_text(str(256 << 10))
        except OSError:
            self.limit = None

    def usable(self):
        return self.limit is not None and self.limit.exists()

    def put(self, pid):
        (self.path / "cgroup.procs").write_text(str(pid))

    @staticmethod
    def press(server):
        body = {"prompt": text_of(random.Random(0), PRESSED_PROMPT), "max_tokens": 1, "prompt_logprobs": 20, "cache_prompt": False}

        def ask():
            with server.new_http(timeout=600) as http:
                http.post("/v1/completions", json=body)
        threading.Thread(target=ask, daemon=True).start()

    def close(self):
        with contextlib.suppress(OSError):
            self.path.rmdir()


SIGNALS = {"kill": signal.SIGKILL, "segv": signal.SIGSEGV, "stop": signal.SIGSTOP}


class Record:
    def __init__(self, situation, fault, counted, noticed_s, recovered_s, load_s):
        self.situation, self.fault, self.counted = situation, fault, counted
        self.noticed_s, self.recovered_s, self.load_s = noticed_s, recovered_s, load_s


def first_after(streams, at):
    """When each stream that goes on got something again."""
    return [next((t for t in s.times if t > at), None) for s in streams]


def strike(server, group, streams, fault, situation, minimum):
    """Ends the engine, waits until it is replaced and everybody has something again; a Record, or None."""
    engine = server.engine()
    if not engine["pid"]:
        return None
    counted = streams.in_the_middle() >= minimum
    if situation == "prefill":
        counted &= any(r["prompt_tokens"] >= PRESSED_PROMPT and r["phase"] in ("prefill", "recovering")
                       for r in server.model_status()["requests"])
    began = time.monotonic()
    try:
        if fault == "memory":
            group.put(engine["pid"])
        else:
            os.kill(engine["pid"], SIGNALS[fault])
    except OSError:
        return None
    pressed = fault != "memory"
    while server.engine()["restarts"] == engine["restarts"]:
        if not pressed and time.monotonic() > began + group.PATIENCE_S:
            pressed = True
            group.press(server)
        if time.monotonic() > began + 60:
            raise AssertionError(f"{fault}: no loss within 60 s")
        time.sleep(0.02)
    noticed = time.monotonic()
    server.wait_for(lambda: server.model_status()["state"] == "ready", "a new engine", 60)
    load_s = time.monotonic() - noticed
    going_on = [s for s in streams.streams if s.finish is None]
    deadline = time.monotonic() + 60
    while any(t is None and s.finish is None for s, t in zip(going_on, first_after(going_on, noticed))):
        if time.monotonic() > deadline:
            raise AssertionError(f"{fault}: a stream does not go on within 60 s: {json.dumps(server.model_status())}")
        time.sleep(0.01)
    times = [t - noticed for t in first_after(going_on, noticed) if t]
    return Record(situation, fault, counted, noticed - began, statistics.median(times) if times else 0, load_s)


def pressers(server, stop, rng, bad):
    """Prompts of 1,500 tokens, one after another, each compared with the answer to the one before."""
    prompt, expected = text_of(rng, PRESSED_PROMPT), None
    n = 0
    while not stop.is_set():
        n += 1
        body = {"prompt": f"{n % 7} {prompt}", "max_tokens": 4, "temperature": 0, "cache_prompt": False}
        with server.new_http(timeout=600) as http:
            reply = http.post("/v1/completions", json=body)
        if reply.status_code != 200:
            bad.append(f"a prompt that was prefilled: {reply.status_code} {reply.text[:200]}")
        elif n % 7 == 0:
            text = reply.json()["choices"][0]["text"]
            if expected is not None and text != expected:
                bad.append(f"a prompt that was prefilled: {text!r}, before {expected!r}")
            expected = text


# ---- one situation ----

def differences(bodies, results, expected, exact):
    bad = []
    for i, (body, got, want) in enumerate(zip(bodies, results, expected)):
        if exact and got != want:
            keys = [k for k in got if got[k] != want[k]]
            bad.append(f"stream {i} differs in {keys}: {json.dumps({k: got[k] for k in keys})[:300]}")
        whole = got["finish"] == "length" and len(got["ids"]) == body["max_tokens"]
        if got["error"] or not (whole or ("messages" in body and got["finish"])):
            bad.append(f"stream {i} is not whole: {len(got['ids'])} tokens, {got['finish']}, {got['error']}")
    return bad


def run_situation(a, server, situation, n_faults, rng, group):
    faults = [f for f in FAULTS if f != "memory" or group.usable()]
    records, bad, rounds = [], [], 0
    bodies = requests_of(a, situation, rng)
    expected = Together(server, bodies).join()
    bad += differences(bodies, expected, expected, False)
    bad += [f"no stream has {k}" for k in ("calls", "reasoning") if not any(r[k] for r in expected)]
    while sum(r.counted for r in records) < n_faults and rounds < a.rounds and not bad:
        rounds += 1
        stop = threading.Event()
        presser = threading.Thread(target=pressers, args=(server, stop, rng, bad), daemon=True)
        if situation == "prefill":
            presser.start()
        streams = Together(server, bodies)
        while streams.running():
            if streams.in_the_middle() >= a.streams // 2 and sum(r.counted for r in records) < n_faults:
                time.sleep(rng.uniform(0.05, a.pause))
                record = strike(server, group, streams, faults[len(records) % len(faults)], situation, a.streams // 2)
                records += [record] if record else []
            time.sleep(0.02)
        stop.set()
        if presser.is_alive():
            presser.join()
        bad += differences(bodies, streams.join(), expected, a.backend == "cpu")
        print(f"{situation}: round {rounds}, {sum(r.counted for r in records)} of {len(records)} faults count, "
              f"{len(bad)} differences", flush=True)
    return records, bad


# ---- taking pages over ----

def adopted_share(a, server, rng):
    """Of the context of 8 streams with 6,000 tokens each, what the next engine does not prefill again."""
    shared = text_of(rng, ADOPTED_CONTEXT - 200)
    bodies = [{"prompt": f"{i} {shared}", "max_tokens": 200, "ignore_eos": True, "temperature": 0,
               "return_token_ids": True, "stream_options": {"include_usage": True}} for i in range(8)]
    expected = Together(server, bodies).join()
    streams = Together(server, bodies)
    while min(len(s.ids) for s in streams.streams) < 20:
        time.sleep(0.02)
    strike(server, None, streams, "kill", "long", 0)
    context = sum(s["usage"]["prompt_tokens"] for s in expected)
    prefilled = server.stats()["rows_prefill"]  # of the new engine alone
    bad = differences(bodies, streams.join(), expected, a.backend == "cpu")
    return 1 - prefilled / context, context, bad


# ---- report ----

def p95(values):
    return sorted(values)[min(len(values) - 1, int(len(values) * 0.95))]


def report(records):
    print("\n| fault | n | noticed: median s | p95 | next token after: median s | p95 | of it loading: median s |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    missed = 0
    for fault in FAULTS:
        rows = [r for r in records if r.fault == fault and r.counted]
        if not rows:
            print(f"| {fault} | 0 | | | | | |")
            continue
        columns = [[r.noticed_s for r in rows], [r.recovered_s for r in rows]]
        load = statistics.median(r.load_s for r in rows)
        cells = [f"{statistics.median(c):.2f} | {p95(c):.2f}" for c in columns]
        print(f"| {fault} | {len(rows)} | {cells[0]} | {cells[1]} | {load:.2f} |")
        missed += p95(columns[1]) - load > RECOVERY_S
    return missed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2:135m", help="tiny: a random one")
    parser.add_argument("--backend", default="cpu", choices=["cpu", "mlx"])
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--situations", nargs="*", default=SITUATIONS, choices=SITUATIONS)
    parser.add_argument("--rounds", type=int, default=20, help="of a situation, at most")
    parser.add_argument("--pause", type=float, default=1.0, help="seconds from one fault to the next, at most")
    parser.add_argument("--minutes", type=float, default=60, help="no other situation is begun after so long")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-adopt", action="store_true", help="leave out the measurement of pages taken over")
    parser.add_argument("--kv-memory", default="3G")
    parser.add_argument("--adapters", type=int, default=0, help="of smollm2:135m or tiny: so many")
    parser.add_argument("--models", type=int, default=0, help="instead: so many models, switched between")
    a = parser.parse_args()
    os.environ["TANDEM_TEST_BACKEND"] = a.backend
    if a.models:
        import switching
        counted, bad = switching.run(a, sys.modules[__name__])
        for sentence in bad[:20]:
            print(f"FAILED: {sentence}")
        sys.exit(1 if bad or counted < a.faults else 0)
    from harness import SMOLLM, Server, make_model, models_folder, tiny_config  # noqa: E402  (reads the environment)
    from script_rules import AGENT_TEMPLATE  # noqa: E402
    adapters = tempfile.TemporaryDirectory()
    loras = write_adapters(a, adapters.name)
    if a.model == "tiny":
        folder = tempfile.TemporaryDirectory()
        a.model = make_model(tiny_config(), pathlib.Path(folder.name) / "tiny.gguf", models_folder() / SMOLLM)
    rng, group = random.Random(a.seed), MemoryGroup()
    if not group.usable():
        print("no control group can be made here: faults of memory are left out", flush=True)
    records, bad, until = [], [], time.monotonic() + 60 * a.minutes
    share = context = None
    template = tempfile.NamedTemporaryFile("w", suffix=".jinja")
    template.write(AGENT_TEMPLATE)
    template.flush()
    with Server(a.model, "--chat-template", template.name, "--kv-memory", a.kv_memory, "--restart-limit", 64, "--restart-window-ms", 1000,
                "--max-sequences", 2 * a.streams, *loras) as server:
        for i, situation in enumerate(a.situations):
            if bad or time.monotonic() > until:
                break
            n = a.faults // len(a.situations) + (i < a.faults % len(a.situations))
            more, worse = run_situation(a, server, situation, n, rng, group)
            records += more
            bad += worse
        if not a.no_adopt and a.backend == "cpu":
            share, context, worse = adopted_share(a, server, rng)
            bad += worse
    group.close()
    missed = report(records)
    counted = sum(r.counted for r in records)
    print(f"\n{counted} faults that count ({', '.join(f'{s}: {sum(r.counted for r in records if r.situation == s)}' for s in a.situations)}), "
          f"{len(records)} in all; {len(bad)} differences")
    if share is not None:
        print(f"of {context} tokens of context the next engine took over {100 * share:.1f} % (at least {100 * ADOPTED_SHARE:.0f} %)")
        missed += share < ADOPTED_SHARE
    for sentence in bad[:20]:
        print(f"FAILED: {sentence}")
    sys.exit(1 if bad or missed or counted < a.faults else 0)


if __name__ == "__main__":
    main()
