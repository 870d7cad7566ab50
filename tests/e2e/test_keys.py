"""API keys, their limits, Host and Origin, salts of the prefix cache, and what SIGHUP changes while streams run."""
import hashlib
import json
import os
import pathlib
import pty
import re
import signal
import socket
import subprocess
import time

import httpx
import openai
import pytest

from harness import PATIENCE, TANDEM, LoadingServer, Server, failing_server, metric, parse_events, parse_metrics

pytestmark = pytest.mark.cpu_only("it is about the gateway")

ALICE, BOB, ENV = "sk-alice-0123456789abcdef", "sk-bob-0123456789abcdef", "sk-env-0123456789abcdef"
FEW, POOR, LONE, NEW = (f"sk-{name}-0123456789abcdef" for name in ("few", "poor", "lone", "new"))
PAGE = "https://chat.example"


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


def chat(content="KEY-PLAIN", **fields):
    return {"messages": [{"role": "user", "content": content}], **fields}


def write_keys(path, *keys):
    path.write_text(json.dumps(list(keys)))
    path.chmod(0o600)


@pytest.fixture(scope="module")
def keys_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    digest = hashlib.sha256(BOB.encode()).hexdigest()
    write_keys(path, {"name": "alice", "key": ALICE}, {"name": "bob", "key": f"sha256:{digest}"},
               {"name": "few", "key": FEW, "requests_per_minute": 2},
               {"name": "poor", "key": POOR, "tokens_per_minute": 100},
               {"name": "lone", "key": LONE, "max_concurrent": 1})
    return path


@pytest.fixture(scope="module")
def keyed(tiny_path, script_path, keys_path):
    with Server(tiny_path, "--threads", 1, "--kv-memory", "128M", "--script", script_path, "--api-keys", keys_path,
                "--cors-origin", PAGE, "--keepalive-ms", 200, env={"TANDEM_API_KEY": ENV}, api_key=ALICE) as server:
        yield server


@pytest.fixture(scope="module")
def anybody(keyed):
    with httpx.Client(base_url=keyed.url, timeout=30 * PATIENCE) as http:
        yield http


def routes():
    """(method, path) of every route, as the program documents them."""
    docs = subprocess.run([TANDEM, "docs", "api"], capture_output=True, text=True, check=True).stdout
    found = re.findall(r"^## ([A-Z]+) (/\S+)$", docs, re.MULTILINE)
    assert ("GET", "/metrics") in found and len(found) >= 14
    return found


# ---- who ----

def test_every_route_but_two_needs_a_key(anybody):
    for method, path in routes() + [("GET", "/nothing"), ("POST", "/"), ("OPTIONS", "/v1/models"), ("BREW", "/v1/models")]:
        reply = anybody.request(method, path.replace("{id}", "x"))
        if path in ("/health", "/ready"):
            assert reply.status_code == 200, (method, path)
            continue
        assert reply.status_code == 401, (method, path)
        assert reply.headers["www-authenticate"] == 'Bearer realm="tandem"'
        error = reply.json()["error"]
        if path.startswith("/api/"):  # Ollama's errors are texts
            assert "key" in error
            continue
        assert error["type"] == "authentication_error"
        if path.startswith("/v1/messages"):
            assert reply.json()["type"] == "error"
        else:
            assert (error["code"], error["param"]) == ("invalid_api_key", None)


def test_a_body_without_a_key_is_not_read(keyed):
    with socket.create_connection(("127.0.0.1", keyed.port), timeout=30 * PATIENCE) as raw, raw.makefile("rb") as file:
        raw.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                    b"Content-Length: 30000000\r\nExpect: 100-continue\r\n\r\n")
        assert file.readline() == b"HTTP/1.1 401 Unauthorized\r\n"  # and no 100 that asks for the body
        assert b"Connection: close\r\n" in file.readlines()


@pytest.mark.parametrize("path, size, status", [(b"/v1/completions", 33554433, 413), (b"/v1/messages", 33554433, 413),
                                                (b"/v1/completions", 33554432, 401), (b"/v1/files", 33554433, 401),
                                                (b"/v1/files", 999999999, 413)])
def test_a_body_that_is_too_large_without_a_key(keyed, path, size, status):
    """It is told so before a key is asked for, as far as nobody could send it; uploads have a limit of their own."""
    with socket.create_connection(("127.0.0.1", keyed.port), timeout=30 * PATIENCE) as raw, raw.makefile("rb") as file:
        raw.sendall(b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (path, size))
        assert file.readline().startswith(b"HTTP/1.1 %d " % status)
        assert (b"www-authenticate" in file.read().lower()) == (status == 401)


def test_official_client(keyed):
    for key in (ALICE, BOB, ENV):
        answer = keyed.openai(api_key=key).chat.completions.create(model="default", messages=chat()["messages"])
        assert answer.choices[0].message.content.startswith("The quick brown fox")
        assert keyed.openai(api_key=key).models.list().data
    for name in ("alice", "bob", "env"):
        assert re.search(rf"request .*/v1/models .*key={name} ", keyed.log()), "the log says who it was"
    for key in ("wrong", ALICE[:-1], ALICE + "x", hashlib.sha256(BOB.encode()).hexdigest()):
        with pytest.raises(openai.AuthenticationError) as error:
            keyed.openai(api_key=key).models.list()
        assert error.value.code == "invalid_api_key" and error.value.type == "authentication_error"
        assert key not in str(error.value)
        assert 'error="invalid_token"' in error.value.response.headers["www-authenticate"]


def test_keys_in_either_field(anybody):
    def status(**headers):
        return anybody.get("/v1/models", headers={k.replace("_", "-"): v for k, v in headers.items()}).status_code
    assert status(x_api_key=ALICE) == 200
    assert status(authorization=f"bearer {ALICE}") == 200
    assert status(authorization=f"Bearer {ALICE}", x_api_key=ALICE) == 200
    assert status(authorization=f"Bearer {ALICE}", x_api_key=BOB) == 401
    assert status(authorization=f"Bearer {ALICE}", x_api_key="") == 200
    assert status(authorization=f"Basic {ALICE}") == 401
    assert status(authorization="Bearer", x_api_key=ALICE) == 401
    assert anybody.get("/v1/models", headers=[("x-api-key", ALICE), ("X-Api-Key", ALICE)]).status_code == 401
    assert anybody.get("/v1/models?api_key=" + ALICE).status_code == 401


def test_a_request_of_another_key_cannot_be_cancelled(keyed):
    with keyed.http.stream("POST", "/v1/chat/completions", json=chat("KEY-STEADY", stream=True, max_tokens=2000)) as reply:
        events = parse_events(reply.iter_bytes())
        chunk = next(value for kind, value in events if kind == "data")
        cancel = f"/v1/requests/{chunk['id']}/cancel"
        assert keyed.http.post(cancel, headers=bearer(BOB)).status_code == 404
        assert keyed.http.post(cancel).status_code == 200
        assert list(events)[-1] == ("done", None)


def test_keys_are_nowhere_to_be_read(tiny_path, keys_path):
    """Neither in the environment nor in the memory of gateway and engine; before a client has sent one, that is."""
    with LoadingServer(tiny_path, "--kv-memory", "32M", "--api-keys", keys_path, env={"TANDEM_API_KEY": ENV}) as server:
        deadline = time.monotonic() + 30 * PATIENCE
        while httpx.get(f"{server.url}/ready").status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        engine = int(subprocess.run(["pgrep", "-P", str(server.process.pid)], capture_output=True, text=True,
                                    check=True).stdout.split()[0])
        for pid in (server.process.pid, engine):
            environment = pathlib.Path(f"/proc/{pid}/environ").read_bytes()
            assert b"PATH=" in environment and ENV.encode() not in environment
        for key in (ENV, ALICE, FEW):
            assert not in_memory(server.process.pid, key.encode()), key
        assert in_memory(server.process.pid, b"alice")
        assert ENV not in server.log() and ALICE not in server.log()


def in_memory(pid, text):
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines():
            found = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw-p", line)
            if not found or "[vvar" in line:
                continue
            start, end = (int(x, 16) for x in found.groups())
            memory.seek(start)
            try:
                if end - start <= 256 << 20 and text in memory.read(end - start):
                    return True
            except OSError:
                continue
    return False


# ---- how much ----

def test_requests_by_the_minute(keyed):
    client = keyed.openai(api_key=FEW)
    ask = dict(model="default", messages=chat()["messages"], max_tokens=2)
    first = client.chat.completions.with_raw_response.create(**ask)
    assert first.headers["x-ratelimit-limit-requests"] == "2"
    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    assert re.fullmatch(r"\d+(\.\d+)?s|\d+m\d+s|\d+ms", first.headers["x-ratelimit-reset-requests"])
    assert "x-ratelimit-limit-tokens" not in first.headers
    stream = client.chat.completions.with_raw_response.create(**ask, stream=True)
    assert stream.headers["x-ratelimit-remaining-requests"] == "0"
    assert list(stream.parse())
    with pytest.raises(openai.RateLimitError) as error:
        client.chat.completions.create(**ask)
    assert error.value.type == "rate_limit_error" and error.value.code == "rate_limit_exceeded"
    assert "'few' on requests_per_minute: limit 2" in str(error.value)
    headers = error.value.response.headers
    assert 1 <= int(headers["retry-after"]) <= 30
    assert (int(headers["retry-after"]) - 1) * 1000 < int(headers["retry-after-ms"]) <= int(headers["retry-after"]) * 1000
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert client.models.list().data  # what costs nothing is free
    keyed.ok("/v1/chat/completions", chat(max_tokens=2))  # other keys do not mind
    values = keyed.metrics()
    assert metric(values, "tandem_key_requests_total", key="few") == 2
    assert metric(values, "tandem_key_requests_refused_total", key="few", limit="requests_per_minute") == 1
    assert metric(values, "tandem_key_requests_in_progress", key="few") == 0


def test_tokens_by_the_minute(keyed):
    def ask(content, **fields):
        return keyed.http.post("/v1/chat/completions", json=chat(content, **fields), headers=bearer(POOR))
    first = ask("KEY-PLAIN", max_tokens=5)
    usage = first.json()["usage"]
    assert first.headers["x-ratelimit-limit-tokens"] == "100"
    left = int(first.headers["x-ratelimit-remaining-tokens"])
    assert 0 <= left - (100 - usage["total_tokens"]) <= 2  # some have come back since
    large = ask("word " * 200)
    assert large.status_code == 429 and large.headers["x-should-retry"] == "false" and "retry-after" not in large.headers
    assert "tokens_per_minute: limit 100, requested 2" in large.json()["error"]["message"]
    over = ask("KEY-PLAIN", max_tokens=90)  # what it generates overdraws
    assert over.status_code == 200
    refused = ask("KEY-PLAIN", max_tokens=1)
    assert refused.status_code == 429 and refused.headers["x-ratelimit-remaining-tokens"] == "0"
    assert int(refused.headers["retry-after"]) >= 1
    values = keyed.metrics()
    total = usage["prompt_tokens"] + over.json()["usage"]["prompt_tokens"]
    assert metric(values, "tandem_key_tokens_total", key="poor", kind="prompt") == total
    assert metric(values, "tandem_key_tokens_total", key="poor", kind="generated") == (
        usage["completion_tokens"] + over.json()["usage"]["completion_tokens"])
    assert metric(values, "tandem_key_requests_refused_total", key="poor", limit="tokens_per_minute") == 2


def test_requests_at_once(keyed):
    body = chat("KEY-STEADY", stream=True, max_tokens=2000)
    with keyed.http.stream("POST", "/v1/chat/completions", json=body, headers=bearer(LONE)) as reply:
        events = parse_events(reply.iter_bytes())
        next(events)
        refused = keyed.http.post("/tokenize", json={"content": "a"}, headers=bearer(LONE))
        assert refused.status_code == 429 and "max_concurrent: limit 1" in refused.json()["error"]["message"]
        assert metric(keyed.metrics(), "tandem_key_requests_in_progress", key="lone") == 1
        next(events)
    keyed.wait_for(lambda: keyed.http.post("/tokenize", json={"content": "a"}, headers=bearer(LONE)).status_code == 200,
                   "the place of a client that has left is free")


# ---- browsers ----

def test_preflight(keyed, anybody):
    def preflight(origin, headers=None, path="/v1/chat/completions"):
        asked = {"Access-Control-Request-Headers": headers} if headers else {}
        return anybody.options(path, headers={"Origin": origin, "Access-Control-Request-Method": "POST", **asked})
    reply = preflight(PAGE, "authorization,content-type,x-stainless-lang")
    assert reply.status_code == 204 and reply.content == b""
    assert reply.headers["access-control-allow-origin"] == PAGE
    assert reply.headers["access-control-allow-headers"] == "authorization,content-type,x-stainless-lang"
    assert {"POST", "GET", "DELETE"} <= set(reply.headers["access-control-allow-methods"].split(", "))
    assert reply.headers["vary"] == "Origin" and int(reply.headers["access-control-max-age"]) > 0
    assert "access-control-allow-credentials" not in reply.headers
    assert preflight(PAGE, path="/nothing").status_code == 204
    for origin in ("https://evil.example", "null", PAGE + ".evil.example", PAGE + "/", "http://chat.example"):
        reply = preflight(origin)
        assert reply.status_code == 403 and "access-control-allow-origin" not in reply.headers, origin
        assert "--cors-origin" in reply.json()["error"]["message"]


def test_replies_to_pages(keyed, anybody):
    page = {"Origin": PAGE}
    for reply in (keyed.http.get("/v1/models", headers=page), anybody.get("/v1/models", headers=page),
                  keyed.http.get("/nothing", headers=page), anybody.get("/health", headers=page),
                  keyed.http.post("/v1/completions", json={"prompt": 1}, headers=page)):
        assert reply.headers["access-control-allow-origin"] == PAGE
        assert reply.headers["vary"] == "Origin" and "X-Request-Id" in reply.headers["access-control-expose-headers"]
    with keyed.http.stream("POST", "/v1/chat/completions", json=chat(stream=True), headers=page) as reply:
        assert reply.status_code == 200 and reply.headers["access-control-allow-origin"] == PAGE
        assert list(parse_events(reply.iter_bytes()))[-1] == ("done", None)
    assert keyed.http.get("/v1/models").headers["vary"] == "Origin"
    for method, path in routes():
        reply = keyed.http.request(method, path.replace("{id}", "x"), headers={"Origin": "https://evil.example"})
        is_open = path in ("/health", "/ready")
        assert reply.status_code == (200 if is_open else 403), (method, path)
        assert "access-control-allow-origin" not in reply.headers


def test_hosts_without_keys(scripted, tmp_path):
    def status(host, path="/v1/models"):
        return scripted.http.get(path, headers={"Host": host}).status_code
    for host in ("localhost", f"localhost:{scripted.port}", "127.0.0.1", "[::1]:1", "10.1.2.3:8000", "x"):
        assert status(host) == 200, host
    for host in ("evil.example", f"evil.example:{scripted.port}", "localhost.evil.example", "127.0.0.1.evil.example"):
        reply = scripted.http.get("/v1/models", headers={"Host": host})
        assert reply.status_code == 403 and "--allowed-host" in reply.json()["error"]["message"], host
        assert status(host, "/health") == 200
    own = {"Origin": scripted.url}
    assert scripted.http.post("/tokenize", json={"content": "a"}, headers=own).status_code == 200
    for origin in ("null", "https://evil.example", f"http://localhost:{scripted.port + 1}"):
        reply = scripted.http.post("/tokenize", json={"content": "a"}, headers={"Origin": origin})
        assert reply.status_code == 403, origin
    values = scripted.metrics()
    assert metric(values, "tandem_access_refused_total", reason="host") >= 4
    assert metric(values, "tandem_access_refused_total", reason="origin") >= 3


def test_hosts_with_keys_and_through_a_unix_socket(keyed, new_scripted, tmp_path):
    assert keyed.http.get("/v1/models", headers={"Host": "any.example"}).status_code == 200
    path = tmp_path / "socket"
    with new_scripted(listen=f"unix:{path}") as server:
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://any.example") as http:
            assert http.get("/v1/models").status_code == 200
            assert http.get("/v1/models", headers={"Origin": "https://evil.example"}).status_code == 403
        assert server.process.poll() is None


# ---- starting ----

@pytest.mark.parametrize("options, part", [
    (["--host", "0.0.0.0"], "--api-keys"), (["--host", "::"], "--insecure-no-auth"),
    (["--listen", "127.evil.example:0"], "--insecure-no-auth"), (["--api-key", "sk-SECRET"], "TANDEM_API_KEY"),
    (["--api-keys", "/nonexistent.json"], "/nonexistent.json"), (["--cors-origin", "*"], "it has no keys"),
    (["--cors-origin", "chat.example"], "is not an origin"), (["--cache-salt-per-key"], "needs keys")])
def test_refused_at_the_start(tiny_path, options, part):
    with failing_server(tiny_path, *options) as (status, output):
        assert status not in (0, None) and part in output and "SECRET" not in output, output


def test_beyond_this_machine_with_keys(tiny_path, keys_path, tmp_path):
    open_path = tmp_path / "open.json"
    write_keys(open_path, {"name": "short", "key": "hunter2"})
    open_path.chmod(0o644)
    with LoadingServer(tiny_path, "--host", "0.0.0.0", "--api-keys", open_path, "--cors-origin", "*") as server:
        assert httpx.get(f"{server.url}/v1/models").status_code == 401
        reply = httpx.get(f"{server.url}/v1/models", headers={"x-api-key": "hunter2", "Origin": "https://any.example"})
        assert reply.status_code == 200 and reply.headers["access-control-allow-origin"] == "https://any.example"
        assert "chmod" in server.log() and "short API key" in server.log() and "hunter2" not in server.log()
    with LoadingServer(tiny_path, "--host", "0.0.0.0", "--insecure-no-auth") as server:
        assert httpx.get(f"{server.url}/v1/models").status_code == 200


# ---- salts ----

def test_prefix_hits_do_not_cross_keys(tiny_path, keys_path):
    prompt = "The same long beginning of two clients. " * 40

    def cached(server, key, **fields):
        body = {"prompt": prompt, "max_tokens": 2, "temperature": 0, **fields}
        reply = server.http.post("/v1/completions", json=body, headers=bearer(key))
        assert reply.status_code == 200, reply.text
        return reply.json()["usage"]["prompt_tokens_details"]["cached_tokens"]

    options = ("--threads", 1, "--kv-memory", "64M", "--api-keys", keys_path)
    with Server(tiny_path, *options, "--cache-salt-per-key", api_key=ALICE) as server:
        assert cached(server, ALICE) == 0
        assert cached(server, ALICE) > 100
        assert cached(server, BOB) == 0
        assert cached(server, BOB) > 100
        assert cached(server, BOB, cache_salt="one") == 0
        assert cached(server, BOB, cache_salt="one") > 100
        assert cached(server, ALICE, cache_salt="one") == 0
        assert cached(server, BOB, cache_salt="two") == 0
    with Server(tiny_path, *options, api_key=ALICE) as server:
        assert cached(server, ALICE) == 0
        assert cached(server, BOB) > 100  # as it is without the option
        assert cached(server, BOB, cache_salt="one") == 0
        assert cached(server, ALICE, cache_salt="one") > 100


# ---- reloading ----

def reload(server, succeeds=True):
    name = {"result": "ok" if succeeds else "failed"}
    # The same connection all the time: a reload drops none.
    def count():
        return metric(parse_metrics(server.http.get("/metrics").text), "tandem_reloads_total", **name)
    before = count()
    server.process.send_signal(signal.SIGHUP)
    server.wait_for(lambda: count() == before + 1, f"a reload that is {name['result']}")


def test_sighup_reads_keys_again(new_scripted, tmp_path):
    path = tmp_path / "keys.json"
    write_keys(path, {"name": "alice", "key": ALICE}, {"name": "bob", "key": BOB})
    with new_scripted("--api-keys", path, env={"TANDEM_API_KEY": ENV}, api_key=ENV) as server:
        def status(key):
            return server.http.get("/v1/models", headers=bearer(key)).status_code
        with httpx.Client(base_url=server.url, timeout=60 * PATIENCE) as running:
            body = chat("KEY-SLOW", stream=True, max_tokens=120, stream_options={"include_usage": True})
            with running.stream("POST", "/v1/chat/completions", json=body, headers=bearer(BOB)) as reply:
                events = parse_events(reply.iter_bytes())
                next(events)
                write_keys(path, {"name": "alice", "key": ALICE}, {"name": "new", "key": NEW})
                connections = metric(server.metrics(), "tandem_http_connections_total")
                reload(server)
                assert [status(key) for key in (ALICE, BOB, NEW, ENV)] == [200, 401, 200, 200]
                rest = list(events)  # the stream of a key that is gone goes on
            assert rest[-1] == ("done", None) and rest[-2][1]["usage"]["completion_tokens"] == 120
            assert running.get("/health").status_code == 200  # and so does its connection
        assert metric(server.metrics(), "tandem_http_connections_total") <= connections + 2  # 401 closes its own
        path.write_text('[{"name": "alice", "key": 7}]')
        reload(server, succeeds=False)
        assert "'key': expected a string" in server.log() and "not reloaded" in server.log()
        assert [status(key) for key in (ALICE, BOB, NEW, ENV)] == [200, 401, 200, 200]
        path.unlink()
        reload(server, succeeds=False)
        assert status(NEW) == 200


def test_sighup_reads_options_again(new_scripted, tmp_path):
    config = tmp_path / "tandem.json"
    config.write_text(json.dumps({"log-level": "info", "cors-origin": [PAGE], "kv-type": "f16"}))
    with new_scripted("--config", config) as server:
        def status(origin):
            return server.http.get("/v1/models", headers={"Origin": origin}).status_code
        assert (status(PAGE), status("https://b.example")) == (200, 403)
        config.write_text(json.dumps({"log-level": "info", "cors-origin": ["https://b.example"], "max-body": 1024,
                                      "max-connections": 2, "kv-type": "f32"}))
        reload(server)
        assert (status(PAGE), status("https://b.example")) == (403, 200)
        assert "need a restart" in server.log() and "kv-type" in server.log()
        assert server.http.post("/tokenize", json={"content": "a" * 2000}).status_code == 413
        server.http.close()
        server.http = server.new_http()
        server.wait_for(lambda: metric(server.metrics(), "tandem_http_connections_open") == 1, "others are closed")
        with httpx.Client(base_url=server.url) as second, httpx.Client(base_url=server.url) as third:
            assert second.get("/health").status_code == 200
            assert third.get("/health").status_code == 503
        config.write_text('{"log-level": "info", "max-connections": "many"}')
        reload(server, succeeds=False)
        assert "max-connections" in server.log()
        assert status("https://b.example") == 200
        config.write_text(json.dumps({"log-level": "error", "cors-origin": ["https://b.example"]}))
        reload(server)
        silent = len(server.log())
        reload(server)
        assert len(server.log()) == silent  # "reloaded" is of a level that is no longer logged
        config.write_text("{}")
        reload(server)
        assert server.log()[silent:].count("reloaded") == 1


def test_a_terminal_that_is_closed_ends_the_server(tiny_path):
    """The server that was started in it, that is: SIGHUP alone reloads."""
    pid, terminal = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests themselves may run under nohup
        os.execv(TANDEM, [str(TANDEM), "serve", str(tiny_path), "--port", "0", "--kv-memory", "32M"])
    seen = b""
    while b"listening" not in seen:
        seen += os.read(terminal, 4096)
    os.kill(pid, signal.SIGHUP)
    while b"reloaded" not in seen:
        seen += os.read(terminal, 4096)
    os.close(terminal)
    deadline = time.monotonic() + 30 * PATIENCE
    status = 0, 0
    while status[0] == 0:
        assert time.monotonic() < deadline, "it still runs"
        status = os.waitpid(pid, os.WNOHANG)
        time.sleep(0.01)
    assert os.waitstatus_to_exitcode(status[1]) == 0
