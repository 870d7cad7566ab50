"""A model whose layers keep states (Qwen3-Next, small and random, with a real tokenizer): what a conversation, a common
beginning and several choices find in the prefix cache; and that nothing is lost or changed by an engine's end, by requests
that are cancelled, or beside a batch. On cpu answers are compared by their digests; mlx promises no bytes."""
import json
import os
import signal
import threading

import pytest

from harness import BACKEND, PATIENCE, ROOT, Server, failing_server, make_model, together
from invariance import ask, assert_equal_choice, forget, salad

OPTIONS = ["--threads", 2, "--kv-memory", "64M"]


@pytest.fixture(scope="module")
def model(smollm_path, tmp_path_factory):
    """The shapes of tests/data/parity, with the vocabulary and the context of a conversation."""
    config = json.loads((ROOT / "tests/data/parity/qwen3next.json").read_text())
    few, many = config["vocab_size"], 49152
    config["vocab_size"] = many
    for key, value in config["metadata"].items():
        if key.endswith(".context_length"):
            value[1] = 4096
        elif key.endswith(".vocab_size"):
            value[1] = many
    for tensor in config["tensors"]:
        tensor["shape"] = [many if n == few else n for n in tensor["shape"]]
    return make_model(config, tmp_path_factory.mktemp("states") / "next.gguf", smollm_path)


@pytest.fixture(scope="module")
def server(model, tmp_path_factory):
    with Server(model, *OPTIONS, "--journal", tmp_path_factory.mktemp("journal")) as server:
        yield server


def page(server):
    return server.engine()["page_tokens"]


def words(server, seed, n):
    tokens = server.tokens(salad(seed, n))
    assert len(tokens) >= n
    return tokens[:n]


def cached(usage):
    return usage["prompt_tokens_details"]["cached_tokens"]


def text_request(prompt, **fields):
    return "/v1/completions", {"prompt": prompt, "max_tokens": 20, "ignore_eos": True, "temperature": 1, "seed": 3, **fields}


def assert_as_cold(server, request, choices):
    """The same as without the cache."""
    if BACKEND == "cpu":
        cold, usage = ask(server, (request[0], {**request[1], "cache_prompt": False}))
        assert cached(usage) == 0
        for got, want in zip(choices, cold, strict=True):
            assert_equal_choice(want, got, "from a state of the cache")


# ---- hits ----

def test_turns_of_a_conversation(server):
    """Each finds all of the one before, but for less than a page and for what the template writes otherwise."""
    messages, before = [], 0
    for turn in range(5):
        messages.append({"role": "user", "content": salad(turn, 60)})
        request = "/v1/chat/completions", {"messages": messages, "max_tokens": 50, "temperature": 1, "seed": turn}
        choices, usage = ask(server, request)
        if turn:
            assert cached(usage) > before - 2 * page(server), f"turn {turn}"
        assert_as_cold(server, request, choices)
        messages.append({"role": "assistant", "content": choices[0]["text"]})
        before = usage["prompt_tokens"]


def test_an_answer_is_found_whole(server):
    """By tokens, with nothing between the turns: what was generated counts like what was read."""
    n_page, prompt = page(server), words(server, "turns", 150)
    choices, usage = ask(server, text_request(prompt, max_tokens=170))
    again = text_request([*prompt, *choices[0]["ids"], *server.tokens(salad("more", 10))])
    assert cached(usage) == 0
    choices, usage = ask(server, again)
    assert cached(usage) == 319 // n_page * n_page
    assert_as_cold(server, again, choices)


def test_common_beginnings(server):
    """The second prompt leaves a state where it parts from the first; the third begins there."""
    n_page, stem = page(server), words(server, "stem", 5 * page(server) + 9)
    for i in range(3):
        request = text_request([*stem, *words(server, f"end {i}", 120)])
        choices, usage = ask(server, request)
        assert cached(usage) == 5 * n_page if i == 2 else cached(usage) <= 5 * n_page
        assert_as_cold(server, request, choices)


def test_the_same_prompt_again(server):
    """At least its last token is computed again, from the last border before it."""
    n_page, prompt = page(server), words(server, "same", 3 * page(server))
    for n in (3 * n_page - 1, 3 * n_page, 3 * n_page + 1):
        request = text_request([n, *prompt][:n])
        ask(server, request)
        choices, usage = ask(server, request)
        assert cached(usage) == (n - 1) // n_page * n_page
        assert_as_cold(server, request, choices)


def test_choices(server):
    """Each goes on from the prompt's states by itself."""
    for n in (2 * page(server), 2 * page(server) + 5):
        request = text_request(words(server, f"choices {n}", n), n=4)
        choices, _ = ask(server, request)
        assert len({tuple(choice["ids"]) for choice in choices}) == 4
        assert_as_cold(server, request, choices)


def test_prefixes_in_progress(server):
    """Prompts that arrive together wait for the one that computes their common beginning."""
    n_page, n_common = page(server), 640 // page(server)
    stem = words(server, "together", n_common * n_page + 3)
    requests = [text_request([*stem, *words(server, f"tail {i}", 60)]) for i in range(6)]
    answers = together([lambda r=r: ask(server, r) for r in requests])
    assert sum(cached(usage) == n_common * n_page for _, usage in answers) >= 4
    for request, (choices, _) in zip(requests, answers, strict=True):
        assert_as_cold(server, request, choices)


# ---- what happens on the way ----

def stream_and_kill(server, request, n):
    """The choice of a stream in whose middle the engine is killed."""
    seen = threading.Semaphore(0)

    def read():
        ids, text = [], ""
        for kind, chunk in server.stream(request[0], {**request[1], "return_token_ids": True}):
            if kind == "data" and chunk.get("choices"):
                ids += chunk["choices"][0].get("token_ids", [])
                text += chunk["choices"][0]["text"]
                seen.release()
        return ids, text

    def kill():
        for _ in range(n):
            assert seen.acquire(timeout=30 * PATIENCE)
        pid = server.engine()["pid"]
        os.kill(pid, signal.SIGKILL)
        server.wait_for(lambda: server.engine()["pid"] not in (0, pid), "a new engine", 60)

    return together([read, kill])[0]


def test_the_engine_is_killed(model):
    """The stream goes on; on cpu with the very tokens that it would have had, from states that the next engine adopts."""
    n_tokens = 900 if BACKEND == "cpu" else 300
    request = text_request(salad("killed", 150), max_tokens=n_tokens)
    with Server(model, *OPTIONS) as server:
        expected, _ = ask(server, request)
        forget(server)
        for n in (5, 150) if BACKEND == "cpu" else (5,):
            ids, text = stream_and_kill(server, request, n)
            assert len(ids) == n_tokens
            if BACKEND == "cpu":
                assert ids == expected[0]["ids"] and text == expected[0]["text"]
        if BACKEND == "cpu":
            assert server.stats()["adopted_tokens"] > 0
        server.wait_idle()


def test_cancelled_requests(server):
    """Nothing stays referenced, and the answer beside them is what it is alone."""
    request = text_request(salad("beside", 80), max_tokens=120)
    expected, _ = ask(server, request)

    def leave(i):
        body = {"prompt": salad(f"left {i}", 60 + 40 * i), "max_tokens": 400, "ignore_eos": True, "n": 1 + i % 3}
        for k, _ in enumerate(server.stream("/v1/completions", body)):
            if k > 3 * i:
                break

    answers = together([lambda: ask(server, request), *[lambda i=i: leave(i) for i in range(8)]])
    server.wait_idle()
    if BACKEND == "cpu":
        assert_equal_choice(expected[0], answers[0][0][0], "beside those that left")


def test_beside_a_batch(server):
    """Rows of a batch give way to everybody else and go on behind them."""
    client = server.openai()
    rows = [{"custom_id": str(i), "method": "POST", "url": "/v1/completions",
             "body": {"model": "next", "temperature": 0, "prompt": salad(i, 50), "max_tokens": 100}} for i in range(8)]
    file = client.files.create(file=("rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode()), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/completions", completion_window="24h")
    requests = [text_request(salad(f"urgent {i}", 70 + i), max_tokens=40) for i in range(6)]
    for request, (choices, _) in zip(requests, together([lambda r=r: ask(server, r) for r in requests]), strict=True):
        assert_as_cold(server, request, choices)
    server.wait_for(lambda: client.batches.retrieve(batch.id).status == "completed", "the batch ends", 60)
    for text in client.files.content(client.batches.retrieve(batch.id).output_file_id).text.splitlines():
        row = json.loads(text)
        body = rows[int(row["custom_id"])]["body"]
        if BACKEND == "cpu":
            assert row["response"]["body"]["choices"][0]["text"] == server.ok("/v1/completions", body)["choices"][0]["text"]


def test_constraints_and_scores(server):
    """Rows that the host looks at between steps, and logprobs of a prompt."""
    schema = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "boolean"}}, "required": ["a", "b"],
              "additionalProperties": False}
    reply = server.chat(salad("json", 40), max_tokens=200, temperature=0,
                        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}})
    text = reply["choices"][0]["message"]["content"]
    assert reply["choices"][0]["finish_reason"] == "length" or set(json.loads(text)) == {"a", "b"}
    prompt = words(server, "scores", 103)
    first, second = (server.complete(prompt, max_tokens=2, echo=True, logprobs=1, temperature=0) for _ in range(2))
    logprobs = first["choices"][0]["logprobs"]["token_logprobs"]
    assert len(logprobs) == len(prompt) + 2 and all(value < 0 for value in logprobs[1:])
    if BACKEND == "cpu":
        assert logprobs == second["choices"][0]["logprobs"]["token_logprobs"]


@pytest.mark.cpu_only("other backends keep no pages on disk")
def test_what_is_refused(model, tmp_path):
    for option, value in (("--kv-disk-dir", tmp_path / "kv"), ("--draft-model", model)):
        with failing_server(model, *OPTIONS, option, value) as (status, log):
            assert status != 0 and f"{option} is not possible with models of the architecture qwen3next" in log
