"""The wire as clients and attackers use it: raw sockets against a running server."""
import contextlib
import json
import re
import shutil
import socket
import subprocess
import time

import httpx
import pytest

from harness import PATIENCE, Server

JSON = b"Content-Type: application/json\r\n"


class Raw:
    """One connection, and what comes back on it as [(status, headers, body)]."""

    def __init__(self, server):
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=20 * PATIENCE)
        self.file = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        self.socket.close()

    def send(self, *pieces, pause=0.0):
        for piece in pieces:
            self.socket.sendall(piece)
            time.sleep(pause)

    def head(self):
        line = self.file.readline()
        if not line:
            return None, {}
        headers = {}
        while (field := self.file.readline()) not in (b"\r\n", b""):
            name, value = field.decode().rstrip("\r\n").split(": ", 1)
            headers[name.lower()] = value
        assert line.startswith(b"HTTP/1.1 "), line
        return int(line.split(b" ")[1]), headers

    def reply(self, has_body=True):
        status, headers = self.head()
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(self.file.readline(), 16):
                body += self.file.read(size)
                assert self.file.readline() == b"\r\n"
            assert self.file.readline() == b"\r\n"
            return status, headers, body
        body = self.file.read(int(headers.get("content-length", 0))) if has_body else b""
        return status, headers, body

    def is_closed(self):
        return self.file.read(1) == b""


def get(path, *headers, version=b"1.1"):
    return b"GET " + path + b" HTTP/" + version + b"\r\nHost: x\r\n" + b"".join(h + b"\r\n" for h in headers) + b"\r\n"


def post(path, body, *headers):
    content = json.dumps(body).encode()
    return (b"POST " + path + b" HTTP/1.1\r\nHost: x\r\n" + JSON + b"".join(h + b"\r\n" for h in headers) +
            b"Content-Length: %d\r\n\r\n" % len(content) + content)


@pytest.fixture
def raw(scripted):
    with Raw(scripted) as connection:
        yield connection


# ---- connections ----

def test_keep_alive(raw):
    for _ in range(3):
        raw.send(get(b"/health"))
        status, headers, body = raw.reply()
        assert (status, headers.get("connection")) == (200, None)
        assert json.loads(body)


def test_close_on_request(raw):
    raw.send(get(b"/health", b"Connection: close"))
    status, headers, _ = raw.reply()
    assert (status, headers["connection"]) == (200, "close")
    assert raw.is_closed()


def test_http_1_0_closes(raw):
    raw.send(get(b"/health", version=b"1.0"))
    assert raw.reply()[0] == 200
    assert raw.is_closed()


def test_pipelined_requests_are_answered_in_order(raw):
    """The first takes longest."""
    slow = {"prompt": "KEY-LATE", "max_tokens": 5}
    raw.send(post(b"/v1/completions", slow) + get(b"/health") + post(b"/tokenize", {"content": "abc"}) +
             get(b"/v1/models/nothing") + post(b"/v1/completions", {"prompt": "KEY-PLAIN", "max_tokens": 400}))
    replies = [raw.reply() for _ in range(5)]
    assert [status for status, _, _ in replies] == [200, 200, 200, 404, 200]
    bodies = [json.loads(body) for _, _, body in replies]
    assert bodies[0]["choices"][0]["text"] == "Late."
    assert "tokens" in bodies[2] and bodies[3]["error"]["param"] == "model"
    assert bodies[4]["choices"][0]["text"].startswith("The quick brown fox")


def test_pipelined_behind_a_stream(raw):
    raw.send(post(b"/v1/completions", {"prompt": "KEY-PACED", "max_tokens": 400, "stream": True}) + get(b"/health"))
    status, headers, body = raw.reply()
    assert (status, headers["transfer-encoding"]) == (200, "chunked")
    assert body.endswith(b"data: [DONE]\n\n")
    assert raw.reply()[0] == 200


def test_a_stream_without_chunks_for_http_1_0(raw):
    content = b'{"prompt": "KEY-PLAIN", "max_tokens": 400, "stream": true}'
    raw.send(b"POST /v1/completions HTTP/1.0\r\n" + JSON + b"Content-Length: %d\r\n\r\n" % len(content) + content)
    status, headers = raw.head()
    assert status == 200 and "transfer-encoding" not in headers
    assert raw.file.read().endswith(b"data: [DONE]\n\n"), "it ends with the connection"


# ---- bodies ----

def chunked(*pieces, trailer=b""):
    return b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces) + b"0\r\n" + trailer + b"\r\n"


CHUNKED = b"POST /tokenize HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n" + JSON + b"\r\n"


def test_chunked_body(raw):
    raw.send(CHUNKED + chunked(b'{"con', b'tent": "a', b'bc"}') + CHUNKED + chunked(b'{"content": "abc"}', trailer=b"X: y\r\n"))
    first, second = raw.reply(), raw.reply()
    assert first[0] == second[0] == 200
    assert first[2] == second[2]


def test_chunked_body_byte_by_byte(raw):
    message = CHUNKED + b"6;name=value\r\n" + b'{"cont\r\nd\r\nent": "x yz"}\r\n0\r\n\r\n'
    for i in range(len(message)):
        raw.send(message[i:i + 1])
    status, _, body = raw.reply()
    assert status == 200, body


def test_expect_100_continue(raw):
    content = b'{"content": "abc"}'
    raw.send(b"POST /tokenize HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n" + JSON +
             b"Content-Length: %d\r\n\r\n" % len(content))
    assert raw.head()[0] == 100
    raw.send(content)
    assert raw.reply()[0] == 200


def test_expect_100_continue_of_what_is_too_large(raw):
    raw.send(b"POST /tokenize HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n" + JSON + b"Content-Length: 99999999999\r\n\r\n")
    assert raw.reply()[0] == 413
    assert raw.is_closed()


def test_other_expectations(raw):
    raw.send(b"GET /health HTTP/1.1\r\nHost: x\r\nExpect: miracles\r\n\r\n")
    assert raw.reply()[0] == 417


@pytest.mark.parametrize("path", [b"/health", b"/ready", b"/v1/models", b"/v1/status", b"/metrics", b"/nothing"])
def test_head(raw, path):
    raw.send(get(path))
    status, headers, body = raw.reply()
    raw.send(get(path).replace(b"GET", b"HEAD", 1) + get(b"/health"))
    head_status, head_headers, _ = raw.reply(has_body=False)
    assert (head_status, head_headers["content-type"]) == (status, headers["content-type"])
    assert abs(int(head_headers["content-length"]) - len(body)) < 200  # what they say may change in between
    assert raw.reply()[0] == 200, "the reply to HEAD has no body"


def test_methods(scripted):
    for method, path, allowed in (("DELETE", "/v1/models", "GET"), ("GET", "/v1/chat/completions", "POST"),
                                  ("PUT", "/tokenize", "POST"), ("GET", "/v1/requests/x/cancel", "POST")):
        reply = scripted.http.request(method, path)
        assert (reply.status_code, reply.json()["error"]["code"]) == (405, "method_not_allowed")
        assert allowed in reply.headers["allow"]


# ---- what is no proper request ----

BAD = {
    "no request": (b"hello\r\n\r\n", 400),
    "both lengths": (b"POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    "two lengths": (b"POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n", 400),
    "no length": (b"POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: +4\r\n\r\n", 400),
    "length that overflows": (b"POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n", (400, 413)),
    "other encoding": (b"POST /tokenize HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", (400, 501)),
    "chunk size": (CHUNKED + b"zz\r\n", 400),
    "chunk size that overflows": (CHUNKED + b"fffffffffffffffff\r\n", (400, 413)),
    "chunk without end": (CHUNKED + b"2\r\n{}x\r\n", 400),
    "folded header": (b"GET /health HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", 400),
    "blank before colon": (b"GET /health HTTP/1.1\r\nHost : x\r\n\r\n", 400),
    "NUL in a header": (b"GET /health HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n", 400),
    "bare CR in a header": (b"GET /health HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n", 400),
    "no host": (b"GET /health HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET /health HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
    "version": (b"GET /health HTTP/2.0\r\nHost: x\r\n\r\n", (400, 505)),
    "long target": (b"GET /" + b"a" * 70000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
    "long header": (b"GET /health HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 200000 + b"\r\n\r\n", 431),
    "many headers": (b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 1000 + b"\r\n", 431),
}


@pytest.mark.parametrize("name", BAD)
def test_refused_and_closed(scripted, name):
    request, statuses = BAD[name]
    with Raw(scripted) as raw:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may close before all is sent
            raw.send(request)
        status, _, body = raw.reply()
        assert status in (statuses if isinstance(statuses, tuple) else (statuses,)), body
        assert json.loads(body)["error"]["message"]
        with contextlib.suppress(ConnectionResetError):
            assert raw.is_closed()


def test_a_smuggled_request_is_not_answered(raw):
    raw.send(b"POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" +
             get(b"/health"))
    assert raw.reply()[0] == 400
    assert raw.is_closed()


def test_targets(raw):
    """Queries, absolute form, percent-encoding, dot segments (RFC 3986, 5.2.4; RFC 9112, 3.2)."""
    raw.send(get(b"/health?x=1") + get(b"http://x/health") + get(b"/%68ealth") + get(b"/../health") + get(b"/%"))
    assert [raw.reply()[0] for _ in range(5)] == [200, 200, 200, 200, 400]


def test_a_slow_reader_of_its_own_headers_blocks_nobody(scripted):
    with Raw(scripted) as slow:
        slow.send(b"POST /tokenize HTTP/1.1\r\nHos")
        assert scripted.tokens("abc")
        slow.send(b"t: x\r\nContent-Length: 18\r\n\r\n{\"cont", b"ent\": \"abc\"}", pause=0.05)
        assert slow.reply()[0] == 200


# ---- where it listens ----

def test_ipv6(tiny_path):
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("skip: this machine has no IPv6")
    with Server(tiny_path, "--kv-memory", "64M", listen="[::1]:0") as server:
        assert httpx.get(f"http://[::1]:{server.port}/health").status_code == 200


def test_unix_socket_and_port(tiny_path, tmp_path):
    path = tmp_path / "tandem.sock"
    with Server(tiny_path, "--kv-memory", "64M", "--listen", f"unix:{path}", listen="127.0.0.1:0") as server:
        transport = httpx.HTTPTransport(uds=str(path))
        with httpx.Client(transport=transport, base_url="http://tandem", timeout=60) as http:
            deadline = time.monotonic() + 60 * PATIENCE
            while http.get("/ready").status_code != 200 and time.monotonic() < deadline:
                time.sleep(0.02)
            reply = http.post("/v1/completions", json={"prompt": "Once", "max_tokens": 3})
            assert reply.json()["usage"]["completion_tokens"] == 3
        assert httpx.get(f"http://127.0.0.1:{server.port}/health").status_code == 200
        if shutil.which("curl"):
            done = subprocess.run(["curl", "-s", "--unix-socket", str(path), "http://tandem/health"], capture_output=True)
            assert json.loads(done.stdout)
    assert not path.exists(), "the socket goes with the server"


def test_a_stale_socket_is_replaced_and_a_living_one_is_not(tiny_path, tmp_path):
    path = tmp_path / "tandem.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    with Server(tiny_path, "--kv-memory", "64M", "--listen", f"unix:{path}", listen="127.0.0.1:0"):
        second = subprocess.run([*Server(tiny_path).arguments[:3], "--listen", f"unix:{path}"], capture_output=True,
                                text=True, timeout=60)
        assert second.returncode != 0
        assert re.search(r"tandem\.sock", second.stderr), second.stderr
        assert path.exists()
