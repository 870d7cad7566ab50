"""Memory pressure, read from a file instead of from the system: the cache gives way first, then the pool, then who runs;
answers do not depend on it, and the memory comes back."""
import contextlib
import threading
import time

import pytest

from harness import PATIENCE, Server, metric, stream_text, together

N_TOKENS = 400


def prompt(i, n=160):
    """Pages that nobody else has."""
    return [1000 + (i * 401 + k * 7) % 20000 for k in range(n)]


def answer(server, i, seen=None):
    """Text of a stream; counts its events in seen."""
    events = []
    for event in server.stream("/v1/completions", {"prompt": prompt(i), "max_tokens": N_TOKENS, "ignore_eos": True,
                                                   "seed": i, "stream_interval_tokens": 4}):
        events.append(event)
        if seen:
            seen.release()
    return stream_text(events)


@pytest.fixture
def pressed(tiny_path, tmp_path):
    """(server, a function that sets the level)"""
    file = tmp_path / "level"
    file.write_text("none\n")

    def press(level):
        new = tmp_path / "new"
        new.write_text(f"{level}\n")
        new.rename(file)
    with Server(tiny_path, "--threads", 1, "--kv-memory", "4M", "--max-context", 1024, "--pressure-file",
                file) as server:
        yield server, press


def fill_cache(server, n=24):
    together([lambda i=i: server.complete(prompt(100 + i, 300), max_tokens=1) for i in range(n)])
    server.wait_idle()
    stats = server.wait_for(lambda: at_rest(server), "the cache is filled")
    assert stats["kv_usable_size"] == stats["kv_size"]
    return stats


def at_rest(server):
    """Statistics that are not those of a moment ago, which the engine publishes now and then."""
    before = server.stats()
    time.sleep(0.5)
    after = server.stats()
    return after if after["pages_cached"] == before["pages_cached"] > 0 else None


def memory(server):
    return server.model_status()["memory"]


def test_the_cache_gives_way(pressed):
    """Idle: what nobody uses is dropped and given back; with calm it comes back step by step."""
    server, press = pressed
    before = fill_cache(server)
    assert server.status()["memory"]["pressure"] == "none"
    press("warn")
    server.wait_for(lambda: server.stats()["pages_given_back"] > 0, "pages are given back")
    assert server.status()["memory"]["pressure"] == "warn"
    assert metric(server.metrics(), "tandem_memory_pressure") == 1
    after = server.wait_for(lambda: server.stats() if memory(server)["kv_usable"] <= memory(server)["kv_limit"] else None,
                            "the limit is reached")
    assert after["pages_cached"] < before["pages_cached"] and after["preemptions"] == 0
    assert memory(server)["kv_usable"] < memory(server)["kv_pool"] == before["kv_size"]
    assert metric(server.metrics(), "tandem_memory_bytes", kind="kv_usable") < before["kv_size"]
    press("none")
    low = memory(server)["kv_limit"]
    server.wait_for(lambda: memory(server)["kv_usable"] > low, "the pool grows again", 30)
    assert server.complete(prompt(1), max_tokens=5)["usage"]["completion_tokens"] == 5


def streams(server, ask, n=6):
    """n answers at once, on a thread; returns it with its results when each has some events."""
    seen, results = threading.Semaphore(0), []
    running = threading.Thread(target=lambda: results.extend(together([lambda i=i: ask(server, i, seen) for i in range(n)])))
    running.start()
    for _ in range(5 * n):
        assert seen.acquire(timeout=20 * PATIENCE)
    return running, results


def test_answers_do_not_depend_on_it(pressed):
    server, press = pressed
    alone = [answer(server, i) for i in range(6)]
    running, results = streams(server, answer)
    press("warn")
    server.wait_for(lambda: server.stats()["pages_given_back"] > 0, "pages are given back")
    press("critical")
    running.join()
    assert results == alone
    print(f"{server.stats()['preemptions']} preemptions, {server.stats()['pages_given_back']} pages given back")
    server.wait_idle()


@pytest.mark.alone("the streams must not grow much while a warning is waited for")
def test_who_runs_is_spared_until_it_is_critical(new_scripted, tmp_path):
    """Six streams of 4 s: a warning takes nothing from them, a critical level makes them take turns; all finish."""
    file = tmp_path / "level"
    file.write_text("none")

    def ticks(server, _, seen):
        events = []
        for event in server.stream("/v1/completions", {"prompt": "KEY-SLOW", "max_tokens": 400}):
            events.append(event)
            seen.release()
        return stream_text(events)
    with new_scripted("--kv-memory", "2M", "--pressure-file", file) as server:
        running, results = streams(server, ticks)
        before = server.stats()
        file.write_text("warn")
        after = server.wait_for(lambda: server.stats() if server.stats()["pages_given_back"] > 0 else None, "pages are given back")
        assert after["preemptions"] == before["preemptions"] == 0 and after["running"] == 6, (before, after)
        file.write_text("critical")
        server.wait_for(lambda: server.stats()["preemptions"] > 0, "some give way")
        file.write_text("none")
        running.join()
        assert len(results) == 6 and set(results) == {("tick tock " * 400)[:len(results[0])]} and len(results[0]) > 400
        server.wait_idle()


def test_a_long_request_finds_room(pressed):
    """However low the limit: what was accepted runs, alone if need be."""
    server, press = pressed
    press("critical")
    fill = [lambda i=i: server.complete(prompt(i, 600), max_tokens=300, ignore_eos=True) for i in range(4)]
    server.wait_for(lambda: memory(server)["kv_limit"] <= memory(server)["kv_pool"] // 8, "a low limit", 30)
    replies = together(fill)
    assert [r["usage"]["completion_tokens"] for r in replies] == [300] * 4
    server.wait_idle()


def test_a_new_engine_keeps_to_it(pressed):
    server, press = pressed
    fill_cache(server)
    press("critical")
    limit = server.wait_for(lambda: memory(server)["kv_limit"] if memory(server)["kv_limit"] <= memory(server)["kv_pool"] // 8
                            else None, "a low limit", 30)
    server.kill_engine()
    with contextlib.suppress(KeyError):
        server.complete(prompt(3), max_tokens=3)
    server.wait_for(lambda: 0 < memory(server)["kv_usable"] <= 2 * limit, "it has the limit too", 20)
