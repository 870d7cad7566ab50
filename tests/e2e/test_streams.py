"""Streams as they lie on the wire: their order, their comments, their ends."""
import json
import re
import socket
import time

import pytest

from ask import text
from harness import PATIENCE, chunk_text, chunks, parse_events, stream_text, together


def chat_body(content, **fields):
    return {"messages": [{"role": "user", "content": content}], **fields}


def test_order_of_a_chat_stream(scripted):
    events = scripted.stream_all("/v1/chat/completions",
                                 chat_body("KEY-CHOICES", stream_options={"include_usage": True}))
    assert events[-1] == ("done", None) and sum(kind == "done" for kind, _ in events) == 1
    data = chunks(events)
    assert len({c["id"] for c in data}) == 1 and {c["object"] for c in data} == {"chat.completion.chunk"}
    first, last, usage = data[0]["choices"][0], data[-2]["choices"][0], data[-1]
    assert first["delta"] == {"role": "assistant", "content": ""} and first["finish_reason"] is None
    assert all("role" not in c["choices"][0]["delta"] for c in data[1:-1])
    assert last["delta"] == {} and last["finish_reason"] == "stop"
    assert all(c["choices"][0]["finish_reason"] is None for c in data[:-2])
    assert usage["choices"] == [] and usage["usage"]["completion_tokens"] > 1
    assert stream_text(events) == "First answer."


def test_order_with_several_choices(scripted):
    data = chunks(scripted.stream_all("/v1/chat/completions", chat_body("KEY-CHOICES", n=3)))
    for index, expected in enumerate(["First answer.", "Second one.", "The third of them."]):
        mine = [c["choices"][0] for c in data if c["choices"][0]["index"] == index]
        assert mine[0]["delta"] == {"role": "assistant", "content": ""}
        assert mine[-1]["finish_reason"] == "stop"
        assert sum(c["finish_reason"] is not None for c in mine) == 1
        assert "".join(c["delta"].get("content", "") for c in mine) == expected


def test_order_of_a_completion_stream(scripted):
    events = scripted.stream_all("/v1/completions", {"prompt": "KEY-PLAIN", "max_tokens": 5})
    data = chunks(events)
    assert {c["object"] for c in data} == {"text_completion"} and events[-1] == ("done", None)
    assert [c["choices"][0]["finish_reason"] for c in data[:-1]] == [None] * (len(data) - 1)
    assert data[-1]["choices"][0]["finish_reason"] == "length"


def test_headers_of_a_stream(scripted):
    with scripted.http.stream("POST", "/v1/chat/completions", json=chat_body("KEY-CHOICES", stream=True)) as reply:
        assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert reply.headers["cache-control"] == "no-cache"
        assert re.fullmatch(r"req_[0-9a-f]{32}", reply.headers["x-request-id"])
        assert chunks(parse_events(reply.iter_bytes()))[0]["id"].startswith("chatcmpl-")


def test_keep_alive_comments_while_waiting(scripted):
    """The first token takes 900 ms and comments come every 200: the stream begins before it has anything to say."""
    began = time.monotonic()
    events = []
    for event in scripted.stream("/v1/chat/completions", chat_body("KEY-LATE")):
        events.append((time.monotonic() - began, *event))
    comments = [e for e in events if e[1] == "comment"]
    first_data = next(t for t, kind, _ in events if kind == "data")
    assert comments and comments[0][0] < first_data, events
    assert {value for _, _, value in comments} == {"keep-alive"}
    assert stream_text([e[1:] for e in events]) == "Late."


def test_tokens_come_as_they_are_made(scripted):
    """60 tokens of 10 ms each are not kept until the end."""
    began, times = time.monotonic(), []
    for kind, value in scripted.stream("/v1/completions", {"prompt": "KEY-SLOW", "max_tokens": 60}):
        if kind == "data" and chunk_text(value):
            times.append(time.monotonic() - began)
    assert len(times) > 20
    assert times[0] < times[-1] / 2, f"the first text came after {times[0]:.2f} s, the last after {times[-1]:.2f} s"


# ---- errors ----

@pytest.mark.parametrize("key, code", [("KEY-FAIL", "non_finite_logits")])
def test_error_in_mid_stream(scripted, key, code):
    events = scripted.stream_all("/v1/chat/completions", chat_body(key))
    errors = [c["error"] for c in chunks(events) if "error" in c]
    assert len(errors) == 1, events
    assert errors[0]["code"] == code and errors[0]["type"] == "server_error" and errors[0]["message"]
    assert "error" in chunks(events)[-1] and events[-1] == ("done", None)
    assert stream_text(events) == "Some words, then"
    assert text(scripted.chat("KEY-CHOICES")) == "First answer.", "only that request has failed"


def test_error_of_a_body(scripted):
    reply = scripted.post("/v1/chat/completions", chat_body("KEY-FAIL"))
    assert reply.status_code == 500
    assert reply.json()["error"]["code"] == "non_finite_logits"


def test_error_before_the_first_byte_is_a_status(scripted):
    reply = scripted.post("/v1/chat/completions", chat_body("KEY-PLAIN", stream=True, max_tokens=100000))
    assert reply.status_code == 400 and reply.headers["content-type"] == "application/json"
    assert reply.json()["error"]["code"] == "context_length_exceeded"


def test_other_streams_survive_a_failing_one(scripted):
    def fail():
        return stream_text(scripted.stream("/v1/chat/completions", chat_body("KEY-FAIL")))

    def succeed():
        return stream_text(scripted.stream("/v1/chat/completions", chat_body("KEY-PACED")))
    from script_rules import PLAIN
    assert together([fail, succeed] * 3) == ["Some words, then", PLAIN] * 3


# ---- leaving ----

def test_cancel_by_public_id(scripted):
    seen, finish = "", None
    for kind, value in scripted.stream("/v1/chat/completions", chat_body("KEY-SLOW", max_tokens=3000)):
        if kind != "data":
            continue
        seen += chunk_text(value)
        finish = value["choices"][0]["finish_reason"]
        if seen.count("tick") == 3 and finish is None:
            reply = scripted.http.post(f"/v1/requests/{value['id']}/cancel")
            assert reply.status_code == 200 and reply.json() == {"id": value["id"], "cancelled": True}
    assert finish == "cancelled"
    assert seen.startswith("tick tock tick tock") and len(seen) < 2000
    scripted.wait_idle()


def test_cancel_of_a_body(scripted):
    """Its client gets what was generated so far."""
    def cancel():
        request = scripted.wait_for(lambda: [r for r in scripted.model_status()["requests"]
                                             if r["generated_tokens"] > 3], "a running request")[0]
        assert scripted.http.post(f"/v1/requests/{request['id']}/cancel").status_code == 200
        return request["id"]
    answer, cancelled = together([lambda: scripted.complete("KEY-SLOW", max_tokens=3000), cancel])
    assert answer["id"] == cancelled and answer["choices"][0]["finish_reason"] == "cancelled"
    assert answer["choices"][0]["text"].startswith("tick tock")
    assert answer["usage"]["completion_tokens"] < 3000


def test_cancel_of_nobody(scripted):
    finished = scripted.chat("KEY-CHOICES")["id"]
    for name in ("chatcmpl-0", finished, "a/b"):
        reply = scripted.http.post(f"/v1/requests/{name}/cancel")
        assert reply.status_code == 404 and reply.json()["error"]["type"] == "not_found_error"


def test_client_leaves_in_mid_stream(scripted):
    for kind, _ in scripted.stream("/v1/chat/completions", chat_body("KEY-SLOW", max_tokens=3000)):
        if kind == "data":
            break  # closes the connection
    scripted.wait_idle()
    assert text(scripted.chat("KEY-CHOICES")) == "First answer."


def test_client_leaves_before_the_first_byte(scripted):
    """Also a request whose answer is one body ends with its client."""
    for content, fields in (("KEY-SLOW", {"max_tokens": 3000}), ("KEY-LATE", {"stream": True})):
        body = json.dumps(chat_body(content, **fields)).encode()
        with socket.create_connection(("127.0.0.1", scripted.port)) as raw:
            raw.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                        b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
            scripted.wait_for(lambda: scripted.model_status()["requests"], "the request runs")
        scripted.wait_for(lambda: not scripted.model_status()["requests"], "the request has ended")
    scripted.wait_idle()


def test_reader_that_stops_is_cut_off(scripted):
    """After --stall-timeout-ms without a byte taken, its request is cancelled and its pages are free. The answer, some
    25 MB, is more than what the system's buffers take."""
    body = json.dumps({"prompt": "KEY-FAST", "max_tokens": 3500, "n": 8, "stream": True, "logprobs": 20}).encode()
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.connect(("127.0.0.1", scripted.port))
        raw.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                    b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        scripted.wait_for(lambda: scripted.model_status()["requests"], "the request runs")
        before = scripted.metrics()[("tandem_http_timeouts_total", frozenset())]
        scripted.wait_for(lambda: scripted.metrics()[("tandem_http_timeouts_total", frozenset())] > before,
                          "the reader is cut off", 10)
        scripted.wait_idle()
