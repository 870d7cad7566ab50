#!/usr/bin/env python3
"""Serves a model for a long time under mixed requests and watches that nothing wears out.

Streams and bodies, clients that leave, cancellations, time-outs and bad requests from several clients at once; now and
then the engine is killed, and what was in it goes on in the next one. Every answer that its request determines (greedy or
seeded) is compared with the first time it was given, also when its engine was killed. Each minute everything comes to rest, and one line says how it stands: no page may be
referenced, descriptors are as at first, and memory may not grow past what it was after the warm-up.

    python3 bench/soak.py --minutes 60
    TANDEM_TEST_BACKEND=mlx python3 bench/soak.py --model FOLDER --requests 500 --kill-seconds 3600

On the mlx backend answers may depend on what else runs, and are not compared.

Ends with status 1 on a wrong answer, an unexpected error or a leak. The program is $TANDEM (default build/tandem).
"""
import argparse
import pathlib
import random
import sys
import threading
import time

import httpx

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "e2e"))
from harness import BACKEND, SMOLLM, Server, chunk_text, models_folder, parse_events  # noqa: E402

MIB = 1 << 20
N_PROMPTS = 40        # few enough that each comes again and again
LONG = 600            # tokens of an answer that nobody waits for
ALLOWED_GROWTH = (16 if BACKEND == "cpu" else 64) * MIB  # MLX keeps up to 32 MiB of what was freed for what comes next
WARM_UP_RESTS = 2     # rests after which memory counts
QUIET_SECONDS = 60    # for everything to come to rest

SUBJECTS = ["the sea", "a small town", "prime numbers", "winter", "die Eisenbahn", "日本の料理", "bread", "C programs"]
TASKS = ["Tell a story about", "Explain", "List five facts about", "Write a letter about", "Translate into French:"]

BAD_REQUESTS = [
    ({"prompt": "x", "temperature": -1}, 400), ({"prompt": "x", "max_tokens": 10**9}, 400), ({"prompt": 5}, 400),
    ({"prompt": "x", "model": "no-such-model"}, 404), ({"prompt": "x", "stop": ["a"] * 17}, 400),
    ({"prompt": [10**8]}, 400), ({}, 400),
]


class Unexpected(Exception):
    """What ends the soak with status 1."""


class Tally:
    """What all clients have seen; any thread."""

    def __init__(self):
        self.lock = threading.Lock()
        self.counts, self.answers, self.failures = {}, {}, []

    def count(self, what):
        with self.lock:
            self.counts[what] = self.counts.get(what, 0) + 1

    def fail(self, sentence):
        with self.lock:
            self.failures.append(sentence)
        print(f"FAILED: {sentence}", flush=True)

    def check(self, key, answer):
        if BACKEND != "cpu":
            return
        with self.lock:
            first = self.answers.setdefault(key, answer)
            self.counts["checked"] = self.counts.get("checked", 0) + 1
        if first != answer:
            raise Unexpected(f"wrong answer to {key}: {answer!r}, but first {first!r}")


# ---- what a client does ----

def take_error(error):
    raise Unexpected(f"error {error}")


def prompt_of(rng):
    # Some come more often than others, as in life.
    i = min(rng.randrange(N_PROMPTS), rng.randrange(N_PROMPTS))
    text = f"{TASKS[i % len(TASKS)]} {SUBJECTS[i // len(TASKS) % len(SUBJECTS)]}, number {i}."
    return text if i % 9 else "".join(f"Line {k}: {text}\n" for k in range(12))


def request_of(rng):
    """(path, body) of a request whose answer it determines."""
    text, n = prompt_of(rng), rng.choice((4, 16, 48))
    body = {"max_tokens": n, "temperature": 0} if rng.random() < 0.7 else {
        "max_tokens": n, "temperature": 0.9, "top_p": 0.95, "seed": rng.randrange(3)}
    if rng.random() < 0.1:
        body["n"] = 3
    if rng.random() < 0.5:
        return "/v1/chat/completions", {"messages": [{"role": "user", "content": text}], **body}
    return "/v1/completions", {"prompt": text, **body}


def open_stream(http, path, body):
    return http.stream("POST", path, json={**body, "stream": True})


def events_of(reply):
    if reply.status_code != 200:
        reply.read()
        take_error(reply.json()["error"])
    for kind, value in parse_events(reply.iter_bytes()):
        if kind == "data" and "error" in value:
            take_error(value["error"])
        yield kind, value


def choice_texts(choices):
    return [c["message"]["content"] if "message" in c else c["text"]
            for c in sorted(choices, key=lambda c: c["index"])]


def ask(http, tally, rng):
    path, body = request_of(rng)
    reply = http.post(path, json=body)
    if reply.status_code != 200:
        take_error(reply.json()["error"])
    tally.check((path, str(body)), choice_texts(reply.json()["choices"]))


def ask_streaming(http, tally, rng):
    path, body = request_of(rng)
    texts, ended = [""] * body.get("n", 1), False
    with open_stream(http, path, body) as reply:
        for kind, value in events_of(reply):
            ended = kind == "done"
            if kind == "data":
                for choice in value["choices"]:
                    texts[choice["index"]] += chunk_text({"choices": [choice]})
    if not ended:
        raise Unexpected("a stream ended without [DONE]")
    tally.check((path, str(body)), texts)


def leave(http, tally, rng):
    path, body = request_of(rng)
    n_events = rng.randrange(12)
    with open_stream(http, path, {**body, "max_tokens": LONG, "ignore_eos": True}) as reply:
        for i, _ in enumerate(events_of(reply)):
            if i >= n_events:
                break


def cancel(http, tally, rng):
    path, body = request_of(rng)
    reasons = set()
    with open_stream(http, path, {**body, "n": 1, "max_tokens": LONG, "ignore_eos": True}) as reply:
        values = (value for kind, value in events_of(reply) if kind == "data")
        for i, value in enumerate(values):
            reasons |= {c["finish_reason"] for c in value["choices"]}
            if i == 3:
                http.post(f"/v1/requests/{value['id']}/cancel")
    if "cancelled" not in reasons:
        raise Unexpected(f"a cancelled request ended with {reasons}")


def run_out_of_time(http, tally, rng):
    path, body = request_of(rng)
    reply = http.post(path, json={**body, "max_tokens": LONG, "ignore_eos": True, "timeout": 0.2})
    error = reply.json().get("error", {})
    allowed = {(504, "deadline_exceeded"), (429, "server_overloaded")}  # the latter when its wait is known to be longer
    if (reply.status_code, error.get("code")) not in allowed:
        take_error(error)


def ask_wrongly(http, tally, rng):
    body, status = rng.choice(BAD_REQUESTS)
    reply = http.post("/v1/completions", json=body)
    if reply.status_code != status or not reply.json()["error"]["message"]:
        raise Unexpected(f"{body}: {reply.status_code} {reply.text[:300]}, expected {status}")


def look(http, tally, rng):
    path = rng.choice(("/v1/models", "/v1/status", "/metrics", "/health"))
    if http.get(path).status_code != 200:
        raise Unexpected(f"GET {path} failed")


ACTIONS = {ask: 30, ask_streaming: 30, leave: 14, cancel: 7, run_out_of_time: 4, ask_wrongly: 10, look: 5}


class Client(threading.Thread):
    """Acts until it is told to rest; a rest closes its connections."""

    def __init__(self, soak, index):
        super().__init__(daemon=True)
        self.soak, self.rng = soak, random.Random(f"{soak.arguments.seed} {index}")

    def run(self):
        while not self.soak.over.is_set():
            with self.soak.server.new_http() as http:
                while not self.soak.resting.is_set():
                    self.act(http)
            self.soak.rested.release()
            self.soak.go_on.wait()

    def act(self, http):
        action = self.rng.choices(list(ACTIONS), list(ACTIONS.values()))[0]
        tally = self.soak.tally
        tally.count("requests")
        try:
            action(http, tally, self.rng)
            tally.count(action.__name__)
        except (Unexpected, httpx.HTTPError, AssertionError, ValueError, KeyError) as error:
            tally.fail(f"{action.__name__}: {type(error).__name__}: {error}")


# ---- the whole ----

class Soak:
    def __init__(self, arguments, server):
        self.arguments, self.server, self.tally = arguments, server, Tally()
        self.over, self.resting, self.go_on = threading.Event(), threading.Event(), threading.Event()
        self.rested = threading.Semaphore(0)
        self.rng = random.Random(f"{arguments.seed} kills")
        self.rests = []  # (gateway bytes, engine bytes, descriptors) of each
        self.next_kill = self.kill_time()

    def kill_time(self):
        return time.monotonic() + self.arguments.kill_seconds * self.rng.uniform(0.5, 1.5)

    def kill(self):
        self.tally.count("kills")
        self.server.kill_engine()
        self.next_kill = self.kill_time()

    def rest(self, last=False):
        """Brings everything to rest, looks, prints the minute's line, and lets the clients go on, or end."""
        self.go_on.clear()
        self.resting.set()
        for _ in range(self.arguments.clients):
            self.rested.acquire()
        self.look()
        self.resting.clear()
        if last:
            self.over.set()
        self.go_on.set()

    def look(self):
        server, tally = self.server, self.tally
        server.wait_idle(QUIET_SECONDS)
        server.wait_for(lambda: server.status()["connections"] <= 1, "the clients' connections end", QUIET_SECONDS)
        gateway, engine = server.resident()
        descriptors, stats = server.descriptors(), server.stats()
        self.rests.append((gateway, engine, descriptors))
        counts = tally.counts
        print(f"{server.status()['uptime_ms'] / 60000:6.1f} min  requests {counts.get('requests', 0)}  "
              f"checked {counts.get('checked', 0)} of {len(tally.answers)} different  left {counts.get('leave', 0)}  "
              f"cancelled {counts.get('cancel', 0)}  late {counts.get('run_out_of_time', 0)}  "
              f"bad {counts.get('ask_wrongly', 0)}  kills {counts.get('kills', 0)}  "
              f"failed {len(tally.failures)}  gateway {gateway / MIB:.1f} MiB  engine {engine / MIB:.1f} MiB  "
              f"descriptors {descriptors[0]}+{descriptors[1]}  pages {stats['pages_referenced']} used, "
              f"{stats['pages_cached']} cached, {stats['pages_total']} in all", flush=True)
        self.check_leaks()

    def check_leaks(self):
        first, last = self.rests[0], self.rests[-1]
        if last[2] != first[2]:
            self.tally.fail(f"descriptors of gateway and engine were {first[2]} and are {last[2]}")
        if len(self.rests) <= WARM_UP_RESTS:
            return
        for k, name in enumerate(("gateway", "engine")):
            before = max(rest[k] for rest in self.rests[:WARM_UP_RESTS])
            if last[k] > before + ALLOWED_GROWTH:
                self.tally.fail(f"the {name} has grown from {before / MIB:.1f} to {last[k] / MIB:.1f} MiB")

    def is_enough(self):
        n, done = self.arguments.requests, self.tally.counts.get("requests", 0)
        return len(self.tally.failures) >= self.arguments.max_failures or (n and done >= n)

    def run(self):
        clients = [Client(self, i) for i in range(self.arguments.clients)]
        for client in clients:
            client.start()
        until = time.monotonic() + 60 * self.arguments.minutes
        next_rest = time.monotonic() + self.arguments.rest_seconds
        while time.monotonic() < until and not self.is_enough():
            time.sleep(0.05)
            if time.monotonic() >= self.next_kill:
                self.kill()
            if time.monotonic() >= next_rest:
                self.rest()
                next_rest = time.monotonic() + self.arguments.rest_seconds
        self.rest(last=True)
        return self.tally.failures


def read_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--requests", type=int, default=0, help="ends the run after so many; 0: none")
    parser.add_argument("--model", default=models_folder() / SMOLLM, help="a GGUF file or a folder")
    parser.add_argument("--clients", type=int, default=12, help="at the same time")
    parser.add_argument("--threads", type=int, default=0, help="of the engine")
    parser.add_argument("--kv-memory", default="96M", help="little, so that pages are evicted and sequences preempted")
    parser.add_argument("--kill-seconds", type=float, default=90, help="between kills of the engine, on average")
    parser.add_argument("--rest-seconds", type=float, default=60, help="between lines")
    parser.add_argument("--max-failures", type=int, default=10, help="ends the run early")
    parser.add_argument("--seed", default="0", help="of the order of requests and kills")
    return parser.parse_args()


def main():
    arguments = read_arguments()
    with Server(arguments.model, "--threads", arguments.threads, "--kv-memory", arguments.kv_memory, "--max-context",
                2048) as server:
        failures = Soak(arguments, server).run()
    print(f"{len(failures)} failures" if failures else "no failure", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
