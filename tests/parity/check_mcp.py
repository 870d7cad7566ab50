#!/usr/bin/env python3
"""The MCP client, live: against a server that hangs, crashes and floods to order (tests/tools/mcp_faulty.py) over every
transport and both eras of the protocol, and against the reference servers of @modelcontextprotocol where npm is here.

    check_mcp.py [--build build] [--only PATTERN] [--no-reference] [--verbose]

The reference servers are installed at the versions below into the build folder's cache (the network is asked once).
"""
import argparse
import fnmatch
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import npm_packages  # noqa: E402 (lies in tools/)

FAULTY = ROOT / "tests" / "tools" / "mcp_faulty.py"
REFERENCE = {"server-everything": "2026.8.31", "server-filesystem": "2026.8.31", "server-memory": "2026.8.31"}
MODERN = "2026-07-28"


class Probe:
    """tests/tools/mcp_probe.c with a configuration."""

    def __init__(self, program, folder, servers, retry=(50, 400, 8000), env=None):
        config = folder / "mcp.json"
        config.write_text(json.dumps({"mcpServers": servers}))
        self.log = open(folder / "probe.log", "ab")
        self.process = subprocess.Popen([program, config, *map(str, retry)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=self.log, env=env)
        self.events, self.more, self.n = [], threading.Condition(), 0
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            with self.more:
                self.events.append(json.loads(line))
                self.more.notify_all()
        with self.more:
            self.events.append({"event": "eof"})
            self.more.notify_all()

    def say(self, line):
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def wait(self, wanted, seconds=20):
        """The first event for which wanted() is true, taken out of the list."""
        end = time.monotonic() + seconds
        with self.more:
            while True:
                for i, e in enumerate(self.events):
                    if wanted(e):
                        return self.events.pop(i)
                left = end - time.monotonic()
                if left <= 0 or (self.events and self.events[-1]["event"] == "eof"):
                    raise AssertionError(f"nothing came in {seconds} s, but {self.events[-5:]}")
                self.more.wait(left)

    def ask(self, line, event):
        self.say(line)
        return self.wait(lambda e: e["event"] == event)

    def status(self, server=0):
        return self.ask("status", "status")["servers"][server]

    def tools(self):
        return {t["function"]["name"]: t for t in self.ask("tools", "tools")["tools"]}

    def until(self, check, seconds=20, server=0):
        end = time.monotonic() + seconds
        while True:
            status = self.status(server)
            if check(status):
                return status
            if time.monotonic() > end:
                raise AssertionError(f"not in {seconds} s: {status}")
            time.sleep(0.02)

    def ready(self, seconds=20, server=0):
        return self.until(lambda s: s["state"] == "ready", seconds, server)

    def begin(self, tool, arguments=None, timeout=0):
        self.n += 1
        self.say(f"call k{self.n} {timeout} {tool} {json.dumps(arguments or {})}")
        return f"k{self.n}"

    def result(self, key, seconds=20):
        return self.wait(lambda e: e["event"] == "result" and e["key"] == key, seconds)

    def call(self, tool, arguments=None, timeout=0):
        return self.result(self.begin(tool, arguments, timeout))

    def get(self, words):
        self.n += 1
        verb, rest = words.split(" ", 1)
        self.say(f"{verb} k{self.n} {rest}")
        return self.result(f"k{self.n}")

    def close(self):
        if self.process.poll() is None:
            self.say("quit")
            self.wait(lambda e: e["event"] == "closed")
        code = self.process.wait(10)
        self.log.close()
        assert code == 0, f"the probe ended with {code}"


class HttpServer:
    """A faulty server that listens."""

    def __init__(self, folder, words, port=0):
        self.port_file = folder / f"port-{time.monotonic_ns()}"
        self.process = subprocess.Popen([sys.executable, FAULTY, *words, "--port-file", self.port_file, "--port", str(port)],
                                        stdin=subprocess.PIPE)
        end = time.monotonic() + 20
        while not self.port_file.exists():
            assert time.monotonic() < end and self.process.poll() is None, "the server did not start"
            time.sleep(0.02)
        self.port = int(self.port_file.read_text())
        self.url = f"http://127.0.0.1:{self.port}/mcp"

    def stop(self):
        self.process.kill()
        self.process.wait()


class Setup:
    def __init__(self, program, folder):
        self.program, self.folder, self.open = program, folder, []

    def stdio(self, *words, **more):
        return {"command": sys.executable, "args": [str(FAULTY), "stdio", *words], **more}

    def http(self, kind, *words, port=0, **more):
        server = HttpServer(self.folder, [kind, *words], port)
        self.open.append(server)
        return server, {"url": server.url, **more}

    def probe(self, servers, **more):
        probe = Probe(self.program, self.folder, servers, **more)
        self.open.append(probe)
        return probe

    def end(self):
        for thing in reversed(self.open):
            thing.close() if isinstance(thing, Probe) else thing.stop()


WAYS = {  # transport and era -> words for the faulty server, members of the configuration
    "stdio-legacy": ("stdio", [], {}),
    "stdio-modern": ("stdio", ["--era", "modern"], {}),
    "http-legacy": ("http", [], {}),
    "http-legacy-sse": ("http", ["--replies", "sse"], {"type": "http"}),
    "http-modern": ("http", ["--era", "modern"], {}),
    "http-modern-sse": ("http", ["--era", "modern", "--replies", "sse"], {}),
    "sse": ("sse", [], {}),
}


def connect(setup, way, *words, **more):
    transport, own, members = WAYS[way]
    if transport == "stdio":
        return setup.probe({"s": setup.stdio(*own, *words, **members, **more)})
    return setup.probe({"s": setup.http(transport, *own, *words, **members, **more)[1]})


# ---- what has to work over every way ----

def everything(setup, way):
    p = connect(setup, way)
    s = p.ready()
    assert s["protocol"] == (MODERN if "modern" in way else "2025-11-25"), s
    assert s["transport"] == ("sse" if way == "sse" else way.split("-")[0]), s
    assert s["server"] == "faulty 1" and s["tools"] >= 20, s
    tools = p.tools()
    assert tools["echo"]["annotations"] == {"readOnlyHint": True, "idempotentHint": True}
    assert tools["echo"]["function"]["parameters"]["properties"]["text"]["type"] == "string"
    for text in ("hello", "Grüße 世界 \u2028 \"\\", " padded ", "x" * 5000 if "modern" not in way else "x" * 500):
        assert p.call("echo", {"text": text})["text"] == text
    r = p.call("fail")
    assert r["is_error"] and r["text"] == "it went wrong" and r["code"] == "NONE", r
    r = p.call("rpc_error")
    assert r["is_error"] and "bad arguments" in r["text"] and r["code"] == "INVALID", r
    r = p.call("parts")["text"].split("\n")
    assert r == ["one", "[image: image/png, 3 bytes, not shown]", "r1: test://1", "inside", "[strange: not shown]"], r
    r = p.call("structured")
    assert r["structured"] == {"answer": 42} and json.loads(r["text"]) == {"answer": 42}, r
    r = p.call("big", {"n": 600000})
    assert not r["is_error"] and r["text"].endswith("bytes are shown]") and len(r["text"].encode()) < (1 << 20) + 100
    r = p.call("no_such_tool")
    assert r["refused"] and r["code"] == "NOT_FOUND", r
    r = p.call("slow", {"steps": 4, "ms": 60})
    progress = [e["progress"] for e in p.events if e["event"] == "progress"]
    assert r["text"] == "done" and progress == [1, 2, 3, 4], (r, progress)
    p.call("log")
    p.until(lambda s: s["resources"] == 5 and s["resource_templates"] == 1 and s["prompts"] == 1)
    assert p.get("read s test://7")["structured"]["contents"][0]["text"] == "content of test://7"
    assert "Hello you" in json.dumps(p.get('prompt s greet {"name": "you"}')["structured"])
    keys = [p.begin("echo", {"text": str(i)}) for i in range(40)]  # more than run at a time
    assert [p.result(k)["text"] for k in keys] == [str(i) for i in range(40)]
    if "modern" not in way:
        for method in ("sampling/createMessage", "roots/list", "elicitation/create"):
            assert json.loads(p.call("ask", {"method": method})["text"])["code"] == -32601
        assert json.loads(p.call("ask", {"method": "ping"})["text"]) == {}
    else:
        r = p.call("needs_input")
        assert r["is_error"] and "input" in r["text"], r
    if way != "http-modern":  # there the answer has no room for more
        assert p.call("batch")["text"] == "from a batch"


def list_changed(setup, way):
    p = connect(setup, way, "--pages", "3")
    before = p.ready()["tools"]
    for i in range(10):  # what is said before somebody listens is lost
        p.call("change", {"name": f"added{i}"})
        try:
            s = p.until(lambda s: s["tools"] == before + i + 1, seconds=2)
            break
        except AssertionError:
            assert i < 9
    assert s["state"] == "ready" and s["restarts"] == 0 and f"added{i}" in p.tools()


def hang(setup, way):
    p = connect(setup, way)
    p.ready()
    other = p.begin("slow", {"steps": 30, "ms": 50}, 700)
    started = time.monotonic()
    r = p.call("hang", timeout=300)
    assert r["is_error"] and r["code"] == "DEADLINE", r
    assert 200 < int(re.search(r"within (\d+) ms", r["text"]).group(1)) <= 300, r  # what it had when it was sent
    assert time.monotonic() - started < 3
    assert p.result(other)["text"] == "done"  # longer than its time-out: progress starts it anew
    r = p.call("silent_progress", {"steps": 20, "ms": 50}, timeout=200)
    assert r["code"] == "DEADLINE", r
    assert p.call("echo", {"text": "alive"})["text"] == "alive"
    assert p.status()["restarts"] == 0


def cancel(setup, way):
    p = connect(setup, way)
    p.ready()
    key = p.begin("hang")
    p.until(lambda s: s["running_calls"] == 1)
    time.sleep(0.2)
    p.say("cancel " + key)
    s = p.until(lambda s: s["running_calls"] == 0)
    if not way.startswith("http-modern"):  # there the end of the stream says it
        end = time.monotonic() + 5
        while not json.loads(p.call("cancelled")["text"]):
            assert time.monotonic() < end
    assert p.call("echo", {"text": "on"})["text"] == "on"
    assert not any(e["event"] == "result" and e["key"] == key for e in p.events) and s["restarts"] == 0


def crash(setup, way):
    p = connect(setup, way)
    p.ready()
    bystander = p.begin("hang")
    time.sleep(0.2)
    r = p.call("crash")
    assert r["is_error"] and r["code"] in ("UNAVAILABLE", "PROTOCOL"), r
    if way.startswith("stdio"):
        assert "exited with status 3" in r["text"], r
    if not way.startswith("http"):  # there each call has a connection of its own
        other = p.result(bystander)
        assert other["is_error"] and other["code"] == "UNAVAILABLE", other
        p.until(lambda s: s["restarts"] == 1)
    p.ready()
    assert p.call("echo", {"text": "again"})["text"] == "again"


def huge(setup, way):
    p = connect(setup, way)
    p.ready()
    r = p.call("huge", timeout=30000)
    assert r["is_error"] and r["code"] == "TOO_LARGE", r
    p.ready()
    assert p.call("echo", {"text": "again"})["text"] == "again"
    memory = int(next(l.split()[1] for l in open(f"/proc/{p.process.pid}/status") if l.startswith("VmHWM"))) if os.path.exists("/proc/self") else 0
    assert memory < 100 << 10, f"{memory} KiB"


def garbage(setup, way):
    p = connect(setup, way)
    p.ready()
    assert p.call("noise")["text"] == "after the noise"
    assert p.status()["restarts"] == 0
    r = p.call("garbage", timeout=2000)
    assert r["is_error"] and r["code"] in ("PROTOCOL", "DEADLINE"), r
    p.until(lambda s: s["state"] == "ready" and s["restarts"] == (1 if way.startswith("stdio") else 0))
    assert p.call("echo", {"text": "again"})["text"] == "again"


# ---- what belongs to one way ----

def slow_start(setup, way):
    p = setup.probe({"a": setup.stdio("--slow-start", "3"), "b": setup.stdio("--slow-start", "3", "--era", "modern"),
                     "c": setup.stdio("--on-discover", "silent"), "d": setup.stdio("--on-discover", "exit"),
                     "e": setup.stdio("--era", "both"), "f": setup.stdio("--era", "both", protocol="2025-06-18"),
                     "g": setup.stdio("--revision", "2024-11-05"), "h": setup.stdio("--revision", "1999-01-01"),
                     "i": setup.stdio("--hang")}, retry=(50, 400, 6000))
    expected = ["2025-11-25", MODERN, "2025-11-25", "2025-11-25", MODERN, "2025-06-18", "2024-11-05"]
    for i, revision in enumerate(expected):
        s = p.ready(server=i)
        assert s["protocol"] == revision and s["restarts"] == (1 if i == 3 else 0), s
    s = p.until(lambda s: s["state"] == "failed", server=7)
    assert "1999-01-01" in s["error"], s
    s = p.until(lambda s: s["state"] == "failed", server=8)
    assert "within 6000 ms" in s["error"], s


def merging(setup, way):
    p = setup.probe({"one": setup.stdio(allow=["e*", "ha*"], deny=["env"]), "two": setup.stdio(allow=["echo", "slow"]),
                     "off": setup.stdio(disabled=True)})
    p.ready(server=0)
    p.ready(server=1)
    assert sorted(p.tools()) == ["hang", "one__echo", "slow", "two__echo"], sorted(p.tools())
    assert p.status(2)["state"] == "disabled" and p.status(0)["hidden_tools"] > 5
    assert p.call("two__echo", {"text": "x"})["text"] == "x"
    assert p.call("env")["refused"] and p.call("echo")["refused"]


def environment(setup, way):
    secret = {**os.environ, "SECRET_TOKEN": "hidden", "LD_PRELOAD": "", "MCP_TEST": "value"}
    p = setup.probe({"s": setup.stdio(env={"GIVEN": "<${MCP_TEST}${UNSET:-default}>"}, cwd="/")}, env=secret)
    p.ready()
    seen = json.loads(p.call("env")["text"])
    assert seen["GIVEN"] == "<valuedefault>" and "SECRET_TOKEN" not in seen and "LD_PRELOAD" not in seen, seen
    allowed = {"HOME", "LANG", "LC_ALL", "LC_CTYPE", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "TZ", "USER", "GIVEN", "PWD"}
    assert set(seen) <= allowed, set(seen) - allowed


def leftovers(setup, way):
    """A server's own children end with it, also when it is killed."""
    script = setup.folder / "starter.py"
    script.write_text("import subprocess, sys, time\nc = subprocess.Popen(['sleep', '1000'])\nprint(c.pid, file=open(sys.argv[1], 'w'), flush=True)\ntime.sleep(1000)\n")
    pid_file = setup.folder / "pid"
    p = setup.probe({"s": {"command": sys.executable, "args": [str(script), str(pid_file)]}}, retry=(60000, 60000, 1500))
    p.until(lambda s: s["state"] == "failed")
    end = time.monotonic() + 5
    child = pathlib.Path(f"/proc/{pid_file.read_text().strip()}")
    while child.exists() and "Z" not in child.joinpath("stat").read_text().split(")")[-1].split()[0]:
        assert time.monotonic() < end, "the server's child is still there"
        time.sleep(0.05)


def frozen(setup, way):
    """A process that is there and does nothing any more is killed and made anew."""
    p = connect(setup, way)
    pid = p.ready()["pid"]
    p.call("echo", {"text": "x"})
    os.kill(pid, signal.SIGSTOP)
    r = p.call("echo", {"text": "x"}, timeout=300)
    assert r["is_error"] and r["code"] == "DEADLINE", r
    other = p.begin("echo", {"text": "y"})  # meets its end with the process
    s = p.until(lambda s: s["state"] == "ready" and s["restarts"] == 1)
    assert s["pid"] != pid and not os.path.exists(f"/proc/{pid}")
    assert p.result(other)["is_error"] and p.call("echo", {"text": "x"})["text"] == "x"


def resumed(setup, way):
    p = connect(setup, way)
    p.ready()
    assert p.call("flaky", timeout=5000)["text"] == "resumed"
    assert p.status()["restarts"] == 0


def listening_again(setup, way):
    """A stream that broke off is opened again, and what may have been missed is asked for."""
    p = connect(setup, way)
    before = p.ready()["tools"]
    time.sleep(0.5)
    p.call("drop")
    p.until(lambda s: s["tools"] == before + 1)
    assert "unheard" in p.tools() and p.status()["restarts"] == 0


def session_lost(setup, way):
    p = connect(setup, way)
    p.ready()
    p.call("forget")
    r = p.call("echo", {"text": "x"})
    assert r["is_error"] and "session" in r["text"], r
    p.until(lambda s: s["state"] == "ready" and s["restarts"] == 1)
    assert p.call("echo", {"text": "x"})["text"] == "x"


def session_deleted(setup, way):
    server, members = setup.http("http")
    p = setup.probe({"s": members})
    p.ready()
    p.close()
    assert pathlib.Path(f"{server.port_file}.deleted").exists()


def server_away(setup, way):
    transport, own, _ = WAYS[way]
    server, members = setup.http(transport, *own)
    p = setup.probe({"s": members})
    p.ready()
    server.stop()
    r = p.call("echo", {"text": "x"})
    assert r["is_error"] and r["code"] in ("UNAVAILABLE", "PROTOCOL"), r
    s = p.until(lambda s: s["state"] == "reconnecting" and s["restarts"] >= 2)
    assert s["error"] and s["tools"] > 0, s
    assert p.call("echo", {"text": "x"})["refused"]
    setup.http(transport, *own, port=server.port)
    p.ready()
    assert p.call("echo", {"text": "back"})["text"] == "back"


def login(setup, way):
    _, members = setup.http("http", "--login")
    p = setup.probe({"bad": members, "good": {**members, "headers": {"Authorization": "Bearer ${MCP_TOKEN}"}}},
                    env={**os.environ, "MCP_TOKEN": "s3cret"})
    s = p.until(lambda s: s["state"] == "failed")
    assert "401" in s["error"] and "OAuth" in s["error"], s
    p.ready(server=1)
    p.close()
    assert "s3cret" not in (setup.folder / "probe.log").read_text()


def refused(setup, way):
    """Tried over both transports, a server fails with the reason of the first."""
    p = setup.probe({"s": setup.http("http", "--era", "modern", protocol="2025-06-18")[1]})
    s = p.until(lambda s: s["state"] == "failed")
    assert "-32022" in s["error"] and "older transport: the server answered with HTTP 405" in s["error"] and s["restarts"] == 1, s


def header_fields(setup, way):
    p = connect(setup, way, "--bad-header")
    p.ready()
    assert "bad_header" not in p.tools()
    seen = {k.lower(): v for k, v in json.loads(p.call("headers")["text"]).items()}
    assert seen["mcp-protocol-version"] == MODERN and seen["mcp-method"] == "tools/call" and seen["mcp-name"] == "headers", seen
    assert "mcp-session-id" not in seen


CASES = [(f, way) for way in WAYS for f in (everything, list_changed, hang, cancel, crash, huge, garbage)]
CASES += [(f, "stdio") for f in (slow_start, merging, environment, leftovers)] + [(frozen, w) for w in ("stdio-legacy", "stdio-modern")]
CASES += [(resumed, "http-legacy"), (resumed, "http-legacy-sse"), (listening_again, "http-legacy"), (listening_again, "http-modern"), (session_lost, "http-legacy"), (session_deleted, "http-legacy"),
          (server_away, "http-legacy"), (server_away, "http-modern"), (server_away, "sse"), (login, "http"), (refused, "http"), (header_fields, "http-modern")]


# ---- reference servers ----

def install_reference(build):
    """The folder of their packages, or why they are not here."""
    wanted = {f"@modelcontextprotocol/{name}": version for name, version in REFERENCE.items()}
    folder, why = npm_packages.install(build / "cache" / "mcp-servers", {"private": True, "dependencies": wanted})
    return folder and folder / "@modelcontextprotocol", why


def everything_server(p):
    tools = p.tools()
    assert "echo" in tools and "get-sum" in tools, sorted(tools)
    assert "hi there" in p.call("echo", {"message": "hi there"})["text"]
    assert "42" in p.call("get-sum", {"a": 40, "b": 2})["text"]
    r = p.call("trigger-long-running-operation", {"duration": 1, "steps": 4}, 10000)
    assert not r["is_error"] and len([e for e in p.events if e["event"] == "progress"]) >= 3, r
    assert p.call("get-sum", {"a": "x"})["is_error"]
    assert "[image: image/png" in p.call("get-tiny-image")["text"]
    p.until(lambda s: s["resources"] > 0 and s["prompts"] > 0 and s["resource_templates"] > 0)
    uri = p.ask("list s resources", "list")["items"][0]["uri"]
    assert p.get(f"read s {uri}")["structured"]["contents"]
    assert p.get("prompt s simple-prompt {}")["structured"]["messages"]


def node():
    """Node 18 has the Web Crypto that the servers' SDK takes for granted behind an option."""
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    return ["node", *(["--experimental-global-webcrypto"] if int(version.lstrip("v").split(".")[0]) < 20 else [])]


def reference_everything(setup, packages, transport):
    program = packages / "server-everything" / "dist" / "index.js"
    if transport == "stdio":
        p = setup.probe({"s": {"command": "node", "args": [str(program), "stdio"]}})
    else:
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        server = subprocess.Popen([*node(), program, transport], env={**os.environ, "PORT": str(port)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        server.stop = lambda: (server.kill(), server.wait())
        setup.open.append(server)
        path = "sse" if transport == "sse" else "mcp"
        p = setup.probe({"s": {"url": f"http://127.0.0.1:{port}/{path}"}})
    s = p.ready()
    everything_server(p)
    return f"{s['server']}, {s['protocol']}, {s['tools']} tools"


def reference_filesystem(setup, packages, transport):
    data = setup.folder / "data"
    data.mkdir()
    (data / "a.txt").write_text("content of a\n")
    p = setup.probe({"s": {"command": "node", "args": [str(packages / "server-filesystem" / "dist" / "index.js"), str(data)]}})
    s = p.ready()
    assert p.call("read_text_file", {"path": str(data / "a.txt")})["text"] == "content of a\n"
    assert not p.call("write_file", {"path": str(data / "b.txt"), "content": "new"})["is_error"]
    assert (data / "b.txt").read_text() == "new"
    assert "a.txt" in p.call("list_directory", {"path": str(data)})["text"]
    assert p.call("read_text_file", {"path": "/etc/passwd"})["is_error"]
    return f"{s['server']}, {s['protocol']}, {s['tools']} tools"


def reference_memory(setup, packages, transport):
    p = setup.probe({"s": {"command": "node", "args": [str(packages / "server-memory" / "dist" / "index.js")],
                           "env": {"MEMORY_FILE_PATH": str(setup.folder / "memory.jsonl")}}})
    s = p.ready()
    entity = {"name": "Tandem", "entityType": "server", "observations": ["is written in C"]}
    assert not p.call("create_entities", {"entities": [entity]})["is_error"]
    assert "is written in C" in p.call("read_graph")["text"]
    assert p.call("search_nodes", {"query": "Tandem"})["structured"]["entities"][0]["name"] == "Tandem"
    return f"{s['server']}, {s['protocol']}, {s['tools']} tools"


REFERENCES = [(reference_everything, "stdio"), (reference_everything, "streamableHttp"), (reference_everything, "sse"),
              (reference_filesystem, "stdio"), (reference_memory, "stdio")]


# ---- running ----

def run(program, name, body, verbose):
    with tempfile.TemporaryDirectory() as folder:
        setup = Setup(program, pathlib.Path(folder))
        started, said, failure = time.monotonic(), None, None
        try:
            said = body(setup)
        except Exception as e:
            failure = e
        try:
            setup.end()
        except Exception as e:
            failure = failure or e
        if failure:
            log = setup.folder / "probe.log"
            print(f"FAILED {name}: {type(failure).__name__}: {failure}\n{log.read_text()[-3000:] if log.exists() else ''}", flush=True)
        elif verbose or said:
            print(f"{name}: {said or 'ok'} ({time.monotonic() - started:.1f} s)", flush=True)
        return failure is None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--only", default="*")
    parser.add_argument("--no-reference", action="store_true")
    parser.add_argument("--verbose", action="store_true")
    o = parser.parse_args()
    program = o.build.resolve() / "mcp_probe"
    cases = [(f"{f.__name__} {way}", lambda s, f=f, way=way: f(s, way)) for f, way in CASES]
    packages, missing = (None, "not wanted") if o.no_reference else install_reference(o.build.resolve())
    if packages:
        cases += [(f"{f.__name__} {t}", lambda s, f=f, t=t: f(s, packages, t)) for f, t in REFERENCES]
    results = [run(program, name, body, o.verbose) for name, body in cases if fnmatch.fnmatch(name, o.only)]
    without = "" if packages else ", reference servers skipped: " + missing
    print(f"{sum(results)} of {len(results)} cases pass{without}")
    sys.exit(0 if all(results) and results else 1)


if __name__ == "__main__":
    main()
