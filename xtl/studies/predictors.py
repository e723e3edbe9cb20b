"""What a study measures on its own texts to predict its scores: divergence, similarity of domain, richness."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from xtl.data import sources
from xtl.data.settings import Data
from xtl.data.tokenizer import load_tokenizer
from xtl.errors import XtlError
from xtl.families import family
from xtl.runs.read import Stage
from xtl.runs.results import SOURCE_LANGUAGE
from xtl.studies import measures
from xtl.studies.finished import Finished
from xtl.studies.record import kept
from xtl.studies.texts import UNSPACED, texts, words
from xtl.studies.vectors import Vectors
from xtl.task import Pair
from xtl.tasks import get_task

TEXTS = 1000  # per side, unless the study says otherwise

# ---------------------------------------------------------------- divergence

Row = dict[str, str | float]


def distances(finished: Finished) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """(measure -> rows (intermediate, target, distance), notes). Kept in WORKDIR/studies until the question changes.

    "mmd" is the mean over the target's languages of the distance to the English intermediate data; measures with
    "English" in their names compare English with English.
    """
    run, tasks = finished.run, dict(finished.settings["tasks"])
    base = finished.stage_of(run.targets[0])
    count, layer = int(finished.settings.get("texts", TEXTS)), int(finished.settings.get("layer", -1))
    key = [tasks, {t: finished.languages_of(t) for t in run.targets}, count, layer, base.fingerprint]
    rows = kept(finished.workdir, f"{run.name}-distances", key, lambda: _measured(finished, base, tasks, count, layer))
    table = pd.DataFrame(rows)
    by_measure, notes = {}, []
    for measure, part in table.groupby("measure", sort=False):
        wide = part.pivot(index="intermediate", columns="target", values="distance").to_numpy()
        centred = wide - wide.mean(0) - wide.mean(1, keepdims=True) + wide.mean()
        if np.std(centred) < 1e-6 * max(1.0, np.std(wide)):
            notes.append(f"{measure} is left out: it is the sum of an effect of each intermediate and of each target.")
        else:
            by_measure[str(measure)] = part[["intermediate", "target", "distance"]].reset_index(drop=True)
    n = int(table["texts"].min())
    layer = int(table["layer"].iloc[0])
    notes.append(f"Distances rest on {n} texts per side, layer {layer} of the pretrained encoder.")
    return by_measure, notes


def _measured(finished: Finished, base: Stage, tasks: Mapping[str, str], count: int, layer: int) -> list[Row]:
    """Rows (intermediate, target, texts, layer, measure, distance) of every pair. tasks: condition -> its task."""
    parents = [finished.run.stages[name].folder for name in base.parents]
    vectors_of = Vectors(base.settings, Path(parents[0]) if parents else None, layer=layer)
    sentences = _sentences(finished, tasks, base.settings.data, count)
    n = min(map(len, sentences.values()))  # measures are comparable at equal n only
    sentences = {key: side[:n] for key, side in sentences.items()}
    vectors = {key: vectors_of(side) for key, side in sentences.items()}
    few = max(2, 2000 // len(vectors))
    gamma = measures.median_bandwidth(*(side[:few] for side in vectors.values()))
    rows: list[Row] = []
    for condition in tasks:
        trained = condition, SOURCE_LANGUAGE
        for target in finished.run.targets:
            english, x, y = (target, SOURCE_LANGUAGE), vectors[trained], vectors[target, SOURCE_LANGUAGE]
            sides = [vectors[target, code] for code in _english_first(finished.languages_of(target))]
            task, target_task = get_task(tasks[condition]), get_task(target)
            values = {
                "mmd": float(np.mean([measures.mmd(x, side, gamma=gamma) for side in sides])),
                "mmd, English": measures.mmd(x, y, gamma=gamma),
                "proxy A, English": measures.proxy_a_distance(x, y),
                "centroid, English": measures.centroid_distance(x, y),
                "unigrams, English": measures.unigram_divergence(sentences[trained], sentences[english]),
                "format (other family)": float(task.family != target_task.family),
                "labels (1 - Jaccard)": _label_distance(task.labels, target_task.labels),
            }
            pair: Row = {"intermediate": condition, "target": target, "texts": n, "layer": vectors_of.layer}
            rows += [{**pair, "measure": name, "distance": value} for name, value in values.items()]
    return rows


def _sentences(
    finished: Finished, tasks: Mapping[str, str], data: Data, count: int
) -> dict[tuple[str, str], list[str]]:
    """Up to `count` texts by (condition, "en") and by (target, language); of a target always in English, too."""
    sides = {
        (name, SOURCE_LANGUAGE): texts(get_task(task), SOURCE_LANGUAGE, "train", data, count=count)
        for name, task in tasks.items()
    }
    for target in finished.run.targets:
        sides[target, SOURCE_LANGUAGE] = _english(finished, target, count)
        split = finished.stage_of(target).evaluations[target]["split"]
        for code in finished.languages_of(target):
            if code != SOURCE_LANGUAGE:
                sides[target, code] = texts(get_task(target), code, split, data, count=count)
    return sides


def _english_first(languages: Sequence[str]) -> list[str]:
    return sorted(languages, key=lambda code: code != SOURCE_LANGUAGE)


def _english(finished: Finished, target: str, count: int) -> list[str]:
    """English texts of a target: of its test data, of the pool of retrieval, else of what it is trained on."""
    task, stage = get_task(target), finished.stage_of(target)
    split, data = stage.evaluations[target]["split"], stage.settings.data
    if family(task).english_pool or SOURCE_LANGUAGE in finished.languages_of(target):
        return texts(task, SOURCE_LANGUAGE, split, data, count=count)
    return texts(get_task(task.train or target), SOURCE_LANGUAGE, "train", data, count=count)


def _label_distance(a: Sequence[str], b: Sequence[str]) -> float:
    return 1 - len(set(a) & set(b)) / len(set(a) | set(b)) if a or b else 1.0


# ---------------------------------------------------------------- domain


def similarities(finished: Finished, cells: pd.DataFrame) -> pd.DataFrame:
    """Rows (format, domain, target, similarity): 1 - Jensen-Shannon divergence of the unigrams of the intermediate
    set, at its largest size, and of the target's English texts; equally many texts per side, for all domains alike."""
    count = int(finished.settings.get("texts", TEXTS))
    english = {target: _english(finished, target, count) for target in finished.run.targets}
    intermediate = {}
    for (form, domain), part in cells.groupby(["format", "domain"]):
        stage = finished.intermediate_stage(part.loc[part["size"].astype(int).idxmax(), "intermediate"])
        (task, entry), *_ = stage.config["tasks"].items()
        intermediate[form, domain] = texts(
            get_task(task), SOURCE_LANGUAGE, "train", stage.settings.data, count=count, limit=entry["limit"]
        )
    n = min(len(side) for side in (*intermediate.values(), *english.values()))
    rows = [
        (*key, target, 1 - measures.unigram_divergence(side[:n], target_texts[:n]))
        for key, side in intermediate.items()
        for target, target_texts in english.items()
    ]
    return pd.DataFrame(rows, columns=["format", "domain", "target", "similarity"])


# ---------------------------------------------------------------- morphology


def richness(finished: Finished, languages: Sequence[str], *, count: int = 20_000) -> pd.DataFrame:
    """By language, on the parallel texts of a task: mattr, mean word length, pieces per word (fertility), and the share
    of words in several pieces (continued), the last three on `count` words. NaN for scripts without spaces.

    The study names the task and its split: {"parallel": {"task": "xnli", "split": "test"}}.
    """
    task, split = (finished.settings["parallel"][key] for key in ("task", "split"))
    data = finished.data
    tokenizer = load_tokenizer(data.tokenizer, data.world)
    rows = {}
    for code in languages:
        if code in UNSPACED:
            rows[code] = dict.fromkeys(("mattr", "word length", "fertility", "continued"), np.nan)
            continue
        examples = sources.load(get_task(task), code, split, data).examples
        if not all(isinstance(e, Pair) for e in examples):
            raise XtlError(f"richness is measured on sentence pairs, and {task} holds none")
        sentences = list(dict.fromkeys(e.a for e in examples if isinstance(e, Pair)))
        tokens = [word for sentence in sentences for word in words(sentence)][:count]
        _, offsets = tokenizer.encode_ids_batch(tokens)
        rows[code] = {
            "mattr": measures.mattr(sentences, language=code),
            "word length": float(np.mean([len(word) for word in tokens])),
            **measures.fertility(np.diff(offsets).tolist()),
        }
    return pd.DataFrame(rows).T.rename_axis("language").sort_values("mattr", ascending=False)
