"""The wire as clients and attackers use it: raw sockets against a running server."""
import contextlib
import json
import random
import re
import shutil
import signal
import socket
import subprocess
import threading
import time

import httpx
import pytest

from harness import PATIENCE, Server, metric

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
        with contextlib.suppress(ConnectionResetError):
            return self.file.read(1) == b""
        return True


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


@pytest.fixture(scope="module")
def small(tiny_path):
    """A server with low limits."""
    with Server(tiny_path, "--threads", 1, "--kv-memory", "64M", "--max-body", "64K", "--max-connections", 6) as server:
        yield server


@pytest.fixture(scope="module", autouse=True)
def slow_head(scripted):
    """A client that sends its head byte by byte while the other tests run; the last one looks at what became of it."""
    stop = threading.Event()

    def drip(raw):
        with contextlib.suppress(OSError):
            while not stop.wait(0.2):
                raw.send(b"a")

    with Raw(scripted) as raw:
        raw.send(b"GET /health HTTP/1.1\r\nHost: x\r\nA: ")
        raw.started = time.monotonic()
        thread = threading.Thread(target=drip, args=(raw,))
        thread.start()
        yield raw
        stop.set()
        thread.join()


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


def test_http_1_0_can_keep_alive(raw):
    for _ in range(2):
        raw.send(get(b"/health", b"Connection: keep-alive", version=b"1.0"))
        status, headers, _ = raw.reply()
        assert (status, headers["connection"]) == (200, "keep-alive")


def test_options_of_a_connection(raw):
    """A list, in any case, over several fields (RFC 9110, 7.6.1); what is not close keeps the connection."""
    raw.send(get(b"/health", b"Connection: TE, x-y", b"TE: trailers"))
    assert raw.reply()[0] == 200
    raw.send(get(b"/health", b"Connection: upgrade", b"Connection: x, CLOSE", b"Upgrade: h2c"))
    status, headers, _ = raw.reply()
    assert (status, headers["connection"]) == (200, "close")
    assert raw.is_closed()


def test_errors_of_the_api_keep_the_connection(raw):
    raw.send(post(b"/v1/completions", {"prompt": "a", "temperature": -1}) + post(b"/nothing", {}) + get(b"/health"))
    assert [raw.reply()[0] for _ in range(3)] == [400, 404, 200]


def test_what_a_reply_says(raw):
    raw.send(get(b"/health", b"Origin: http://elsewhere.example"))
    _, headers, body = raw.reply()
    assert int(headers["content-length"]) == len(body)
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", headers["date"])
    raw.send(b"OPTIONS /v1/completions HTTP/1.1\r\nHost: x\r\nOrigin: http://elsewhere.example\r\n"
             b"Access-Control-Request-Method: POST\r\n\r\n")
    status, preflight, _ = raw.reply()
    assert status == 403
    assert not [name for name in [*headers, *preflight] if name.startswith("access-control")], "no page may ask"


def test_many_pipelined_requests(scripted):
    """More than may wait: reading pauses, nothing is lost, and the order stays."""
    texts = [f"{i} " + "word " * 400 for i in range(150)]
    with Raw(scripted) as raw:
        requests = b"".join(post(b"/apply-template", {"messages": [{"role": "user", "content": text}]}) for text in texts)
        sender = threading.Thread(target=raw.send, args=(requests,))
        sender.start()
        for text in texts:
            status, _, body = raw.reply()
            assert status == 200 and text.strip() in json.loads(body)["prompt"], text
        sender.join()


def test_any_split_gives_the_same_replies(scripted):
    requests = (get(b"/health") + CHUNKED + chunked(b'{"con', b'tent": "a', b'bc"}') + get(b"/%2e/nothing?x", b"A:  b \t") +
                b"\r\n" + post(b"/tokenize", {"content": "äöü"}) + get(b"/v1/models").replace(b"GET", b"HEAD", 1) +
                post(b"/tokenize", {"content": 5}, b"Connection: close"))

    def replies(pieces):
        with Raw(scripted) as raw:
            raw.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            raw.send(*pieces, pause=0.001 if len(pieces) > 1 else 0)
            got = [raw.reply(has_body=i != 4)[::2] for i in range(6)]
            assert raw.is_closed()
            return got

    expected = replies([requests])
    assert [status for status, _ in expected] == [200, 200, 404, 200, 200, 400]
    for seed in range(8):
        cuts = sorted(random.Random(seed).sample(range(1, len(requests)), 30))
        assert replies([requests[i:j] for i, j in zip([0, *cuts], [*cuts, len(requests)])]) == expected, seed


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


def test_an_abandoned_request_takes_those_behind_it_along(scripted):
    with Raw(scripted) as raw:
        before = metric(scripted.metrics(), "tandem_requests_total")
        raw.send(post(b"/v1/completions", {"prompt": "KEY-SLOW", "max_tokens": 3000}) +
                 post(b"/v1/completions", {"prompt": "KEY-SLOW", "max_tokens": 3000}))
        scripted.wait_for(lambda: scripted.model_status()["requests"], "a running request")
    scripted.wait_idle()
    assert metric(scripted.metrics(), "tandem_requests_total") == before + 1


def test_half_closed_means_gone(scripted):
    """The end of the client's stream is how a client that leaves looks (http/server.h)."""
    with Raw(scripted) as raw:
        raw.send(post(b"/v1/completions", {"prompt": "KEY-SLOW", "max_tokens": 3000}))
        scripted.wait_for(lambda: scripted.model_status()["requests"], "a running request")
        raw.socket.shutdown(socket.SHUT_WR)
        assert raw.is_closed()
    scripted.wait_idle()


def test_clients_that_leave_in_mid_request(scripted):
    before = scripted.status()["connections"]
    for part in (b"", b"PO", CHUNKED, CHUNKED + b"5\r\n{", post(b"/tokenize", {"content": "abc"})[:-3]):
        with Raw(scripted) as raw:
            raw.send(part)
    scripted.wait_for(lambda: scripted.status()["connections"] <= before, "the connections are gone")


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


def test_expect_100_continue_of_a_chunked_body(raw):
    raw.send(CHUNKED.replace(JSON, JSON + b"Expect: 100-Continue\r\n"))
    assert raw.head()[0] == 100
    raw.send(chunked(b'{"content": ', b'"abc"}'))
    assert raw.reply()[0] == 200


def test_no_100_where_nobody_waits_for_one(raw):
    """Not without a body, and not to HTTP/1.0 (RFC 9110, 10.1.1)."""
    raw.send(get(b"/health", b"Expect: 100-continue"))
    assert raw.reply()[0] == 200
    raw.send(post(b"/tokenize", {"content": "abc"}, b"Expect: 100-continue").replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert raw.reply()[0] == 200


def test_expect_100_continue_of_what_is_too_large(raw):
    raw.send(b"POST /tokenize HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n" + JSON + b"Content-Length: 99999999999\r\n\r\n")
    assert raw.reply()[0] == 413
    assert raw.is_closed()


def test_other_expectations(raw):
    raw.send(b"GET /health HTTP/1.1\r\nHost: x\r\nExpect: miracles\r\n\r\n" + get(b"/health"))
    status, _, body = raw.reply()
    assert (status, json.loads(body)["error"]["code"]) == (417, "expectation_failed")
    assert raw.is_closed()


def test_largest_body(small):
    """To the byte, announced and chunked; what is larger is refused as soon as it is known to be."""
    body = b'{"tokens": [' + b" " * (65536 - 14) + b"]}"
    head = b"POST /detokenize HTTP/1.1\r\nHost: x\r\n" + JSON
    for request, status in ((b"Content-Length: %d\r\n\r\n" % len(body) + body, 200),
                            (b"Content-Length: %d\r\n\r\n" % (len(body) + 1), 413),
                            (b"Transfer-Encoding: chunked\r\n\r\n" + chunked(body[:60000], body[60000:]), 200),
                            (b"Transfer-Encoding: chunked\r\n\r\nffff\r\n" + body[:65535] + b"\r\n2\r\n", 413)):
        with Raw(small) as raw:
            raw.send(head + request)
            got, _, reply = raw.reply()
            assert got == status, reply
            if status == 413:
                assert "65536 bytes" in json.loads(reply)["error"]["message"]
                assert raw.is_closed()


@pytest.mark.parametrize("path", [b"/health", b"/ready", b"/v1/models", b"/v1/status", b"/metrics", b"/nothing",
                                  b"/tokenize", b"/v1/models/x"])
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
    "length that overflows": (b"POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n", 413),
    "list of lengths": (b"POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: 4, 4\r\n\r\n{}  ", 400),
    "two equal lengths": (b"POST /tokenize HTTP/1.1\r\nHost: x\r\n" + b"Content-Length: 4\r\n" * 2 + b"\r\n{}  ", 400),
    "negative length": (b"POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
    "chunked twice": (CHUNKED.replace(b"chunked", b"chunked, chunked") + b"0\r\n\r\n", 400),
    "two encodings": (CHUNKED.replace(JSON, b"Transfer-Encoding: identity\r\n") + b"0\r\n\r\n", 400),
    "no real encoding": (CHUNKED.replace(b": chunked", b": xchunked") + b"0\r\n\r\n", 501),
    "quoted encoding": (CHUNKED.replace(b": chunked", b': "chunked"') + b"0\r\n\r\n", 501),
    "encoding with a vertical tab": (CHUNKED.replace(b": chunked", b": \x0bchunked") + b"0\r\n\r\n", 400),
    "encoding in HTTP/1.0": (CHUNKED.replace(b"HTTP/1.1", b"HTTP/1.0") + b"0\r\n\r\n", 400),
    "negative chunk size": (CHUNKED + b"-1\r\n", 400),
    "chunk size with 0x": (CHUNKED + b"0x2\r\n{}\r\n0\r\n\r\n", 400),
    "chunk size and a blank": (CHUNKED + b"2 \r\n{}\r\n0\r\n\r\n", 400),
    "chunk size without CR": (CHUNKED + b"2\n{}\r\n0\r\n\r\n", 400),
    "long chunk extension": (CHUNKED + b"2;" + b"a" * 600 + b"\r\n{}\r\n0\r\n\r\n", 400),
    "length in a trailer": (CHUNKED + b"2\r\n{}\r\n0\r\nContent-Length: 5\r\n\r\n", 400),
    "lines without CR": (b"GET /health HTTP/1.1\nHost: x\n\n", 400),
    "no version": (b"GET /health\r\nHost: x\r\n\r\n", 400),
    "two blanks": (b"GET  /health HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "blank at the end": (b"GET /health HTTP/1.1 \r\nHost: x\r\n\r\n", 400),
    "blank first": (b" GET /health HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "folded first header": (b"GET /health HTTP/1.1\r\n Host: x\r\n\r\n", 400),
    "header without a name": (b"GET /health HTTP/1.1\r\nHost: x\r\n: b\r\n\r\n", 400),
    "header without a colon": (b"GET /health HTTP/1.1\r\nHost: x\r\nabc\r\n\r\n", 400),
    "method of other characters": (b"G@T /health HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "proxy": (b"CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n", 501),
    "relative target": (b"GET health HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "bytes in the target": (b"GET /h\xc3\xa9 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "fragment": (b"GET /health#x HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "NUL in the path": (b"GET /health%00 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "path that is no UTF-8": (b"GET /%ff HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "user in the target": (b"GET http://a@x/health HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "path in the host": (b"GET /health HTTP/1.1\r\nHost: x/y\r\n\r\n", 400),
    "empty lines": (b"\r\n" * 20 + b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "other encoding": (b"POST /tokenize HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
    "chunk size": (CHUNKED + b"zz\r\n", 400),
    "chunk size that overflows": (CHUNKED + b"fffffffffffffffff\r\n", 413),
    "chunk without end": (CHUNKED + b"2\r\n{}x\r\n", 400),
    "folded header": (b"GET /health HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", 400),
    "blank before colon": (b"GET /health HTTP/1.1\r\nHost : x\r\n\r\n", 400),
    "NUL in a header": (b"GET /health HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n", 400),
    "bare CR in a header": (b"GET /health HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n", 400),
    "no host": (b"GET /health HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET /health HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
    "version": (b"GET /health HTTP/2.0\r\nHost: x\r\n\r\n", 505),
    "long target": (b"GET /" + b"a" * 70000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
    "long header": (b"GET /health HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 200000 + b"\r\n\r\n", 431),
    "many headers": (b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 1000 + b"\r\n", 431),
}


@pytest.mark.parametrize("name", BAD)
def test_refused_and_closed(scripted, name):
    request, expected = BAD[name]
    with Raw(scripted) as raw:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may close before all is sent
            raw.send(request + get(b"/health"))
        status, headers, body = raw.reply()
        assert status == expected, body
        assert json.loads(body)["error"]["message"]
        assert headers["connection"] == "close"
        assert raw.is_closed(), "what comes behind is not answered"


def test_refusals_are_counted(scripted):
    before = scripted.metrics()
    for request, _ in list(BAD.values())[:5]:
        with Raw(scripted) as raw:
            raw.send(request)
            raw.reply()
    after = scripted.metrics()
    for name in ("tandem_http_parse_errors_total", "tandem_http_replies_total"):
        labels = {"status": "4xx"} if "replies" in name else {}
        assert metric(after, name, **labels) - metric(before, name, **labels) == 5


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


def test_one_connection_too_many(small):
    """It is told so, and may come back once another has left."""
    def admitted():
        """A connection that is served; the server may still be closing the places of those before."""
        deadline = time.monotonic() + 10 * PATIENCE
        while True:
            raw = Raw(small)
            raw.send(get(b"/health"))
            if raw.reply()[0] == 200:
                return raw
            raw.__exit__()
            assert time.monotonic() < deadline, "no place became free"

    small.http.close()
    small.http = small.new_http()
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(admitted()) for _ in range(6)]
        with Raw(small) as extra:
            status, headers, body = extra.reply()
            assert (status, headers["connection"]) == (503, "close")
            assert "too many connections" in json.loads(body)["error"]["message"]
            assert extra.is_closed()
        held[0].send(get(b"/health"))
        assert held[0].reply()[0] == 200, "the others go on"
    small.wait_for(lambda: small.http.get("/health").status_code == 200, "a free place")


# ---- when it shuts down ----

def test_requests_during_shutdown(new_scripted):
    with new_scripted() as server, Raw(server) as idle, Raw(server) as late, Raw(server) as streaming:
        idle.send(get(b"/health"))
        assert idle.reply()[0] == 200
        late.send(post(b"/tokenize", {"content": "abc"})[:-4])
        streaming.send(post(b"/v1/completions", {"prompt": "KEY-SLOW", "max_tokens": 100, "stream": True}) + get(b"/health"))
        status, headers = streaming.head()
        assert (status, headers["transfer-encoding"]) == (200, "chunked")
        server.process.send_signal(signal.SIGTERM)
        assert idle.is_closed(), "no request was under way"
        with pytest.raises(ConnectionRefusedError):
            Raw(server)
        late.send(post(b"/tokenize", {"content": "abc"})[-4:])
        status, headers, body = late.reply()
        assert (status, headers["connection"]) == (503, "close")
        assert json.loads(body)["error"]["code"] == "service_unavailable" and "shutting down" in body.decode()
        assert late.is_closed()
        rest = streaming.file.read()
        assert rest.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n"), "it ends well; what waits behind it does not begin"
        assert server.process.wait(timeout=30 * PATIENCE) == 0


# ---- where it listens ----

def has_ipv6():
    with socket.socket(socket.AF_INET6) as probe, contextlib.suppress(OSError):
        probe.bind(("::1", 0))
        return True
    return False


@pytest.mark.parametrize("option", ["--listen", "--host"])
def test_ipv6(tiny_path, option):
    if not has_ipv6():
        pytest.skip("skip: this machine has no IPv6")
    server = Server(tiny_path, "--kv-memory", "64M", *(["--host", "::1"] if option == "--host" else []), listen="[::1]:0")
    if option == "--host":
        where = server.arguments.index("--listen")
        server.arguments[where:where + 2] = ["--port", "0"]
    with server:
        reply = httpx.get(f"http://[::1]:{server.port}/health")
        assert reply.status_code == 200
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://127.0.0.1:{server.port}/health")


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


# ---- the end of what began first ----

def test_a_slow_head_times_out(scripted, slow_head):
    """However many bytes still come: ten seconds are for the whole head."""
    slow_head.socket.settimeout(30 * PATIENCE)
    status, _, body = slow_head.reply()
    assert (status, json.loads(body)["error"]["code"]) == (408, "request_timeout")
    assert time.monotonic() - slow_head.started > 9
    assert slow_head.is_closed()
    assert metric(scripted.metrics(), "tandem_http_timeouts_total") >= 1
