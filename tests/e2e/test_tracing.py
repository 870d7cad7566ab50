"""Trace context and spans: what a collector gets of each request, and that its faults are nobody else's."""
import secrets
import time

import httpx
import pytest

from harness import Server, failing_server, metric
from log_lines import lines, wait_line
from otlp_collector import Collector

pytestmark = pytest.mark.cpu_only("it is about the gateway")

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


@pytest.fixture(scope="module")
def collector():
    with Collector() as collector:
        yield collector


@pytest.fixture(scope="module")
def new_server(tiny_path, script_path):
    def make(url, *options, env=None):
        return Server(tiny_path, "--threads", 1, "--kv-memory", "64M", "--script", script_path, "--log-format", "json",
                      "--otlp-endpoint", url, *options, env=env)
    return make


@pytest.fixture(scope="module")
def server(new_server, collector):
    with new_server(collector.url, env={"OTEL_EXPORTER_OTLP_HEADERS": "x-tenant=a%20b,x-key=secret-of-the-collector",
                                        "OTEL_SERVICE_NAME": "my tandem"}) as server:
        yield server


class Trace:
    """A caller's trace of its own."""

    def __init__(self, flags="01", **headers):
        self.id, self.parent = secrets.token_hex(16), secrets.token_hex(8)
        self.headers = {"traceparent": f"00-{self.id}-{self.parent}-{flags}", **headers}

    def spans(self, server, collector, n):
        """Its n spans by name, once they have come."""
        found = server.wait_for(lambda: len(collector.trace(self.id)) >= n and collector.trace(self.id), f"{n} spans")
        assert len(found) == n and len({span["spanId"] for span in found}) == n
        return {span["name"]: span for span in found}


def times(span):
    return int(span["startTimeUnixNano"]), int(span["endTimeUnixNano"])


def body(content, **fields):
    return {"messages": [{"role": "user", "content": content}], "max_tokens": 8, **fields}


def test_spans_of_an_answer(server, collector):
    trace = Trace(tracestate="rojo=1,congo=2")
    reply = server.post(CHAT, body("KEY-PACED", temperature=0.5, seed=7, n=2, user="somebody", stop=["never"]), headers=trace.headers)
    spans = trace.spans(server, collector, 4)
    root = spans["POST " + CHAT]
    assert root["kind"] == 2 and root["parentSpanId"] == trace.parent and root["status"] == {}
    assert all(span["traceState"] == "rojo=1,congo=2" for span in spans.values())
    assert root["resource"]["service.name"] == "my tandem" and root["resource"]["service.version"]
    usage, given = reply.json()["usage"], root["attributes"]
    assert given == {
        "http.request.method": "POST", "url.scheme": "http", "url.path": CHAT, "http.route": CHAT, "client.address": "127.0.0.1",
        "network.protocol.version": "1.1", "http.response.status_code": 200, "tandem.request.id": reply.headers["x-request-id"],
        "tandem.outcome": "completed", "gen_ai.operation.name": "chat", "gen_ai.provider.name": "tandem",
        "gen_ai.output.type": "text", "gen_ai.request.model": "tiny", "gen_ai.request.choice.count": 2,
        "gen_ai.request.seed": 7, "gen_ai.request.max_tokens": 8, "gen_ai.request.temperature": 0.5, "gen_ai.request.top_p": 1,
        "gen_ai.request.frequency_penalty": 0, "gen_ai.request.presence_penalty": 0, "gen_ai.response.id": reply.json()["id"],
        "gen_ai.response.model": "tiny", "gen_ai.response.finish_reasons": ["length"],
        "gen_ai.usage.input_tokens": usage["prompt_tokens"], "gen_ai.usage.output_tokens": usage["completion_tokens"],
        "gen_ai.usage.cache_read.input_tokens": usage["prompt_tokens_details"]["cached_tokens"], "tandem.engine_losses": 0}
    for name in ("queue", "prefill", "decode"):
        assert spans[name]["parentSpanId"] == root["spanId"] and spans[name]["kind"] == 1
        assert times(root)[0] <= times(spans[name])[0] <= times(spans[name])[1] <= times(root)[1]
    assert times(spans["queue"])[1] == times(spans["prefill"])[0]
    assert times(spans["prefill"])[1] == pytest.approx(times(spans["decode"])[0], abs=2000)
    assert times(spans["decode"])[1] > times(spans["decode"])[0]
    path, headers = collector.requests[-1]
    assert path == "/v1/traces" and headers["x-tenant"] == "a b" and headers["x-key"] == "secret-of-the-collector"
    assert "secret-of-the-collector" not in server.log()
    assert wait_line(server, "json", reply.headers["x-request-id"])["trace_id"] == trace.id


def test_spans_of_a_stream_that_is_left(server, collector):
    trace = Trace()
    request = {"prompt": "KEY-SLOW", "max_tokens": 3000, "stream": True}
    with server.http.stream("POST", COMPLETIONS, json=request, headers=trace.headers) as reply:
        next(reply.iter_bytes())
    root = trace.spans(server, collector, 4)["POST " + COMPLETIONS]
    given = root["attributes"]
    assert given["tandem.outcome"] == "cancelled" and root["status"] == {} and "error.type" not in given
    assert given["gen_ai.operation.name"] == "text_completion" and given["gen_ai.request.stream"] is True
    assert given["gen_ai.response.time_to_first_chunk"] > 0 and "gen_ai.response.finish_reasons" not in given


def test_spans_of_errors(server, collector):
    bad, broken, cut, lost = Trace(), Trace(), Trace(), Trace()
    server.post(CHAT, {"messages": "zqxMARK"}, headers=bad.headers)
    server.post(COMPLETIONS, {"prompt": "KEY-FAIL", "max_tokens": 100}, headers=broken.headers)
    with server.http.stream("POST", COMPLETIONS, json={"prompt": "KEY-FAIL", "max_tokens": 100, "stream": True},
                            headers=cut.headers) as reply:
        reply.read()
    server.http.get("/zqxMARK?zqxMARK", headers={**lost.headers, "User-Agent": "zqxMARK"})
    root = bad.spans(server, collector, 1)["POST " + CHAT]
    assert root["status"] == {} and root["attributes"]["error.type"] == "INVALID"  # a client's fault is not the server's
    assert root["attributes"]["http.response.status_code"] == 400 and root["attributes"]["tandem.outcome"] == "refused"
    root = broken.spans(server, collector, 4)["POST " + COMPLETIONS]
    assert root["status"] == {"code": 2} and root["attributes"]["http.response.status_code"] >= 500
    root = cut.spans(server, collector, 4)["POST " + COMPLETIONS]
    assert root["status"] == {"code": 2} and root["attributes"]["http.response.status_code"] == 200
    assert root["attributes"]["tandem.outcome"] == "failed"
    root = lost.spans(server, collector, 1)["GET"]
    assert not {"http.route", "url.path"} & set(root["attributes"])
    assert "zqxMARK" not in repr(collector.spans)


def test_traces_that_begin_here(server, collector):
    """No traceparent, an invalid one, several: a new trace each."""
    seen = set()
    trace_id = secrets.token_hex(16)
    for given in ([], [("traceparent", f"00-{trace_id}-{'0' * 16}-01")], [("traceparent", f"ff-{trace_id}-{'1' * 16}-01")],
                  [("traceparent", f"00-{trace_id}-{'1' * 16}-01")] * 2):
        reply = server.http.get("/v1/models", headers=httpx.Headers([*given, ("tracestate", "a=1")]))
        assert "traceparent" not in reply.headers
        made = wait_line(server, "json", reply.headers["x-request-id"])["trace_id"]
        root, = server.wait_for(lambda: collector.trace(made), "a span")
        assert "parentSpanId" not in root and "traceState" not in root and root["name"] == "GET /v1/models"
        seen.add(made)
    assert len(seen) == 4 and trace_id not in seen
    unsampled = Trace("00")
    reply = server.http.get("/v1/models", headers=unsampled.headers)  # its caller does not record it: neither do we
    assert wait_line(server, "json", reply.headers["x-request-id"])["trace_id"] == unsampled.id
    marker = Trace()
    server.http.get("/v1/models", headers=marker.headers)
    server.http.get("/health", headers=marker.headers)  # quiet routes have no spans
    marker.spans(server, collector, 1)
    assert not collector.trace(unsampled.id)


def test_sampling_follows_the_caller(new_server, collector):
    with new_server(collector.url, "--otlp-sample", 0) as server:
        reply = server.http.get("/v1/models")
        trace = Trace()
        server.http.get("/v1/models", headers=trace.headers)
        trace.spans(server, collector, 1)
        assert not collector.trace(wait_line(server, "json", reply.headers["x-request-id"])["trace_id"])


def spans_by(server, result):
    return metric(server.metrics(), "tandem_otlp_spans_total", result=result)


def test_a_collector_with_faults(new_server):
    """Retries bring everything, once; what is refused is counted; requests notice nothing."""
    with Collector() as collector, new_server(collector.url) as server:
        collector.statuses, collector.headers = [503, 429], {"Retry-After": "0"}
        trace = Trace()
        server.post(CHAT, body("KEY-PLAIN"), headers=trace.headers)
        trace.spans(server, collector, 4)
        assert len(collector.requests) == 3
        server.wait_for(lambda: spans_by(server, "exported") == 4, "the count")
        collector.statuses = [400]
        refused = Trace()
        server.post(CHAT, body("KEY-PLAIN"), headers=refused.headers)
        server.wait_for(lambda: spans_by(server, "failed") == 4, "the count")
        assert not collector.trace(refused.id) and len(lines(server, "json", "spans are not accepted by the collector")) >= 1
        collector.delay_s = 30  # as good as dead
        before = len(collector.requests)
        server.post(CHAT, body("KEY-PLAIN"))
        server.wait_for(lambda: len(collector.requests) > before, "a request that hangs")
        began = time.monotonic()
        for _ in range(10):
            server.post(CHAT, body("KEY-PLAIN", max_tokens=1))
        assert time.monotonic() - began < 20
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 15  # two seconds of it for the spans
        assert lines(server, "json", "spans were not sent before the end")


def test_a_collector_that_is_not_there(new_server):
    with new_server("http://127.0.0.1:9") as server:
        for _ in range(3):
            assert server.post(CHAT, body("KEY-PLAIN", max_tokens=1)).status_code == 200
        assert metric(server.metrics(), "tandem_otlp_spans_queued") > 0
        server.wait_for(lambda: lines(server, "json", "spans are not accepted by the collector"), "a warning")
        assert server.stop() == 0


def test_the_last_spans_are_sent(new_server):
    """A request that ends just before the server does."""
    with Collector() as collector:
        with new_server(collector.url) as server:
            trace = Trace()
            server.post(CHAT, body("KEY-PLAIN", max_tokens=1), headers=trace.headers)
            assert server.stop() == 0
        assert len(collector.trace(trace.id)) == 4


@pytest.mark.parametrize("url, says", [("127.0.0.1:4318", "http://"), ("http://me:word@127.0.0.1", "user name")])
def test_bad_endpoints(tiny_path, url, says):
    with failing_server(tiny_path, "--otlp-endpoint", url) as (status, text):
        assert status == 2 and "--otlp-endpoint" in text and says in text and "word" not in text.replace("password", "")
