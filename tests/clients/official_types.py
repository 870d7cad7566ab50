"""Recorded exchanges of the Messages API against the types of Anthropic's official client, strictly: a request is one that
its parameters describe, a reply and each event of a stream have every field that is required, in its type, and none that
it does not know but those of Tandem's own."""
import json

import anthropic.types.beta as beta
import pydantic
from anthropic.types.beta import message_count_tokens_params, message_create_params

from harness import parse_named_events
from test_anthropic_client import check_order

OURS = {"system_fingerprint"}  # docs/API.md
REQUESTS = {True: pydantic.TypeAdapter(message_create_params.MessageCreateParamsStreaming),
            False: pydantic.TypeAdapter(message_create_params.MessageCreateParamsNonStreaming)}
COUNT = pydantic.TypeAdapter(message_count_tokens_params.MessageCountTokensParams)
EVENT = pydantic.TypeAdapter(beta.BetaRawMessageStreamEvent)


def walk(value):
    """All of a value that was validated; what is validated only when it is read, as iterables are, too."""
    if isinstance(value, pydantic.BaseModel):
        unknown = set(value.model_extra or {}) - OURS
        assert not unknown, f"{type(value).__name__} does not know {unknown}"
        value = dict(value)
    if isinstance(value, dict):
        for member in value.values():
            walk(member)
    elif not isinstance(value, (str, bytes)) and hasattr(value, "__iter__"):
        for item in value:
            walk(item)


def check_request(exchange, adapter):
    betas = [b for b in exchange.headers.get("anthropic-beta", "").split(",") if b]
    walk(adapter.validate_python({**exchange.json(), "betas": betas}))


def check_events(exchange):
    assert exchange.whole, f"{exchange} was cut off"
    events = list(parse_named_events([exchange.reply]))
    for name, event in events:
        assert name == event["type"]
        if name == "ping":
            assert event == {"type": "ping"}
            continue
        walk(EVENT.validate_json(json.dumps(event), strict=True))
    return check_order([event for name, event in events if name != "ping"])


def check_exchange(exchange):
    """Returns the events of a stream, or the body."""
    assert exchange.status == 200, f"{exchange}: {exchange.reply[:500]}"
    if exchange.path == "/v1/messages/count_tokens":
        check_request(exchange, COUNT)
        walk(beta.BetaMessageTokensCount.model_validate_json(exchange.reply, strict=True))
        return json.loads(exchange.reply)
    assert exchange.path == "/v1/messages", f"no type is known of {exchange}"
    check_request(exchange, REQUESTS[bool(exchange.json().get("stream"))])
    if exchange.streams():
        return check_events(exchange)
    walk(beta.BetaMessage.model_validate_json(exchange.reply, strict=True))
    return json.loads(exchange.reply)


def usage(events):
    return events[-2]["usage"]
