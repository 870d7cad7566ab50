"""Conversations for real chat templates: contexts() as the engine gets them, chats() as clients send them."""
import copy
import json

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather of a city.\nUnits can be chosen.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "The city, e.g. \"Paris\""},
                "unit": {"type": "string", "enum": ["c", "f"], "default": "c"},
                "days": {"type": "array", "items": {"type": "integer"}, "description": "Days"},
                "where": {"type": "object", "properties": {"lat": {"type": "number"}, "lon": {"type": ["number", "null"]}}, "required": ["lat"]},
            },
            "required": ["city"],
        },
    },
}
SEARCH = {
    "type": "function",
    "function": {"name": "search", "description": "Search <the> web & more", "parameters": {"type": "object", "properties": {"q": {"type": "string"}, "n": {"type": "integer", "minimum": 1}}, "required": ["q", "n"], "additionalProperties": False}, "strict": True, "return": {"type": "string"}},
}
TOOLS = [WEATHER, SEARCH]
USER = {"role": "user", "content": "What is the weather in Paris?"}
ANSWER = {"role": "assistant", "content": "It is sunny."}
SYSTEM = {"role": "system", "content": "You are a helpful assistant."}


def call(name="get_weather", arguments=None, call_id="abc123XYZ", content=None):
    arguments = {"city": "Paris", "days": [1, 2], "where": {"lat": 48.85, "lon": None}} if arguments is None else arguments
    return {"role": "assistant", "content": content, "tool_calls": [{"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}]}


def result(content='{"temp": 21.5}', call_id="abc123XYZ", name="get_weather"):
    return {"role": "tool", "tool_call_id": call_id, "name": name, "content": content}


def parts(role, *texts):
    return {"role": role, "content": [{"type": "text", "text": t} for t in texts]}


PARALLEL = {
    "role": "assistant", "content": "",
    "tool_calls": [
        {"id": "call00001", "type": "function", "function": {"name": "get_weather", "arguments": {"city": "Rome"}}},
        {"id": "call00002", "type": "function", "function": {"name": "search", "arguments": {"q": "caf\u00e9 \"x\" <b>", "n": 3}}},
    ],
}
UNICODE = "h\u00e9llo \u4f60\u597d \U0001F600 <|im_start|> \"quotes\" 'single' \\back\\ \ttab\n\n  indented & <tag>  "

CONVERSATIONS = {
    "user": ([USER], None),
    "system": ([SYSTEM, USER], None),
    "two turns": ([USER, ANSWER, {"role": "user", "content": "And tomorrow?"}], None),
    "system, three turns": ([SYSTEM, USER, ANSWER, {"role": "user", "content": "Thanks"}, {"role": "assistant", "content": "Welcome."}, {"role": "user", "content": "Bye"}], None),
    "ends with the assistant": ([SYSTEM, USER, ANSWER], None),
    "tools": ([USER], TOOLS),
    "tools and system": ([SYSTEM, USER], TOOLS),
    "tool call, null content": ([SYSTEM, USER, call(), result()], TOOLS),
    "tool call, empty content": ([USER, call(content=""), result(), ANSWER, {"role": "user", "content": "And Rome?"}], TOOLS),
    "tool call with text": ([SYSTEM, USER, call(content="Let me see."), result(), ANSWER], TOOLS),
    "arguments as a string": ([USER, call(arguments='{"city": "Paris"}', content=""), result()], TOOLS),
    "parallel calls": ([USER, PARALLEL, result(call_id="call00001", content="15"), result(call_id="call00002", name="search", content="none")], TOOLS),
    "open tool call": ([USER, call(content="")], TOOLS),
    "result as an object": ([USER, call(content=""), result(content={"temp": 1})], TOOLS),
    "developer": ([{"role": "developer", "content": "Be brief."}, USER], None),
    "parts": ([parts("system", "You are", "helpful."), parts("user", "Hello", "World"), parts("assistant", "Hi"), parts("user", "x")], None),
    "image part": ([{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]}], None),
    "unicode": ([{"role": "system", "content": UNICODE}, {"role": "user", "content": UNICODE}, {"role": "assistant", "content": UNICODE}, {"role": "user", "content": "\u3000\n"}], None),
    "empty content": ([{"role": "user", "content": ""}, {"role": "assistant", "content": ""}, {"role": "user", "content": " "}], None),
    "null content": ([{"role": "user", "content": None}], None),
    "no messages": ([], None),
    "same role twice": ([USER, USER, ANSWER, ANSWER, USER], None),
    "assistant first": ([ANSWER, USER], None),
    "unknown role": ([{"role": "critic", "content": "no"}, USER], None),
    "thinking": ([USER, {"role": "assistant", "content": "<think>\nlet me think\n</think>\n\nIt is sunny."}, {"role": "user", "content": "ok"}], None),
    "reasoning": ([USER, {"role": "assistant", "content": "Sunny.", "reasoning_content": "The user asks.", "thinking": "The user asks."}, {"role": "user", "content": "ok"}], None),
    "reasoning before a call": ([USER, dict(call(content=""), reasoning_content="I need a tool.", thinking="I need a tool."), result()], TOOLS),
    "odd tool": ([USER], [{"type": "function", "function": {"name": "bare", "description": "", "parameters": {"type": "object", "properties": {}}}}]),
    "bad tool": ([USER], [{"name": "bare"}]),
}
VARIABLES = [
    {"add_generation_prompt": True},
    {"add_generation_prompt": False},
    {"add_generation_prompt": True, "enable_thinking": False, "thinking": False, "reasoning_effort": "high", "date_string": "26 Jul 2024", "documents": [{"title": "t", "text": "some text"}]},
    {"add_generation_prompt": True, "enable_thinking": True, "thinking": True, "tools_in_user_message": False, "xml_tools": [{"name": "x"}], "python_tools": ["f"], "builtin_tools": ["brave_search"], "preserve_thinking": True},
]
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}


def contexts():
    """(label, variables of the template): every conversation with every set of variables."""
    for name, (messages, tools) in CONVERSATIONS.items():
        for i, variables in enumerate(VARIABLES):
            context = {"messages": messages, "tools": tools, "documents": None, **SPECIAL, **variables}
            yield "%s (%d)" % (name, i), context


def chats():
    """(label, chat): what transformers and the chat template layer do alike. Only what needs no adaptation."""
    for text in ("It is", "It is ", "  It\n\n", UNICODE, "a"):
        last = {"role": "assistant", "content": text}
        for messages in ([USER, last], [SYSTEM, USER, ANSWER, USER, last]):
            yield "continue %r" % text, {"messages": messages, "continue_final_message": True}
    yield "continue, empty", {"messages": [USER, {"role": "assistant", "content": ""}], "continue_final_message": True}
    yield "continue the user", {"messages": [{"role": "user", "content": "What is"}], "continue_final_message": True}
    yield "continue, none", {"messages": [USER, {"role": "assistant", "content": None}], "continue_final_message": True}
    for name in ("reasoning_content", "thinking", "reasoning"):
        message = {"role": "assistant", "content": "Sunny.", name: "The user asks."}
        yield "alias " + name, {"messages": [USER, message, {"role": "user", "content": "ok"}], "add_generation_prompt": True}
        yield "alias %s, last" % name, {"messages": [USER, message]}
    for name in ("user", "system, three turns", "two turns", "unicode"):
        messages, tools = CONVERSATIONS[name]
        for prompt in (True, False):
            yield name, {"messages": messages, "tools": tools, "add_generation_prompt": prompt}
        yield name + ", kwargs", {"messages": messages, "tools": tools, "add_generation_prompt": True, "kwargs": {"enable_thinking": False, "custom": {"a": [1]}}}


if __name__ == "__main__":
    print(len(list(contexts())), "contexts,", len(list(chats())), "chats")
