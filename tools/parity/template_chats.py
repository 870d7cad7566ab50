"""Conversations as the APIs bring them, and the messages that a template's documentation shows for them.

    for label, chat in chats():                    # {"messages", "tools", "kwargs", "add_generation_prompt", "continue_final_message"}
        shape = Shape(env, name, template)
        messages = shape.messages(chat["messages"])    # what one would give to transformers' apply_chat_template

The rules of Shape, which chat/chat_messages.c has to come to by itself:
- arguments of tool calls are an object, as transformers' guide shows it; text where the template puts it between other text
  (TEXT_ARGUMENTS). Empty text is an object without members; what is no object stays the text that it is;
- an assistant's content that is absent, null or empty beside tool calls is absent: transformers leaves out what is None. It is
  None or "" where the template fails on an absent one or takes it for an answer (EMPTY_CONTENT). Elsewhere it is "", but for a message to continue;
- content in parts stays in parts for a role whose parts the template shows as it shows a string, and all of them; else the
  texts are joined by line feeds;
- role developer is system where the template does not know it;
- a tool result has the name of the function that was called, as transformers' guide shows it;
- reasoning is a part {"type": "thinking"} before the content's parts where the documentation shows it so (THINKING_PARTS);
- tools have a description and parameters with properties, as transformers' guide shows them, be they empty, where the template
  fails without (WHOLE_TOOLS);
- ids: nine letters or digits where the template demands them (NINE): any other id becomes the first nine hexadecimal digits of its
  SHA-256. Where the template shows ids of its own for calls (OWN_IDS), results carry these: functions.NAME:INDEX."""
import hashlib
import json
import re

from jinja_conversations import ANSWER, SEARCH, SYSTEM, UNICODE, USER, WEATHER
import jinja_oracle as oracle

TEXT_ARGUMENTS = {"deepseek-ai-DeepSeek-R1-Distill-Llama-8B", "meetkai-functionary-medium-v3.2"}
ABSENT = object()
EMPTY_CONTENT = {
    "deepseek-ai-DeepSeek-R1-Distill-Llama-8B": None, "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B": None, "Qwen-QwQ-32B": "",
    "Qwen-Qwen3-0.6B": "", "unsloth-mistral-Devstral-Small-2507": "",
    # these show no tool calls at all
    "LFM2-8B-A1B": "", "LFM2.5-Instruct": "", "ibm-granite-granite-3.3-2B-Instruct": "", "microsoft-Phi-3.5-mini-instruct": "",
}
NINE = {"Mistral-Small-3.2-24B-Instruct-2506", "mistralai-Mistral-Nemo-Instruct-2407"}
WHOLE_TOOLS = {
    "Apertus-8B-Instruct", "ByteDance-Seed-OSS", "Cohere2MoE", "CohereForAI-c4ai-command-r-plus-tool_use",
    "CohereForAI-c4ai-command-r7b-12-2024-tool_use", "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use",
    "NousResearch-Hermes-3-Llama-3.1-8B-tool_use", "meetkai-functionary-medium-v3.1", "muse-glimmer", "openai-gpt-oss-120b",
}
THINKING_PARTS = {"mistralai-Ministral-3-14B-Reasoning-2512"}
OWN_IDS = {"moonshotai-Kimi-K2"}
# What a template demands beside messages and tools.
VARIABLES = {"fireworks-ai-llama-3-firefunction-v2": {"functions": json.dumps([WEATHER["function"]]), "datetime": "2023-11-14"}}
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}

NESTED = {
    "type": "function",
    "function": {"name": "bestellen", "description": "Nimmt eine \u201eBestellung\u201c auf \u2013 \u6ce8\u6587 \U0001F600", "parameters": {
        "type": "object", "properties": {
            "positionen": {"type": "array", "minItems": 1, "items": {"type": "object", "properties": {
                "artikel": {"type": "string", "description": "Der \"Name\"\noder die Nummer"}, "menge": {"type": "integer", "minimum": 1},
                "extras": {"type": "array", "items": {"type": "string", "enum": ["k\u00e4se", "<b>"]}}}, "required": ["artikel", "menge"]}},
            "ziel": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "art": {"type": ["string", "integer"], "enum": ["a", 1]},
            "eilig": {"type": "boolean", "default": False}, "preis": {"type": "number", "default": 1.5}},
        "required": ["positionen"], "additionalProperties": False}},
}
BARE = {"type": "function", "function": {"name": "now"}}
OPEN = {"type": "function", "function": {"name": "now", "description": "The time.", "parameters": {"type": "object"}}}
SIMPLE = {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {"type": "object", "properties": {"a": {"type": "number", "description": "one"}, "b": {"type": "number", "description": "two"}}, "required": ["a", "b"]}}}
TOOLS = [WEATHER, SEARCH]
THANKS = {"role": "user", "content": "Thanks. And in Rome?"}
ID = "call_Xy12AbCdEfGhIjKlMnOpQrSt"


def tool_call(name="get_weather", arguments='{"city": "Paris", "days": [1, 2], "where": {"lat": 48.85, "lon": null}}', call_id=ID):
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def calls(*made, **members):
    return {"role": "assistant", **members, "tool_calls": list(made or [tool_call()])}


def result(content='{"temp": 21.5, "sky": "clear"}', call_id=ID, **members):
    return {"role": "tool", "tool_call_id": call_id, "content": content, **members}


def parts(role, *texts, **members):
    return {"role": role, "content": [{"type": "text", "text": t} for t in texts], **members}


TWO = (tool_call(arguments='{"city": "Rome"}', call_id="call_1"), tool_call("search", '{"q": "caf\u00e9 \\"x\\" <b>", "n": 3}', "call_2"))
THREE = (*TWO, tool_call("get_weather", '{"city": "Z\u00fcrich", "unit": "c"}', "call_3"))
RESULTS = [result("15", "call_1"), result("nothing found", "call_2")]
ORDER = tool_call("bestellen", '{"positionen": [{"artikel": "Br\u00f6tchen", "menge": 2, "extras": []}], "ziel": null, "eilig": true, "preis": 2.50}', "call_o")
THOUGHT = "The user asks for the weather.\nI look it up."

CONVERSATIONS = {
    "plain": ([USER], None),
    "system": ([SYSTEM, USER], None),
    "two turns": ([USER, ANSWER, THANKS], None),
    "system, three turns": ([SYSTEM, USER, ANSWER, THANKS, ANSWER, USER], None),
    "ends with the assistant": ([SYSTEM, USER, ANSWER], None),
    "unicode": ([{"role": "system", "content": UNICODE}, {"role": "user", "content": UNICODE}, {"role": "assistant", "content": UNICODE}, {"role": "user", "content": "\u3000\n"}], None),
    "empty texts": ([{"role": "user", "content": ""}, {"role": "assistant", "content": ""}, {"role": "user", "content": " "}], None),
    "empty system": ([{"role": "system", "content": ""}, USER], None),
    "second system": ([SYSTEM, USER, ANSWER, {"role": "system", "content": "Be brief."}, USER], None),
    "same role twice": ([USER, USER, ANSWER, ANSWER, USER], None),
    "developer": ([{"role": "developer", "content": "Be brief."}, USER], None),
    "developer and tools": ([{"role": "developer", "content": "Be brief."}, USER], TOOLS),
    "one tool": ([USER], [SIMPLE]),
    "several tools": ([SYSTEM, USER], TOOLS),
    "nested tool": ([USER], [NESTED]),
    "many tools": ([SYSTEM, USER, ANSWER, THANKS], [WEATHER, NESTED, SIMPLE, SEARCH]),
    "bare tool": ([USER], [BARE]),
    "tool without properties": ([USER, calls(tool_call("now", "{}"), content=None), result("12:00")], [OPEN]),
    "no tools": ([USER], []),
    "call, no content": ([USER, calls(), result()], TOOLS),
    "call, null content": ([SYSTEM, USER, calls(content=None), result()], TOOLS),
    "call, empty content": ([USER, calls(content=""), result()], TOOLS),
    "call with text": ([SYSTEM, USER, calls(content="Let me see."), result()], TOOLS),
    "call, answer": ([USER, calls(content=None), result(), ANSWER], TOOLS),
    "call, answer, user": ([SYSTEM, USER, calls(content=None), result(), ANSWER, THANKS], TOOLS),
    "open call": ([USER, calls(content=None)], TOOLS),
    "no arguments": ([USER, calls(tool_call("now", "{}"), content=None), result("12:00")], [BARE]),
    "empty arguments": ([USER, calls(tool_call("now", ""), content=None), result("12:00")], [BARE]),
    "nested arguments": ([USER, calls(ORDER, content=None), result("ok", "call_o")], [NESTED]),
    "two calls": ([USER, calls(*TWO, content=None), *RESULTS], TOOLS),
    "two calls with text": ([SYSTEM, USER, calls(*TWO, content="Both at once."), *RESULTS, ANSWER, THANKS], TOOLS),
    "three calls": ([USER, calls(*THREE, content=""), *RESULTS, result("18", "call_3"), ANSWER], TOOLS),
    "results in another order": ([USER, calls(*TWO, content=None), *reversed(RESULTS)], TOOLS),
    "two rounds": ([SYSTEM, USER, calls(content=None), result(), calls(*TWO, content=None), *RESULTS, ANSWER, THANKS, calls(tool_call("search", '{"q": "x", "n": 1}', "call_9")), result("y", "call_9")], TOOLS),
    "result: text": ([USER, calls(content=None), result("It is 21 degrees, \"clear\" & <calm>.\n\nBye")], TOOLS),
    "result: unicode": ([USER, calls(content=None), result('{"ort": "Z\u00fcrich \u4f60\u597d"}')], TOOLS),
    "result: empty": ([USER, calls(content=None), result("")], TOOLS),
    "result: number": ([USER, calls(content=None), result("42")], TOOLS),
    "result: list": ([USER, calls(content=None), result("[1, {\"a\": null}]")], TOOLS),
    "result with a name": ([USER, calls(content=None), result(name="get_weather")], TOOLS),
    "short ids": ([USER, calls(tool_call(call_id="abc123XYZ"), content=None), result(call_id="abc123XYZ")], TOOLS),
    "nine bytes, no id": ([USER, calls(tool_call(call_id="call-1234"), content=None), result(call_id="call-1234")], TOOLS),
    "nulls of a client": ([SYSTEM, USER, dict(ANSWER, tool_calls=None, refusal=None, function_call=None, audio=None, name=None, reasoning_content=None), dict(THANKS, name=None)], TOOLS),
    "nulls beside a call": ([USER, dict(calls(content=None), refusal=None, function_call=None, audio=None), result(name=None)], TOOLS),
    "parts": ([parts("system", "You are", "helpful."), parts("user", "Hello", "World"), parts("assistant", "Hi", "there"), parts("user", "x")], None),
    "parts and a call": ([parts("system", "You are helpful."), parts("user", "Hello"), dict(parts("assistant", "Let me see."), tool_calls=[tool_call()]), dict(parts("tool", "one", "two"), tool_call_id=ID)], TOOLS),
    "parts of the result": ([USER, calls(content=None), dict(parts("tool", '{"temp": 21.5}'), tool_call_id=ID)], TOOLS),
    "reasoning": ([USER, dict(ANSWER, reasoning_content=THOUGHT), THANKS], None),
    "reasoning, last": ([USER, dict(ANSWER, reasoning_content=THOUGHT)], None),
    "reasoning and a call": ([USER, dict(calls(content=None), reasoning_content=THOUGHT), result()], TOOLS),
    "reasoning, call with text": ([SYSTEM, USER, dict(calls(content="Let me see."), reasoning_content=THOUGHT), result(), dict(ANSWER, reasoning_content="Done."), THANKS], TOOLS),
    "reasoning, two rounds": ([USER, dict(calls(*TWO, content=None), reasoning_content=THOUGHT), *RESULTS, dict(calls(content=""), reasoning_content="Once more."), result(), ANSWER, THANKS], TOOLS),
    "reasoning and parts": ([USER, dict(parts("assistant", "It is", "sunny."), reasoning_content=THOUGHT), THANKS], None),
    "reasoning under its other name": ([USER, dict(ANSWER, reasoning=THOUGHT), THANKS], None),
    "thoughts in the text": ([USER, {"role": "assistant", "content": "<think>\n" + THOUGHT + "\n</think>\n\nIt is sunny."}, THANKS], None),
}
VARIANTS = (
    {"add_generation_prompt": True},
    {"add_generation_prompt": False},
    {"add_generation_prompt": True, "kwargs": {"enable_thinking": False, "thinking": False, "reasoning_effort": "low"}},
    {"add_generation_prompt": True, "kwargs": {"enable_thinking": True, "thinking": True, "reasoning_effort": "high", "preserve_thinking": True}},
)


def continued():
    for text in ("It is", "It is ", "  It\n\n", UNICODE, "a", ""):
        last = {"role": "assistant", "content": text}
        yield "continue %r" % text[:8], [USER, last], None
        yield "continue %r, long" % text[:8], [SYSTEM, USER, ANSWER, THANKS, last], None
    yield "continue parts", [USER, parts("assistant", "It", "is")], None
    yield "continue after a call", [USER, calls(content=None), result(), {"role": "assistant", "content": "It is"}], TOOLS
    yield "continue with reasoning", [USER, {"role": "assistant", "content": "It is", "reasoning_content": THOUGHT}], None
    yield "continue the user", [{"role": "user", "content": "What is"}], None
    yield "continue without text", [USER, {"role": "assistant", "content": None}], None


def chats():
    """(label, chat); chat["now"] is fixed by who renders it."""
    for name, (messages, tools) in CONVERSATIONS.items():
        for i, variant in enumerate(VARIANTS):
            yield "%s (%d)" % (name, i), {"messages": messages, "tools": tools, **variant}
    for name, messages, tools in continued():
        yield name, {"messages": messages, "tools": tools, "continue_final_message": True}


class Shape:
    """What a template's documentation shows for messages of the API."""

    def __init__(self, env, name, template):
        self.env, self.name, self.template = env, name, template
        self.knows_developer = any(q + "developer" + q in template for q in "'\"") and "probe-d" in self.text([{"role": "developer", "content": "probe-d"}, USER])
        self.parts = {role for role in ("system", "user", "assistant", "tool") if self.takes_parts(role)}

    def text(self, messages, tools=None):
        kind, text = oracle.apply_chat(self.env, self.template, messages, tools, **SPECIAL, **VARIABLES.get(self.name, {}))
        return text if kind == "ok" else ""

    def takes_parts(self, role):
        def shown(content):
            message = {"role": role, "content": content}
            if role == "tool":
                call = calls(tool_call("probe_call", "{}", "probe1234"))
                return self.text(self.messages([USER, call]) + [{**message, "tool_call_id": "probe1234", "name": "probe_call"}], [SIMPLE])
            return self.text({"system": [message, USER], "user": [message], "assistant": [USER, message]}[role])

        self.parts = set()
        part = [{"type": "text", "text": "probe-a"}]
        string, one, two = shown("probe-a"), shown(part), shown(part + [{"type": "text", "text": "probe-b"}])
        return "probe-a" in one and "probe-a" in two and "probe-b" in two and (one == string or "probe-a" not in string)

    def messages(self, messages, continued=False):
        names, ids, made = {}, {}, []
        for message in oracle.without_nulls(messages):
            if message["role"] == "developer" and not self.knows_developer:
                message["role"] = "system"
            for index, call in enumerate(message.get("tool_calls") or []):
                names[call["id"]] = call["function"]["name"]
                ids[call["id"]] = self.id(call, index)
            if message.get("tool_calls"):
                message["tool_calls"] = [self.call(c, ids) for c in message["tool_calls"]]
            if message["role"] == "tool":
                called = message["tool_call_id"]
                message["tool_call_id"] = ids.get(called, called)
                if called in names:
                    message.setdefault("name", names[called])
            self.put_content(message, continued and len(made) + 1 == len(messages))
            made.append(message)
        return made

    def tools(self, tools):
        return [self.whole(t["function"], t) for t in tools] if tools and self.name in WHOLE_TOOLS else tools

    @staticmethod
    def whole(function, tool):
        parameters = function.get("parameters", {})
        if "description" in function and "properties" in parameters:
            return tool
        made = {k: v for k, v in function.items() if k != "parameters"}
        made.setdefault("description", "")
        parameters = {**({} if "type" in parameters else {"type": "object"}), **parameters}
        parameters.setdefault("properties", {})
        return {**{k: v for k, v in tool.items() if k != "function"}, "function": {**made, "parameters": parameters}}

    def put_content(self, message, continued):
        content = message.pop("content", None)
        if continued and content is None:
            return  # transformers has nothing to continue
        if content in (None, "") and message.get("tool_calls"):
            content = EMPTY_CONTENT.get(self.name, ABSENT)
        elif content is None:
            content = ""
        elif isinstance(content, list) and message["role"] not in self.parts:
            content = "\n".join(part["text"] for part in content)
        thought = oracle.with_reasoning(message).get("thinking")
        if self.name in THINKING_PARTS and message["role"] == "assistant" and thought:
            rest = content if isinstance(content, list) else [{"type": "text", "text": content}] if content not in ("", ABSENT) else []
            content = [{"type": "thinking", "thinking": thought}, *rest]
        if content is not ABSENT:
            message["content"] = content

    def id(self, call, index):
        if self.name in NINE and not re.fullmatch("[0-9A-Za-z]{9}", call["id"]):
            return hashlib.sha256(call["id"].encode()).hexdigest()[:9]
        return "functions.%s:%d" % (call["function"]["name"], index) if self.name in OWN_IDS else call["id"]

    def call(self, call, ids):
        arguments = call["function"]["arguments"]
        if self.name not in TEXT_ARGUMENTS:
            arguments = json.loads(arguments or "{}")
        return {**call, "id": ids[call["id"]], "function": {**call["function"], "arguments": arguments}}
