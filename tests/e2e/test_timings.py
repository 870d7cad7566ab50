"""`"timings": true`: where the time of one answer went, in every API that generates, streamed or not. A scripted token takes
at least as long as its script says, so times have lower bounds. Where the first token comes to the gateway late, the
time after it is that much shorter."""
import contextlib
import threading
import time

import pytest

from harness import LoadingServer, chunks

STEP_MS = 20  # of KEY-STEADY
CHAT, COMPLETIONS, INFILL = "/v1/chat/completions", "/v1/completions", "/infill"

COUNTS = ["cache_n", "prompt_n", "predicted_n"]
TIMES = ["prompt_ms", "predicted_ms", "prepare_ms", "queue_ms", "ttft_ms", "total_ms"]
SPEEDS = ["prompt_per_token_ms", "prompt_per_second", "predicted_per_token_ms", "predicted_per_second"]


def body_of(path, prompt, **fields):
    if path == CHAT:
        return {"messages": [{"role": "user", "content": prompt}], **fields}
    return {"prompt": prompt, **fields}


def check(timings, usage):
    """What holds of the timings of any answer that has a token."""
    assert set(timings) == {*COUNTS, *TIMES, *SPEEDS}
    assert timings["cache_n"] == usage["prompt_tokens_details"]["cached_tokens"]
    assert timings["prompt_n"] + timings["cache_n"] == usage["prompt_tokens"]
    assert timings["predicted_n"] == usage["completion_tokens"]
    assert all(timings[name] >= 0 for name in TIMES), timings
    line = timings["prepare_ms"] + timings["queue_ms"] + timings["prompt_ms"]
    assert line == pytest.approx(timings["ttft_ms"], abs=0.01), "of one prompt the phases follow each other"
    assert timings["ttft_ms"] + timings["predicted_ms"] <= timings["total_ms"] + 0.01
    assert timings["prompt_per_second"] * timings["prompt_ms"] == pytest.approx(1000 * timings["prompt_n"], rel=0.01)
    assert timings["prompt_per_token_ms"] * timings["prompt_n"] == pytest.approx(timings["prompt_ms"], rel=0.01)


def check_decode(timings, n_intervals):
    assert timings["predicted_per_token_ms"] * n_intervals == pytest.approx(timings["predicted_ms"], rel=0.01)
    assert timings["predicted_per_second"] * timings["predicted_ms"] == pytest.approx(1000 * n_intervals, rel=0.01)


def check_steady(timings, n_steps):
    """A first token that comes late takes from the time after it, but not from both together."""
    assert timings["ttft_ms"] + timings["predicted_ms"] >= n_steps * STEP_MS
    assert timings["predicted_ms"] >= 0.8 * (n_steps - 1) * STEP_MS


@pytest.fixture(params=[CHAT, COMPLETIONS])
def path(request):
    return request.param


def test_of_a_body(scripted, path):
    began = time.monotonic()
    reply = scripted.ok(path, body_of(path, "KEY-STEADY", max_tokens=6, timings=True))
    elapsed_ms = 1000 * (time.monotonic() - began)
    check(reply["timings"], reply["usage"])
    check_decode(reply["timings"], 5)
    check_steady(reply["timings"], 6)
    assert reply["timings"]["prompt_ms"] >= STEP_MS
    assert reply["timings"]["total_ms"] <= elapsed_ms


def test_of_a_stream(scripted, path):
    """In the last chunk before [DONE], and in no other."""
    for options in ({}, {"stream_options": {"include_usage": True}}):
        body = body_of(path, "KEY-STEADY", max_tokens=6, timings=True, **options)
        events = scripted.stream_all(path, body)
        assert events[-1] == ("done", None)
        *others, last = chunks(events)
        assert not any("timings" in chunk for chunk in others)
        assert last["timings"]["predicted_n"] == 6
        check_decode(last["timings"], 5)
        check_steady(last["timings"], 6)
        if options:
            assert last["choices"] == []
            check(last["timings"], last["usage"])
        else:
            assert last["choices"][0]["finish_reason"] == "length"


def test_not_unless_asked_for(scripted, path):
    assert "timings" not in scripted.ok(path, body_of(path, "KEY-PLAIN", max_tokens=3))
    assert "timings" not in scripted.ok(path, body_of(path, "KEY-PLAIN", max_tokens=3, timings=False))
    for fields in ({}, {"timings": False, "timings_per_token": False}):
        events = chunks(scripted.stream(path, body_of(path, "KEY-PLAIN", max_tokens=3, **fields)))
        assert not any("timings" in chunk for chunk in events)


def test_per_token(scripted, path):
    """llama.cpp's field: as it stands, in every chunk with text or an end; and at the end like the other."""
    body = body_of(path, "KEY-STEADY", max_tokens=5, timings_per_token=True)
    with_text = [c for c in chunks(scripted.stream(path, body)) if "timings" in c]
    seen = [c["timings"]["predicted_n"] for c in with_text]
    assert seen == sorted(seen) and seen[0] == 1 and seen[-1] == 5 and len(seen) >= 5
    times = [c["timings"]["predicted_ms"] for c in with_text]
    assert times == sorted(times) and times[0] == 0
    assert with_text[0]["timings"]["predicted_per_second"] is None, "nothing can be said of one token"
    assert "timings" in scripted.ok(path, body_of(path, "KEY-PLAIN", max_tokens=2, timings_per_token=True))


@pytest.mark.parametrize("field", ["timings", "timings_per_token"])
def test_a_wrong_type(scripted, path, field):
    reply = scripted.post(path, body_of(path, "x", **{field: "yes"}))
    assert reply.status_code == 400 and reply.json()["error"]["param"] == field


def test_one_token_has_no_speed_of_decoding(scripted):
    timings = scripted.complete("KEY-PLAIN", max_tokens=1, timings=True)["timings"]
    assert timings["predicted_n"] == 1 and timings["predicted_ms"] == 0
    assert timings["predicted_per_token_ms"] is None and timings["predicted_per_second"] is None


def test_no_token_at_all(tiny):
    reply = tiny.complete("Only scored", max_tokens=0, echo=True, logprobs=1, timings=True)
    timings = reply["timings"]
    assert timings["predicted_n"] == 0 and timings["predicted_ms"] is None and timings["ttft_ms"] is None
    assert timings["prompt_ms"] > 0 and timings["prompt_n"] == reply["usage"]["prompt_tokens"]


def test_several_choices(scripted):
    """Together: counts are sums, times are spans, and each choice's first token is no interval."""
    reply = scripted.complete("KEY-STEADY", n=3, max_tokens=4, timings=True)
    check(reply["timings"], reply["usage"])
    assert reply["timings"]["predicted_n"] == 12
    check_decode(reply["timings"], 9)
    check_steady(reply["timings"], 4)


def test_several_choices_of_a_stream(scripted):
    """In the chunk that ends the last of them."""
    body = {"prompt": "KEY-CHOICES", "n": 3, "max_tokens": 8, "timings": True}
    events = chunks(scripted.stream(COMPLETIONS, body))
    with_timings = [chunk for chunk in events if "timings" in chunk]
    assert with_timings == [events[-1]] and events[-1]["choices"][0]["finish_reason"]
    assert sum(1 for chunk in events if chunk["choices"][0]["finish_reason"]) == 3


def test_several_prompts(scripted):
    reply = scripted.complete(["KEY-STEADY one", "KEY-STEADY and two"], max_tokens=3, timings=True)
    timings, usage = reply["timings"], reply["usage"]
    assert timings["prompt_n"] + timings["cache_n"] == usage["prompt_tokens"]
    assert timings["predicted_n"] == usage["completion_tokens"] == 6
    check_decode(timings, 4)
    assert timings["prompt_ms"] >= 20


def test_best_of_counts_what_it_made(scripted):
    reply = scripted.complete("KEY-CHOICES", best_of=3, n=1, max_tokens=3, timings=True)
    assert reply["timings"]["predicted_n"] == reply["usage"]["completion_tokens"] > 3


@pytest.mark.cpu_only("the prompts are shorter than the pages of 256 tokens of the other backend")
def test_cached_prompts(tiny):
    prompt = tiny.tokens("Timings of a prompt that comes twice. " * 20)
    first = tiny.complete(prompt, max_tokens=2, ignore_eos=True, timings=True)["timings"]
    second = tiny.complete(prompt, max_tokens=2, ignore_eos=True, timings=True)["timings"]
    assert first["cache_n"] == 0 and first["prompt_n"] == len(prompt)
    assert second["cache_n"] > 0 and second["cache_n"] + second["prompt_n"] == len(prompt)


def test_a_cancelled_request(scripted):
    """What was generated until then."""
    body = {"prompt": "KEY-STEADY", "max_tokens": 4000, "timings": True, "stream": True}
    with scripted.http.stream("POST", COMPLETIONS, json=body) as reply:
        request_id = reply.headers["x-request-id"]
        scripted.wait_for(lambda: any(r["generated_tokens"] > 5 for r in scripted.model_status()["requests"]
                                      if r["request_id"] == request_id), "some tokens")
        assert scripted.post(f"/v1/requests/{request_id}/cancel", {}).status_code == 200
        reply.read()
    assert '"timings":{' in reply.text and '"finish_reason":"cancelled"' in reply.text


@contextlib.contextmanager
def occupied(server, tokens):
    """Somebody else's long answer runs."""
    done = threading.Event()

    def read():
        with server.new_http() as http:
            for _ in server.stream(COMPLETIONS, {"prompt": "KEY-STEADY", "max_tokens": tokens}, http):
                if done.is_set():
                    return
    thread = threading.Thread(target=read)
    thread.start()
    try:
        server.wait_for(lambda: any(r["generated_tokens"] for r in server.model_status()["requests"]), "a running request")
        yield done
    finally:
        done.set()
        thread.join()


def test_queue_time_is_what_the_engine_let_it_wait(new_scripted):
    """One sequence at a time: the second is admitted only after the first has gone, which we see to."""
    with new_scripted("--max-sequences", 1) as server:
        answer = {}
        with occupied(server, 4000) as done:
            thread = threading.Thread(target=lambda: answer.update(server.complete("KEY-PLAIN", max_tokens=2, timings=True)))
            thread.start()
            server.wait_for(lambda: any(r["phase"] == "queued" for r in server.model_status()["requests"]), "a queued request")
            queued_at = time.monotonic()
            time.sleep(0.15)
            released_at = time.monotonic()
            done.set()
            thread.join()
        check(answer["timings"], answer["usage"])
        assert answer["timings"]["queue_ms"] >= 1000 * (released_at - queued_at)
        assert answer["timings"]["total_ms"] >= answer["timings"]["ttft_ms"] >= answer["timings"]["queue_ms"]


def test_waiting_for_a_model_to_load_is_queue_time(smollm_path):
    """Seen waiting while the model loads, and for at least as long as it was seen."""
    with LoadingServer(smollm_path, "--threads", 1, "--kv-memory", "64M", "--max-context", 512) as server:
        answer, seen = {}, []
        thread = threading.Thread(target=lambda: answer.update(server.complete("Once", max_tokens=2, timings=True)))
        thread.start()
        while thread.is_alive():
            model = server.model_status()
            if model["state"] == "loading" and any(r["phase"] == "queued" for r in model["requests"]):
                seen.append(time.monotonic())
        thread.join()
        if len(seen) < 2:
            pytest.skip("skip: the model was loaded before anybody could look")
        assert answer["timings"]["queue_ms"] >= 1000 * (seen[-2] - seen[0])


def test_infill(qwen):
    body = {"input_prefix": "def add(a, b):\n    return", "input_suffix": "\n", "max_tokens": 3, "timings": True}
    reply = qwen.ok(INFILL, body)
    check(reply["timings"], reply["usage"])
    assert chunks(qwen.stream(INFILL, body))[-1]["timings"]["predicted_n"] > 0


def test_the_official_client(scripted):
    client = scripted.openai()
    ask = dict(model="default", messages=[{"role": "user", "content": "KEY-PLAIN"}], max_tokens=4)
    completion = client.chat.completions.create(**ask, extra_body={"timings": True})
    assert completion.timings["predicted_n"] == completion.usage.completion_tokens == 4
    details = completion.usage.completion_tokens_details
    assert (details.accepted_prediction_tokens, details.rejected_prediction_tokens) == (0, 0)
    assert completion.usage.prompt_tokens_details.cached_tokens >= 0
    *_, last = client.chat.completions.create(**ask, stream=True, extra_body={"timings": True})
    assert last.timings["predicted_n"] == 4
    *_, last = client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True},
                                              extra_body={"timings": True})
    assert last.choices == [] and last.timings["predicted_n"] == last.usage.completion_tokens
    text = client.completions.create(model="default", prompt="KEY-PLAIN", max_tokens=4, extra_body={"timings": True})
    assert text.timings["predicted_n"] == 4
    assert text.usage.completion_tokens_details.accepted_prediction_tokens == 0
