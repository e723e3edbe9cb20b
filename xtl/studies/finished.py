"""A finished run as an analysis sees it: settings, stages, scores, languages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from xtl.data import sources
from xtl.data.settings import Data
from xtl.errors import XtlError
from xtl.families import family
from xtl.runs.read import Run, Stage, read_run
from xtl.runs.results import BASELINE
from xtl.runs.workdir import Workdir
from xtl.studies import tables
from xtl.studies.record import kept
from xtl.studies.texts import text_of
from xtl.tasks import get_task


def english_pool(target: str) -> bool:
    """Whether a task looks for the sentences of a language among English ones (imports JAX)."""
    return family(get_task(target)).english_pool


@dataclass(frozen=True)
class Finished:
    """The results of one study: its settings, its run, scores by (condition, target, language, seed), languages."""

    workdir: Workdir
    settings: Mapping[str, Any]
    run: Run
    scores: pd.DataFrame
    languages: pd.DataFrame
    unlabelled: int  # rows of results.csv without a score

    @property
    def data(self) -> Data:
        """Where the data came from; the same for every stage, but for options of single tasks."""
        return _data(self.run)

    @property
    def conditions(self) -> list[str]:
        """The intermediate conditions without the baseline, sorted."""
        return sorted(set(self.scores["intermediate"]) - {BASELINE})

    def against_english(self) -> pd.DataFrame:
        """The scores of the targets that look for a sentence among English ones."""
        return self.scores[self.scores["target"].map(english_pool)]

    def zero_shot(self) -> pd.DataFrame:
        """The scores of the targets that have English: all but retrieval."""
        return self.scores[~self.scores["target"].map(lambda target: get_task(target).retrieval)]

    def stage_of(self, target: str) -> Stage:
        """A stage that evaluated a target without intermediate training."""
        for stage in self.run.units:
            if target in stage.evaluations and stage.intermediate == BASELINE and stage.config:
                return stage
        raise XtlError(f"no stage of condition {BASELINE!r} has evaluated {target}")

    def languages_of(self, target: str) -> tuple[str, ...]:
        """The languages a target was evaluated in."""
        return tuple(self.stage_of(target).evaluations[target]["languages"])

    def intermediate_stage(self, condition: str) -> Stage:
        """The stage that trained a condition."""
        for stage in self.run.units:
            if stage.phase == "intermediate" and stage.intermediate == condition and stage.config:
                return stage
        raise XtlError(f"condition {condition!r} has no finished intermediate stage")


def read_finished(workdir: Workdir, pipeline: str, settings: Mapping[str, Any]) -> Finished:
    """The results of a recorded study. XtlError names the stages that are still missing."""
    run = read_run(workdir, pipeline)
    if run.results.missing:
        raise XtlError(f"{len(run.results.missing)} stages are missing: {', '.join(list(run.results.missing)[:5])} ...")
    metrics = run.results.metrics | dict(settings.get("metrics") or {})
    rows = pd.DataFrame([vars(row) for row in run.results.rows])
    labelled = rows[rows["value"] != ""]
    scores = tables.scores(labelled, metrics=metrics)
    return Finished(workdir, settings, run, scores, _languages(workdir, run), len(rows) - len(labelled))


def _data(run: Run) -> Data:
    return next(stage.settings.data for stage in run.units if stage.config)


def _languages(workdir: Workdir, run: Run) -> pd.DataFrame:
    """The table of languages; sizes are those of the text that the encoder of this run was pretrained on."""
    data = _data(run)
    if data.source == "world":
        return tables.world_languages(data.world)
    own, table = _pretraining(run), tables.languages()
    return table if own is None else tables.pretrained_on(table, text_sizes(workdir, run.name, own))


def _pretraining(run: Run) -> Stage | None:
    """The stage that trained the encoder of this run from scratch; None if it started from a published one."""
    return next((x for x in run.units if x.phase == "mlm" and x.config and x.config["start"] == "scratch"), None)


def text_sizes(workdir: Workdir, name: str, pretraining: Stage) -> dict[str, float]:
    """GiB of text (UTF-8) by language that an MLM stage of pipeline `name` was trained on. Read once, and then kept."""
    task, data = get_task("mlm"), pretraining.settings.data

    def size(language: str) -> float:
        examples = sources.load(task, language, "train", data).examples
        return sum(len(text_of(example).encode()) for example in examples) / 2**30

    languages = pretraining.config["tasks"]["mlm"]["languages"]
    return kept(workdir, f"{name}-sizes", pretraining.fingerprint, lambda: {x: size(x) for x in languages})


def setting_in_words(finished: Finished) -> str:
    """What was trained and evaluated, as the beginning of a methods paragraph."""
    run = finished.run
    stage = next(stage for stage in run.units if stage.config)
    encoder, world = stage.config["encoder"], stage.config["data"]["source"] == "world"
    shape = f"{encoder['layers']} layers, {encoder['hidden']} wide"
    model = f"XLM-R ({shape}; Conneau et al. 2020)"
    if (own := _pretraining(run)) is not None:
        count = len(own.config["tasks"]["mlm"]["languages"])
        kind = "synthetic languages" if world else "languages"
        model = f"a small encoder ({shape}) trained from scratch by MLM on text in {count} {kind}"
    conditions = [name for name in run.labels if name != BASELINE]
    data = "" if world else " (XTREME, Hu et al. 2020)"
    return (
        f"Following Phang et al. 2020 we start from {model}, train it on one intermediate set at a time "
        f"({_few(conditions)}) or on none, and then on each target in English, with "
        f"{finished.scores['seed'].nunique()} seeds, and evaluate zero-shot on {_few(run.targets)}{data}; retrieval "
        "needs no target training."
    )


def _few(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 12 else f"{', '.join(names[:3])} and {len(names) - 3} more"
