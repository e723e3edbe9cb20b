"""Run folders with made-up results, of any size, for the tests of the report: nothing is trained."""

import hashlib
import json
import math
from dataclasses import dataclass, field
from pathlib import Path

from xtl import files
from xtl.benchmark.aggregate import MAIN_METRIC, XTREME
from xtl.runs.workdir import Workdir

CONDITIONS = ("anli_plus", "mnli", "qqp", "squad_v2", "squad_v1", "hellaswag", "ccg", "cosmosqa", "commonsenseqa")
RETRIEVAL = ("tatoeba", "bucc2018")
ENCODER = {"size": "base", "layers": 12, "hidden": 768, "mlp": 3072, "heads": 12, "vocab_size": 250002}


def noise(*address) -> float:
    """-1 to 1, from the address alone."""
    return int(hashlib.sha256(repr(address).encode()).hexdigest()[:8], 16) / 2**31 - 1


def make_run(path, *, conditions=CONDITIONS, targets=tuple(XTREME.languages), seeds=(0,), name="paper", **options):
    """A WORKDIR as `xtl run` leaves it, with the stages of every condition, target and seed. options: see FakeRun."""
    run = FakeRun(path, **options)
    for seed in seeds:
        tail = f"-s{seed}" if seed else ""
        for condition in ("none", *conditions):
            parent = "" if condition == "none" else f"{condition}{tail}"
            common = {"intermediate": condition, "seed": seed}
            if parent:
                run.add(parent, phase="intermediate", parent="", tasks=[condition], evaluate=[], **common)
            for target in targets:
                tasks = [] if target in RETRIEVAL else [target]
                shared = f"none-{target}" if condition == "none" and not tasks and seed else ""
                phase = "target" if tasks else "eval"
                run.add(f"{condition}-{target}{tail}", phase=phase, parent=parent, tasks=tasks, evaluate=[target],
                        trained_as=shared, **common)  # fmt: skip
    Workdir(path).write_plan(name, run.entries)
    return Workdir(path)


@dataclass
class FakeRun:
    """Writes the folders of stages under `path`, and collects their entries of plan.json."""

    path: Path
    languages: tuple[str, ...] | None = None  # of every target; None: those of XTREME
    states: dict[str, str] = field(default_factory=dict)  # of the stages that are not done
    select: bool = True  # whether stages selected their checkpoint on development scores
    sweep: bool = False  # whether retrieval was scored at every layer
    collapsed: tuple[str, ...] = ()  # stages
    restarted: tuple[str, ...] = ()  # stages
    dropped: dict[str, dict] = field(default_factory=dict)  # task -> language -> reason -> rows
    entries: list[dict] = field(default_factory=list)

    def add(self, stage, *, phase, intermediate, seed, parent, tasks, evaluate, trained_as=""):
        """One stage; one that is trained as another has no folder of its own."""
        fingerprint = hashlib.sha256((trained_as or stage).encode()).hexdigest()
        self.entries.append({
            "name": stage, "phase": phase, "intermediate": intermediate, "seed": seed,
            "start": f"stage:{parent}" if parent else "scratch", "parents": [parent] if parent else [], "tasks": tasks,
            "evaluate": evaluate, "fingerprint": fingerprint, "trained_as": trained_as or stage,
        })  # fmt: skip
        state = self.states.get(stage, "done")
        if trained_as or state == "pending":
            return
        folder = self.path / "stages" / f"{stage}-{fingerprint[:8]}"
        self._write_status(folder, stage, state, fingerprint, tasks)
        self._write_config(folder, stage, phase, tasks, evaluate)
        if tasks:
            self._write_metrics(folder, stage)
        if state == "done":
            for task in evaluate:
                files.write_json(folder / "eval" / f"{task}.json", self._evaluation(task, intermediate, seed))

    def _write_status(self, folder, stage, state, fingerprint, tasks):
        result = {"steps": 1000 if tasks else 0, "collapse": "the loss is flat" if stage in self.collapsed else ""}
        if stage in self.restarted:
            result["restarts"] = [{"learning_rate": 1e-5, "reason": "the loss is flat"}]
        if tasks:
            result |= {"tokens": 10**6, "examples": 20_000}
        if tasks and self.select:
            score = 70 + 5 * noise(stage, "dev")
            result["selection"] = {"metric": "accuracy", "best_step": 800, "best_score": score}
        status = {"state": state, "fingerprint": fingerprint, "xtl": "0.1.0", "revision": "ab" * 20, "attempt": 1,
                  "started": 1.8e9, "finished": 1.8e9 + 600, "seconds": 600.0, "devices": "16 x TPU v5e"}  # fmt: skip
        outcome = {"error": "XtlError: out of luck"} if state == "failed" else {"result": result}
        files.write_json(folder / "status.json", status | outcome)

    def _write_config(self, folder, stage, phase, tasks, evaluate):
        data = {"source": "files", "root": "nowhere", "options": {}, "world": {}}
        evaluated = {
            task: {"split": "test", "limit": 0, "options": {}, "languages": list(self._languages(task))}
            for task in evaluate
        }
        files.write_json(
            folder / "config.json",
            {"name": stage, "phase": phase, "encoder": ENCODER, "data": data, "evaluate": evaluated,
             "tasks": {task: {"batch_size": 32} for task in tasks}, "train": {"learning_rate": 1e-5}},
        )  # fmt: skip

    def _write_metrics(self, folder, stage):
        lines = []
        for step in range(100, 1001, 100):
            record = {"step": step, "loss": 3 * math.exp(-step / 400) + 0.1 * noise(stage, step), "tokens": 1000}
            if self.select and step % 200 == 0:
                score = 70 - 40 * math.exp(-step / 300) + noise(stage, step, "dev")
                record["dev"] = {"score": score, "best": True, "scores": {"en": score}}
            lines.append(json.dumps(record) + "\n")
        files.atomic_write(folder / "metrics.jsonl", "".join(lines))

    def _languages(self, task):
        return self.languages or XTREME.languages[task]

    def _evaluation(self, task, intermediate, seed):
        metric, languages = MAIN_METRIC[task], self._languages(task)
        level = 60 + 15 * noise(task) + (0 if intermediate == "none" else 3 * noise(task, intermediate))
        scores = {
            x: {metric: round(level + 12 * noise(x) + noise(task, intermediate, x, seed), 4), "n": 1000}
            for x in languages
        }
        report = {"task": task, "split": "test", "metric": metric, "languages": scores, "average": level}
        if self.sweep and task in RETRIEVAL:
            report["sweep"] = {x: {"mean": [10.0 + layer for layer in range(13)], "cls": [5.0] * 13} for x in languages}
        if task in self.dropped:
            report["dropped"] = self.dropped[task]
        return report
