#!/usr/bin/env python3
"""Tandem beside llama.cpp, same machine, same model, one run; prints a table with ratios and appends to bench/results.

    compare.py [--model smollm2:135m] [--threads 2] [--clients 1 16]

compare_mlx_lm.py does the same beside mlx-lm's server.

llama.cpp comes as llama-cpp-python (pinned below) into bench/out/venv, built by its package manager; it runs in this process
tree without HTTP (bench/peers/llama_bench.py). Tandem is measured as a user meets it: `tandem serve`, streaming HTTP clients on
the same machine. Runs alternate; the figures are medians.
"""
import argparse
import asyncio
import csv
import datetime
import json
import os
import pathlib
import random
import re
import signal
import statistics
import subprocess
import sys
import threading
import time

import httpx

ROOT = pathlib.Path(__file__).resolve().parents[1]
PEER = "llama-cpp-python==0.3.36"
WORDS = ("time river stone light music garden winter letter window science answer people market morning ocean bridge "
         "paper forest number village").split()


def peer_python(folder, packages):
    """The interpreter of a virtual environment in bench/out that holds the packages, made on first use."""
    venv = ROOT / "bench" / "out" / folder
    python = venv / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    marker, wanted = venv / ".peer", " ".join(packages)
    if not marker.exists() or marker.read_text() != wanted:
        print(f"installing {wanted} (some minutes)", flush=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *packages], check=True)
        marker.write_text(wanted)
    return python


def model_path(name, tandem):
    listed = json.loads(subprocess.run([tandem, "list", "--json"], capture_output=True, text=True, check=True).stdout)
    if os.path.exists(name):
        return name
    found = [m["path"] for m in listed if m["file"].startswith(name.replace(":", "-"))]
    if len(found) != 1:
        raise SystemExit(f"compare: '{name}' fits {len(found)} models")
    return found[0]


class Server:
    def __init__(self, tandem, model, threads, extra, env=None):
        self.process = subprocess.Popen([tandem, "serve", model, "--port", "0", "--threads", str(threads), *extra],
                                        stderr=subprocess.PIPE, text=True, env=env)
        self.url = None
        for line in self.process.stderr:
            match = re.search(r"listening.*port=(\d+)", line)
            if match:
                self.url = f"http://127.0.0.1:{match.group(1)}"
            ready = re.search(r"ready model=.*start_ms=(\d+)", line)
            if ready:
                self.ready_ms = int(ready.group(1))
                break
        if not self.url:
            raise SystemExit("compare: tandem did not start")
        threading.Thread(target=lambda: [None for _ in self.process.stderr], daemon=True).start()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


def prompt(seed, n_words):
    return " ".join(random.Random(seed).choices(WORDS, k=n_words))


async def one_stream(client, url, text, n_new):
    began = time.perf_counter()
    first, n = None, 0
    body = {"prompt": text, "max_tokens": n_new, "temperature": 0, "ignore_eos": True, "stream": True,
            "stream_options": {"include_usage": True}, "cache_prompt": False}
    async with client.stream("POST", url + "/v1/completions", json=body, timeout=600) as reply:
        async for line in reply.aiter_lines():
            if line.startswith("data: {"):
                event = json.loads(line[6:])
                if "error" in event:
                    raise SystemExit(event["error"])
                if event["choices"] and first is None:
                    first = time.perf_counter() - began
                if event.get("usage"):
                    n = event["usage"]["completion_tokens"]
    return first, n


async def run_clients(url, n_clients, n_words, n_new, seed):
    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=None)) as client:
        began = time.perf_counter()
        results = await asyncio.gather(*(one_stream(client, url, prompt(seed * 100 + i, n_words), n_new)
                                         for i in range(n_clients)))
        elapsed = time.perf_counter() - began
    return sum(n for _, n in results) / elapsed, statistics.median(f for f, _ in results)


def cpu_name():
    if not os.path.exists("/proc/cpuinfo"):
        return "?"
    return next((l.split(":", 1)[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), "?")


def rows_of(n, ours, theirs):
    """Rows (what, Tandem's figure, the peer's or None) for n clients, of runs (tokens/s, seconds to the first token)."""
    def median(runs, i):
        return None if runs[0][i] is None else statistics.median(run[i] for run in runs)
    clients = f"{n} client{'s' if n > 1 else ''}"
    return [(f"{clients}, tokens/s", median(ours, 0), median(theirs, 0)),
            (f"{clients}, first token s", median(ours, 1), median(theirs, 1))]


def report(rows, peer, path, a):
    """Prints the table and appends it to bench/results/compare.csv."""
    cpu = cpu_name()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    name = pathlib.Path(path).name
    print(f"{name}, {a.threads} threads, {a.prompt}-word prompts, {a.new} new tokens, {cpu}\n")
    print(f"| | Tandem | {peer} | ratio |\n| --- | --- | --- | --- |")
    for what, ours, theirs in rows:
        print(f"| {what} | {ours:.3g} | " + (f"{theirs:.3g} | {ours / theirs:.2f} |" if theirs else "| |"))
    out = ROOT / "bench" / "results" / "compare.csv"
    new = not out.exists()
    with open(out, "a", newline="") as f:
        w = csv.writer(f)
        if new:
            w.writerow(["date", "commit", "cpu", "model", "threads", "what", "tandem", "peer's", "peer"])
        for what, ours, theirs in rows:
            w.writerow([datetime.date.today(), commit, cpu, name, a.threads, what, f"{ours:.4g}",
                        f"{theirs:.4g}" if theirs else "", peer])


def arguments(description, clients):
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tandem", default=str(ROOT / "build" / "tandem"))
    parser.add_argument("--model", default="smollm2:135m")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clients", type=int, nargs="*", default=clients)
    parser.add_argument("--prompt", type=int, default=100, help="prompt length in words, about one token each")
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--repeat", type=int, default=5)
    return parser


def main():
    a = arguments(__doc__, [1, 16]).parse_args()
    path = model_path(a.model, a.tandem)
    python = peer_python("venv", ["numpy", PEER])
    peer = json.loads(subprocess.run([str(python), str(ROOT / "bench/peers/llama_bench.py"), path, "--threads",
                                      str(a.threads), "--prompt", str(a.prompt), "--new", str(a.new), "--repeat",
                                      str(a.repeat), "--streams", *map(str, a.clients)],
                                     capture_output=True, text=True, check=True).stdout.strip().split("\n")[-1])
    server = Server(a.tandem, path, a.threads, [])
    asyncio.run(run_clients(server.url, 1, 16, 8, 99))
    rows = []
    for n in a.clients:
        ours = [asyncio.run(run_clients(server.url, n, a.prompt, a.new, r)) for r in range(a.repeat)]
        rows += rows_of(n, ours, [(peer[f"streams_{n}"], None)])
    rows.append(("ready after ms", server.ready_ms, None))
    server.stop()
    report(rows, "llama.cpp", path, a)
    print(f"\nllama.cpp alone: prefill of 512 {peer['prefill_512']:.0f} tokens/s, decode of 128 {peer['decode_128']:.0f} tokens/s")


if __name__ == "__main__":
    main()
