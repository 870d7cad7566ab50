"""Engines have given up what they do not need: as the kernel sees it, and with all that they do working."""
import os
import re
import resource
import socket
import subprocess
import sys

import pytest

from harness import BACKEND, ROOT, SANITIZER, TANDEM, Server, make_model

pytestmark = [pytest.mark.skipif(bool(SANITIZER), reason="sanitizers start processes of their own"),
              pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]


def process_status(pid):
    with open(f"/proc/{pid}/status") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def in_force(server):
    return server.engine()["sandbox"]


def test_the_engine_is_confined_and_the_gateway_is_not(tiny):
    pid, text = tiny.engine()["pid"], in_force(tiny)
    engine, gateway = process_status(pid), process_status(tiny.process.pid)
    own = process_status(os.getpid())
    assert "no-new-privileges" in text and "limits" in text and "seccomp" in text
    assert engine["NoNewPrivs"] == "1" and engine["Seccomp"] == "2"
    assert int(engine["Seccomp_filters"]) == int(gateway["Seccomp_filters"]) + 1
    assert gateway["NoNewPrivs"] == own["NoNewPrivs"] and gateway["Seccomp"] == own["Seccomp"]
    assert resource.prlimit(pid, resource.RLIMIT_CORE) == (0, 0)
    assert resource.prlimit(pid, resource.RLIMIT_NOFILE)[1] <= 4096
    if BACKEND == "cpu":
        assert resource.prlimit(pid, resource.RLIMIT_DATA)[1] != resource.RLIM_INFINITY
    for thread in os.listdir(f"/proc/{pid}/task"):  # each of them, started before the model was read or after
        status = process_status(f"{pid}/task/{thread}")
        assert status["Seccomp"] == "2" and status["NoNewPrivs"] == "1", status["Name"]
    said = re.search(r"engine sandbox in_force=\"?([^\"\n]*)\"?", tiny.log())
    assert said and said.group(1) == text


def test_landlock_where_the_kernel_has_it(tiny):
    said = re.search(r"missing=\"no Landlock \(([^)]*)\)", tiny.log())
    if said:
        pytest.skip(f"skip: {said.group(1)}")
    assert re.search(r"landlock \d+", in_force(tiny))


def test_off(tiny_path):
    with Server(tiny_path, "--threads", 1, "--kv-memory", "32M", "--sandbox", "off") as server:
        assert in_force(server) == "off"
        engine, own = process_status(server.engine()["pid"]), process_status(os.getpid())
        assert engine["NoNewPrivs"] == own["NoNewPrivs"] and engine["Seccomp"] == own["Seccomp"]


@pytest.mark.cpu_only("other backends keep no pages on disk")
def test_the_disk_cache_is_made_and_used(tiny_path, tmp_path):
    folder = tmp_path / "made" / "by the engine"
    prompt = list(range(100, 400))
    body = {"prompt": prompt, "max_tokens": 4, "temperature": 0, "return_token_ids": True}
    with Server(tiny_path, "--threads", 1, "--kv-memory", "64M", "--kv-disk-dir", folder) as server:
        first = server.complete(**body)
        server.wait_for(lambda: server.stats()["disk_blocks_written"] >= 8 and server.stats()["disk_queued"] == 0,
                        "blocks on disk")
        server.kill_engine()
        second = server.complete(**body)
        assert second["choices"][0]["text"] == first["choices"][0]["text"]
        assert second["usage"]["prompt_tokens_details"]["cached_tokens"] > 0
        assert server.stats()["disk_errors"] == 0
    assert folder.stat().st_mode & 0o777 == 0o700


def test_models_behind_links(tiny_path, tmp_path):
    """A file by a link, and a folder of links such as the Hub's cache has."""
    link = tmp_path / "linked.gguf"
    link.symlink_to(tiny_path)
    folder, snapshot, blobs = tmp_path / "folder", tmp_path / "snapshot", tmp_path / "blobs"
    make_model(ROOT / "tests" / "data" / "parity" / "llama-plain.json", folder)
    snapshot.mkdir()
    blobs.mkdir()
    for i, file in enumerate(sorted(folder.iterdir())):
        file.rename(blobs / str(i))
        (snapshot / file.name).symlink_to(os.path.join("..", "blobs", str(i)))
    for model, options in ((link, ["--draft-model", link]), (snapshot, [])):
        with Server(model, "--threads", 1, "--kv-memory", "32M", *options) as server:
            reply = server.complete([1, 2, 3], max_tokens=3, ignore_eos=True)
            assert reply["usage"]["completion_tokens"] == 3


def test_it_is_confined_before_the_model_is_read(tmp_path):
    """A file that cannot be parsed is refused by a process that had given up its rights already."""
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + b"\xff" * 4096)
    ours, theirs = socket.socketpair()
    done = subprocess.run([TANDEM, "engine", "--backend", "cpu", "--socket-fd", str(theirs.fileno()), "--model", broken],
                          pass_fds=[theirs.fileno()], capture_output=True, text=True, timeout=60)
    ours.close()
    theirs.close()
    lines = done.stderr.splitlines()
    confined = next(i for i, line in enumerate(lines) if "sandbox in_force" in line)
    refused = next(i for i, line in enumerate(lines) if "cannot go on" in line)
    assert done.returncode != 0 and confined < refused
