"""What the studies' configs share: the small stages of the world, and which training data a target excludes.

On the world every study trains a tiny encoder from scratch, for few steps, and retrieves at one layer.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from xtl import config
from xtl.config.recipes import small_head
from xtl.errors import XtlError
from xtl.runs.results import SOURCE_LANGUAGE

SYSTEM = {"log_every": 50, "checkpoint_every": 500}
SPEED = {"learning_rate": 1e-3, "warmup": 0.1}
BATCH = 16
MLM_STEPS = 6000  # with 1,500 the encoder learns no question answering afterwards, so there is no gain to study
LAYER = {"layer": 1, "pooling": "mean", "centre": True}  # of retrieval, fixed beforehand and for every condition


def encoder() -> ConfigDict:
    """Two layers, 64 wide."""
    return config.encoder("tiny", hidden=64, layers=2, heads=4, mlp=256, max_positions=130)


def data(source: str, **more: Any) -> dict[str, Any]:
    """Where data comes from. UDPOS on the hub and in TFDS splits contracted words, unlike XTREME's own files."""
    plain = {"options": {"udpos": {"fusion": False}}} if source in ("hub", "tfds") else {}
    return {"source": source, **plain, **more}


def pretraining(steps: int, *, languages: tuple[str, ...] = ()) -> ConfigDict:
    """The stage "mlm": from scratch on the world's text; () = all languages."""
    return config.stage(
        "mlm",
        phase="mlm",
        tasks={"mlm": {"batch_size": 64, "max_length": 64, "languages": languages}},
        train={**SPEED, "learning_rate": 2e-3, "steps": steps, "sampling": {"language_exponent": 0.7}},
    )


def training(task: str, *, steps: int, languages: tuple[str, ...] = ("en",), limit: int = 0) -> dict[str, Any]:
    """Stage fields: training on the world's counterpart of a task."""
    entry = {"batch_size": BATCH, "max_length": 64, "languages": languages, "limit": limit, "options": small_head(task)}
    return {"tasks": {task: entry}, "train": {**SPEED, "steps": steps}}


def targets(names: tuple[str, ...], *, steps: int) -> dict[str, dict[str, Any]]:
    """Target stages of the world by name, as config.targets; retrieval at LAYER."""
    stages: dict[str, dict[str, Any]] = {}
    for name, fields in config.targets(names).items():
        tasks = fields.get("tasks") or {}
        evaluated: dict[str, Any] = {task: {} if tasks else {"options": LAYER} for task in fields["evaluate"]}
        stages[name] = {**(training(next(iter(tasks)), steps=steps) if tasks else {}), "evaluate": evaluated}
    return stages


# ---------------------------------------------------------------- what must not be trained on

# Training part -> evaluation sets that share its items: XQuAD is 240 paragraphs of SQuAD v1.1's development set in 11
# languages, and LAReQA is made of it. SQuAD's training part is clean.
OVERLAPS = {
    ("xquad", "test"): ("xquad", "lareqa", "squad_v1"),
    ("lareqa", "test"): ("xquad", "lareqa", "squad_v1"),
    ("squad_v1", "dev"): ("xquad", "lareqa", "squad_v1"),
    ("mlqa", "dev"): ("mlqa",),
    ("mlqa", "test"): ("mlqa",),
}


def refuse_overlap(training: str, targets: Sequence[str], *, split: str = "train") -> None:
    """XtlError if a target's evaluation items are among the items of `training`'s split, which is trained on."""
    shared = [target for target in targets if target in OVERLAPS.get((training, split), ())]
    if shared:
        raise XtlError(
            f"training on {training} ({split}) would leak into {', '.join(shared)}: they share items; leave them out"
        )


def refuse_spoken(targets: Mapping[str, Sequence[str]], *, trained_on: Sequence[str]) -> None:
    """XtlError for a target all of whose languages (but English) were trained on: it would count in no mean."""
    for target, spoken in targets.items():
        if set(spoken) <= {SOURCE_LANGUAGE, *trained_on}:
            raise XtlError(f"{target} has no language that is not trained on, so it is not zero-shot: leave it out")
