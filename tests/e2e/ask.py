"""Requests through the official client: what it has arguments for goes as arguments, everything else as extra_body.
Answers come back as plain dictionaries, with whatever the server added."""
import functools
import inspect

import openai


@functools.cache
def arguments_of(kind):
    resource = openai.resources.chat.Completions if kind == "chat" else openai.resources.Completions
    return set(inspect.signature(resource.create).parameters) - {"self"}


def split(kind, fields):
    known = arguments_of(kind)
    direct = {name: value for name, value in fields.items() if name in known}
    extra = {name: value for name, value in fields.items() if name not in known}
    return {"model": "default", **direct, **({"extra_body": extra} if extra else {})}


def as_messages(content):
    return content if isinstance(content, list) else [{"role": "user", "content": content}]


def chat(server, content="Say hello.", **fields):
    with server.openai() as client:
        answer = client.chat.completions.create(**split("chat", {"messages": as_messages(content), **fields}))
        return answer.model_dump()


def complete(server, prompt="Once upon a time", **fields):
    with server.openai() as client:
        return client.completions.create(**split("completions", {"prompt": prompt, **fields})).model_dump()


def chat_stream(server, content="Say hello.", **fields):
    with server.openai() as client:
        fields = {"messages": as_messages(content), "stream": True, **fields}
        with client.chat.completions.create(**split("chat", fields)) as stream:
            return [chunk.model_dump() for chunk in stream]


def complete_stream(server, prompt="Once upon a time", **fields):
    with server.openai() as client:
        fields = {"prompt": prompt, "stream": True, **fields}
        with client.completions.create(**split("completions", fields)) as stream:
            return [chunk.model_dump() for chunk in stream]


def text(answer, index=0):
    choice = answer["choices"][index]
    return choice["message"]["content"] if "message" in choice else choice["text"]


def texts(answer):
    return [text(answer, i) for i in range(len(answer["choices"]))]


def finish(answer, index=0):
    return answer["choices"][index]["finish_reason"]


def ids(answer, index=0):
    """Token ids of an answer that was asked for with return_token_ids."""
    return answer["choices"][index]["token_ids"]
