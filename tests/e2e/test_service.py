"""The service manager's side, played by the test: sockets that are open before the server runs, messages about how it goes,
the watchdog; and the units in deploy/."""
import contextlib
import os
import pathlib
import plistlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest

from harness import BACKEND, PATIENCE, ROOT, TANDEM, environment, make_model, tiny_config

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="systemd's protocol")

# What systemd does between fork and exec: the sockets become 3 and up, and the process is told that they are for it.
LAUNCHER = """
import fcntl, os, sys
fds = [int(fd) for fd in sys.argv[1].split(",") if fd]
high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 64) for fd in fds]  # away from where they go
for fd in fds:
    os.close(fd)
for i, fd in enumerate(high):
    os.dup2(fd, 3 + i)
if fds:
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(fds)))
os.execv(sys.argv[2], sys.argv[2:])
"""


class Manager:
    """Starts `tandem serve` as systemd would; keeps what it says."""

    def __init__(self, folder, model, *options, sockets=(), watchdog_s=0, env=None):
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(str(folder / "notify"))
        self.notify.settimeout(0.05)
        self.said, self.log_path = [], folder / "log"
        given = {"NOTIFY_SOCKET": str(folder / "notify"), **(env or {})}
        if watchdog_s:
            given["WATCHDOG_USEC"] = str(int(watchdog_s * 1e6))
        fds = [s.fileno() for s in sockets]
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", LAUNCHER, ",".join(map(str, fds)), TANDEM, "serve", model, "--backend", BACKEND, "--threads",
                 "1", "--kv-memory", "64M", *map(str, options)],
                pass_fds=fds, env=environment(given), stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.notify.close()

    def log(self):
        return self.log_path.read_text(errors="replace")

    def poll(self):
        with contextlib.suppress(TimeoutError, BlockingIOError):
            while True:
                message = self.notify.recv(4096).decode()
                self.said.append(dict(line.split("=", 1) for line in message.splitlines()))

    def wait_for(self, condition, what, timeout=30):
        deadline = time.monotonic() + timeout * PATIENCE
        while True:
            self.poll()
            found = next((m for m in self.said if condition(m)), None)
            if found:
                return found
            assert time.monotonic() < deadline, f"{what}: {self.said}\n{self.log()[-3000:]}"
            assert self.process.poll() is None, f"{what}: it ended\n{self.log()[-3000:]}"

    def wait_ready(self):
        return self.wait_for(lambda m: "READY" in m, "READY=1")

    def wait_end(self, timeout=30):
        status = self.process.wait(timeout=timeout * PATIENCE)
        self.poll()
        return status


def listening(family=socket.AF_INET, address=("127.0.0.1", 0)):
    s = socket.socket(family, socket.SOCK_STREAM)
    s.bind(address)
    s.listen(16)
    return s


def ask(client):
    return client.post("/v1/completions", json={"prompt": [1, 2, 3], "max_tokens": 2, "ignore_eos": True})


def test_sockets_are_taken_and_given_back(tiny_path, tmp_path):
    """A client that comes before the server does is served; so is one that comes while no server runs, by the next."""
    tcp, unix = listening(), listening(socket.AF_UNIX, str(tmp_path / "api"))
    port = tcp.getsockname()[1]
    replies = []

    def early():
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60 * PATIENCE) as client:
            replies.append(ask(client).status_code)

    def run_once(folder):
        folder.mkdir()
        client = threading.Thread(target=early)
        client.start()  # it connects: the manager's socket listens already
        with Manager(folder, tiny_path, "--listen", "127.0.0.1:1", sockets=(tcp, unix)) as manager:
            manager.wait_ready()
            client.join()
            assert replies.pop() == 200
            with httpx.Client(base_url="http://tandem", transport=httpx.HTTPTransport(uds=str(tmp_path / "api")),
                              timeout=60 * PATIENCE) as local:
                assert ask(local).status_code == 200
            engine = int(re.search(r"engine started .*?pid=(\d+)", manager.log()).group(1))
            inodes = {os.stat(tcp.fileno()).st_ino, os.stat(unix.fileno()).st_ino}
            held = {os.stat(f"/proc/{engine}/fd/{fd}").st_ino for fd in os.listdir(f"/proc/{engine}/fd")}
            assert not inodes & held  # the engine has not inherited them
            environment = pathlib.Path(f"/proc/{engine}/environ").read_bytes()
            assert b"NOTIFY_SOCKET" not in environment and b"LISTEN_" not in environment
            manager.process.send_signal(signal.SIGTERM)
            assert manager.wait_end() == 0
            assert any("STOPPING" in m for m in manager.said)

    run_once(tmp_path / "first")
    run_once(tmp_path / "second")
    assert os.path.exists(tmp_path / "api")
    tcp.close()
    unix.close()


def test_ready_when_the_model_is(tiny_path, tmp_path):
    with Manager(tmp_path, tiny_path, "--port", 0) as manager:
        ready = manager.wait_ready()
        port = int(re.search(r"listening .*?port=(\d+)", manager.log()).group(1))
        assert httpx.get(f"http://127.0.0.1:{port}/ready").status_code == 200
        assert "serving tiny" in ready["STATUS"]
        before = manager.said[:manager.said.index(ready)]
        assert all("READY" not in m for m in before)
        assert any("loading" in m.get("STATUS", "") and int(m["EXTEND_TIMEOUT_USEC"]) > 0 for m in before), before


def test_a_model_that_cannot_be_loaded_is_a_failed_start(tmp_path):
    """The gateway reads the metadata; what only the engine finds wrong comes after the port is bound."""
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(64))
    with Manager(tmp_path, broken, "--port", 0) as manager:
        assert manager.wait_end() not in (0, None)
        assert all("READY" not in m for m in manager.said)
    (tmp_path / "later").mkdir()
    tiny = make_model(tiny_config(), tmp_path / "small.gguf")
    with Manager(tmp_path / "later", tiny, "--port", 0, "--kv-disk-dir", broken) as manager:
        assert manager.wait_end() not in (0, None)
        assert "listening" in manager.log()
        assert all("READY" not in m for m in manager.said) and any("STOPPING" in m for m in manager.said)


def test_the_watchdog_hears_of_it(tiny_path, tmp_path):
    with Manager(tmp_path, tiny_path, "--port", 0, watchdog_s=0.4) as manager:
        manager.wait_ready()
        manager.said.clear()
        start = time.monotonic()
        for _ in range(4):
            manager.said.clear()
            manager.wait_for(lambda m: m.get("WATCHDOG") == "1", "WATCHDOG=1")
        assert time.monotonic() - start < 0.4 * 4 * PATIENCE + 2
        os.kill(manager.process.pid, signal.SIGSTOP)  # a gateway that hangs says nothing
        manager.poll()
        manager.said.clear()
        time.sleep(0.6)
        manager.poll()
        assert not manager.said
        os.kill(manager.process.pid, signal.SIGCONT)
        manager.wait_for(lambda m: m.get("WATCHDOG") == "1", "WATCHDOG=1")


def test_a_lost_engine_shows_in_the_status(tiny_path, tmp_path):
    with Manager(tmp_path, tiny_path, "--port", 0) as manager:
        manager.wait_ready()
        manager.said.clear()
        os.kill(int(re.search(r"engine started .*?pid=(\d+)", manager.log()).group(1)), signal.SIGKILL)
        manager.wait_for(lambda m: "signal 9" in m.get("STATUS", ""), "the loss")
        manager.wait_for(lambda m: m.get("STATUS", "").startswith("serving"), "the new engine")
        assert all("READY" not in m for m in manager.said)


def test_a_socket_for_everybody_needs_a_word(tiny_path, tmp_path):
    everywhere = listening(address=("0.0.0.0", 0))
    with Manager(tmp_path, tiny_path, sockets=(everywhere,)) as manager:
        assert manager.wait_end() == 2
        assert "no keys" in manager.log()
    everywhere.close()


def test_sockets_of_another_process_are_left_alone(tiny_path, tmp_path):
    with Manager(tmp_path, tiny_path, "--port", 0, env={"LISTEN_PID": "1", "LISTEN_FDS": "1"}) as manager:
        manager.wait_ready()
        assert "address=127.0.0.1:0" in manager.log()


# ---- deploy/ ----

def test_units(tmp_path):
    """systemd finds nothing wrong with them."""
    tool = shutil.which("systemd-analyze")
    if not tool:
        pytest.skip("skip: systemd-analyze is not here")
    for unit in [p for p in (ROOT / "deploy" / "systemd").iterdir() if p.suffix in (".service", ".socket")]:
        text = unit.read_text().replace("/usr/local/bin/tandem", str(TANDEM))
        (tmp_path / unit.name).write_text(text)
    units = sorted(str(p) for p in tmp_path.iterdir())
    done = subprocess.run([tool, "verify", "--man=no", *units], capture_output=True, text=True)
    complaints = [line for line in done.stderr.splitlines() if "tandem" in line]
    assert not complaints, complaints


def test_units_name_options_that_exist():
    """What ExecStart and the property list pass is parsed by the program they start."""
    known = subprocess.run([TANDEM, "serve", "--help"], capture_output=True, text=True, check=True).stdout
    service = (ROOT / "deploy" / "systemd" / "tandem.service").read_text()
    plist = plistlib.loads((ROOT / "deploy" / "launchd" / "io.tandem.serve.plist").read_bytes())
    assert "Listeners" in plist["Sockets"]  # SERVICE_SOCKETS_NAME
    used = re.findall(r"--[a-z][a-z-]*", service.split("ExecStart=", 1)[1].split("\n\n")[0].split("ExecReload")[0])
    used += [word for word in plist["ProgramArguments"] if word.startswith("--")]
    assert used and all(f"  {word.split('=')[0]} " in known for word in used), used
