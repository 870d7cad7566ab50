"""What clients see when a process dies: the engine under its streams (a pause, and the rest of the answer), at its start,
again and again; the gateway by SIGTERM and by SIGKILL. No process is left behind."""
import contextlib
import functools
import os
import re
import signal
import threading
import time

import httpx
import psutil
import pytest

from harness import (PATIENCE, Server, chunk_text, chunks, failing_server, make_model, metric, parse_events,
                     stream_text, tiny_config, together)
from script_rules import PLAIN

LIMIT = 10  # losses within a minute after which an engine counts as failed (--restart-limit)


def chat(content, **fields):
    return {"messages": [{"role": "user", "content": content}], **fields}


def gone(pid):
    """A process that nobody has waited for yet is gone too: it does nothing any more."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_gone(pid, what, timeout=10):
    deadline = time.monotonic() + timeout * PATIENCE
    while not gone(pid):
        assert time.monotonic() < deadline, f"{what} (process {pid}) is still there after {timeout * PATIENCE} s"
        time.sleep(0.01)


def kill(server):
    """kill -9 of the engine; returns when the gateway has noticed."""
    engine = server.engine()
    os.kill(engine["pid"], signal.SIGKILL)
    server.wait_for(lambda: server.engine()["restarts"] > engine["restarts"], "the loss is noticed")


PATIENT = ("--heartbeat-timeout-ms", 600000)  # a stopped engine stays, so that it can be looked at


@contextlib.contextmanager
def held_in_loading(server):
    """Kills the engine and stops the next one while it loads, for as long as the body takes. The server is PATIENT."""
    for _ in range(LIMIT - 1):
        kill(server)
        pid = server.wait_for(lambda: server.engine()["pid"], "the next engine")
        os.kill(pid, signal.SIGSTOP)
        time.sleep(0.05)
        if server.model_status()["state"] == "loading":
            break
        os.kill(pid, signal.SIGCONT)  # it was quicker
    else:
        pytest.skip("skip: engines load faster than they can be stopped here")
    try:
        yield pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def restarts(server):
    return metric(server.metrics(), "tandem_engine_restarts_total")


# ---- under its streams ----

def stream_until_error(server, body, seen):
    """All events; counts those with text in seen."""
    events = []
    for event in server.stream("/v1/chat/completions", body):
        events.append(event)
        if event[0] == "data" and "error" not in event[1] and chunk_text(event[1]):
            seen.release()
    return events


def disturb(server, seen, n, fault):
    """Waits for n events with text, then does what `fault` says to the engine, and waits until it is replaced."""
    for _ in range(n):
        assert seen.acquire(timeout=20 * PATIENCE), "the streams do not run"
    engine = server.engine()
    os.kill(engine["pid"], fault)
    server.wait_for(lambda: server.engine()["restarts"] > engine["restarts"], "the loss is noticed", timeout=20)


@pytest.fixture(scope="module")
def undisturbed(scripted):
    """The choice that a slow answer of so many tokens has on a server that nothing happens to."""
    return functools.cache(lambda n: scripted.chat("KEY-SLOW", max_tokens=n)["choices"][0])


@pytest.mark.parametrize("fault, loss", [(signal.SIGKILL, "signal"), (signal.SIGSEGV, "signal"),
                                         (signal.SIGSTOP, "stopped"), (signal.SIGTERM, "signal")])
def test_every_running_request_goes_on(new_scripted, undisturbed, fault, loss):
    """A pause, then the rest: nothing repeated, nothing missing, whatever ended the engine; also for those who have got
    nothing yet."""
    n_streams, n_bodies, n = 8, 3, 300
    expected = undisturbed(n)
    with new_scripted() as server:
        seen = threading.Semaphore(0)
        first = server.engine()["pid"]
        answers = together([
            *[lambda: stream_until_error(server, chat("KEY-SLOW", max_tokens=n), seen)] * n_streams,
            *[lambda: server.chat("KEY-SLOW", max_tokens=n)] * n_bodies,
            lambda: server.complete("KEY-SLOW", n=4, max_tokens=n),
            lambda: disturb(server, seen, 3 * n_streams, fault)])
        for events in answers[:n_streams]:
            assert events[-1] == ("done", None) and "error" not in str(chunks(events)[-1])
            assert stream_text(events) == expected["message"]["content"]
            assert chunks(events)[-1]["choices"][0]["finish_reason"] == "length"
        for reply in answers[n_streams:n_streams + n_bodies]:
            assert reply["choices"][0] == expected and reply["usage"]["completion_tokens"] == n
        assert [c["text"] for c in answers[-2]["choices"]] == [expected["message"]["content"]] * 4

        assert server.chat("KEY-PLAIN")["choices"][0]["message"]["content"] == PLAIN
        values = server.metrics()
        assert server.engine()["pid"] not in (0, first) and gone(first)
        assert server.engine()["restarts"] == restarts(server) == 1
        assert metric(values, "tandem_engine_losses_total", loss=loss) == 1
        assert metric(values, "tandem_requests_resumed_total") == n_streams + n_bodies + 1
        assert metric(values, "tandem_recovery_seconds_count") == n_streams + n_bodies + 1
        assert metric(values, "tandem_requests_finished_total", reason="error") == 0
        server.wait_idle()


def test_a_request_that_ends_the_engine(new_scripted):
    """It is found, and it alone fails; the others that were in the engine go on. It is not let in again."""
    n_slow = 300  # for seconds: the other one has ended the engine as often as it may within one
    with new_scripted() as server:
        poison, slow = together([
            lambda: server.stream_all("/v1/chat/completions", chat("KEY-CRASH")),
            lambda: server.chat("KEY-SLOW", max_tokens=n_slow)])
        error = chunks(poison)[-1]["error"]
        assert error["code"] == "request_quarantined" and poison[-1] == ("done", None)
        assert "Some words, then".startswith(stream_text(poison))
        assert slow["usage"]["completion_tokens"] == n_slow
        assert slow["choices"][0]["message"]["content"] == ("tick tock " * n_slow)[:len(
            slow["choices"][0]["message"]["content"])]
        n = restarts(server)
        reply = server.post("/v1/chat/completions", chat("KEY-CRASH"))
        assert reply.status_code == 500 and reply.json()["error"]["code"] == "request_quarantined"
        assert reply.headers["x-should-retry"] == "false"
        assert server.chat("KEY-PLAIN")["choices"][0]["message"]["content"] == PLAIN
        assert restarts(server) == n
        assert metric(server.metrics(), "tandem_requests_quarantined_total") >= 1


@pytest.mark.cpu_only("other backends promise no bytes")
@pytest.mark.parametrize("options", [(), ("--speculation", "on"), ("--kv-type", "q8"), ("--prefix-cache", "off")])
def test_answers_equal_undisturbed_ones(smollm_path, options):
    """A real model, all that has state: penalties, stop strings, several choices, least lengths, logprobs. Next to
    nothing is computed again: each choice goes on behind the last position that was computed."""
    prompt = "Write the names of the months, then write them once more:\n"
    bodies = [
        {"temperature": 0, "max_tokens": 120},
        {"temperature": 1, "seed": 5, "max_tokens": 120, "logprobs": 3},
        {"temperature": 0.8, "seed": 6, "max_tokens": 100, "presence_penalty": 1, "frequency_penalty": 0.5},
        {"temperature": 0.8, "seed": 7, "max_tokens": 100, "repetition_penalty": 1.3, "dry_multiplier": 0.8},
        {"temperature": 1, "seed": 8, "n": 3, "max_tokens": 80, "logprobs": 1},
        {"temperature": 0, "max_tokens": 120, "stop": ["August", "July,"], "min_tokens": 10},
        {"temperature": 0.7, "seed": 9, "max_tokens": 100, "logit_bias": {"28": -5}, "top_k": 40, "top_p": 0.9},
        {"temperature": 0.7, "seed": 10, "max_tokens": 64, "best_of": 4, "n": 2},
    ]
    with Server(smollm_path, "--kv-memory", "256M", *options) as server:
        def ask(body):
            return server.complete(prompt, ignore_eos=True, **body)

        def kill_twice():
            for more in (100, 250):
                n = metric(server.metrics(), "tandem_generated_tokens_total")
                server.wait_for(lambda: metric(server.metrics(), "tandem_generated_tokens_total") > n + more, "they run")
                kill(server)
        expected = together([lambda b=b: ask(b) for b in bodies])
        *answers, _ = together([*[lambda b=b: ask(b) for b in bodies], kill_twice])
        for body, a, b in zip(bodies, answers, expected):
            assert a["choices"] == b["choices"], body
            for key in ("prompt_tokens", "completion_tokens"):
                assert a["usage"][key] == b["usage"][key]
        assert metric(server.metrics(), "tandem_requests_resumed_total") >= len(bodies)
        again, n = server.stats()["rows_prefill"], sum(b.get("best_of", b.get("n", 1)) for b in bodies)
        if "--prefix-cache" in options:
            assert again > 10 * n
        else:
            assert again <= 2 * n + 32  # of one of them a seal may just have been renewed


def test_a_new_engine_gives_the_same_answers(tiny_path):
    body = {"prompt": "Once upon a time", "max_tokens": 60, "seed": 11, "ignore_eos": True}
    with Server(tiny_path, "--threads", 1, "--kv-memory", "64M") as server:
        before = server.complete(**body)
        server.kill_engine()
        after = server.complete(**body)
        assert after["choices"] == before["choices"]
        assert after["system_fingerprint"] == before["system_fingerprint"]


def test_other_servers_are_not_harmed(new_scripted):
    with new_scripted() as one, new_scripted() as other:
        seen = threading.Semaphore(0)

        def kill_it():
            assert seen.acquire(timeout=20 * PATIENCE)
            kill(one)
        resumed, text, _ = together([
            lambda: stream_text(stream_until_error(one, chat("KEY-SLOW", max_tokens=200), seen)),
            lambda: stream_text(other.stream("/v1/chat/completions", chat("KEY-SLOW", max_tokens=100))),
            kill_it])
        assert resumed == ("tick tock " * 200)[:len(resumed)] and len(resumed) > 200
        assert text == ("tick tock " * 100)[:len(text)] and len(text) > 100
        assert other.engine()["restarts"] == 0


# ---- while it starts again ----

def test_requests_wait_for_the_next_engine(new_scripted):
    """They wait, and succeed; one that leaves is forgotten, one whose time is over gets a 504, too many get a 429."""
    with new_scripted("--max-waiting", 8, *PATIENT) as server:
        with held_in_loading(server) as pid:
            reply = server.http.get("/ready")
            assert reply.status_code == 503 and "loading" in reply.json()["error"]["message"]
            assert server.http.get("/health").status_code == 200
            assert metric(server.metrics(), "tandem_model_ready") == 0

            results = []
            waiting = threading.Thread(target=lambda: results.extend(together(
                [lambda: server.stream_all("/v1/chat/completions", chat("KEY-PACED"))] * 4
                + [lambda: server.chat("KEY-PLAIN")["choices"][0]["message"]["content"]] * 3)))
            waiting.start()
            server.wait_for(lambda: len(server.model_status()["requests"]) == 7, "they wait")
            assert {r["phase"] for r in server.model_status()["requests"]} == {"queued"}

            reply = server.post("/v1/completions", {"prompt": "KEY-PLAIN", "timeout": 0.2})
            assert reply.status_code == 504 and reply.json()["error"]["code"] == "deadline_exceeded"
            with pytest.raises(httpx.TimeoutException), server.new_http() as impatient:
                impatient.post("/v1/completions", json={"prompt": "KEY-PLAIN"}, timeout=0.3)
            server.wait_for(lambda: len(server.model_status()["requests"]) == 7, "the one that left is forgotten")

            with server.new_http() as other, other.stream("POST", "/v1/completions", json={
                    "prompt": "KEY-PLAIN", "stream": True}) as eighth:
                assert eighth.status_code == 200
                reply = server.post("/v1/completions", {"prompt": "KEY-PLAIN"})
                assert reply.status_code == 429 and reply.json()["error"]["code"] == "server_overloaded"
                assert "loading" in reply.json()["error"]["message"] and reply.headers["retry-after"]
            assert server.engine()["pid"] == pid, "the engine that was stopped is still the one"
        waiting.join()
        assert [stream_text(events) for events in results[:4]] == [PLAIN] * 4
        assert results[4:] == [PLAIN] * 3
        server.wait_ready(30)
        server.wait_idle()


def test_loss_while_loading_keeps_those_who_wait(new_scripted):
    """Nothing of theirs was in the engine that died: they wait for the next."""
    with new_scripted(*PATIENT) as server:
        with held_in_loading(server) as pid:
            results = []
            waiting = threading.Thread(target=lambda: results.extend(
                together([lambda: server.chat("KEY-PLAIN")["choices"][0]["message"]["content"]] * 4)))
            waiting.start()
            server.wait_for(lambda: len(server.model_status()["requests"]) == 4, "they wait")
            os.kill(pid, signal.SIGKILL)
            wait_gone(pid, "the killed engine")
            server.wait_for(lambda: server.engine()["pid"] != pid, "the loss is noticed")
        waiting.join()
        assert results == [PLAIN] * 4


def test_killed_again_and_again(new_scripted):
    """It comes back, waiting longer each time; after too many losses within a minute the model counts as failed, and
    requests are refused at once."""
    with new_scripted() as server:
        states = set()
        for n in range(1, LIMIT + 2):
            server.wait_ready(30)
            kill(server)
            states.add(server.model_status()["state"])
            assert server.http.get("/health").status_code == 200
            assert restarts(server) == server.engine()["restarts"] == n
        assert states >= {"restarting", "failed"} and server.model_status()["state"] == "failed"
        reply = server.http.get("/ready")
        assert reply.status_code == 503 and "failed" in reply.json()["error"]["message"]
        assert reply.headers["retry-after"]
        for stream in (False, True):
            reply = server.post("/v1/chat/completions", chat("KEY-PLAIN", stream=stream))
            assert reply.status_code == 503 and reply.json()["error"]["code"] == "service_unavailable"
            assert "signal 9" in reply.json()["error"]["message"] and reply.headers["retry-after"]
        assert server.engine()["pid"] == 0 and server.tokens("it still tokenizes")


# ---- the gateway's end ----

def test_sigterm_lets_running_requests_finish(new_scripted):
    with new_scripted() as server:
        pid, seen = server.engine()["pid"], threading.Semaphore(0)
        idle = server.new_http()
        assert idle.get("/health").status_code == 200  # leaves an open connection

        def terminate():
            assert seen.acquire(timeout=20 * PATIENCE)
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.1)
            try:  # on the connection of before: refused in words, or closed
                reply = idle.post("/v1/chat/completions", json=chat("KEY-PLAIN"))
                assert reply.status_code == 503 and "shutting down" in reply.text
            except httpx.TransportError:
                pass

        events, body, _ = together([
            lambda: stream_until_error(server, chat("KEY-SLOW", max_tokens=150), seen),
            lambda: server.chat("KEY-SLOW", max_tokens=120),
            terminate])
        assert chunks(events)[-1]["choices"][0]["finish_reason"] == "length" and events[-1] == ("done", None)
        assert body["usage"]["completion_tokens"] == 120
        idle.close()
        assert server.process.wait(timeout=30 * PATIENCE) == 0
        wait_gone(pid, "the engine")


def test_sigterm_ends_those_who_take_too_long(new_scripted):
    """They hear of it: an end without a word would look like a complete answer."""
    with new_scripted("--drain-timeout-ms", 300) as server:
        pid, seen = server.engine()["pid"], threading.Semaphore(0)

        def terminate():
            assert seen.acquire(timeout=20 * PATIENCE)
            server.process.send_signal(signal.SIGTERM)
        events, reply, _ = together([
            lambda: stream_until_error(server, chat("KEY-SLOW", max_tokens=3000), seen),
            lambda: server.post("/v1/chat/completions", chat("KEY-SLOW", max_tokens=3000)),
            terminate])
        assert "error" in chunks(events)[-1] and events[-1] == ("done", None), events[-3:]
        for error in (chunks(events)[-1]["error"], reply.json()["error"]):
            assert error["code"] == "service_unavailable" and "shutting down" in error["message"]
        assert reply.status_code == 503
        assert server.process.wait(timeout=30 * PATIENCE) == 0
        wait_gone(pid, "the engine")


def test_second_sigterm_leaves_at_once(new_scripted):
    with new_scripted() as server:
        server.expect_exit(128 + signal.SIGTERM)
        pid = server.engine()["pid"]
        with server.http.stream("POST", "/v1/completions", json={"prompt": "KEY-SLOW", "max_tokens": 3000,
                                                                 "stream": True}) as reply:
            assert reply.status_code == 200
            server.process.send_signal(signal.SIGTERM)
            deadline = time.monotonic() + 20 * PATIENCE
            while "stopping" not in server.log():
                assert time.monotonic() < deadline
                time.sleep(0.01)
            server.process.send_signal(signal.SIGTERM)
            server.process.wait(timeout=10 * PATIENCE)
        wait_gone(pid, "the engine")


@pytest.mark.parametrize("content", ["KEY-SLOW", "KEY-FAST", None])
def test_engine_ends_with_a_killed_gateway(new_scripted, content):
    with new_scripted() as server:
        server.expect_exit(-signal.SIGKILL)
        pid = server.engine()["pid"]
        if content:
            with server.http.stream("POST", "/v1/completions", json={"prompt": content, "max_tokens": 3000, "n": 8,
                                                                     "stream": True}) as reply:
                next(parse_events(reply.iter_bytes()))
                server.process.kill()
                server.process.wait()
        else:
            server.process.kill()
            server.process.wait()
        wait_gone(pid, "the engine")


# ---- engines that cannot start ----

@pytest.mark.parametrize("share", [0, 0.0001, 0.02, 0.5, 0.999])
def test_truncated_file(tiny_path, tmp_path, share):
    cut = tmp_path / "cut.gguf"
    data = tiny_path.read_bytes()
    cut.write_bytes(data[:int(len(data) * share)])
    with failing_server(cut) as (code, output):
        assert code == 65, output
        assert "cut.gguf" in output and re.search(r"cut off|the file has|empty|GGUF", output), output


def test_model_without_a_tensor(smollm_path, tmp_path):
    """Only the engine reads the tensors. It says what is missing; the server does not try again and again."""
    config = tiny_config()
    config["tensors"] = [t for t in config["tensors"] if t["name"] != "blk.1.ffn_down.weight"]
    path = make_model(config, tmp_path / "hole.gguf", smollm_path)
    with failing_server(path) as (code, output):
        assert code == 65, output
        assert "blk.1.ffn_down.weight" in output and output.count("engine started") == 1


def test_script_that_is_none(tiny_path, tmp_path):
    path = tmp_path / "script.json"
    path.write_text('{"rules": 7}')
    with failing_server(tiny_path, "--script", path) as (code, output):
        assert code != 0 and str(path) in output and "rules" in output, output


def test_file_that_is_none(tmp_path):
    with failing_server(tmp_path / "nothing.gguf") as (code, output):
        assert code == 66 and "nothing.gguf" in output, output
