"""Models of the Hub that a running server brings at their first use (--pull use, ask)."""
import concurrent.futures
import json
import threading
import time

import pytest

from harness import Server
from test_hub import home, hub  # noqa: F401: fixtures

pytestmark = pytest.mark.cpu_only("what is brought has nothing to do with a backend")

OPTIONS = ("--max-context", 512, "--kv-memory", "16M", "--keepalive-ms", 100, "--threads", 1)


@pytest.fixture
def start(home, tiny_path):
    """A server of a file of models: "mine", which is here, and those."""
    def make(*options, models=(), **env):
        file = home.path / "models.json"
        file.write_text(json.dumps({"folder": False, "models": [{"name": "mine", "model": str(tiny_path)}, *models]}))
        server = Server("", "--models", file, *OPTIONS, *options, env={**home.environment({}), **home.env, **env})
        server.arguments.remove("")
        return server
    return make


@pytest.fixture
def large(hub, tiny_path):
    """A repository with a model, whose storage is slow."""
    hub.add("own/er", {"m-Q8_0.gguf": tiny_path.read_bytes()})
    hub.storage.delay = 0.02
    return {"name": "theirs", "model": "own/er"}


def state_of(server, name="theirs"):
    return next((m for m in server.status()["models"] if m["model"] == name), None)


def is_coming(server, name="theirs"):
    model = state_of(server, name)
    return model and (model["download"] or {}).get("bytes", 0) > 300_000


def offsets(hub):
    return [int(r[2]["range"].split("=")[1].split("-")[0]) for r in hub.storage.requests if "range" in r[2]]


def stream(server, path, body):
    with server.http.stream("POST", path, json={**body, "stream": True}) as reply:
        return reply.status_code, [line for line in reply.iter_lines() if line]


def kinds(lines):
    return [line[7:] for line in lines if line.startswith("event: ")]


def test_the_first_use_brings_it(hub, start, large):
    """Requests wait in order, streams say for what, limits of time hold, and others go on meanwhile."""
    with start("--pull", "use", models=[large]) as server:
        assert not hub.requests and state_of(server)["state"] == "unloaded" and state_of(server)["download"] is None
        tags = {m["name"]: m["details"]["format"] for m in server.http.get("/api/tags").json()["models"]}
        assert tags == {"mine:latest": "gguf", "theirs:latest": ""}  # who knows what will come
        late = server.post("/v1/completions", {"model": "theirs", "prompt": "x", "timeout": 0.2})
        assert late.status_code == 504 and "200 ms" in late.json()["error"]["message"]
        answers, order = {}, []

        def ask(name, path, body):
            answers[name] = stream(server, path, body) if body.pop("streams") else server.post(path, body)
            order.append(name)

        chat = {"model": "theirs", "messages": [{"role": "user", "content": "x"}], "max_tokens": 2}
        response = {"model": "theirs", "input": "x", "max_output_tokens": 16, "streams": True}
        threads = []
        for name, path, body in (("chat", "/v1/chat/completions", {**chat, "streams": True}),
                                 ("message", "/v1/messages", {**chat, "streams": True}),
                                 ("response", "/v1/responses", {**response}),
                                 ("late response", "/v1/responses", {**response, "timeout": 0.8}),
                                 ("late", "/v1/chat/completions", {**chat, "streams": True, "timeout": 0.8}),
                                 ("body", "/v1/chat/completions", {**chat, "streams": False})):
            threads.append(threading.Thread(target=ask, args=(name, path, body)))
            threads[-1].start()
        server.wait_for(lambda: is_coming(server), "it comes")
        assert state_of(server)["state"] == "loading" and 0 < state_of(server)["load_fraction"] < 1
        began = time.monotonic()
        assert server.complete("Once", model="mine", max_tokens=2)["usage"]["completion_tokens"] == 2
        assert is_coming(server) and time.monotonic() - began < 5
        for thread in threads:
            thread.join()
        status, lines = answers["chat"]
        assert status == 200 and lines[0].startswith(": model 'theirs' is downloaded (") and lines[-1] == "data: [DONE]"
        status, lines = answers["message"]
        assert status == 200 and lines[0] == "event: ping" and lines[-2] == "event: message_stop"
        status, lines = answers["late"]
        assert status == 200 and lines[-1] == "data: [DONE]" and "800 ms" in json.loads(lines[-2][6:])["error"]["message"]
        status, lines = answers["response"]
        assert status == 200 and lines[0].startswith(": model 'theirs' is downloaded (")
        assert kinds(lines)[:2] == ["response.created", "response.in_progress"]
        assert kinds(lines)[-1] in ("response.completed", "response.incomplete")
        status, lines = answers["late response"]
        assert status == 200 and kinds(lines) == ["response.created", "response.in_progress", "error", "response.failed"]
        failed = json.loads(lines[-1][6:])
        assert failed["sequence_number"] == 3 and failed["response"]["model"] == "theirs"
        assert failed["response"]["status"] == "failed" and "800 ms" in failed["response"]["error"]["message"]
        assert answers["body"].status_code == 200 and {order[0], order[1]} == {"late", "late response"}
        assert state_of(server)["download"] is None and state_of(server)["state"] == "ready"
    requests = len(hub.requests)
    with start("--pull", "use", models=[large], HF_HUB_OFFLINE="1") as server:  # it is here now
        assert server.complete("Once", model="theirs", max_tokens=2)["usage"]["completion_tokens"] == 2
    assert len(hub.requests) == requests


def test_stopped_and_gone_on_with(hub, home, start, large):
    """By unloading it, and by SIGTERM; what has come is not brought again."""
    with start("--pull", "use", models=[large]) as server:
        replies = []
        thread = threading.Thread(target=lambda: replies.append(server.post("/v1/completions", {"model": "theirs", "prompt": "x"})))
        thread.start()
        server.wait_for(lambda: is_coming(server), "it comes")
        assert server.ok("/v1/models/theirs/unload", {})["id"] == "theirs"
        thread.join()
        assert replies[0].status_code == 503 and "was stopped" in replies[0].json()["error"]["message"]
        part, = (home.repo() / "blobs").glob("*.incomplete")
        there = part.stat().st_size
        assert there > 0
        hub.storage.requests.clear()
        thread = threading.Thread(target=lambda: replies.append(server.post("/v1/completions", {"model": "theirs", "prompt": "x"})))
        thread.start()
        server.wait_for(lambda: part.stat().st_size > there + 200_000, "it goes on")
        assert min(offsets(hub)) == there
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 10
        thread.join()
    there = part.stat().st_size
    hub.storage.requests.clear()
    hub.storage.delay = 0
    with start("--pull", "use", models=[large]) as server:
        assert server.complete("Once", model="theirs", max_tokens=2)["usage"]["completion_tokens"] == 2
    assert min(offsets(hub)) == there


def test_the_reason_of_the_hub(hub, start, tiny_path):
    entry = [{"name": "theirs", "model": "own/er"}]
    hub.add("own/er", {"m-Q8_0.gguf": tiny_path.read_bytes()}, gated=True)

    def reason(server, status=503, model="theirs"):
        reply = server.post("/v1/chat/completions", {"model": model, "messages": [{"role": "user", "content": "x"}]})
        assert reply.status_code == status, reply.text
        return reply.json()["error"]["message"]

    with start("--pull", "use", models=entry) as server:
        assert "own/er is gated" in reason(server) and hub.token not in server.log()
        assert "own/er is gated" in state_of(server)["failure"] and state_of(server)["state"] == "failed"
        hub.repos["own/er"].gated = "granted"
        hub.storage.spoil = lambda data: data[:-1] + bytes([data[-1] ^ 1])
        assert "SHA-256" in reason(server)
        hub.storage.spoil = None
        name = "m-Q4_0.gguf"
        hub.add("own/er", {}, entries={name: {"rfilename": name, "size": 134, "blobId": "a" * 40,
                                              "lfs": {"sha256": "b" * 64, "size": 1 << 49, "pointerSize": 134}}})
        assert "no room for own/er" in reason(server)
        del hub.repos["own/er"]
        assert "there is no repository own/er" in reason(server, 404)
        assert server.complete("Once", model="mine", max_tokens=2)["usage"]["completion_tokens"] == 2
        assert "does not exist" in reason(server, 404, "own/other")  # what no list names is not asked for
    with start("--pull", "use", models=entry, HF_HUB_OFFLINE="1") as server:
        assert "HF_HUB_OFFLINE" in reason(server)


def test_names_of_nothing_take_no_place(hub, start, large):
    """However many of them are asked for while another model comes, and at whatever time."""
    hub.storage.delay = 5
    with start("--pull", "ask", models=[large]) as server:
        def ask(i):
            return server.post("/v1/completions", {"model": f"own/none-{i}", "prompt": "x"}).status_code

        coming = threading.Thread(target=server.post, args=("/v1/completions", {"model": "theirs", "prompt": "x"}))
        coming.start()
        server.wait_for(lambda: state_of(server)["download"], "it comes")
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            assert set(pool.map(ask, range(300))) == {404}
        assert state_of(server)["download"] and len(server.status()["models"]) == 2
        assert server.complete("Once", model="mine", max_tokens=2)["usage"]["completion_tokens"] == 2
        server.stop()
        coming.join()


def test_a_repository_that_a_request_names(hub, home, start, tiny_path):
    hub.add("own/er", {"m-Q8_0.gguf": tiny_path.read_bytes()})
    (home.path / "own").mkdir()
    with start("--pull", "ask") as server:
        def ask(model):
            return server.post("/v1/completions", {"model": model, "prompt": "x", "max_tokens": 2})

        for name in ("nobody", "../own/er", "/etc/passwd", "./own/er", "own/*", "own/er/x", "~/own", str(tiny_path), "a" * 200):
            assert ask(name).status_code == 404, name
        assert not hub.requests
        assert server.http.get("/v1/models/own/er").status_code == 404 and not hub.requests  # who looks asks for nothing
        for name in ("own/none", "own/er@nowhere", "own/er:Q2_K"):
            reply = ask(name)
            assert reply.status_code == 404 and name.split("@")[0].split(":")[0] in reply.json()["error"]["message"], reply.text
        assert [m["model"] for m in server.status()["models"]] == ["mine"]
        for name in ("own/er", "own/er:Q8_0"):
            reply = ask(name)
            assert reply.status_code == 200 and reply.json()["model"] == name, reply.text
        assert [m["model"] for m in server.status()["models"]] == ["mine", "own/er", "own/er:Q8_0"]
        server.process.send_signal(1)  # SIGHUP: they stay
        server.wait_for(lambda: "list of models" in server.log(), "the list is read again")
        assert ask("own/er").status_code == 200 and len(server.status()["models"]) == 3
