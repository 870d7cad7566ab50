"""OpenCode, the program, over chat completions: it calls its read tool, sends what the file says, answers."""
from client_runs import SECRET, opencode
from recorder import Recorder


def test_session_reads_a_file(scripted, node_modules, workshop, tmp_path):
    with Recorder(scripted.port) as recorder:
        events = opencode(node_modules, workshop, tmp_path, recorder.url, "KEY-OPEN-READ What does note.txt say?")
    texts = [e["part"]["text"] for e in events if e["type"] == "text"]
    used, = (e["part"] for e in events if e["type"] == "tool_use")
    finished = [e["part"] for e in events if e["type"] == "step_finish"]
    assert texts[-1] == f"The file says {SECRET}." and used["tool"] == "read" and SECRET in used["state"]["output"]
    assert [f["reason"] for f in finished] == ["tool-calls", "stop"]
    assert finished[1]["tokens"]["cache"]["read"] > 1000
    assert all(e.status == 200 and e.whole for e in recorder.exchanges) and len(recorder.exchanges) >= 2
    assert any(e.json().get("tools") for e in recorder.exchanges)
