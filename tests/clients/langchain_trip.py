"""LangChain's ChatOpenAI and ChatAnthropic on the trip that js/trip.mjs describes. It is called with a list of orders,
since to import takes longer than to ask, and prints the same JSON for each, a line each."""
import json
import sys

from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

MAX_TOKENS = 40
SCHEMA = {"title": "place", "description": "A place", "type": "object", "properties": {"city": {"type": "string"}},
          "required": ["city"], "additionalProperties": False}


@tool
def weather(city: str) -> str:
    """The weather of a city"""
    return json.dumps({"city": city, "sky": "RESULT-SUNNY", "celsius": 25})


def model(order, provider):
    fields = {"model": order["model"], "api_key": "unused", "temperature": 0, "max_retries": 0}
    if provider == "anthropic":
        return ChatAnthropic(base_url=order["url"], max_tokens=MAX_TOKENS, stream_usage=True, **fields)
    return ChatOpenAI(base_url=f"{order['url']}/v1", max_tokens=MAX_TOKENS, stream_usage=True,
                      use_responses_api=provider == "responses", **fields)


def ask(chat, messages, kind):
    if kind != "stream":
        return chat.invoke(messages)
    whole = None
    for chunk in chat.stream(messages):
        whole = chunk if whole is None else whole + chunk
    return whole


def trip(order, provider, kind):
    no_call = {"tool_choice": {"type": "none"} if provider == "anthropic" else "none"}
    chat, messages = model(order, provider), [HumanMessage(order["question"])]
    first = ask(chat.bind_tools([weather], **{"tool_choice": "weather"} if order["choose"] else {}), messages, kind)
    assert first.tool_calls and not first.invalid_tool_calls, first
    messages += [first, *(weather.invoke(call) for call in first.tool_calls)]
    last = ask(chat.bind_tools([weather], **no_call if order["choose"] else {}), messages, kind)
    return {"calls": [{"name": c["name"], "input": c["args"]} for c in first.tool_calls], "text": last.text,
            "cached": last.usage_metadata["input_token_details"]["cache_read"]}


def structured(order, provider):
    method = {} if provider == "anthropic" else {"method": "json_schema"}
    made = model(order, provider).with_structured_output(SCHEMA, **method).invoke(order["question"])
    return {"calls": [], "text": json.dumps(made), "cached": None}


for one in json.loads(sys.argv[1]):
    api, way = one["way"].split("-")
    print(json.dumps(structured(one, api) if way == "object" else trip(one, api, way)), flush=True)
