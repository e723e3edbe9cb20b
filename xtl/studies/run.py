"""From a finished run to its study's answer: reads what the analysis needs out of WORKDIR and calls it.

A pipeline config with study={"name": ..., parameters} is a study. `record` notes it in WORKDIR/studies when a run
begins, `analyse` makes the Analysis at its end (and whenever the report is made again).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from xtl import files
from xtl.benchmark.prediction_files import file_path
from xtl.config.schema import plain
from xtl.data.settings import Data
from xtl.errors import XtlError, nearest
from xtl.families import family
from xtl.runs.read import Run, Stage, read_run
from xtl.runs.workdir import Workdir
from xtl.studies import divergence, domain, morphology, multilingual, statistics, tables, typology
from xtl.studies.analysis import Analysis
from xtl.tasks import get_task

# ---------------------------------------------------------------- on record


def record(workdir: Workdir, pipeline: str, config: Any) -> None:
    """Note in WORKDIR/studies/<pipeline>.json what a pipeline config says it studies; nothing if it is no study.

    XtlError for an unknown study, or one whose stages cannot be compared.
    """
    study = plain(config.get("study") or {})
    if not study:
        return
    if study.get("name") not in STUDIES:
        raise XtlError(f"config.study.name: there is no study {study.get('name')!r}.{nearest(study['name'], STUDIES)}")
    if study["name"] == "morphology":
        retrieving = {
            f"{name} ({task})": plain(entry["options"])
            for name, stage in config.stages.items()
            for task, entry in stage.evaluate.items()
            if english_pool(task)
        }
        morphology.one_layer(retrieving)
    files.write_json(workdir.path / "studies" / f"{pipeline}.json", study)


def recorded(workdir: Workdir) -> dict[str, dict[str, Any]]:
    """The studies of WORKDIR: pipeline -> its study section."""
    known = dict.fromkeys(entry["pipeline"] for entry in workdir.read_plan())
    paths = {name: workdir.path / "studies" / f"{name}.json" for name in known}
    return {name: files.read_json(path) for name, path in paths.items() if path.exists()}


# ---------------------------------------------------------------- what an analysis sees


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
        return next(stage.settings.data for stage in self.run.units if stage.config)

    def against_english(self) -> pd.DataFrame:
        """The scores of the targets that look for a sentence among English ones."""
        return self.scores[self.scores["target"].map(english_pool)]

    def zero_shot(self) -> pd.DataFrame:
        """The scores of the targets that have English: all but retrieval."""
        return self.scores[~self.scores["target"].map(lambda target: get_task(target).retrieval)]

    def stage_of(self, target: str) -> Stage:
        """A stage that evaluated a target without intermediate training."""
        for stage in self.run.units:
            if target in stage.evaluations and stage.intermediate == tables.BASELINE and stage.config:
                return stage
        raise XtlError(f"no stage of condition {tables.BASELINE!r} has evaluated {target}")

    def languages_of(self, target: str) -> tuple[str, ...]:
        """The languages a target was evaluated in."""
        return tuple(self.stage_of(target).evaluations[target]["languages"])

    def intermediate_stage(self, condition: str) -> Stage:
        """The stage that trained a condition."""
        for stage in self.run.units:
            if stage.phase == "intermediate" and stage.intermediate == condition and stage.config:
                return stage
        raise XtlError(f"condition {condition!r} has no finished intermediate stage")


def analyse(workdir: Workdir, pipeline: str) -> Analysis:
    """The answer of a recorded study from what is done now. XtlError says what is still missing for it."""
    settings = recorded(workdir)[pipeline]
    run = read_run(workdir, pipeline)
    if run.results.missing:
        raise XtlError(f"{len(run.results.missing)} stages are missing: {', '.join(list(run.results.missing)[:5])} ...")
    metrics = run.results.metrics | dict(settings.get("metrics") or {})
    raw = pd.DataFrame([vars(row) for row in run.results.rows])
    labelled = raw[raw["value"] != ""]
    data: Mapping[str, Any] = next((stage.config["data"] for stage in run.units if stage.config), {})
    languages = _languages(workdir, run, data)
    scores = tables.scores(labelled, metrics=metrics)
    found = Finished(workdir, settings, run, scores, languages, len(raw) - len(labelled))
    made = STUDIES[settings["name"]](found)
    made.methods = f"{_setting(found)} {made.methods}"
    if found.unlabelled:
        made.limits.append(f"{found.unlabelled} scores are missing, because the test data has no labels.")
    if scores["seed"].nunique() < 3:
        made.limits.append(f"Only {scores['seed'].nunique()} seed(s): differences between conditions carry its noise.")
    if data.get("source") == "world":
        made.limits.append("The languages are synthetic: the result says what the world does, not what languages do.")
    return made


def _pretraining(run: Run) -> Stage | None:
    """The stage that trained the encoder of this run from scratch, if it was not a published one."""
    return next((x for x in run.units if x.phase == "mlm" and x.config and x.config["start"] == "scratch"), None)


def _languages(workdir: Workdir, run: Run, data: Mapping[str, Any]) -> pd.DataFrame:
    """What is known of the languages; sizes are those of the text that the encoder of this run was pretrained on."""
    if data.get("source") == "world":
        return tables.world_languages(data["world"])
    if (own := _pretraining(run)) is None:
        return tables.languages()
    from xtl.studies.measure import text_sizes

    return tables.pretrained_on(tables.languages(), text_sizes(workdir, run.name, own))


def _setting(found: Finished) -> str:
    """What was trained and evaluated, as the beginning of a methods paragraph."""
    stage = next(stage for stage in found.run.units if stage.config)
    encoder, world = stage.config["encoder"], stage.config["data"]["source"] == "world"
    shape = f"{encoder['layers']} layers, {encoder['hidden']} wide"
    model = f"XLM-R ({shape}; Conneau et al. 2020)"
    if (own := _pretraining(found.run)) is not None:
        spoken = len(own.config["tasks"]["mlm"]["languages"])
        what = "synthetic languages" if world else "languages"
        model = f"a small encoder ({shape}) trained from scratch by MLM on text in {spoken} {what}"
    conditions = [name for name in found.run.labels if name != tables.BASELINE]
    data = "" if world else " (XTREME, Hu et al. 2020)"
    return (
        f"Following Phang et al. 2020 we start from {model}, train it on one intermediate set at a time "
        f"({_few(conditions)}) or on none, and then on each target in English, with {found.scores['seed'].nunique()} "
        f"seeds, and evaluate zero-shot on {_few(found.run.targets)}{data}; retrieval needs no target training."
    )


def _few(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 12 else f"{', '.join(names[:3])} and {len(names) - 3} more"


# ---------------------------------------------------------------- typology


def _typology(found: Finished) -> Analysis:
    zero = found.zero_shot()
    resamples = int(found.settings.get("resamples", 2000))
    made = typology.analyse(zero, found.languages, resamples=resamples)
    made.tables["Scores by condition (points): the gap is not the score"] = _levels(zero)
    made.tables["Rank correlation of the gap with distance, by target"] = _by_target(
        zero, found.languages, resamples=resamples
    )
    apart = found.against_english()
    if len(apart):
        made.tables["Retrieval, apart: it has no English score"] = _retrieval(apart, found.languages)
    return made


def _levels(scores: pd.DataFrame) -> pd.DataFrame:
    """Mean over targets of the English score and of the mean of the others, by condition."""
    kind = scores["language"].eq(tables.SOURCE).map({True: "English", False: "others"})
    by = scores.assign(kind=kind).groupby(["intermediate", "kind", "target"])["score"].mean()
    table = by.groupby(level=[0, 1]).mean().unstack("kind")
    order = [tables.BASELINE, *(name for name in table.index if name != tables.BASELINE)]
    table = table.loc[order]
    base = table.loc[tables.BASELINE]
    return table.assign(**{f"{kind} - none": table[kind] - base[kind] for kind in table.columns})


def _by_target(scores: pd.DataFrame, languages: pd.DataFrame, *, resamples: int) -> pd.DataFrame:
    rows = []
    gap = tables.seed_means(tables.gaps(scores), "gap")
    for (target, condition), part in gap.groupby(["target", "intermediate"]):
        if len(part) >= 5:
            far = languages.loc[part["language"], "distance"]
            rho = statistics.spearman(far, part["gap"], resamples=resamples)
            rows.append({"target": target, "intermediate": condition, "languages": rho.n, "rho": rho.value,
                         "interval": (rho.low, rho.high), "p": rho.p})  # fmt: skip
    return pd.DataFrame(rows)


def _retrieval(scores: pd.DataFrame, languages: pd.DataFrame) -> pd.DataFrame:
    rows = []
    mean = tables.seed_means(scores)
    for (target, condition), part in mean.groupby(["target", "intermediate"]):
        row = {"target": target, "intermediate": condition, "languages": len(part), "mean": part["score"].mean()}
        if condition != tables.BASELINE:
            base = mean[(mean["target"] == target) & (mean["intermediate"] == tables.BASELINE)]
            paired = part.set_index("language")["score"] - base.set_index("language")["score"]
            gain = statistics.mean(paired)
            row |= {"gain": gain.value, "interval": (gain.low, gain.high)}
        if len(part) >= 5:
            far = languages.loc[part["language"], "distance"]
            row |= {"rho with distance": statistics.spearman(far, part["score"], resamples=2).value}
        rows.append(row)
    return pd.DataFrame(rows)


# ---------------------------------------------------------------- multilingual


def _multilingual(found: Finished) -> Analysis:
    trained_on = {name: tuple(codes) for name, codes in found.settings["trained_on"].items()}
    pairs = dict(found.settings["pairs"])
    made = multilingual.analyse(found.scores, found.languages, pairs=pairs, trained_on=trained_on)
    for many, other in (found.settings.get("also") or {}).items():
        rows = multilingual.advantage(
            found.scores, found.languages, multilingual=many, english=other, trained_on=trained_on[many]
        )
        low = multilingual.low_tier_advantage(rows, name=f"advantage of {many} over {other} on low tiers")
        made.sentences.append(f"{low.sentence()} (as many different questions; not in the primary family).")
    made.limits.append(
        "Left out of every mean, because not zero-shot: "
        + "; ".join(f"{', '.join(trained_on[name])} ({name})" for name in pairs)
        + "."
    )
    return made


# ---------------------------------------------------------------- divergence


def _divergence(found: Finished) -> Analysis:
    from xtl.studies.measure import distances

    measured, notes = distances(found)
    made = divergence.analyse(found.scores, measured, primary=found.settings.get("primary", "mmd"))
    made.limits += notes
    if (agree := _consistency(found)) is not None:
        made.tables["Consistency: share (%) of parallel test items answered as in English"] = agree
    return made


def _consistency(found: Finished) -> pd.DataFrame | None:
    """By condition and target, over languages and seeds; targets whose items are parallel and answered by a label."""
    rows = []
    for stage in found.run.stages.values():
        folder = files.join(stage.folder, "predictions")
        for target in stage.evaluations:
            task = get_task(target)
            kind = family(task).file_kind(task)
            codes = found.languages_of(target)
            if kind not in ("labels", "choices") or tables.SOURCE not in codes:
                continue
            paths = {code: file_path(folder, target, code, kind) for code in codes}
            if not all(files.exists(path) for path in paths.values()):
                continue
            said = {code: files.read_text(path).splitlines() for code, path in paths.items()}
            english = np.array(said.pop(tables.SOURCE))
            same = [100 * float(np.mean(english == np.array(x))) for x in said.values() if len(x) == len(english)]
            rows.append({"intermediate": stage.intermediate, "target": target, "agreement": np.mean(same)})
    if not rows:
        return None
    return pd.DataFrame(rows).groupby(["intermediate", "target"])["agreement"].mean().unstack("target")


# ---------------------------------------------------------------- morphology


def _morphology(found: Finished) -> Analysis:
    from xtl.studies.measure import richness

    chosen = {
        f"{stage.name} ({task})": stage.config["evaluate"][task]["options"]
        for stage in found.run.units
        for task in stage.evaluations
        if english_pool(task)
    }
    layer, pooling = morphology.one_layer(chosen)
    trained = sorted(set(found.scores["intermediate"]) - {tables.BASELINE})
    measures = richness(found, trained)
    languages = found.languages.assign(mattr=measures["mattr"].reindex(found.languages.index))
    relatives = None
    if found.data.source != "world":
        families = found.languages["family"]
        relatives = {code: tuple(families.index[families == families[code]]) for code in trained}
    others = measures.loc[[code for code in trained if code != tables.SOURCE], "mattr"]
    rich = float(others.median())
    made = morphology.analyse(found.scores, languages, relatives=relatives, rich=rich)
    made.tables["Richness of the training languages, on parallel text"] = measures
    effects = morphology.training_effects(found.scores[found.scores["intermediate"] != tables.BASELINE])
    for name in ("fertility", "continued", "word length"):
        known = measures[name].reindex(effects.index).dropna()
        scaled = (known - known.mean()) / known.std()
        slope = statistics.slope(
            effects[known.index], scaled, name=f"retrieval on {name} (points per SD)", unit="training languages"
        )
        made.sentences.append(f"{slope.sentence()} (secondary).")
    made.limits.append(f"One layer ({layer}) and pooling ({pooling}) for all conditions; another may say otherwise.")
    made.limits.append(f"Rich: MATTR at or above the median of the training languages without English, {rich:.2f}.")
    return made


# ---------------------------------------------------------------- domain


def _domain(found: Finished) -> Analysis:
    from xtl.studies.measure import similarities

    cells = pd.DataFrame(found.settings["cells"]).T.rename_axis("intermediate").reset_index()
    near = similarities(found, cells)
    mean = found.scores.groupby(["intermediate", "target", "seed"], as_index=False)["score"].mean()
    gains = tables.gains(mean.assign(language="all"))[["intermediate", "target", "seed", "gain"]]
    table = gains.merge(cells, on="intermediate").merge(near, on=["format", "domain", "target"])
    made = domain.analyse(table.astype({"size": int}))
    made.tables["Similarity of the intermediate texts to the target's English texts"] = near
    if found.settings.get("limits"):
        made.limits += list(found.settings["limits"])
    return made


STUDIES: dict[str, Callable[[Finished], Analysis]] = {
    "typology": _typology,
    "multilingual": _multilingual,
    "divergence": _divergence,
    "morphology": _morphology,
    "domain": _domain,
}
