"""jinja2 set up as transformers does it for chat templates (utils/chat_template_utils.py), and what a template gives.

    env = environment(now=0)
    kind, text = render(env, "{{ x }}", {"x": 1})      # ("ok", "1"), ("raise", message) or ("error", "TypeError: ...")
    kind, text = apply_chat(env, template, without_nulls(messages), tools, add_generation_prompt=True, enable_thinking=False)

The latter two do with messages what apply_chat_template of transformers 5 does (tokenization_utils_base.py and
chat_template_utils.py): what is None is left out, reasoning comes under all its names, the final message stays open. What then
cannot be continued is ("refused", why). tests/parity/check_templates.py --transformers compares them with transformers itself.
"""
import copy
import datetime
import functools
import json
import warnings

import jinja2
import jinja2.ext
import jinja2.nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

warnings.simplefilter("ignore", SyntaxWarning)  # of the Python code that jinja2 makes of odd templates


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_run"), [], [], body).set_lineno(line)

    @jinja2.pass_eval_context
    def _run(self, context, caller):
        return caller()


class TemplateDict:
    def __call__(self, *args, **kwargs):
        return dict(*args, **kwargs)

    def fromkeys(self, *args, **kwargs):
        return dict.fromkeys(*args, **kwargs)


class Namespace(jinja2.utils.Namespace):
    def __init__(*args, **kwargs):
        self, args = args[0], args[1:]
        attrs = dict(*args, **kwargs)
        for name in attrs:
            check_name(name)
        jinja2.utils.Namespace.__init__(self, attrs)

    def __setitem__(self, name, value):
        check_name(name)
        jinja2.utils.Namespace.__setitem__(self, name, value)


def check_name(name):
    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.exceptions.SecurityError(name)


class Raised(jinja2.exceptions.TemplateError):
    pass


def raise_exception(message):
    raise Raised(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def environment(now=0):
    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda format: datetime.datetime.fromtimestamp(now).strftime(format)
    env.globals["dict"] = TemplateDict()
    env.globals["namespace"] = Namespace
    return env


def render(env, template, context):
    try:
        # copied: some filters change lists in spite of the sandbox
        return "ok", env.from_string(template).render(**copy.deepcopy(context))
    except Raised as e:
        return "raise", str(e)
    except RecursionError:
        return "error", "RecursionError"
    except Exception as e:  # whatever Python raises, the template fails
        return "error", "%s: %s" % (type(e).__name__, e)


REASONING = ("reasoning_content", "thinking", "reasoning")
CONTINUE_TAG = "CONTINUE_FINAL_MESSAGE_TAG "


class NotContinued(Exception):
    pass


def without_nulls(messages):
    return [{key: value for key, value in m.items() if value is not None} for m in messages]


def with_reasoning(message):
    reasoning = next((message[name] for name in REASONING if message.get(name) is not None), None)
    return message if reasoning is None else {"thinking": reasoning, **message, "reasoning_content": reasoning}


def opened(template, message):
    """The final message with the tag behind its text, and that text."""
    content = message.get("content")
    if content is None:
        raise NotContinued("the final message has no content")
    if "content" not in template:
        raise NotContinued("the template does not use the content")
    if isinstance(content, str):
        return {**message, "content": content + CONTINUE_TAG}, content
    last = next((i for i in reversed(range(len(content))) if "text" in content[i]), None)
    if last is None:
        raise NotContinued("the final message has no text")
    text = content[last]["text"]
    return {**message, "content": [{**p, "text": text + CONTINUE_TAG} if i == last else p for i, p in enumerate(content)]}, text


def cut(rendered, text):
    tag = CONTINUE_TAG.strip()
    if text.strip() not in rendered or tag not in rendered:
        raise NotContinued("the final message does not appear as it is")
    at = rendered.rindex(tag)
    return rendered[:at] if rendered[at:].startswith(CONTINUE_TAG) else rendered[:at].rstrip()


@functools.lru_cache(maxsize=256)
def compiled(env, template):
    return env.from_string(template)


def apply_chat(env, template, messages, tools=None, continue_final_message=False, add_generation_prompt=False, **kwargs):
    try:
        messages, text = [with_reasoning(m) for m in copy.deepcopy(messages)], None
        if continue_final_message:
            messages[-1], text = opened(template, messages[-1])
        rendered = compiled(env, template).render(
            messages=messages, tools=copy.deepcopy(tools), **{"documents": None, **kwargs}, add_generation_prompt=add_generation_prompt)
        return "ok", cut(rendered, text) if continue_final_message else rendered
    except Raised as e:
        return "raise", str(e)
    except NotContinued as e:
        return "refused", str(e)
    except RecursionError:
        return "error", "RecursionError"
    except Exception as e:  # whatever Python raises, the template fails
        return "error", "%s: %s" % (type(e).__name__, e)
