"""Health, status and metrics: what they count is exact for requests that are known."""
import contextlib
import threading

import pytest

from harness import BACKEND, Server, buckets, chunks, metric

HISTOGRAMS = ["tandem_time_to_first_token_seconds", "tandem_inter_token_seconds", "tandem_request_seconds",
              "tandem_rows_per_step", "tandem_sampled_rows_per_step"]


@pytest.fixture(scope="module")
def server(tiny_path, script_path):
    with Server(tiny_path, "--threads", 1, "--kv-memory", "64M", "--script", script_path,
                "--served-model-name", 'na"me\\x') as server:
        yield server


@contextlib.contextmanager
def counted(server):
    """Yields a function of the growth of a metric during the body."""
    server.wait_idle()
    before, after = server.metrics(), {}
    yield lambda name, **labels: metric(after, name, **labels) - metric(before, name, **labels)
    server.wait_idle()
    after.update(server.metrics())


def test_text_format(server):
    reply = server.http.get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    values = server.metrics()  # strict: HELP and TYPE once, no sample twice
    assert any(("model", 'na\\"me\\\\x') in labels for _, labels in values), "labels are escaped"
    helped = {line.split(" ")[2] for line in reply.text.splitlines() if line.startswith("# HELP ")}
    typed = {line.split(" ")[2] for line in reply.text.splitlines() if line.startswith("# TYPE ")}
    assert helped == typed
    counters = [line.split(" ")[2] for line in reply.text.splitlines() if line.endswith(" counter")]
    assert counters and all(name.endswith("_total") for name in counters)


@pytest.mark.parametrize("name", HISTOGRAMS)
def test_histograms(server, name):
    server.complete("KEY-PLAIN", max_tokens=20)
    values = server.metrics()
    counts = buckets(values, name)
    assert counts[-1][0] == float("inf")
    assert [n for _, n in counts] == sorted(n for _, n in counts)
    assert counts[-1][1] == metric(values, f"{name}_count") > 0
    assert metric(values, f"{name}_sum") > 0


def test_counts_of_known_requests(server):
    with counted(server) as growth:
        usages = [server.complete("KEY-PLAIN", max_tokens=5)["usage"], server.chat("KEY-PLAIN", max_tokens=400)["usage"]]
        stream = chunks(server.stream("/v1/completions", {"prompt": "KEY-PLAIN", "max_tokens": 7,
                                                          "stream_options": {"include_usage": True}}))
        usages.append(stream[-1]["usage"])
        server.post("/v1/completions", {"prompt": "KEY-PLAIN", "temperature": -1})
    assert growth("tandem_requests_total") == 3, "a refused one is not counted as accepted"
    assert growth("tandem_prompt_tokens_total") == sum(usage["prompt_tokens"] for usage in usages)
    assert growth("tandem_generated_tokens_total") == sum(usage["completion_tokens"] for usage in usages)
    assert growth("tandem_requests_finished_total", reason="length") == 2
    assert growth("tandem_requests_finished_total", reason="stop") == 1
    assert growth("tandem_time_to_first_token_seconds_count") == 3
    assert growth("tandem_request_seconds_count") == 3
    assert growth("tandem_inter_token_seconds_count") == sum(usage["completion_tokens"] - 1 for usage in usages)
    assert growth("tandem_http_requests_total") >= 4
    assert growth("tandem_engine_jobs_finished_total") == 3


def test_errors_and_cancellations(server):
    with counted(server) as growth:
        server.post("/v1/completions", {"prompt": "KEY-FAIL", "max_tokens": 100})
        with server.http.stream("POST", "/v1/completions", json={"prompt": "KEY-SLOW", "max_tokens": 500, "stream": True}) as reply:
            public_id = reply.headers["x-request-id"]
            running = server.wait_for(lambda: server.model_status()["requests"], "a running request")
            assert [request["id"] for request in running] == [public_id]
            assert running[0]["phase"] in ("queued", "prefill", "decode", "waiting", "running"), running
            assert server.post(f"/v1/requests/{public_id}/cancel", {}).status_code == 200
            reply.read()
    assert growth("tandem_requests_finished_total", reason="error") == 1
    assert growth("tandem_requests_finished_total", reason="cancelled") == 1


def test_gauges_while_requests_run(server):
    done = threading.Event()

    def reader():
        with server.new_http() as http:
            for _ in server.stream("/v1/completions", {"prompt": "KEY-STEADY", "max_tokens": 4000}, http):
                if done.is_set():
                    return
    thread = threading.Thread(target=reader)
    thread.start()
    try:
        server.wait_for(lambda: metric(server.metrics(), "tandem_requests_in_progress") == 1, "a request in progress")
        server.wait_for(lambda: metric(server.metrics(), "tandem_engine_running") == 1, "a running sequence")
    finally:
        done.set()
        thread.join()
    server.wait_idle()
    values = server.metrics()
    assert metric(values, "tandem_requests_in_progress") == metric(values, "tandem_engine_running") == 0
    assert metric(values, "tandem_model_ready") == 1


def test_prefix_hits(tiny):
    prompt = tiny.tokens("A prefix of its own for the metrics. " * 20)
    before = tiny.stats()
    first = tiny.complete(prompt, max_tokens=1)["usage"]
    second = tiny.complete(prompt, max_tokens=1)["usage"]
    tiny.wait_idle()
    cached = [usage["prompt_tokens_details"]["cached_tokens"] for usage in (first, second)]
    assert cached[1] >= len(prompt) // tiny.engine()["page_tokens"] * tiny.engine()["page_tokens"] - tiny.engine()["page_tokens"]
    tiny.wait_for(lambda: tiny.stats()["cached_tokens"] - before["cached_tokens"] == sum(cached), "the hits in the figures")
    assert tiny.stats()["cache_hits"] - before["cache_hits"] == sum(n > 0 for n in cached)
    assert tiny.stats()["cache_queries"] - before["cache_queries"] == 2


def test_status(server):
    status = server.status()
    assert status["ready"] is True and status["version"].startswith("tandem ")
    assert 0 < status["memory"]["gateway_resident"] < status["memory"]["system_total"]
    model = status["models"][0]
    assert model["model"] == 'na"me\\x' and model["state"] == "ready" and model["failure"] is None
    assert model["engine"]["pid"] and model["engine"]["backend"].startswith(f"{BACKEND} ")
    assert model["engine"]["stats"]["pages_total"] > 0
    assert model["ttft"]["p50_ms"] <= model["ttft"]["p95_ms"] <= model["ttft"]["p99_ms"]


def test_health_and_ready(server):
    assert server.http.get("/health").json()["status"] == "ok"
    assert server.http.get("/ready").status_code == 200
