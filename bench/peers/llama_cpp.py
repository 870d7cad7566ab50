"""llama.cpp as its users meet it: llama-bench, llama-batched-bench, llama-quantize and llama-server, built from the copy of
its sources in llama-cpp-python's source package, into bench/out. Nothing else of the machine is used or changed.

    tools = Tools.build(out, "native")                      or "avx2": the same without AVX-512
    tools.bench(model, flags, prompts=[512], n_gen=128)     flags: {"threads": 2, "flash": "on", "ubatch": 512}
"""
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile

from peers.server import Server

PACKAGE = "llama-cpp-python==0.3.36"
TARGETS = ["llama-bench", "llama-batched-bench", "llama-quantize", "llama-server"]
COMMON = ["-DCMAKE_BUILD_TYPE=Release", "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_BUILD_UI=OFF",
          "-DLLAMA_OPENSSL=OFF"]
VARIANTS = {
    "native": ["-DGGML_NATIVE=ON"],
    "avx2": ["-DGGML_NATIVE=OFF", "-DGGML_SSE42=ON", "-DGGML_AVX=ON", "-DGGML_AVX2=ON", "-DGGML_FMA=ON", "-DGGML_F16C=ON",
             "-DGGML_BMI2=ON", "-DGGML_AVX512=OFF"],
}
FLASH = ["on", "off"]
MICRO_BATCHES = [128, 512, 2048]
START_SECONDS = 300


def run(command, **options):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, **options)
    if done.returncode:
        raise SystemExit(f"{pathlib.Path(str(command[0])).name} fails: {(done.stderr or done.stdout)[-2000:]}")
    return done.stdout


def sources(out):
    """The folder of llama.cpp's sources, brought on first use."""
    name, version = PACKAGE.split("==")
    folder = out / "sources" / f"{name.replace('-', '_')}-{version}" / "vendor" / "llama.cpp"
    if not folder.exists():
        print(f"bringing the sources of {PACKAGE}", flush=True)
        run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:", "-d", out / "sources", PACKAGE])
        with tarfile.open(next((out / "sources").glob("*.tar.gz"))) as archive:
            archive.extractall(out / "sources", filter="data")
    return folder


class Tools:
    """The programs of one build."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        absent = [t for t in TARGETS if not (self.folder / t).exists()]
        if absent:
            raise SystemExit(f"compare: {self.folder} has no {', '.join(absent)}")

    @classmethod
    def build(cls, out, variant):
        build = out / f"llama-{variant}"
        marker, wanted = build / ".built", f"{PACKAGE} {COMMON} {VARIANTS[variant]}"
        if not marker.exists() or marker.read_text() != wanted:
            for tool in ("cmake", "ninja", "c++"):
                if not shutil.which(tool):
                    raise SystemExit(f"compare: building llama.cpp needs {tool}")
            folder = sources(out)
            print(f"building llama.cpp ({variant}); some ten minutes, once", flush=True)
            run(["cmake", "-G", "Ninja", "-S", folder, "-B", build, *COMMON, *VARIANTS[variant]])
            run(["ninja", "-C", build, *TARGETS])
            marker.write_text(wanted)
        return cls(build / "bin")

    def quantized(self, model, kind, out):
        """The model requantized by llama-quantize, made on first use."""
        made = out / "models" / f"{pathlib.Path(model).stem}-requantized-{kind.lower()}.gguf"
        if not made.exists():
            made.parent.mkdir(parents=True, exist_ok=True)
            part = made.with_suffix(".part.gguf")
            run([self.folder / "llama-quantize", "--allow-requantize", model, part, kind])
            part.rename(made)
        return made

    def bench(self, model, flags, prompts=(), n_gen=0, warm_up=True):
        """llama-bench, once: {("prefill", n) or ("decode", n): tokens/s}."""
        command = [self.folder / "llama-bench", "-m", model, "-t", flags["threads"], "-fa", flags["flash"], "-ub", flags["ubatch"],
                   "-p", ",".join(map(str, prompts)) or "0", "-n", n_gen, "-r", 1, "-o", "json",
                   *([] if warm_up else ["--no-warmup"])]
        return {("prefill", t["n_prompt"]) if t["n_prompt"] else ("decode", t["n_gen"]): t["avg_ts"]
                for t in json.loads(run(command))}

    def batched(self, model, flags, streams, n_prompt, n_gen):
        """llama-batched-bench, once: {streams: (generated tokens/s of the whole run, of its decoding)}."""
        context = (max(streams) * (n_prompt + n_gen) + 255) // 256 * 256
        text = run([self.folder / "llama-batched-bench", "-m", model, "-c", context, "-b", 2048, "-t", flags["threads"], "-fa",
                    flags["flash"], "-ub", flags["ubatch"], "-npp", n_prompt, "-ntg", n_gen, "-npl", ",".join(map(str, streams)),
                    "--output-format", "jsonl"])
        rows = [json.loads(line) for line in re.findall(r"^\{.*\}$", text, re.MULTILINE)]
        return {r["pl"]: (r["pl"] * r["tg"] / r["t"], r["speed_tg"]) for r in rows}


def best_flags(threads, measure):
    """Of numbers of threads, flash attention and micro-batches those with the highest figure measure(flags)."""
    tried = [{"threads": t, "flash": fa, "ubatch": ub} for t in threads for fa in FLASH for ub in MICRO_BATCHES]
    return max(tried, key=measure)


def serve(tools, model, flags, slots, context, port):
    """llama-server on the given port, ready."""
    command = [tools.folder / "llama-server", "-m", model, "--host", "127.0.0.1", "--port", port, "-t", flags["threads"], "-fa",
               flags["flash"], "-ub", flags["ubatch"], "-b", 2048, "-np", slots, "-c", slots * context]
    return Server("llama-server", command, f"http://127.0.0.1:{port}", START_SECONDS)
