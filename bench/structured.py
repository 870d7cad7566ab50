#!/usr/bin/env python3
"""What a schema costs while decoding: the same number of tokens with a schema and without, in turns, on one server.

    structured.py [--model smollm2:135m qwen2.5-coder:0.5b] [--streams 1 16] [--new 128] [--repeat 5] [--strict]

With: a binding schema, a long list of people, whose answer is not at its end after --new tokens; without: free text that goes
on as long. Speculation is off in both, since answers under a schema have none. Prompts are in the prefix cache and the
schema is compiled from the first run on. Each pair of runs begins with the other one; figures are medians, the ratio is that
of the pairs; beside it, what masks took of the engine's steps. The target is a ratio of 0.95; exit status 1 when it is missed
and --strict is given. Results go to bench/results/structured.csv."""
import asyncio
import pathlib
import statistics
import sys
import time

import httpx

import compare
from speculation import one, stats_of

ROOT = pathlib.Path(__file__).resolve().parents[1]
CSV_HEAD = ["model", "threads", "streams", "tokens", "free", "schema", "ratio", "masks, share of steps", "us per mask"]
TARGET = 0.95
PERSON = {"type": "object", "additionalProperties": False, "required": ["name", "age", "kind", "tags", "address"], "properties": {
    "name": {"type": "string", "minLength": 3, "maxLength": 24}, "age": {"type": "integer", "minimum": 0, "maximum": 120},
    "kind": {"enum": ["guest", "member", "owner"]},
    "tags": {"type": "array", "items": {"type": "string", "maxLength": 12}, "minItems": 1, "maxItems": 3},
    "address": {"type": "object", "additionalProperties": False, "required": ["street", "zip"], "properties": {
        "street": {"type": "string", "maxLength": 30}, "zip": {"type": "string", "pattern": "^[0-9]{5}$"}}}}}
PEOPLE = {"type": "array", "items": PERSON, "minItems": 500}


def bodies(n, a, schema):
    fields = {"guided_json": PEOPLE} if schema else {"ignore_eos": True}
    return [{"messages": [{"role": "user", "content": f"List the people of house {i} as JSON."}], "max_tokens": a.new, "temperature": 1,
             "seed": i, "stream": True, "return_token_ids": True, "speculation": "off", **fields} for i in range(n)]


async def run(url, requests):
    """Tokens per second of all together, from the first request to the last token."""
    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=None)) as client:
        began = time.perf_counter()
        answers = await asyncio.gather(*(one(client, url, body) for body in requests))
        elapsed = time.perf_counter() - began
    for ids, _ in answers:
        if len(ids) != requests[0]["max_tokens"]:
            raise SystemExit(f"structured: an answer has {len(ids)} tokens")
    return sum(len(ids) for ids, _ in answers) / elapsed


def measure(url, n, a):
    """Medians of tokens per second free and bound, the median of the pairs' ratios, masks' share of steps, µs per mask."""
    rates, ratios, shares, per_mask = {False: [], True: []}, [], [], []
    for schema in (False, True):
        asyncio.run(run(url, bodies(n, a, schema)))
    for i in range(a.repeat):
        pair = {}
        for schema in ((False, True) if i % 2 == 0 else (True, False)):
            time.sleep(0.6)  # the engine tells its figures every half second
            before = stats_of(url)
            pair[schema] = asyncio.run(run(url, bodies(n, a, schema)))
            time.sleep(0.6)
            after = stats_of(url)
            rates[schema].append(pair[schema])
            if schema:
                spent, steps, masks = (after[k] - before[k] for k in ("mask_ns", "step_ns", "masks"))
                shares.append(spent / max(steps, 1))
                per_mask.append(spent / max(masks, 1) / 1e3)
        ratios.append(pair[True] / pair[False])
    return [statistics.median(v) for v in (rates[False], rates[True], ratios, shares, per_mask)]


def main():
    parser = compare.parser_of(__doc__)
    parser.add_argument("--model", nargs="*", default=["smollm2:135m", "qwen2.5-coder:0.5b"])
    parser.add_argument("--streams", type=int, nargs="*", default=[1, 16])
    parser.add_argument("--new", type=int, default=128)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--strict", action="store_true")
    a = parser.parse_args()
    missed = 0
    print("| model | streams | free, tokens/s | schema, tokens/s | ratio | masks, of the steps | per mask |\n|" + " --- |" * 7)
    for model in a.model:
        path = compare.model_path(model, a.tandem)
        server = compare.Server(a.tandem, path, a.threads, ["--max-context", "2048", "--kv-memory", "512M"])
        for n in a.streams:
            free, bound, ratio, share, us = measure(server.url, n, a)
            missed += ratio < TARGET
            print(f"| {pathlib.Path(path).name} | {n} | {free:.1f} | {bound:.1f} | {ratio:.2f} | {100 * share:.1f} % | {us:.0f} µs |", flush=True)
            compare.append_results(ROOT / "bench" / "results" / "structured.csv", CSV_HEAD,
                                   [[pathlib.Path(path).name, a.threads, n, a.new, f"{free:.4g}", f"{bound:.4g}", f"{ratio:.3g}",
                                     f"{share:.3g}", f"{us:.3g}"]])
        server.stop()
    sys.exit(1 if missed and a.strict else 0)


if __name__ == "__main__":
    main()
