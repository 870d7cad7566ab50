"""LangChain's ChatOpenAI and ChatAnthropic on the trip that js/trip.mjs describes; prints the same JSON."""
import json
import sys

from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

order = json.loads(sys.argv[1])
provider, kind = order["way"].split("-")
MAX_TOKENS = 40
NO_CALL = {"tool_choice": {"type": "none"} if provider == "anthropic" else "none"}


@tool
def weather(city: str) -> str:
    """The weather of a city"""
    return json.dumps({"city": city, "sky": "RESULT-SUNNY", "celsius": 25})


def model():
    fields = {"model": order["model"], "api_key": "unused", "temperature": 0, "max_retries": 0}
    if provider == "anthropic":
        return ChatAnthropic(base_url=order["url"], max_tokens=MAX_TOKENS, stream_usage=True, **fields)
    return ChatOpenAI(base_url=f"{order['url']}/v1", max_tokens=MAX_TOKENS, stream_usage=True,
                      use_responses_api=provider == "responses", **fields)


def ask(chat, messages):
    if kind != "stream":
        return chat.invoke(messages)
    whole = None
    for chunk in chat.stream(messages):
        whole = chunk if whole is None else whole + chunk
    return whole


def trip():
    chosen = {"tool_choice": "weather"} if order["choose"] else {}
    messages = [HumanMessage(order["question"])]
    first = ask(model().bind_tools([weather], **chosen), messages)
    assert first.tool_calls and not first.invalid_tool_calls, first
    messages += [first, *(weather.invoke(call) for call in first.tool_calls)]
    last = ask(model().bind_tools([weather], **NO_CALL if order["choose"] else {}), messages)
    calls = [{"name": c["name"], "input": c["args"]} for c in first.tool_calls]
    return calls, last.text, last.usage_metadata["input_token_details"]["cache_read"]


def structured():
    method = {} if provider == "anthropic" else {"method": "json_schema"}
    schema = {"title": "place", "description": "A place", "type": "object", "properties": {"city": {"type": "string"}},
              "required": ["city"], "additionalProperties": False}
    return [], json.dumps(model().with_structured_output(schema, **method).invoke(order["question"])), None


calls, text, cached = structured() if kind == "object" else trip()
print(json.dumps({"calls": calls, "text": text, "cached": cached}))
