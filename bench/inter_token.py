#!/usr/bin/env python3
"""How much long prompts slow down running streams: the time between tokens of 16 streams alone, and while prompts of
1,000 tokens keep arriving; with the bound of the step time and without it (--max-itl-factor 0).

    inter_token.py [--model smollm2:135m] [--streams 16] [--arrivals 2] [--seconds 15]

`arrivals` clients send one prompt after another and take one token each. Prints the median alone, the 95th percentile
beside prompts, their ratio, and prompts per second.
"""
import asyncio
import json
import pathlib
import random
import statistics
import time

import httpx

import compare

ROOT = pathlib.Path(__file__).resolve().parents[1]


async def stream(client, url, seed, gaps, stop):
    body = {"prompt": compare.prompt(seed, 100), "max_tokens": 4000, "temperature": 0, "ignore_eos": True, "stream": True,
            "speculation": "off", "cache_prompt": False}
    last = None
    async with client.stream("POST", url + "/v1/completions", json=body, timeout=3600) as reply:
        async for line in reply.aiter_lines():
            if line.startswith("data: {"):
                now = time.perf_counter()
                if "error" in json.loads(line[6:]):
                    raise SystemExit(line)
                if last:
                    gaps.append((now, now - last))
                last = now
            if stop.is_set():
                return


async def arrivals(client, url, seed, done, stop):
    rng = random.Random(seed)
    while not stop.is_set():
        body = {"prompt": compare.prompt(rng.random(), 1000), "max_tokens": 1, "temperature": 0, "cache_prompt": False}
        reply = await client.post(url + "/v1/completions", json=body, timeout=3600)
        reply.raise_for_status()
        done.append(time.perf_counter())


def percentile(values, share):
    return sorted(values)[int(share * (len(values) - 1))]


async def measure(url, a):
    gaps, done, stop = [], [], asyncio.Event()
    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=None)) as client:
        tasks = [asyncio.create_task(stream(client, url, i, gaps, stop)) for i in range(a.streams)]
        while len(gaps) < 10 * a.streams:
            await asyncio.sleep(0.1)
        began = time.perf_counter()
        await asyncio.sleep(a.seconds)
        arrived = time.perf_counter()
        tasks += [asyncio.create_task(arrivals(client, url, 100 + i, done, stop)) for i in range(a.arrivals)]
        await asyncio.sleep(2 * a.seconds)
        ended = time.perf_counter()
        stop.set()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    alone = [gap for at, gap in gaps if began < at < arrived]
    beside = [gap for at, gap in gaps if arrived + 1 < at < ended]
    return statistics.median(alone), statistics.median(beside), percentile(beside, 0.95), len(done) / (ended - arrived)


def main():
    parser = compare.parser_of(__doc__)
    parser.add_argument("--model", default="smollm2:135m")
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--arrivals", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--factors", type=float, nargs="*", default=[1.8, 2.5, 0])
    a = parser.parse_args()
    path = compare.model_path(a.model, a.tandem)
    print("| --max-itl-factor | alone, median ms | beside prompts, median | 95th percentile | p95 / alone | prompts/s |\n|"
          + " --- |" * 6)
    for factor in a.factors:
        server = compare.Server(a.tandem, path, a.threads, ["--max-itl-factor", str(factor), "--kv-memory", "1G"])
        alone, median, p95, prompts = asyncio.run(measure(server.url, a))
        print(f"| {factor:g} | {alone * 1e3:.1f} | {median * 1e3:.1f} | {p95 * 1e3:.1f} | {p95 / alone:.2f} | {prompts:.2f} |",
              flush=True)
        server.stop()


if __name__ == "__main__":
    main()
