"""What the studies' configs have in common on the world: a tiny encoder trained from scratch, few steps, one layer."""

from typing import Any

from ml_collections import ConfigDict

from xtl import config
from xtl.config.recipes import small_head

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
    found: dict[str, dict[str, Any]] = {}
    for name, fields in config.targets(names).items():
        tasks = fields.get("tasks") or {}
        evaluated: dict[str, Any] = {task: {} if tasks else {"options": LAYER} for task in fields["evaluate"]}
        found[name] = {**(training(next(iter(tasks)), steps=steps) if tasks else {}), "evaluate": evaluated}
    return found
