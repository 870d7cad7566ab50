#!/usr/bin/env python3
"""Thousands of malformed and hostile requests against a running server, with well-formed clients beside them.

    abuse.py [--requests 10000] [--seed 1] [--timing]

Two servers of a small random model, one of which speaks TLS, get what a seeded generator makes: the corpus of corpus.py
(smuggling among it) whole, byte by byte and in pieces; mutations of valid requests; the fuzz corpus of the parser; slow
writers, half-closed sockets, resets, replies that nobody reads, bursts of connections; and under TLS broken handshakes,
garbage behind good ones, streams that are cut, plain text. Clients in processes of their own go on asking for
completions and for /health meanwhile.

At the end: both servers are the processes they were, every completion was right and every /health a 200, what must be
refused was refused with its status and nothing behind it was answered, and descriptors and memory are where they were
after a warm-up. With --timing the model is a real one, the abuse comes at a steady rate with pauses between, and the
median time of a completion beside it may be at most 10% above that in the pauses. Exit status 1 when anything of this
is not so.

The program is $TANDEM (default build/tandem).
"""
import argparse
import collections
import concurrent.futures
import contextlib
import http.client
import json
import multiprocessing
import os
import pathlib
import random
import re
import socket
import ssl
import statistics
import struct
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "e2e")]
import corpus  # noqa: E402
from harness import PATIENCE, ROOT, SANITIZER, SMOLLM, SecureServer, Server, make_model, real_model, tiny_config  # noqa: E402

MIB = 1 << 20
WORKERS = 8              # attackers at a time
SLOWLORIS = 10           # connections that send a byte now and then, to each server
ALLOWED_GROWTH = 8 * MIB # of a process, from the warm-up to the end
ALLOWED_DELAY = 1.10     # of the median, with --timing
RATE = 200               # requests a second, with --timing: a busy attacker, and the machine not full of attackers
ROUND_S = 2.0            # of abuse and of calm, in turn
OPTIONS = ["--threads", 1, "--kv-memory", "128M", "--header-timeout-ms", 2000, "--body-timeout-ms", 2000,
           "--idle-timeout-ms", 4000, "--stall-timeout-ms", 4000,
           "--allowed-host", "*"]  # a 403 would hide what the parser says
PATIENT = 20 * PATIENCE  # seconds for anything that has to come
PROMPT = {"prompt": "Once upon a time", "max_tokens": 12, "temperature": 0}


class Wrong(Exception):
    """What a server may not do."""


# ---- connections ----

class Target:
    """Where a server listens, and how it is spoken to."""

    def __init__(self, server):
        self.server, self.port = server, server.port
        self.secure = isinstance(server, SecureServer)
        self.context = server.context() if self.secure else None

    def raw(self):
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENT)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def connect(self):
        connection = self.raw()
        return self.context.wrap_socket(connection, server_hostname="localhost") if self.secure else connection


def send(connection, *pieces):
    """False when the server has closed."""
    try:
        for piece in pieces:
            connection.sendall(piece)
        return True
    except OSError:
        return False


def read_all(connection, limit=64 * MIB):
    """Everything until the server's end of stream, or a reset."""
    got = []
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while piece := connection.recv(1 << 16):
            got.append(piece)
            limit -= len(piece)
            if limit < 0:
                raise Wrong("a reply without an end")
    return b"".join(got)


def half_close(connection):
    """Ends the direction of the socket; of TLS without a close_notify."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_WR)


def read_now(connection):
    """What has come; None when nothing has."""
    connection.settimeout(0)
    try:
        return connection.recv(1 << 16)
    except (BlockingIOError, ssl.SSLWantReadError):
        return None
    except ConnectionError:
        return b""
    finally:
        connection.settimeout(PATIENT)


def reset(connection):
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


# ---- replies ----

HEAD = re.compile(rb"HTTP/1\.1 (\d{3}) [A-Za-z -]+\r\n((?:[A-Za-z-]+: [^\r\n\0]*\r\n)*)\r\n")


def take_reply(data, to_head):
    """(status, the rest) of the reply at the front of data; a cut one gives the rest None."""
    found = HEAD.match(data)
    if not found:
        if b"\r\n\r\n" in data or not b"HTTP/1.1 ".startswith(data[:9]):
            raise Wrong(f"no reply of HTTP: {data[:200]!r}")
        return None, None
    status, fields = int(found.group(1)), found.group(2).lower()
    rest = data[found.end():]
    length = re.search(rb"^content-length: (\d+)\r$", fields, re.MULTILINE)
    if to_head or status in (100, 204):
        return status, rest
    if length:
        size = int(length.group(1))
        return status, rest[size:] if len(rest) >= size else None
    if b"transfer-encoding: chunked" not in fields:
        return status, b""
    while chunk := re.match(rb"([0-9a-f]+)\r\n", rest):
        end = chunk.end() + int(chunk.group(1), 16)
        if rest[end:end + 2] != b"\r\n":
            break
        rest = rest[end + 2:]
        if chunk.group(1) == b"0":
            return status, rest
    return status, None


def statuses(data, to_head=False):
    """Of all replies in data, which may be cut anywhere."""
    found = []
    while data:
        status, data = take_reply(data, to_head)
        if status:
            found.append(status)
    return found


# ---- kinds of abuse: each is (target, random) -> nothing, or Wrong ----

def pieces_of(data, rng):
    """The same bytes in one piece, in bytes, or in a few pieces."""
    how = rng.randrange(4)
    if how == 0 and len(data) <= 400:
        return [data[i:i + 1] for i in range(len(data))]
    if how == 1:
        cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randrange(1, 6)))
        return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)]) if a < b]
    return [data]


def refused(target, rng):
    name, request, expected = rng.choice(corpus.REFUSED)
    if target.secure and name == "a TLS handshake":
        return
    with contextlib.closing(target.connect()) as connection:
        send(connection, *pieces_of(request + corpus.CANARY, rng))
        got = read_all(connection)
    if statuses(got) != [expected]:
        raise Wrong(f"{name}: expected {expected} alone, got {statuses(got)}: {got[:300]!r}")
    if b"connection: close" not in got.lower():
        raise Wrong(f"{name}: the reply does not say that the connection ends")


def accepted(target, rng):
    name, request, expected = rng.choice(corpus.ACCEPTED)
    to_head = request.startswith(b"HEAD")
    last = corpus.get(method=b"HEAD" if to_head else b"GET", fields=b"Connection: close\r\n")
    if b"HTTP/1.0" in request:
        last = b""
    with contextlib.closing(target.connect()) as connection:
        send(connection, *pieces_of(request + last, rng))
        got = read_all(connection)
    if statuses(got, to_head) != expected + [200] * bool(last):
        raise Wrong(f"{name}: expected {expected} and 200, got {statuses(got, to_head)}: {got[:300]!r}")


def mutate(data, rng):
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        at = rng.randrange(len(data) + 1)
        how = rng.randrange(7)
        if how == 0:
            data[at:at] = bytes([rng.choice(b"\r\n\0\t :;,%/\x0b\x7f\xff") if rng.random() < 0.7 else rng.randrange(256)])
        elif how == 1 and data:
            data[rng.randrange(len(data))] = rng.randrange(256)
        elif how == 2:
            del data[at:at + rng.randrange(1, 8)]
        elif how == 3:
            data[at:at] = data[at:at + rng.randrange(1, 60)]
        elif how == 4:
            other = rng.choice(corpus.SEEDS)
            data[at:] = other[rng.randrange(len(other)):]
        elif how == 5:
            line = rng.choice((corpus.TE, corpus.SIZED, corpus.HOST, b"A: b\r\n", b"\r\n", b"Connection: close\r\n", b"Expect: 100-continue\r\n"))
            where = data.find(b"\r\n", at)
            data[where + 2:where + 2] = line
        else:
            del data[at:]
    return bytes(data)


def mutated(target, rng):
    """Whatever it has become, what comes back is a row of replies."""
    request = mutate(rng.choice(corpus.SEEDS), rng)
    with contextlib.closing(target.connect()) as connection:
        send(connection, *pieces_of(request, rng))
        half_close(connection)
        got = read_all(connection)
    if b"HEAD" not in request:
        statuses(got)


FUZZ = [p.read_bytes() for p in sorted((ROOT / "tests" / "fuzz" / "corpus" / "http_parser").iterdir())]


def fuzzed(target, rng):
    """Of an input of fuzz_http_parser.c: a number of piece sizes, the sizes, the bytes."""
    data = rng.choice(FUZZ)
    n = data[0] % 16
    request = data[1 + n:]
    if rng.random() < 0.5:
        request = mutate(request, rng)
    with contextlib.closing(target.connect()) as connection:
        send(connection, *pieces_of(request, rng))
        half_close(connection)
        read_all(connection)


def slow(target, rng):
    """Bytes with pauses; a right request is answered in the end."""
    request = corpus.get(fields=b"Connection: close\r\n")
    with contextlib.closing(target.connect()) as connection:
        for i in range(0, len(request), 3):
            send(connection, request[i:i + 3])
            time.sleep(rng.random() * 0.004)
        got = read_all(connection)
    if statuses(got) != [200]:
        raise Wrong(f"a slow request: {got[:200]!r}")


def left(target, rng):
    """In the middle of a request, of its preparation, or of its reply."""
    request = rng.choice(corpus.SEEDS + [corpus.post(b"Content-Length: %d\r\n" % len(LONG), LONG, b"/v1/completions")] * 8)
    connection = target.connect()
    send(connection, request[:rng.randrange(1, len(request) + 1)] if rng.random() < 0.5 else request)
    if rng.random() < 0.3:
        connection.settimeout(0.05)
        with contextlib.suppress(OSError):
            connection.recv(100)
    how = rng.randrange(3)
    if how == 0:
        reset(connection)
    elif how == 1:
        half_close(connection)
        connection.settimeout(PATIENT)
        read_all(connection)
        connection.close()
    else:
        connection.close()


LONG = json.dumps({"prompt": "Tell a story", "max_tokens": 2000, "stream": True}).encode()


def unread(target, rng):
    """Many requests whose replies nobody reads."""
    connection = target.connect()
    connection.settimeout(0.2)
    send(connection, corpus.get(b"/metrics") * rng.randrange(1, 300))
    reset(connection)


def burst(target, rng):
    """Connections that say nothing, or hardly anything."""
    connections = []
    for _ in range(rng.randrange(2, 40)):
        with contextlib.suppress(OSError):
            connections.append(target.raw())
    for connection in connections:
        if rng.random() < 0.3:
            send(connection, rng.choice((b"G", b"\r\n", b"\x16", b"\x16\x03\x01", corpus.get()[:20])))
    for connection in connections:
        reset(connection) if rng.random() < 0.5 else connection.close()


# -- of TLS alone --

def client_hello(target, **settings):
    context = target.server.context()
    context.set_alpn_protocols(settings.get("alpn", ["http/1.1"]))
    outgoing = ssl.MemoryBIO()
    session = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        session.do_handshake()
    return outgoing.read()


def broken_handshake(target, rng):
    hello = client_hello(target)
    how = rng.randrange(5)
    if how == 0:
        hello = hello[:rng.randrange(len(hello))]
    elif how == 1:
        hello = mutate(hello, rng)
    elif how == 2:
        hello = rng.randbytes(rng.randrange(1, 2000))
    elif how == 3:
        hello = b"\x16\x03\x01" + rng.randbytes(rng.randrange(1, 600))
    else:
        hello += rng.randbytes(rng.randrange(1, 600))
    with contextlib.closing(target.raw()) as connection:
        send(connection, *pieces_of(hello, rng))
        half_close(connection)
        got = read_all(connection)
    if got[:1] not in (b"", b"\x15", b"\x16", b"H"):  # an alert, a handshake, or a reply to what looks like text
        raise Wrong(f"no record of TLS: {got[:100]!r}")


def garbage_records(target, rng):
    """Behind a good handshake, and a good request or two."""
    connection = target.connect()
    for _ in range(rng.randrange(3)):
        connection.sendall(corpus.get())
        if statuses(connection.recv(1 << 16)) != [200]:
            raise Wrong("a request over TLS before the garbage")
    with contextlib.closing(socket.socket(fileno=connection.detach())) as beneath:
        beneath.settimeout(PATIENT)
        junk = rng.choice((b"", b"\x17\x03\x03", b"\x17\x03\x03\x00\x20", b"\x17\x03\x03\xff\xff", b"\x15\x03\x03\x00\x02", corpus.get()))
        send(beneath, junk + rng.randbytes(rng.randrange(1, 300)))
        half_close(beneath)
        read_all(beneath)


def plain_text(target, rng):
    with contextlib.closing(target.raw()) as connection:
        send(connection, *pieces_of(corpus.get(fields=b"Connection: close\r\n") + corpus.CANARY, rng))
        got = read_all(connection)
    if statuses(got) != [400] or b"https" not in got:
        raise Wrong(f"plain text to the port of TLS: {got[:300]!r}")


def other_protocol(target, rng):
    with contextlib.closing(target.raw()) as connection:
        send(connection, client_hello(target, alpn=["h2"]))
        got = read_all(connection)
    if got[:1] != b"\x15" or got[-1] != 120:
        raise Wrong(f"a client that speaks HTTP/2 alone has to be told so: {got[:100]!r}")


KINDS = {refused: 30, accepted: 8, mutated: 22, fuzzed: 8, slow: 3, left: 12, unread: 1, burst: 1}
TLS_KINDS = {broken_handshake: 10, garbage_records: 5, plain_text: 3, other_protocol: 2}


# ---- well-formed clients, in a process of their own ----

CALM, ABUSE, OVER = 1, 2, 3


class Witness:
    """A client of one server: a keep-alive connection for completions, one for /health, and now and then a new one."""

    def __init__(self, port, cafile):
        self.port, self.context = port, ssl.create_default_context(cafile=cafile) if cafile else None
        self.expected, self.n = None, 0
        self.times, self.health, self.wrong = collections.defaultdict(list), [], []
        self.work, self.watch = self.connection(), self.connection()

    def connection(self):
        made = (http.client.HTTPSConnection("127.0.0.1", self.port, timeout=PATIENT, context=self.context) if self.context
                else http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENT))
        made.connect()
        made.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    @staticmethod
    def ask(connection, method, path, body=None):
        connection.request(method, path, json.dumps(body) if body else None, {"Content-Type": "application/json"} if body else {})
        reply = connection.getresponse()
        return reply.status, reply.read()

    def complete(self, phase):
        before, began = phase.value, time.perf_counter()
        status, body = self.ask(self.work, "POST", "/v1/completions", PROMPT)
        took = time.perf_counter() - began
        text = json.loads(body)["choices"][0]["text"] if status == 200 else body.decode()
        self.expected = self.expected or text
        if status != 200 or text != self.expected:
            self.wrong.append(f"a completion: {status} {text[:300]}")
        if phase.value == before:
            self.times[before].append(took)

    def check_health(self, connection):
        began = time.perf_counter()
        status, body = self.ask(connection, "GET", "/health")
        self.health.append(time.perf_counter() - began)
        if status != 200:
            self.wrong.append(f"/health: {status} {body[:300]}")

    def step(self, phase):
        self.complete(phase)
        self.check_health(self.watch)
        self.n += 1
        if self.n % 10 == 0:
            with contextlib.closing(self.connection()) as fresh:
                self.check_health(fresh)


def witness(servers, phase, out):
    """The servers in turn, so that one engine works at a time, as it would alone."""
    clients = [Witness(*server) for server in servers]
    try:
        while phase.value != OVER:
            for client in clients:
                client.step(phase)
                time.sleep(0.005)
    except Exception as error:  # noqa: BLE001 (told to the parent)
        clients[0].wrong.append(f"a well-formed client: {error!r}")
    out.send([(dict(c.times), c.health, c.wrong[:20]) for c in clients])


# ---- slowloris ----

class Slowloris(threading.Thread):
    """Keeps connections whose head or body comes byte by byte; each has to be told 408, in the time that is allowed."""

    ALLOWED_S = 2 + 4 * PATIENCE

    def __init__(self, target):
        super().__init__()
        self.target, self.stop, self.all_were_cut = target, threading.Event(), threading.Event()
        self.cut, self.wrong = 0, []

    def open(self, i):
        connection = self.target.connect()
        send(connection, (b"GET /health HTTP/1.1\r\nHost: x\r\nA: ", b"POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: 30000\r\n\r\n",
                          b"POST /tokenize HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3000\r\n")[i % 3])
        return connection, time.monotonic()

    def step(self, i, held):
        connection, began = held[i]
        send(connection, b"a")
        first = read_now(connection)
        if first is None:
            if time.monotonic() - began > self.ALLOWED_S:
                self.wrong.append(f"slowloris: a connection is open after {self.ALLOWED_S} s")
                self.stop.set()
            return
        got = statuses(first + read_all(connection))
        if got != [408]:
            self.wrong.append(f"slowloris: {got}")
        self.cut += 1
        if self.cut >= SLOWLORIS:
            self.all_were_cut.set()
        connection.close()
        held[i] = self.open(i)

    def run(self):
        held = [self.open(i) for i in range(SLOWLORIS)]
        try:
            while not self.stop.wait(0.1):
                for i in range(SLOWLORIS):
                    self.step(i, held)
        except Exception as error:  # noqa: BLE001 (told at the end)
            self.wrong.append(f"slowloris: {error!r}")
        for connection, _ in held:
            connection.close()


# ---- the run ----

class Run:
    def __init__(self, servers, arguments):
        self.servers, self.arguments = servers, arguments
        self.targets = [Target(s) for s in servers]
        self.rng = random.Random(arguments.seed)
        self.counts, self.wrong = collections.Counter(), []
        self.lock = threading.Lock()

    def attack(self, target, kind, seed):
        try:
            kind(target, random.Random(seed))
            outcome = None
        except Wrong as error:
            outcome = f"{kind.__name__}, seed {seed}, {'TLS' if target.secure else 'plain'}: {error}"
        except ssl.SSLError as error:
            outcome = f"{kind.__name__}, seed {seed}: a handshake failed: {error}"
        except OSError as error:
            outcome = f"{kind.__name__}, seed {seed}: {error!r}"
        with self.lock:
            self.counts[kind.__name__] += 1
            if outcome:
                self.wrong.append(outcome)

    def attacks(self, n):
        """What to do next: (target, kind, seed), n times."""
        for _ in range(n):
            target = self.rng.choice(self.targets)
            kinds = {**KINDS, **(TLS_KINDS if target.secure else {})}
            yield target, self.rng.choices(list(kinds), list(kinds.values()))[0], self.rng.getrandbits(32)

    def every_case_once(self):
        """The corpus, each of it to each server, beside what the generator chooses."""
        for target in self.targets:
            for name, request, expected in corpus.REFUSED:
                if target.secure and name == "a TLS handshake":
                    continue
                with contextlib.closing(target.connect()) as connection:
                    send(connection, request + corpus.CANARY)
                    got = read_all(connection)
                if statuses(got) != [expected]:
                    self.wrong.append(f"{name}: expected {expected} alone, got {statuses(got)}: {got[:300]!r}")

    def chunk(self, n, rate=0):
        began = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
            for i, attack in enumerate(self.attacks(n)):
                if rate:
                    time.sleep(max(0, began + i / rate - time.monotonic()))
                pool.submit(self.attack, *attack)

    def at_rest(self):
        """Descriptors and memory of gateway and engine, once the clients that left are gone."""
        figures = []
        for server in self.servers:
            server.wait_idle(30)
            server.wait_for(lambda s=server: s.status()["connections"] <= 4, "the connections are gone", 30)
            figures.append((server.descriptors(), server.resident()))
        return figures

    def compare(self, before, after):
        for server, (fds_before, memory_before), (fds, memory) in zip(self.servers, before, after):
            where = "TLS" if isinstance(server, SecureServer) else "plain"
            for i, process in enumerate(("gateway", "engine")):
                print(f"{where} {process}: descriptors {fds_before[i]} -> {fds[i]}, resident {memory_before[i] / MIB:.1f} -> "
                      f"{memory[i] / MIB:.1f} MiB")
                if fds[i] > fds_before[i] + 2:
                    self.wrong.append(f"{where} {process}: {fds[i] - fds_before[i]} descriptors more than after the warm-up")
                if not SANITIZER and memory[i] > memory_before[i] + ALLOWED_GROWTH:
                    self.wrong.append(f"{where} {process}: {(memory[i] - memory_before[i]) / MIB:.1f} MiB more than after the warm-up")

    def phases(self, phase):
        n = self.arguments.requests
        if not self.arguments.timing:
            phase.value = ABUSE
            self.chunk(n)
            return
        a_round = int(RATE * ROUND_S)
        while n > 0:
            phase.value = CALM
            time.sleep(ROUND_S)
            phase.value = ABUSE
            self.chunk(min(n, a_round), RATE)
            n -= a_round
        phase.value = CALM
        time.sleep(ROUND_S)

    def start_witness(self, phase):
        where = [(s.port, str(s.cert) if isinstance(s, SecureServer) else None) for s in self.servers]
        here, there = multiprocessing.Pipe()
        process = multiprocessing.Process(target=witness, args=(where, phase, there))
        process.start()
        return process, here

    def judge(self, results):
        times, health = collections.defaultdict(list), []
        for found, checks, wrong in results:
            for phase, values in found.items():
                times[phase] += values
            health += checks
            self.wrong += wrong
        health.sort()
        print(f"/health: {len(health)} times, median {statistics.median(health) * 1000:.1f} ms, 99% within "
              f"{health[len(health) * 99 // 100] * 1000:.1f} ms, longest {health[-1] * 1000:.1f} ms")
        medians = {phase: statistics.median(values) for phase, values in times.items() if values}
        for phase, name in ((CALM, "alone"), (ABUSE, "beside the abuse")):
            if phase in medians:
                print(f"completions {name}: {len(times[phase])}, median {medians[phase] * 1000:.1f} ms")
        if self.arguments.timing and self.arguments.requests:
            ratio = medians[ABUSE] / medians[CALM]
            print(f"beside the abuse / alone: {ratio:.3f} (at most {ALLOWED_DELAY:.2f})")
            if ratio > ALLOWED_DELAY:
                self.wrong.append(f"well-formed clients are delayed by {(ratio - 1) * 100:.0f}% in the median")

    def run(self):
        began = time.monotonic()
        pids = [(s.process.pid, s.engine()["pid"]) for s in self.servers]
        self.every_case_once()
        self.chunk(self.arguments.requests // 10)  # the warm-up
        before = self.at_rest()
        phase = multiprocessing.Value("i", CALM)
        client, results = self.start_witness(phase)  # before there are threads
        if self.arguments.timing:
            os.nice(19)  # attackers have processors of their own: what they do to the server counts, not what they compute
        holders = [Slowloris(t) for t in self.targets]
        for holder in holders:
            holder.start()
        self.phases(phase)
        for holder in holders:
            holder.all_were_cut.wait(Slowloris.ALLOWED_S)
        phase.value = OVER
        results = results.recv()
        client.join()
        for holder in holders:
            holder.stop.set()
            holder.join()
            self.wrong += holder.wrong
            if not holder.all_were_cut.is_set():
                self.wrong.append(f"slowloris: {holder.cut} connections were cut")
        after = self.at_rest()
        print(", ".join(f"{n} {name}" for name, n in sorted(self.counts.items())) +
              f", {sum(h.cut for h in holders)} slowloris; {time.monotonic() - began:.0f} s")
        self.compare(before, after)
        self.judge(results)
        if [(s.process.pid, s.engine()["pid"]) for s in self.servers] != pids or any(s.process.poll() is not None for s in self.servers):
            self.wrong.append("a server or its engine is not the process it was")
        return self.wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--timing", action="store_true")
    parser.add_argument("--model", help="a model file [a random one]")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        real = real_model(SMOLLM)
        model = arguments.model or (real if arguments.timing else make_model(tiny_config(), pathlib.Path(folder) / "tiny.gguf", real))
        with Server(model, *OPTIONS) as plain, SecureServer(model, folder, *OPTIONS) as secure:
            wrong = Run([plain, secure], arguments).run()
    for line in wrong[:20]:
        print(f"wrong: {line}")
    print(f"{'failed' if wrong else 'passed'}: {len(wrong)} wrong")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
