#!/usr/bin/env python3
"""Tandem's mlx backend beside mlx-lm's server, same machine, same folder of a model, same library MLX, one run.

    compare_mlx_lm.py --model FOLDER [--clients 1 8] [--blas /usr/lib/x86_64-linux-gnu/libopenblas.so.0]

mlx-lm comes as its package (pinned below) into bench/out/venv-mlx-lm; --python takes another environment that has it. Both
are measured as their users meet them, by the same streaming HTTP clients, in turns: a run of ours, a run of theirs; the figures
are medians. The Linux wheel of MLX brings a reference BLAS: --blas is preloaded for both. mlx-lm
keeps K and V in the model's type, so does Tandem here, in f32. Results go to bench/results.
"""
import asyncio
import os
import sys

import compare
from peers.server import Server

PEER = ["mlx-lm==0.32.2", "mlx==0.32.4", "mlx-cpu==0.32.4"]
START_SECONDS = 120


def serve(python, model, env):
    """mlx-lm's server on a free port."""
    port = compare.free_port()
    command = [python, "-m", "mlx_lm", "server", "--model", model, "--port", port, "--prompt-cache-size", "1"]
    return Server("mlx-lm's server", command, f"http://127.0.0.1:{port}", START_SECONDS, env)


def main():
    parser = compare.arguments(__doc__, [1, 8])
    parser.add_argument("--model", default="smollm2:135m")
    parser.add_argument("--blas", help="a shared library of a BLAS, preloaded for both")
    parser.add_argument("--python", help="interpreter of an environment with mlx-lm")
    a = parser.parse_args()
    python = a.python or str(compare.peer_python("venv-mlx-lm", PEER))
    env = {**os.environ, "OPENBLAS_NUM_THREADS": str(a.threads), **({"LD_PRELOAD": a.blas} if a.blas else {})}
    servers = [compare.Server(a.tandem, a.model, a.threads, ["--backend", "mlx", "--kv-type", "f32"], env), serve(python, a.model, env)]
    try:
        rows = []
        for server in servers:
            asyncio.run(compare.run_clients(server.url, 1, 16, 8, 99))
        for n in a.clients:
            runs = [[asyncio.run(compare.run_clients(server.url, n, a.prompt, a.new, r)) for server in servers]
                    for r in range(a.repeat)]
            rows += compare.rows_of(n, [ours for ours, _ in runs], [theirs for _, theirs in runs])
    finally:
        for server in servers:
            server.stop()
    compare.report(rows, "mlx-lm", a.model, a)


if __name__ == "__main__":
    sys.exit(main())
