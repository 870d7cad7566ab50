"""More requests than fit, and deadlines: who is refused and how fast, who waits and for how long, and that what was
accepted is answered. Whatever the engine does: the gateway answers by itself."""
import asyncio
import contextlib
import json
import os
import signal
import statistics
import threading
import time

import pytest

from harness import PATIENCE, Server, chunks, metric, stream_text, together
from script_rules import PLAIN
from test_engine_loss import held_in_loading
from test_load import Stream

pytestmark = pytest.mark.alone("who is refused within milliseconds")

QUICK = 0.1 * PATIENCE  # seconds in which a refusal must have come


def slow(**fields):
    return {"prompt": "KEY-SLOW", "max_tokens": 3000, **fields}


async def ask(server, body, path="/v1/completions"):
    """(status, headers, body, seconds) of one request on a connection of its own."""
    async with Stream(server, path, body) as stream:
        began = time.monotonic()
        head = (await stream.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        rest = await stream.rest()
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        return int(head[0].split(" ")[1]), headers, json.loads(rest), time.monotonic() - began


@contextlib.contextmanager
def occupied(server, n, **fields):
    """n requests that do not end by themselves, so many of them running as may."""
    held, clients = [], []
    try:
        for i in range(n):
            clients.append(server.new_http())
            held.append(clients[-1].stream("POST", "/v1/completions", json=slow(stream=True, **fields)))
            held[-1].__enter__()
        server.wait_for(lambda: server.model_status()["queue"]["waiting"] + server.stats()["running"] >= n, "all are there")
        yield
    finally:
        for stream, client in zip(held, clients, strict=False):
            stream.__exit__(None, None, None)
            client.close()
        server.wait_idle()


@contextlib.contextmanager
def stopped(server):
    """The engine does not run, for as long as the body takes."""
    pid = server.engine()["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def assert_late(error, *words):
    assert error["code"] == "deadline_exceeded" and error["type"] == "timeout_error", error
    for word in words:
        assert word in error["message"], error


# ---- refusals ----

@pytest.fixture(scope="module")
def narrow(tiny_path, script_path):
    """Two run, four wait."""
    with Server(tiny_path, "--threads", 1, "--kv-memory", "64M", "--script", script_path, "--max-sequences", 2,
                "--max-waiting", 4) as server:
        yield server


def test_a_full_queue_refuses_quickly(narrow):
    """Before the request is parsed, rendered or tokenized: large ones are refused as fast."""
    async def refusals(body, n):
        return [await ask(narrow, body) for _ in range(n)]

    with occupied(narrow, 6):
        queue = narrow.model_status()["queue"]
        assert (queue["waiting"], queue["limit"], queue["free"]) == (4, 4, 0)
        for body in ({"prompt": "KEY-PLAIN"}, {"prompt": "word " * 200000}, {"prompt": ["KEY-PLAIN"] * 30, "n": 4}):
            replies = asyncio.run(refusals(body, 20))
            for status, headers, answer, _ in replies:
                assert status == 429 and answer["error"]["code"] == "server_overloaded", answer
                assert "--max-waiting" in answer["error"]["message"] and int(headers["retry-after"]) >= 1
            seconds = sorted(r[3] for r in replies)
            print(f"refused in {1000 * statistics.median(seconds):.1f} ms, at most {1000 * seconds[-1]:.1f} ms")
            assert seconds[-2] < QUICK
        assert narrow.tokens("who only asks for tokens is answered")
        refused = metric(narrow.metrics(), "tandem_requests_refused_total", reason="queue_full")
        assert refused == narrow.model_status()["queue"]["refused_full"] >= 60
    assert narrow.complete("KEY-PLAIN", max_tokens=100)["choices"][0]["text"] == PLAIN


def test_nothing_accepted_is_lost(narrow):
    """Twenty times what fits, at once: every request is answered whole or refused, and the books agree."""
    before = narrow.metrics()
    n = 120

    async def burst():
        return await asyncio.gather(*(ask(narrow, {"prompt": "KEY-PACED", "max_tokens": 100}) for _ in range(n)))
    replies = asyncio.run(burst())
    answered = [r for r in replies if r[0] == 200]
    for status, headers, answer, _ in replies:
        assert status in (200, 429), answer
        if status == 200:
            assert answer["choices"][0]["text"] == PLAIN
        else:
            assert int(headers["retry-after"]) >= 1
    after = narrow.metrics()

    def grown(name, **labels):
        return metric(after, name, **labels) - metric(before, name, **labels)
    assert len(answered) >= 6
    assert grown("tandem_requests_total") == len(answered) == grown("tandem_requests_finished_total", reason="stop")
    assert grown("tandem_requests_finished_total", reason="error") == 0
    assert grown("tandem_requests_refused_total", reason="queue_full") == n - len(answered)
    narrow.wait_idle()


def test_a_wait_that_is_too_long_is_refused(new_scripted):
    """Once it is known how fast requests are served. Retry-After says when it is worth it."""
    with new_scripted("--max-sequences", 2, "--max-waiting", 50) as server:
        assert server.model_status()["queue"]["predicted_wait_ms"] == 0
        together([lambda: server.complete("KEY-SLOW", max_tokens=40)] * 8)
        with occupied(server, 12):
            wait_ms = server.wait_for(lambda: server.model_status()["queue"]["predicted_wait_ms"], "a wait is predicted")
            assert 500 < wait_ms < 30000
            assert abs(metric(server.metrics(), "tandem_predicted_wait_seconds") - wait_ms / 1000) < wait_ms / 2000
            for stream in (False, True):
                began = time.monotonic()
                reply = server.post("/v1/completions", slow(timeout=0.3, stream=stream))
                seconds = time.monotonic() - began
                assert reply.status_code == 429, reply.text
                message = reply.json()["error"]["message"]
                assert "would take" in message and "'timeout'" in message
                assert seconds < 3 * QUICK
                assert 1 <= int(reply.headers["retry-after"]) <= 2 * wait_ms / 1000 + 10
            # Who has the time may wait; who is more urgent waits for nobody.
            with server.new_http() as other, other.stream("POST", "/v1/completions", json=slow(
                    timeout=3600, stream=True)) as patient:
                assert patient.status_code == 200
        assert metric(server.metrics(), "tandem_requests_refused_total", reason="wait") == 2


# ---- deadlines ----

LIMITS = {
    "total": ((), {"timeout": 0.4}, ("400 ms", "'timeout'")),
    "default": (("--timeout-ms", 400), {}, ("400 ms", "--timeout-ms")),
    "queue": (("--queue-timeout-ms", 400), {}, ("400 ms", "--queue-timeout-ms")),
    "first_token": (("--first-token-timeout-ms", 400), {}, ("400 ms", "--first-token-timeout-ms")),
}


def both_ways(server, body, words):
    """As a body and as a stream that has not begun: 504, and no later than that."""
    for stream in (False, True):
        began = time.monotonic()
        reply = server.post("/v1/completions", {**body, "stream": stream})
        assert reply.status_code == 504, reply.text
        assert_late(reply.json()["error"], *words)
        assert 0.3 < time.monotonic() - began < 0.9 * PATIENCE


@pytest.mark.parametrize("limit", LIMITS)
def test_deadlines_while_the_engine_is_stopped(new_scripted, limit):
    options, fields, words = LIMITS[limit]
    with new_scripted(*options) as server:
        with stopped(server):
            both_ways(server, {"prompt": "KEY-PLAIN", **fields}, words)
        server.wait_idle()
        late = "total" if limit == "default" else limit
        assert metric(server.metrics(), "tandem_requests_late_total", limit=late) == 2
        assert server.complete("KEY-PLAIN", max_tokens=100)["choices"][0]["text"] == PLAIN


@pytest.mark.parametrize("limit", ["total", "queue", "first_token"])
def test_deadlines_in_the_queue(new_scripted, limit):
    options, fields, words = LIMITS[limit]
    with new_scripted("--max-sequences", 1, *options) as server, occupied(server, 1):
        both_ways(server, {"prompt": "KEY-PLAIN", **fields}, words)
        assert [r["phase"] for r in server.model_status()["requests"]] == ["decode"], "who ran is not disturbed"


@pytest.mark.parametrize("limit", ["total", "queue", "first_token"])
def test_deadlines_while_the_engine_loads(new_scripted, limit):
    options, fields, words = LIMITS[limit]
    with new_scripted(*options) as server:
        with held_in_loading(server):
            both_ways(server, {"prompt": "KEY-PLAIN", **fields}, words)
        server.wait_ready(30)
        server.wait_idle()


def test_first_token_comes_too_late(new_scripted):
    """The engine is at it; its work is cancelled."""
    with new_scripted("--first-token-timeout-ms", 300, "--queue-timeout-ms", 700) as server:
        # Neither limit holds for what has begun and given a token.
        assert server.complete("KEY-SLOW", max_tokens=90)["usage"]["completion_tokens"] == 90
        reply = server.post("/v1/completions", {"prompt": "KEY-LATE"})
        assert reply.status_code == 504
        assert_late(reply.json()["error"], "first-token")
        server.wait_idle()


def test_time_runs_out_in_a_stream(new_scripted):
    """An error event, and the end: while it decodes, and while the engine is stopped in the middle of it."""
    with new_scripted() as server:
        events = server.stream_all("/v1/completions", slow(timeout=0.5))
        assert_late(chunks(events)[-1]["error"], "'timeout'")
        assert events[-1] == ("done", None) and ("tick tock " * 3000).startswith(stream_text(events)) and stream_text(events)
        server.wait_idle()

        stopping = threading.Event()

        def stop():
            assert stopping.wait(20 * PATIENCE)
            with stopped(server):
                assert ended.wait(5 * PATIENCE), "it ends while the engine is stopped"
        ended, events = threading.Event(), []
        stopper = threading.Thread(target=stop)
        stopper.start()
        began = time.monotonic()
        for event in server.stream("/v1/completions", slow(timeout=0.7)):
            events.append(event)
            stopping.set()
        ended.set()
        stopper.join()
        assert_late(chunks(events)[-1]["error"], "700 ms")
        assert time.monotonic() - began < 1.2 * PATIENCE
        server.wait_idle()


# ---- what answers whatever happens ----

def test_health_and_metrics_answer_at_once(new_scripted):
    """While the engine is stopped, and many large requests come."""
    big = {"messages": [{"role": "user", "content": f"message {i} " + "word " * 400} for i in range(200)]}

    async def burst(server, done):
        try:
            await asyncio.gather(*(ask(server, {**big, "timeout": 0.8}, "/v1/chat/completions") for _ in range(16)))
        finally:
            done.set()

    with new_scripted("--max-context", 4096) as server:
        for hold in (stopped, held_in_loading):
            done, seconds = threading.Event(), []
            with hold(server), server.new_http() as http:
                http.get("/health")
                thread = threading.Thread(target=lambda d=done: asyncio.run(burst(server, d)))
                thread.start()
                while not done.is_set() or len(seconds) < 80:
                    for path in ("/health", "/metrics"):
                        began = time.monotonic()
                        assert http.get(path).status_code == 200
                        seconds.append(time.monotonic() - began)
                    time.sleep(0.002)
                thread.join()
            seconds.sort()
            worst = seconds[int(len(seconds) * 0.95)]
            print(f"{len(seconds)} answers: median {1000 * statistics.median(seconds):.1f} ms, 95% within "
                  f"{1000 * worst:.1f} ms, at most {1000 * seconds[-1]:.1f} ms")
            assert worst < 0.05 * PATIENCE
            server.wait_ready(30)
            server.wait_idle()
