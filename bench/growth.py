#!/usr/bin/env python3
"""How the cost of decoding grows with the streams and with the context: `tandem bench`, as plots.

    growth.py [--model smollm2:135m qwen2.5-coder:0.5b] [--threads 1 2] [--streams 1 2 4 ... 64] [--context 128 ... 8192]
    growth.py --from bench/out/growth-smollm2.json ...         draw earlier runs again

For each model and number of threads: throughput and inter-token time of 1 to 64 streams at a context of 256 tokens, and of one
stream (or --context-streams) at contexts of 128 to 8,192. Measured figures are lines with dots; dashed is what the machine's limits
allow. Dotted lines mark where one limit takes over from another, computed from the limits and from what a step has to read and
to multiply: memory and arithmetic run side by side, so the larger of the two counts.

Plots go to docs/img/growth-MODEL.svg, figures to bench/results/growth.csv and bench/out/growth-MODEL.json.
"""
import argparse
import json
import pathlib
import subprocess

import compare
import svg

ROOT = compare.ROOT
COLORS = [svg.BLUE, svg.RED, svg.GREEN]
FIELDS = ["threads", "streams", "context", "gen", "tokens_per_s", "tokens_per_s_min", "tokens_per_s_max", "inter_token_ms_p50",
          "inter_token_ms_p95", "bound_tokens_per_s", "bound_percent", "limit"]


def measure(model, a, streams, contexts):
    out = a.out / "growth-run.json"
    subprocess.run([a.tandem, "bench", str(model), "--backend", "cpu", "--tests", "decode", "--gen", str(a.gen), "--repeat",
                    str(a.repeat), "--threads", ",".join(map(str, a.threads)), "--streams", ",".join(map(str, streams)), "--context",
                    ",".join(map(str, contexts)), "--json", str(out)], check=True)
    report = json.loads(out.read_text())
    out.unlink()
    return report


def run_model(name, a):
    model = compare.model_path(name, a.tandem)
    by_streams = measure(model, a, a.streams, [a.stream_context])
    by_context = measure(model, a, [a.context_streams], a.context)
    report = {**by_streams, "model": pathlib.Path(model).stem, "by_streams": by_streams["rows"], "by_context": by_context["rows"]}
    del report["rows"]
    path = a.out / f"growth-{report['model']}.json"
    path.write_text(json.dumps(report, indent=1))
    append_csv(report, a)
    return report


def append_csv(report, a):
    def figure(value):
        return value if isinstance(value, (int, str)) or value is None else f"{value:.4g}"

    rows = [[report["kernels"], report["model"], *(figure(row[k]) for k in FIELDS)]
            for row in report["by_streams"] + report["by_context"]]
    compare.append_results(a.results, ["kernels", "model", *FIELDS], rows, report["cpu"])


# ---- where limits take over ----

def parts(row):
    """Milliseconds of a row's steps: weights, K and V, products, attention."""
    return [row[f"bound_{k}_ms"] for k in ("weights", "kv", "products", "attention")]


def crossing(constant, slope):
    """x where constant + slope x changes its sign; None when it does not."""
    return -constant / slope if slope and -constant / slope > 0 else None


def takeovers_by_streams(rows):
    """All but the weights grow with the streams."""
    n = rows[0]["streams"]
    weights, kv, products, attention = parts(rows[0])
    kv, products, attention = kv / n, products / n, attention / n
    found = [(crossing(-weights, products + attention - kv), "arithmetic over memory"), (crossing(-weights, kv), "K and V over weights")]
    return [svg.Mark(x, f"{label}: {x:.0f}") for x, label in found if x]


def takeovers_by_context(rows):
    """K and V and attention grow with the context, weights and products do not."""
    first, last = rows[0], rows[-1]
    (weights, kv, products, attention), (_, kv_last, _, attention_last) = parts(first), parts(last)
    span = last["context"] - first["context"]
    if not span:
        return []
    kv_slope, attention_slope = (kv_last - kv) / span, (attention_last - attention) / span
    kv_0, attention_0 = kv - kv_slope * first["context"], attention - attention_slope * first["context"]
    found = [(crossing(kv_0 - weights, kv_slope), "K and V over weights"),
             (crossing(attention_0 - products, attention_slope), "attention over products"),
             (crossing(products + attention_0 - weights - kv_0, attention_slope - kv_slope), "arithmetic and memory change places")]
    return [svg.Mark(x, f"{label}: {x:,.0f}") for x, label in found if x]


# ---- plots ----

def by_threads(rows):
    groups = {}
    for row in rows:
        if row["tokens_per_s"] is not None:
            groups.setdefault(row["threads"], []).append(row)
    return groups


def threads_label(n):
    return f"{n} thread{'s' if n > 1 else ''}"


def rate_lines(rows, x):
    lines = []
    for color, (n, group) in zip(COLORS, by_threads(rows).items()):
        lines += [svg.Line(threads_label(n), color, [(r[x], r["tokens_per_s"]) for r in group]),
                  svg.Line("bound", color, [(r[x], r["bound_tokens_per_s"]) for r in group], dashed=True)]
    return lines


def gap_lines(rows, x):
    lines = []
    for color, (n, group) in zip(COLORS, by_threads(rows).items()):
        for key, label, dashed in (("inter_token_ms_p50", "median", False), ("inter_token_ms_p95", "p95", True)):
            points = [(r[x], r[key]) for r in group if r[key]]
            lines += [svg.Line(f"{threads_label(n)}, {label}", color, points, dashed)] if points else []
    return lines


def draw(report, folder):
    streams, context = report["by_streams"], report["by_context"]
    most = list(by_threads(streams))[-1]
    marks = takeovers_by_streams(by_threads(streams)[most]), takeovers_by_context(by_threads(context)[most])
    at, of = f"context of {streams[0]['context']}", f"{context[0]['streams']} stream{'s' if context[0]['streams'] > 1 else ''}"
    panels = [svg.Panel(f"Throughput by streams, {at}", "streams", "tokens/s", rate_lines(streams, "streams"), marks[0]),
              svg.Panel(f"Time between tokens by streams, {at}", "streams", "ms", gap_lines(streams, "streams")),
              svg.Panel(f"Throughput by context, {of}", "tokens of context", "tokens/s", rate_lines(context, "context"), marks[1]),
              svg.Panel(f"Time between tokens by context, {of}", "tokens of context", "ms", gap_lines(context, "context"))]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"growth-{report['model']}.svg"
    svg.draw(path, f"{report['model']}, {report['cpu']}, {report['kernels']}", panels)
    print(path)
    for mark in [m for group in marks for m in group]:
        print(f"  {mark.label} ({threads_label(most)})")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tandem", default=str(ROOT / "build" / "tandem"))
    parser.add_argument("--model", nargs="*", default=["smollm2:135m", "qwen2.5-coder:0.5b"])
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--streams", type=int, nargs="*", default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--stream-context", type=int, default=256)
    parser.add_argument("--context", type=int, nargs="*", default=[128, 256, 512, 1024, 2048, 4096, 8192])
    parser.add_argument("--context-streams", type=int, default=1)
    parser.add_argument("--gen", type=int, default=64)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--from", dest="reports", type=pathlib.Path, nargs="*", help="files of earlier runs, instead of measuring")
    parser.add_argument("--images", type=pathlib.Path, default=ROOT / "docs" / "img")
    parser.add_argument("--results", default=str(ROOT / "bench" / "results" / "growth.csv"))
    parser.add_argument("--out", type=pathlib.Path, default=compare.OUT)
    a = parser.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    for report in map(lambda p: json.loads(p.read_text()), a.reports) if a.reports else (run_model(m, a) for m in a.model):
        draw(report, a.images)


if __name__ == "__main__":
    main()
