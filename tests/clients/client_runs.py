"""Runs of clients as child processes that reach nothing but this machine, and the scripted engine's answers to them."""
import json
import os
import pathlib
import platform
import shutil
import subprocess

from harness import PATIENCE
from script_rules import call_text

HERE = pathlib.Path(__file__).resolve().parent
SECRET = "silver-otter"  # what the file says that coding agents read
SUNNY = "It is sunny in Oslo."
QUESTION = "KEY-WEATHER How is the weather in Oslo?"
MODEL = "claude-tandem"  # by a pattern of --served-model-name


def script(workshop):
    """Later turns come first: a prompt holds the earlier ones too. What is left of <think> counts where the prompt has
    opened it, as it does for clients that ask for thinking."""
    read = {tool: call_text(tool, json.dumps({key: str(workshop / "note.txt")}))
            for tool, key in (("Read", "file_path"), ("read", "filePath"))}
    return {"rules": [
        {"match": "RESULT-SUNNY", "text": SUNNY},
        {"match": "KEY-WEATHER", "text": call_text("weather", '{"city": "Oslo"}')},
        {"match": "KEY-AGAIN", "text": f"They ask again.</think>\n\nAgain: {SECRET}."},
        {"match": f"1\t{SECRET}", "text": f"There it is.</think>\n\nThe file says {SECRET}."},
        {"match": f"1: {SECRET}", "text": f"The file says {SECRET}."},
        {"match": "KEY-READ", "text": f"I have to look.</think>\n\nI read it.\n{read['Read']}"},
        {"match": "KEY-OPEN-READ", "text": f"I read it.\n{read['read']}"},
    ], "default": {"text": "</think>\n\nHello there."}}


def offline(home, **more):
    """An environment of its own: a home that is empty, and a proxy that is none for whatever is not this machine."""
    nowhere = "http://127.0.0.1:9"
    return {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8", "HTTP_PROXY": nowhere, "HTTPS_PROXY": nowhere,
            "http_proxy": nowhere, "https_proxy": nowhere, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", **more}


def run(command, folder, env, seconds=60, statuses=(0,)):
    done = subprocess.run([str(c) for c in command], cwd=folder, env=env, stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=seconds * PATIENCE)
    assert done.returncode in statuses, f"{command[:3]}: {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


# ---- libraries: the trip that js/trip.mjs describes ----

def order_of(server, way, **more):
    return {"url": server.url, "way": way, "model": MODEL, "question": QUESTION, "choose": False, **more}


def node_trip(node_modules, script, server, way, **more):
    """Scripts find their packages beside them, so they are copied there."""
    folder = node_modules.parent
    for name in ("trip.mjs", script):
        shutil.copy(HERE / "js" / name, folder / name)
    return json.loads(run(["node", folder / script, json.dumps(order_of(server, way, **more))], folder, offline(folder)))


def langchain_trips(python, folder, orders):
    """Results by way."""
    out = run([python, HERE / "langchain_trip.py", json.dumps(orders)], folder, offline(folder), 30 + 10 * len(orders))
    return {order["way"]: json.loads(line) for order, line in zip(orders, out.splitlines(), strict=True)}


# ---- programs ----

def claude_code(node_modules, folder, home, url, *arguments, seconds=60, **env):
    """`claude -p`: its report."""
    program = node_modules / "@anthropic-ai" / "claude-code" / "cli-wrapper.cjs"
    quiet = {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_TELEMETRY": "1", "DISABLE_ERROR_REPORTING": "1",
             "DISABLE_AUTOUPDATER": "1"}
    env = offline(home, ANTHROPIC_BASE_URL=url, ANTHROPIC_API_KEY="unused", **quiet, **env)
    command = ["node", program, "-p", *arguments, "--output-format", "json"]
    report = json.loads(run(command, folder, env, seconds, (0, 1)))
    allowed = ("success", "error_max_turns") if "--max-turns" in arguments else ("success",)
    assert report["subtype"] in allowed and not report["permission_denials"], report
    return report


def opencode_config(url):
    model = {"name": "Tandem's", "tool_call": True, "limit": {"context": 65536, "output": 4096}}
    provider = {"npm": "@ai-sdk/openai-compatible", "name": "Tandem", "options": {"baseURL": f"{url}/v1", "apiKey": "unused"},
                "models": {MODEL: model}}
    return {"$schema": "https://opencode.ai/config.json", "provider": {"tandem": provider}, "model": f"tandem/{MODEL}",
            "small_model": f"tandem/{MODEL}", "autoupdate": False, "share": "disabled"}


def opencode(node_modules, folder, home, url, *arguments):
    """`opencode run`: the events that it prints."""
    (folder / "opencode.json").write_text(json.dumps(opencode_config(url)))
    env = offline(home, OPENCODE_DISABLE_AUTOUPDATE="1", OPENCODE_DISABLE_MODELS_FETCH="1", OPENCODE_DISABLE_LSP_DOWNLOAD="1",
                  OPENCODE_DISABLE_DEFAULT_PLUGINS="1")
    system = {"Darwin": "darwin"}.get(platform.system(), "linux")
    machine = "arm64" if platform.machine() in ("arm64", "aarch64") else "x64"
    program = node_modules / f"opencode-{system}-{machine}" / "bin" / "opencode"  # a script of the package's would copy it
    return [json.loads(line) for line in run([program, "run", "--format", "json", *arguments], folder, env).splitlines()]
