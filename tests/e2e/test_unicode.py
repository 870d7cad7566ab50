"""No character is ever shown in part: emoji sequences, combining marks, CJK and others, whatever the chunking."""
import json
import unicodedata

import pytest

from harness import chunk_text, chunks, stream_text
from script_rules import UNICODE

REPLACEMENT = "\ufffd"


def body(key, **fields):
    return {"messages": [{"role": "user", "content": key}], "max_tokens": 600, **fields}


def test_the_text_is_hard_enough(scripted):
    """Characters must be split between tokens, or the tests below show nothing."""
    pieces = scripted.ok("/tokenize", {"content": UNICODE, "with_pieces": True})["tokens"]
    partial = [p for p in pieces if isinstance(p["piece"], list)]
    assert len(partial) > 20, "too few tokens are parts of characters"
    assert any(unicodedata.combining(c) for c in UNICODE) and len(pieces) > 100


def test_body(scripted):
    reply = scripted.post("/v1/chat/completions", body("KEY-UNICODE"))
    reply.content.decode("utf-8")
    assert reply.json()["choices"][0]["message"]["content"] == UNICODE


@pytest.mark.parametrize("key", ["KEY-UNICODE", "KEY-SLOW-UNICODE"])
@pytest.mark.parametrize("interval", [{}, {"stream_interval_tokens": 2}, {"stream_interval_tokens": 3},
                                      {"stream_interval_tokens": 7}, {"stream_interval_ms": 20}],
                         ids=lambda f: "-".join(f"{k}={v}" for k, v in f.items()) or "at-once")
def test_stream(scripted, key, interval):
    events = scripted.stream_all("/v1/chat/completions", body(key, **interval))  # strict UTF-8 and JSON per chunk
    for chunk in chunks(events):
        assert REPLACEMENT not in chunk_text(chunk), chunk
        json.dumps(chunk_text(chunk), ensure_ascii=False).encode("utf-8")  # no lone surrogate
    assert stream_text(events) == UNICODE


def test_completions_stream_with_logprobs(scripted):
    """Tokens that are parts of characters are reported as bytes; the text stays whole."""
    events = scripted.stream_all("/v1/chat/completions", body("KEY-SLOW-UNICODE", logprobs=True))
    raw = b"".join(bytes(item["bytes"]) for c in chunks(events) for choice in c["choices"]
                   for item in (choice["logprobs"] or {"content": []})["content"])
    assert stream_text(events) == UNICODE
    assert raw.removesuffix(b"<|im_end|>").decode("utf-8") == UNICODE
    assert not any(REPLACEMENT in chunk_text(c) for c in chunks(events))


def test_stop_strings_are_cut_exactly(scripted):
    """Every few characters as a stop string: a joiner, half a flag, a combining mark, an ideograph."""
    for begin in range(0, len(UNICODE) - 3, 5):
        for length in (1, 3):
            stop = UNICODE[begin:begin + length]
            expected = UNICODE[:UNICODE.index(stop)]
            answer = scripted.ok("/v1/chat/completions", body("KEY-UNICODE", stop=[stop]))
            assert answer["choices"][0]["message"]["content"] == expected, f"stop={stop!r}"
            assert answer["choices"][0]["finish_reason"] == "stop"
        if begin % 3 == 0:
            events = scripted.stream_all("/v1/chat/completions", body("KEY-SLOW-UNICODE", stop=[stop]))
            assert stream_text(events) == expected, f"streamed, stop={stop!r}"


@pytest.mark.parametrize("n", range(1, 40))
def test_cut_off_by_length(scripted, n):
    """However many tokens there may be, the text is a beginning of the answer: a character in pieces does not show."""
    answer = scripted.ok("/v1/chat/completions", body("KEY-UNICODE", max_tokens=n) | {"max_tokens": n})
    content = answer["choices"][0]["message"]["content"]
    assert UNICODE.startswith(content), f"{content!r} is no beginning of {UNICODE[:40]!r}"
    assert answer["usage"]["completion_tokens"] == n


def test_echo_and_prompt_of_all_scripts(scripted):
    answer = scripted.complete(UNICODE + " KEY-CHOICES", echo=True, max_tokens=99)
    assert answer["choices"][0]["text"] == UNICODE + " KEY-CHOICES" + "First answer."


def test_round_trip_through_tokens(scripted):
    ids = scripted.tokens(UNICODE)
    assert scripted.ok("/detokenize", {"tokens": ids})["content"] == UNICODE


def test_text_offsets_count_characters(scripted):
    answer = scripted.complete("KEY-UNICODE", max_tokens=600, logprobs=0)
    text, logprobs = answer["choices"][0]["text"], answer["choices"][0]["logprobs"]
    for token, offset in zip(logprobs["tokens"], logprobs["text_offset"], strict=True):
        if REPLACEMENT not in token and token != "<|im_end|>":
            assert text[offset:offset + len(token)] == token
