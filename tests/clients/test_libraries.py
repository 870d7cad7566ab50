"""Official and common libraries on a trip with a tool, streaming and not: the model calls it, gets the result, answers.
With the scripted engine what comes out is known; with the real model the call is forced, and then an answer."""
import json

import pytest

from client_runs import SUNNY, langchain_trips, node_trip, order_of

OPENAI = ["chat", "chat-stream", "responses", "responses-stream"]
ANTHROPIC = ["messages", "messages-stream"]
AI_SDK = [f"{p}-{k}" for p in ("compatible", "chat", "responses", "anthropic") for k in ("once", "stream")]
LANGCHAIN = [f"{p}-{k}" for p in ("chat", "responses", "anthropic") for k in ("once", "stream")]
NODE = [(s, w) for s, ways in (("openai.mjs", OPENAI), ("anthropic.mjs", ANTHROPIC), ("ai_sdk.mjs", AI_SDK)) for w in ways]
OWN_LOOPS = [("openai.mjs", "run-tools"), ("anthropic.mjs", "tool-runner")]  # they choose no tool
REAL_QUESTION = "How is the weather in Rome? Use the tool."
OBJECT_QUESTION = "The capital of Italy, as JSON."


def check_scripted(result):
    assert result["calls"] == [{"name": "weather", "input": {"city": "Oslo"}}] and result["text"] == SUNNY
    assert result["cached"] is None or result["cached"] > 0, "the second request begins as the first one"


def check_real(result):
    call, = result["calls"]
    assert call["name"] == "weather" and call["input"].keys() == {"city"} and call["input"]["city"]
    assert result["text"].strip() and result["cached"] is not None


def check_object(result):
    made = json.loads(result["text"])
    assert made.keys() == {"city"} and isinstance(made["city"], str)


# ---- Node ----

@pytest.mark.parametrize("script, way", [*NODE, *OWN_LOOPS], ids=lambda v: v.removesuffix(".mjs"))
def test_node_scripted(scripted, node_modules, script, way):
    check_scripted(node_trip(node_modules, script, scripted, way))


@pytest.mark.parametrize("script, way", NODE, ids=lambda v: v.removesuffix(".mjs"))
def test_node_real(qwen, node_modules, script, way):
    check_real(node_trip(node_modules, script, qwen, way, question=REAL_QUESTION, choose=True))


@pytest.mark.parametrize("provider", ["compatible", "chat", "responses", "anthropic"])
def test_ai_sdk_object(qwen, node_modules, provider):
    check_object(node_trip(node_modules, "ai_sdk.mjs", qwen, f"{provider}-object", question=OBJECT_QUESTION))


# ---- LangChain ----

def test_langchain_scripted(scripted, langchain_python, tmp_path):
    for result in langchain_trips(langchain_python, tmp_path, [order_of(scripted, way) for way in LANGCHAIN]).values():
        check_scripted(result)


@pytest.fixture(scope="module")
def langchain_real(qwen, langchain_python, tmp_path_factory):
    orders = [order_of(qwen, way, question=REAL_QUESTION, choose=True) for way in LANGCHAIN]
    orders += [order_of(qwen, f"{p}-object", question=OBJECT_QUESTION) for p in ("chat", "responses", "anthropic")]
    return langchain_trips(langchain_python, tmp_path_factory.mktemp("langchain"), orders)


@pytest.mark.parametrize("way", LANGCHAIN)
def test_langchain_real(langchain_real, way):
    check_real(langchain_real[way])


@pytest.mark.parametrize("provider", ["chat", "responses", "anthropic"])
def test_langchain_object(langchain_real, provider):
    check_object(langchain_real[f"{provider}-object"])
