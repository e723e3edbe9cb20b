"""Predictors that a study measures on its own texts: divergence, similarity of domain, morphological richness."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from xtl import files
from xtl.config.fingerprint import digest
from xtl.data import sources
from xtl.data.tokenizer import load_tokenizer
from xtl.errors import XtlError
from xtl.families import family
from xtl.runs.read import Stage
from xtl.runs.workdir import Workdir
from xtl.studies import divergence, morphology
from xtl.studies.texts import SOURCE, Vectors, text_of, texts
from xtl.task import Pair
from xtl.tasks import get_task

if TYPE_CHECKING:
    from xtl.studies.run import Finished

TEXTS = 1000  # a side, unless the study says otherwise

# ---------------------------------------------------------------- divergence


def distances(found: "Finished") -> tuple[dict[str, pd.DataFrame], list[str]]:
    """(measure -> rows (intermediate, target, distance), notes). Kept in WORKDIR/studies, made again if they change.

    mmd is the mean over the target's languages of the distance to the English intermediate data; the measures named
    "English" compare English with English.
    """
    run, tasks = found.run, dict(found.settings["tasks"])
    base = found.stage_of(run.targets[0])
    count, layer = int(found.settings.get("texts", TEXTS)), int(found.settings.get("layer", -1))
    asked = [tasks, {t: found.languages_of(t) for t in run.targets}, count, layer, base.fingerprint]
    rows = _kept(found.workdir, f"{run.name}-distances", asked, lambda: _measured(found, base, tasks, count, layer))
    table = pd.DataFrame(rows)
    kept, notes = {}, []
    for measure, part in table.groupby("measure", sort=False):
        wide = part.pivot(index="intermediate", columns="target", values="distance").to_numpy()
        centred = wide - wide.mean(0) - wide.mean(1, keepdims=True) + wide.mean()
        if np.std(centred) < 1e-6 * max(1.0, np.std(wide)):
            notes.append(f"{measure} is left out: it says nothing beyond which task is which.")
        else:
            kept[str(measure)] = part[["intermediate", "target", "distance"]].reset_index(drop=True)
    n = int(table["texts"].min())
    notes.append(f"Distances rest on {n} texts a side, layer {int(table['layer'].iloc[0])} of the pretrained encoder.")
    return kept, notes


def _kept(workdir: Workdir, name: str, asked: Any, make: Callable[[], Any]) -> Any:
    """What `make` gives, kept in WORKDIR/studies, and made again when what is asked for changes."""
    path, key = workdir.path / "studies" / f"{name}.json", digest(asked)
    if not path.exists() or files.read_json(path)["key"] != key:
        files.write_json(path, {"key": key, "rows": make()})
    return files.read_json(path)["rows"]


def text_sizes(workdir: Workdir, name: str, pretraining: Stage) -> dict[str, float]:
    """GiB of text (UTF-8) by language that an MLM stage of pipeline `name` was trained on. Read once, and then kept."""
    task, data = get_task("mlm"), pretraining.settings.data

    def size(language: str) -> float:
        examples = sources.load(task, language, "train", data).examples
        return sum(len(text_of(example).encode()) for example in examples) / 2**30

    spoken = pretraining.config["tasks"]["mlm"]["languages"]
    return _kept(workdir, f"{name}-sizes", pretraining.fingerprint, lambda: {x: size(x) for x in spoken})


def _measured(
    found: "Finished", base: Any, tasks: Mapping[str, str], count: int, layer: int
) -> list[dict[str, str | float]]:
    stage = base.settings
    parents = [found.run.stages[name].folder for name in base.parents]
    vectors = Vectors(stage, Path(parents[0]) if parents else None, layer=layer)
    data = stage.data
    said = {f"i/{name}": texts(get_task(task), SOURCE, "train", data, count=count) for name, task in tasks.items()}
    for target in found.run.targets:
        said[f"t/{target}"] = _english(found, target, count)
        for code in found.languages_of(target):
            if code != SOURCE:
                split = found.stage_of(target).evaluations[target]["split"]
                said[f"t/{target}/{code}"] = texts(get_task(target), code, split, data, count=count)
    n = min(map(len, said.values()))  # the measures are comparable at equal n only
    said = {name: side[:n] for name, side in said.items()}
    x = {name: vectors(side) for name, side in said.items()}
    few = max(2, 2000 // len(x))
    gamma = divergence.median_bandwidth(*(side[:few] for side in x.values()))
    rows: list[dict[str, str | float]] = []
    for condition, task in tasks.items():
        i = x[f"i/{condition}"]
        for target in found.run.targets:
            t = x[f"t/{target}"]
            sides = [v for name, v in x.items() if name == f"t/{target}" or name.startswith(f"t/{target}/")]
            if SOURCE not in found.languages_of(target):
                sides = sides[1:]
            values = {
                "mmd": float(np.mean([divergence.mmd(i, side, gamma=gamma) for side in sides])),
                "mmd, English": divergence.mmd(i, t, gamma=gamma),
                "proxy A, English": divergence.proxy_a_distance(i, t),
                "centroid, English": divergence.centroid_distance(i, t),
                "unigrams, English": divergence.unigram_divergence(said[f"i/{condition}"], said[f"t/{target}"]),
                "format (other family)": float(get_task(task).family != get_task(target).family),
                "labels (1 - Jaccard)": _label_distance(get_task(task).labels, get_task(target).labels),
            }
            common: dict[str, str | float] = {
                "intermediate": condition,
                "target": target,
                "texts": n,
                "layer": vectors.layer,
            }
            rows += [{**common, "measure": name, "distance": value} for name, value in values.items()]
    return rows


def _english(found: "Finished", target: str, count: int) -> list[str]:
    """English texts of a target: of its test data, of the pool of retrieval, else of what it is trained on."""
    task, stage = get_task(target), found.stage_of(target)
    split, data = stage.evaluations[target]["split"], stage.settings.data
    if family(task).english_pool or SOURCE in found.languages_of(target):
        return texts(task, SOURCE, split, data, count=count)
    return texts(get_task(task.train or target), SOURCE, "train", data, count=count)


def _label_distance(a: Sequence[str], b: Sequence[str]) -> float:
    return 1 - len(set(a) & set(b)) / len(set(a) | set(b)) if a or b else 1.0


# ---------------------------------------------------------------- domain


def similarities(found: "Finished", cells: pd.DataFrame) -> pd.DataFrame:
    """Rows (format, domain, target, similarity): 1 - Jensen-Shannon divergence of the unigrams of the intermediate
    set, at its largest size, and of the target's English texts; equally many texts a side, for all domains alike."""
    count = int(found.settings.get("texts", TEXTS))
    english = {target: _english(found, target, count) for target in found.run.targets}
    sides = {}
    for (form, name), part in cells.groupby(["format", "domain"]):
        stage = found.intermediate_stage(part.loc[part["size"].astype(int).idxmax(), "intermediate"])
        (task, entry), *_ = stage.config["tasks"].items()
        sides[form, name] = texts(
            get_task(task), SOURCE, "train", stage.settings.data, count=count, limit=entry["limit"]
        )
    n = min(len(side) for side in (*sides.values(), *english.values()))
    rows = [
        (*key, target, 1 - divergence.unigram_divergence(side[:n], said[:n]))
        for key, side in sides.items()
        for target, said in english.items()
    ]
    return pd.DataFrame(rows, columns=["format", "domain", "target", "similarity"])


# ---------------------------------------------------------------- morphology


def richness(found: "Finished", languages: Sequence[str], *, words: int = 20_000) -> pd.DataFrame:
    """By language, on the parallel texts of a task: mattr, mean word length, pieces a word (fertility) and share of
    words in several pieces (continued). Empty for scripts without spaces between words.

    The study names the task and its split: {"parallel": {"task": "xnli", "split": "test"}}.
    """
    from xtl.data import sources

    task, split = (found.settings["parallel"][key] for key in ("task", "split"))
    data = found.data
    tokenizer = load_tokenizer(data.tokenizer, data.world)
    rows = {}
    for code in languages:
        if code in morphology.NO_SPACES:
            rows[code] = dict.fromkeys(("mattr", "word length", "fertility", "continued"), np.nan)
            continue
        examples = sources.load(get_task(task), code, split, data).examples
        if not all(isinstance(e, Pair) for e in examples):
            raise XtlError(f"richness is measured on sentence pairs, and {task} holds none")
        said = list(dict.fromkeys(e.a for e in examples if isinstance(e, Pair)))
        tokens = [word for text in said for word in morphology.words(text)][:words]
        _, offsets = tokenizer.encode_ids_batch(tokens)
        rows[code] = {
            "mattr": morphology.mattr(said, language=code),
            "word length": float(np.mean([len(word) for word in tokens])),
            **morphology.fertility(np.diff(offsets).tolist()),
        }
    return pd.DataFrame(rows).T.rename_axis("language").sort_values("mattr", ascending=False)
