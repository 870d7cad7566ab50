"""Answers that are bound: by a schema, a regular expression, a choice, a grammar, a tool choice. A real model at a
temperature at which it writes nonsense has to keep to them all the same; whatever happens to its engine meanwhile."""
import json
import os
import re
import signal
import subprocess
import sys

import jsonschema
import pytest

from harness import PATIENCE, ROOT, Server, chunks, metric, together

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
TOOL_PROMPTS = pytest.mark.cpu_only("a prompt with tools takes the real model tens of seconds on MLX without a GPU")
HOT = {"temperature": 1.5, "max_tokens": 400}

PERSON = {"type": "object", "additionalProperties": False, "required": ["name", "age", "tags", "address"], "properties": {
    "name": {"type": "string", "maxLength": 12},
    "age": {"type": "integer", "minimum": 0, "maximum": 120},
    "tags": {"type": "array", "items": {"enum": ["red", "green", "größer"]}, "minItems": 1, "maxItems": 4},
    "address": {"$ref": "#/$defs/address"}},
    "$defs": {"address": {"type": "object", "additionalProperties": False, "required": ["zip"], "properties": {
        "zip": {"type": "string", "pattern": "^[0-9]{5}$"}, "floor": {"type": ["integer", "null"], "minimum": -2, "maximum": 9}}}}}
LIST = {"type": "array", "minItems": 20, "maxItems": 20, "items": {
    "type": "object", "additionalProperties": False, "required": ["id", "kind"], "properties": {
        "id": {"type": "integer", "minimum": 0, "maximum": 999}, "kind": {"enum": ["a", "bb", "ccc"]}}}}
WEATHER_TOOL = {"type": "function", "function": {"name": "weather", "parameters": {
    "type": "object", "additionalProperties": False, "required": ["city", "days"], "properties": {
        "city": {"type": "string", "maxLength": 10}, "days": {"type": "integer", "minimum": 1, "maximum": 9}}}}}
TIME_TOOL = {"type": "function", "function": {"name": "time", "parameters": {
    "type": "object", "additionalProperties": False, "properties": {"zone": {"enum": ["CET", "UTC"]}}}}}
SCHEMAS = {t["function"]["name"]: t["function"]["parameters"] for t in (WEATHER_TOOL, TIME_TOOL)}


def schema_format(schema, **fields):
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, **fields}}}


def contents(answer):
    return [c["message"]["content"] for c in answer["choices"]]


def check(text, schema):
    jsonschema.validate(json.loads(text), schema, jsonschema.Draft202012Validator)


@pytest.fixture(scope="module")
def caller(smollm_path, agent_template):
    """The real model with a template that has tools and reasoning."""
    with Server(smollm_path, "--threads", 2, "--kv-memory", "256M", "--max-context", 2048, "--chat-template",
                agent_template) as server:
        yield server


# ---- formats ----

def test_a_schema_is_obeyed(smollm):
    answers = together([lambda seed=seed: smollm.chat("Describe somebody.", seed=seed, n=2, **HOT,
                                                      **schema_format(PERSON, strict=True)) for seed in range(6)])
    for answer in answers:
        for choice in answer["choices"]:
            assert choice["finish_reason"] == "stop"
            check(choice["message"]["content"], PERSON)
    texts = [t for a in answers for t in contents(a)]
    assert len(set(texts)) == len(texts)


def test_streams_and_official_client(smollm):
    fields = dict(seed=3, n=2, **HOT, **schema_format(PERSON, strict=True))
    body = smollm.chat("Describe somebody.", **fields)
    texts = ["", ""]
    for chunk in chunks(smollm.stream(CHAT, {"messages": [{"role": "user", "content": "Describe somebody."}],
                                             "stream": True, **fields})):
        for choice in chunk["choices"]:
            texts[choice["index"]] += choice["delta"].get("content") or ""
    assert texts == contents(body)
    client = smollm.openai()
    answer = client.chat.completions.create(model="smol", messages=[{"role": "user", "content": "Describe somebody."}],
                                            **fields)
    assert [c.message.content for c in answer.choices] == texts


FORMATS = [
    ({"response_format": {"type": "json_object"}, "max_tokens": 60, "temperature": 0}, lambda t: t.startswith("{")),
    ({"response_format": {"type": "json_object", "schema": LIST["items"]}}, lambda t: check(t, LIST["items"]) is None),
    ({"guided_json": LIST["items"]}, lambda t: check(t, LIST["items"]) is None),
    ({"guided_json": json.dumps(LIST["items"])}, lambda t: check(t, LIST["items"]) is None),
    ({"json_schema": LIST["items"]}, lambda t: check(t, LIST["items"]) is None),
    ({"guided_regex": r"[A-Z][a-z]{2,5}-[0-9]{3}"}, lambda t: re.fullmatch(r"[A-Z][a-z]{2,5}-[0-9]{3}", t)),
    ({"guided_choice": ["yes", "no", "maybe not"]}, lambda t: t in ("yes", "no", "maybe not")),
    ({"guided_grammar": 'start: "a" NUMBER "z"\nNUMBER: /[0-9]{2,4}/'}, lambda t: re.fullmatch("a[0-9]{2,4}z", t)),
    ({"guided_grammar": 'root ::= "x" [0-9] "y"'}, lambda t: re.fullmatch("x[0-9]y", t)),
    ({"grammar": 'root ::= item (", " item){2}\nitem ::= [a-c]+ [0-9]'},
     lambda t: re.fullmatch("[a-c]+[0-9](, [a-c]+[0-9]){2}", t)),
    ({"structured_outputs": {"regex": "(ha){2,5}!"}}, lambda t: re.fullmatch("(ha){2,5}!", t)),
    ({"structured_outputs": {"choice": ["left", "right"]}}, lambda t: t in ("left", "right")),
    ({"structured_outputs": {"json": LIST["items"]}}, lambda t: check(t, LIST["items"]) is None),
]


@pytest.mark.parametrize("fields, fits", FORMATS, ids=lambda v: "-".join(v)[:30] if isinstance(v, dict) else "")
def test_formats(smollm, fields, fits):
    for seed in range(3):
        fields = {**HOT, **fields, "seed": seed}
        [text] = contents(smollm.chat("Write something.", **fields))
        assert fits(text), text
        assert fits(smollm.ok(COMPLETIONS, {"prompt": "It is", **fields})["choices"][0]["text"])


def test_structural_tags(smollm):
    tag = {"type": "structural_tag", "triggers": ["A"], "structures": [
        {"begin": "A:", "schema": {"enum": [1, 2]}, "end": ";"}]}
    ways = ({"response_format": tag}, {"structured_outputs": {"structural_tag": json.dumps(tag)}})
    for answer in together([lambda f=f, s=s: smollm.chat("Write AAA.", seed=s, **{**HOT, **f}) for f in ways for s in range(3)]):
        text, = contents(answer)
        assert re.fullmatch(r"(?s)([^A]|A:\s*[12]\s*;)*(A(:\s*[12]?\s*)?)?", text), text


def test_those_beside_do_not_notice(smollm):
    alone = contents(smollm.chat("Tell me a story.", seed=1, max_tokens=60))
    answers = together([lambda: smollm.chat("Tell me a story.", seed=1, max_tokens=60),
                        *[lambda s=s: smollm.chat("Go.", seed=s, **HOT, **schema_format(LIST["items"])) for s in range(4)]])
    assert contents(answers[0]) == alone


def test_end_wins_over_min_tokens_and_ignore_eos(smollm):
    answer = smollm.chat("Yes?", guided_choice=["yes", "no"], min_tokens=50, ignore_eos=True, **HOT)
    assert contents(answer)[0] in ("yes", "no") and answer["choices"][0]["finish_reason"] == "stop"


def test_statistics(smollm):
    before = smollm.metrics()
    smollm.chat("Go.", guided_regex="[ab]{10}", **HOT)
    after = smollm.wait_for(lambda: smollm.metrics(), "metrics")
    for name in ("tandem_engine_masks_total", "tandem_engine_mask_seconds_total", "tandem_engine_constraints_total"):
        assert metric(after, name) >= metric(before, name)


# ---- what cannot be ----

REFUSED = [
    ({"guided_regex": "(a"}, "guided_regex", 400),
    ({"guided_regex": ""}, "guided_regex", 400),
    ({"guided_grammar": "start: ("}, "guided_grammar", 400),
    ({"grammar": "root ::= missing"}, "grammar", 400),
    ({"guided_choice": []}, "guided_choice", 400),
    ({"guided_choice": [1]}, "guided_choice", 400),
    ({"guided_json": "{"}, "guided_json", 400),
    ({"guided_json": {"type": "nonsense"}}, "guided_json", 400),
    ({"guided_json": {"not": {"type": "string"}}}, "guided_json", 400),
    (schema_format({"type": "array", "uniqueItems": True}, strict=True), "response_format", 400),
    ({"guided_choice": ["a"], "guided_regex": "a"}, "guided_regex", 400),
    ({"structured_outputs": {"regex": "a", "choice": ["a"]}}, "structured_outputs.choice", 400),
    ({"structured_outputs": {"xml": "a"}}, "structured_outputs", 400),
    ({"structured_outputs": {"structural_tag": "{}"}}, "structured_outputs.structural_tag", 400),
    ({"response_format": {"type": "structural_tag", "triggers": []}}, "response_format", 400),
]


@pytest.mark.parametrize("fields, param, status", REFUSED, ids=lambda v: v if isinstance(v, str) else "")
def test_refused(smollm, fields, param, status):
    reply = smollm.post(CHAT, {"messages": [{"role": "user", "content": "a"}], "max_tokens": 5, **fields})
    assert reply.status_code == status, reply.text
    error = reply.json()["error"]
    assert error["param"] == param and param in error["message"], error


def test_what_is_left_out_is_named(smollm):
    schema = {"type": "array", "items": {"enum": [1, 2]}, "maxItems": 3, "uniqueItems": True}
    reply = smollm.post(CHAT, {"messages": [{"role": "user", "content": "a"}], **HOT, **schema_format(schema)})
    assert reply.status_code == 200
    assert reply.headers["X-Tandem-Widened-Schemas"] == "response_format:/uniqueItems"
    assert "response_format:/uniqueItems" in smollm.log()
    plain = smollm.post(CHAT, {"messages": [{"role": "user", "content": "a"}], **HOT, **schema_format(PERSON)})
    assert "X-Tandem-Widened-Schemas" not in plain.headers


# ---- calls ----

def check_calls(choice, names=("weather", "time"), most=100):
    calls = choice["message"]["tool_calls"]
    assert 1 <= len(calls) <= most and choice["message"]["content"] is None
    for call in calls:
        assert call["function"]["name"] in names
        jsonschema.validate(json.loads(call["function"]["arguments"]), SCHEMAS[call["function"]["name"]])


@TOOL_PROMPTS
@pytest.mark.parametrize("stream", [False, True])
def test_required_calls_are_valid(caller, stream):
    fields = {"tools": [WEATHER_TOOL, TIME_TOOL], "tool_choice": "required", "parallel_tool_calls": False, "n": 2, **HOT}
    for seed in range(4):
        answer = caller.chat("What now?", seed=seed, **fields)
        for choice in answer["choices"]:
            assert choice["finish_reason"] == "tool_calls"
            check_calls(choice, most=1)


@TOOL_PROMPTS
def test_a_named_tool_is_called(caller):
    choice = {"type": "function", "function": {"name": "time"}}
    for seed in range(3):
        answer = caller.chat("What now?", tools=[WEATHER_TOOL, TIME_TOOL], tool_choice=choice, seed=seed,
                             parallel_tool_calls=False, **HOT)
        check_calls(answer["choices"][0], names=("time",))


@TOOL_PROMPTS
def test_strict_schemas(caller):
    bad = {"type": "function", "function": {"name": "f", "strict": True, "parameters": {
        "type": "object", "properties": {"a": {"not": {"type": "string"}}}}}}
    reply = caller.post(CHAT, {"messages": [{"role": "user", "content": "a"}], "tools": [bad]})
    assert reply.status_code == 400
    error = reply.json()["error"]
    assert error["param"] == "tools[0].function.parameters" and "/properties/a" in error["message"]
    bad["function"]["strict"] = False
    reply = caller.post(CHAT, {"messages": [{"role": "user", "content": "a"}], "tools": [bad], "max_tokens": 3})
    assert reply.status_code == 200 and reply.headers["X-Tandem-Widened-Schemas"] == "f:/properties/a/not"


@TOOL_PROMPTS
def test_format_or_calls(caller):
    answers = together([lambda s=s: caller.chat("What now?", tools=[WEATHER_TOOL, TIME_TOOL], seed=s, parallel_tool_calls=False,
                                                **HOT, **schema_format(LIST["items"], strict=True)) for s in range(4)])
    for answer in answers:
        choice = answer["choices"][0]
        if choice["message"].get("tool_calls"):
            check_calls(choice)
        else:
            check(choice["message"]["content"], LIST["items"])


@TOOL_PROMPTS
def test_text_before_calls_is_guessed(caller):
    """With tools that may be called, guesses change nothing, and there are some."""
    code = "\n".join(f"    total += values[{i}] * weights[{i}]" for i in range(12))
    fields = {"tools": [WEATHER_TOOL, TIME_TOOL], "max_tokens": 80, "seed": 3, "ignore_eos": True}
    before = caller.stats()
    for temperature in (0, 1):
        texts = [caller.chat(f"Repeat this code:\n{code}", temperature=temperature, speculation=how, **fields)["choices"]
                 for how in ("off", "on")]
        assert without_ids(texts[0]) == without_ids(texts[1])
    caller.wait_for(lambda: caller.stats()["spec_accepted_tokens"] > before["spec_accepted_tokens"] + 5, "guesses hold")


@TOOL_PROMPTS
def test_random_schemas(smollm_path):
    """A small `make schema-run`."""
    done = subprocess.run([sys.executable, ROOT / "tests" / "structured" / "schema_run.py", "--model", "smollm2", "--generations", "40"],
                          capture_output=True, text=True, timeout=240 * PATIENCE)
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-4000:]


def test_vocabularies_are_made_before_anybody_asks(tiny_path):
    with Server(tiny_path, "--threads", 1, "--kv-memory", "64M") as server:
        server.wait_for(lambda: "vocabulary of constraints ready" in server.log(), "the engine makes its vocabulary", 20)
        assert metric(server.metrics(), "tandem_engine_constraints_total") == 0


# ---- reasoning ----

BUDGETS = ["thinking_budget", "thinking_token_budget", "thinking_budget_tokens", "reasoning_budget_tokens"]


@TOOL_PROMPTS
@pytest.mark.parametrize("fields", [{}, {"guided_choice": ["yes", "no"], "guided_decoding_backend": "auto"}])
@pytest.mark.parametrize("name", BUDGETS)
def test_thinking_budget(caller, name, fields):
    fields = {name: 10, **fields}
    answer = caller.chat("Think.", enable_thinking=True, seed=1, temperature=1, max_tokens=60, **fields)
    message = answer["choices"][0]["message"]
    reasoning = answer["usage"]["completion_tokens_details"]["reasoning_tokens"]
    assert message["reasoning_content"] and reasoning <= 10 + 4
    if len(fields) > 1:
        assert message["content"].strip() in ("yes", "no")


@TOOL_PROMPTS
# ---- engines that are lost, and scripts ----

def test_an_engine_killed_in_mid_answer(smollm_path, agent_template):
    with Server(smollm_path, "--threads", 2, "--kv-memory", "256M", "--max-context", 2048, "--chat-template",
                agent_template) as server:
        asks = [lambda s=s: server.chat("List.", seed=s, n=2, **HOT, **schema_format(LIST, strict=True)) for s in range(2)]
        asks += [lambda: server.chat("Call.", seed=5, tools=[WEATHER_TOOL], tool_choice="required", **HOT)]
        expected = [a["choices"] for a in together(asks)]
        n = metric(server.metrics(), "tandem_generated_tokens_total")

        def kill():
            for more in (60, 180):
                server.wait_for(lambda: metric(server.metrics(), "tandem_generated_tokens_total") > n + more, "they run",
                                20 * PATIENCE)
                engine = server.engine()
                os.kill(engine["pid"], signal.SIGKILL)
                server.wait_for(lambda: server.engine()["restarts"] > engine["restarts"], "the loss is noticed", 20)
        *answers, _ = together([*asks, kill])
        assert without_ids(a["choices"] for a in answers) == without_ids(expected)


def test_what_is_computed_again_obeys_too(tiny_path):
    with Server(tiny_path, "--threads", 1, "--kv-memory", "64M", "--fault", "nan:step=15,row=0") as server:
        schema = {**LIST, "minItems": 5, "maxItems": 5}
        answer = server.complete("List:", seed=1, **{**HOT, "guided_json": schema})
        check(answer["choices"][0]["text"], schema)
        assert answer["usage"]["completion_tokens_details"]["replayed_tokens"] > 0


def without_ids(answers):
    return [re.sub(r"call_[0-9A-Za-z]{24}", "", json.dumps(a)) for a in answers]


def test_a_script_that_does_not_obey_fails(agent):
    reply = agent.post(CHAT, {"messages": [{"role": "user", "content": "KEY-PLAIN"}], "guided_regex": "[0-9]+"})
    assert reply.status_code == 500 and "grammar does not allow" in reply.json()["error"]["message"]
    assert "the script has a token that the constraint forbids" in agent.log()
    assert agent.chat("KEY-PLAIN")["choices"][0]["finish_reason"] == "stop"
