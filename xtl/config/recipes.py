"""Published hyper-parameters as data. `recipe("xnli", source="jiant")` gives the fields of a stage.

Sources (each table says how sure its numbers are):
  paper    Phang et al. 2020, intermediate training; quoted from memory of the paper, not checked against its text
  jiant    the authors' second-generation framework, guides/projects/xstilts.md and the scripts around it: targets
  xtreme   google-research/xtreme, scripts/train_*.sh, XLM-R large: targets of XTREME and XTREME-R
  xtune    microsoft/unilm, xtune/: a second public zero-shot recipe for XLM-R large
"""

from collections.abc import Iterable, Mapping
from typing import Any

from xtl.benchmark.aggregate import get_benchmark
from xtl.errors import XtlError, nearest
from xtl.tasks import get_task

Fields = dict[str, Any]

ADAMW: Fields = {"b1": 0.9, "b2": 0.999, "eps": 1e-8, "clip_norm": 1.0, "decay": "linear"}

# Early stopping on 500 English dev examples; jiant evaluates every 1,000 steps and waits for 30 evaluations.
JIANT_SELECT: Fields = {"every": 1000, "examples": 500, "patience": 30}
# XLM-R large collapses now and then, even at this rate: two more attempts, each at half the rate before.
JIANT_TRAIN: Fields = {**ADAMW, "learning_rate": 1e-5, "warmup": 0.1, "weight_decay": 0.01, "restarts": 2}

# The paper's intermediate batch sizes and epochs. Lengths are jiant's: 256, and 384 for QA.
PAPER = {
    "anli_plus": (24, 2, 256),
    "mnli": (24, 2, 256),
    "qqp": (24, 3, 256),
    "squad_v2": (8, 3, 384),
    "squad_v1": (8, 3, 384),
    "hellaswag": (24, 7, 256),
    "ccg": (24, 15, 256),
    "cosmosqa": (24, 15, 256),
    "commonsenseqa": (4, 10, 256),
}
PAPER_CAP = 2**17  # most examples a task counts for in the multi-task mixture, after Raffel et al. 2020
PAPER_MLM = {"share": 0.2, "learning_rate": 5e-6, "language_exponent": 0.3}

# target: (epochs, batch, max length)
JIANT = {
    "xnli": (2, 32, 256),
    "pawsx": (5, 32, 256),
    "udpos": (10, 32, 256),
    "panx": (10, 32, 256),
    "xquad": (2, 16, 384),
    "mlqa": (2, 16, 384),
    "tydiqa": (2, 16, 384),
}

# target: (learning rate, epochs, batch, max length)
XTREME = {
    "xnli": (3e-5, 5, 32, 128),
    "pawsx": (2e-5, 5, 32, 128),
    "udpos": (2e-5, 10, 32, 128),
    "panx": (2e-5, 10, 32, 128),
    "xquad": (3e-5, 3, 32, 384),
    "mlqa": (3e-5, 3, 32, 384),
    "tydiqa": (3e-5, 3, 32, 384),
    "socialiqa": (3e-5, 5, 32, 128),
    "xcopa": (3e-5, 5, 32, 128),
    "lareqa": (2e-5, 3, 16, 256),
    "mewslix": (1e-5, 2, 32, 64),
}
XTREME_QA = ("xquad", "mlqa", "tydiqa")
# Micro-batches of XTREME-R's dual encoders: the negatives are those of a micro-batch, so 3 of LAReQA and 7 of Mewsli-X.
XTREME_ACCUMULATE = {"lareqa": 4, "mewslix": 4}
# target: the task that is trained before it; its encoder and its head both go on (scripts/train_xcopa.sh)
FIRST = {"xcopa": "socialiqa"}

XTUNE = {
    "xnli": (5e-6, 10, 32, 256),
    "pawsx": (1e-5, 10, 32, 256),
    "udpos": (5e-6, 10, 32, 128),
    "panx": (7e-6, 10, 32, 128),
    "xquad": (1.5e-5, 4, 32, 384),
    "mlqa": (1.5e-5, 4, 32, 384),
    "tydiqa": (1.5e-5, 10, 32, 384),
}

RETRIEVAL = ("tatoeba", "bucc2018")  # no training: evaluated on the encoder as it is handed on

SOURCES = ("paper", "jiant", "xtreme", "xtune")


def recipe(task: str, *, source: str = "jiant", benchmark: str = "") -> Fields:
    """Stage fields for a task: for an intermediate task its training, for a target its training and evaluation.

    The result holds "tasks", "train" and, where the source has them, "select" and "evaluate"; give it to `stage`.
    A target trains on the task its catalog entry names (xnli -> mnli); XCOPA keeps the head of the stage it starts
    from, which must have trained Social IQa (see `first`). benchmark "xtreme" or "xtreme-r": evaluation is in exactly
    the languages of that benchmark; "": in those of the task that the data has. XtlError where a source has no such
    task, or a benchmark has not.
    """
    fields = _recipe(task, source=source)
    if benchmark and "evaluate" in fields:
        return {**fields, "evaluate": {task: {"languages": get_benchmark(benchmark).languages_of(task)}}}
    return fields


def first(task: str, *, source: str) -> Fields | None:
    """Fields of the stage that is trained before a target, without evaluation; None for most targets."""
    return {**recipe(FIRST[task], source=source), "evaluate": {}} if task in FIRST else None


def _recipe(task: str, *, source: str) -> Fields:
    tables: dict[str, Mapping[str, tuple]] = {"paper": PAPER, "jiant": JIANT, "xtreme": XTREME, "xtune": XTUNE}
    if source not in tables:
        raise XtlError(f"unknown recipe source {source!r}.{nearest(source, tables)}")
    if task in RETRIEVAL and source != "paper":
        return {"evaluate": {task: {}}}
    if task not in tables[source]:
        have = [name for name, table in tables.items() if task in table]
        raise XtlError(
            f"source {source!r} has no recipe for {task!r}"
            + (f"; {' and '.join(have)} have one" if have else f".{nearest(task, tables[source])}")
        )
    if source == "paper":
        return intermediate([task])
    if source == "jiant":
        epochs, batch, length = JIANT[task]
        train = {**JIANT_TRAIN, "epochs": float(epochs)}
        return _target(task, batch=batch, length=length, train=train, select=JIANT_SELECT)
    rate, epochs, batch, length = tables[source][task]
    train = {**ADAMW, "learning_rate": rate, "epochs": float(epochs), "warmup": 0.0, "weight_decay": 0.0}
    if task in XTREME_ACCUMULATE:
        train["accumulate"] = XTREME_ACCUMULATE[task]
    if task in FIRST:
        train["keep_head"] = True
    if source == "xtreme" and task in XTREME_QA:  # warm-up in steps; the last checkpoint is used
        return _target(task, batch=batch, length=length, train={**train, "warmup": 500.0, "weight_decay": 1e-4})
    # The checkpoint with the best English dev score, looked for every 100 to 1,000 steps.
    select: Fields = {"every": 500, "examples": 0}
    if task == "mewslix":  # there, too, held-out pairs choose; the mentions of dev need the pool of a million each time
        select["tasks"] = ("mewslix_pairs",)
    return _target(task, batch=batch, length=length, train=train, select=select)


def intermediate(
    tasks: Iterable[str],
    *,
    epochs: float = 0.0,
    mlm: bool = False,
    languages: Mapping[str, tuple[str, ...]] | None = None,
) -> Fields:
    """The paper's intermediate training on one task or on a mixture (then 3 epochs, proportional with a cap).

    `mlm` mixes in multilingual MLM: a fifth of the steps, languages drawn with exponent 0.3, half the learning rate.
    `languages` by task: other than English for machine-translated training data.
    """
    names = list(tasks)
    for name in names:
        if name not in PAPER:
            raise XtlError(f"the paper has no intermediate task {name!r}.{nearest(name, PAPER)}")
    entries: Fields = {name: {"batch_size": PAPER[name][0], "max_length": PAPER[name][2]} for name in names}
    for name in names:
        entries[name]["languages"] = (languages or {}).get(name, ("en",))
    train: Fields = {**JIANT_TRAIN, "epochs": epochs or float(PAPER[names[0]][1] if len(names) == 1 else 3)}
    if len(names) > 1:
        train["sampling"] = {"kind": "proportional", "cap": PAPER_CAP}
    if mlm:
        entries["mlm"] = {"batch_size": 24, "max_length": 256, "languages": (), "weight": PAPER_MLM["share"]}
        train |= {"learning_rate": PAPER_MLM["learning_rate"]}
        train["sampling"] = {**train.get("sampling", {}), "language_exponent": PAPER_MLM["language_exponent"]}
    return {"tasks": entries, "train": train, "select": dict(JIANT_SELECT)}


def _target(task: str, *, batch: int, length: int, train: Fields, select: Fields | None = None) -> Fields:
    trained = get_task(task).train or task
    fields: Fields = {"tasks": {trained: {"batch_size": batch, "max_length": length}}, "train": train}
    if select:
        fields["select"] = dict(select)
    return {**fields, "evaluate": {task: {}}}


def small_head(task: str) -> Fields:
    """Options of a task for a small encoder: one dense layer for pairs; two do not train in a few hundred steps."""
    return {"head": "hf"} if get_task(task).family == "pair" else {}
