"""Files to token arrays: xtl's cache against `datasets.map(batched=True)`, the same rust tokenizer, the same cores.

    python scripts/bench_tokenise.py --root=DATA --tokenizer=FOLDER [--pairs=5] [--cores=0,1]

Both read XNLI's development set (xnli.dev.tsv, 15 languages, 37,350 pairs) and leave ids of `<s> A </s></s> B </s>`, at
most 128 pieces, on disk: xtl as memory-mapped arrays, `datasets` as an Arrow file. Every run is a process of its own
with empty caches; the tokenizer is loaded before the clock starts. Runs alternate, which goes first changes with each
pair, and the ratio is taken within a pair, so a busy machine slows both.

    python scripts/bench_tokenise.py --sentences=5000000 --tokenizer=FOLDER

writes a file of that many short sentences, caches it as MLM text and prints the peak of resident memory.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

LENGTH = 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="", help="data root that holds xnli/XNLI-1.0/xnli.dev.tsv")
    parser.add_argument("--tokenizer", required=True, help="folder with sentencepiece.bpe.model")
    parser.add_argument("--pairs", type=int, default=5, help="runs of each side")
    parser.add_argument("--cores", default="", help="cores to run on, as 0,1 (default: all there are)")
    parser.add_argument("--sentences", type=int, default=0, help="measure memory on so many sentences instead")
    parser.add_argument("--json", default="", help="write the result there, too")
    parser.add_argument("--side", default="", choices=("", "xtl", "datasets", "memory"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        sides = {"xtl": run_xtl, "datasets": run_datasets, "memory": run_memory}
        print(json.dumps(sides[args.side](args, Path(args.folder))))
        return
    if args.cores:
        os.sched_setaffinity(0, {int(core) for core in args.cores.split(",")})
    result = memory(args) if args.sentences else compare(args)
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=2) + "\n")


def compare(args: argparse.Namespace) -> dict[str, Any]:
    """Alternate the two sides and print the ratios."""
    runs: dict[str, list[dict[str, Any]]] = {"xtl": [], "datasets": []}
    for pair in range(args.pairs):
        order = ("xtl", "datasets") if pair % 2 == 0 else ("datasets", "xtl")
        for side in order:
            runs[side].append(alone(args, side))
        ours, theirs = runs["xtl"][-1], runs["datasets"][-1]
        if (ours["pairs"], ours["tokens"], ours["digest"]) != (theirs["pairs"], theirs["tokens"], theirs["digest"]):
            raise SystemExit(f"the two sides give different ids: {ours} {theirs}")
        shown = "  ".join(f"{s} {runs[s][-1]['wall_s']:.2f} s wall {runs[s][-1]['cpu_s']:.2f} s CPU" for s in runs)
        print(f"pair {pair + 1}: {shown}", flush=True)
    result: dict[str, Any] = {"runs": runs, "pairs": runs["xtl"][0]["pairs"], "tokens": runs["xtl"][0]["tokens"]}
    for clock in ("wall_s", "cpu_s"):
        ratios = [d[clock] / x[clock] for d, x in zip(runs["datasets"], runs["xtl"], strict=True)]
        result[clock] = {"median": statistics.median(ratios), "least": min(ratios), "most": max(ratios)}
        print(
            f"datasets / xtl, {clock}: median {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        )
    print(f"{result['pairs']:,} pairs, {result['tokens']:,} tokens, {len(os.sched_getaffinity(0))} cores; equal ids")
    return result


def memory(args: argparse.Namespace) -> dict[str, Any]:
    run = alone(args, "memory")
    print(
        f"{args.sentences:,} sentences, {run['tokens']:,} tokens: peak {run['peak_gib']:.2f} GiB resident, "
        f"{run['wall_s']:.0f} s wall, {run['cpu_s']:.0f} s CPU"
    )
    return run


def alone(args: argparse.Namespace, side: str) -> dict[str, Any]:
    """One run in a process and a folder of its own."""
    folder = tempfile.mkdtemp(prefix="bench-tokenise-")
    try:
        command = [sys.executable, __file__, f"--side={side}", f"--folder={folder}", f"--root={args.root}"]
        command += [f"--tokenizer={args.tokenizer}", f"--sentences={args.sentences}"]
        env = {**os.environ, "HF_HOME": folder, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"}
        env |= {"HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "JAX_PLATFORMS": "cpu"}
        done = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True)
        return dict(json.loads(done.stdout.splitlines()[-1]))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Clock:
    """Wall and CPU seconds of this process since the clock was created."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        return {"wall_s": time.perf_counter() - self.wall, "cpu_s": time.process_time() - self.cpu}


def run_xtl(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    import numpy as np

    from xtl.data import cache
    from xtl.data.settings import Data
    from xtl.data.tokenizer import load_tokenizer
    from xtl.families import family
    from xtl.tasks import get_task

    task, tokenizer = get_task("xnli"), load_tokenizer(args.tokenizer)
    encode = family(task).encode  # imports
    data = Data(source="files", root=args.root, cache=str(folder))
    clock = Clock()
    parts = [
        cache.encoded(task, x, "dev", encode=encode, data=data, tokenizer=tokenizer, max_length=LENGTH, train=False)
        for x in task.languages
    ]
    taken = clock.read()
    flat = np.concatenate([e.ids for e in parts])
    return {**taken, "pairs": sum(e.segments for e in parts), "tokens": len(flat), "digest": digest(flat)}


def run_datasets(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    import datasets
    import numpy as np
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    from xtl.data.tokenizer import _from_sentencepiece, _hidden
    from xtl.tasks import get_task

    rust = _from_sentencepiece((Path(args.tokenizer) / "sentencepiece.bpe.model").read_bytes())
    bos, eos = _hidden("<s>"), _hidden("</s>")
    rust.post_processor = processors.TemplateProcessing(
        single=[f"{bos}:0", "$A:0", f"{eos}:0"],
        pair=[f"{bos}:0", "$A:0", f"{eos}:0", f"{eos}:0", "$B:0", f"{eos}:0"],
        special_tokens=[(bos, 0), (eos, 2)],
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=rust)
    file = str(Path(args.root) / "xnli/XNLI-1.0/xnli.dev.tsv")
    clock = Clock()
    wanted = ["language", "sentence1", "sentence2"]
    reading: dict[str, Any] = {"delimiter": "\t", "quoting": 3, "usecols": wanted, "keep_default_na": False}
    table = datasets.load_dataset("csv", data_files=file, split="train", **reading)

    def encode(batch: dict[str, list[str]]) -> dict[str, Any]:
        both = tokenizer(
            batch["sentence1"],
            batch["sentence2"],
            truncation=True,
            max_length=LENGTH,
            return_attention_mask=False,
            return_token_type_ids=False,
        )
        return {"input_ids": both["input_ids"], "language": batch["language"]}

    encoded = table.map(encode, batched=True, remove_columns=table.column_names)
    taken = clock.read()
    columns = encoded.with_format("numpy")
    languages = np.asarray(encoded["language"])
    order = np.concatenate([np.flatnonzero(languages == x) for x in get_task("xnli").languages])
    flat = np.concatenate([columns[int(i)]["input_ids"] for i in order])
    return {**taken, "pairs": len(encoded), "tokens": len(flat), "digest": digest(flat)}


def run_memory(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    import random

    from xtl.data import cache
    from xtl.data.settings import Data
    from xtl.data.tokenizer import load_tokenizer
    from xtl.families import family
    from xtl.tasks import get_task

    draw = random.Random(0)
    syllables = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]
    words = ["".join(draw.choices(syllables, k=draw.randint(1, 4))) for _ in range(50_000)]
    (folder / "mlm").mkdir()
    with open(folder / "mlm/en.txt", "w") as file:
        for _ in range(args.sentences):
            file.write(" ".join(draw.choices(words, k=draw.randint(4, 12))) + "\n")
    task, tokenizer = get_task("mlm"), load_tokenizer(args.tokenizer)
    encode = family(task).encode
    data = Data(source="files", root=str(folder), cache=str(folder / "cache"))
    clock = Clock()
    encoded = cache.encoded(
        task, "en", "train", encode=encode, data=data, tokenizer=tokenizer, max_length=LENGTH, train=True
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)
    return {**clock.read(), "tokens": len(encoded.ids), "peak_gib": peak}


def digest(ids: Any) -> str:
    import hashlib

    import numpy as np

    return hashlib.sha256(np.ascontiguousarray(ids, np.int32).tobytes()).hexdigest()


if __name__ == "__main__":
    main()
