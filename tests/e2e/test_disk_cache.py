"""The prefix cache's disk tier: hits that outlive the server and give the same bytes, kill -9 under load, clearing,
two servers in one folder, limits, folders that are refused."""
import contextlib
import os
import random
import signal
import threading
import time

import psutil
import pytest

from harness import BACKEND, PATIENCE, TANDEM, Server, failing_server, metric, stream_text
from invariance import ask, assert_equal_choice, salad

pytestmark = pytest.mark.cpu_only("other backends keep no pages on disk")

BODY = {"max_tokens": 12, "ignore_eos": True, "temperature": 1, "seed": 7}


def disk_options(folder, *options, memory="64M", threads=1):
    return ["--threads", threads, "--kv-memory", memory, "--kv-disk-dir", folder, *options]


def folder_size(folder):
    return sum(path.stat().st_size for path in folder.iterdir())


def stores(folder):
    return sorted(folder.glob("*.pages"))


def cached(usage):
    return usage["prompt_tokens_details"]["cached_tokens"]


def wait_written(server, n_blocks):
    server.wait_for(lambda: server.stats()["disk_blocks_written"] >= n_blocks and server.stats()["disk_queued"] == 0,
                    f"{n_blocks} blocks on disk")


def prompt_of(server, seed, n_tokens):
    return server.tokens(salad(seed, n_tokens))[:n_tokens]


def request_of(prompt, **fields):
    return "/v1/completions", {"prompt": prompt, **BODY, **fields}


def cold(server, request):
    choices, usage = ask(server, (request[0], {**request[1], "cache_prompt": False}))
    assert cached(usage) == 0
    return choices[0]


# ---- hits ----

def hit_after_restart(model, options, prompt, expected, check=lambda server, usage: None):
    """A server that is begun again reads what the one before it wrote; it computes that instead where the disk is slow at
    the moment, as it is on a busy machine now and then, so it is given a few tries."""
    for left in range(4, 0, -1):
        with Server(model, *options) as server:
            choices, usage = ask(server, request_of(prompt))
            if cached(usage) or left == 1:
                assert cached(usage) == len(prompt) // server.engine()["page_tokens"] * server.engine()["page_tokens"]
                assert_equal_choice(expected, choices[0], "from disk after a restart")
                return check(server, usage)


def check_restart(model, folder, n_tokens, options=()):
    with Server(model, *disk_options(folder, *options)) as server:
        page = server.engine()["page_tokens"]
        prompt = prompt_of(server, 1, n_tokens)
        expected = cold(server, request_of(prompt))
        assert server.stats()["disk_blocks_written"] == 0, "such a request leaves nothing"
        choices, usage = ask(server, request_of(prompt))
        assert cached(usage) == 0
        wait_written(server, len(prompt) // page)

    def check(server, usage):
        def n_rows():
            counts = server.stats()
            return counts["rows_prefill"] + counts["rows_decode"] - counts["spec_draft_tokens"]
        expected_rows = len(prompt) - cached(usage) + BODY["max_tokens"] - 1
        server.wait_for(lambda: n_rows() == expected_rows, "all rows in the figures")
        stats = server.stats()
        assert stats["disk_tokens"] == cached(usage)
        assert stats["disk_loads"] == 1 and stats["disk_loads_abandoned"] == stats["disk_blocks_dropped"] == 0

    hit_after_restart(model, disk_options(folder, *options), prompt, expected, check)


def test_hit_after_restart(tiny_path, tmp_path):
    check_restart(tiny_path, tmp_path / "kv", 500)


def test_hit_after_restart_of_a_real_model(smollm_path, tmp_path):
    check_restart(smollm_path, tmp_path / "kv", 200, ["--max-context", 1024])


def test_hit_after_restart_with_windows(parity_model, tmp_path):
    """Two groups of layers: of the one with a window only the last pages are needed."""
    model = parity_model("gemma3")
    with Server(model, *disk_options(tmp_path / "kv")) as server:
        prompt = [1 + i * i % 90 for i in range(300)]
        expected = cold(server, request_of(prompt))
        ask(server, request_of(prompt))
        wait_written(server, len(prompt) // server.engine()["page_tokens"])
    hit_after_restart(model, disk_options(tmp_path / "kv"), prompt, expected)


def test_hit_after_a_crash(tiny_path, tmp_path):
    with Server(tiny_path, *disk_options(tmp_path / "kv")) as server:
        prompt = prompt_of(server, 2, 300)
        expected, _ = ask(server, request_of(prompt))
        wait_written(server, len(prompt) // server.engine()["page_tokens"])
        server.kill_engine()
        choices, usage = ask(server, request_of(prompt))
        assert cached(usage) >= 256
        assert_equal_choice(expected[0], choices[0], "from disk after kill -9")


def test_evicted_pages_come_back(tiny_path, tmp_path):
    """A pool that holds few prompts: what it evicts is read again instead of computed."""
    with Server(tiny_path, *disk_options(tmp_path / "kv", "--max-context", 512, memory="2M")) as server:
        prompts = [prompt_of(server, seed, 320) for seed in range(40)]
        expected = [ask(server, request_of(prompt))[0][0] for prompt in prompts]
        server.wait_idle()
        wait_written(server, 40 * 10)
        assert server.stats()["pages_evicted"] > 0
        for prompt, answer in zip(prompts, expected, strict=True):
            choices, usage = ask(server, request_of(prompt))
            assert_equal_choice(answer, choices[0], "after eviction")
        server.wait_idle()
        stats = server.stats()
        assert stats["disk_tokens"] > 0 or stats["disk_loads_declined"] > 0, stats


# ---- kill -9 ----

def test_kill_under_load(tiny_path, tmp_path):
    """Engines die while they write; what they leave is whole, and answers stay the same."""
    folder = tmp_path / "kv"
    with Server(tiny_path, *disk_options(folder, "--kv-disk-gb", 0.02)) as server:
        prompts = [prompt_of(server, seed % 3, 100) + prompt_of(server, 100 + seed, 100 + 20 * seed) for seed in range(12)]
        expected = [cold(server, request_of(prompt)) for prompt in prompts]
        stop, wrong = threading.Event(), []

        def client(k):
            rng = random.Random(k)
            with server.new_http() as http:
                for i in range(k, 10**6, 4):
                    if stop.is_set():
                        return
                    with contextlib.suppress(AssertionError):  # the engine was lost under it
                        text = stream_text(server.stream(*request_of(prompts[i % 12]), http))
                        if text and not expected[i % 12]["text"].startswith(text):
                            wrong.append((i, text))
                        new = [rng.randrange(1000, 40000) for _ in range(200)]  # so that there is always something to write
                        stream_text(server.stream(*request_of(new, max_tokens=1), http))
        threads = [threading.Thread(target=client, args=(k,)) for k in range(4)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(4):
                server.wait_for(lambda: server.stats()["disk_blocks_written"] > 20, "blocks written", 30)
                server.kill_engine()
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert not wrong, wrong
        for prompt, answer in zip(prompts, expected, strict=True):
            choices, _ = ask(server, request_of(prompt))
            assert_equal_choice(answer, choices[0], "after four crashes")
        server.wait_idle()
        stats = server.stats()
        assert stats["disk_blocks_dropped"] == stats["disk_errors"] == 0, stats
        assert stats["disk_blocks"] > 0


def test_damaged_file(tiny_path, tmp_path):
    """Bytes that changed while nobody looked are found out; the answer is computed."""
    folder = tmp_path / "kv"
    with Server(tiny_path, *disk_options(folder)) as server:
        prompt = prompt_of(server, 3, 400)
        expected, _ = ask(server, request_of(prompt))
        wait_written(server, len(prompt) // server.engine()["page_tokens"])
    path, = stores(folder)
    content = bytearray(path.read_bytes())
    for at in range(4096 + 1024 * 128 + 100, len(content), 10007):
        content[at] ^= 0x40
    path.write_bytes(content)
    with Server(tiny_path, *disk_options(folder)) as server:
        choices, _ = ask(server, request_of(prompt))
        assert_equal_choice(expected[0], choices[0], "over a damaged file")
        server.wait_for(lambda: server.stats()["disk_blocks_dropped"] > 0, "the damage in the figures")


# ---- clearing ----

def test_clear(tiny_path, tmp_path):
    folder = tmp_path / "kv"
    with Server(tiny_path, *disk_options(folder)) as server:
        prompt = prompt_of(server, 4, 300)
        ask(server, request_of(prompt))
        wait_written(server, 9)
        assert server.http.delete("/v1/cache").status_code == 200
        server.wait_for(lambda: server.stats()["disk_blocks"] == 0, "a cleared disk cache")
        assert cached(ask(server, request_of(prompt))[1]) == 0
        wait_written(server, 18)
        assert server.http.delete("/v1/cache").status_code == 200
        server.wait_for(lambda: server.stats()["disk_blocks"] == 0, "a cleared disk cache")
    with Server(tiny_path, *disk_options(folder)) as server:
        assert cached(ask(server, request_of(prompt))[1]) == 0


def test_clear_while_the_engine_is_away(tiny_path, tmp_path):
    """The next engine does not find what was to be cleared."""
    folder = tmp_path / "kv"
    with Server(tiny_path, *disk_options(folder)) as server:
        prompt = prompt_of(server, 5, 300)
        ask(server, request_of(prompt))
        wait_written(server, 9)
        pid = server.engine()["pid"]
        os.kill(pid, signal.SIGKILL)
        server.wait_for(lambda: server.model_status()["state"] != "ready" or server.engine()["pid"] != pid, "the loss")
        assert server.http.delete("/v1/cache").status_code == 200
        server.wait_for(lambda: server.model_status()["state"] == "ready" and server.engine()["pid"] not in (0, pid),
                        "a new engine", 60)
        assert cached(ask(server, request_of(prompt))[1]) == 0


# ---- sharing and limits ----

def test_two_servers_in_one_folder(tiny_path, tmp_path):
    folder = tmp_path / "kv"
    with Server(tiny_path, *disk_options(folder)) as first:
        prompt = prompt_of(first, 6, 300)
        expected, _ = ask(first, request_of(prompt))
        wait_written(first, 9)
        with Server(tiny_path, *disk_options(folder)) as second:
            assert "disk cache is only read" in second.log()
            choices, usage = ask(second, request_of(prompt))
            assert cached(usage) >= 256
            assert_equal_choice(expected[0], choices[0], "what another server wrote")
            ask(second, request_of(prompt_of(second, 7, 300)))
            second.wait_idle()
            assert second.stats()["disk_blocks_written"] == 0
            ask(first, request_of(prompt_of(first, 8, 300)))
            wait_written(first, 15)
    assert len(stores(folder)) == 1


def test_limit(tiny_path, tmp_path):
    folder = tmp_path / "kv"
    limit = int(0.001 * 2**30)
    with Server(tiny_path, *disk_options(folder, "--kv-disk-gb", 0.001)) as server:
        for seed in range(10):
            ask(server, request_of(prompt_of(server, 20 + seed, 600)))
            assert folder_size(folder) <= limit
        server.wait_idle()
        server.wait_for(lambda: server.stats()["disk_queued"] == 0, "everything is written")
        stats = server.stats()
        assert stats["disk_blocks_recycled"] > 0 and 0 < stats["disk_size"] <= stats["disk_limit_size"] <= limit
        assert folder_size(folder) <= limit
    with Server(tiny_path, *disk_options(folder, "--kv-disk-gb", 0.0005)) as server:
        assert folder_size(folder) <= limit // 2
        server.complete(max_tokens=1)


def test_other_models_make_room(tiny_path, smollm_path, tmp_path):
    """Another build's or another model's store goes when nobody has it open and its room is needed."""
    folder = tmp_path / "kv"
    with Server(tiny_path, *disk_options(folder, "--kv-disk-gb", 0.002)) as server:
        for seed in range(6):
            ask(server, request_of(prompt_of(server, 40 + seed, 600)))
    old, = stores(folder)
    with Server(tiny_path, *disk_options(folder, "--kv-disk-gb", 0.002, "--kv-type", "f32")) as server:
        for seed in range(6):
            ask(server, request_of(prompt_of(server, 40 + seed, 600)))
        server.wait_for(lambda: server.stats()["disk_blocks_written"] > 0, "blocks of the new store")
        assert not old.exists() and len(stores(folder)) == 1
        assert folder_size(folder) <= int(0.002 * 2**30)


def test_modes(tiny_path, tmp_path):
    folder = tmp_path / "a" / "kv"
    with Server(tiny_path, *disk_options(folder)) as server:
        server.complete(max_tokens=1)
        assert folder.stat().st_mode & 0o777 == 0o700
        assert [path.stat().st_mode & 0o777 for path in folder.iterdir()] == [0o600] * 2
        assert {path.name for path in folder.iterdir()} == {"lock", stores(folder)[0].name}


def test_figures(tiny_path, tmp_path):
    with Server(tiny_path, *disk_options(tmp_path / "kv")) as server:
        server.complete("A prompt for the figures. " * 30, max_tokens=1)
        server.wait_for(lambda: server.stats()["disk_blocks"] > 0, "blocks on disk")
        values, stats = server.metrics(), server.stats()
        assert metric(values, "tandem_engine_disk_blocks") == stats["disk_blocks"]
        assert metric(values, "tandem_engine_disk_bytes") == stats["disk_size"]
        assert metric(values, "tandem_engine_disk_blocks_written_total") == stats["disk_blocks_written"]
        assert metric(values, "tandem_engine_disk_tokens_total") == 0


def test_idle_engine_stays_idle(tiny_path, tmp_path):
    """What is written behind does not keep the engine's thread awake."""
    with Server(tiny_path, *disk_options(tmp_path / "kv")) as server:
        server.complete("Something to write. " * 50, max_tokens=1)
        server.wait_for(lambda: server.stats()["disk_blocks"] > 0 and server.stats()["disk_queued"] == 0, "blocks on disk")
        engine = psutil.Process(server.engine()["pid"])
        limit, spent = 0.1 * PATIENCE, [float("inf")]
        while spent[-1] >= limit and len(spent) < 10:  # a new engine still makes the vocabulary of masks
            before = sum(engine.cpu_times()[:2])
            time.sleep(1)
            spent.append(sum(engine.cpu_times()[:2]) - before)
        assert spent[-1] < limit, spent


# ---- refusals ----

def refused(model, *options):
    with failing_server(model, *options) as (status, output):
        assert status == 2 or status == 74, (status, output)
        return output


def test_bad_folders(tiny_path, tmp_path):
    file = tmp_path / "file"
    file.write_text("x")
    assert "Not a directory" in refused(tiny_path, "--kv-disk-dir", file)
    assert "could not be made" in refused(tiny_path, "--kv-disk-dir", file / "below")
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    assert "chmod go-w" in refused(tiny_path, "--kv-disk-dir", open_to_all)
    assert "too small" in refused(tiny_path, "--kv-disk-dir", tmp_path / "kv", "--kv-disk-gb", 0.0001)
    assert file.read_text() == "x" and not any(open_to_all.iterdir())


def test_options_that_do_not_go_together(tiny_path, script_path, tmp_path):
    assert "give --kv-disk-dir too" in refused(tiny_path, "--kv-disk-gb", 1)
    assert "needs the prefix cache" in refused(tiny_path, "--kv-disk-dir", tmp_path / "kv", "--prefix-cache", "off")
    assert "--script" in refused(tiny_path, "--kv-disk-dir", tmp_path / "kv", "--script", script_path)
    assert "from 0 to" in refused(tiny_path, "--kv-disk-dir", tmp_path / "kv", "--kv-disk-gb", -1)


def test_other_backends_refuse(tiny_path, tmp_path):
    output = refused(tiny_path, "--backend", "mlx", "--kv-disk-dir", tmp_path / "kv")
    if "--kv-disk-dir" not in output:
        pytest.skip("skip: the mlx backend is not here")
    assert "not possible on the mlx backend" in output and "--backend cpu" in output


def test_run_keeps_pages_too(tiny_path, tmp_path):
    import subprocess
    for _ in range(2):
        done = subprocess.run([TANDEM, "run", tiny_path, "--backend", BACKEND, "--kv-disk-dir", tmp_path / "kv", "--raw",
                               "--max-tokens", "4", "--threads", "1", "A prompt of some length. " * 20],
                              capture_output=True, text=True, timeout=60 * PATIENCE)
        assert done.returncode == 0, done.stderr
    assert "blocks=0" not in done.stderr and len(stores(tmp_path / "kv")) == 1
