"""Answers of the scripted engine (engine/script.h). A test asks for one by putting its key into the prompt."""

PLAIN = "The quick brown fox jumps over the lazy dog. It says: STOP here, or go on to the END of line.\nSecond line."

# What must never show half a character: emoji with joiners, skin tones, flags, combining marks, CJK, Arabic, Thai.
UNICODE = ("a👩‍👩‍👧‍👦b 👍🏽 🇩🇪🇯🇵 e\u0301 n\u0303 a\u0308\u0323 日本語テキスト 中文字符 한국어 العربية ภาษาไทย "
           "𝔘𝔫𝔦 🏴󠁧󠁢󠁥󠁮󠁧󠁿 ❤️‍🔥 \u200bZ\u0335\u0321 🧑🏿‍🚀 end🎉")


# Reasoning, an answer and two calls, as models of the Hermes format write them.
AGENT = ("<think>\nWhere is Oslo?\n</think>\n\nI look it up.\n<tool_call>\n"
         '{"name": "weather", "arguments": {"city": "Oslo", "days": 2}}\n</tool_call>\n<tool_call>\n'
         '{"name": "clock", "arguments": {}}\n</tool_call>')


def script():
    rules = [
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
