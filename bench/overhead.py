#!/usr/bin/env python3
"""What serving costs besides computing: the gateway's processor time per token, what it adds to the first token, how
evenly tokens come while it is busy with something else, and what two busy engines get done beside one.

    python3 bench/overhead.py                 all four, with their targets
    python3 bench/overhead.py --only cpu ttft --repeat 9 --seconds 10

cpu and ttft use the scripted engine (test builds: `tandem serve --script`), which computes nothing: one event per token,
prompts of 100 tokens. Processor time is that of the gateway's threads, which another load on the machine hardly changes;
times on the wall want an otherwise idle machine. Every figure is the median of --repeat runs; the spread stands beside it.

    cpu     clients that stream answers of 128 tokens, 1,000 tokens/s in all, as 1 stream and as 16: under 3% of a core;
            beside it what a bare loop of the same system calls takes here (tests/tools/relay_floor.c)
    ttft    an engine that answers at once, from the last byte of the request to the first token's event: under 1 ms
    noise   one stream at 100 tokens/s (scripted, and SmolLM2 on the cpu backend) while another client keeps half a core of
            the gateway busy with templates and JSON: 99% of the pauses between tokens under 2 times the median
    two     SmolLM2 served twice with 1 thread each against once with 2, 8 streams each: at least 85% in sum

The program is $TANDEM (default build/tandem); exit status 1 when a target is missed and --strict is given.
"""
import argparse
import contextlib
import functools
import json
import pathlib
import random
import re
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "e2e"))
from harness import BUILD, SMOLLM, Server, models_folder  # noqa: E402

WORDS = ("time river stone light music garden winter letter window science answer people market morning ocean bridge "
         "paper forest number village").split()
NEW_TOKENS = 128
RULES = [{"match": f"KEY-{ms}MS", "text": "tick tock ", "delay_ms": ms, "then": "length"} for ms in (1, 10, 16)]


# ---- processor time ----

def cpu_seconds(pid):
    """Of all threads of a process; schedstat counts nanoseconds, stat only ticks."""
    try:
        tasks = pathlib.Path(f"/proc/{pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) * 1e-9
    except (OSError, IndexError):
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / 100


# ---- clients on plain sockets: they must cost little themselves ----

def request_bytes(path, body):
    payload = json.dumps(body).encode()
    return (f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {len(payload)}"
            "\r\n\r\n").encode() + payload


class Stream:
    """One streaming answer after another over one connection."""

    def __init__(self, port, bodies, path="/v1/chat/completions"):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.requests = [request_bytes(path, {**body, "stream": True}) for body in bodies]
        self.n_sent = self.n_tokens = 0
        self.times = []

    def send(self):
        self.tail = b""
        self.socket.sendall(self.requests[self.n_sent % len(self.requests)])
        self.n_sent += 1

    def receive(self):
        """Takes what has come; True when the answer is complete."""
        data = self.socket.recv(65536)
        if not data:
            raise SystemExit("overhead: the server closed a connection")
        now = time.perf_counter()
        text = self.tail + data
        if b'"error"' in text or (text.startswith(b"HTTP/") and b" 200 OK" not in text[:20]):
            raise SystemExit(f"overhead: {text[:500]}")
        n = text.count(b'"content":"') - self.tail.count(b'"content":"')
        n -= text.count(b'"content":""') - self.tail.count(b'"content":""')
        self.n_tokens += n
        self.times.extend([now] * n)
        self.tail = text[-12:]
        return text.endswith(b"0\r\n\r\n")


def drive(streams, seconds):
    """Reads what comes for so long; answers that are complete begin anew."""
    with selectors.DefaultSelector() as selector:
        for stream in streams:
            selector.register(stream.socket, selectors.EVENT_READ, stream)
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            for key, _ in selector.select(0.1):
                if key.data.receive():
                    key.data.send()


def run_streams(streams, seconds):
    for stream in streams:
        stream.send()
    drive(streams, seconds)


def prompt_of(server, n_tokens, seed, key=""):
    """A user message that the chat template makes n_tokens of."""
    rng = random.Random(seed)
    words = [key] if key else []
    while True:
        message = [{"role": "user", "content": " ".join(words)}]
        n = len(server.ok("/tokenize", {"messages": message, "add_generation_prompt": True})["tokens"])
        if n >= n_tokens:
            return message
        words.append(rng.choice(WORDS))


@functools.cache
def messages_of(server, key, n_tokens, count):
    return [prompt_of(server, n_tokens, seed, key) for seed in range(count)]


def bodies_of(server, key, n_tokens=100, count=8, **fields):
    return [{"messages": messages, **fields} for messages in messages_of(server, key, n_tokens, count)]


@contextlib.contextmanager
def scripted(model):
    with tempfile.TemporaryDirectory() as folder:
        script = pathlib.Path(folder) / "script.json"
        script.write_text(json.dumps({"rules": RULES, "default": {"text": "tick tock ", "then": "length"}}))
        with Server(model, "--threads", 1, "--kv-memory", "256M", "--script", script,
                    ready_timeout=120) as server:
            yield server


# ---- the measurements: each yields (what, figure, unit, target or None, "max" or "min") of one run ----

def measure_cpu(server, a):
    for n_streams, ms in ((1, 1), (16, 16)):
        streams = [Stream(server.port, bodies_of(server, f"KEY-{ms}MS", max_tokens=NEW_TOKENS)) for _ in range(n_streams)]
        run_streams(streams, 1)  # connections, allocator and caches warm
        for stream in streams:
            stream.socket.close()
        streams = [Stream(server.port, bodies_of(server, f"KEY-{ms}MS", max_tokens=NEW_TOKENS)) for _ in range(n_streams)]
        before, began = cpu_seconds(server.process.pid), time.perf_counter()
        run_streams(streams, a.seconds)
        spent, wall = cpu_seconds(server.process.pid) - before, time.perf_counter() - began
        n = sum(stream.n_tokens for stream in streams)
        for stream in streams:
            stream.socket.close()
        what = f"{n_streams} stream{'s' if n_streams > 1 else ''}"
        yield f"cpu, {what}: of a core at 1,000 tokens/s", 100 * spent / n * 1000, "%", 3, "max"
        yield f"cpu, {what}: per token", 1e6 * spent / n, "us", None, ""
        yield f"cpu, {what}: tokens/s during the measurement", n / wall, "", None, ""
        server.wait_idle()
    floor = float(subprocess.run([BUILD / "relay_floor", str(a.seconds)], capture_output=True, text=True, check=True).stdout)
    yield "cpu, for comparison: a bare loop of the same system calls, 1 stream", floor, "us", None, ""


def time_request(connection, request, until):
    """Milliseconds from the last byte sent to the bytes `until`."""
    text = b""
    connection.sendall(request)
    began = time.perf_counter()
    arrived = None
    while not text.endswith(b"0\r\n\r\n"):
        text += connection.recv(65536)
        if arrived is None and re.search(until, text):
            arrived = time.perf_counter() - began
    return 1000 * arrived


def measure_ttft(server, a):
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        bodies = bodies_of(server, "KEY-NOW", count=40, max_tokens=2, stream=True, cache_prompt=False)
        times, plain = [], []
        for body in bodies * 10:
            times.append(time_request(connection, request_bytes("/v1/chat/completions", body), rb'"content":"[^"]'))
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: bench\r\n\r\n")
            began = time.perf_counter()
            connection.recv(65536)
            plain.append(1000 * (time.perf_counter() - began))
    times.sort()
    yield "ttft, scripted engine without delay: median", statistics.median(times), "ms", 1, "max"
    yield "ttft, scripted engine without delay: p95", times[int(0.95 * len(times))], "ms", None, ""
    yield "ttft, for comparison: a GET /health", statistics.median(plain), "ms", None, ""


class Burner(threading.Thread):
    """Posts conversations too long for the context: JSON, template and tokens are made, then it is refused. Sleeps as long
    as the gateway computed, so that it keeps half a core busy."""

    def __init__(self, server, n_messages=300):
        super().__init__(daemon=True)
        text = " ".join(random.Random(1).choices(WORDS, k=120))
        messages = [{"role": ("user", "assistant")[i % 2], "content": text} for i in range(n_messages)]
        self.request = request_bytes("/v1/chat/completions", {"messages": messages, "max_tokens": 4})
        self.server, self.stop, self.n = server, False, 0

    def run(self):
        with socket.create_connection(("127.0.0.1", self.server.port)) as connection:
            while not self.stop:
                before = cpu_seconds(self.server.process.pid)
                connection.sendall(self.request)
                text = b""
                while b"context_length_exceeded" not in text:
                    text += connection.recv(65536)
                self.n += 1
                time.sleep(max(0.0, cpu_seconds(self.server.process.pid) - before))


def measure_noise(server, a, what, key):
    body = {"messages": prompt_of(server, 100, 7, key), "max_tokens": 8000 if key else 1800, "ignore_eos": True}
    for busy in (False, True):
        burner = Burner(server) if busy else None
        if busy:
            burner.start()
            time.sleep(0.5)
        stream = Stream(server.port, [body])
        before, began = cpu_seconds(server.process.pid), time.perf_counter()
        run_streams([stream], a.seconds)
        share = (cpu_seconds(server.process.pid) - before) / (time.perf_counter() - began)
        if busy:
            burner.stop = True
            burner.join()
        stream.socket.close()
        pauses = sorted(1000 * (b - a) for a, b in zip(stream.times[8:], stream.times[9:]))
        median, p99 = statistics.median(pauses), pauses[int(0.99 * len(pauses))]
        state = "busy" if busy else "quiet"
        yield f"noise, {what}, {state} gateway: p99 / median between tokens", p99 / median, "", 2 if busy else None, "max"
        yield f"noise, {what}, {state} gateway: median between tokens", median, "ms", None, ""
        yield f"noise, {what}, {state} gateway: gateway's share of a core", 100 * share, "%", None, ""
        server.wait_idle(60)


def throughput(servers, seconds):
    """Tokens a second of 8 streams on each server, all at once."""
    streams = [Stream(server.port, [{"messages": prompt_of(server, 100, seed), "max_tokens": 400, "ignore_eos": True}])
               for server in servers for seed in range(8)]
    run_streams(streams, 2)
    for stream in streams:
        stream.n_tokens = 0
    began = time.perf_counter()
    drive(streams, seconds)
    n = sum(stream.n_tokens for stream in streams)
    for stream in streams:
        stream.socket.close()
    return n / (time.perf_counter() - began)


def measure_two(model, a):
    def server(threads):
        return Server(model, "--threads", threads, "--kv-memory", "128M", "--max-context", 2048, ready_timeout=120)
    with server(2) as one:
        alone = throughput([one], a.seconds)
    with server(1) as first, server(1) as second:
        both = throughput([first, second], a.seconds)
    yield "two engines with 1 thread each: of one with 2", 100 * both / alone, "%", 85, "min"
    yield "two engines: tokens/s together", both, "", None, ""
    yield "two engines: tokens/s of one with 2 threads alone", alone, "", None, ""


# ---- runs and report ----

def runs(a):
    if "cpu" in a.only or "ttft" in a.only or "noise" in a.only:
        with scripted(a.model) as server:
            for _ in range(a.repeat):
                if "cpu" in a.only:
                    yield from measure_cpu(server, a)
                if "ttft" in a.only:
                    yield from measure_ttft(server, a)
                if "noise" in a.only:
                    yield from measure_noise(server, a, "scripted", "KEY-10MS")
    if "noise" in a.only and not a.no_model:
        with Server(a.model, "--threads", 2, "--kv-memory", "128M", "--max-context", 2048, ready_timeout=120) as server:
            for _ in range(a.repeat):
                yield from measure_noise(server, a, "SmolLM2", "")
    if "two" in a.only:
        for _ in range(a.repeat):
            yield from measure_two(a.model, a)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=["cpu", "ttft", "noise", "two"], choices=["cpu", "ttft", "noise", "two"])
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10, help="of each run")
    parser.add_argument("--model", default=models_folder() / SMOLLM, type=pathlib.Path)
    parser.add_argument("--no-model", action="store_true", help="noise: the scripted engine only")
    parser.add_argument("--strict", action="store_true")
    a = parser.parse_args()
    figures = {}
    for what, value, unit, target, side in runs(a):
        figures.setdefault(what, ([], unit, target, side))[0].append(value)
        print(f"  {what}: {value:.3g} {unit}", file=sys.stderr, flush=True)
    print("| what | median | lowest to highest | target | |\n| --- | --- | --- | --- | --- |")
    missed = 0
    for what, (values, unit, target, side) in figures.items():
        median = statistics.median(values)
        met = target is None or (median <= target if side == "max" else median >= target)
        missed += not met
        wanted = "" if target is None else f"{'under' if side == 'max' else 'at least'} {target} {unit}".strip()
        print(f"| {what} | {median:.3g} {unit} | {min(values):.3g} to {max(values):.3g} | {wanted} | "
              f"{'' if target is None else 'met' if met else 'MISSED'} |")
    sys.exit(1 if a.strict and missed else 0)


if __name__ == "__main__":
    main()
