"""The line of each request in the log: what it says, in three formats, and what it must never say. X-Request-Id."""
import os
import re
import signal
import socket

import pytest

from harness import Server, chunks, reply_text
from log_lines import lines, wait_line

pytestmark = pytest.mark.cpu_only("it is about the gateway")

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
FORMATS = ["text", "logfmt", "json"]
GENERATED_ID = r"req_[0-9a-f]{32}"


@pytest.fixture(scope="module")
def server(tiny_path, script_path):
    with Server(tiny_path, "--threads", 1, "--kv-memory", "64M", "--script", script_path, "--log-format", "json",
                "--max-body", "64K") as server:
        yield server


def body(content, **fields):
    return {"messages": [{"role": "user", "content": content}], "max_tokens": 8, **fields}


def ask(server, path, request, **options):
    """The reply, and its line."""
    reply = server.post(path, request, **options)
    return reply, wait_line(server, "json", reply.headers["x-request-id"])


# ---- what a line says ----

def test_an_answer(server):
    reply, line = ask(server, CHAT, body("KEY-PLAIN", timings=True))
    usage, timings = reply.json()["usage"], reply.json()["timings"]
    assert line["method"] == "POST" and line["route"] == CHAT and line["status"] == 200 and line["outcome"] == "completed"
    assert line["id"] == reply.json()["id"] and line["client"] == "127.0.0.1" and line["stream"] is False
    assert line["model"] == "tiny" and line["level"] == "info" and line["process"] == "tandem"
    assert (line["prompt_tokens"], line["generated_tokens"]) == (usage["prompt_tokens"], usage["completion_tokens"])
    assert line["cached_tokens"] == usage["prompt_tokens_details"]["cached_tokens"]
    assert line["finish"] == "length" and line["engine_losses"] == 0
    assert line["queue_ms"] == pytest.approx(timings["queue_ms"], abs=0.01)
    assert line["ttft_ms"] == pytest.approx(timings["ttft_ms"], abs=0.01)
    assert line["tokens_per_second"] == pytest.approx(timings["predicted_per_second"], rel=0.01)
    assert 0 <= line["queue_ms"] <= line["ttft_ms"] <= line["total_ms"]
    assert not {"error", "key", "trace_id"} & set(line)


def test_a_stream(server):
    with server.http.stream("POST", COMPLETIONS, json={"prompt": "KEY-PACED", "max_tokens": 4, "stream": True,
                                                       "model": "default"}) as reply:
        reply.read()
    line = wait_line(server, "json", reply.headers["x-request-id"])
    assert line["stream"] is True and line["route"] == COMPLETIONS and line["generated_tokens"] == 4
    assert line["outcome"] == "completed" and line["finish"] == "length" and line["id"].startswith("cmpl-")


def test_clients_that_leave(server):
    with server.http.stream("POST", COMPLETIONS, json={"prompt": "KEY-SLOW", "max_tokens": 3000, "stream": True}) as reply:
        next(reply.iter_bytes())
    line = wait_line(server, "json", reply.headers["x-request-id"])
    assert line["outcome"] == "cancelled" and line["status"] == 200 and 1 <= line["generated_tokens"] < 3000
    assert "finish" not in line and line["ttft_ms"] > 0
    with socket.create_connection(("127.0.0.1", server.port)) as raw:  # before anything is answered
        text = '{"prompt":"KEY-SLOW","max_tokens":3000}'
        raw.sendall(f"POST {COMPLETIONS} HTTP/1.1\r\nHost: x\r\nX-Request-Id: left-early\r\nContent-Type: application/json\r\n"
                    f"Content-Length: {len(text)}\r\n\r\n{text}".encode())
        server.wait_for(lambda: any(r["request_id"] == "left-early" for r in server.model_status()["requests"]), "the request")
    line = wait_line(server, "json", "left-early")
    assert line["outcome"] == "cancelled" and line["status"] == 0 and line["prompt_tokens"] > 0


@pytest.mark.parametrize("by", ["id", "request_id"])
def test_cancelled_by_either_id(server, by):
    with server.http.stream("POST", COMPLETIONS, json={"prompt": "KEY-SLOW", "max_tokens": 3000, "stream": True},
                            headers={"X-Request-Id": f"mine-{by}"}) as reply:
        assert reply.headers["x-request-id"] == f"mine-{by}"
        running = server.wait_for(lambda: [r for r in server.model_status()["requests"] if r["request_id"] == f"mine-{by}"],
                                  "the request")
        assert server.post(f"/v1/requests/{running[0][by]}/cancel", {}).json() == {"id": running[0][by], "cancelled": True}
        reply.read()
    line = wait_line(server, "json", f"mine-{by}")
    assert line["outcome"] == "cancelled" and line["status"] == 200 and line["finish"] == "cancelled"


def test_failures(server):
    _, line = ask(server, COMPLETIONS, {"prompt": "KEY-FAIL", "max_tokens": 100})
    assert line["outcome"] == "failed" and line["status"] >= 500 and line["error"] and line["finish"] == "error"
    with server.http.stream("POST", COMPLETIONS, json={"prompt": "KEY-FAIL", "max_tokens": 100, "stream": True}) as reply:
        assert "error" in reply.read().decode()
    line = wait_line(server, "json", reply.headers["x-request-id"])
    assert line["outcome"] == "failed" and line["status"] == 200 and line["error"]  # its head had been sent


def test_engine_losses(tiny_path, script_path):
    with Server(tiny_path, "--threads", 1, "--kv-memory", "64M", "--script", script_path, "--log-format", "json") as server:
        with server.http.stream("POST", COMPLETIONS, json={"prompt": "KEY-SLOW", "max_tokens": 60, "stream": True}) as reply:
            server.wait_for(lambda: any(r["generated_tokens"] > 5 for r in server.model_status()["requests"]), "some tokens")
            os.kill(server.engine()["pid"], signal.SIGKILL)
            reply.read()
        line = wait_line(server, "json", reply.headers["x-request-id"])
        assert line["engine_losses"] == 1 and line["outcome"] == "completed" and line["generated_tokens"] == 60


@pytest.mark.parametrize("method, path, request_body, route, status, error", [
    ("POST", CHAT, {"messages": 5}, CHAT, 400, "INVALID"),
    ("POST", CHAT, body("x", model="nobody"), CHAT, 404, "MODEL_NOT_FOUND"),
    ("POST", COMPLETIONS, {"prompt": "word " * 10000}, COMPLETIONS, 400, "CONTEXT_EXCEEDED"),
    ("POST", CHAT, body("x" * 70000), CHAT, 413, "TOO_LARGE"),  # found by the HTTP server
    ("POST", "/v1/requests/nobody/cancel", {}, "/v1/requests/{id}/cancel", 404, "NOT_FOUND"),
    ("GET", "/v1/models/nobody", None, "/v1/models/{model}", 404, "MODEL_NOT_FOUND"),
    ("GET", "/nowhere", None, "none", 404, "NOT_FOUND"),
    ("PUT", CHAT, {}, CHAT, 405, "BAD_METHOD"),
])
def test_refusals(server, method, path, request_body, route, status, error):
    reply = server.http.request(method, path, json=request_body)
    line = wait_line(server, "json", reply.headers["x-request-id"])
    assert (line["method"], line["route"], line["status"], line["error"]) == (method, route, status, error)
    assert line["outcome"] == "refused" and reply.status_code == status
    assert "prompt_tokens" not in line


def test_other_routes(server):
    reply = server.http.get("/v1/models")
    line = wait_line(server, "json", reply.headers["x-request-id"])
    assert line["route"] == "/v1/models" and line["outcome"] == "completed" and line["total_ms"] >= 0
    reply, line = ask(server, "/tokenize", {"content": "some words"})
    assert line["route"] == "/tokenize" and not {"stream", "prompt_tokens", "id"} & set(line)


def test_what_machines_ask_is_for_debugging_only(server, tiny_path):
    for path in ("/health", "/ready", "/metrics"):
        assert re.fullmatch(GENERATED_ID, server.http.get(path).headers["x-request-id"])
    assert not [line for line in lines(server, "json", "request") if line["route"] in ("/health", "/ready", "/metrics")]
    with Server(tiny_path, "--threads", 1, "--kv-memory", "32M", "--log-format", "json", "--log-level", "debug") as debug:
        reply = debug.http.get("/health")
        assert wait_line(debug, "json", reply.headers["x-request-id"])["level"] == "debug"


# ---- what it never says, and what cannot be forged ----

MARK = "zqxMARKzqx"
NASTY = ['new\nline', '"quoted" \\', "tab\tand\rreturn", "\x1b[2J\x07\x7f", "\u2028\u202e\u0085", "a=b level=error",
         "\x1f admin=true", '"} {"event":"request"', "é日本🎉"]


def raw_exchange(server, request):
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as raw:
        raw.sendall(request)
        raw.shutdown(socket.SHUT_WR)
        text = b""
        while piece := raw.recv(65536):
            text += piece
    return text


@pytest.fixture(scope="module", params=FORMATS)
def logging(request, tiny_path, script_path):
    with Server(tiny_path, "--threads", 1, "--kv-memory", "64M", "--script", script_path, "--log-format", request.param) as server:
        yield server, request.param


def send_marked(server):
    """Requests with the mark wherever a client can put text; all but the model's name and the request id, which are logged."""
    headers = {"Authorization": f"Bearer sk-{MARK}", "X-Api-Key": MARK, "User-Agent": MARK, "X-Anything": MARK,
               "Cookie": f"a={MARK}", "traceparent": MARK, "tracestate": f"a={MARK}", "Origin": f"http://{MARK}"}
    template = {"chat_template_kwargs": {MARK: MARK}}
    for request in (body(f"KEY-PLAIN {MARK}", user=MARK, stop=[MARK], **template), body(MARK, **{MARK: 1}),
                    body(f"KEY-FAIL {MARK}"), {"messages": [{"role": MARK, "content": MARK}]}, {MARK: MARK},
                    body(MARK, tools=[{MARK: 1}]), body([{"type": MARK}]), body(MARK, temperature=MARK)):
        server.post(CHAT, request, headers=headers)
        list(server.http.post(CHAT, json={**request, "stream": True}, headers=headers).iter_lines())
    for prompt in (MARK, MARK * 9000, [MARK, 5]):
        server.post(COMPLETIONS, {"prompt": prompt, "max_tokens": 2}, headers=headers)
    server.post("/infill", {"input_prefix": MARK, "input_suffix": MARK}, headers=headers)
    server.post("/tokenize", {"content": MARK}, headers=headers)
    server.post("/detokenize", {"tokens": MARK}, headers=headers)
    server.post("/apply-template", {"messages": [{"role": "user", "content": MARK}]}, headers=headers)
    server.http.post(CHAT, content=f'{{"messages": "{MARK}'.encode(), headers={"Content-Type": "application/json"})
    server.http.post(CHAT, content=MARK.encode(), headers={"Content-Type": f"text/{MARK}"})
    server.http.get(f"/{MARK}?key={MARK}", headers=headers)
    server.http.get(f"/v1/models/{MARK}")
    server.http.get(f"/v1/status?{MARK}")
    server.http.delete(f"/v1/cache?{MARK}=1")
    server.post(f"/v1/requests/{MARK}/cancel", {})
    raw_exchange(server, f"{MARK} /x HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    raw_exchange(server, f"GET /x HTTP/1.1\r\nHost: x\r\n{MARK}\r\n\r\n".encode())
    raw_exchange(server, f"GET {MARK}\r\n\r\n".encode())
    raw_exchange(server, f"GET /x HTTP/1.1\r\nHost: {MARK} {MARK}\r\n\r\n".encode())


def test_nothing_leaks(logging):
    server, log_format = logging
    send_marked(server)
    reply = server.http.get("/v1/models")
    wait_line(server, log_format, reply.headers["x-request-id"])
    assert MARK not in server.log()
    assert len(lines(server, log_format, "request")) > 30


def test_nothing_can_be_forged(logging):
    """Names of models are any text, and logged: each stays in its field."""
    server, log_format = logging
    for nasty in NASTY:
        reply = server.post(COMPLETIONS, {"prompt": "x", "model": nasty})
        assert reply.status_code == 404 and "\n" not in reply.headers["x-request-id"]
        line = wait_line(server, log_format, reply.headers["x-request-id"])
        assert line["model"] == nasty and line["level"] == "info" and line["outcome"] == "refused"
        assert "admin" not in line
    reply = server.post(COMPLETIONS, {"prompt": "x", "model": "a\x00\nb"})
    assert "level" in wait_line(server, log_format, reply.headers["x-request-id"])
    long = server.post(COMPLETIONS, {"prompt": "x", "model": "ü" * 100})
    assert 100 < len(wait_line(server, log_format, long.headers["x-request-id"])["model"].encode()) <= 131


def test_request_ids(logging):
    server, log_format = logging
    for good in ("0195b2c1-6f2e-7b3a-9c65-27a3c24ab9ff", "a", "A.b:c+d=e@f~g_h", "x" * 128):
        reply = server.http.get("/v1/models", headers={"X-Request-Id": good})
        assert reply.headers["x-request-id"] == good
        assert wait_line(server, log_format, good)["route"] == "/v1/models"
    for bad in (b"", b"-a", b"a b", b"a/b", b'a"b', b"a\\", b"x" * 129, b"\xff\xfe", "ü".encode(), b"a;b=1", b"a\tb", b"a\xc2\x85b"):
        answer = raw_exchange(server, b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX-Request-Id: " + bad + b"\r\n\r\n")
        given = re.search(rb"\r\nX-Request-Id: (.*?)\r\n", answer).group(1).decode()
        assert re.fullmatch(GENERATED_ID, given), (bad, given)
        assert wait_line(server, log_format, given)["route"] == "/v1/models"
    answer = raw_exchange(server, b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX-Request-Id: a\r\nX-Request-Id: b\r\n\r\n")
    assert re.search(rb"\r\nX-Request-Id: req_", answer)


def test_every_reply_has_an_id(server):
    """Also those of the HTTP server itself, to what is no request."""
    for request in (b"nonsense\r\n\r\n", b"GET /x HTTP/1.1\r\n\r\n", b"GET /x HTTP/9.9\r\nHost: x\r\n\r\n",
                    b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n",
                    b"GET /" + b"x" * 20000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
                    b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
                    b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", b"HEAD /health HTTP/1.1\r\nHost: x\r\n\r\n"):
        answer = raw_exchange(server, request)
        found = re.findall(rb"\r\nX-Request-Id: (req_[0-9a-f]{32})\r\n", answer)
        assert len(found) == 1, answer
        if not request.startswith(b"HEAD"):
            assert wait_line(server, "json", found[0].decode())["outcome"] == "refused"
    answer = raw_exchange(server, b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX-Request-Id: mine\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400")


# ---- with --log-content ----

@pytest.mark.parametrize("log_format", FORMATS)
def test_texts_when_they_are_wanted(tiny_path, script_path, log_format):
    with Server(tiny_path, "--threads", 1, "--kv-memory", "64M", "--script", script_path, "--log-format", log_format,
                "--log-content") as server:
        nasty = " ".join(NASTY)
        reply = server.post(CHAT, body("KEY-PLAIN " + nasty, max_tokens=100))
        request_id, answer = reply.headers["x-request-id"], reply_text(reply.json())
        assert "\n" in answer  # the script's second line
        assert wait_line(server, log_format, request_id, "answer")["text"] == answer
        prompt = wait_line(server, log_format, request_id, "prompt")
        assert nasty in prompt["text"] and int(prompt["bytes"]) == len(prompt["text"].encode())
        long = server.post(COMPLETIONS, {"prompt": "begin " + "ü" * 2000 + " KEY-PLAIN end", "max_tokens": 5})
        assert long.status_code == 200, long.text
        prompt = wait_line(server, log_format, long.headers["x-request-id"], "prompt")["text"]
        assert prompt.startswith("begin ü") and prompt.endswith("KEY-PLAIN end") and "bytes ...]" in prompt
        assert len(prompt.encode()) < 3200
        events = server.stream_all(CHAT, body("KEY-PLAIN", max_tokens=100))
        assert chunks(events)
        server.wait_for(lambda: [line["text"] for line in lines(server, log_format, "answer")].count(answer) == 2, "two answers")
