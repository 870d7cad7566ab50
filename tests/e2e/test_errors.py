"""Bad requests: each with its status, type, parameter, code and message; and a server that goes on as if nothing had been."""
import asyncio
import functools
import json
import re
import socket

import openai
import pytest

from harness import ROOT, Server, metric

pytestmark = pytest.mark.cpu_only("refused before an engine hears of it")

CHAT, COMPLETIONS, INFILL = "/v1/chat/completions", "/v1/completions", "/infill"
RESPONSES, EXECUTE, BATCHES = "/v1/responses", "/v1/mcp/execute", "/v1/batches"
MESSAGE_BATCHES = "/v1/messages/batches"
LOAD, UNLOAD = "/v1/load_lora_adapter", "/v1/unload_lora_adapter"
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
    # Tools of MCP servers.
    ((EXECUTE, {}), "tool", r"Missing required parameter: 'tool'"),
    ((EXECUTE, {"tool": "x", "arguments": []}), "arguments", r"expected an object, but got an array"),
    (chat(mcp="s"), "mcp", r"a boolean or an array of servers' names, but got a string"),
    # Batches (test_batches.py has those of files, which need a journal).
    ((BATCHES, {}), "input_file_id", r"Missing required parameter: 'input_file_id'"),
    ((BATCHES, {"input_file_id": "f"}), "endpoint", r"Missing required parameter: 'endpoint'"),
    ((BATCHES, {"input_file_id": "f", "endpoint": CHAT}), "completion_window", r"Missing required parameter"),
    ((BATCHES, {"input_file_id": "f", "endpoint": CHAT, "completion_window": "721h"}), "completion_window", r"1h to 720h"),
    # Loading and unloading (what it does: test_models.py).
    (("/v1/models/default/load", {"wait": 1}), "wait", r"expected a boolean, but got an integer"),
    (("/v1/models/default/unload", {"force": "yes"}), "force", r"expected a boolean, but got a string"),
    # Adapters (what they do: test_lora.py).
    ((LOAD, {}), "lora_name", r"Missing required parameter: 'lora_name'"),
    ((LOAD, {"lora_name": "a"}), "lora_path", r"Missing required parameter: 'lora_path'"),
    ((LOAD, {"lora_name": 1, "lora_path": "a"}), "lora_name", r"expected a string"),
    ((LOAD, {"lora_name": "a", "lora_path": "a", "load_inplace": 1}), "load_inplace", r"expected a boolean"),
    ((UNLOAD, {}), "lora_name", r"Missing required parameter: 'lora_name'"),
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
    (messages({"role": "user", "content": [{"text": "hi"}]}), "messages[0].content[0].type", r"Missing .*content\[0\]\.type"),
    (messages({"role": "user", "content": [{"type": 5}]}), "messages[0].content[0].type", r"a string, but got an integer"),
    (messages({"role": "user", "content": [{"type": "text"}]}), "messages[0].content[0].text", r"Missing .*content\[0\]\.text"),
    (messages({"role": "user", "content": [{"type": "text", "text": []}]}), "messages[0].content[0].text", r"but got an array"),
    (messages({"role": "user", "content": "hi", "name": 5}), "messages[0].name", r"expected a string, but got an integer"),
    (messages({"role": "tool", "content": "hi", "tool_call_id": {}}), "messages[0].tool_call_id", r"but got an object"),
    (messages({"role": "user", "content": "hi", "tool_calls": 5}), "messages[0].tool_calls", r"expected an array"),
    (messages({"role": "assistant", "tool_calls": 1}), "messages[0].tool_calls", r"expected an array"),
    (messages({"role": "a" + "é" * 30, "content": "hi"}), "messages[0].role", r"'aé{19}\?' is none of"),
    (messages(*HELLO * 4097), "messages", r"1 to 4096 messages are allowed, but got 4097"),
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
    (complete(prompt={"text": "a"}), "prompt", r"but got an object"),
    (complete(prompt=[1.5]), "prompt", r"but got a number"),
    (complete(prompt=[[["a"]]]), "prompt", r"expected an array of token ids, but got an array"),
    (complete(prompt=[[1], [N_VOCAB]]), "prompt[1]", rf"'prompt\[1\]': token id {N_VOCAB} is outside"),
    (complete(prompt=[2**31]), "prompt", r"2147483648 is no token id"),
    # Predictions and speculation.
    (chat(prediction="a"), "prediction", r"expected an object with 'type' and 'content', but got a string"),
    (chat(prediction={"content": "a"}), "prediction.type", r"Missing required parameter: 'prediction.type'"),
    (chat(prediction={"type": "content"}), "prediction.content", r"Missing required parameter"),
    (chat(prediction={"type": "content", "content": 5}), "prediction.content", r"but got an integer"),
    (chat(prediction={"type": "content", "content": []}), "prediction.content", r"non-empty array of text parts"),
    (chat(prediction={"type": "content", "content": [{"type": "image_url"}]}), "prediction.content", r"of type \"text\""),
    (chat(speculation=True), "speculation", r"but got a boolean"),
    (chat(speculation="often"), "speculation", r"auto, off or on, not 'often'"),
    # Lengths.
    (chat(max_tokens=0), "max_tokens", r"from 1 to \d+, but got 0"),
    (chat(max_tokens=-5), "max_tokens", r"from 1 to \d+, but got -5"),
    (chat(max_tokens=2.5), "max_tokens", r"expected an integer, but got a number"),
    (chat(max_tokens="ten"), "max_tokens", r"expected an integer, but got a string"),
    (chat(max_completion_tokens=0), "max_completion_tokens", r"from 1 to"),
    (chat(max_tokens=10**12), "max_tokens", r"from 1 to \d+, but got 1000000000000"),
    (complete(max_tokens=0), "max_tokens", r"only together with 'echo'"),
    (complete(max_tokens=10**30), "max_tokens", r"from 0 to \d+, but got 10{30}"),
    (complete(max_tokens=True), "max_tokens", r"expected an integer, but got a boolean"),
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
    (chat(seed=2**63), "seed", r"an integer of 64 bits"),
    (chat(seed=-2**63 - 1), "seed", r"an integer of 64 bits"),
    (chat(logit_bias=[1]), "logit_bias", r"an object of token ids and biases"),
    (chat(logit_bias={"word": 1}), "logit_bias", r"'word' is no token id"),
    (chat(logit_bias={"5": 101}), "logit_bias", r"token 5: expected a number from -100 to 100"),
    (chat(logit_bias={"5": "much"}), "logit_bias", r"token 5: expected a number from -100 to 100"),
    (chat(logit_bias={str(N_VOCAB): 1}), "logit_bias", rf"{N_VOCAB} is outside the vocabulary"),
    (chat(logit_bias={"-1": 1}), "logit_bias", r"'-1' is no token id"),
    (chat(logit_bias={"": 1}), "logit_bias", r"'' is no token id"),
    (chat(logit_bias={str(i): 1 for i in range(1025)}), "logit_bias", r"at most 1024 tokens are allowed, but got 1025"),
    # Ends.
    (chat(stop=5), "stop", r"a string or an array of strings"),
    (chat(stop=""), "stop", r"1 to \d+ bytes is expected, but got 0"),
    (chat(stop=["a", ""]), "stop", r"1 to \d+ bytes is expected, but got 0"),
    (chat(stop="é" * 129), "stop", r"1 to 256 bytes is expected, but got 258"),
    (chat(stop=["a"] * 17), "stop", r"at most 16 strings are allowed, but got 17"),
    (chat(stop=["a", None]), "stop", r"an array of strings, but got null"),
    (chat(stop_token_ids="a"), "stop_token_ids", r"an array of token ids"),
    (chat(stop_token_ids=[-1]), "stop_token_ids", r"-1 is no token id"),
    (chat(stop_token_ids=[N_VOCAB]), "stop_token_ids", rf"{N_VOCAB} is outside the vocabulary"),
    (chat(stop_token_ids=[1] * 65), "stop_token_ids", r"at most 64 token ids are allowed, but got 65"),
    (chat(ignore_eos="yes"), "ignore_eos", r"expected a boolean, but got a string"),
    # Choices and logprobs.
    (chat(n=0), "n", r"from 1 to \d+, but got 0"),
    (chat(n=10**6), "n", r"from 1 to \d+, but got 1000000"),
    (complete(best_of=65), "best_of", r"from 1 to 64, but got 65"),
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
    (chat(chat_template_kwargs={"messages": []}), "chat_template_kwargs", r"may not set 'messages'"),
    (chat(add_generation_prompt=1), "add_generation_prompt", r"expected a boolean"),
    (chat(continue_final_message=True, add_generation_prompt=True), "continue_final_message", r"cannot both be true"),
    # The rest.
    (chat(model=5), "model", r"expected a string, but got an integer"),
    (chat(model="x" * 600), "model", r"at most 512 bytes, but got 600"),
    (chat(user=5), "user", r"expected a string"),
    (chat(safety_identifier=5), "safety_identifier", r"expected a string"),
    (chat(prompt_cache_key=[]), "prompt_cache_key", r"expected a string"),
    (chat(metadata={"a": 1}), "metadata", r"an object of strings, but got an integer"),
    (chat(metadata="a"), "metadata", r"an object of strings, but got a string"),
    (chat(priority=2 * 10**6), "priority", r"from -1000000 to 1000000"),
    (chat(timeout=0), "timeout", r"from 0\.001 to 86400"),
    (complete(suffix=5), "suffix", r"expected a string"),
    (complete(suffix="end", echo=True), "echo", r"not available together with 'suffix'"),
    ((INFILL, {}), "input_prefix", r"'input_prefix' or 'input_suffix'"),
    ((INFILL, {"input_prefix": 5}), "input_prefix", r"expected a string"),
    ((INFILL, {"input_prefix": "a", "input_extra": [{"text": "b"}]}), "input_extra", r"'filename' and 'text'"),
    (tokenize(), "content", r"Missing required parameter: 'content'"),
    (tokenize(content=5), "content", r"expected a string"),
    (tokenize(content="a", prompt="b"), "prompt", r"'content' and 'prompt' are the same field"),
    (tokenize(content="a", messages=HELLO), "messages", r"'messages' is not available together with 'content'"),
    (tokenize(messages=[{"role": "x", "content": ""}]), "messages[0].role", r"'x' is none of"),
    (("/detokenize", {}), "tokens", r"Missing required parameter: 'tokens'"),
    (("/detokenize", {"tokens": ["a"]}), "tokens", r"an array of token ids, but got a string"),
    (("/detokenize", {"tokens": [-1]}), "tokens", r"-1 is outside the vocabulary"),
    (("/detokenize", {"tokens": [2**40]}), "tokens", r"1099511627776 is outside the vocabulary"),
    (("/detokenize", {"tokens": [N_VOCAB]}), "tokens", rf"{N_VOCAB} is outside the vocabulary of {N_VOCAB} tokens"),
    (("/apply-template", {}), "messages", r"Missing required parameter: 'messages'"),
    (("/apply-template", {"messages": 5}), "messages", r"an array of messages"),
]

# The same with a code of their own: (request, status, type, param, code, message).
OTHER_REQUESTS = [
    (chat(tools=[{"type": "function", "function": {"name": "f"}}]), 400, INVALID, "tools", "unsupported_value", r"has no tools"),
    (chat(functions=[{"name": "f"}]), 400, INVALID, "functions", "unsupported_value", r"has no tools"),
    (chat(response_format={"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": {"not": {}}}}), 400,
     INVALID, "response_format", "unsupported_value", r"/not"),
    (chat(guided_regex="(a"), 400, INVALID, "guided_regex", None, r"grammar cannot be used"),
    (chat(prediction={"type": "text", "content": "a"}), 400, INVALID, "prediction.type", "unsupported_value",
     r"only the default: \"content\""),
    (chat(web_search_options={}), 400, INVALID, "web_search_options", "unsupported_value", r"only null"),
    (chat(moderation={"model": "omni-moderation-latest"}), 400, INVALID, "moderation", "unsupported_value", r"only null"),
    (chat(prompt_cache_retention="24h"), 400, INVALID, "prompt_cache_retention", "unsupported_value", r"\"in_memory\""),
    (chat(prompt_cache_options={"mode": "explicit"}), 400, INVALID, "prompt_cache_options", "unsupported_value", r"implicit"),
    ((INFILL, {"input_prefix": "a", "n_predict": 4, "max_tokens": 9}), 400, INVALID, "max_tokens", None, r"'n_predict'"),
    (chat(thinking_budget=5, reasoning_budget_tokens=7), 400, INVALID, "reasoning_budget_tokens", None, r"'thinking_budget'"),
    (chat(verbosity="high"), 400, INVALID, "verbosity", "unsupported_value", r"\"medium\""),
    (chat(stream=True, stream_options={"include_obfuscation": True}), 400, INVALID,
     "stream_options.include_obfuscation", "unsupported_value", r"only the default: false"),
    (complete(suffix="end"), 400, INVALID, "suffix", "unsupported_value", r"no fill-in-the-middle tokens"),
    ((INFILL, {"input_prefix": "a"}), 400, INVALID, "input_prefix", "unsupported_value", r"no fill-in-the-middle tokens"),
    (chat(modalities=["text", "audio"]), 400, INVALID, "modalities", "unsupported_value", r"\[\"text\"\]"),
    (chat(audio={"voice": "alloy"}), 400, INVALID, "audio", "unsupported_value", r"only null"),
    (chat(service_tier="flex"), 400, INVALID, "service_tier", "unsupported_value", r"\"auto\" \"default\""),
    (chat(store=True), 400, INVALID, "store", "unsupported_value", r"false"),
    (messages({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}), 400, INVALID,
     "messages[0].content[0]", "unsupported_value", r"reads text only; a content part of type 'image_url'"),
    (messages({"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}), 400, INVALID,
     "messages[0].content[0]", "unsupported_value", r"'input_audio' is not supported"),
    (complete(prompt=too_long(5000)), 400, INVALID, "prompt", "context_length_exceeded", r"5000.*4096|4096.*5000"),
    (complete(prompt=too_long(4093)), 400, INVALID, "prompt", "context_length_exceeded",
     r"4096 tokens.*4097 tokens \(4093 in the prompt, 4 in the completion\)"),
    (complete(prompt=[[5], too_long(4096)]), 400, INVALID, "prompt", "context_length_exceeded", r"4096 in the prompt"),
    (chat(messages=[{"role": "user", "content": "word " * 6000}]), 400, INVALID, "messages", "context_length_exceeded",
     r"4096"),
    (chat(max_tokens=5000), 400, INVALID, "messages", "context_length_exceeded", r"4096"),
    (chat(model="gpt-9"), 404, INVALID, "model", "model_not_found", r"'gpt-9' does not exist"),
    (complete(model="tiny2"), 404, INVALID, "model", "model_not_found", r"GET /v1/models lists"),
    (tokenize(content="a", model="x"), 404, INVALID, "model", "model_not_found", r"'x' does not exist"),
    (chat(model="a" + "é" * 60), 404, INVALID, "model", "model_not_found", r"'aé{49}\?' does not exist"),
    (("/detokenize", {"tokens": [], "model": "x"}), 404, INVALID, "model", "model_not_found", r"'x' does not exist"),
    (("/apply-template", {"messages": HELLO, "model": "x"}), 404, INVALID, "model", "model_not_found", r"'x' does not exist"),
    (("/v1/chat/completion", {}), 404, "not_found_error", None, None, r"Unknown route: POST /v1/chat/completion"),
    (("/", {}), 404, "not_found_error", None, None, r"Unknown route: POST /"),
    (("/v1/models", {}), 405, INVALID, None, "method_not_allowed", r"'POST' is not allowed for /v1/models; allowed: GET"),
    (("/v1/requests/chatcmpl-none/cancel", {}), 404, "not_found_error", None, None, r"chatcmpl-none"),
    (("/v1/requests/chatcmpl-none", {}), 405, INVALID, None, "method_not_allowed", r"allowed: GET, DELETE"),
    (("/v1/requests/chatcmpl-none/else", {}), 404, "not_found_error", None, None, r"Unknown route"),
    (("/v1/models/tiny", {}), 405, INVALID, None, "method_not_allowed", r"'POST' is not allowed for /v1/models/tiny"),
    (("/health", {}), 405, INVALID, None, "method_not_allowed", r"allowed: GET"),
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


@pytest.fixture(scope="module", autouse=True)
def unharmed(tiny):
    """After everything below: no page is referenced, no descriptor is left open, and no job has failed."""
    tiny.complete(max_tokens=2)
    tiny.wait_idle()
    gateway, engine = tiny.descriptors()
    restarts, failed = tiny.engine()["restarts"], metric(tiny.metrics(), "tandem_engine_jobs_failed_total")
    yield
    assert tiny.complete(max_tokens=3)["usage"]["completion_tokens"] == 3
    tiny.wait_idle()
    assert metric(tiny.metrics(), "tandem_engine_jobs_failed_total") == failed
    assert tiny.engine()["restarts"] == restarts
    tiny.wait_for(lambda: tiny.descriptors()[0] <= gateway + 2 and tiny.descriptors()[1] <= engine,
                  f"descriptors as before ({gateway}, {engine})")


def test_the_table_is_long_enough():
    assert len(TABLE) >= 60
    assert len({json.dumps(row[:2]) for row in TABLE}) == len(TABLE), "an entry comes twice"


def test_the_table_covers_all_routes_with_a_body():
    """But for those with errors that look otherwise, or tests of their own: test_anthropic_client.py, test_responses.py,
    test_ollama.py."""
    others = {*ANTHROPIC, *OLLAMA, RESPONSES}
    assert {path for path, fields in documented().items() if fields} - others <= {row[0] for row in TABLE}


@pytest.mark.parametrize("entry", TABLE, ids=lambda entry: f"{entry[0]}-{entry[4]}-{json.dumps(entry[1])[:60]}")
def test_bad_request(tiny, entry):
    path, body, *expected = entry
    check(tiny.post(path, body), *expected)


def test_replies_are_counted(tiny):
    def counts():
        values = tiny.metrics()
        return [metric(values, "tandem_http_replies_total", status=status) for status in ("2xx", "4xx", "5xx")]
    before = counts()
    for path, body, *_ in TABLE[::10]:
        tiny.post(path, body)
    tiny.tokens("abc")
    assert [b - a for a, b in zip(before, counts())] == [2, len(TABLE[::10]), 0]  # one of the good ones was /metrics


def test_the_last_token_that_fits(tiny):
    """What the context holds exactly is accepted, and more too where the request says what to leave out."""
    assert tiny.complete(too_long(4092), max_tokens=4)["usage"]["total_tokens"] == 4096
    usage = tiny.complete(too_long(5000), max_tokens=4, truncate_prompt_tokens=-1)["usage"]
    assert usage["prompt_tokens"] == 4092


# ---- every field that the documents name ----

@functools.cache
def documented():
    """{path: {field: its type}} of the routes with a body, but for those whose path has a part that varies."""
    routes, shared, others, path, fields = {}, {}, {}, None, None
    for line in (ROOT / "docs" / "API.md").read_text().splitlines():
        if route := re.fullmatch(r"## (\w+) (/\S+)", line):
            path, fields = route[2], routes.setdefault(route[2], {})
        elif section := re.fullmatch(r"## Fields of (.*)", line):
            fields = shared.setdefault(section[1], {})
        elif names := re.fullmatch(r"And the fields of (.*) \(below\)\.", line):
            others[path] = names[1].split(", and of ")
        elif row := re.match(r"\| `(\w+)` \| ([^|]*) \|", line):
            fields[row[1]] = row[2]
    assert set(others) == {CHAT, COMPLETIONS, INFILL, RESPONSES, "/v1/messages"}
    for path, names in others.items():
        for name in names:
            routes[path] |= {field: kind for field, kind in shared[name].items() if field not in routes[path]}
    return {path: fields for path, fields in routes.items() if "{" not in path}


ANTHROPIC = {"/v1/messages": {"messages": HELLO, "max_tokens": 2}, "/v1/messages/count_tokens": {"messages": HELLO},
             MESSAGE_BATCHES: {"requests": [{"custom_id": "a", "params": {}}]}}
OLLAMA = {"/api/chat": {"messages": HELLO, "options": {"num_predict": 2}},
          "/api/generate": {"prompt": "a", "options": {"num_predict": 2}}, "/api/show": {"model": "tiny"}}
BODIES = {**ANTHROPIC, **OLLAMA, RESPONSES: {"input": "Hello", "max_output_tokens": 2}, CHAT: {"messages": HELLO}, COMPLETIONS: {"prompt": "a"}, INFILL: {"input_prefix": "a"},
          "/tokenize": {}, "/detokenize": {"tokens": []}, "/apply-template": {"messages": HELLO}, EXECUTE: {"tool": "x"},
          LOAD: {"lora_name": "a", "lora_path": "a"}, UNLOAD: {"lora_name": "a"},
          BATCHES: {"input_file_id": "file-1", "endpoint": CHAT, "completion_window": "24h"}}
DOCUMENTED = [(path, name, kind) for path, fields in documented().items() for name, kind in fields.items()]
OF_A_TYPE = {"boolean": True, "integer": 5, "number": 5, "string": "x", "array": [[{}]], "object": {"a": 5}}


def is_wrong(path, name, kind, value_type):
    """Is OF_A_TYPE[value_type] no good for the field? The values of enumerations are all wrong."""
    if kind.startswith("only"):
        return not (name == "parallel_tool_calls" and value_type == "boolean")
    if value_type == "array":
        return not (name == "tools" and path in ("/tokenize", "/apply-template"))  # a template may want any shape
    good = re.findall("boolean|integer|number|string|object", re.sub(r"array of \w+|object of strings", "", kind))
    if "integer" in good or "number" in good:
        good += ["integer", "number"]  # 5 is both
    return value_type not in good


def message_of(reply):
    error = reply.json()["error"]
    return error if isinstance(error, str) else error["message"]


def test_the_documents_are_read():
    assert {path for path, fields in documented().items() if fields} == set(BODIES)
    assert len(DOCUMENTED) > 150
    assert {kind.split()[0].strip(",") for _, _, kind in DOCUMENTED} == {
        "array", "boolean", "integer", "number", "object", "only", "string"}


@pytest.mark.parametrize("path", BODIES)
def test_wrong_types_of_every_field(tiny, path):
    for name, kind in documented()[path].items():
        for value_type, value in OF_A_TYPE.items():
            if not is_wrong(path, name, kind, value_type):
                continue
            reply = tiny.post(path, {**BODIES[path], name: value})
            case = f"{path} {name}: {value}: {reply.status_code} {reply.text[:300]}"
            assert reply.status_code == 400, case
            error = reply.json()["error"]
            assert path in OLLAMA or error["type"] == INVALID, case
            if path in ANTHROPIC or path in OLLAMA:  # the sentence alone says which field it is
                assert re.search(rf"\b{name}\b", message_of(reply)), case
                continue
            assert re.fullmatch(re.escape(name) + r"(\[0\]|\.a)?", error["param"] or ""), case
            assert f"'{error['param']}'" in error["message"], case


@pytest.mark.parametrize("path", BODIES)
def test_bounds_of_every_number(tiny, path):
    for name, kind in documented()[path].items():
        bounds = re.fullmatch(r"(integer|number),? (\S+) to (\S+)", kind)
        if not bounds:
            continue
        low, high = float(bounds[2]), float(bounds[3])
        step = 1 if bounds[1] == "integer" else (high - low) / 1000
        for value in (low - step, high + step, -1e300, 1e300):
            reply = tiny.post(path, {**BODIES[path], name: int(value) if step == 1 and abs(value) < 1e18 else value})
            case = f"{path} {name}: {value}: {reply.status_code} {reply.text[:300]}"
            assert reply.status_code == 400, case
            alone = path in ANTHROPIC or path in OLLAMA
            assert alone or reply.json()["error"]["param"] == name, case
            said = re.search(r"from (\S+) to (\S+),", message_of(reply))
            assert said and (float(said[1]), float(said[2])) == (low, high), case


@pytest.mark.parametrize("path", BODIES)
def test_null_is_as_if_absent(tiny, path):
    body = {"content": "a"} if path == "/tokenize" else BODIES[path]
    short = {"max_tokens": 2} if path in (CHAT, COMPLETIONS) else {}
    absent = tiny.post(path, {**body, **short})
    given = tiny.post(path, {**dict.fromkeys(documented()[path]), **body, **short})
    assert given.status_code == absent.status_code == {INFILL: 400, EXECUTE: 400, BATCHES: 501, MESSAGE_BATCHES: 501, LOAD: 403, UNLOAD: 404}.get(path, 200), given.text
    assert "x-tandem-ignored-fields" not in given.headers


# ---- bodies that are no JSON ----

BAD_JSON = [  # what is sent, and where the fault lies
    (b"", r"line 1, column 1: the text ends"),
    (b"  ", r"column 3: the text ends"),
    (b"{", r"line 1, column 2: a key in double quotes"),
    (b"{'a': 1}", r"column 2: a key in double quotes"),
    (b'{"messages": [}', r"column 15: a value is expected"),
    (b'{"prompt": "a",}', r"column 16: a key in double quotes"),
    (b'{"prompt": "a"', r"column 15: ',' or '}' is expected"),
    (b'\n\n {"prompt":\n "a" "b"}', r"line 4, column 6: ',' or '}' is expected"),
    (b"{} x", r"column 4: nothing may follow"),
    (b'\xef\xbb\xbf{"prompt": "a"}', r"column 1: a value is expected"),
    (b'{"a": 1, "a": 2}', r"column 13: duplicate key 'a'"),
    (b'{"a": 1, "\\u0061": 2}', r"column 18: duplicate key 'a'"),
    (b'{"logit_bias": {"5": 1, "5": 2}}', r"column 28: duplicate key '5'"),
    (b'{"prompt": "\xff"}', r"not valid UTF-8"),
    (b'{"prompt": "\\ud800"}', r"column 19: a lone high surrogate"),
    (b'{"prompt": "a\nb"}', r"column 14: a control character"),
    (b'{"a\\u0000": 1}', r"column 11: .*U\+0000"),
    (b'{"prompt": NaN}', r"column 12: a value is expected"),
    (b'{"prompt": 01}', r"column 13: a number may not begin with 0"),
    (b'{"temperature": 1e400}', r"column 22: .*beyond the range"),
    (b"[" * 2000 + b"]" * 2000, r"column 33: .*nested deeper than 32 levels"),
]


@pytest.mark.parametrize(("body", "message"), BAD_JSON, ids=lambda value: repr(value)[:40])
def test_body_that_is_no_json(tiny, body, message):
    reply = tiny.http.post(COMPLETIONS, content=body, headers={"content-type": "application/json"})
    check(reply, 400, INVALID, None, None, message)


@pytest.mark.parametrize("content_type", ["text/plain", "multipart/form-data; boundary=x"])
def test_other_media_types(tiny, content_type):
    """A page of another origin can send these without asking; it must not reach the model."""
    reply = tiny.http.post(COMPLETIONS, content=b'{"prompt": "a"}', headers={"content-type": content_type})
    check(reply, 415, INVALID, None, "unsupported_media_type", re.escape(content_type.split(";")[0]))


def test_form_is_read_as_json_unless_a_page_sends_it(tiny_path):
    """`curl -d` says so of all that it sends; a page that an operator trusts has to say what it means."""
    form = {"content-type": "application/x-www-form-urlencoded"}
    with Server(tiny_path, "--kv-memory", "64M", "--cors-origin", "https://chat.example") as server:
        assert server.http.post("/tokenize", content=b'{"content": "a"}', headers=form).status_code == 200
        check(server.http.post("/tokenize", content=b"content=a", headers=form), 400, INVALID, None, None, "column 1")
        reply = server.http.post("/tokenize", content=b'{"content": "a"}', headers={**form, "origin": "https://chat.example"})
        check(reply, 415, INVALID, None, "unsupported_media_type", "x-www-form-urlencoded")
        stranger = server.http.post("/tokenize", content=b'{"content": "a"}', headers={**form, "origin": "https://other.example"})
        assert stranger.status_code == 403


def test_json_with_parameters_passes(tiny):
    headers = {"content-type": "application/json; charset=utf-8"}
    assert tiny.http.post("/tokenize", content=b'{"content": "a"}', headers=headers).status_code == 200


def test_body_beyond_the_limit(tiny_path):
    with Server(tiny_path, "--kv-memory", "64M", "--max-body", "64K") as server:
        reply = server.post(COMPLETIONS, {"prompt": "a" * 70000})
        check(reply, 413, INVALID, None, "request_too_large", r"at most 65536 bytes")
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as s:  # what is announced is refused unread
            s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                      b"Content-Length: 9999999999\r\n\r\n")
            assert s.recv(100).startswith(b"HTTP/1.1 413 ")
        assert server.complete(max_tokens=2)


def test_strict_fields(tiny_path):
    with Server(tiny_path, "--kv-memory", "64M", "--strict-fields") as server:
        check(server.post(*complete(temprature=1)), 400, INVALID, "temprature", "unknown_parameter", r"'temprature'")
        check(server.post(*chat(echo=True)), 400, INVALID, "echo", "unknown_parameter", r"'echo'")
        check(server.post(*chat(best_of=2)), 400, INVALID, "best_of", "unknown_parameter", r"'best_of'")
        check(server.post(*chat(stream=True, stream_options={"usage": True})), 400, INVALID, "stream_options.usage",
              "unknown_parameter", r"'usage'")
        assert server.complete(max_tokens=2)


def test_unknown_fields_are_named(tiny):
    """Fields of the other route are unknown too."""
    reply = tiny.post(*chat(echo=True, best_of=2, **{"näme, x": 1}))
    assert reply.status_code == 200
    assert reply.headers["x-tandem-ignored-fields"] == "echo, best_of, n??me??x"


# ---- requests without a body ----

@pytest.mark.parametrize(("method", "path", "status", "kind", "param", "code", "message"), [
    ("GET", "/v1/models/nothing", 404, INVALID, "model", "model_not_found", r"'nothing' does not exist; GET /v1/models"),
    ("GET", "/v1/models/a%2Fb", 404, INVALID, "model", "model_not_found", r"'a/b' does not exist"),
    ("GET", "/v1/models/", 404, "not_found_error", None, None, r"Unknown route: GET /v1/models/"),
    ("GET", "/V1/models", 404, "not_found_error", None, None, r"Unknown route: GET /V1/models"),
    ("GET", CHAT, 405, INVALID, None, "method_not_allowed", r"'GET' is not allowed for /v1/chat/completions; allowed: POST"),
    ("DELETE", "/v1/models/x", 405, INVALID, None, "method_not_allowed", r"allowed: GET"),
    ("GET", "/v1/cache", 405, INVALID, None, "method_not_allowed", r"allowed: DELETE"),
    ("POST", COMPLETIONS, 400, INVALID, None, None, r"line 1, column 1: the text ends"),
    ("GET", "/v1/requests/x", 404, "not_found_error", None, None, r"--journal"),
    ("DELETE", "/v1/requests/x", 404, "not_found_error", None, None, r"--journal"),
    ("POST", "/v1/requests//cancel", 404, "not_found_error", None, None, r"Unknown route"),
])
def test_bad_request_without_a_body(tiny, method, path, status, kind, param, code, message):
    reply = tiny.http.request(method, path)
    check(reply, status, kind, param, code, message)
    assert ("allow" in reply.headers) == (status == 405)


# ---- as the official client shows them ----

EXCEPTIONS = {400: openai.BadRequestError, 404: openai.NotFoundError, 405: openai.APIStatusError}


def test_the_whole_table_with_the_client(tiny):
    with tiny.openai() as client:
        client = client.with_options(base_url=tiny.url)
        for path, body, status, kind, param, code, message in TABLE:
            with pytest.raises(EXCEPTIONS[status]) as raised:
                client.post(path, body=body, cast_to=object)
            error = raised.value
            case = f"{path} {json.dumps(body)[:300]}: {error}"
            assert (error.status_code, error.type, error.param, error.code) == (status, kind, param, code), case
            assert re.search(message, error.body["message"]), case


def test_exceptions_of_other_resources(tiny):
    with tiny.openai() as client:
        with pytest.raises(openai.NotFoundError) as raised:
            client.models.retrieve("nothing")
        assert (raised.value.param, raised.value.code) == ("model", "model_not_found")
        with pytest.raises(openai.BadRequestError) as raised:
            client.completions.create(model="default", prompt="a", logprobs=21)
        assert raised.value.param == "logprobs" and "from 0 to 20" in raised.value.message
        with pytest.raises(openai.NotFoundError):
            client.embeddings.create(model="default", input="a")


def test_exceptions_of_the_async_client(tiny):
    async def ask():
        async with tiny.openai_async() as client:
            with pytest.raises(openai.BadRequestError) as raised:
                await client.chat.completions.create(model="default", messages=HELLO, top_p=2, stream=True)
            assert (raised.value.param, raised.value.type) == ("top_p", INVALID)
            with pytest.raises(openai.NotFoundError):
                await client.chat.completions.create(model="gpt-9", messages=HELLO)
    asyncio.run(ask())


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
    assert raised.value.request_id.startswith("req_")
