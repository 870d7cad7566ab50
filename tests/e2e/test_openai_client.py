"""The official client, sync and async, streaming and not, over every field that says what is asked, what comes back and
how it is delivered. Fields that shape the choice of tokens are in test_sampling.py."""
import asyncio
import math
import re
import subprocess
import time

import openai
import pytest

from ask import chat, chat_stream, complete, complete_stream, finish, ids, text, texts
from harness import PATIENCE, ROOT, SMOLLM, TANDEM, together

PROMPT = "Once upon a time"
REAL_WORDS = pytest.mark.cpu_only("it looks at what the real model says, which takes minutes on MLX without a GPU")
OTHER = "Dear Sir or Madam, I am writing to"
GREEDY = {"temperature": 0, "max_tokens": 12}


def deltas(stream, index=0):
    """The text of one choice of a stream of either API."""
    found = ""
    for chunk in stream:
        for choice in chunk["choices"]:
            if choice["index"] == index:
                found += choice["delta"]["content"] or "" if "delta" in choice else choice["text"]
    return found


def with_text(stream):
    """Chunks that carry text of an answer."""
    return [c for c in stream if c["choices"] and deltas([c], c["choices"][0]["index"])]


# ---- both APIs, both clients ----

def test_chat_object(smollm):
    with smollm.openai() as client:
        raw = client.chat.completions.with_raw_response.create(
            model="smol", messages=[{"role": "user", "content": "Say hello."}], **GREEDY)
    answer = raw.parse()
    assert re.fullmatch(r"chatcmpl-[0-9a-f]{24}", answer.id)
    assert re.fullmatch(r"req_[0-9a-f]{32}", raw.headers["x-request-id"])
    assert raw.headers["content-type"] == "application/json"
    assert "x-tandem-ignored-fields" not in raw.headers
    assert answer.object == "chat.completion" and answer.model == "smol"
    assert abs(answer.created - time.time()) < 100
    assert re.fullmatch(r"fp_[0-9a-f]{16}", answer.system_fingerprint)
    choice = answer.choices[0]
    assert choice.index == 0 and choice.message.role == "assistant" and choice.message.content
    assert choice.message.refusal is None and choice.logprobs is None and not choice.message.tool_calls
    assert choice.finish_reason in ("stop", "length")
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.prompt_tokens_details.cached_tokens >= 0


def test_completion_object(smollm):
    answer = complete(smollm, PROMPT, **GREEDY)
    assert re.fullmatch(r"cmpl-[0-9a-f]{24}", answer["id"])
    assert answer["object"] == "text_completion" and answer["model"] == smollm_name(smollm)
    assert finish(answer) == "length" and answer["usage"]["completion_tokens"] == 12
    assert answer["usage"]["prompt_tokens"] == len(smollm.tokens(PROMPT))


def smollm_name(server):
    return server.http.get("/v1/models").json()["data"][0]["id"]


def test_stream_equals_body(smollm):
    for fields in ({"temperature": 0}, {"seed": 31}, {"seed": 32, "n": 2}):
        fields["max_tokens"] = 12
        body, stream = chat(smollm, **fields), chat_stream(smollm, **fields)
        assert [deltas(stream, i) for i in range(fields.get("n", 1))] == texts(body)
        body, stream = complete(smollm, **fields), complete_stream(smollm, **fields)
        assert [deltas(stream, i) for i in range(fields.get("n", 1))] == texts(body)


def test_async_clients_together(smollm):
    """Streams and bodies of both APIs at the same time give what each gives alone."""
    async def run():
        async with smollm.openai_async() as client:
            async def body(i):
                answer = await client.chat.completions.create(
                    model="default", messages=[{"role": "user", "content": f"Count to {i}."}], seed=i, max_tokens=10)
                return answer.choices[0].message.content

            async def stream(i):
                found = ""
                async for chunk in await client.completions.create(model="default", prompt=f"Item {i}:", seed=i,
                                                                   max_tokens=10, stream=True):
                    found += chunk.choices[0].text
                return found
            return await asyncio.gather(*(body(i) if i % 2 else stream(i) for i in range(12)))

    found = asyncio.run(run())
    alone = [text(chat(smollm, f"Count to {i}.", seed=i, max_tokens=10)) if i % 2
             else text(complete(smollm, f"Item {i}:", seed=i, max_tokens=10)) for i in range(12)]
    assert found == alone


def test_models_endpoint(smollm):
    with smollm.openai() as client:
        listed = [m.id for m in client.models.list()]
        assert "smol" in listed and "gpt-*" not in listed
        one = client.models.retrieve("gpt-4o-mini")
        assert one.id == "gpt-4o-mini" and one.object == "model" and one.owned_by == "tandem"
        with pytest.raises(openai.NotFoundError) as caught:
            client.models.retrieve("other")
    assert caught.value.param == "model" and caught.value.code == "model_not_found"


# ---- model ----

@pytest.mark.parametrize("name, shown", [("default", "smol"), ("smol", "smol"), ("gpt-4o", "gpt-4o"),
                                         (SMOLLM, SMOLLM), (SMOLLM.removesuffix(".gguf"), SMOLLM.removesuffix(".gguf"))])
def test_model_names(smollm, name, shown):
    assert chat(smollm, model=name, max_tokens=1)["model"] == shown


def test_model_left_out(smollm):
    assert smollm.chat(max_tokens=1)["model"] == "smol"
    assert smollm.chat(max_tokens=1, model=None)["model"] == "smol"


@pytest.mark.parametrize("name", ["gpt", "smo", "smoll", "GPT-4o", ""])
def test_unknown_model(smollm, name):
    if name == "":
        assert chat(smollm, model=name, max_tokens=1)["model"] == "smol", "an empty name counts as none"
        return
    with pytest.raises(openai.NotFoundError) as caught:
        chat(smollm, model=name)
    assert caught.value.param == "model" and caught.value.code == "model_not_found" and name in str(caught.value)


# ---- messages and prompts ----

CONVERSATION = [
    {"role": "system", "content": "You are terse."},
    {"role": "user", "content": [{"type": "text", "text": "What is "}, {"type": "text", "text": "two and two?"}]},
    {"role": "assistant", "content": None,
     "tool_calls": [{"id": "1", "type": "function", "function": {"name": "add", "arguments": "{\"a\": 2}"}}]},
    {"role": "tool", "tool_call_id": "1", "content": "4"},
    {"role": "assistant", "content": "Four."},
    {"role": "developer", "content": "Answer in French."},
    {"role": "user", "name": "Ann", "content": "And three and three?"},
]


def test_roles_and_parts_reach_the_template(smollm):
    """A conversation of all roles is what its rendered template is as a plain prompt."""
    messages = [m for m in CONVERSATION if m["content"]]  # this template knows no tool calls
    rendered = smollm.ok("/apply-template", {"messages": messages})["prompt"]
    for part in ("system\nYou are terse.", "user\nWhat is \ntwo and two?", "tool\n4", "assistant\nFour.",
                 "Answer in French.", "user\nAnd three"):
        assert part in rendered, f"{part!r} is not in {rendered!r}"
    answer = chat(smollm, messages, return_token_ids=True, **GREEDY)
    same = complete(smollm, rendered, return_token_ids=True, **GREEDY)
    assert ids(answer) == ids(same)
    assert answer["usage"]["prompt_tokens"] == same["usage"]["prompt_tokens"]


def test_tool_calls_in_history_are_accepted(smollm):
    reply = smollm.post("/v1/chat/completions", {"messages": CONVERSATION, "max_tokens": 1})
    assert reply.status_code == 200 or reply.json()["error"]["param"].startswith("messages"), reply.text


def test_prompt_shapes(smollm):
    first, second = smollm.tokens(PROMPT), smollm.tokens(OTHER)
    alone = [text(complete(smollm, p, **GREEDY)) for p in (PROMPT, OTHER)]
    assert text(complete(smollm, first, **GREEDY)) == alone[0]
    for prompts in ([PROMPT, OTHER], [first, second]):
        answer = complete(smollm, prompts, **GREEDY)
        assert texts(answer) == alone
        assert [c["index"] for c in answer["choices"]] == [0, 1]
        assert answer["usage"]["prompt_tokens"] == len(first) + len(second)
        assert answer["usage"]["completion_tokens"] == 24
        stream = complete_stream(smollm, prompts, **GREEDY)
        assert [deltas(stream, i) for i in (0, 1)] == alone
    assert texts(complete(smollm, [PROMPT], **GREEDY)) == alone[:1]


def test_prompts_times_n(smollm):
    answer = complete(smollm, [PROMPT, OTHER], n=2, seed=3, max_tokens=8)
    assert [c["index"] for c in answer["choices"]] == [0, 1, 2, 3]
    assert len(set(texts(answer))) == 4
    assert texts(complete(smollm, [PROMPT], n=2, seed=3, max_tokens=8)) == texts(answer)[:2]


def test_empty_prompt_starts_anew(smollm):
    assert len(text(complete(smollm, "", **GREEDY))) > 0


def test_special_tokens_of_a_prompt(smollm):
    """Control tokens that a prompt names become one id each."""
    assert complete(smollm, "<|im_start|><|im_end|>", **GREEDY)["usage"]["prompt_tokens"] == 2


def test_add_generation_prompt(smollm):
    messages = [{"role": "user", "content": "Hi"}]
    for wanted in (True, False):
        prompt = smollm.ok("/apply-template", {"messages": messages, "add_generation_prompt": wanted})["prompt"]
        assert prompt.endswith("<|im_start|>assistant\n") == wanted
        answer = chat(smollm, messages, add_generation_prompt=wanted, **GREEDY)
        assert answer["usage"]["prompt_tokens"] == len(smollm.tokens(prompt))
        assert text(answer) == text(complete(smollm, prompt, **GREEDY))


def test_continue_final_message(smollm):
    messages = [{"role": "user", "content": "Name a color."}, {"role": "assistant", "content": "My favourite color is"}]
    prompt = smollm.ok("/apply-template", {"messages": messages, "continue_final_message": True})["prompt"]
    assert prompt.endswith("<|im_start|>assistant\nMy favourite color is")
    answer = chat(smollm, messages, continue_final_message=True, **GREEDY)
    assert text(answer) == text(complete(smollm, prompt, **GREEDY))


def test_chat_template_kwargs(new_scripted, tmp_path):
    template = tmp_path / "template.jinja"
    template.write_text("{{ mood | default('calm') }}: {{ messages[-1].content }}")
    with new_scripted("--chat-template", template) as server:
        message = {"messages": [{"role": "user", "content": "hi"}]}
        assert server.ok("/apply-template", message)["prompt"] == "calm: hi"
        kwargs = {"chat_template_kwargs": {"mood": "KEY-CHOICES"}}
        assert server.ok("/apply-template", {**message, **kwargs})["prompt"] == "KEY-CHOICES: hi"
        assert text(chat(server, "hi", **kwargs)) == "First answer."
        assert text(chat(server, "hi")) == "Hello there."


def test_truncate_prompt_tokens(smollm):
    tokens = smollm.tokens(PROMPT)
    answer = complete(smollm, PROMPT, truncate_prompt_tokens=4, **GREEDY)
    assert text(answer) == text(complete(smollm, tokens[-4:], **GREEDY))
    assert answer["usage"]["prompt_tokens"] == 4
    assert answer["usage"]["prompt_tokens_details"]["truncated_tokens"] == len(tokens) - 4
    whole = complete(smollm, PROMPT, truncate_prompt_tokens=1000, **GREEDY)
    assert whole["usage"]["prompt_tokens_details"]["truncated_tokens"] == 0
    assert text(whole) == text(complete(smollm, PROMPT, **GREEDY))


def test_truncate_to_the_context(tiny):
    context = tiny.engine()["context"]
    prompt = [100 + i % 7 for i in range(context + 50)]
    with pytest.raises(openai.BadRequestError):
        complete(tiny, prompt, max_tokens=10)
    answer = complete(tiny, prompt, max_tokens=10, truncate_prompt_tokens=-1)
    assert answer["usage"]["prompt_tokens"] == context - 10
    assert answer["usage"]["prompt_tokens_details"]["truncated_tokens"] == 60


# ---- length ----

def test_max_tokens(smollm):
    for fields in ({"max_tokens": 3}, {"max_completion_tokens": 3}, {"max_tokens": 9, "max_completion_tokens": 3}):
        answer = chat(smollm, temperature=0, **fields)
        assert answer["usage"]["completion_tokens"] == 3 and finish(answer) == "length"
    assert complete(smollm, PROMPT)["usage"]["completion_tokens"] == 16, "OpenAI's default for completions"


def test_end_of_text_stops(scripted):
    answer = chat(scripted, "KEY-CHOICES", logprobs=False)
    assert text(answer) == "First answer." and finish(answer) == "stop"
    assert answer["choices"][0]["stop_reason"] is not None
    assert answer["usage"]["completion_tokens"] == len(scripted.tokens("First answer.")) + 1, "the end is a token too"
    assert text(chat(scripted, "KEY-EMPTY")) == "" and finish(chat(scripted, "KEY-EMPTY")) == "stop"


def test_without_max_tokens_the_context_is_the_limit(tiny):
    context = tiny.engine()["context"]
    prompt = [200 + i % 5 for i in range(context - 30)]
    answer = tiny.chat([{"role": "user", "content": "a " * 10}], ignore_eos=True, truncate_prompt_tokens=5, max_tokens=5)
    assert answer["usage"]["total_tokens"] == 10
    answer = complete(tiny, prompt, max_tokens=30, ignore_eos=True)
    assert answer["usage"]["total_tokens"] == context and finish(answer) == "length"


# ---- stop strings ----

def test_stop_string_and_list(scripted):
    from script_rules import PLAIN
    answer = complete(scripted, "KEY-PLAIN", max_tokens=99)
    assert text(answer) == PLAIN
    for stop in ("STOP", ["STOP"], ["never there", "END", "STOP"], ["STOP", "ST", " says: S"]):
        answer = complete(scripted, "KEY-PLAIN", max_tokens=99, stop=stop)
        stops = [stop] if isinstance(stop, str) else stop
        first = min((PLAIN.index(s) + len(s), PLAIN.index(s), s) for s in stops if s in PLAIN)
        assert text(answer) == PLAIN[:min(PLAIN.index(s) for s in stops
                                          if s in PLAIN and PLAIN.index(s) + len(s) == first[0])]
        assert finish(answer) == "stop" and answer["choices"][0]["stop_reason"] in stops


def test_stop_across_token_borders(scripted):
    """Every substring of an answer as a stop string: cut exactly, in the body and in the stream."""
    from script_rules import PLAIN
    body = {"prompt": "KEY-PLAIN", "max_tokens": 99}
    for begin in range(1, len(PLAIN) - 9, 7):
        stop = PLAIN[begin:begin + 2 + begin % 8]
        expected = PLAIN[:PLAIN.index(stop)]
        assert scripted.complete(stop=stop, **body)["choices"][0]["text"] == expected, f"stop={stop!r}"
        if begin % 3 == 0:
            assert deltas(complete_stream(scripted, stop=stop, **body)) == expected, f"stop={stop!r}"


def test_stop_string_of_all_16(scripted):
    stops = [f"no{i}" for i in range(15)] + ["lazy"]
    answer = complete(scripted, "KEY-PLAIN", max_tokens=99, stop=stops)
    assert text(answer).endswith("over the ") and answer["choices"][0]["stop_reason"] == "lazy"


def test_stop_kept_in_the_output(scripted):
    answer = complete(scripted, "KEY-PLAIN", max_tokens=99, stop="STOP", include_stop_str_in_output=True)
    assert text(answer).endswith("It says: STOP")


def test_what_might_have_become_a_stop_is_given_out(scripted):
    answer = complete(scripted, "KEY-PLAIN", max_tokens=99, stop="Second line..")
    assert text(answer).endswith("Second line."), "held back in vain, so it has to come in the end"


def test_stop_ends_one_choice_only(scripted):
    answer = chat(scripted, "KEY-CHOICES", n=3, stop="one")
    assert texts(answer) == ["First answer.", "Second ", "The third of them."]
    assert [finish(answer, i) for i in range(3)] == ["stop"] * 3


# ---- logprobs ----

def test_chat_logprobs(smollm):
    answer = chat(smollm, logprobs=True, top_logprobs=5, return_token_ids=True, **GREEDY)
    content = answer["choices"][0]["logprobs"]["content"]
    assert len(content) == len(ids(answer)) and answer["choices"][0]["logprobs"]["refusal"] is None
    assert "".join(item["token"] for item in content) == text(answer)
    for item in content:
        assert bytes(item["bytes"]).decode() == item["token"]
        assert len(item["top_logprobs"]) == 5
        values = [top["logprob"] for top in item["top_logprobs"]]
        assert values == sorted(values, reverse=True) and math.fsum(map(math.exp, values)) <= 1 + 1e-5
        assert (item["token"], item["logprob"]) == (item["top_logprobs"][0]["token"], values[0]), "greedy is the best"
    bare = chat(smollm, logprobs=True, **GREEDY)["choices"][0]["logprobs"]["content"]
    assert [i["logprob"] for i in bare] == [i["logprob"] for i in content]
    assert all(i["top_logprobs"] == [] for i in bare)


def test_completion_logprobs_agree_with_chat(smollm):
    rendered = smollm.ok("/apply-template", {"messages": [{"role": "user", "content": "Say hello."}]})["prompt"]
    of_chat = chat(smollm, logprobs=True, top_logprobs=3, **GREEDY)["choices"][0]["logprobs"]["content"]
    answer = complete(smollm, rendered, logprobs=3, **GREEDY)
    logprobs = answer["choices"][0]["logprobs"]
    assert logprobs["tokens"] == [i["token"] for i in of_chat]
    assert logprobs["token_logprobs"] == [i["logprob"] for i in of_chat]
    assert logprobs["top_logprobs"] == [{t["token"]: t["logprob"] for t in i["top_logprobs"]} for i in of_chat]
    for token, offset in zip(logprobs["tokens"], logprobs["text_offset"], strict=True):
        assert text(answer)[offset:offset + len(token)] == token


def test_streamed_logprobs_equal_the_body(smollm):
    fields = {"logprobs": True, "top_logprobs": 2, "seed": 5, "max_tokens": 12}
    stream = [c for c in chat_stream(smollm, **fields) if c["choices"] and c["choices"][0]["logprobs"]]
    items = [item for c in stream for item in c["choices"][0]["logprobs"]["content"]]
    assert items == chat(smollm, **fields)["choices"][0]["logprobs"]["content"]
    stream = complete_stream(smollm, PROMPT, logprobs=2, echo=True, max_tokens=6, seed=5)
    body = complete(smollm, PROMPT, logprobs=2, echo=True, max_tokens=6, seed=5)["choices"][0]["logprobs"]
    for column in ("tokens", "token_logprobs", "text_offset", "top_logprobs"):
        found = [x for c in stream for choice in c["choices"] for x in choice["logprobs"][column]]
        assert found == body[column], column


def test_echo(smollm):
    answer = complete(smollm, PROMPT, echo=True, **GREEDY)
    assert text(answer) == PROMPT + text(complete(smollm, PROMPT, **GREEDY))
    assert deltas(complete_stream(smollm, PROMPT, echo=True, **GREEDY)) == text(answer)
    assert answer["usage"]["completion_tokens"] == 12
    assert text(complete(smollm, smollm.tokens(PROMPT), echo=True, **GREEDY)) == text(answer)


def test_echo_alone_scores_the_prompt(smollm):
    answer = complete(smollm, PROMPT, echo=True, max_tokens=0, logprobs=4)
    assert text(answer) == PROMPT and answer["usage"]["completion_tokens"] == 0 and finish(answer) == "length"
    logprobs = answer["choices"][0]["logprobs"]
    assert "".join(logprobs["tokens"]) == PROMPT
    assert logprobs["token_logprobs"][0] is None and logprobs["top_logprobs"][0] is None
    assert all(value < 0 for value in logprobs["token_logprobs"][1:])
    assert all(len(top) == 4 for top in logprobs["top_logprobs"][1:])
    assert [PROMPT[o:o + len(t)] for t, o in zip(logprobs["tokens"], logprobs["text_offset"])] == logprobs["tokens"]


def test_echo_logprobs_are_those_of_generation(smollm):
    """Scoring a prompt gives each token the logprob that it had when it was generated."""
    made = complete(smollm, PROMPT, logprobs=0, return_token_ids=True, **GREEDY)
    scored = complete(smollm, smollm.tokens(PROMPT) + ids(made), echo=True, max_tokens=0, logprobs=0)
    tail = scored["choices"][0]["logprobs"]["token_logprobs"][-12:]
    assert tail == made["choices"][0]["logprobs"]["token_logprobs"]


def test_prompt_logprobs(smollm):
    tokens = smollm.tokens(PROMPT)
    answer = complete(smollm, PROMPT, prompt_logprobs=2, max_tokens=1)
    echoed = complete(smollm, PROMPT, echo=True, max_tokens=0, logprobs=0)["choices"][0]["logprobs"]
    entries = answer["choices"][0]["prompt_logprobs"]
    assert len(entries) == len(tokens) and entries[0] is None
    for i, entry in enumerate(entries[1:], 1):
        mine = entry[str(tokens[i])]
        assert mine["logprob"] == echoed["token_logprobs"][i]
        assert mine["decoded_token"] == echoed["tokens"][i]
        assert mine["rank"] >= 1 and 2 <= len(entry) <= 3
        ranks = sorted(e["rank"] for e in entry.values())
        assert ranks[:2] == [1, 2]
    in_chat = chat(smollm, prompt_logprobs=0, max_tokens=1)
    assert len(in_chat["prompt_logprobs"]) == in_chat["usage"]["prompt_tokens"]
    assert complete(smollm, PROMPT, max_tokens=1)["choices"][0].get("prompt_logprobs") is None


# ---- delivery ----

def test_include_usage(smollm):
    with_usage = chat_stream(smollm, stream_options={"include_usage": True}, **GREEDY)
    assert with_usage[-1]["choices"] == [] and all(c["usage"] is None for c in with_usage[:-1])
    assert with_usage[-1]["usage"] == chat(smollm, **GREEDY)["usage"] | {
        "prompt_tokens_details": with_usage[-1]["usage"]["prompt_tokens_details"]}
    without = chat_stream(smollm, **GREEDY)
    assert all(c.get("usage") is None for c in without) and without[-1]["choices"]
    running = complete_stream(smollm, PROMPT, stream_options={"include_usage": True, "continuous_usage_stats": True},
                              **GREEDY)
    counts = [c["usage"]["completion_tokens"] for c in running]
    assert counts == sorted(counts) and counts[-1] == 12 and counts[0] < 12


def test_stream_interval_tokens(scripted):
    fine = complete_stream(scripted, "KEY-PACED", max_tokens=99)
    coarse = complete_stream(scripted, "KEY-PACED", max_tokens=99, stream_interval_tokens=8)
    assert deltas(fine) == deltas(coarse)
    n_tokens = len(scripted.tokens(deltas(fine)))
    assert len(with_text(fine)) > n_tokens / 2, "one by one, as they come"
    assert len(with_text(coarse)) <= n_tokens / 8 + 3, [deltas([c]) for c in coarse]


def test_stream_interval_ms(scripted):
    """10 ms per token, so 60 tokens in 600 ms: gathered for 150 ms, they come in a few chunks."""
    coarse = complete_stream(scripted, "KEY-SLOW", max_tokens=60, stream_interval_ms=150)
    fine = complete_stream(scripted, "KEY-SLOW", max_tokens=60)
    assert deltas(coarse) == deltas(fine) and finish(coarse[-1]) == "length"
    assert len(with_text(coarse)) <= 12 < 40 < len(with_text(fine)), (len(with_text(coarse)), len(with_text(fine)))


def test_stream_interval_server_default(new_scripted):
    with new_scripted("--stream-interval-tokens", 16) as server:
        coarse = complete_stream(server, "KEY-PACED", max_tokens=99)
        fine = complete_stream(server, "KEY-PACED", max_tokens=99, stream_interval_tokens=1)
        assert deltas(coarse) == deltas(fine) and len(with_text(coarse)) < len(with_text(fine)) / 3


def test_return_progress(smollm):
    prompt = [1000 + 7 * i % 3000 for i in range(700)]
    stream = complete_stream(smollm, prompt, max_tokens=2, return_progress=True, cache_prompt=False)
    progress = [c["prompt_progress"] for c in stream if c.get("prompt_progress")]
    assert progress, "no progress came"
    done = [p["processed"] for p in progress]
    assert done == sorted(done) and all(p["total"] == 700 and 0 <= p["processed"] <= 700 for p in progress)
    assert not any(c.get("prompt_progress") for c in complete_stream(smollm, prompt, max_tokens=2))


def test_cached_tokens(smollm):
    prompt = [2000 + 11 * i % 3000 for i in range(300)]
    page = smollm.engine()["page_tokens"]
    first, second = (complete(smollm, prompt, return_token_ids=True, **GREEDY) for _ in range(2))
    assert first["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    assert second["usage"]["prompt_tokens_details"]["cached_tokens"] == 300 // page * page
    assert ids(first) == ids(second)
    without = complete(smollm, prompt, cache_prompt=False, **GREEDY)
    assert without["usage"]["prompt_tokens_details"]["cached_tokens"] == 0


def test_priority(new_scripted):
    """One place to run: of those who wait, the lower number goes first, whoever came first."""
    with new_scripted("--max-sequences", 1) as server:
        order = []

        def ask_with(priority):
            complete(server, "KEY-SLOW", max_tokens=5, priority=priority)
            order.append(priority)

        def later(delay, priority):
            def run():
                time.sleep(delay * PATIENCE)
                ask_with(priority)
            return run
        blocker = lambda: complete(server, "KEY-SLOW", max_tokens=int(100 * PATIENCE))  # noqa: E731 (1 s)
        together([blocker, later(0.15, 5), later(0.3, 0), later(0.45, -5)])
        assert order == [-5, 0, 5]


def test_timeout(scripted):
    with pytest.raises(openai.InternalServerError) as caught:
        with scripted.openai() as client:
            client.completions.create(model="default", prompt="KEY-SLOW", max_tokens=2000, extra_body={"timeout": 0.3})
    assert caught.value.status_code == 504 and caught.value.code == "deadline_exceeded"
    with scripted.openai() as client, pytest.raises(openai.APIError) as caught:
        for _ in client.completions.create(model="default", prompt="KEY-SLOW", max_tokens=2000, stream=True,
                                           extra_body={"timeout": 0.3}):
            pass
    assert caught.value.code == "deadline_exceeded"
    assert text(complete(scripted, "KEY-CHOICES", extra_body={"timeout": 20})) == "First answer."


def test_hints_are_accepted_and_not_named(smollm):
    body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1, "user": "u", "metadata": {"a": "b"},
            "safety_identifier": "s", "prompt_cache_key": "k"}
    reply = smollm.post("/v1/chat/completions", body)
    assert reply.status_code == 200 and "x-tandem-ignored-fields" not in reply.headers


def test_unknown_fields_are_named(smollm):
    reply = smollm.post("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1,
                                                 "frobnicate": 1, "zap": {"a": [1]}})
    assert reply.status_code == 200 and reply.headers["x-tandem-ignored-fields"] == "frobnicate, zap"


NO_OPS = [{"store": False}, {"service_tier": "auto"}, {"service_tier": "default"}, {"parallel_tool_calls": True},
          {"parallel_tool_calls": False}, {"tools": []}, {"functions": []}, {"tool_choice": "auto"},
          {"tool_choice": "none"}, {"response_format": {"type": "text"}}, {"modalities": ["text"]},
          {"reasoning_effort": "none"}, {"verbosity": "medium"}, {"n": 1}, {"prompt_cache_retention": "in_memory"},
          {"prompt_cache_options": {"mode": "implicit"}}, {"thinking_budget": 9, "thinking_budget_tokens": 9}, {"stop": []}, {"logit_bias": {}},
          {"stream": False}, {"logprobs": False}, {"top_logprobs": None}, {"metadata": {}}]
NULLS = ["store", "service_tier", "parallel_tool_calls", "tools", "tool_choice", "functions", "function_call", "response_format", "stop", "logit_bias",
         "stream", "stream_options", "logprobs", "seed", "n", "temperature", "top_p", "top_k", "user", "metadata",
         "audio", "prediction", "modalities", "web_search_options", "reasoning_effort", "max_tokens", "min_p", "priority",
         "max_completion_tokens", "presence_penalty", "frequency_penalty", "timeout", "chat_template_kwargs"]


def test_no_op_values_pass(scripted):
    for fields in [*NO_OPS, {name: None for name in NULLS}]:
        reply = scripted.post("/v1/chat/completions", {"messages": [{"role": "user", "content": "KEY-CHOICES"}], **fields})
        assert reply.status_code == 200, f"{fields}: {reply.text}"
        assert reply_content(reply) == "First answer." and "x-tandem-ignored-fields" not in reply.headers, fields


def reply_content(reply):
    return reply.json()["choices"][0]["message"]["content"]


# ---- fill in the middle ----

PREFIX, SUFFIX = "def add(a, b):\n    return ", "\n\nprint(add(1, 2))\n"


@REAL_WORDS
def test_suffix(qwen):
    answer = complete(qwen, PREFIX, suffix=SUFFIX, return_token_ids=True, **GREEDY)
    fim = [qwen.tokens(f"<|fim_{part}|>") for part in ("prefix", "suffix", "middle")]
    assert all(len(ids_) == 1 for ids_ in fim)
    prompt = fim[0] + qwen.tokens(PREFIX) + fim[1] + qwen.tokens(SUFFIX) + fim[2]
    assert ids(answer) == ids(complete(qwen, prompt, return_token_ids=True, **GREEDY))
    assert text(answer).startswith("a + b"), text(answer)
    assert answer["usage"]["prompt_tokens"] == len(prompt)


@REAL_WORDS
def test_infill(qwen):
    body = {"input_prefix": PREFIX, "input_suffix": SUFFIX, "temperature": 0, "n_predict": 12}
    plain = qwen.ok("/infill", body)
    assert text(plain) == text(complete(qwen, PREFIX, suffix=SUFFIX, **GREEDY))
    typed = qwen.ok("/infill", {**body, "prompt": "a"})
    assert text(typed).lstrip().startswith("+ b"), text(typed)
    extra = qwen.ok("/infill", {**body, "input_extra": [{"filename": "x.py", "text": "def sub(a, b): return a - b\n"}]})
    assert extra["usage"]["prompt_tokens"] > plain["usage"]["prompt_tokens"] + 10
    stream = qwen.stream_all("/infill", body)
    assert "".join(c["choices"][0]["text"] for kind, c in stream if kind == "data") == text(plain)


def test_suffix_needs_a_model_for_it(tiny):
    special = tiny.post("/v1/completions", {"prompt": "a", "suffix": "b"})
    if special.status_code == 200:
        pytest.skip("skip: this tokenizer has fill-in-the-middle tokens")
    assert special.status_code == 400 and special.json()["error"]["param"] == "suffix"
    assert complete(tiny, "a", suffix="", max_tokens=1)["choices"], "an empty suffix counts as none"


# ---- completeness ----

def test_every_documented_field_is_tested():
    """Each field that the program documents occurs in the text of these tests."""
    documented = subprocess.run([TANDEM, "docs", "api"], capture_output=True, text=True, check=True).stdout
    names = set(re.findall(r"^\| `(\w+)` \|", documented, re.MULTILINE))
    assert len(names) > 70
    tests = "".join(path.read_text() for path in (ROOT / "tests" / "e2e").glob("*.py"))
    untested = sorted(name for name in names if not re.search(rf"\b{name}\b", tests))
    assert not untested, f"no test names {untested}"
