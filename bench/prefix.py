#!/usr/bin/env python3
"""What prefix hits, the disk tier and waiting for a shared prefix are worth. Prints a table and appends to bench/results.

    prefix.py [--models smollm2:135m qwen2.5-coder:0.5b] [--threads 2] [--repeat 7]

For each model, in one run, medians of --repeat, cases in turns:

    hit         first token of a prompt whose first 1,000 tokens are cached, beside prefilling the rest alone, in two ways:
                the time of the cold prompt less that of its first 1,000 tokens (cold), and the time of the engine's
                steps for the hit. Target: at most 1.15 times + 2 ms.
    at once     16 requests at the same time that share 1,000 tokens. Target: the tokens are prefilled once.
    restart     first token of a 2,000-token prompt after the engine was killed, with the disk tier and without. The store
                comes from the system's page cache ("warm") or from the disk itself ("cold"). Target: 5 times faster.
    long        first token of a prompt of 8,000 tokens (or what the model takes) that is cached whole: what keys, matching
                and frames cost.

Prompts are token ids but for "hit", which is text through the tokenizer as well.
"""
import argparse
import http.client
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

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "bench"))
from compare import Server, append_results, cpu_name, model_path  # noqa: E402


class Client:
    """One connection that is kept open."""

    def __init__(self, url):
        self.host = url.split("//")[1]
        self.connection = http.client.HTTPConnection(self.host, timeout=600)

    def call(self, method, path, body=None):
        self.connection.request(method, path, json.dumps(body) if body is not None else None,
                                {"Content-Type": "application/json"})
        reply = self.connection.getresponse()
        text = reply.read()
        if reply.status != 200:
            raise SystemExit(f"prefix: {path}: {reply.status} {text[:300]}")
        return json.loads(text)

    def first_token(self, prompt, **fields):
        """Seconds to the first token, and the usage."""
        body = json.dumps({"prompt": prompt, "max_tokens": 1, "temperature": 0, "ignore_eos": True, "stream": True,
                           "stream_options": {"include_usage": True}, **fields})
        began = time.perf_counter()
        self.connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
        reply = self.connection.getresponse()
        first = usage = None
        for line in reply:
            if line.startswith(b"data: {"):
                first = first or time.perf_counter() - began
                usage = json.loads(line[6:]).get("usage") or usage
        if first is None:
            raise SystemExit("prefix: an answer without tokens")
        return first, usage

    def stats(self):
        return self.call("GET", "/v1/status")["models"][0]["engine"]["stats"]

    def settled(self):
        """The figures once the engine is idle: they come with its last step and once more when it has nothing to do."""
        before, same = None, 0
        while same < 3:
            now = self.stats()
            same = same + 1 if now == before and not (now["running"] or now["waiting"] or now["disk_queued"]) else 0
            before = now
            time.sleep(0.05)
        return before

    def model(self):
        return self.call("GET", "/v1/status")["models"][0]


def ids(seed, n):
    """Token ids that are words in any vocabulary of these models."""
    rng = random.Random(seed)
    return [rng.randrange(1000, 40000) for _ in range(n)]


def text(seed, n_words):
    rng = random.Random(seed)
    words = "river stone music garden winter letter window science answer people market ocean bridge paper forest number".split()
    return " ".join(rng.choice(words) for _ in range(n_words))


def cached(usage):
    return usage["prompt_tokens_details"]["cached_tokens"]


def median_ms(values):
    return 1000 * statistics.median(values)


def hit_case(client, n_prefix, n_rest, repeat):
    """Cold prefix, cold whole, hit: in turns."""
    runs = {"prefix": [], "whole": [], "hit": [], "steps": []}
    for k in range(repeat):
        prefix, rest = text(1000 + k, n_prefix), " " + text(2000 + k, n_rest)
        runs["prefix"].append(client.first_token(prefix, cache_prompt=False)[0])
        runs["whole"].append(client.first_token(prefix + rest, cache_prompt=False)[0])
        client.first_token(prefix)
        before = client.settled()
        seconds, usage = client.first_token(prefix + rest)
        if cached(usage) < n_prefix - 64:
            raise SystemExit(f"prefix: only {cached(usage)} tokens were cached")
        runs["hit"].append(seconds)
        runs["steps"].append((client.settled()["step_ns"] - before["step_ns"]) * 1e-9)
    return {name: median_ms(values) for name, values in runs.items()}


def rest_alone(client, n_rest, repeat):
    return median_ms([client.first_token(text(2000 + k, n_rest), cache_prompt=False)[0] for k in range(repeat)])


def at_once(url, n_clients, n_prefix, n_rest):
    prefix, results = ids(77, n_prefix), [None] * n_clients
    clients = [Client(url) for _ in range(n_clients)]
    before, barrier = clients[0].settled(), threading.Barrier(n_clients)

    def one(i):
        barrier.wait()
        results[i] = clients[i].first_token(prefix + ids(1000 + i, n_rest))
    threads = [threading.Thread(target=one, args=(i,)) for i in range(n_clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    after = clients[0].settled()
    return {"prefill": after["rows_prefill"] - before["rows_prefill"],
            "cached": sum(cached(usage) for _, usage in results),
            "first": median_ms([seconds for seconds, _ in results])}


def drop_from_page_cache(folder):
    for path in pathlib.Path(folder).glob("*.pages"):
        with open(path, "rb") as f:
            os.fsync(f.fileno())
            os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def kill_engine(client):
    """kill -9, and what comes after it; the new engine has computed something already, as one that serves has."""
    pid = client.model()["engine"]["pid"]
    os.kill(pid, signal.SIGKILL)
    while True:
        model = client.model()
        if model["state"] == "ready" and model["engine"]["pid"] not in (0, pid):
            break
        time.sleep(0.01)
    client.first_token(ids(5, 40), cache_prompt=False)


def restart_case(client, n_prompt, folder, repeat):
    runs = {"without": [], "warm": [], "cold": []}
    prompt = ids(9, n_prompt)
    client.first_token(prompt)
    client.settled()
    for _ in range(repeat):
        for kind in runs:
            kill_engine(client)
            if kind == "cold":
                drop_from_page_cache(folder)
            seconds, usage = client.first_token(prompt, **({"cache_prompt": False} if kind == "without" else {}))
            if (cached(usage) > 0) != (kind != "without"):
                raise SystemExit(f"prefix: {cached(usage)} cached tokens after a restart ({kind})")
            runs[kind].append(seconds)
            time.sleep(0.2)
    return {name: median_ms(values) for name, values in runs.items()}


def long_case(client, n_prompt, repeat):
    prompt = ids(11, n_prompt)
    client.first_token(prompt)
    hits = [client.first_token(prompt) for _ in range(repeat)]
    short = [client.first_token(prompt[:8], cache_prompt=False)[0] for _ in range(repeat)]
    return {"hit": median_ms([seconds for seconds, _ in hits]), "cached": cached(hits[0][1]), "short": median_ms(short)}


def measure(a, model):
    rows = []
    path = model_path(model, a.tandem)
    name = pathlib.Path(path).name

    def row(what, value, unit, target=""):
        rows.append((name, what, value, unit, target))
        print(f"| {name} | {what} | {value:.4g} {unit} | {target} |", flush=True)

    with tempfile.TemporaryDirectory(dir=a.folder) as folder:
        server = Server(a.tandem, path, a.threads,
                        ["--kv-memory", a.kv_memory, "--kv-disk-dir", folder, "--kv-disk-gb", "8"])
        client = Client(server.url)
        client.first_token(ids(1, 300), cache_prompt=False)
        for n_rest in a.rest:
            t = hit_case(client, 1000, n_rest, a.repeat)
            rest = t["whole"] - t["prefix"]
            row(f"hit of 1,000, rest {n_rest}: first token", t["hit"], "ms", f"cold {t['whole']:.4g} ms")
            row("  the rest alone behind the prefix", rest, "ms", f"at position 0: {rest_alone(client, n_rest, a.repeat):.4g} ms")
            row("  hit beyond 1.15 times that", t["hit"] - 1.15 * rest, "ms", "at most 2 ms")
            row("  steps of the engine for the hit", t["steps"], "ms")
            row("  hit beyond 1.15 times that", t["hit"] - 1.15 * t["steps"], "ms", "at most 2 ms")
        t = at_once(server.url, 16, 1000, 24)
        own = 16 * (1000 - 992 + 24)
        row("16 at once, 1,000 shared + 24: rows prefilled", t["prefill"], "", f"once: {992 + own}, each: {16 * 1024}")
        row("  cached tokens", t["cached"], "", f"{15 * 992}")
        row("  first token, median", t["first"], "ms")
        t = restart_case(client, 2000, folder, a.repeat)
        row("restart, 2,000 tokens: first token without the tier", t["without"], "ms")
        row("  with it, store in the page cache", t["warm"], "ms", f"{t['without'] / t['warm']:.1f} times faster; at least 5")
        row("  with it, store on disk", t["cold"], "ms", f"{t['without'] / t['cold']:.1f} times faster; at least 5")
        stats = client.stats()
        row("  readings declined or abandoned", stats["disk_loads_declined"] + stats["disk_loads_abandoned"], "")
        n = min(8000, client.model()["engine"]["context"] - 8)
        t = long_case(client, n, a.repeat)
        row(f"cached whole, {n} tokens: first token", t["hit"], "ms", f"8 tokens: {t['short']:.4g} ms")
        server.stop()
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tandem", default=str(ROOT / "build" / "tandem"))
    parser.add_argument("--models", nargs="*", default=["smollm2:135m", "qwen2.5-coder:0.5b"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--rest", type=int, nargs="*", default=[32, 256])
    parser.add_argument("--kv-memory", default="2G")
    parser.add_argument("--folder", default=None, help="where the disk tier's folder is made; default: the system's for temporary files")
    a = parser.parse_args()
    print(f"{a.threads} threads, medians of {a.repeat}, {cpu_name()}\n\n| model | what | | |\n| --- | --- | --- | --- |")
    rows = [row for model in a.models for row in measure(a, model)]
    append_results(ROOT / "bench" / "results" / "prefix.csv", ["threads", "model", "what", "value", "unit", "beside it"],
                   [[a.threads, model, what.strip(), f"{value:.4g}", unit, target] for model, what, value, unit, target in rows])


if __name__ == "__main__":
    main()
