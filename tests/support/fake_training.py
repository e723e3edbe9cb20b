"""A pipeline that trains nothing: stages with made-up scores, for the tests of the graph, the table and the display."""

import hashlib
import os
import sys
import time
from pathlib import Path

from xtl import config, files
from xtl.config.resolution import resolve
from xtl.runs.pipeline import Graph, run
from xtl.runs.workdir import Workdir
from xtl.training.events import Logged, Started


def small_config(*, seeds=(0,), name="small", **mlm):
    """MLM -> {none, mnli} -> {xnli, xquad+mlqa, tatoeba}: nine stages for one seed."""

    def trained_on(task):
        return {"tasks": {task: {}}, "train": {"steps": 10}}

    targets = {
        "xnli": {**trained_on("mnli"), "evaluate": {"xnli": {"languages": ("en", "de", "sw")}}},
        "xquad+mlqa": {**trained_on("squad_v1"), "evaluate": {"xquad": {}, "mlqa": {}}},
        "tatoeba": {"evaluate": {"tatoeba": {"languages": ("de", "fr")}}},
    }
    return config.pipeline(
        name,
        encoder=config.encoder("tiny"),
        stages=[
            config.stage("mlm", phase="mlm", tasks="mlm", train={"steps": 10, **mlm}),
            *config.grid(
                start="stage:mlm",
                conditions={"none": None, "mnli": trained_on("mnli")},
                targets=targets,
                seeds=seeds,
            ),
        ],
    )


def small_graph(**options):
    return Graph(resolve(small_config(**options), look=False))


def score(*address) -> float:
    """A score that depends on the address alone."""
    return int(hashlib.sha256(repr(address).encode()).hexdigest()[:6], 16) % 10_000 / 100


class FakeTrain:
    """Stands for training. Writes scores, notes calls in WORKDIR/trained.log, fails and dawdles on demand."""

    def __init__(self, *, seconds=0.0, fails=(), interrupted_at=None):
        self.seconds, self.fails, self.interrupted_at = seconds, fails, interrupted_at
        self.calls = []

    def __call__(self, stage, folder, *, parent, on_event, profile=None):
        folder = Path(folder)
        self.calls.append((stage.name, folder, parent))
        with open(folder.parent.parent / "trained.log", "a") as log:
            log.write(f"begin {stage.name} {os.getpid()}\n")
        if stage.start.startswith("stage:"):
            assert files.read_json(Path(parent) / "status.json")["state"] == "done"
        on_event(Started(step=0, steps=stage.train.steps, devices="1 x fake"))
        time.sleep(self.seconds)
        if stage.name == self.interrupted_at:
            raise KeyboardInterrupt
        if stage.name in self.fails:
            raise ValueError(f"{stage.name} was told to fail\nin two lines")
        record = {"step": 10, "loss": 1.5, "tokens_per_second": 1234.5, "seconds_per_step": 0.1}
        on_event(Logged(10, stage.train.steps, record))
        for task, entry in stage.evaluate.items():
            scores = {x: {"accuracy": score(stage.name, task, x), "n": 10} for x in entry.languages}
            report = {"task": task, "split": entry.split, "metric": "accuracy", "languages": scores, "average": 1.0}
            files.write_json(folder / "eval" / f"{task}.json", report)
        with open(folder.parent.parent / "trained.log", "a") as log:
            log.write(f"end {stage.name} {os.getpid()}\n")
        return {"steps": stage.train.steps}


def trained(workdir, what="end") -> list[str]:
    """Names of the stages in the order in which they began or ended, over all launches."""
    lines = (Path(workdir) / "trained.log").read_text().splitlines()
    return [line.split()[1] for line in lines if line.startswith(what)]


if __name__ == "__main__":  # one launch of its own: fake_training.py WORKDIR SECONDS
    done = run(small_graph(), Workdir(sys.argv[1]), train=FakeTrain(seconds=float(sys.argv[2])))
    sys.exit(0 if done.complete else 1)
