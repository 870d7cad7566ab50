"""Many at once: clients that leave, that stop reading, that are too many. What is released is asserted on what the
server says of itself; times are generous, since the machine may be busy with other things."""
import asyncio
import json
import socket
import statistics
import time

import pytest

from harness import BACKEND, PATIENCE, SANITIZER, Server, chunks, parse_events, stream_text, together
from script_rules import PLAIN

pytestmark = pytest.mark.alone("what it costs many to come and to leave at once")

N_STREAMS, N_LEAVERS = (64, 16) if BACKEND == "cpu" else (24, 6)
N_TOKENS = 90 if SANITIZER else 150  # of those who stay: they must outlast the others' prefill
MIB = 1 << 20


# ---- a client that costs little ----

class Stream:
    """One request on a connection of its own. HTTP/1.0, so that the body is what comes until the connection ends."""

    def __init__(self, server, path, body):
        self.port, self.path, self.payload = server.port, path, json.dumps(body).encode()

    async def __aenter__(self):
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port, limit=MIB)
        self.writer.write(b"POST %s HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
                          % (self.path.encode(), len(self.payload), self.payload))
        return self

    async def __aexit__(self, *_):
        self.writer.close()

    async def status(self):
        head = await self.reader.readuntil(b"\r\n\r\n")
        return int(head.split(b" ", 2)[1])

    async def event(self):
        return await self.reader.readuntil(b"\n\n")

    async def rest(self):
        return await self.reader.read(-1)

    def leave(self, reset):
        """Closes the connection, with what is unread in it or by a reset."""
        if reset:
            self.writer.transport.abort()
        else:
            self.writer.close()


async def read_stream(server, path, body):
    async with Stream(server, path, {**body, "stream": True}) as stream:
        assert await stream.status() == 200, await stream.rest()
        return stream_text(parse_events([await stream.rest()]))


async def leave_stream(server, path, body, n_events, reset):
    """Leaves after so many events; negative: before the reply."""
    async with Stream(server, path, {**body, "stream": True}) as stream:
        assert n_events < 0 or await stream.status() == 200
        for _ in range(n_events):
            await stream.event()
        stream.leave(reset)


# ---- leaving ----

def survivor(i):
    sampling = {"temperature": 0} if i % 2 else {"seed": i, "temperature": 0.8, "top_p": 0.95}
    return {"prompt": f"Story number {i}: once upon a time", "max_tokens": N_TOKENS, "ignore_eos": True,
            "stream_interval_tokens": 1 + i % 4, **sampling}


def leaver(i):
    """Its prompt fills pages that nobody else has."""
    return {"prompt": [1000 + (i * 401 + k * 7) % 20000 for k in range(224)], "max_tokens": 3000, "ignore_eos": True,
            "seed": i}


def pages_of(requests, page_tokens):
    """The pages that these need, or may be about to get for their next token."""
    return sum((r["prompt_tokens"] + r["generated_tokens"] + 1) // page_tokens + 1 for r in requests)


async def samples_after(server, began, n_left, timeout):
    """What /v1/status says until its engine runs no more than n_left sequences: (seconds, model status)."""
    while True:
        status = await asyncio.to_thread(server.model_status)
        now = time.monotonic() - began
        if status["engine"]["stats"]["running"] <= n_left:
            return now, status
        assert now < timeout, f"{status['engine']['stats']['running']} sequences run {now:.1f} s after the clients left"
        await asyncio.sleep(0.01)


async def leave_together(server):
    """64 streams, 16 of which are left when all of them run; the others' texts and what the server said after it."""
    stayers = [asyncio.create_task(read_stream(server, "/v1/completions", survivor(i)))
               for i in range(N_STREAMS - N_LEAVERS)]
    leavers = [Stream(server, "/v1/completions", {**leaver(i), "stream": True}) for i in range(N_LEAVERS)]
    for stream in leavers:
        await stream.__aenter__()
    for stream in leavers:
        assert await stream.status() == 200
        for _ in range(3):
            await stream.event()
    before = await asyncio.to_thread(server.model_status)
    began = time.monotonic()
    for i, stream in enumerate(leavers):
        stream.leave(reset=i % 2 == 0)
    seconds, after = await samples_after(server, began, N_STREAMS - N_LEAVERS, 10 * PATIENCE)
    return await asyncio.gather(*stayers), before, seconds, after


def test_clients_that_leave_free_their_pages_and_harm_nobody(tiny):
    alone = [tiny.complete(**survivor(i), cache_prompt=False)["choices"][0]["text"]
             for i in range(N_STREAMS - N_LEAVERS)]
    tiny.wait_idle()
    texts, before, seconds, after = asyncio.run(leave_together(tiny))

    page_tokens = before["engine"]["page_tokens"]
    assert len(after["requests"]) > N_STREAMS // 2, "the others still run, or this says nothing"
    assert before["engine"]["stats"]["pages_referenced"] >= N_LEAVERS * (224 // page_tokens)
    # The engine's figures are of one moment; those of the requests, a moment later, can only be higher.
    assert len(after["requests"]) <= N_STREAMS - N_LEAVERS
    assert after["engine"]["stats"]["pages_referenced"] <= pages_of(after["requests"], page_tokens)
    print(f"released {1000 * seconds:.0f} ms after they left")
    assert seconds < 1.0 * PATIENCE, f"their pages were released only {1000 * seconds:.0f} ms after they left"

    for i, (text, expected) in enumerate(zip(texts, alone, strict=True)):
        assert text == expected, f"stream {i} differs from what it gives alone"
    tiny.wait_idle()


# ---- leaks ----

def mixed_request(server, i):
    """Every fourth client leaves, at different moments: right after its request, or after some events."""
    if i % 4 == 3:
        return leave_stream(server, "/v1/chat/completions", {
            "messages": [{"role": "user", "content": f"Tell me about {i}."}], "max_tokens": 2000, "ignore_eos": True,
            "seed": i}, n_events=i // 4 % 6 - 1, reset=i % 8 == 3)
    return read_stream(server, "/v1/completions", {"prompt": f"{i} is the number", "max_tokens": 1 + i % 12, "seed": i})


async def run_mixed(server, first, n, at_once):
    limit = asyncio.Semaphore(at_once)

    async def one(i):
        async with limit:
            await mixed_request(server, i)
    await asyncio.gather(*(one(i) for i in range(first, first + n)))


def settled(server):
    """(descriptors, resident bytes) when nothing runs and no connection but the asking one is open."""
    server.wait_idle(30)
    server.wait_for(lambda: server.status()["connections"] <= 1, "the connections end")
    return server.descriptors(), server.resident()


def test_nothing_leaks_over_1000_requests(tiny_path):
    """Descriptors and pages are as before, and memory stays: a warm-up brings the allocators to their size."""
    with Server(tiny_path, "--threads", 1, "--kv-memory", "64M") as server:
        asyncio.run(run_mixed(server, 0, 400, N_STREAMS))
        descriptors, resident = settled(server)
        pages = server.stats()["pages_total"]
        asyncio.run(run_mixed(server, 400, 1000, N_STREAMS))
        descriptors_after, resident_after = settled(server)
        print(f"resident {resident} -> {resident_after}, descriptors {descriptors} -> {descriptors_after}")
        assert descriptors_after == descriptors
        assert server.stats()["pages_referenced"] == 0 and server.stats()["pages_total"] == pages
        if not SANITIZER:  # a sanitizer keeps freed memory, to find its uses
            growth = [after - before for before, after in zip(resident, resident_after, strict=True)]
            stats = server.stats()
            # On MLX cached pages are memory of the engine's own, where the cpu backend's lie in the pool, and MLX keeps
            # up to 32 MiB of freed buffers.
            cached = 48 * MIB + stats["pages_cached"] * stats["kv_size"] // pages if BACKEND != "cpu" else 0
            assert max(growth) < 8 * MIB + cached, f"gateway and engine have grown by {growth} bytes"
        assert server.metrics()[("tandem_http_parse_errors_total", frozenset())] == 0


# ---- stalled readers ----

def median_latency(server, n=9):
    times = []
    for _ in range(n):
        began = time.monotonic()
        assert stream_text(server.stream("/v1/completions", {"prompt": "KEY-PLAIN", "max_tokens": 100})) == PLAIN
        times.append(time.monotonic() - began)
    return statistics.median(times)


def send_and_never_read(server, body):
    """A connection with a request on it whose reply fills the system's buffers."""
    payload = json.dumps(body).encode()
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.connect(("127.0.0.1", server.port))
    raw.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n%s" % (len(payload), payload))
    return raw


def test_reader_that_stops_slows_nobody(new_scripted):
    """Its answer is some 25 MB of events. Held up behind it, the others would take seconds."""
    stall_ms = 4000 * PATIENCE
    with new_scripted("--stall-timeout-ms", stall_ms) as server:
        median_latency(server)
        without, (resident, _) = median_latency(server), server.resident_at_rest()
        began = time.monotonic()
        with send_and_never_read(server, {"prompt": "KEY-FAST", "max_tokens": 3500, "n": 8, "stream": True,
                                          "logprobs": 20}):
            server.wait_for(lambda: server.model_status()["requests"], "the request runs")
            during = median_latency(server)
            assert server.model_status()["requests"], "the reader was cut off before anything was measured"
            timeouts = ("tandem_http_timeouts_total", frozenset())
            server.wait_for(lambda: all(r["generated_tokens"] == 8 * 3500 for r in server.model_status()["requests"]),
                            "its tokens are generated, read or not", 60)
            grown = server.resident()[0] - resident
            server.wait_for(lambda: server.metrics()[timeouts] == 1, "the reader is cut off", 30)
            cut_after = time.monotonic() - began
            server.wait_idle()
        print(f"median {1000 * without:.1f} ms alone, {1000 * during:.1f} ms beside it; gateway +{grown / MIB:.1f} "
              f"MiB; cut off after {cut_after:.1f} s")
        assert during < 5 * without + 0.25 * PATIENCE
        assert cut_after > 0.9 * stall_ms / 1000
        if not SANITIZER:
            assert grown < 20 * MIB, "what a client does not take is kept as tokens, not as text"


# ---- queue ----

def slow(**fields):
    return {"prompt": "KEY-SLOW", "max_tokens": 3000, **fields}


def narrow_server(tiny_path, script_path):
    """One runs, three wait."""
    return Server(tiny_path, "--threads", 1, "--kv-memory", "64M", "--script", script_path, "--max-sequences", 1,
                  "--max-waiting", 3)


@pytest.fixture(scope="module")
def narrow(tiny_path, script_path):
    with narrow_server(tiny_path, script_path) as server:
        yield server


@pytest.fixture
def new_narrow(tiny_path, script_path):
    """One that has served nothing yet, and so predicts no wait."""
    with narrow_server(tiny_path, script_path) as server:
        yield server


def occupy(server, n):
    """n requests that do not end by themselves, the first of them running; close() ends each."""
    held = []
    for i in range(n):
        held.append(send_and_never_read(server, slow()))
        server.wait_for(lambda n=i + 1: len(server.model_status()["requests"]) == n, "the request has arrived")
        if i == 0:
            server.wait_for(lambda: server.stats()["running"] == 1, "the first one runs")
    return held


def release(server, held):
    for raw in held:
        raw.close()
    server.wait_idle()


def refusals(server, n):
    """n more requests than the queue takes: every reply must say when to come again."""
    replies = together([lambda: server.post("/v1/completions", slow(stream=i % 2 == 0)) for i in range(n)])
    for reply in replies:
        assert reply.status_code == 429, f"{reply.status_code} {reply.text[:500]}"
        error = reply.json()["error"]
        assert error["code"] == "server_overloaded" and error["type"] == "rate_limit_error" and "3" in error["message"]
        assert int(reply.headers["retry-after"]) >= 1
    return replies


def test_full_queue_refuses(narrow):
    held = occupy(narrow, 4)
    try:
        refusals(narrow, 6)
        # One of those that wait leaves: it is dropped before it ran, and its place is free.
        held.pop(2).close()
        narrow.wait_for(lambda: narrow.stats()["waiting"] == 2, "the one that left is dropped")
        assert [r["phase"] for r in narrow.model_status()["requests"]] == ["decode", "queued", "queued"]
        held.append(send_and_never_read(narrow, slow()))
        narrow.wait_for(lambda: len(narrow.model_status()["requests"]) == 4, "its place is taken")
        refusals(narrow, 1)
    finally:
        release(narrow, held)
    assert narrow.complete("KEY-PLAIN", max_tokens=100)["choices"][0]["text"] == PLAIN


def test_time_out_while_waiting(new_narrow):
    """504 as long as nothing was sent, an error event when the stream has begun; the queue is free after it."""
    held = occupy(new_narrow, 1)
    try:
        for stream in (False, True):
            reply = new_narrow.post("/v1/completions", slow(timeout=0.2, stream=stream))
            assert reply.status_code == 504, f"{reply.status_code} {reply.text[:500]}"
            assert reply.json()["error"]["code"] == "deadline_exceeded" and reply.headers["retry-after"]
        events = new_narrow.stream_all("/v1/completions", slow(timeout=1.5))
        assert [c["error"]["code"] for c in chunks(events)] == ["deadline_exceeded"] and events[-1] == ("done", None)
        assert [r["phase"] for r in new_narrow.model_status()["requests"]] == ["decode"]
    finally:
        release(new_narrow, held)


def test_priority_in_the_queue(narrow):
    """Of those that wait, the lowest number comes first, whoever came first."""
    held, order = occupy(narrow, 1), []

    def ask(priority):
        narrow.complete("KEY-SLOW", max_tokens=25, priority=priority)  # long enough that the order is to be seen
        order.append(priority)

    def release_first():
        narrow.wait_for(lambda: len(narrow.model_status()["requests"]) == 4, "all wait")
        held.pop().close()
    together([*(lambda p=p: ask(p) for p in (5, -5, 0)), release_first])
    assert order == [-5, 0, 5]
    release(narrow, held)
