"""What the tests of batch invariance share: answers in one shape, streamed or not, and where two of them differ.

Every request asks for token ids and for the digest of each sampled row's logits (`tandem_digest`, test builds only): two
answers are equal when text, ids, logprobs and all digests are, so a difference in the last bit of one logit shows.
"""
import os
import random

from harness import chunks, together

# More options for every server of these tests, as in TANDEM_SERVE_OPTIONS="--cpu-kernels reference --kv-type f32".
OPTIONS = os.environ.get("TANDEM_SERVE_OPTIONS", "").split()

WORDS = ("river stone lantern harbour winter seven under paper engine garden quietly north letter copper morning bridge "
         "of the and with no answer green wolf carries machine slowly because island never salt window count orange "
         "thunder seldom market child over violin between thin ladder crown").split()


def salad(seed, n_words):
    """Words that no model has seen in this order; equal seeds begin alike."""
    rng = random.Random(seed)
    return " ".join(rng.choice(WORDS) for _ in range(n_words)) + "."


# ---- answers ----

def append_logprobs(to, piece):
    if piece is None:
        return to
    to = to or {}
    for key, value in piece.items():
        to[key] = to.get(key, []) + value if isinstance(value, list) else value
    return to


def of_choice(choice):
    text = choice["message"]["content"] if "message" in choice else choice["text"]
    return {"text": text, "ids": choice["token_ids"], "digests": choice["tandem_digests"], "logprobs": choice["logprobs"],
            "finish": choice["finish_reason"], "stop": choice["stop_reason"]}


def of_chunks(stream, n):
    answers = [{"text": "", "ids": [], "digests": [], "logprobs": None, "finish": None, "stop": None} for _ in range(n)]
    for chunk in stream:
        assert "error" not in chunk, chunk
        for choice in chunk["choices"]:
            answer = answers[choice["index"]]
            answer["text"] += (choice["delta"].get("content") or "") if "delta" in choice else choice["text"]
            answer["ids"] += choice.get("token_ids", [])
            answer["digests"] += choice.get("tandem_digests", [])
            answer["logprobs"] = append_logprobs(answer["logprobs"], choice["logprobs"])
            answer["finish"] = choice["finish_reason"] or answer["finish"]
            answer["stop"] = choice.get("stop_reason") or answer["stop"]
    return answers


def ask(server, request):
    """(choices, usage) of a request: (path, body)."""
    path, body = request
    body = {**body, "return_token_ids": True, "tandem_digest": True}
    if body.get("stream"):
        stream = chunks(server.stream(path, {**body, "stream_options": {"include_usage": True}}))
        choices, usage = of_chunks(stream, body.get("n", 1)), stream[-1]["usage"]
    else:
        reply = server.ok(path, body)
        choices, usage = [of_choice(choice) for choice in reply["choices"]], reply["usage"]
    for choice in choices:
        assert choice["ids"], f"an answer without tokens: {body}"
        assert len(choice["digests"]) == len(choice["ids"]), f"a digest is missing: {choice}"
        assert "0" * 16 not in choice["digests"]
    return choices, usage


def forget(server):
    """Empties the prefix cache."""
    assert server.http.delete("/v1/cache").status_code in (200, 204)


def ask_alone(server, requests):
    """The choices of each request, one after another, each with a cold cache."""
    answers = []
    for request in requests:
        forget(server)
        choices, usage = ask(server, request)
        assert usage["prompt_tokens_details"]["cached_tokens"] == 0
        answers.append(choices)
    return answers


def ask_together(server, requests):
    """The choices of each request, all at the same time."""
    return [choices for choices, _ in together([lambda r=r: ask(server, r) for r in requests])]


# ---- differences ----

def first_difference(a, b):
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))


def assert_equal_choice(expected, got, what):
    for key in ("digests", "ids", "text"):
        if expected[key] != got[key]:
            at = first_difference(expected[key], got[key])
            raise AssertionError(f"{what}: {key} differ at {at} of {len(expected[key])}: "
                                 f"expected {expected[key][at:at + 4]!r}, got {got[key][at:at + 4]!r}")
    assert expected == got, what


def assert_equal_answers(requests, expected, got):
    for i, (request, a, b) in enumerate(zip(requests, expected, got, strict=True)):
        fields = {k: v for k, v in request[1].items() if k not in ("prompt", "messages")}
        for k, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_equal_choice(x, y, f"request {i} {request[0]} {fields}, choice {k}")
