#!/usr/bin/env python3
"""llama.cpp through llama-cpp-python's low-level API: prefill, decode, and N streams in one batch. Prints one JSON line.

Greedy, without HTTP: the streams' prompts go in together, then every step decodes one token of each, as
llama-batched-bench does. Only the sampling (argmax over the logits) is Python's.
"""
import argparse
import ctypes
import json
import time

import llama_cpp as L
import numpy as np


class Engine:
    def __init__(self, path, threads, n_ctx, n_seq):
        L.llama_backend_init()
        self.model = L.llama_model_load_from_file(path.encode(), L.llama_model_default_params())
        params = L.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch, params.n_seq_max = n_ctx, 2048, 512, n_seq
        params.n_threads = params.n_threads_batch = threads
        self.ctx = L.llama_init_from_model(self.model, params)
        self.n_vocab = L.llama_vocab_n_tokens(L.llama_model_get_vocab(self.model))
        self.batch = L.llama_batch_init(2048, 0, 1)

    def clear(self):
        L.llama_memory_clear(L.llama_get_memory(self.ctx), True)

    def decode(self, rows):
        """rows: (token, position, sequence, wants logits)."""
        b = self.batch
        b.n_tokens = len(rows)
        for i, (token, position, sequence, logits) in enumerate(rows):
            b.token[i], b.pos[i], b.n_seq_id[i], b.logits[i] = token, position, 1, logits
            b.seq_id[i][0] = sequence
        if L.llama_decode(self.ctx, b) != 0:
            raise SystemExit("llama_decode failed")

    def argmax(self, row):
        logits = np.ctypeslib.as_array(L.llama_get_logits_ith(self.ctx, row), shape=(self.n_vocab,))
        return int(logits.argmax())


def prompt_of(n, seed):
    return [int(t) for t in np.random.default_rng(seed).integers(100, 20000, n)]


def prefill(e, n):
    e.clear()
    began = time.perf_counter()
    e.decode([(t, i, 0, i == n - 1) for i, t in enumerate(prompt_of(n, 1))])
    e.argmax(n - 1)
    return n / (time.perf_counter() - began)


def streams(e, n_streams, n_prompt, n_new):
    """Whole-run tokens/s of n_streams prompts prefilled and decoded together."""
    e.clear()
    began = time.perf_counter()
    rows, last = [], []
    for s in range(n_streams):
        for i, t in enumerate(prompt_of(n_prompt, s)):
            rows.append((t, i, s, i == n_prompt - 1))
    tokens = [0] * n_streams
    for start in range(0, len(rows), 2048):
        part = rows[start:start + 2048]
        e.decode(part)
        for k, row in enumerate(part):
            if row[3]:
                tokens[row[2]] = e.argmax(k)
    for step in range(n_new - 1):
        e.decode([(tokens[s], n_prompt + step, s, True) for s in range(n_streams)])
        tokens = [e.argmax(s) for s in range(n_streams)]
    return n_streams * n_new / (time.perf_counter() - began)


def decode(e, n):
    e.clear()
    e.decode([(1, 0, 0, True)])
    token, began = e.argmax(0), time.perf_counter()
    for i in range(n):
        e.decode([(token, 1 + i, 0, True)])
        token = e.argmax(0)
    return n / (time.perf_counter() - began)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prompt", type=int, default=100)
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--streams", type=int, nargs="*", default=[1, 16])
    parser.add_argument("--repeat", type=int, default=3)
    a = parser.parse_args()
    # the context is divided evenly among the sequences, and prefill_512 has to fit into one share
    e = Engine(a.model, a.threads, max(a.streams) * max(640, a.prompt + a.new + 8), max(a.streams))
    prefill(e, 64)  # warm-up
    median = lambda f: float(np.median([f() for _ in range(a.repeat)]))
    result = {"prefill_512": median(lambda: prefill(e, 512)), "decode_128": median(lambda: decode(e, 128))}
    for n in a.streams:
        result[f"streams_{n}"] = median(lambda: streams(e, n, a.prompt, a.new))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
