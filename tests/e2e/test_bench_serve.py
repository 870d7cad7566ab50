"""`tandem bench-serve` against `tandem serve` with scripted answers, and against a server that misbehaves."""
import csv
import json
import os
import re
import signal
import subprocess
import time

import pytest

from fake_openai import EVIL, FakeOpenAI
from harness import PATIENCE, TANDEM, metric
from script_rules import PLAIN

USAGE, KEY, NO_SUCH, NOT_THERE, FAILURES, INTERRUPTED = 2, 77, 66, 69, 1, 130


def clean_environment(env=None):
    kept = {k: v for k, v in os.environ.items() if not k.startswith("TANDEM_") and k != "OPENAI_API_KEY"}
    return {**kept, **(env or {})}


def bench(*arguments, env=None, timeout=120):
    return subprocess.run([str(TANDEM), "bench-serve", *map(str, arguments)], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, env=clean_environment(env), timeout=timeout * PATIENCE)


class Report:
    """A run that has to end with this status, and what it wrote."""

    def __init__(self, folder, *arguments, status=0, **options):
        self.files = {kind: folder / f"report.{kind}" for kind in ("json", "csv", "html")}
        written = [word for kind, path in self.files.items() for word in (f"--{kind}", path)]
        self.done = bench(*arguments, *written, "--details", **options)
        assert self.done.returncode == status, f"{self.done.returncode}: {self.done.stdout}{self.done.stderr}"
        self.text = self.done.stdout
        self.json = json.loads(self.files["json"].read_text())
        self.html = self.files["html"].read_text()

    def run(self, point=0, target=0, repeat=0):
        return self.json["points"][point]["targets"][target]["runs"][repeat]

    def requests(self, **place):
        return self.run(**place)["requests"]

    def figures(self, **place):
        return self.run(**place)["figures"]


def workload(folder, *lines):
    path = folder / "workload.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines) + "\n")
    return path


def user(content, **fields):
    return {"messages": [{"role": "user", "content": content}], **fields}


# ---- against tandem ----

def test_a_sweep(scripted, tmp_path):
    before = scripted.metrics()
    report = Report(tmp_path, f"one={scripted.url}", "--prompt-set", "short", "--concurrency", "1,4", "--requests", 6,
                    "--repeat", 2, "--max-tokens", 8, "--slo", "e2e=600000")
    after = scripted.metrics()
    runs = [report.run(point=p, repeat=r) for p in (0, 1) for r in (0, 1)]
    requests = [request for run in runs for request in run["requests"]]
    assert len(requests) == 24
    for request in requests:
        assert request["outcome"] == "ok" and request["usage"] and request["prompt_tokens"] > 10
        assert 0 < request["ttft_ms"] <= request["e2e_ms"]
        assert len(request["itl_ms"]) < request["completion_tokens"] <= 8
    for run in runs:
        figures = run["figures"]
        assert (figures["completed"], figures["failed"], figures["good_share"]) == (6, 0, 1)
        assert figures["counted_share"] == 0
        tokens = sum(request["completion_tokens"] for request in run["requests"])
        assert figures["output_tokens_per_s"] == pytest.approx(tokens / figures["duration_s"])
        assert figures["ttft_ms"]["min"] <= figures["ttft_ms"]["p50"] <= figures["ttft_ms"]["p99"] <= figures["ttft_ms"]["max"]
    assert report.figures(point=0)["peak_in_flight"] == 1 and report.figures(point=1)["peak_in_flight"] == 4
    counted = {name: metric(after, name) - metric(before, name)
               for name in ("tandem_requests_total", "tandem_generated_tokens_total")}
    assert counted["tandem_requests_total"] == 26, "the probe, one to warm up, and 24"
    assert counted["tandem_generated_tokens_total"] == 26 / 24 * sum(request["completion_tokens"] for request in requests)
    rows = list(csv.DictReader(report.files["csv"].open()))
    assert [(row["load"], row["target"], row["repeat"], row["completed"]) for row in rows] == [
        ("1", "one", "1", "6"), ("1", "one", "2", "6"), ("4", "one", "1", "6"), ("4", "one", "2", "6")]
    assert "medians of 2 runs" in report.text and re.search(r"^4 +one ", report.text, re.MULTILINE)
    assert report.json["targets"][0]["system_fingerprint"].startswith("fp_")
    assert "Output throughput" in report.html


def test_no_prompt_comes_twice(scripted, tmp_path):
    """A prefix cache must not make a later run look better than an earlier one."""
    with FakeOpenAI() as fake:
        Report(tmp_path, fake.url, "--prompt-set", "chat", "--concurrency", "1,2", "--requests", 5, "--repeat", 2, "--warmup", 3)
        prompts = [r["body"]["messages"] for r in fake.requests if r["method"] == "POST"]
    assert len(prompts) == 1 + 3 + 20
    assert len({json.dumps(prompt) for prompt in prompts}) == len(prompts)


def test_the_seed_makes_the_prompts(tmp_path):
    def bodies(*options):
        with FakeOpenAI() as fake:
            Report(tmp_path, fake.url, "--prompt-set", "code", "--concurrency", 1, "--requests", 3, *options)
            return [r["body"] for r in fake.requests if r["method"] == "POST"]
    assert bodies("--seed", 5) == bodies("--seed", 5) != bodies("--seed", 6)
    assert bodies() != bodies()


def test_a_workload_with_checks(scripted, tmp_path):
    path = workload(tmp_path, user("KEY-PLAIN", check={"equals": PLAIN, "finish_reason": "stop"}),
                    user("KEY-PLAIN", max_tokens=3, check={"finish_reason": "length", "not_contains": "lazy"}),
                    user("KEY-PLAIN", check={"regex": "^The .*fox", "contains": ["quick", "line."]}),
                    user("KEY-PLAIN", check={"json": True}),
                    {"prompt": "KEY-PLAIN", "check": {"contains": "purple"}})
    report = Report(tmp_path, scripted.url, "--workload", path, "--concurrency", 2, "--requests", 10, status=FAILURES)
    assert report.figures()["checks_passed"] == 6 and report.figures()["checks_failed"] == 4
    assert [r["check"] for r in report.requests()] == ["passed", "passed", "passed", "failed", "failed"] * 2
    assert "line 5: the answer does not contain 'purple'. It is: The quick brown" in report.text
    assert "the answer does not contain &#39;purple&#39;" in report.html
    assert " 6/10" in report.text


def test_times_are_those_of_the_tokens(scripted, tmp_path):
    """The script takes 20 ms for each token, the first one too."""
    path = workload(tmp_path, user("KEY-STEADY", max_tokens=20))
    report = Report(tmp_path, scripted.url, "--workload", path, "--concurrency", 1, "--requests", 3)
    for request in report.requests():
        assert request["completion_tokens"] == 20
        assert len(request["itl_ms"]) <= 19, "tokens that wait together for the socket share an event"
        assert request["ttft_ms"] >= 19 and request["e2e_ms"] >= 20 * 19
        assert sum(request["itl_ms"]) <= request["e2e_ms"] - request["ttft_ms"] + 0.001
        assert request["tpot_ms"] == pytest.approx((request["e2e_ms"] - request["ttft_ms"]) / 19)


def test_without_streams(scripted, tmp_path):
    report = Report(tmp_path, scripted.url, "--no-stream", "--concurrency", 2, "--requests", 4, "--prompt-set", "short",
                    "--slo", "e2e=600000")
    figures = report.figures()
    assert figures["completed"] == 4 and figures["ttft_ms"]["p50"] is None and figures["itl_ms"]["p50"] is None
    assert figures["e2e_ms"]["p50"] > 0 and figures["output_tokens_per_s"] > 0
    assert "TTFT" not in report.text and "E2E" in report.text


def test_completions(scripted, tmp_path):
    report = Report(tmp_path, f"{scripted.url}/v1/", "--api", "completions", "--prompt-set", "long", "--prompt-tokens", 300,
                    "--concurrency", 2, "--requests", 4, "--max-tokens", 5)
    assert report.figures()["completed"] == 4 and report.json["targets"][0]["url"].endswith("/v1/completions")
    assert all(250 < request["prompt_tokens"] < 500 for request in report.requests())


def test_cached_tokens(scripted, tmp_path):
    report = Report(tmp_path, scripted.url, "--prompt-set", "shared-prefix", "--prompt-tokens", 400, "--concurrency", 1,
                    "--requests", 4, "--max-tokens", 4)
    assert report.figures()["cached_share"] > 0.5
    assert all(request["cached_tokens"] > 200 for request in report.requests())


def test_a_poisson_run(scripted, tmp_path):
    report = Report(tmp_path, scripted.url, "--rate", "40,80", "--requests", 20, "--prompt-set", "short", "--max-tokens", 2,
                    "--seed", 3)
    for point, rate in enumerate((40, 80)):
        sent = [request["sent_ms"] for request in report.requests(point=point)]
        assert sent == sorted(sent) and len(sent) == 20
        assert sent[-1] >= 20 / rate * 1000 - 0.01  # the last one leaves at n / rate, or later on a slow machine
    assert [p["mode"] for p in report.json["points"]] == ["rate", "rate"]


def test_a_replay(scripted, tmp_path):
    path = workload(tmp_path, *(user("KEY-PLAIN", at_ms=t) for t in (0, 40, 40, 120)))
    report = Report(tmp_path, scripted.url, "--workload", path)
    assert [p["mode"] for p in report.json["points"]] == ["replay"]
    sent = [request["sent_ms"] for request in report.requests()]
    assert len(sent) == 4 and all(s >= t for s, t in zip(sent, (0, 40, 40, 120)))


def test_a_duration(scripted, tmp_path):
    report = Report(tmp_path, scripted.url, "--duration", 0.5, "--concurrency", 3, "--prompt-set", "short", "--max-tokens", 2)
    assert len(report.requests()) >= 3 and report.figures()["duration_s"] > 0.4


def test_a_model_that_is_not_there():
    with FakeOpenAI(models=("a", "b")) as fake:
        done = bench(f"x={fake.url}#c")
        assert done.returncode == NO_SUCH and done.stdout == ""
        assert "target 'x': a first request is answered with HTTP status 404: The model `c` does not exist." in done.stderr
        assert len(fake.requests) == 1


def test_the_first_model_is_taken(tmp_path):
    with FakeOpenAI(models=("a", "b")) as fake:
        report = Report(tmp_path, fake.url, f"two={fake.url}#b", "--concurrency", 1, "--requests", 2, "--prompt-set", "short")
        assert [t["model"] for t in report.json["targets"]] == ["a", "b"]
        assert [r["body"]["model"] for r in fake.requests if r["body"]] == ["a", "a", "b", "b", "a", "a", "b", "b"]
    with FakeOpenAI(models=()) as fake:
        done = bench(fake.url)
        assert done.returncode == NO_SUCH and "names no model" in done.stderr


# ---- comparing ----

def test_targets_take_turns(tmp_path):
    with FakeOpenAI(tokens=6) as one, FakeOpenAI(tokens=3) as other:
        report = Report(tmp_path, f"one={one.url}", f"other={other.url}", "--concurrency", "1,3", "--requests", 4,
                        "--repeat", 2, "--prompt-set", "short")
        bodies = [sorted(json.dumps(r["body"]) for r in fake.requests if r["body"]) for fake in (one, other)]
        assert bodies[0] == bodies[1], "both get the same requests"
    order = re.findall(r"^\[\d+/8\] (concurrency \d), (\w+)", report.done.stderr, re.MULTILINE)
    assert order == [(f"concurrency {c}", who) for c in (1, 3) for _ in (1, 2) for who in ("one", "other")]
    ratio = report.json["points"][0]["targets"][1]["ratio_to_first"]
    assert ratio["output_tokens_mean"] == 0.5
    assert "ratio_to_first" not in report.json["points"][0]["targets"][0]
    assert ": first" in report.text and "&times; the first" in report.html


# ---- servers that misbehave ----

FAILING = [("FAKE-500", "HTTP status", 500, r"Internal .*trouble\."), ("FAKE-429", "HTTP status", 429, "Slow down."),
           ("FAKE-HTML", "HTTP status", 502, "Bad Gateway"), ("FAKE-CUT", "answer cut off", 200, "without a finish reason"),
           ("FAKE-BREAK", "broken connection", 200, "within the reply"), ("FAKE-ERROR", "error in the stream", 200, "engine lost"),
           ("FAKE-GARBAGE", "reply not understood", 200, "JSON"), ("FAKE-HANG", "time-out", 0, "no whole reply in time"),
           ("FAKE-CLOSE", "broken connection", 0, "without a reply"), ("FAKE-WHOLE", "reply not understood", 200, "no stream")]


def test_every_failure_is_told_apart(tmp_path):
    """The first line is fine, for the probe and the warm-up; each other fails in its way and spoils no figure."""
    lines = [user("fine")] + [user(word) for word, *_ in FAILING] + [user("fine"), user("FAKE-NO-USAGE"), user("FAKE-NO-DONE"),
                                                                     user("FAKE-EMPTY"), user("FAKE-CRLF")]
    with FakeOpenAI() as fake:
        report = Report(tmp_path, fake.url, "--workload", workload(tmp_path, *lines), "--concurrency", 3, "--requests",
                        len(lines), "--timeout", 5, status=FAILURES)
    requests = report.requests()
    failures = report.run()["failures"]
    for (word, kind, status, message), request in zip(FAILING, requests[1:]):
        assert request["outcome"] == kind and request["e2e_ms"] is None, word
        assert any(f["kind"] == kind and f["status"] == status and re.search(message, f["message"]) for f in failures), word
        assert re.search(rf"1 x {kind}.*{message}", report.text), word
    assert [request["outcome"] for request in requests[len(FAILING) + 1:]] == ["ok"] * 5
    figures = report.figures()
    assert (figures["completed"], figures["failed"]) == (6, len(FAILING))
    assert figures["counted_share"] == pytest.approx(1 / 6)
    assert "token events" in report.text  # says that some tokens are counted
    for shown in (report.text, report.done.stderr):
        assert "\x1b" not in shown and "\x9b" not in shown, "a server's control characters do not reach the terminal"
    assert "<script" not in report.html and "&lt;script&gt;" in report.html


@pytest.mark.parametrize(("word", "status", "message"), [
    ("FAKE-CUT", 76, "answer cut off"), ("FAKE-500", 76, "HTTP status 500"), ("FAKE-429", 75, "Slow down."),
    ("FAKE-WHOLE", 76, "--no-stream")])
def test_a_target_that_fails_at_once(tmp_path, word, status, message):
    with FakeOpenAI() as fake:
        done = bench(fake.url, "--workload", workload(tmp_path, user(word)))
        assert done.returncode == status and message in done.stderr and done.stdout == ""
        assert len(fake.requests) == 2


def test_a_target_that_is_not_there():
    with FakeOpenAI() as fake:
        port = fake.port
    done = bench(f"127.0.0.1:{port}")
    assert done.returncode == NOT_THERE and re.search(r"no connection \(Connection refused\)", done.stderr)


def test_a_server_that_goes_away(tmp_path):
    """The run ends instead of counting refused connections for as long as it was to last."""
    with FakeOpenAI(delay_s=0.02) as fake:
        process = start(f"x={fake.url}", "--concurrency", 2, "--duration", 600, "--warmup", 0, "--prompt-set", "short")
        wait_until(lambda: len(fake.requests) > 8)
    out, _ = process.communicate(timeout=60 * PATIENCE)
    assert process.returncode == FAILURES
    assert "ended early, since nobody answers any more" in out and "x no connection" in out


def test_waiting_for_a_server(tmp_path):
    with FakeOpenAI() as fake:
        port = fake.port
    process = start(f"127.0.0.1:{port}", "--wait", 60, "--concurrency", 1, "--requests", 2, "--prompt-set", "short")
    time.sleep(0.3)
    assert process.poll() is None
    with FakeOpenAI(port=port):
        out, err = process.communicate(timeout=60 * PATIENCE)
    assert process.returncode == 0, err
    assert bench(f"127.0.0.1:{port}", "--wait", 0.3).returncode == NOT_THERE
    process = start(f"127.0.0.1:{port}", "--wait", 60)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    assert process.wait(30 * PATIENCE) == INTERRUPTED


def test_many_streams(tmp_path):
    with FakeOpenAI(tokens=20, delay_s=0.01) as fake:
        report = Report(tmp_path, fake.url, "--concurrency", 300, "--requests", 600, "--prompt-set", "short")
    assert report.figures()["completed"] == 600 and report.figures()["peak_in_flight"] == 300


# ---- Ctrl-C ----

def start(*arguments, env=None):
    return subprocess.Popen([str(TANDEM), "bench-serve", *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            stdin=subprocess.DEVNULL, text=True, env=clean_environment(env))


def wait_until(condition, timeout=30):
    deadline = time.monotonic() + timeout * PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(scripted, tmp_path, number):
    """What was measured is reported, what was in flight is cancelled at the server."""
    path = workload(tmp_path, user("KEY-PLAIN"), user("KEY-PLAIN"), user("KEY-SLOW", max_tokens=3000))
    process = start(scripted.url, "--workload", path, "--concurrency", "1,2", "--requests", 3, "--warmup", 0, "--json",
                    tmp_path / "report.json", "--details")
    wait_until(lambda: any(request["generated_tokens"] > 100 for request in scripted.model_status()["requests"]))
    process.send_signal(number)
    out, _ = process.communicate(timeout=60 * PATIENCE)
    assert process.returncode == INTERRUPTED
    assert "Interrupted: the last run is not complete." in out
    report = json.loads((tmp_path / "report.json").read_text())
    first = report["points"][0]["targets"][0]["runs"][0]
    assert report["interrupted"] and first["interrupted"]
    assert (first["figures"]["completed"], first["figures"]["failed"]) == (2, 0)
    assert report["points"][1]["targets"][0]["runs"] == []
    scripted.wait_idle()


def test_interrupted_while_it_asks(tmp_path):
    with FakeOpenAI() as fake:
        process = start(fake.url, "--workload", workload(tmp_path, user("FAKE-HANG")))
        wait_until(lambda: len(fake.requests) == 2)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=30 * PATIENCE)
        assert process.returncode == INTERRUPTED and out == ""


# ---- keys and TLS ----

def test_keys(tmp_path):
    key = "sk-very-secret"
    with FakeOpenAI(key=key) as fake:
        done = bench(fake.url)
        assert done.returncode == KEY and "HTTP status 401: Incorrect API key provided." in done.stderr
        options = (f"a={fake.url}", "--concurrency", 1, "--requests", 1, "--prompt-set", "short")
        for env, extra in (({"OPENAI_API_KEY": key}, ()), ({"TANDEM_BENCH_API_KEY": key, "OPENAI_API_KEY": "other"}, ()),
                           ({"MINE": key}, ("--api-key-env", "MINE")), ({"MINE": key}, ("--api-key-env", "a=MINE"))):
            report = Report(tmp_path, *options, *extra, env=env)
            for text in (report.text, report.done.stderr, report.html, json.dumps(report.json)):
                assert key not in text


def test_tls(tmp_path):
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-days",
                           "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"], capture_output=True)
    if made.returncode:
        pytest.skip("skip: openssl cannot make a certificate")
    with FakeOpenAI(certificate=(certificate, key)) as fake:
        done = bench(fake.url)
        assert done.returncode == KEY and "its certificate is not trusted" in done.stderr
        options = ("--ca-file", certificate, "--concurrency", 2, "--requests", 4, "--prompt-set", "short")
        report = Report(tmp_path, fake.url, *options)
        assert report.figures()["completed"] == 4
        done = bench(fake.url.replace("localhost", "127.0.0.1"), *options)
        assert done.returncode == KEY, "the certificate is not for that name"


# ---- options ----

def test_wrong_usage(tmp_path):
    for message, *arguments in (
            (r"needs what to measure",), (r"--concurrency and --rate exclude", "x", "--rate", "1", "--concurrency", "1"),
            (r"--concurrency: expected whole numbers.*'x'", "x", "--concurrency", "x"), (r"--slo", "x", "--slo", "ttft"),
            (r"--api: 'responses'", "x", "--api", "responses"), (r"--repeat: expected.*from 1 to", "x", "--repeat", "0"),
            (r"--body", "x", "--body", "[]"), (r"unknown option '--threads'", "x", "--threads", "1"),
            (r"two targets have the label 'a'", "a=x", "a=y"), (r"without streams only e2e", "x", "--no-stream", "--slo", "ttft=1")):
        done = bench(*arguments)
        assert done.returncode == USAGE and re.search(message, done.stderr), done.stderr
    done = bench("x", "--html", tmp_path / "no" / "report.html")
    assert done.returncode == NO_SUCH and "there is no folder" in done.stderr
    (tmp_path / "bad.jsonl").write_text('{"prompt": "a"}\n{"prompt": 5}\n')
    done = bench("x", "--workload", tmp_path / "bad.jsonl")
    assert done.returncode == USAGE and re.search(r"bad\.jsonl.*line 2: 'prompt'", done.stderr)


def test_options_from_elsewhere(tmp_path):
    with FakeOpenAI() as fake:
        config = tmp_path / "config.json"
        config.write_text(json.dumps({"target": [f"from-file={fake.url}"], "concurrency": "2", "requests": 3,
                                      "prompt-set": "short", "body": "{\"temperature\": 0}", "port": 1}))
        report = Report(tmp_path, "--config", config, "--max-tokens", 2, env={"TANDEM_REQUESTS": "4"})
        assert report.json["targets"][0]["label"] == "from-file"
        assert report.json["points"][0]["load"] == 2 and report.figures()["completed"] == 4
        assert all(r["body"]["temperature"] == 0 and r["body"]["max_tokens"] == 2 for r in fake.requests if r["body"])


def test_quiet_and_lines():
    with FakeOpenAI() as fake:
        options = (fake.url, "--concurrency", 1, "--requests", 2, "--prompt-set", "short")
        assert bench(*options, "--quiet").stderr == ""
        lines = bench(*options).stderr.splitlines()
        assert len(lines) == 1 and re.match(r"\[1/1\] concurrency 1, 127\.0\.0\.1:\d+: 2 requests in ", lines[0])


def test_reports_on_standard_output():
    with FakeOpenAI() as fake:
        options = (fake.url, "--concurrency", 1, "--requests", 2, "--prompt-set", "short", "--quiet")
        done = bench(*options, "--json", "-")
        assert json.loads(done.stdout)["points"][0]["load"] == 1 and "requests/s" in done.stderr
        assert bench(*options, "--csv", "-").stdout.startswith("mode,load,")


def test_what_is_sent(tmp_path):
    with FakeOpenAI() as fake:
        path = workload(tmp_path, user("hello"))
        assert bench(fake.url, "--workload", path, "--concurrency", 1, "--requests", 1, "--warmup", 0, "--ignore-eos",
                     "--max-tokens", 7).returncode == 0
        request = fake.requests[-1]
    assert request["path"] == "/v1/chat/completions" and request["headers"]["content-type"] == "application/json"
    assert request["headers"]["user-agent"].startswith("tandem-bench-serve/") and "authorization" not in request["headers"]
    assert request["body"] == {"model": "fake-model", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 7,
                               "ignore_eos": True, "stream": True, "stream_options": {"include_usage": True}}


def test_hostile_labels_and_answers(tmp_path):
    path = workload(tmp_path, user("FAKE-EVIL", check={"equals": "calm"}))
    with FakeOpenAI(models=(EVIL,)) as fake:
        report = Report(tmp_path, f"a <b>={fake.url}", "--workload", path, "--concurrency", 1, "--requests", 1,
                        status=FAILURES)
    assert "<script" not in report.html and "a &lt;b&gt;" in report.html
    assert "\x1b" not in report.text and "\x9b" not in report.text
