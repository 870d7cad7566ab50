#!/usr/bin/env python3
"""What guessing tokens gains: the same requests with `speculation` off and automatic, in turns, on one server.

    speculation.py [--model smollm2:135m qwen2.5-coder:0.5b] [--temperature 0 1] [--repeat 5] [--lines 150]

    edit        repeat a file of code with one change
    predicted   the same, with the file as OpenAI's `prediction`
    prose       a story, where nothing repeats
    prose x 16  sixteen stories at once

Each pair of runs begins with the other one; prompts are in the prefix cache from the first run on; times are those of
decoding, from the first token to the last. The figures are medians, the ratio is that of the pairs. Every answer is
compared: they have to be equal. Results go to bench/results/speculation.csv.
"""
import asyncio
import json
import pathlib
import statistics
import time

import httpx

import compare

ROOT = pathlib.Path(__file__).resolve().parents[1]
CSV_HEAD = ["model", "threads", "temperature", "what", "off", "auto", "ratio", "guesses per run", "right"]
SOURCE = ROOT / "bench" / "compare.py"  # the file that is to be repeated
SUBJECTS = ["a lighthouse keeper", "a winter in the mountains", "two sisters and a boat", "an old clockmaker",
            "the last train", "a garden behind the school", "a letter that came too late", "the island of goats",
            "a violin without strings", "the baker's secret", "a night in the library", "rain on the roof",
            "a map of nowhere", "the boy who counted birds", "a market in spring", "the bridge at noon"]


def chat(content, n_new, temperature, **fields):
    return {"messages": [{"role": "user", "content": content}], "max_tokens": n_new, "temperature": temperature,
            "seed": 11, "ignore_eos": True, "stream": True, "return_token_ids": True,
            "stream_options": {"include_usage": True}, **fields}


def code_of(lines):
    text = SOURCE.read_text().split("\n")
    while len(text) < lines:
        text += text
    return "\n".join(text[:lines]) + "\n"


def workloads(a, temperature):
    """(name, requests at once, new tokens of each). The answer to an edit is about as long as the code."""
    code = code_of(a.lines)
    edit = ("Repeat this code exactly as it is, with one change: rename the function `prompt` to `make_prompt`. "
            f"Answer with the code only.\n\n```python\n{code}```")
    stories = [f"Write a story about {subject}." for subject in SUBJECTS]
    return [
        ("edit", [chat(edit, a.new_edit, temperature)]),
        ("predicted", [chat(edit, a.new_edit, temperature, prediction={"type": "content", "content": code})]),
        ("prose", [chat(stories[0], a.new_prose, temperature)]),
        ("prose x 16", [chat(s, a.new_prose // 2, temperature) for s in stories]),
    ]


async def one(client, url, body):
    """(token ids, seconds from the first token to the last)."""
    ids, first, last = [], None, None
    async with client.stream("POST", url + "/v1/chat/completions", json=body, timeout=3600) as reply:
        async for line in reply.aiter_lines():
            if not line.startswith("data: {"):
                continue
            event = json.loads(line[6:])
            if "error" in event:
                raise SystemExit(event["error"])
            for choice in event["choices"]:
                if choice.get("token_ids"):
                    last = time.perf_counter()
                    first = first or last
                    ids += choice["token_ids"]
    return ids, last - first


async def run(url, bodies, how):
    """Token ids of all, tokens per second of decoding of all together."""
    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=None)) as client:
        began = time.perf_counter()
        answers = await asyncio.gather(*(one(client, url, {**body, "speculation": how}) for body in bodies))
        elapsed = answers[0][1] if len(bodies) == 1 else time.perf_counter() - began
    return [ids for ids, _ in answers], sum(len(ids) for ids, _ in answers) / elapsed


def stats_of(url):
    return httpx.get(url + "/v1/status").json()["models"][0]["engine"]["stats"]


def measure(url, bodies, repeat):
    """Medians of tokens per second off and auto, the median of the pairs' ratios, share of right guesses."""
    rates, ratios = {"off": [], "auto": []}, []
    reference, _ = asyncio.run(run(url, [{**body, "max_tokens": 16} for body in bodies], "off"))  # fills the prefix cache
    reference = None
    before = stats_of(url)
    for i in range(repeat):
        pair = {}
        for how in (("off", "auto") if i % 2 == 0 else ("auto", "off")):
            ids, pair[how] = asyncio.run(run(url, bodies, how))
            reference = reference or ids
            if ids != reference:
                raise SystemExit("speculation: the answers differ")
            rates[how].append(pair[how])
        ratios.append(pair["auto"] / pair["off"])
    time.sleep(0.3)
    after = stats_of(url)
    drafted, held = (after[k] - before[k] for k in ("spec_draft_tokens", "spec_accepted_tokens"))
    return (statistics.median(rates["off"]), statistics.median(rates["auto"]), statistics.median(ratios), drafted / repeat,
            held / repeat)


def compare_one(a, model, temperature, name, figures):
    """Prints a line of the table and appends it to the results, one by one: a whole run takes long."""
    off, auto, ratio, drafted, held = figures
    print(f"| {model} | {temperature:g} | {name} | {off:.1f} | {auto:.1f} | {ratio:.2f} | {drafted:.0f} | {held:.0f} |", flush=True)
    compare.append_results(ROOT / "bench" / "results" / "speculation.csv", CSV_HEAD,
                           [[model, a.threads, temperature, name, f"{off:.4g}", f"{auto:.4g}", f"{ratio:.3g}",
                             f"{drafted:.0f}", f"{held:.0f}"]])


def main():
    parser = compare.parser_of(__doc__)
    parser.add_argument("--model", nargs="*", default=["smollm2:135m", "qwen2.5-coder:0.5b"])
    parser.add_argument("--temperature", type=float, nargs="*", default=[0, 1])
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--lines", type=int, default=150, help="of code to repeat")
    parser.add_argument("--new-edit", type=int, default=1200, help="tokens of an edit's answer")
    parser.add_argument("--new-prose", type=int, default=200)
    parser.add_argument("--only", nargs="*", help="workloads by name")
    a = parser.parse_args()
    print("| model | T | | off, tokens/s | auto, tokens/s | ratio | guesses | right |\n|" + " --- |" * 8)
    for model in a.model:
        path = compare.model_path(model, a.tandem)
        server = compare.Server(a.tandem, path, a.threads, ["--max-context", "8192", "--kv-memory", "1G"])
        for temperature in a.temperature:
            for name, bodies in workloads(a, temperature):
                if not a.only or name in a.only:
                    compare_one(a, pathlib.Path(path).name, temperature, name, measure(server.url, bodies, a.repeat))
        server.stop()


if __name__ == "__main__":
    main()
