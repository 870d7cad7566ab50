"""Health, status and metrics: what they count is exact for requests that are known."""
import contextlib
import re
import subprocess
import threading
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from harness import BACKEND, ROOT, TANDEM, LoadingServer, Server, buckets, chunks, metric, parse_metrics

HISTOGRAMS = ["tandem_time_to_first_token_seconds", "tandem_inter_token_seconds", "tandem_request_seconds",
              "tandem_prefill_seconds", "tandem_decode_seconds", "tandem_request_prompt_tokens",
              "tandem_request_generated_tokens", "tandem_rows_per_step", "tandem_sampled_rows_per_step",
              "vllm:time_to_first_token_seconds", "vllm:inter_token_latency_seconds", "vllm:e2e_request_latency_seconds",
              "vllm:request_prompt_tokens", "vllm:request_generation_tokens", "vllm:request_params_n",
              "vllm:request_params_max_tokens", "vllm:request_prefill_time_seconds", "vllm:request_decode_time_seconds",
              "vllm:request_inference_time_seconds", "vllm:request_time_per_output_token_seconds",
              "vllm:iteration_tokens_total"]

# What dashboards and gateways made for vLLM's engine look for: name as its own exporter writes it, and kind.
VLLM = {
    "vllm:num_requests_running": "gauge", "vllm:num_requests_waiting": "gauge", "vllm:kv_cache_usage_perc": "gauge",
    "vllm:prefix_cache_queries_total": "counter", "vllm:prefix_cache_hits_total": "counter",
    "vllm:num_preemptions_total": "counter", "vllm:prompt_tokens_total": "counter",
    "vllm:prompt_tokens_cached_total": "counter", "vllm:prompt_tokens_by_source_total": "counter",
    "vllm:generation_tokens_total": "counter", "vllm:request_success_total": "counter",
    "vllm:iteration_tokens_total": "histogram", "vllm:request_prompt_tokens": "histogram",
    "vllm:request_generation_tokens": "histogram", "vllm:request_params_n": "histogram",
    "vllm:request_params_max_tokens": "histogram", "vllm:request_max_num_generation_tokens": "histogram",
    "vllm:request_prefill_kv_computed_tokens": "histogram", "vllm:time_to_first_token_seconds": "histogram",
    "vllm:inter_token_latency_seconds": "histogram", "vllm:request_time_per_output_token_seconds": "histogram",
    "vllm:e2e_request_latency_seconds": "histogram", "vllm:request_queue_time_seconds": "histogram",
    "vllm:request_inference_time_seconds": "histogram", "vllm:request_prefill_time_seconds": "histogram",
    "vllm:request_decode_time_seconds": "histogram", "vllm:cache_config_info": "gauge",
}


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


def families(server):
    """{name: family} as the official parser of the format reads them; counters under their full name."""
    read = text_string_to_metric_families(server.http.get("/metrics").text)
    return {family.name + ("_total" if family.type == "counter" else ""): family for family in read}


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


def test_the_official_parser_reads_it(server):
    server.complete("KEY-PLAIN", max_tokens=3)
    found = families(server)
    assert set(found) == {line.split(" ")[2] for line in server.http.get("/metrics").text.splitlines()
                          if line.startswith("# TYPE ")}
    for name, family in found.items():
        assert family.type in ("counter", "gauge", "histogram") and family.documentation.endswith("."), name
        assert family.samples, name
        for sample in family.samples:
            suffixes = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}[family.type]
            assert sample.name in [family.name + suffix for suffix in suffixes], f"{sample.name} under {name}"
            assert family.type == "gauge" or sample.value >= 0
            if name.startswith("vllm:"):
                assert sample.labels["model_name"] == 'na"me\\x' and sample.labels["engine"] == "0", sample
            elif "model" in sample.labels:
                assert sample.labels["model"] == 'na"me\\x'
        if family.type == "histogram":
            ends = [s.value for s in family.samples if s.labels.get("le") == "+Inf"]
            assert ends == [s.value for s in family.samples if s.name.endswith("_count")], name


def test_the_names_of_vllm(server):
    found = families(server)
    assert {name: found[name].type for name in VLLM if name in found} == VLLM
    # And what each of them says is what ours says.
    values = server.metrics()
    for ours, theirs in (("tandem_prompt_tokens_total", "vllm:prompt_tokens_total"),
                         ("tandem_generated_tokens_total", "vllm:generation_tokens_total"),
                         ("tandem_requests_finished_total", "vllm:request_success_total"),
                         ("tandem_queue_seconds_count", "vllm:request_queue_time_seconds_count"),
                         ("tandem_engine_preemptions_total", "vllm:num_preemptions_total")):
        assert metric(values, ours) == metric(values, theirs)
    info = found["vllm:cache_config_info"].samples[0].labels
    assert int(info["block_size"]) == server.engine()["page_tokens"]
    assert int(info["num_gpu_blocks"]) == server.stats()["pages_total"]


def test_documented(server):
    """docs/METRICS.md names everything that a server offers, with its kind, and is what the program prints."""
    text = (ROOT / "docs" / "METRICS.md").read_text()
    assert subprocess.run([TANDEM, "docs", "metrics"], capture_output=True, text=True, check=True).stdout == text
    documented = dict(re.findall(r"^\| `([^`]+)` \| (\w+) \|", text, re.MULTILINE))
    documented = {name: kind for name, kind in documented.items()  # without keys, without MCP servers
                  if not name.startswith(("tandem_key_", "tandem_mcp_call"))}
    assert documented == {name: family.type for name, family in families(server).items()}


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
            request_id = reply.headers["x-request-id"]
            running = server.wait_for(lambda: server.model_status()["requests"], "a running request")
            assert [request["request_id"] for request in running] == [request_id]
            assert running[0]["phase"] in ("queued", "prefill", "decode", "waiting", "running"), running
            assert server.post(f"/v1/requests/{running[0]['id']}/cancel", {}).status_code == 200
            reply.read()
    assert growth("tandem_requests_finished_total", reason="error") == 1
    assert growth("tandem_requests_finished_total", reason="cancelled") == 1
    assert growth("vllm:request_success_total", finished_reason="abort") == 1


def test_choices_and_prompts(server):
    """A request is counted once; each choice has one interval less than it has tokens."""
    with counted(server) as growth:
        usage = server.complete(["KEY-CHOICES one", "KEY-CHOICES two"], n=3, max_tokens=3, ignore_eos=True)["usage"]
    assert usage["completion_tokens"] == 18
    assert growth("tandem_requests_total") == growth("tandem_time_to_first_token_seconds_count") == 1
    assert growth("tandem_queue_seconds_count") == growth("tandem_prefill_seconds_count") == 1
    assert growth("tandem_inter_token_seconds_count") == 18 - 6
    assert growth("tandem_request_generated_tokens_sum") == growth("tandem_generated_tokens_total") == 18
    assert growth("vllm:request_params_n_sum") == 3 and growth("vllm:request_params_max_tokens_sum") == 3
    assert growth("vllm:request_max_num_generation_tokens_sum") == 3


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
        server.wait_for(lambda: metric(server.metrics(), "tandem_requests", state="decode") == 1, "one that decodes")
        assert metric(server.metrics(), "vllm:num_requests_running") == 1
        assert metric(server.metrics(), "vllm:num_requests_waiting") == 0
        assert 0 < metric(server.metrics(), "vllm:kv_cache_usage_perc") < 1
    finally:
        done.set()
        thread.join()
    server.wait_idle()
    values = server.metrics()
    assert metric(values, "tandem_requests_in_progress") == metric(values, "tandem_engine_running") == 0
    assert metric(values, "tandem_model_ready") == 1
    assert metric(values, "tandem_requests") == 0 and metric(values, "vllm:kv_cache_usage_perc") == 0


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
    assert tiny.stats()["queried_tokens"] - before["queried_tokens"] == 2 * len(prompt)
    cache = tiny.model_status()["prefix_cache"]
    assert cache["hit_rate"] == pytest.approx(cache["saved_tokens"] / cache["queried_tokens"])
    values = tiny.metrics()
    assert metric(values, "vllm:prefix_cache_hits_total") == cache["saved_tokens"]
    assert metric(values, "vllm:prefix_cache_queries_total") == cache["queried_tokens"]
    assert metric(values, "vllm:prompt_tokens_by_source_total", source="local_cache_hit") == metric(
        values, "tandem_cached_prompt_tokens_total")


def counters(values, types):
    return {key: value for key, value in values.items()
            if types.get(key[0]) == "counter" or re.search("_(bucket|count|sum)$", key[0])}


def test_counters_outlive_the_engine(new_scripted):
    """kill -9 of the engine: no counter ever goes back, and the next engine's counts are added."""
    with new_scripted() as server:
        server.complete("KEY-PLAIN", max_tokens=20)
        server.wait_idle()
        text = server.http.get("/metrics").text
        types = dict(line.split(" ")[2:4] for line in text.splitlines() if line.startswith("# TYPE "))
        before = counters(parse_metrics(text), types)
        assert metric(server.metrics(), "tandem_engine_generated_tokens_total") == 20
        server.kill_engine()
        lost = counters(server.metrics(), types)
        assert not [key for key in before if lost[key] < before[key]]
        assert metric(server.metrics(), "tandem_engine_restarts_total") == 1
        server.complete("KEY-PLAIN", max_tokens=20)
        server.wait_idle()
        after = counters(server.metrics(), types)
        assert not [key for key in lost if after[key] < lost[key]]
        assert metric(server.metrics(), "tandem_engine_generated_tokens_total") == 40
        assert metric(server.metrics(), "tandem_engine_steps_total") == sum(
            step["count"] for step in server.model_status()["steps"].values())
        assert server.stats()["generated_tokens"] == 20, "the engine's own"


@pytest.mark.cpu_only("the prompts are shorter than the pages of 256 tokens of the other backend")
def test_status(server):
    server.complete("KEY-PLAIN", max_tokens=5)
    server.wait_idle()
    status = server.status()
    assert status["ready"] is True and status["version"].startswith("tandem ")
    assert 0 < status["memory"]["gateway_resident"] < status["memory"]["system_total"]
    assert status["gateway_cpu_ms"] > 0 and status["preparing"] == 0
    model = status["models"][0]
    assert model["model"] == 'na"me\\x' and model["state"] == "ready" and model["failure"] is None
    assert model["engine"]["pid"] and model["engine"]["backend"].startswith(f"{BACKEND} ")
    assert model["engine"]["stats"]["pages_total"] > 0 and model["engine"]["stats_age_ms"] >= 0
    pages = model["pages"]
    assert pages["referenced"] + pages["cached"] + pages["free"] == pages["total"] > 0
    assert 0 < model["memory"]["kv_cached"] < model["memory"]["kv_pool"]
    assert model["memory"]["engine_resident"] > 0


def test_percentiles(server):
    for _ in range(3):
        server.complete("KEY-PLAIN", max_tokens=5)
    latency = server.model_status()["latency"]
    assert set(latency) == {"ttft", "inter_token", "e2e", "queue"}
    for name, spans in latency.items():
        for span in (spans["since_start"], spans["last_minute"]):
            assert 0 <= span["p50_ms"] <= span["p95_ms"] <= span["p99_ms"], name
            assert span["count"] >= 3
        assert spans["last_minute"]["count"] <= spans["since_start"]["count"]


def test_percentiles_of_nothing(new_scripted):
    with new_scripted() as server:
        latency = server.model_status()["latency"]["ttft"]
        assert latency == {"since_start": {"p50_ms": None, "p95_ms": None, "p99_ms": None, "count": 0},
                           "last_minute": {"p50_ms": None, "p95_ms": None, "p99_ms": None, "count": 0}}
        assert server.model_status()["prefix_cache"]["hit_rate"] is None
        assert server.model_status()["steps"]["decode"] == {"count": 0, "total_ms": 0.0, "mean_ms": None}


@contextlib.contextmanager
def background(server, body, path="/v1/completions"):
    """A stream that is read until the body of the with statement is over."""
    done = threading.Event()

    def read():
        with server.new_http() as http:
            for _ in server.stream(path, body, http):
                if done.is_set():
                    return
    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def only_request(server, condition=lambda request: True):
    requests = [request for request in server.model_status()["requests"] if condition(request)]
    return requests[0] if requests else None


def test_a_running_request(server):
    """Its parameters, its phase, its progress and rate while it decodes: 20 ms a token at least."""
    server.wait_idle()
    body = {"prompt": "KEY-STEADY", "n": 2, "max_tokens": 1000, "priority": -3, "timeout": 300}
    with background(server, body):
        first = server.wait_for(lambda: only_request(server, lambda r: r["generated_tokens"] >= 4), "tokens")
        later = server.wait_for(lambda: only_request(
            server, lambda r: r["generated_tokens"] > first["generated_tokens"] + 60), "more tokens", 60)
    assert first["id"] == later["id"] and first["id"].startswith("cmpl-")
    for r in (first, later):
        assert r["phase"] == "decode" and r["stream"] is True
        assert (r["n"], r["max_tokens"], r["priority"], r["prompts"]) == (2, 1000, -3, 1)
        assert r["prefilled"] == 1.0 and r["prefilled_tokens"] == r["prompt_tokens"]
        assert r["generated_tokens_limit"] == 2000 and r["preemptions"] == 0
        assert 0 < r["deadline_ms"] <= 300000
        times = [r[name] for name in ("prepare_ms", "queue_ms", "prefill_ms", "decode_ms", "ttft_ms", "age_ms")]
        assert all(t >= 0 for t in times)
        assert r["prepare_ms"] + r["queue_ms"] + r["prefill_ms"] == pytest.approx(r["ttft_ms"], abs=0.01)
        assert r["ttft_ms"] + r["decode_ms"] <= r["age_ms"] + 0.01
        assert r["decode_ms"] >= 20 * (r["generated_tokens"] / 2 - 2)
    assert later["deadline_ms"] < first["deadline_ms"] and later["age_ms"] > first["age_ms"]
    assert 0 < later["generated_tokens_per_second"] <= 105


def test_queued_and_prefilling_requests(tiny_path):
    """One sequence at a time, and prompts in pieces: the second waits, the first is seen on its way."""
    with Server(tiny_path, "--threads", 1, "--kv-memory", "64M", "--max-sequences", 1, "--prefill-chunk", 1) as server:
        prompt = server.tokens("Words that are read one by one. " * 400)[:3000]
        with background(server, {"prompt": prompt, "max_tokens": 500, "ignore_eos": True}):
            seen = server.wait_for(lambda: only_request(server, lambda r: 0 < r["prefilled"] < 1), "a prompt in pieces")
            assert seen["phase"] == "prefill" and seen["decode_ms"] is None and seen["ttft_ms"] is None
            assert seen["generated_tokens"] == 0 and seen["prompt_tokens_per_second"] > 0
            assert seen["deadline_ms"] is None
            with background(server, {"prompt": prompt[:20], "max_tokens": 2, "ignore_eos": True}):
                waiting = server.wait_for(lambda: only_request(server, lambda r: r["prompt_tokens"] == 20), "a second request")
                assert waiting["phase"] == "queued" and waiting["prefill_ms"] is None
                assert metric(server.metrics(), "tandem_requests", state="queued") == 1
                assert metric(server.metrics(), "vllm:num_requests_waiting") == 1
                time.sleep(0.05)
                again = only_request(server, lambda r: r["prompt_tokens"] == 20)
                assert again["queue_ms"] >= waiting["queue_ms"] + 50


def test_preempted_requests_are_told(tiny_path):
    """Six long answers, pages for four of them: they take turns, and say so."""
    with Server(tiny_path, "--threads", 1, "--kv-memory", "2M", "--max-context", 2048, "--prefix-cache", "off",
                "--reserve-output", "off") as server:
        body = {"prompt": "A story", "max_tokens": 2000, "ignore_eos": True, "temperature": 0}
        with contextlib.ExitStack() as running:
            for _ in range(6):
                running.enter_context(background(server, body))
            told = server.wait_for(lambda: only_request(server, lambda r: r["preemptions"] > 0), "a preemption", 60)
            assert told["phase"] in ("preempted", "decode", "ended")
        server.wait_idle(60)
        assert server.stats()["preemptions"] > 0
        assert metric(server.metrics(), "vllm:num_preemptions_total") == server.stats()["preemptions"]


# ---- the prefix cache forgets ----

def cached_tokens(server, prompt):
    return server.complete(prompt, max_tokens=1)["usage"]["prompt_tokens_details"]["cached_tokens"]


@pytest.mark.cpu_only("the prompts are shorter than the pages of 256 tokens of the other backend")
@pytest.mark.parametrize("query", ["", "?model=default", "?model=tiny"])
def test_clearing_the_cache(tiny, query):
    prompt = tiny.tokens(f"Something to be forgotten {query}. " * 20)
    cached_tokens(tiny, prompt)
    assert cached_tokens(tiny, prompt) > 0
    tiny.wait_idle()
    held = tiny.model_status()["pages"]["cached"]
    assert held > 0
    reply = tiny.http.delete(f"/v1/cache{query}")
    assert reply.status_code == 200
    assert reply.json()["object"] == "list" and len(reply.json()["data"]) == 1
    said = reply.json()["data"][0]
    assert said.pop("pages_age_ms") >= 0
    assert said == {"model": "tiny", "state": "ready", "cleared": True, "pages": held}
    assert cached_tokens(tiny, prompt) == 0, "a request after the answer finds nothing"


def test_clearing_leaves_what_runs(server):
    with background(server, {"prompt": "KEY-STEADY", "max_tokens": 4000}):
        server.wait_for(lambda: server.stats()["pages_referenced"] > 0, "a running request")
        assert server.http.delete("/v1/cache").status_code == 200
        n = only_request(server)["generated_tokens"]
        server.wait_for(lambda: only_request(server)["generated_tokens"] > n + 5, "it goes on")
        server.wait_for(lambda: server.stats()["pages_cached"] == 0, "an empty cache")
        assert server.stats()["pages_referenced"] > 0


def test_clearing_while_no_engine_is_ready(smollm_path):
    """There is no cache, and the answer says so."""
    with LoadingServer(smollm_path, "--threads", 1, "--kv-memory", "64M", "--max-context", 512) as server:
        said = server.http.delete("/v1/cache").json()["data"][0]
        if said["state"] == "ready":
            pytest.skip("skip: the model was loaded at once")
        assert said["state"] == "loading" and said["cleared"] is False
        assert said["pages"] == 0 and said["pages_age_ms"] is None


@pytest.mark.parametrize("query,status,param", [("?model=nobody", 404, "model"), ("?model=", 200, None),
                                                ("?modl=tiny", 400, "query"), ("?model=a&all=1", 400, "query")])
def test_clearing_what_is_not_there(tiny, query, status, param):
    reply = tiny.http.delete(f"/v1/cache{query}")
    assert reply.status_code == status, reply.text
    if status != 200:
        assert reply.json()["error"]["param"] == param


def test_health_and_ready(server):
    assert server.http.get("/health").json()["status"] == "ok"
    assert server.http.get("/ready").status_code == 200
