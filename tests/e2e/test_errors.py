"""Bad requests: each with its status, type, parameter, code and message; and a server that goes on as if nothing had been."""
import json
import re
import socket

import openai
import pytest

from harness import Server, metric

CHAT, COMPLETIONS, INFILL = "/v1/chat/completions", "/v1/completions", "/infill"
HELLO = [{"role": "user", "content": "Hello"}]
INVALID, N_VOCAB = "invalid_request_error", 49152


def chat(**fields):
    return CHAT, {"messages": HELLO, "max_tokens": 4, **fields}


def messages(*items):
    return CHAT, {"messages": list(items), "max_tokens": 4}


def complete(**fields):
    return COMPLETIONS, {"prompt": "Once", "max_tokens": 4, **fields}


def tokenize(**fields):
    return "/tokenize", fields


def too_long(n):
    return [500] * n


# What is sent; the field at fault; what the message has to say: the field, and the limit or what was expected.
INVALID_REQUESTS = [
    # The body as a whole.
    ((CHAT, []), None, r"must be a JSON object, but it is an array"),
    ((CHAT, "text"), None, r"must be a JSON object, but it is a string"),
    ((COMPLETIONS, 7), None, r"must be a JSON object, but it is an integer"),
    # Messages.
    ((CHAT, {}), "messages", r"Missing required parameter: 'messages'"),
    (chat(messages="hi"), "messages", r"expected an array of messages, but got a string"),
    (chat(messages=[]), "messages", r"1 to \d+ messages are allowed, but got 0"),
    (messages("hi"), "messages[0]", r"expected an object, but got a string"),
    (messages({"content": "hi"}), "messages[0].role", r"Missing required parameter: 'messages\[0\]\.role'"),
    (messages(*HELLO, {"role": 3, "content": "hi"}), "messages[1].role", r"expected a string, but got an integer"),
    (messages({"role": "wizard", "content": "hi"}), "messages[0].role", r"'wizard' is none of system, developer, user"),
    (messages({"role": "user"}), "messages[0].content", r"Missing required parameter"),
    (messages({"role": "user", "content": None}), "messages[0].content", r"Missing required parameter"),
    (messages({"role": "user", "content": 5}), "messages[0].content", r"a string or an array of content parts"),
    (messages({"role": "user", "content": [5]}), "messages[0].content[0]", r"expected an object, but got an integer"),
    (messages({"role": "user", "content": [{"text": "hi"}]}), "messages[0].content[0]", r"content\[0\]\.type"),
    (messages({"role": "user", "content": [{"type": "text"}]}), "messages[0].content[0]", r"content\[0\]\.text"),
    (messages({"role": "assistant", "tool_calls": 1}), "messages[0].tool_calls", r"expected an array"),
    (messages({"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}), "messages[0].tool_calls",
     r"needs the strings 'name' and 'arguments'"),
    (messages({"role": "assistant"}), "messages[0].content", r"Missing required parameter"),
    # Prompts.
    ((COMPLETIONS, {}), "prompt", r"Missing required parameter: 'prompt'"),
    (complete(prompt=5), "prompt", r"expected a string, an array of strings"),
    (complete(prompt=[]), "prompt", r"1 to \d+ prompts are allowed, but got 0"),
    (complete(prompt=["a", 5]), "prompt", r"but got an integer"),
    (complete(prompt=[1, "a"]), "prompt", r"expected an array of token ids, but got a string"),
    (complete(prompt=[[1], [-1]]), "prompt", r"-1 is no token id"),
    (complete(prompt=[N_VOCAB]), "prompt", rf"{N_VOCAB} is outside the vocabulary of {N_VOCAB} tokens"),
    (complete(prompt=["a"] * 300), "prompt", r"1 to \d+ prompts are allowed, but got 300"),
    # Lengths.
    (chat(max_tokens=0), "max_tokens", r"from 1 to \d+, but got 0"),
    (chat(max_tokens=-5), "max_tokens", r"from 1 to \d+, but got -5"),
    (chat(max_tokens=2.5), "max_tokens", r"expected an integer, but got a number"),
    (chat(max_tokens="ten"), "max_tokens", r"expected an integer, but got a string"),
    (chat(max_completion_tokens=0), "max_completion_tokens", r"from 1 to"),
    (chat(max_tokens=10**12), "max_tokens", r"from 1 to \d+, but got 1000000000000"),
    (complete(max_tokens=0), "max_tokens", r"only together with 'echo'"),
    (chat(min_tokens=-1), "min_tokens", r"from 0 to"),
    (chat(min_tokens=5, max_tokens=4), "min_tokens", r"'min_tokens' is 5, more than the 4 tokens"),
    (chat(truncate_prompt_tokens=-2), "truncate_prompt_tokens", r"from -1 to"),
    (chat(truncate_prompt_tokens=0), "truncate_prompt_tokens", r"-1 or at least 1"),
    # Sampling.
    (chat(temperature=-0.1), "temperature", r"from 0 to 100, but got -0\.1"),
    (chat(temperature=101), "temperature", r"from 0 to 100, but got 101"),
    (chat(temperature="hot"), "temperature", r"expected a number, but got a string"),
    (chat(temperature=True), "temperature", r"expected a number, but got a boolean"),
    (chat(top_p=1.01), "top_p", r"from 0 to 1"),
    (chat(top_p=[0.5]), "top_p", r"expected a number, but got an array"),
    (chat(top_k=-2), "top_k", r"from -1 to"),
    (chat(top_k=1.5), "top_k", r"expected an integer"),
    (chat(min_p=2), "min_p", r"from 0 to 1"),
    (chat(typical_p=-1), "typical_p", r"from 0 to 1"),
    (chat(top_n_sigma=-2), "top_n_sigma", r"from -1 to 100"),
    (chat(presence_penalty=2.1), "presence_penalty", r"from -2 to 2, but got 2\.1"),
    (chat(frequency_penalty=-3), "frequency_penalty", r"from -2 to 2"),
    (chat(repetition_penalty=0), "repetition_penalty", r"from 0\.01 to 10"),
    (chat(xtc_probability=1.5), "xtc_probability", r"from 0 to 1"),
    (chat(xtc_threshold=-0.5), "xtc_threshold", r"from 0 to 1"),
    (chat(dry_multiplier=-1), "dry_multiplier", r"from 0 to 100"),
    (chat(dry_base=0.5), "dry_base", r"from 1 to 16"),
    (chat(dry_allowed_length=-1), "dry_allowed_length", r"from 0 to"),
    (chat(dry_penalty_last_n=-2), "dry_penalty_last_n", r"from -1 to"),
    (chat(dry_sequence_breakers=[1]), "dry_sequence_breakers", r"an array of strings"),
    (chat(dry_sequence_breakers=["a"] * 500), "dry_sequence_breakers", r"at most \d+ strings are allowed, but got 500"),
    (chat(seed=1.5), "seed", r"an integer of 64 bits"),
    (chat(seed="7"), "seed", r"an integer of 64 bits"),
    (chat(seed=2**64), "seed", r"an integer of 64 bits"),
    (chat(logit_bias=[1]), "logit_bias", r"an object of token ids and biases"),
    (chat(logit_bias={"word": 1}), "logit_bias", r"'word' is no token id"),
    (chat(logit_bias={"5": 101}), "logit_bias", r"token 5: expected a number from -100 to 100"),
    (chat(logit_bias={"5": "much"}), "logit_bias", r"token 5: expected a number from -100 to 100"),
    (chat(logit_bias={str(N_VOCAB): 1}), "logit_bias", rf"{N_VOCAB} is outside the vocabulary"),
    # Ends.
    (chat(stop=5), "stop", r"a string or an array of strings"),
    (chat(stop=""), "stop", r"1 to \d+ bytes is expected, but got 0"),
    (chat(stop=["a"] * 17), "stop", r"at most 16 strings are allowed, but got 17"),
    (chat(stop=["a", None]), "stop", r"an array of strings, but got null"),
    (chat(stop_token_ids="a"), "stop_token_ids", r"an array of token ids"),
    (chat(stop_token_ids=[-1]), "stop_token_ids", r"-1 is no token id"),
    (chat(stop_token_ids=[1] * 65), "stop_token_ids", r"at most 64 token ids are allowed, but got 65"),
    (chat(ignore_eos="yes"), "ignore_eos", r"expected a boolean, but got a string"),
    # Choices and logprobs.
    (chat(n=0), "n", r"from 1 to \d+, but got 0"),
    (chat(n=10**6), "n", r"from 1 to \d+, but got 1000000"),
    (complete(n=4, best_of=2), "best_of", r"must not be less than 'n'"),
    (complete(best_of=2, stream=True), "best_of", r"not available together with 'stream'"),
    (chat(logprobs=5), "logprobs", r"expected a boolean, but got an integer"),
    (chat(top_logprobs=2), "top_logprobs", r"only allowed together with 'logprobs': true"),
    (chat(logprobs=True, top_logprobs=21), "top_logprobs", r"from 0 to 20, but got 21"),
    (complete(logprobs=21), "logprobs", r"from 0 to 20, but got 21"),
    (complete(logprobs=True), "logprobs", r"expected an integer, but got a boolean"),
    (chat(prompt_logprobs=-1), "prompt_logprobs", r"from 0 to 20"),
    (chat(prompt_logprobs=1, stream=True), "prompt_logprobs", r"not available together with 'stream'"),
    # Streams.
    (chat(stream="yes"), "stream", r"expected a boolean, but got a string"),
    (chat(stream_options={"include_usage": True}), "stream_options", r"only allowed together with 'stream': true"),
    (chat(stream=True, stream_options=[]), "stream_options", r"expected an object, but got an array"),
    (chat(stream=True, stream_options={"include_usage": 1}), "stream_options.include_usage", r"expected a boolean"),
    (chat(stream_interval_ms=-1), "stream_interval_ms", r"from 0 to 60000"),
    (chat(stream_interval_tokens=0), "stream_interval_tokens", r"from 1 to 4096"),
    (chat(return_progress=True), "return_progress", r"only allowed together with 'stream': true"),
    # Templates.
    (chat(chat_template_kwargs=[]), "chat_template_kwargs", r"expected an object"),
    (chat(add_generation_prompt=1), "add_generation_prompt", r"expected a boolean"),
    (chat(continue_final_message=True, add_generation_prompt=True), "continue_final_message", r"cannot both be true"),
    # The rest.
    (chat(model=5), "model", r"expected a string, but got an integer"),
    (chat(model="x" * 600), "model", r"at most 512 bytes, but got 600"),
    (chat(user=5), "user", r"expected a string"),
    (chat(metadata={"a": 1}), "metadata", r"an object of strings, but got an integer"),
    (chat(priority=2 * 10**6), "priority", r"from -1000000 to 1000000"),
    (chat(timeout=0), "timeout", r"from 0\.001 to 86400"),
    (complete(suffix=5), "suffix", r"expected a string"),
    (complete(suffix="end", echo=True), "echo", r"not available together with 'suffix'"),
    ((INFILL, {}), "input_prefix", r"'input_prefix' or 'input_suffix'"),
    ((INFILL, {"input_prefix": 5}), "input_prefix", r"expected a string"),
    ((INFILL, {"input_prefix": "a", "input_extra": [{"text": "b"}]}), "input_extra", r"'filename' and 'text'"),
    (tokenize(), "content", r"Missing required parameter: 'content'"),
    (tokenize(content=5), "content", r"expected a string"),
    (tokenize(messages=[{"role": "x", "content": ""}]), "messages[0].role", r"'x' is none of"),
    (("/detokenize", {}), "tokens", r"Missing required parameter: 'tokens'"),
    (("/detokenize", {"tokens": ["a"]}), "tokens", r"an array of token ids, but got a string"),
    (("/detokenize", {"tokens": [-1]}), "tokens", r"-1 is outside the vocabulary"),
    (("/detokenize", {"tokens": [N_VOCAB]}), "tokens", rf"{N_VOCAB} is outside the vocabulary of {N_VOCAB} tokens"),
    (("/apply-template", {}), "messages", r"Missing required parameter: 'messages'"),
    (("/apply-template", {"messages": 5}), "messages", r"an array of messages"),
]

# The same with a code of their own: (request, status, type, param, code, message).
OTHER_REQUESTS = [
    (chat(tools=[{"type": "function", "function": {"name": "f"}}]), 400, INVALID, "tools", "unsupported_value", r"tools"),
    (chat(tool_choice="required"), 400, INVALID, "tool_choice", "unsupported_value", r"only the default: \"auto\""),
    (chat(response_format={"type": "json_object"}), 400, INVALID, "response_format", "unsupported_value", r"text"),
    (chat(modalities=["text", "audio"]), 400, INVALID, "modalities", "unsupported_value", r"\[\"text\"\]"),
    (chat(audio={"voice": "alloy"}), 400, INVALID, "audio", "unsupported_value", r"only null"),
    (chat(reasoning_effort="high"), 400, INVALID, "reasoning_effort", "unsupported_value", r"none"),
    (chat(service_tier="flex"), 400, INVALID, "service_tier", "unsupported_value", r"\"auto\" \"default\""),
    (chat(store=True), 400, INVALID, "store", "unsupported_value", r"false"),
    (messages({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}), 400, INVALID,
     "messages[0].content[0]", "unsupported_value", r"reads text only; a content part of type 'image_url'"),
    (messages({"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}), 400, INVALID,
     "messages[0].content[0]", "unsupported_value", r"'input_audio' is not supported"),
    (complete(prompt=too_long(5000)), 400, INVALID, "prompt", "context_length_exceeded", r"5000.*4096|4096.*5000"),
    (chat(messages=[{"role": "user", "content": "word " * 6000}]), 400, INVALID, "messages", "context_length_exceeded",
     r"4096"),
    (chat(max_tokens=5000), 400, INVALID, "messages", "context_length_exceeded", r"4096"),
    (chat(model="gpt-9"), 404, INVALID, "model", "model_not_found", r"'gpt-9' does not exist"),
    (complete(model="tiny2"), 404, INVALID, "model", "model_not_found", r"GET /v1/models lists"),
    (tokenize(content="a", model="x"), 404, INVALID, "model", "model_not_found", r"'x' does not exist"),
    (("/v1/chat/completion", {}), 404, "not_found_error", None, None, r"Unknown route: POST /v1/chat/completion"),
    (("/", {}), 404, "not_found_error", None, None, r"Unknown route: POST /"),
    (("/v1/models", {}), 405, INVALID, None, "method_not_allowed", r"'POST' is not allowed for /v1/models; allowed: GET"),
    (("/v1/requests/chatcmpl-none/cancel", {}), 404, "not_found_error", None, None, r"chatcmpl-none"),
]

TABLE = [(*r, 400, INVALID, param, None, message) for r, param, message in INVALID_REQUESTS]
TABLE += [(*r, *expected) for r, *expected in OTHER_REQUESTS]


def check(reply, status, kind, param, code, message):
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/json"
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["param"], error["code"]) == (kind, param, code), error
    assert re.search(message, error["message"]), error["message"]
    if param and not param.startswith("messages[") and code != "context_length_exceeded":
        assert param.split(".")[-1] in error["message"], "the message names the field"


def test_the_table_is_long_enough():
    assert len(TABLE) >= 60
    assert len({json.dumps(row[:2]) for row in TABLE}) == len(TABLE), "an entry comes twice"


@pytest.mark.parametrize("entry", TABLE, ids=lambda entry: f"{entry[0]}-{entry[4]}-{json.dumps(entry[1])[:60]}")
def test_bad_request(tiny, entry):
    path, body, *expected = entry
    check(tiny.post(path, body), *expected)


def test_the_server_goes_on(tiny):
    assert tiny.complete(max_tokens=3)["usage"]["completion_tokens"] == 3
    tiny.wait_idle()
    assert metric(tiny.metrics(), "tandem_engine_jobs_failed_total") == 0
    assert tiny.engine()["restarts"] == 0


# ---- bodies that are no JSON ----

BAD_JSON = [
    (b"", r"line 1, column 1: "), (b"{", r"line 1, column 2: "), (b'{"messages": [}', r"column 15: "), (b"{'a': 1}", r"column 2: "),
    (b'{"a": 1, "a": 2}', r"key 'a'|'a'.*twice"), (b'{"prompt": "\xff"}', r"UTF-8"), (b'{"prompt": "\\ud800"}', r"surrogate|UTF|escape"),
    (b'{"prompt": NaN}', r"N|value|unexpected"), (b'{"prompt": 01}', r"number|unexpected|0"), (b"{} x", r"column 4: nothing may follow"),
    (b"[" * 2000 + b"]" * 2000, r"deep|nest|level"),
]


@pytest.mark.parametrize(("body", "message"), BAD_JSON, ids=lambda value: repr(value)[:40])
def test_body_that_is_no_json(tiny, body, message):
    reply = tiny.http.post(COMPLETIONS, content=body, headers={"content-type": "application/json"})
    check(reply, 400, INVALID, None, None, message)


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
def test_other_media_types(tiny, content_type):
    """A page of another origin can send these without asking; it must not reach the model."""
    reply = tiny.http.post(COMPLETIONS, content=b'{"prompt": "a"}', headers={"content-type": content_type})
    check(reply, 415, INVALID, None, "unsupported_media_type", re.escape(content_type.split(";")[0]))


def test_json_with_parameters_passes(tiny):
    headers = {"content-type": "application/json; charset=utf-8"}
    assert tiny.http.post("/tokenize", content=b'{"content": "a"}', headers=headers).status_code == 200


def test_body_beyond_the_limit(tiny_path):
    with Server(tiny_path, "--kv-memory", "64M", "--max-body", "64K") as server:
        reply = server.post(COMPLETIONS, {"prompt": "a" * 70000})
        check(reply, 413, INVALID, None, "request_too_large", r"65536|64")
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as s:  # what is announced is refused unread
            s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                      b"Content-Length: 9999999999\r\n\r\n")
            assert s.recv(100).startswith(b"HTTP/1.1 413 ")
        assert server.complete(max_tokens=2)


def test_strict_fields(tiny_path):
    with Server(tiny_path, "--kv-memory", "64M", "--strict-fields") as server:
        check(server.post(*complete(temprature=1)), 400, INVALID, "temprature", "unknown_parameter", r"'temprature'")
        assert server.complete(max_tokens=2)


# ---- as the official client shows them ----

@pytest.mark.parametrize(("fields", "exception", "param", "code"), [
    ({"temperature": -1}, openai.BadRequestError, "temperature", None),
    ({"model": "gpt-9"}, openai.NotFoundError, "model", "model_not_found"),
    ({"max_tokens": 10**6}, openai.BadRequestError, "messages", "context_length_exceeded"),
])
@pytest.mark.parametrize("stream", [False, True])
def test_exceptions_of_the_client(tiny, stream, fields, exception, param, code):
    with tiny.openai() as client, pytest.raises(exception) as raised:
        client.chat.completions.create(**{"model": "default", "messages": HELLO, "stream": stream, **fields})
    assert (raised.value.param, raised.value.code, raised.value.type) == (param, code, INVALID)
    assert raised.value.request_id.startswith("chatcmpl-")
