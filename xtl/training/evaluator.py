"""Evaluation: any parameters, any task, any languages. Used by the training loop, by `xtl run` and by `xtl eval`.

For each language: examples in their own order, rows filled as they come, outputs put back in example order, decoded
and scored by the task's family. All languages share one batch shape and so one compiled step. The last batch is padded,
so every host runs the same number of steps. What a stage reports goes to eval/<task>.json and predictions/<task>/.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from xtl import files
from xtl.config.schema import Stage
from xtl.data import cache, sources
from xtl.data.batches import EvalBatches
from xtl.data.prefetch import prefetched
from xtl.data.rows import Encoded
from xtl.data.settings import Data
from xtl.data.tokenizer import Tokenizer
from xtl.errors import XtlError
from xtl.families import family
from xtl.families.heads import head_for
from xtl.models.encoder import EncoderConfig
from xtl.parallel import multihost
from xtl.task import Loaded, Task, with_options
from xtl.tasks import get_task
from xtl.training import events, state
from xtl.training.events import OnEvent, ignore
from xtl.training.state import Params
from xtl.training.step import build_eval_step, place

ROW_STEP = 64  # row lengths are its multiples: few shapes, and what the hardware likes
BATCH_TOKENS = {"cpu": 2048}  # tokens a device and batch; elsewhere:
ACCELERATOR_TOKENS = 16384
MOST_SLOTS = 64  # segments a row


@dataclass(frozen=True)
class Evaluated:
    """One task on several languages. scores: language -> {metric: 0..100, "n"}; predictions: language -> list."""

    task: Task
    split: str
    scores: dict[str, dict[str, float]]
    predictions: dict[str, Any]
    dropped: dict[str, dict[str, int]]  # language -> reason -> rows of the input that are no examples
    sweep: dict[str, dict[str, list[float]]] = field(default_factory=dict)  # language -> pooling -> score by layer

    @property
    def unlabelled(self) -> list[str]:
        """Languages whose labels are hidden: predicted, not scored."""
        return [language for language, scores in self.scores.items() if self.task.metric not in scores]

    @property
    def average(self) -> float | None:
        """Unweighted mean of the task's metric over the languages; None when a language has no labels."""
        if self.unlabelled:
            return None
        return sum(scores[self.task.metric] for scores in self.scores.values()) / len(self.scores)

    def as_json(self) -> dict[str, Any]:
        """The content of eval/<task>.json (DESIGN section 5)."""
        result = {
            "task": self.task.name,
            "split": self.split,
            "metric": self.task.metric,
            "languages": self.scores,
            "average": self.average,
        }
        found = {"unlabelled": self.unlabelled, "dropped": self.dropped, "sweep": self.sweep}
        return result | {key: value for key, value in found.items() if value}


# ---------------------------------------------------------------- one task


def evaluate(
    params: Params,
    *,
    config: EncoderConfig,
    task: Task,
    languages: Sequence[str],
    split: str,
    data: Data,
    tokenizer: Tokenizer,
    mesh: Mesh,
    max_length: int = 0,
    limit: int = 0,
    options: Mapping[str, Any] | None = None,
    head_options: Mapping[str, Mapping[str, Any]] | None = None,
    eval_rows: int = 0,
    ahead: int = 2,
    on_event: OnEvent = ignore,
) -> Evaluated:
    """Predict and score one task in every language given.

    params: {"encoder", "heads": {name: head}}; the head is the one `head_for` finds. max_length: pieces a segment (0:
    the task's). limit: the first so many examples of each language (0: all). options go to the family.
    head_options: the options that each head was trained with, which may decide its layers. eval_rows: rows
    a batch (0: chosen from the lengths). XtlError when the data lacks a language or no head fits.
    """
    options = dict(options or {})
    if limit and task.family == "retrieve":
        raise XtlError(f"evaluate.{task.name}.limit: retrieval is scored against the whole pool; set it to 0")
    thresholds = {}
    if split == "test" and {**task.options, **options}.get("mining"):  # the threshold comes from dev, as in BUCC
        mined = evaluate(
            params,
            config=config,
            task=task,
            languages=languages,
            split="dev",
            data=data,
            tokenizer=tokenizer,
            mesh=mesh,
            max_length=max_length,
            options=options,
            eval_rows=eval_rows,
            ahead=ahead,
        )
        thresholds = {language: scores["threshold"] for language, scores in mined.scores.items()}
    max_length = max_length or min(task.max_length, config.max_positions - 2)
    parts = {
        language: encoded_part(
            task, language, split, data=data, tokenizer=tokenizer, max_length=max_length, limit=limit, options=options
        )
        for language in languages
    }
    shape = batch_shape(list(parts.values()), mesh=mesh, rows=eval_rows)
    head = head_for(task, {name: get_task(name) for name in params.heads})
    task = with_options(task, {**(head_options or {}).get(head or "", {}), **options})
    chosen = Params(params.encoder, {} if head is None else {head: params.heads[head]})
    step = build_eval_step(config, task, mesh, tuple(sorted((k, _frozen(v)) for k, v in options.items())))
    result = Evaluated(task, split, {}, {}, {})
    for language, encoded in parts.items():
        loaded = _limited(sources.load(task, language, split, data), limit)
        examples = loaded.examples
        if not len(examples):
            raise XtlError(f"{task.name} {language} {split}: no examples to evaluate")
        if loaded.dropped:
            result.dropped[language] = dict(loaded.dropped)
        batches = EvalBatches(encoded, family(task), **shape, tokenizer=tokenizer, host=multihost.row_slice(mesh))
        outputs = batches.gather(list(_outputs(step, chosen, batches, mesh=mesh, ahead=ahead)))
        predictions = family(task).decode(task, examples, encoded, outputs, **options)
        known = {"gold": loaded.gold, **_anchor_free(task, language, split, data)}
        if language in thresholds:
            known["threshold"] = thresholds[language]
        scores = family(task).score(task, language, examples, predictions, **known, **options)
        if options.get("sweep") and task.family == "retrieve":
            result.sweep[language] = family(task).sweep(task, examples, outputs, loaded.gold)
        result.predictions[language] = predictions
        result.scores[language] = {k: int(v) if isinstance(v, int) else float(v) for k, v in scores.items()}
        on_event(events.Evaluated(task.name, split, language, scores))
    return result


def _outputs(
    step: Callable, params: Params, batches: EvalBatches, *, mesh: Mesh, ahead: int
) -> Iterator[dict[str, np.ndarray]]:
    """The outputs of every batch, fetched one batch late: while one computes, the next is made and sent."""
    with jax.set_mesh(mesh):
        pending = None
        for batch in prefetched(batches, ahead=ahead):
            running = step(params, place(batch, mesh))
            if pending is not None:
                yield jax.device_get(pending)
            pending = running
        if pending is not None:
            yield jax.device_get(pending)


def _anchor_free(task: Task, language: str, split: str, data: Data) -> dict[str, Any]:
    """In the world, the sentences that share no word with English: shared words give retrieval for nothing."""
    if task.family != "retrieve" or data.source != "world":
        return {}
    from xtl import world

    return {"anchor_free": world.anchor_free(task, language, split, data.world)}


# ---------------------------------------------------------------- encoded examples and batch shapes


def encoded_part(
    task: Task,
    language: str,
    split: str,
    *,
    data: Data,
    tokenizer: Tokenizer,
    max_length: int,
    limit: int,
    options: Mapping[str, Any],
    train: bool = False,
) -> Encoded:
    """One language's examples from the token cache, the first `limit` of them (0: all)."""
    whole = cache.encoded(
        task, language, split, data=data, tokenizer=tokenizer, max_length=max_length, train=train, options=options
    )
    return first_examples(whole, limit) if limit else whole


def first_examples(encoded: Encoded, count: int) -> Encoded:
    """The part of `encoded` that the first `count` examples of the source became (windows of a question, say)."""
    source = encoded.segment_columns.get("_example")
    if source is None:
        stop = min(count, len(encoded))
    else:  # one segment an encoded example
        stop = int(np.searchsorted(source, count))
    segments = int(encoded.example_offsets[stop])
    tokens = int(encoded.segment_offsets[segments])
    return Encoded(
        encoded.ids[:tokens],
        encoded.segment_offsets[: segments + 1],
        encoded.example_offsets[: stop + 1],
        {name: column[:tokens] for name, column in encoded.token_columns.items()},
        {name: column[:segments] for name, column in encoded.segment_columns.items()},
        {name: column[:stop] for name, column in encoded.example_columns.items()},
    )


def _limited(loaded: Loaded, limit: int) -> Loaded:
    return replace(loaded, examples=loaded.examples[:limit]) if limit else loaded


def batch_shape(parts: Sequence[Encoded], *, mesh: Mesh, rows: int = 0) -> dict[str, Any]:
    """rows, row_length, slots and choices of evaluation batches that suit all parts (languages) of a task.

    Rows are as long as the longest segment needs, and as many as a device likes (fewer when there is little to do).
    """
    lengths = np.concatenate([part.segment_lengths for part in parts])
    longest, mean = int(lengths.max(initial=1)), float(lengths.mean()) if len(lengths) else 1.0
    row_length = math.ceil(longest / ROW_STEP) * ROW_STEP
    slots = max(1, min(MOST_SLOTS, math.ceil(1.5 * row_length / mean)))
    choices = max(int(np.diff(part.example_offsets).max(initial=1)) for part in parts)
    shards = mesh.shape["data"] * mesh.shape["fsdp"]
    tokens = BATCH_TOKENS.get(mesh.devices.flat[0].platform, ACCELERATOR_TOKENS)
    most = max(int(part.segment_lengths.sum()) for part in parts) * 1.2  # first fit leaves some of each row empty
    wanted = rows or max(1, min(tokens // row_length, math.ceil(most / row_length / shards))) * shards
    wanted = max(wanted, math.ceil(choices / slots), choices if row_length < 2 * longest else 1)
    return {
        "rows": math.ceil(wanted / shards) * shards,
        "row_length": row_length,
        "slots": slots,
        "choices": choices,
    }


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


# ---------------------------------------------------------------- a stage's evaluations


def evaluate_stage(
    params: Params,
    stage: Stage,
    folder: files.Pathish,
    *,
    mesh: Mesh,
    tokenizer: Tokenizer,
    head_options: Mapping[str, Mapping[str, Any]] | None = None,
    on_event: OnEvent = ignore,
) -> dict[str, float | None]:
    """Every task of `stage.evaluate`: writes eval/<task>.json and, for test sets, predictions/<task>/; skips what is
    written already (a file is whole or absent). Returns the average of each task.
    """
    averages = {}
    for name, entry in stage.evaluate.items():
        path = files.join(folder, "eval", f"{name}.json")
        if not files.exists(path):
            task = get_task(name)
            result = evaluate(
                params,
                config=state.encoder_config(stage),
                task=task,
                languages=entry.languages,
                split=entry.split,
                data=stage.data,
                tokenizer=tokenizer,
                mesh=mesh,
                max_length=evaluation_length(task, stage),
                limit=entry.limit,
                options=entry.options,
                head_options=head_options,
                eval_rows=stage.system.eval_rows,
                ahead=stage.system.prefetch,
                on_event=on_event,
            )
            if multihost.is_first():
                if entry.split == "test":
                    write_predictions(result, folder, data=stage.data, limit=entry.limit)
                files.write_json(path, result.as_json())  # last: it says that the task is done
            multihost.barrier(f"evaluated/{folder}/{name}")
        averages[name] = files.read_json(path)["average"]
    return averages


def write_predictions(result: Evaluated, folder: files.Pathish, *, data: Data, limit: int = 0) -> None:
    """predictions/<task>/test-<language>.* of an evaluated test set, in the benchmark's own formats."""
    from xtl.benchmark import submission

    if result.task.family == "mlm":
        return  # a loss, not predictions
    for language, predictions in result.predictions.items():
        examples = _limited(sources.load(result.task, language, result.split, data), limit).examples
        threshold = result.scores[language].get("threshold", 0.0)
        plain = family(result.task).written(predictions, threshold=threshold)
        submission.write_predictions(files.join(folder, "predictions"), result.task, language, examples, plain)


def evaluation_length(task: Task, stage: Stage) -> int:
    """Pieces a segment: what the stage trains the task (or the one it is trained by) with, else the task's own."""
    for name in (task.name, task.train):
        if name in stage.tasks:
            return stage.tasks[name].max_length
    return min(task.max_length, stage.encoder.max_positions - 2)
