"""Lines of a server's log, read back strictly in each of the three formats."""
import json
import re

PAIR = re.compile(r' ([a-z_]+)=("(?:[^"\\]|\\.)*"|[^\s"=\\]+)')


def unquote(text):
    if not text.startswith('"'):
        return text
    named = {"n": "\n", "t": "\t", "r": "\r"}
    return re.sub(r'\\(x[0-9a-f]{2}|u[0-9a-f]{4}|.)',
                  lambda m: chr(int(m.group(1)[1:], 16)) if len(m.group(1)) > 1 else named.get(m.group(1), m.group(1)), text[1:-1])


def pairs(text):
    """All of text as key=value pairs; fails on anything else."""
    fields, at = {}, 0
    while at < len(text):
        found = PAIR.match(text, at)
        assert found, f"not a field at {at}: {text!r}"
        assert found.group(1) not in fields, f"{found.group(1)} comes twice: {text!r}"
        fields[found.group(1)] = unquote(found.group(2))
        at = found.end()
    return fields


def parse_text(line):
    found = re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (ERROR|WARN|INFO|DEBUG) (tandem|engine) (.*?)(?=$| [a-z_]+=)", line)
    assert found, f"not a line of text: {line!r}"
    return {"level": found.group(1).lower(), "process": found.group(2), "event": found.group(3), **pairs(line[found.end():])}


def parse_logfmt(line):
    fields = pairs(" " + line)
    assert list(fields)[:4] == ["time", "level", "process", "event"], line
    return fields


def parse_json(line):
    fields = json.loads(line)
    assert list(fields)[:4] == ["time", "level", "process", "event"], line
    return fields


PARSERS = {"text": parse_text, "logfmt": parse_logfmt, "json": parse_json}


def lines(server, log_format, event=None):
    """The log's complete lines, parsed; of one event."""
    text = open(server.log_file.name, "rb").read().decode("utf-8")  # a log is UTF-8, whatever clients send
    whole = text[:text.rfind("\n") + 1]
    assert not re.search(r"[^\n\x20-\x7e\u00a1-\U0010ffff]", whole), "a log has control characters"
    parsed = [PARSERS[log_format](line) for line in whole.split("\n")[:-1]]
    return [line for line in parsed if event in (None, line["event"])]


def wait_line(server, log_format, request_id, event="request"):
    """The line of that request, which is written when it has ended; there is one only."""
    def find():
        return [line for line in lines(server, log_format, event) if line.get("request_id") == request_id]
    found = server.wait_for(find, f"the line of {request_id}")
    assert len(found) == 1, found
    return found[0]
