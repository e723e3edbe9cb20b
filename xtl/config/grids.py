"""Stages of whole experiments: conditions x targets x seeds, learning rates as an axis, fields laid over each other."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from xtl.config.build import stage
from xtl.config.recipes import first, recipe


def targets(
    tasks: Iterable[str] | Mapping[str, Any], *, source: str = "jiant", benchmark: str = "", **changes: Any
) -> dict[str, dict[str, Any]]:
    """Target stages by name, from published recipes; targets that train alike share one (xquad and mlqa).

    tasks: names, or evaluation entries by name: {"xnli": {}, "mlqa": {"split": "dev"}}. benchmark: evaluate in exactly
    its languages (see `recipe`). `changes` are stage fields laid over every target that trains:
    targets(["xnli", "mlqa"], train={"epochs": 1.0}). XCOPA comes with its "first" (see `grid`).
    """
    columns: dict[str, dict[str, Any]] = {}
    for task in tasks:
        fields = recipe(task, source=source, benchmark=benchmark)
        if fields.get("tasks"):
            fields = merged(fields, changes)
        if before := first(task, source=source):
            fields["first"] = before
        if isinstance(tasks, Mapping):
            fields["evaluate"] = {task: {**fields.get("evaluate", {}).get(task, {}), **tasks[task]}}
        alike = next((n for n, f in columns.items() if f.get("tasks") and _training(f) == _training(fields)), None)
        if alike is None:
            columns[task] = fields
        else:
            both = columns.pop(alike)
            columns[f"{alike}+{task}"] = {**both, "evaluate": {**both["evaluate"], **fields["evaluate"]}}
    return columns


def grid(
    *,
    start: str,
    conditions: Mapping[str, Mapping[str, Any] | None],
    targets: Mapping[str, Mapping[str, Any]],
    seeds: Iterable[int] = (0,),
    rates: Sequence[float] = (),
    prefix: str = "",
    **changes: Any,
) -> Iterator[ConfigDict]:
    """Stages of {conditions} x {targets} x {seeds}: each condition trained once per seed, each target started from it.

    start: where conditions start ("stage:mlm", a model folder, a hub id). conditions: the rows of the table; None is
    the baseline without intermediate training. targets: columns, see `targets`; one without tasks is only evaluated.
    rates: learning rates that every target is trained at, each a row of its own, CONDITION@RATE, from one and the same
    intermediate stage (to sweep those of intermediate stages, give `conditions` through `swept`).
    prefix tells several grids of one pipeline apart ("large-"); changes are laid over every stage.
    A target's "first" holds the fields of a stage that is trained before it (xcopa: Social IQa, then COPA).
    Names: CONDITION and CONDITION-TARGET, with -sSEED for every seed but 0, so that adding seeds renames nothing.
    """
    for seed in seeds:
        tail = f"-s{seed}" if seed else ""
        for condition, fields in conditions.items():
            label, origin = prefix + condition, start
            common = {"intermediate": label, "seed": seed}
            if fields is not None:
                yield stage(
                    label + tail, **merged({**common, "phase": "intermediate", "start": start}, fields, changes)
                )
                origin = f"stage:{label}{tail}"
            for target, own in targets.items():
                base = {**common, "start": origin}
                for rate in rates if own.get("tasks") else ():
                    row = f"{label}@{short(rate)}"
                    at_rate = {**base, "intermediate": row}
                    yield from _target(f"{row}-{target}", tail, at_rate, merged(own, _at(rate)), changes)
                if not rates or not own.get("tasks"):
                    yield from _target(f"{label}-{target}", tail, base, own, changes)


def _target(
    name: str, tail: str, common: Mapping[str, Any], own: Mapping[str, Any], changes: Mapping[str, Any]
) -> Iterator[ConfigDict]:
    base = {**common, "phase": "target" if own.get("tasks") else "eval"}
    if "first" in own:
        yield stage(f"{name}-first{tail}", **merged({**base, "phase": "intermediate"}, own["first"], changes))
        base["start"] = f"stage:{name}-first{tail}"
    yield stage(name + tail, **merged(base, {key: value for key, value in own.items() if key != "first"}, changes))


def swept(conditions: Mapping[str, Mapping[str, Any] | None], rates: Iterable[float]) -> dict[str, Any]:
    """Conditions at several learning rates, CONDITION@RATE; the baseline, which trains nothing, stays one."""
    rows: dict[str, Any] = {}
    for name, fields in conditions.items():
        if fields is None:
            rows[name] = None
        else:
            rows |= {f"{name}@{short(rate)}": merged(fields, _at(rate)) for rate in rates}
    return rows


def short(rate: float) -> str:
    """A learning rate as part of a name, which has no dots: 1e-5, 15e-6."""
    digits, _, power = f"{rate:e}".partition("e")
    whole = digits.rstrip("0").rstrip(".")
    decimals = len(whole.partition(".")[2])
    return f"{whole.replace('.', '')}e{int(power) - decimals}"


def _at(rate: float) -> dict[str, Any]:
    return {"train": {"learning_rate": rate}}


def merged(*sections: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings laid over each other, later ones winning; the inputs stay as they are."""
    result: dict[str, Any] = {}
    for section in sections:
        for key, value in section.items():
            nested = isinstance(value, Mapping | ConfigDict)
            result[key] = merged(result.get(key) or {}, value) if nested else value
    return result


def _training(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if key != "evaluate"}
