#!/usr/bin/env python3
"""What a server gets done when more requests come than it can serve: goodput at 1, 2 and 10 times its capacity, how fast
the rest is refused, and whether anything that was accepted is lost.

    overload.py [--model smollm2:135m] [--seconds 20] [--loads 1,2,10] [--timeout 10] [--report FILE]

The capacity is measured first, with as many clients as sequences may run. Then requests come at random moments (Poisson) at
that rate times the load, whether or not earlier ones were answered, each with `timeout` seconds. Goodput is the tokens of
answers that were complete in time, per second of the whole run. A refusal's latency is from the request's last byte to
the reply's first.

Prints a table and whether the targets hold: goodput at the highest load within 10% of the best, refusals within 100 ms
(99th percentile), nothing lost: every request ends with its whole answer, 429 or, where its time is over, 504. Status 1
when one does not.
"""
import asyncio
import json
import pathlib
import random
import sys
import time

import compare

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))
GOODPUT_LEAST, REFUSED_WITHIN = 0.9, 0.1


class Result:
    """What became of one request."""

    def __init__(self, status, tokens, seconds, first_seconds, whole):
        self.status, self.tokens, self.seconds = status, tokens, seconds
        self.first_seconds, self.whole = first_seconds, whole


async def ask(port, body):
    """One request on a connection of its own, in HTTP/1.0: the body is what comes until the connection ends."""
    payload = json.dumps(body).encode()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
        writer.write(b"POST /v1/completions HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
                     % (len(payload), payload))
        began = time.perf_counter()
        head = await reader.readuntil(b"\r\n\r\n")
        first = time.perf_counter() - began
        rest = json.loads(await reader.read(-1))
        writer.close()
    except (OSError, asyncio.IncompleteReadError, json.JSONDecodeError):
        return Result(0, 0, 0, 0, False)
    status, tokens = int(head.split(b" ", 2)[1]), 0
    if status == 200:
        tokens = rest["usage"]["completion_tokens"]
    return Result(status, tokens, time.perf_counter() - began, first, tokens == body["max_tokens"])


def body_of(a, i):
    return {"prompt": compare.prompt(i, a.prompt_tokens), "max_tokens": a.max_tokens, "temperature": 0, "ignore_eos": True,
            "cache_prompt": False}


async def measure_capacity(port, a):
    """Requests a second with as many clients as run at once."""
    done, stop = [], time.perf_counter() + a.seconds

    async def client(k):
        i = k * 100000
        while time.perf_counter() < stop:
            result = await ask(port, body_of(a, i))
            if result.status != 200:
                raise SystemExit(f"status {result.status} while the capacity was measured")
            done.append(time.perf_counter())
            i += 1
    await asyncio.gather(*(client(k) for k in range(a.sequences)))
    counted = [at for at in done if stop - a.seconds * 0.7 < at < stop]  # warmed up
    return len(counted) / (a.seconds * 0.7)


async def run_load(port, a, rate, seed):
    rng, tasks = random.Random(seed), []
    began = time.perf_counter()
    at, i = began, seed * 1000000
    while at < began + a.seconds:
        await asyncio.sleep(max(0, at - time.perf_counter()))
        tasks.append(asyncio.create_task(ask(port, {**body_of(a, i), "timeout": a.timeout})))
        at += rng.expovariate(rate)
        i += 1
    results = await asyncio.gather(*tasks)
    return results, time.perf_counter() - began


def percentile(values, share):
    return sorted(values)[int(share * (len(values) - 1))] if values else float("nan")


def row_of(load, rate, results, seconds):
    good = [r for r in results if r.status == 200 and r.whole]
    refused = [r.first_seconds for r in results if r.status == 429]
    late = sum(r.status == 504 for r in results)
    return {"load": load, "offered": rate, "requests": len(results), "answered": len(good), "refused": len(refused),
            "late": late, "lost": len(results) - len(good) - len(refused) - late,
            "goodput": sum(r.tokens for r in good) / seconds, "p50": percentile([r.seconds for r in good], 0.5),
            "p99": percentile([r.seconds for r in good], 0.99), "refused_p50": percentile(refused, 0.5),
            "refused_p99": percentile(refused, 0.99)}


def table(capacity, rows):
    lines = [f"capacity {capacity:.2f} requests/s", "",
             "| load | offered/s | requests | answered | refused | late | lost | goodput tok/s | answer p50 / p99 s "
             "| 429 p50 / p99 ms |", "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"]
    for r in rows:
        lines.append(f"| {r['load']:g}x | {r['offered']:.1f} | {r['requests']} | {r['answered']} | {r['refused']} | "
                     f"{r['late']} | {r['lost']} | {r['goodput']:.1f} | {r['p50']:.2f} / {r['p99']:.2f} | "
                     f"{1000 * r['refused_p50']:.1f} / {1000 * r['refused_p99']:.1f} |")
    return lines


def judge(rows):
    """(what is to hold, whether it does)"""
    best, last = max(r["goodput"] for r in rows), rows[-1]
    slowest = max([r["refused_p99"] for r in rows if r["refused"]], default=0.0)
    return [(f"goodput at {last['load']:g}x is {100 * last['goodput'] / best:.1f}% of the best (at least 90%)",
             last["goodput"] >= GOODPUT_LEAST * best),
            (f"99% of the refusals came within {1000 * slowest:.1f} ms (at most 100 ms)", slowest <= REFUSED_WITHIN),
            (f"{sum(r['lost'] for r in rows)} requests were lost (none)", not any(r["lost"] for r in rows))]


def main():
    parser = compare.parser_of(__doc__)
    parser.add_argument("--model", default="smollm2:135m")
    parser.add_argument("--sequences", type=int, default=16, help="that run at once")
    parser.add_argument("--waiting", type=int, default=64, help="requests that may wait")
    parser.add_argument("--kv-memory", default="256M")
    parser.add_argument("--prompt-tokens", type=int, default=100)
    parser.add_argument("--max-tokens", type=int, default=32)
    parser.add_argument("--timeout", type=float, default=10, help="seconds that each request has")
    parser.add_argument("--seconds", type=float, default=20, help="of each load")
    parser.add_argument("--loads", default="1,2,10")
    parser.add_argument("--report", help="file for the table")
    a = parser.parse_args()
    import os
    os.environ["TANDEM"] = a.tandem
    from harness import Server
    with Server(a.model, "--threads", a.threads, "--kv-memory", a.kv_memory, "--max-sequences", a.sequences,
                "--max-waiting", a.waiting) as server:
        capacity = asyncio.run(measure_capacity(server.port, a))
        print(f"capacity {capacity:.2f} requests/s", flush=True)
        rows = []
        for k, load in enumerate(float(x) for x in a.loads.split(",")):
            results, seconds = asyncio.run(run_load(server.port, a, load * capacity, k + 1))
            rows.append(row_of(load, load * capacity, results, seconds))
            print(table(capacity, rows)[-1], flush=True)
            server.wait_idle(60)
        preemptions = server.stats()["preemptions"]
    verdicts = judge(rows)
    lines = [*table(capacity, rows), "", f"{preemptions} preemptions.",
             *(f"{'ok  ' if holds else 'MISS'} {what}" for what, holds in verdicts)]
    print("\n".join(lines))
    if a.report:
        pathlib.Path(a.report).write_text("\n".join(lines) + "\n")
    raise SystemExit(0 if all(holds for _, holds in verdicts) else 1)


if __name__ == "__main__":
    main()
