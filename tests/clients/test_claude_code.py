"""Claude Code, the program: sessions with the scripted engine and with a real model. What passes between them is recorded,
and every byte of it is checked against the types of the official client."""
import pytest

from client_runs import MODEL, SECRET, claude_code
from official_types import check_exchange, usage
from recorder import Recorder
from script_rules import AGENT_TEMPLATE


@pytest.fixture
def home(tmp_path):
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


def system_text(exchange):
    return [block["text"] for block in exchange.json()["system"]]


def test_session_reads_a_file(scripted, node_modules, workshop, home):
    """It calls its Read tool, sends what the file says, answers; then goes on in another process. Only the first request is
    prefilled: the turns behind it find it in the cache, although its first line differs in each."""
    env = {"ANTHROPIC_MODEL": MODEL}
    with Recorder(scripted.port) as recorder:
        first = claude_code(node_modules, workshop, home, recorder.url, "KEY-READ What does note.txt say?", **env)
        again = claude_code(node_modules, workshop, home, recorder.url, "--continue", "KEY-AGAIN What was it?", **env)
    assert first["result"] == f"The file says {SECRET}." and first["num_turns"] == 2
    assert again["result"] == f"Again: {SECRET}." and again["session_id"] == first["session_id"]
    asked, result, later = recorder.exchanges
    call, told, repeated = (check_exchange(e) for e in recorder.exchanges)

    request = asked.json()
    assert asked.target == "/v1/messages?beta=true" and len(asked.body) > 70000 and len(request["tools"]) >= 20
    assert {"thinking", "context_management", "output_config"} <= request.keys()
    assert asked.headers["anthropic-beta"] and request["model"] == MODEL == call[0]["message"]["model"]
    blocks = [e["content_block"] for e in call if e["type"] == "content_block_start"]
    assert [b["type"] for b in blocks] == ["thinking", "text", "tool_use"] and blocks[2]["name"] == "Read"
    assert call[-2]["delta"]["stop_reason"] == "tool_use" and told[-2]["delta"]["stop_reason"] == "end_turn"
    sent, = (b for b in result.json()["messages"][-1]["content"] if b["type"] == "tool_result")
    assert sent["tool_use_id"] == blocks[2]["id"] and SECRET in str(sent["content"])

    whole = usage(call)["cache_creation_input_tokens"]
    assert usage(call)["cache_read_input_tokens"] == 0 and whole > 10000
    assert usage(told)["cache_read_input_tokens"] >= whole
    assert usage(repeated)["cache_read_input_tokens"] > whole
    assert usage(repeated)["input_tokens"] + usage(repeated)["cache_creation_input_tokens"] < 300


def test_line_that_changes(scripted, node_modules, workshop, home):
    """Two sessions that ask different things: the line of the bill differs, what follows it is found in the cache."""
    with Recorder(scripted.port) as recorder:
        for question in ("One word, please.", "Quite another question, that has more words."):
            claude_code(node_modules, workshop, home, recorder.url, question, ANTHROPIC_MODEL=MODEL)
    one, two = (e for e in recorder.exchanges if e.json()["messages"][0]["content"][-1]["text"].endswith((".", "words.")))
    lines = [system_text(e)[0] for e in (one, two)]
    assert all(line.startswith("x-anthropic-billing-header:") for line in lines) and lines[0] != lines[1]
    found = usage(check_exchange(two))
    assert found["cache_read_input_tokens"] > 10000 > found["input_tokens"] + found["cache_creation_input_tokens"]


def test_names_of_models(scripted, node_modules, workshop, home):
    """Without a name of ours it takes one of its own, which the pattern claude-* fits."""
    with Recorder(scripted.port) as recorder:
        report = claude_code(node_modules, workshop, home, recorder.url, "Hello.")
    assert report["result"]
    names = {e.json()["model"] for e in recorder.exchanges}
    assert names and all(name.startswith("claude-") and name != MODEL for name in names), names
    for exchange in recorder.exchanges:
        check_exchange(exchange)


def test_template_that_is_strict(new_scripted, node_modules, workshop, home):
    """It sends a message of the role system behind the user's, which many templates refuse."""
    strict = "{%- if m.role == 'system' and not loop.first %}{{ raise_exception('System comes first.') }}{% endif %}"
    template = AGENT_TEMPLATE.replace("in messages %}", "in messages %}" + strict, 1)
    assert template != AGENT_TEMPLATE
    with new_scripted(template) as server, Recorder(server.port) as recorder:
        report = claude_code(node_modules, workshop, home, recorder.url, "KEY-READ What does note.txt say?",
                             ANTHROPIC_MODEL=MODEL)
    assert report["result"] == f"The file says {SECRET}."
    assert any(m["role"] == "system" for m in recorder.exchanges[0].json()["messages"][1:])
    call, told = (check_exchange(e) for e in recorder.exchanges)
    assert usage(told)["cache_read_input_tokens"] >= usage(call)["cache_creation_input_tokens"] > 10000


FEW = ("--max-turns", "2")
BRIEF = ("--tools", "Read", "--system-prompt", "You are terse.", *FEW)


@pytest.mark.parametrize("arguments", [BRIEF, pytest.param(FEW, marks=pytest.mark.long)], ids=["brief", "all-tools"])
def test_session_of_a_real_model(qwen, node_modules, workshop, home, arguments):
    """Two turns, with whatever the model says. All tools are a prompt of 18,000 tokens: minutes on two cores."""
    fields = {"seconds": 900, "ANTHROPIC_MODEL": MODEL, "CLAUDE_CODE_MAX_OUTPUT_TOKENS": "48", "API_TIMEOUT_MS": "900000"}
    with Recorder(qwen.port) as recorder:
        claude_code(node_modules, workshop, home, recorder.url, "Read note.txt and say what it says.", *arguments, **fields)
        claude_code(node_modules, workshop, home, recorder.url, "Say hello.", "--continue", *arguments, **fields)
    replies = [check_exchange(e) for e in recorder.exchanges]
    assert len(replies) >= 2 and usage(replies[0])["output_tokens"] > 1
    assert all(usage(r)["cache_read_input_tokens"] > 0 for r in replies[1:])
