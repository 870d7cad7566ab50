"""Guessed tokens cost less and change nothing: with `speculation` forced on, off and automatic, with a client's
prediction, with draft models that are right and wrong, an answer has the same bytes and the same logits, at any
temperature, alone and in a crowd, preempted or not, before and after a crash. And what `usage` says of predictions."""
import pytest

from ask import chat, text
from harness import Server, chunks, failing_server, make_model, tiny_config
from invariance import OPTIONS, ask, ask_alone, ask_together, assert_equal_answers, forget, salad

exact = pytest.mark.cpu_only("other backends promise no bytes")

CODE = """def mean(values):
    total = 0
    for value in values:
        total += value
    return total / len(values)


def variance(values):
    center = mean(values)
    total = 0
    for value in values:
        total += (value - center) ** 2
    return total / len(values)
"""
REPEAT = f"Repeat this code:\n```python\n{CODE}```"
COUNT = "Count from one to forty in words, one per line."

SAMPLING = [
    {"temperature": 0},
    {"temperature": 1, "seed": 1},
    {"temperature": 0.7, "seed": 2, "presence_penalty": 0.5, "frequency_penalty": 0.3},
    {"temperature": 0, "repetition_penalty": 1.1},
    {"temperature": 0.5, "seed": 4, "dry_multiplier": 0.8},
    {"temperature": 0.3, "seed": 5, "min_tokens": 50, "logprobs": True, "top_logprobs": 3},
    {"temperature": 0.2, "seed": 6, "stop": ["center", "twenty"]},
    {"temperature": 1, "seed": 7, "n": 3, "xtc_probability": 0.3},
]


def make_requests():
    """Chats that repeat much, and some that do not."""
    requests = []
    for i, sampling in enumerate(SAMPLING):
        content = [REPEAT, COUNT, salad(i, 30)][i % 3]
        body = {"messages": [{"role": "user", "content": content}], "max_tokens": 70, "ignore_eos": i % 3 == 2,
                "stream": i % 2 == 1, **sampling}
        if i % 4 == 0:
            body["prediction"] = {"type": "content", "content": CODE}
        requests.append(("/v1/chat/completions", body))
    return requests


def with_speculation(requests, how):
    return [(path, {**body, "speculation": how}) for path, body in requests]


def drafted(server):
    stats = server.stats()
    return stats["spec_draft_tokens"], stats["spec_accepted_tokens"]


@pytest.fixture(scope="module")
def server(smollm_path):
    with Server(smollm_path, "--kv-memory", "256M", "--max-context", 1024, "--threads", 2, *OPTIONS) as server:
        yield server


@pytest.fixture(scope="module")
def requests():
    return make_requests()


@pytest.fixture(scope="module")
def plain(server, requests):
    """The answers without guesses."""
    answers = ask_alone(server, with_speculation(requests, "off"))
    assert drafted(server) == (0, 0)
    return answers


@exact
@pytest.mark.parametrize("how", ["on", "auto"])
def test_alone(server, requests, plain, how):
    before = drafted(server)
    answers = ask_alone(server, with_speculation(requests, how))
    server.wait_idle()
    assert_equal_answers(requests, plain, answers)
    if how == "on":
        n, held = (after - was for after, was in zip(drafted(server), before))
        assert n > held > 100, f"{n} guesses, {held} of them right"


@exact
def test_together(server, requests, plain):
    """All at once, each twice: forced, and automatic or without."""
    all_ways = [*with_speculation(requests, "on"), *with_speculation(requests[::2], "auto"),
                *with_speculation(requests[1::2], "off")]
    forget(server)
    assert_equal_answers(all_ways, [*plain, *plain[::2], *plain[1::2]], ask_together(server, all_ways))


@exact
def test_after_a_crash(server, requests, plain):
    forced = with_speculation(requests, "on")
    server.kill_engine()
    assert_equal_answers(requests, plain, ask_together(server, forced))


@exact
@pytest.mark.parametrize("how", ["on", "auto"])
def test_preempted(smollm_path, requests, plain, how):
    """A pool for the short prompts and some of their answers: the youngest give way, again and again."""
    some = [i for i in range(len(requests)) if i % 3]
    asked = [requests[i] for i in some] * 4
    with Server(smollm_path, "--kv-memory", "7M", "--max-context", 256, "--threads", 2, "--speculation", how,
                "--prefix-cache", "off", "--reserve-output", "off", *OPTIONS) as server:
        answers = ask_together(server, asked)
        server.wait_idle()
        print(f"{server.stats()['preemptions']} preemptions, guesses {drafted(server)}")
        assert server.stats()["preemptions"] >= 1
        assert how != "on" or drafted(server)[1] > 50
    assert_equal_answers(asked, [plain[i] for i in some] * 4, answers)


@exact
@pytest.mark.parametrize("draft", ["itself", "noise"])
def test_draft_model(smollm_path, tiny_path, requests, plain, draft):
    """The best draft model there is, which is the model itself, and one of random weights; with little memory for it."""
    path = smollm_path if draft == "itself" else tiny_path
    with Server(smollm_path, "--kv-memory", "256M", "--max-context", 1024, "--threads", 2, "--draft-model", path,
                "--draft-kv-memory", "8M", *OPTIONS) as server:
        together = ask_together(server, with_speculation(requests, "on"))
        alone = ask_alone(server, with_speculation(requests, "auto"))
        server.wait_idle()
        stats = server.stats()
    assert_equal_answers(requests, plain, together)
    assert_equal_answers(requests, plain, alone)
    assert stats["draft_rows"] > 500 and stats["spec_model_draft_tokens"] > 50
    right = stats["spec_model_accepted_tokens"] / stats["spec_model_draft_tokens"]
    assert right > 0.8 if draft == "itself" else right < 0.2, right


@exact
def test_several_tokens_in_one_event(server):
    """A stream of right guesses: the client gets each token once, and stop strings cut inside of a guess."""
    body = {"messages": [{"role": "user", "content": REPEAT}], "temperature": 0, "max_tokens": 80,
            "return_token_ids": True, "stream": True}
    plain = chunks(server.stream("/v1/chat/completions", {**body, "speculation": "off"}))
    ids = [i for c in plain for choice in c["choices"] for i in choice.get("token_ids", [])]
    answer = "".join(choice["delta"].get("content") or "" for c in plain for choice in c["choices"])
    guessed = chunks(server.stream("/v1/chat/completions", {
        **body, "speculation": "on", "prediction": {"type": "content", "content": answer}}))
    assert [i for c in guessed for choice in c["choices"] for i in choice.get("token_ids", [])] == ids
    assert len(guessed) < len(plain) / 2
    for stop in (answer[40:44], answer[101:103], answer[-9:-5]):
        body = {**body, "stream": False, "stop": [stop]}
        off = server.ok("/v1/chat/completions", {**body, "speculation": "off"})
        on = server.ok("/v1/chat/completions", {
            **body, "speculation": "on", "prediction": {"type": "content", "content": answer}})
        assert text(on) == text(off) == answer[:answer.index(stop)]
        assert on["choices"][0]["token_ids"] == off["choices"][0]["token_ids"]
        assert on["usage"]["completion_tokens"] == off["usage"]["completion_tokens"]


# ---- predictions, with the official client ----

def details(answer):
    found = answer.usage.completion_tokens_details
    return found.accepted_prediction_tokens, found.rejected_prediction_tokens


@pytest.mark.cpu_only("other backends promise no bytes")
def test_usage_of_a_prediction(smollm):
    request = {"model": "smol", "messages": [{"role": "user", "content": REPEAT}], "temperature": 0, "max_tokens": 60}
    with smollm.openai() as client:
        answer = client.chat.completions.create(**request)
        content = answer.choices[0].message.content
        assert details(answer) == (0, 0)
        n = len(smollm.tokens(content))

        whole = client.chat.completions.create(**request, prediction={"type": "content", "content": content})
        assert whole.choices[0].message.content == content
        assert details(whole) == (n, 0)

        parts = [{"type": "text", "text": content[:50]}, {"type": "text", "text": content[50:]}]
        assert details(client.chat.completions.create(**request, prediction={"type": "content", "content": parts})) == (n, 0)

        longer = content + "\n" + salad("more", 20)
        n_longer = len(smollm.tokens(longer))
        accepted, rejected = details(client.chat.completions.create(
            **request, prediction={"type": "content", "content": longer}))
        assert accepted + rejected == n_longer and n - 2 <= accepted <= n

        edited = content.replace("values", "items")
        accepted, rejected = details(client.chat.completions.create(
            **request, prediction={"type": "content", "content": edited}))
        assert accepted + rejected == len(smollm.tokens(edited)) and accepted > 0 and rejected > 0

        stream = list(client.chat.completions.create(**request, stream=True, stream_options={"include_usage": True},
                                                     prediction={"type": "content", "content": content}))
        assert details(stream[-1]) == (n, 0)
        assert "".join(c.choices[0].delta.content or "" for c in stream if c.choices) == content


def test_what_goes_beside_a_prediction(smollm):
    """OpenAI refuses these beside one; here they are obeyed."""
    prediction = {"type": "content", "content": CODE}
    fields = {"temperature": 0, "max_tokens": 16}
    for other in ({"n": 2}, {"logprobs": True, "top_logprobs": 2}, {"presence_penalty": 0.5}, {"frequency_penalty": 0.5},
                  {"max_completion_tokens": 12}):
        body = {**fields, **other, "messages": [{"role": "user", "content": REPEAT}]}
        plain = smollm.ok("/v1/chat/completions", body)
        guessed = smollm.ok("/v1/chat/completions", {**body, "prediction": prediction})
        assert guessed["choices"] == plain["choices"], other
        counted = guessed["usage"]["completion_tokens_details"]
        assert (counted["accepted_prediction_tokens"] + counted["rejected_prediction_tokens"]
                == body.get("n", 1) * len(smollm.tokens(CODE)))


def test_memory_for_no_draft_model_is_refused(tiny_path):
    with failing_server(tiny_path, "--draft-kv-memory", "1G") as (status, output):
        assert status and "give --draft-model too" in output


def test_another_tokenizer_is_refused(smollm_path, tmp_path):
    """A draft model whose tokens are others."""
    draft = make_model({**tiny_config(n_vocab=300)}, tmp_path / "bytes.gguf")
    with failing_server(smollm_path, "--draft-model", draft) as (status, output):
        assert status != 0
        assert "same tokenizer" in output and "bytes.gguf" in output


def test_chat_default(scripted):
    """A script's tokens may be guessed too, and what comes behind its answer happens no earlier."""
    for how in ("off", "on"):
        assert text(chat(scripted, "KEY-PLAIN", speculation=how)).startswith("The quick brown fox")
