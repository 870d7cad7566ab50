"""Faults inside the engine, made on purpose by --fault (engine/fault.h): what a client sees is the answer of an
undisturbed run, or a clear error for its request alone."""
import pytest

from harness import PATIENCE, LoadingServer, Server, chunks, failing_server, metric, stream_text, together
from lora_adapters import TINY_SHAPE, write_peft
from script_rules import PLAIN


def chat(content, **fields):
    return {"messages": [{"role": "user", "content": content}], **fields}


def body_text(reply):
    return reply["choices"][0]["message"]["content"]


def replayed_tokens(usage):
    return usage["completion_tokens_details"].get("replayed_tokens", 0)


def wait_stats(server, **wanted):
    """The engine's figures follow its events."""
    server.wait_for(lambda: wanted.items() <= server.stats().items(), f"figures {wanted}")


def poison_of(server):
    """A token that prompts with "zebra" have, and others have not."""
    return (set(server.tokens("KEY-PACED zebra")) - set(server.tokens("KEY-PLAIN KEY-PACED"))).pop()


# ---- the language ----

@pytest.mark.parametrize("spec", ["nonsense", "kill:step=", "nan:column=3", "kill:step=1;"])
def test_a_fault_that_is_not_understood(tiny_path, spec):
    with failing_server(tiny_path, "--fault", spec) as (status, output):
        assert status == 2 and "--fault" in output


def test_slow_start(tiny_path, script_path):
    with LoadingServer(tiny_path, "--threads", 1, "--script", script_path, "--fault", "slow-start:ms=600") as server:
        assert server.http.get("/health").status_code == 200
        assert server.http.get("/ready").status_code == 503
        Server.wait_ready(server, 30)
        assert body_text(server.chat("KEY-PLAIN")) == PLAIN


# ---- numbers that are not finite ----

PROMPTS = ["Once upon a time", "The quick brown fox", "In the beginning"]


def ask_all(server, **fields):
    return together([lambda p=p: server.complete(p, max_tokens=24, ignore_eos=True, seed=3, **fields) for p in PROMPTS])


@pytest.fixture(scope="module")
def reference_answers(tiny_path):
    """What the model says on the reference kernels alone, and on whatever kernels it has here."""
    answers = {}
    for name, options in {"reference": ["--backend", "cpu", "--cpu-kernels", "reference"], "usual": []}.items():
        with Server(tiny_path, "--threads", 1, "--kv-memory", "64M", *options) as server:
            answers[name] = ask_all(server), ask_all(server, temperature=0, logprobs=2)
    return answers


def test_a_request_with_bad_numbers_is_computed_on_the_reference_kernels(tiny_path, reference_answers):
    reference, _ = reference_answers["reference"]
    with Server(tiny_path, "--threads", 1, "--kv-memory", "64M", "--fault", "nan:step=1") as server:
        answer = server.complete(PROMPTS[0], max_tokens=24, ignore_eos=True, seed=3)
        assert answer["choices"] == reference[0]["choices"]
        assert answer["system_fingerprint"] == reference[0]["system_fingerprint"], "it says who computed it"
        assert replayed_tokens(answer["usage"]) == 24
        after = server.complete(PROMPTS[0], max_tokens=24, ignore_eos=True, seed=3)
        usual = reference_answers["usual"][0][0]
        assert (after["choices"], after["system_fingerprint"]) == (usual["choices"], usual["system_fingerprint"])
        assert after["usage"]["prompt_tokens_details"]["cached_tokens"] == 0 == replayed_tokens(after["usage"])
        wait_stats(server, replays=1, replays_failed=0, replaying=0)


def test_one_row_of_a_batch(tiny_path, reference_answers):
    """One of them goes on elsewhere, and says so; the others do not notice."""
    usual = reference_answers["usual"][1]
    with Server(tiny_path, "--threads", 1, "--kv-memory", "64M", "--fault", "nan:step=9,row=0") as server:
        answers = ask_all(server, temperature=0, logprobs=2)
        replayed = [a for a in answers if replayed_tokens(a["usage"])]
        assert len(replayed) == 1 and 0 < replayed_tokens(replayed[0]["usage"]) < 24
        for answer, expected in zip(answers, usual):
            if answer in replayed:
                kept = 24 - replayed_tokens(answer["usage"])
                logprobs, before = answer["choices"][0]["logprobs"], expected["choices"][0]["logprobs"]
                assert len(logprobs["tokens"]) == 24 and logprobs["tokens"][:kept] == before["tokens"][:kept]
                assert logprobs["token_logprobs"][:kept] == before["token_logprobs"][:kept]
                assert answer["choices"][0]["finish_reason"] == "length"
            else:
                assert answer["choices"] == expected["choices"]
                assert answer["system_fingerprint"] == expected["system_fingerprint"]


def test_a_stream_is_marked_where_it_changes(new_scripted):
    with new_scripted("--fault", "nan:step=8") as server:
        events = server.stream_all("/v1/chat/completions", chat("KEY-PACED", stream_options={"include_usage": True}))
        assert stream_text(events) == PLAIN and events[-1] == ("done", None)
        prints = [c["system_fingerprint"] for c in chunks(events)]
        own = f"fp_{server.engine()['fingerprint']}"
        at = next(i for i, p in enumerate(prints) if p != own)
        assert at > 0 and len(set(prints)) == 2 and len(set(prints[at:])) == 1
        usage = chunks(events)[-1]["usage"]
        assert 0 < replayed_tokens(usage) < usage["completion_tokens"]
        assert body_text(server.chat("KEY-PLAIN")) == PLAIN


def test_choices_and_stop_strings_go_on(new_scripted):
    with new_scripted("--fault", "nan:step=3,times=2") as server:
        reply = server.complete("KEY-CHOICES", n=3, max_tokens=100)
        assert [c["text"] for c in reply["choices"]] == ["First answer.", "Second one.", "The third of them."]
        reply = server.chat("KEY-PLAIN", stop=["STOP"])
        assert body_text(reply) == PLAIN[:PLAIN.index("STOP")] and reply["choices"][0]["stop_reason"] == "STOP"


def test_an_adapter_goes_with_its_request(tiny_path, tmp_path):
    """It is read again for the reference kernels; one that is gone by then fails its request alone."""
    folder = write_peft(tmp_path / "one", TINY_SHAPE, 1, strength=0.3)
    options = ["--threads", 1, "--kv-memory", "64M", "--served-model-name", "tiny", "--lora", f"one={folder}"]

    def ask(server, model):
        return server.complete(PROMPTS[0], model=model, max_tokens=24, ignore_eos=True, seed=3)

    with Server(tiny_path, *options, "--backend", "cpu", "--cpu-kernels", "reference") as server:
        plain, expected = ask(server, "tiny"), ask(server, "tiny:one")
    assert plain["choices"] != expected["choices"] and plain["system_fingerprint"] != expected["system_fingerprint"]
    with Server(tiny_path, *options, "--fault", "nan:step=1") as server:
        answer = ask(server, "tiny:one")
        assert answer["choices"] == expected["choices"] and replayed_tokens(answer["usage"]) == 24
        assert answer["system_fingerprint"] == expected["system_fingerprint"]
    with Server(tiny_path, *options, "--fault", "nan:step=1") as server:
        (folder / "adapter_model.safetensors").unlink()
        fields = {"model": "tiny:one", "prompt": PROMPTS[0], "max_tokens": 8}
        reply = server.post("/v1/completions", fields)
        assert reply.status_code == 500 and reply.json()["error"]["code"] == "non_finite_logits", reply.text
        assert "its adapter" in reply.json()["error"]["message"]
        assert server.post("/v1/completions", fields).status_code == 200
        assert server.engine()["restarts"] == 0


def test_bad_numbers_twice(tiny_path, script_path, new_scripted):
    """A 500 for the request alone, which says that it was tried again."""
    with new_scripted() as server:
        poison = poison_of(server)
    with new_scripted("--fault", f"nan:always,token={poison}") as server:
        *replies, body = together([
            lambda: server.post("/v1/chat/completions", chat("KEY-PACED zebra")),
            lambda: server.post("/v1/chat/completions", chat("KEY-PACED zebra", stream=True)),
            lambda: body_text(server.chat("KEY-PACED"))])
        assert body == PLAIN
        for reply in replies:
            error = reply.json()["error"]
            assert reply.status_code == 500 and error["code"] == "non_finite_logits", error
            assert "once more" in error["message"], error
        assert server.engine()["restarts"] == 0
        wait_stats(server, replays=2, replays_failed=2, replaying=0)


# ---- memory ----

def test_a_step_without_memory_is_made_again(tiny_path, reference_answers):
    with Server(tiny_path, "--threads", 1, "--kv-memory", "64M", "--fault", "alloc:step=2,times=3") as server:
        answers = ask_all(server)
        assert [a["choices"] for a in answers] == [a["choices"] for a in reference_answers["usual"][0]]
        # A step that is begun ahead of its time and fails is begun again, which is no shortage yet.
        server.wait_for(lambda: 1 <= server.stats()["memory_shortages"] <= 3, "shortages")
        assert server.engine()["restarts"] == 0


def test_a_request_that_never_gets_memory(new_scripted):
    with new_scripted("--fault", "alloc:always") as server:
        reply = server.post("/v1/chat/completions", chat("KEY-PLAIN"))
        assert reply.status_code == 500 and reply.json()["error"]["code"] == "out_of_memory"
        assert "alone" in reply.json()["error"]["message"]
        assert server.engine()["restarts"] == 0 and server.http.get("/ready").status_code == 200


# ---- the engine ends, or its frames are no good ----

def test_a_known_frame_is_dropped(new_scripted):
    with new_scripted("--fault", "frame-dup:nth=4,times=20") as server:
        assert stream_text(server.stream("/v1/chat/completions", chat("KEY-PACED"))) == PLAIN
        assert server.engine()["restarts"] == 0


# What ended it, as the metrics name it (gateway/engine_loss.h).
LOSSES = [("segv:step=9", "signal"), ("kill:step=9", "signal"), ("abort:step=9", "signal"), ("exit:step=9", "exit"),
          ("oom:step=9", "signal"), ("device:step=9", "device"), ("frame-lost:nth=5", "protocol"),
          ("frame-late:nth=5", "protocol"), ("frame-corrupt:nth=5", "protocol"), ("hang:step=9", "hung"),
          ("stop:step=9", "stopped")]


@pytest.mark.parametrize("spec, loss", LOSSES)
def test_a_stream_survives_its_engine(new_scripted, tmp_path, spec, loss):
    """The client sees a pause, then the rest."""
    struck = tmp_path / "struck"
    with new_scripted("--fault", f"{spec},once={struck}", "--hang-timeout-ms", 1000 * PATIENCE) as server:
        events = server.stream_all("/v1/chat/completions", chat("KEY-PACED"))
        assert struck.stat().st_size == 1
        assert stream_text(events) == PLAIN and events[-1] == ("done", None)
        assert server.engine()["restarts"] == 1
        assert metric(server.metrics(), "tandem_engine_losses_total", loss=loss) == 1


def test_a_poisonous_request_is_quarantined(new_scripted):
    """It ends every engine that computes it; the others get their answers."""
    with new_scripted() as server:
        poison = poison_of(server)
    with new_scripted("--fault", f"kill:always,token={poison}") as server:
        reply, *texts = together([
            lambda: server.post("/v1/chat/completions", chat("KEY-PACED zebra")),
            *[lambda: stream_text(server.stream("/v1/chat/completions", chat("KEY-PACED")))] * 3])
        assert reply.status_code == 500 and reply.json()["error"]["code"] == "request_quarantined", reply.text
        assert texts == [PLAIN] * 3
