"""Answers of the scripted engine (engine/script.h). A test asks for one by putting its key into the prompt."""
import json

PLAIN = "The quick brown fox jumps over the lazy dog. It says: STOP here, or go on to the END of line.\nSecond line."

# What must never show half a character: emoji with joiners, skin tones, flags, combining marks, CJK, Arabic, Thai.
UNICODE = ("a👩‍👩‍👧‍👦b 👍🏽 🇩🇪🇯🇵 e\u0301 n\u0303 a\u0308\u0323 日本語テキスト 中文字符 한국어 العربية ภาษาไทย "
           "𝔘𝔫𝔦 🏴󠁧󠁢󠁥󠁮󠁧󠁿 ❤️‍🔥 \u200bZ\u0335\u0321 🧑🏿‍🚀 end🎉")

# A template as Qwen 3 has it, shortened: tools, calls, results, reasoning.
AGENT_TEMPLATE = """\
{%- if tools %}<|im_start|>system
{%- for tool in tools %}
{{ tool | tojson }}{% endfor %}
Answer with <tool_call>
{"name": <function-name>, "arguments": <args-json-object>}
</tool_call><|im_end|>
{% endif %}
{%- for m in messages %}<|im_start|>{{ m.role }}
{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}{{ m.content or "" }}
{%- for call in m.tool_calls or [] %}
<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>{% endfor %}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% if enable_thinking is defined %}{% if enable_thinking %}<think>
{% else %}<think>

</think>

{% endif %}{% endif %}{% endif %}"""


def call_text(name, arguments):
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


THOUGHT = "The user wants weather \U0001f326 and time. STOPS are no ends."
WEATHER = '{"city": "São \U0001f30d Paulo", "days": [1, 2], "unit": {"name": "Célsius\\t"}}'
TWO_CALLS = f"<think>{THOUGHT}</think>\n\nLet me see.\n{call_text('weather', WEATHER)}\n{call_text('time', '{}')}"


# Reasoning, an answer and two calls, as models of the Hermes format write them.
AGENT = ("<think>\nWhere is Oslo?\n</think>\n\nI look it up.\n<tool_call>\n"
         '{"name": "weather", "arguments": {"city": "Oslo", "days": 2}}\n</tool_call>\n<tool_call>\n'
         '{"name": "clock", "arguments": {}}\n</tool_call>')


def steps(key, calls, last):
    """Rules of a conversation with tools: each result has the key of the next step, which only then is in the prompt.
    calls: what is written in each turn, as functions of that key."""
    keys = [key, *(f"{key}-{i}" for i in range(1, len(calls) + 1))]
    turns = [call(after) for call, after in zip(calls, keys[1:])] + [last]
    return [{"match": k, "text": text} for k, text in reversed(list(zip(keys, turns)))]


def echo(after):
    return call_text("echo", json.dumps({"text": after}))


def twice(after):  # two servers at once; what the second one says comes last
    return f"Both.\n{call_text('structured', '{}')}\n{echo(after)}"


def fault(tool, arguments="{}"):  # beside a call that shows that it was survived
    return lambda after: f"{call_text(tool, arguments)}\n{echo(after)}"


def mixed(after):
    return f"Both kinds. {echo(after)}\n{call_text('clock', '{}')}"


def tally(tool):
    return lambda after: f"I count. {call_text(tool, json.dumps({'text': after}))}\n{echo('beside')}"


MCP_RULES = [
    {"match": "may or may not have done its work", "text": "Who knows."},
    *steps("KEY-MCP-TALLY", [lambda a: "First. " + echo(a), tally("tally")], "Counted."),
    *steps("KEY-MCP-AGAIN", [lambda a: "First. " + echo(a), tally("tally_again")], "Counted."),
    *steps("KEY-MCP-FIVE", [lambda a: "I look. " + echo(a), twice, echo, lambda a: "<think>Hm.</think>\n\n" + echo(a)], "All done."),
    *(rule for name in ("fail", "hang", "crash", "garbage", "huge")
      for rule in steps(f"KEY-MCP-{name.upper()}", [fault(name), echo], "Survived.")),
    *steps("KEY-MCP-PICKY", [fault("picky", '{"list": [1, 1]}')], "Survived."),
    {"match": "KEY-MCP-LOOP", "text": echo("again")},
    {"match": "KEY-MCP-SLEEP", "text": call_text("slow", '{"steps": 100, "ms": 100}')},
    *steps("KEY-MCP-MIXED", [mixed], "It is noon."),
    *({**rule, "delay_ms": 15} for rule in steps("KEY-MCP-PACED", [lambda a: "One two three four five. " + echo(a)] * 2, "The end of it, at last, is here.")),
]


def script():
    rules = [
        *MCP_RULES,
        {"match": "KEY-RESULT", "text": "<think>Warm.</think>\n\nIt is 30 °C."},
        {"match": "KEY-TOOLS", "text": TWO_CALLS},
        {"match": "KEY-SLOW-TOOLS", "text": TWO_CALLS, "delay_ms": 6},
        {"match": "KEY-ONE-TOOL", "text": call_text("weather", WEATHER)},
        {"match": "KEY-TOOL-CUT", "text": call_text("weather", WEATHER)[:60], "then": "length"},
        {"match": "KEY-TOOL-STOP", "text": call_text("weather", '{"city": "a STOP b"}')},
        {"match": "KEY-OPEN", "text": "Hm.</think>\n\nYes."},
        {"match": "KEY-TOOL-CHOICES", "texts": [TWO_CALLS, "<think>None.</think>Just text.", call_text("time", "{}")]},
        {"match": "KEY-PLAIN", "text": PLAIN},
        {"match": "KEY-PACED", "text": PLAIN, "delay_ms": 4},
        {"match": "KEY-UNICODE", "text": UNICODE},
        {"match": "KEY-SLOW-UNICODE", "text": UNICODE, "delay_ms": 3},
        {"match": "KEY-SLOW", "text": "tick tock ", "delay_ms": 10, "then": "length"},
        {"match": "KEY-STEADY", "text": "tick tock ", "delay_ms": 20, "then": "length"},
        {"match": "KEY-FAST", "text": "tick tock ", "then": "length"},
        {"match": "KEY-LATE", "text": "Late.", "first_delay_ms": 900},
        {"match": "KEY-FAIL", "text": "Some words, then", "delay_ms": 5, "then": "fail"},
        {"match": "KEY-CRASH", "text": "Some words, then", "delay_ms": 5, "then": "crash"},
        {"match": "KEY-EMPTY", "text": ""},
        {"match": "KEY-AGENT", "text": AGENT},
        {"match": "KEY-CHOICES", "texts": ["First answer.", "Second one.", "The third of them."]},
    ]
    return {"rules": rules, "default": {"text": "Hello there."}}
