"""From a config as written to stages that can be trained: derived values filled in once, everything checked, frozen.

What depends on the WORKDIR or on the tokenised data is filled in when a stage runs (completion.py).
"""

import graphlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from xtl import files
from xtl.config import checks, schema
from xtl.config.checks import HUB_ID, SHAPE
from xtl.config.fingerprint import digest, fingerprints, parent_of
from xtl.config.schema import Encoder, Pipeline, Stage
from xtl.data import sources
from xtl.data.languages import suggestion
from xtl.data.settings import Data
from xtl.data.tokenizer import load_tokenizer
from xtl.errors import XtlError, nearest
from xtl.families import family
from xtl.task import Task
from xtl.tasks import catalog, get_task

XLMR_TOKENIZER = "FacebookAI/xlm-roberta-base"


def resolve(config: ConfigDict, *, look: bool = True) -> Pipeline:
    """The pipeline with every stage complete and valid.

    look=False asks neither the data nor the file system: languages and splits are the catalog's, revisions are empty.
    Raises XtlError, naming the stage and the key, for everything that could be known to fail.
    """
    given = config.to_dict()
    shared = schema.read(Pipeline, {k: v for k, v in given.items() if k != "stages"}, where="config")
    inherited = {key: schema.as_dict(getattr(shared, key)) for key in schema.INHERITED}
    stages: dict[str, Stage] = {}
    for name, fields in given["stages"].items():
        whole = {key: _over(inherited[key], fields.get(key) or {}) for key in schema.INHERITED}
        stage = schema.read(Stage, {**fields, **whole, "name": name}, where=f"stage {name}")
        stages[name] = replace(stage, seed=stage.seed + shared.seed)
    parents = _parents(stages, look=look)
    for name in graphlib.TopologicalSorter(parents).static_order():
        stages[name] = _derived(stages[name], look=look)
        checks.check_stage(stages[name])
        for parent in parents[name]:
            checks.check_handoff(stages[parent], stages[name])
        checks.check_heads(stages[name], stages.get(next(iter(parents[name]), "")))
    checks.check_one_writer(stages, fingerprints(stages))
    return replace(shared, stages=stages)


def _over(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in changes.items():
        nested = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = _over(result[key], value) if nested else value
    return result


# ---------------------------------------------------------------- graph


def _parents(stages: Mapping[str, Stage], *, look: bool) -> dict[str, tuple[str, ...]]:
    parents: dict[str, tuple[str, ...]] = {}
    for name, stage in stages.items():
        start, where = stage.start, f"stage {name}: start {stage.start!r}"
        parent = parent_of(start)
        parents[name] = () if parent is None else (parent,)
        if parent is not None:
            if parent not in stages:
                raise XtlError(f"{where}: there is no such stage.{nearest(parent, stages)}")
            if not stages[parent].tasks:
                raise XtlError(f"{where}: that stage only evaluates and hands no encoder on; start from its own start")
        elif start in stages:
            raise XtlError(f"{where} is a stage: write 'stage:{start}'")
        elif start != "scratch" and look and not files.exists(Path(start).expanduser()) and not HUB_ID.fullmatch(start):
            raise XtlError(f"{where} is neither 'scratch', 'stage:NAME', an existing folder, nor a hub id (owner/name)")
    try:
        graphlib.TopologicalSorter(parents).prepare()
    except graphlib.CycleError as error:
        raise XtlError(f"stages start from each other in a circle: {' <- '.join(error.args[1])}") from None
    return parents


# ---------------------------------------------------------------- derived values


def _derived(stage: Stage, *, look: bool) -> Stage:
    """The stage with everything that follows from the rest of it, the catalog and (with look) the data."""
    where = f"stage {stage.name}"
    data = _data(stage.data)
    encoder = _encoder(stage.encoder, data, where=where)
    for kind, names in (("tasks", stage.tasks), ("evaluate", stage.evaluate)):
        for name in names:
            if name not in catalog():
                raise XtlError(f"{where}.{kind}: unknown task {name!r}.{nearest(name, catalog())}")
    if look:
        checks.check_tokenizer(data.tokenizer, where=f"{where}.data.tokenizer")
        checks.check_model(stage.start, encoder, where=where)
    contents = _Contents(data, look=look)
    stage = replace(stage, data=data, encoder=encoder)
    stage = _with_tasks(stage, contents, where=where)
    stage = _with_evaluations(stage, contents, where=where)
    stage = _with_selection(stage, contents, where=where)
    revision = {
        f"{split}/{name}": contents.revision(get_task(name), split, languages)
        for split, name, languages in _sets_read(stage, look=look)
    }
    return replace(stage, data=replace(data, revision=revision))


def _data(data: Data) -> Data:
    world = data.source == "world"
    tokenizer = data.tokenizer or ("world" if world else XLMR_TOKENIZER)
    if "{root}" in tokenizer and data.root:
        tokenizer = tokenizer.replace("{root}", data.root)
    in_use = world or tokenizer == "world"
    return replace(data, tokenizer=tokenizer, world=data.world if in_use else {})


def _encoder(encoder: Encoder, data: Data, *, where: str) -> Encoder:
    from xtl.models.encoder import SIZES, encoder_config  # imports JAX, starts no device

    if encoder.size not in SIZES:
        raise XtlError(f"{where}.encoder: unknown size {encoder.size!r}.{nearest(encoder.size, SIZES)}")
    sized = encoder_config(encoder.size)
    if not encoder.vocab_size and data.tokenizer == "world":
        encoder = replace(encoder, vocab_size=load_tokenizer("world", data.world).vocab_size)
    return replace(encoder, **{key: getattr(encoder, key) or getattr(sized, key) for key in SHAPE})


def _with_tasks(stage: Stage, contents: "_Contents", *, where: str) -> Stage:
    """Lengths and languages of what is trained on; row length; steps or epochs, not both."""
    tasks = {}
    for name, entry in stage.tasks.items():
        task = get_task(name)
        tasks[name] = replace(
            entry,
            max_length=entry.max_length or min(task.max_length, stage.encoder.max_positions - 2),
            languages=contents.languages(task, "train", entry.languages, where=f"{where}.tasks.{name}"),
        )
    train = stage.train
    longest = max((entry.max_length for entry in tasks.values()), default=0)
    # Steps win over epochs; one of the two remains, so that equal stages look equal.
    epochs = 0.0 if train.steps else train.epochs
    return replace(stage, tasks=tasks, train=replace(train, row_length=train.row_length or longest, epochs=epochs))


def _with_evaluations(stage: Stage, contents: "_Contents", *, where: str) -> Stage:
    evaluate = {}
    for name, entry in stage.evaluate.items():
        task = get_task(name)
        split = entry.split or ("test" if "test" in task.splits else "dev")
        languages = contents.languages(task, split, entry.languages, where=f"{where}.evaluate.{name}")
        evaluate[name] = replace(entry, split=split, languages=languages)
    return replace(stage, evaluate=evaluate)


def _with_selection(stage: Stage, contents: "_Contents", *, where: str) -> Stage:
    select = stage.select
    if not select.every:
        return stage
    judges = select.tasks or tuple(n for n in stage.tasks if family(get_task(n)).judges) or tuple(stage.tasks)
    languages = select.languages
    for name in judges:
        if name not in catalog():
            raise XtlError(f"{where}.select.tasks: unknown task {name!r}.{nearest(name, catalog())}")
        languages = contents.languages(get_task(name), "dev", languages, where=f"{where}.select ({name})")
    return replace(stage, select=replace(select, tasks=judges, languages=languages))


def _sets_read(stage: Stage, *, look: bool) -> list[tuple[str, str, tuple[str, ...]]]:
    """(split, task, languages) of all that training, evaluation and selection read."""
    sets = [("train", name, entry.languages) for name, entry in stage.tasks.items()]
    for name, entry in stage.evaluate.items():
        pool = sources.pool_parts(get_task(name), entry.split, stage.data) if look else ()
        sets.append((entry.split, name, tuple(dict.fromkeys((*entry.languages, *pool)))))
    if stage.select.every:
        sets += [("dev", name, stage.select.languages) for name in stage.select.tasks]
    return sets


class _Contents:
    """What the data of one stage holds; without `look`, what the catalog says it should hold."""

    def __init__(self, data: Data, *, look: bool):
        self.data, self.look = data, look

    def languages(self, task: Task, split: str, wanted: tuple[str, ...], *, where: str) -> tuple[str, ...]:
        """The languages to use: those wanted, or all there are; every one of them must be there."""
        if split not in task.splits:
            raise XtlError(f"{where}: {task.name} has no split {split!r}.{nearest(split, task.splits)}")
        if not self.look and self.data.source != "world":
            return wanted or task.languages
        place = f"{self.data.source} {self.data.root}".rstrip()
        missing = [x for x in wanted if split not in sources.splits_present(task, x, self.data)]
        there = wanted or sources.languages(task, self.data, split=split)
        if missing or not there:
            what = f"in {', '.join(missing)} " if missing else ""
            others = [x for x in sources.languages(task, self.data) if x not in missing] if missing else []
            near = suggestion(missing[0], others)
            raise XtlError(
                f"{where}: no {split} data {what}under {place}.{near} `xtl data --task={task.name}` says more"
            )
        return tuple(there)

    def revision(self, task: Task, split: str, languages: tuple[str, ...]) -> str:
        """Digest of what will be read of one task; without looking, of how it would be read."""
        if not self.look:
            how = [section.get(task.name) for section in (self.data.options, self.data.sources)]
            return digest(how) if any(how) else ""
        return digest([sources.revision(task, self.data, language=x, split=split) for x in sorted(languages)])
