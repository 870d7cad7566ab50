"""Model switching under faults, for chaos.py --models N: N random models under a budget for about half of them, streams of all of
them at the same time, engines that are ended, and models that are loaded and unloaded by hand, by force too. Every stream has to get
what it gets undisturbed."""
import os
import pathlib
import random
import tempfile
import threading
import time


def bodies_of(a, names, rng, text_of, sampling):
    return [{"model": names[i % len(names)], "prompt": f"{text_of(rng, 8)} {i}", "max_tokens": a.tokens, "ignore_eos": True,
             "return_token_ids": True, "speculation": "on" if i % 2 else "off", "stream_options": {"include_usage": True},
             **sampling[i % len(sampling)]} for i in range(a.streams)]


def switch(server, names, rng, over):
    """By hand, all the time."""
    with server.new_http() as http:
        while not over.is_set():
            name = rng.choice(names)
            if rng.random() < 0.5:
                http.post(f"/v1/models/{name}/unload", json={"wait": False, "force": rng.random() < 0.5})
            else:
                http.post(f"/v1/models/{name}/load", json={"wait": False})
            time.sleep(rng.uniform(0.05, 0.3))


def strike(server, fault_signal, rng):
    """Ends one of the engines that are there; False: there is none."""
    pids = [m["engine"]["pid"] for m in server.status()["models"] if m.get("engine", {}).get("pid")]
    if not pids:
        return False
    try:
        os.kill(rng.choice(pids), fault_signal)
    except OSError:
        return False
    return True


def run(a, chaos):
    """(faults that count, sentences of what differs)."""
    from harness import Server, make_model, tiny_config
    rng = random.Random(a.seed)
    folder = pathlib.Path(tempfile.mkdtemp())
    names = [f"m{i}" for i in range(a.models)]
    for i, name in enumerate(names):
        config = tiny_config(context=16384, n_vocab=320)
        config["seed"] = 200 + i
        make_model(config, folder / f"{name}.gguf")
    need = 48 << 20  # about; one of them
    options = ["--kv-memory", "16M", "--memory", need * (a.models + 1) // 2, "--restart-limit", 64, "--restart-window-ms", 1000]
    server = Server("", *options, env={"TANDEM_MODELS": str(folder)})
    server.arguments.remove("")
    signals, counted, rounds, bad = list(chaos.SIGNALS.values()), 0, 0, []
    with server:
        bodies = bodies_of(a, names, rng, chaos.text_of, chaos.SAMPLING)
        expected = chaos.Together(server, bodies).join()
        bad += chaos.differences(bodies, expected, expected, False)
        while counted < a.faults and rounds < a.rounds and not bad:
            rounds += 1
            over = threading.Event()
            switcher = threading.Thread(target=switch, args=(server, names, random.Random(rounds), over), daemon=True)
            switcher.start()
            streams = chaos.Together(server, bodies)
            while streams.running():
                if streams.in_the_middle() and counted < a.faults and strike(server, signals[counted % len(signals)], rng):
                    counted += 1
                time.sleep(rng.uniform(0.05, a.pause))
            over.set()
            switcher.join()
            bad += chaos.differences(bodies, streams.join(), expected, a.backend == "cpu")
            print(f"switching: round {rounds}, {counted} faults, {len(bad)} differences", flush=True)
        memory = server.status()["memory"]
        print(f"{memory['loads']} loads, {memory['evictions']} to make room for others")
        if memory["models_used"] > memory["models_budget"]:
            bad.append(f"planned memory {memory['models_used']} exceeds the budget {memory['models_budget']}")
    return counted, bad
