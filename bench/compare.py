"""Tandem beside llama.cpp, same machine, same models, one run: prefill, decoding, batches, servers.

    compare.py [--model smollm2:135m smollm2:135m@Q4_0 qwen2.5-coder:0.5b] [--threads 2] [--repeat 5]
               [--only prefill decode streams clients] [--avx2]

llama.cpp is built from llama-cpp-python's source package into bench/out on first use (bench/peers/llama_cpp.py), for this
processor, or with --avx2 without AVX-512, beside Tandem's kernels for AVX2. "@Q4_0" is the model requantized to that type by
llama-quantize, one file for both. llama.cpp has the best of its flags, found by a short run: flash attention on or off,
micro-batches of 128, 512 or 2048; chosen for prefill, for decoding and for batches apart.

    prefill   `tandem bench` and llama-bench: a prompt of 512 and of 4096 tokens
    decode    the same: 128 tokens of one stream
    streams   `tandem bench` and llama-batched-bench: N prompts of 100 tokens, 64 new ones each; tokens/s from the first
              prompt's first token to the last generated one, and while decoding alone
    clients   `tandem serve` and llama-server: N streaming HTTP clients on this machine, the same prompts' length

Runs alternate, Tandem's and llama.cpp's; the figures are medians. Prefix caches and speculation are off. The machine's
limits are printed beside, and every figure is appended to bench/results/compare.csv. compare_mlx_lm.py does the same beside mlx-lm's server.
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
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import httpx

from peers import llama_cpp

ROOT = pathlib.Path(__file__).resolve().parents[1]
OUT = ROOT / "bench" / "out"
GROUPS = ["prefill", "decode", "streams", "clients"]
LONG = 2048  # tokens of a prompt
PREFILL, DECODE, PROMPT, NEW = [512, 4096], 128, 100, 64
CSV_HEAD = ["model", "threads", "what", "tandem", "peer's", "peer", "kernels", "tandem min", "tandem max",
            "peer min", "peer max", "read GB/s", "int8 G/s"]
WORDS = ("time river stone light music garden winter letter window science answer people market morning ocean bridge "
         "paper forest number village").split()


def peer_python(folder, packages):
    """The interpreter of a virtual environment in bench/out that holds the packages, made on first use."""
    venv = OUT / folder
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


class Row:
    """One figure of both: a list of repeats each; the peer's may be empty."""

    def __init__(self, what, ours, theirs=()):
        self.what, self.ours, self.theirs = what, list(ours), list(theirs)

    def figures(self):
        return statistics.median(self.ours), statistics.median(self.theirs) if self.theirs else None

    def line(self):
        ours, theirs = self.figures()
        return f"| {self.what} | {ours:.3g} | " + (f"{theirs:.3g} | {ours / theirs:.2f} |" if theirs else "| |")


def rows_of(n, ours, theirs):
    """Rows for n clients, of runs (tokens/s, seconds to the first token)."""
    clients = f"{n} client{'s' if n > 1 else ''}"
    return [Row(f"{clients}, tokens/s", [r[0] for r in ours], [r[0] for r in theirs]),
            Row(f"{clients}, first token s", [r[1] for r in ours], [r[1] for r in theirs])]


def widest(values):
    return [f"{f(values):.4g}" for f in (min, max)] if values else ["", ""]


def append_results(path, head, rows, cpu=None):
    """Appends the rows to a CSV file, each behind its date, commit and processor."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    path = pathlib.Path(path)
    new = not path.exists()
    with open(path, "a", newline="") as f:
        w = csv.writer(f, lineterminator="\n")
        if new:
            w.writerow(["date", "commit", "cpu", *head])
        for row in rows:
            w.writerow([datetime.date.today(), commit, cpu or cpu_name(), *row])


def csv_row(row, peer, name, threads, kernels, limits):
    ours, theirs = row.figures()
    return [name, threads, row.what, f"{ours:.4g}", f"{theirs:.4g}" if theirs else "", peer, kernels, *widest(row.ours),
            *widest(row.theirs),
            *([f"{limits['read_per_s'] / 1e9:.4g}", f"{limits['int8_per_s'] / 1e9:.4g}"] if limits else ["", ""])]


def report(rows, peer, path, a, kernels="", limits=None):
    """Prints the table and appends it to bench/results/compare.csv."""
    name = pathlib.Path(path).name
    print(f"\n{name}, {a.threads} threads, medians of {a.repeat}, {cpu_name()}")
    if limits:
        print("limits: read {:.1f} GB/s, int8 {:.0f}, f32 {:.0f} G multiply-adds/s".format(
            *(limits[k] / 1e9 for k in ("read_per_s", "int8_per_s", "f32_per_s"))))
    print(f"\n| | Tandem | {peer} | ratio |\n| --- | --- | --- | --- |")
    for row in rows:
        print(row.line())
    sys.stdout.flush()
    append_results(a.results, CSV_HEAD, [csv_row(row, peer, name, a.threads, kernels, limits) for row in rows])


def parser_of(description):
    """What every measurement of a server of ours takes."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tandem", default=str(ROOT / "build" / "tandem"))
    parser.add_argument("--threads", type=int, default=2)
    return parser


def arguments(description, clients):
    parser = parser_of(description)
    parser.add_argument("--clients", type=int, nargs="*", default=clients)
    parser.add_argument("--prompt", type=int, default=PROMPT, help="prompt length; of clients in words, about one token each")
    parser.add_argument("--new", type=int, default=NEW)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--results", default=str(ROOT / "bench" / "results" / "compare.csv"))
    return parser


# ---- beside llama.cpp ----

class Tandem:
    """`tandem bench` with this run's threads and kernels; the best limits seen."""

    def __init__(self, program, threads, kernels):
        self.program, self.threads, self.kernels, self.limits, self.kernel_set = program, threads, kernels, None, None

    def bench(self, model, *options):
        with tempfile.NamedTemporaryFile(suffix=".json") as out:
            subprocess.run([self.program, "bench", str(model), "--threads", str(self.threads), "--cpu-kernels", self.kernels,
                            "--backend", "cpu", "--repeat", "1", "--json", out.name, *map(str, options)], check=True,
                           stdout=subprocess.DEVNULL)
            report = json.load(open(out.name))
        limits, self.kernel_set = report["limits"][0], report["kernels"]
        self.limits = {k: max(v, (self.limits or limits)[k]) for k, v in limits.items()}
        return report["rows"]


def progress(text):
    print(f"  {text}", file=sys.stderr, flush=True)


def compare_prefill(ours, theirs, model, flags, a):
    mine, peer = {n: [] for n in a.prefill}, {n: [] for n in a.prefill}
    for r in range(a.repeat):
        progress(f"prefill, run {r + 1} of {a.repeat}")
        for row in ours.bench(model, "--tests", "prefill", "--prompt", ",".join(map(str, a.prefill))):
            mine[row["prompt"]].append(row["tokens_per_s"])
        for n in a.prefill:  # llama-bench warms up with the whole prompt: a long one needs no warming
            peer[n].append(theirs.bench(model, flags["prefill"], prompts=[n], warm_up=n < LONG)[("prefill", n)])
    return [Row(f"prefill {n}, tokens/s", mine[n], peer[n]) for n in a.prefill]


def compare_decode(ours, theirs, model, flags, a):
    mine, peer = [], []
    for r in range(a.repeat):
        progress(f"decode, run {r + 1} of {a.repeat}")
        rows = ours.bench(model, "--tests", "decode", "--context", DECODE + 1, "--gen", DECODE, "--streams", 1)
        mine.append(rows[0]["tokens_per_s"])
        peer.append(theirs.bench(model, flags["decode"], n_gen=DECODE)[("decode", DECODE)])
    return [Row(f"decode {DECODE}, tokens/s", mine, peer)]


def compare_streams(ours, theirs, model, flags, a):
    mine, peer = {n: [] for n in a.streams}, {n: [] for n in a.streams}
    for r in range(a.repeat):
        progress(f"streams, run {r + 1} of {a.repeat}")
        for row in ours.bench(model, "--tests", "batch", "--streams", ",".join(map(str, a.streams)), "--batch-prompt", a.prompt,
                              "--gen", a.new):
            mine[row["streams"]].append((row["tokens_per_s"], row["decode_tokens_per_s"]))
        for n, pair in theirs.batched(model, flags["streams"], a.streams, a.prompt, a.new).items():
            peer[n].append(pair)
    rows = []
    for n in a.streams:
        name = f"{n} stream{'s' if n > 1 else ''}"
        rows += [Row(f"{name}, tokens/s", [m[0] for m in mine[n]], [p[0] for p in peer[n]]),
                 Row(f"{name} decoding, tokens/s", [m[1] for m in mine[n]], [p[1] for p in peer[n]])]
    return rows


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def compare_clients(ours, theirs, model, flags, a):
    """Both servers are up for the whole time, and idle while the other one works."""
    mine = Server(ours.program, str(model), ours.threads,
                  ["--backend", "cpu", "--cpu-kernels", ours.kernels, "--speculation", "off"])
    peer, rows = None, []
    try:
        context = (2 * (a.prompt + a.new) + 255) // 256 * 256
        peer = llama_cpp.serve(theirs, model, flags["streams"], max(a.clients), context, free_port())
        for server in (mine, peer):
            asyncio.run(run_clients(server.url, 1, 16, 8, 99))
        for n in a.clients:
            progress(f"{n} clients")
            runs = [[asyncio.run(run_clients(server.url, n, a.prompt, a.new, r)) for server in (mine, peer)]
                    for r in range(a.repeat)]
            rows += rows_of(n, [o for o, _ in runs], [t for _, t in runs])
        rows.append(Row("ready after ms", [mine.ready_ms]))
    finally:
        mine.stop()
        if peer:
            peer.stop()
    return rows


def choose_flags(tools, model, a):
    """The flags that suit llama.cpp best, for each kind of work, by short runs."""
    progress("choosing llama.cpp's flags")
    probes = {
        "prefill": lambda f: tools.bench(model, f, prompts=[512])[("prefill", 512)],
        "decode": lambda f: tools.bench(model, f, n_gen=32)[("decode", 32)],
        "streams": lambda f: tools.batched(model, f, [16], a.prompt, 16)[16][0],
    }
    wanted = {"prefill": {"prefill"}, "decode": {"decode"}, "streams": {"streams", "clients"}}
    flags = {k: llama_cpp.best_flags(a.peer_threads or [a.threads], probes[k]) for k in probes if wanted[k] & set(a.only)}
    for kind, f in flags.items():
        print(f"llama.cpp, {kind}: flash attention {f['flash']}, micro-batch {f['ubatch']}, {f['threads']} threads")
    return flags


def compare_model(name, tools, a):
    model, _, kind = name.partition("@")
    path = pathlib.Path(model_path(model, a.tandem))
    if kind:
        path = tools.quantized(path, kind, a.out)
    ours = Tandem(a.tandem, a.threads, "avx2" if a.avx2 else "auto")
    print(f"\n{path.name}", flush=True)
    flags = choose_flags(tools, path, a)
    groups = {"prefill": compare_prefill, "decode": compare_decode, "streams": compare_streams, "clients": compare_clients}
    rows = [row for group in a.only for row in groups[group](ours, tools, path, flags, a)]
    report(rows, "llama.cpp AVX2" if a.avx2 else "llama.cpp", path, a, ours.kernel_set, ours.limits)


def main():
    parser = arguments(__doc__, [1, 4, 16, 32])
    parser.add_argument("--model", nargs="*", default=["smollm2:135m", "smollm2:135m@Q4_0", "qwen2.5-coder:0.5b"])
    parser.add_argument("--only", nargs="*", choices=GROUPS, default=GROUPS)
    parser.add_argument("--prefill", type=int, nargs="*", default=PREFILL)
    parser.add_argument("--streams", type=int, nargs="*", default=[1, 4, 16, 32])
    parser.add_argument("--avx2", action="store_true", help="both without AVX-512")
    parser.add_argument("--peer-threads", type=int, nargs="*", help="threads llama.cpp may choose among; as many as Tandem")
    parser.add_argument("--llama", help="a folder with llama-bench and the others, instead of a build in bench/out")
    parser.add_argument("--out", type=pathlib.Path, default=OUT, help="where peers and requantized models are kept")
    a = parser.parse_args()
    tools = llama_cpp.Tools(a.llama) if a.llama else llama_cpp.Tools.build(a.out, "avx2" if a.avx2 else "native")
    for name in a.model:
        compare_model(name, tools, a)


if __name__ == "__main__":
    main()
