"""One pipeline of a WORKDIR, read once for reports and studies; nothing here changes a file."""

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from xtl import files
from xtl.config import schema
from xtl.logs import read_lines
from xtl.models import flops
from xtl.runs import results
from xtl.runs.results import BASELINE, SOURCE_LANGUAGE, Results, Table
from xtl.runs.workdir import Workdir

Scores = dict[tuple[str, str, str], dict[int, float]]  # (intermediate, target, language) -> seed -> the target's metric


@dataclass(frozen=True)
class Stage:
    """One stage: its entry of plan.json and, as far as they exist, the files of its folder."""

    name: str
    phase: str
    intermediate: str
    seed: int
    start: str
    parents: tuple[str, ...]
    tasks: tuple[str, ...]
    evaluated: tuple[str, ...]
    fingerprint: str
    trained_as: str  # the stage that stands for all stages of this fingerprint
    folder: str  # path, local or remote
    state: str
    config: Mapping[str, Any]
    status: Mapping[str, Any]
    log: tuple[Mapping[str, Any], ...]  # metrics.jsonl
    evaluations: Mapping[str, Mapping[str, Any]]  # task -> eval/<task>.json

    @property
    def settings(self) -> schema.Stage:
        """The stage as it was resolved for its run. XtlError where config.json is not there or is of another schema."""
        return schema.read(schema.Stage, self.config, where=f"{self.folder}/config.json")

    @property
    def result(self) -> Mapping[str, Any]:
        return self.status.get("result") or {}

    @property
    def seconds(self) -> float | None:
        return self.status.get("seconds")

    @property
    def tokens(self) -> int:
        return int(self.result.get("tokens") or 0)

    @property
    def flops(self) -> float:
        """Of the encoder's matrices in training: a lower bound, without attention and vocabulary."""
        if not self.tokens or not self.config:
            return 0.0
        return flops.train_flops(SimpleNamespace(**self.config["encoder"]), tokens=self.tokens, token_pairs=0.0)

    @property
    def dev_score(self) -> float | None:
        """The score that chose the checkpoint; None where nothing was chosen."""
        selection = self.result.get("selection")
        return selection["best_score"] if selection and selection.get("best_step") else None

    @property
    def purpose(self) -> str:
        trained, evaluated = " + ".join(self.tasks), ", ".join(self.evaluated)
        return " → ".join(filter(None, [trained, evaluated if evaluated != trained else ""]))

    def dropped(self) -> Iterator[tuple[str, str, str, int]]:
        """(task, language, reason, rows) of evaluated input that became no example."""
        for task, report in self.evaluations.items():
            for language, reasons in report.get("dropped", {}).items():
                for reason, count in reasons.items():
                    yield task, language, reason, count


@dataclass
class Run:
    """One pipeline: its stages by name, in order, their results, and the table."""

    name: str
    stages: dict[str, Stage]
    results: Results
    table: Table
    scores: Scores

    @property
    def units(self) -> list[Stage]:
        """The stages that were really trained; others are equal to one of them."""
        return [stage for stage in self.stages.values() if stage.trained_as == stage.name]

    @property
    def labels(self) -> list[str]:
        """The rows of the table, the baseline first."""
        return list(self.table.cells)

    @property
    def targets(self) -> list[str]:
        return list(self.results.metrics)

    @property
    def has_baseline(self) -> bool:
        return any(label == BASELINE for label, *_ in self.scores)

    def languages(self, target: str) -> list[str]:
        return sorted({language for _, t, language in self.scores if t == target})

    def score(self, label: str, target: str, language: str) -> float | None:
        """The mean over seeds."""
        by_seed = self.scores.get((label, target, language))
        return statistics.fmean(by_seed.values()) if by_seed else None

    def gain(self, label: str, target: str, language: str) -> float | None:
        """The mean difference from the baseline over the seeds that both have; None where there are none."""
        own = self.scores.get((label, target, language), {})
        base = self.scores.get((BASELINE, target, language), {})
        return statistics.fmean(own[s] - base[s] for s in own if s in base) if own.keys() & base.keys() else None

    def stages_of(self, label: str, target: str) -> list[Stage]:
        """The stages whose evaluation of a target fills a row, one per seed."""
        return [
            stage
            for stage in self.stages.values()
            if stage.phase in results.TABLED and stage.intermediate == label and target in stage.evaluated
        ]


def read_run(workdir: Workdir, pipeline: str) -> Run:
    """Everything on disk about one pipeline of WORKDIR."""
    entries = [entry for entry in workdir.read_plan() if entry["pipeline"] == pipeline]
    collected = results.collect(workdir, pipeline=pipeline)
    scores: Scores = {}
    for row in collected.rows:
        if row.metric == collected.metrics[row.target] and row.value:  # a language without labels has an empty value
            scores.setdefault((row.intermediate, row.target, row.language), {})[row.seed] = float(row.value)
    stages = {entry["name"]: _stage(workdir, entry) for entry in entries}
    return Run(pipeline, stages, collected, results.table(collected), scores)


def _stage(workdir: Workdir, entry: Mapping[str, Any]) -> Stage:
    folder = files.join(workdir.path, "stages", entry["folder"])
    evaluations = {}
    for task in entry["evaluate"]:
        path = files.join(folder, "eval", f"{task}.json")
        if files.exists(path):
            evaluations[task] = files.read_json(path)
    metrics = files.join(folder, "metrics.jsonl")
    return Stage(
        name=entry["name"],
        phase=entry["phase"],
        intermediate=entry["intermediate"],
        seed=entry["seed"],
        start=entry["start"],
        parents=tuple(entry["parents"]),
        tasks=tuple(entry["tasks"]),
        evaluated=tuple(entry["evaluate"]),
        fingerprint=entry["fingerprint"],
        trained_as=entry["trained_as"],
        folder=folder,
        state=entry["state"],
        config=_json(files.join(folder, "config.json")),
        status=_json(files.join(folder, "status.json")),
        log=tuple(read_lines(metrics)) if files.exists(metrics) else (),
        evaluations=evaluations,
    )


def _json(path: str) -> Mapping[str, Any]:
    return files.read_json(path) if files.exists(path) else {}


def is_english(languages: tuple[str, ...]) -> bool:
    """Whether a column of the table holds English alone."""
    return languages == (SOURCE_LANGUAGE,)
