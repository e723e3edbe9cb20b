"""Evaluation: any parameters, any task, any languages. Used by the training loop, by `xtl run` and by `xtl eval`.

For each language: examples in their own order, rows filled as they come, outputs put back in example order, decoded
and scored by the task's family. All languages share one batch shape and so one compiled step. The last batch is padded,
so every host runs the same number of steps. What a stage reports goes to eval/<task>.json and predictions/<task>/.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from xtl import files
from xtl.benchmark import submission
from xtl.benchmark.aggregate import task_averages
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
from xtl.families.interface import Outputs, Scores, SharedPool
from xtl.models.encoder import EncoderConfig
from xtl.parallel import multihost
from xtl.task import Example, Loaded, Task, with_options
from xtl.tasks import get_task
from xtl.training import events
from xtl.training.events import OnEvent, ignore
from xtl.training.state import Params
from xtl.training.step import build_eval_step, place

ROW_STEP = 64  # row lengths are its multiples: few shapes, and what the hardware likes
BATCH_TOKENS = {"cpu": 2048}  # tokens per device and batch; elsewhere:
ACCELERATOR_TOKENS = 16384
MOST_SLOTS = 64  # segments per row


@dataclass(frozen=True)
class LanguageResult:
    """One task in one language: the examples, a prediction for each (retrieval: for each query), and the scores."""

    task: Task
    language: str
    examples: Sequence[Example]
    predictions: Sequence[Any]
    scores: dict[str, float]


@dataclass(frozen=True)
class Evaluation:
    """One task on several languages. scores: language -> {metric: 0..100, "n"}; predictions: language -> list."""

    task: Task
    split: str
    scores: dict[str, dict[str, float]]
    predictions: dict[str, Any]
    dropped: dict[str, dict[str, int]]  # language -> reason -> rows of the input that are no examples
    details: dict[str, dict[str, Any]] = field(
        default_factory=dict
    )  # section -> language (or key) -> what more there is

    def add(self, language: str, loaded: Loaded, predictions: Any, scores: Scores, details: Mapping[str, Any]) -> None:
        """Put one more language on record."""
        if loaded.dropped:
            self.dropped[language] = dict(loaded.dropped)
        self.predictions[language] = predictions
        self.scores[language] = {k: int(v) if isinstance(v, int) else float(v) for k, v in scores.items()}
        for section, content in details.items():
            self.details.setdefault(section, {})[language] = content

    @property
    def unlabelled(self) -> list[str]:
        """Languages whose labels are hidden: predicted, not scored."""
        return [language for language, scores in self.scores.items() if self.task.metric not in scores]

    @property
    def average(self) -> float | None:
        """Mean of the task's metric over the languages, as the benchmarks take it; None when one has no labels."""
        return None if self.unlabelled else task_averages(self.task.name, self.scores)[self.task.metric]

    def as_json(self) -> dict[str, Any]:
        """The content of eval/<task>.json."""
        result = {
            "task": self.task.name,
            "split": self.split,
            "metric": self.task.metric,
            "languages": self.scores,
            "average": self.average,
        }
        hidden = self.unlabelled
        predicted = {language: len(self.predictions[language]) for language in hidden if language in self.predictions}
        more = {"unlabelled": hidden, "predicted": predicted, "dropped": self.dropped, **self.details}
        return result | {key: value for key, value in more.items() if value}


# ---------------------------------------------------------------- one task


class Evaluator:
    """Evaluates parameters. What does not depend on them is prepared once, and held while it is needed again.

    Each (task, language, split) is loaded once and its entry in the token cache opened (and so verified) once, over all
    calls that hold it. Compiled steps are held by `build_eval_step`, one per (task with its options, batch shape).
    """

    def __init__(
        self,
        config: EncoderConfig,
        mesh: Mesh,
        tokenizer: Tokenizer,
        data: Data,
        *,
        head_options: Mapping[str, Mapping[str, Any]] | None = None,
        eval_rows: int = 0,
        ahead: int = 2,
    ):
        """head_options: the options that each head was trained with, which may decide its layers. eval_rows: rows per
        batch (0: chosen from the lengths). ahead: batches that are assembled in advance."""
        self.config, self.mesh, self.tokenizer, self.data = config, mesh, tokenizer, data
        self.head_options, self.eval_rows, self.ahead = head_options or {}, eval_rows, ahead
        self._loaded: dict[tuple, Loaded] = {}
        self._encoded: dict[tuple, Encoded] = {}
        self._batches: dict[tuple, dict[str, EvalBatches]] = {}  # by language, all of one shape

    def __call__(
        self,
        params: Params,
        task: Task,
        languages: Sequence[str],
        split: str,
        *,
        max_length: int = 0,
        limit: int = 0,
        options: Mapping[str, Any] | None = None,
        hold: bool = False,
        on_language: Callable[[LanguageResult], None] = lambda result: None,
    ) -> Evaluation:
        """Predict and score one task in every language given.

        The head used is the one that `head_for` names. max_length: pieces per segment (0: the task's). limit: the first
        so many examples of each language (0: all). options: laid over those of the task. hold: keep examples and
        batches, because the same evaluation will be asked for again. on_language is called as soon as a language is
        scored. XtlError when the data lacks a language or no head fits.
        """
        options, of = options or {}, family(task)
        pool_parts = sources.pool_parts(task, split, self.data)
        if limit and (of.whole_pool or pool_parts):
            raise XtlError(f"evaluate.{task.name}.limit: retrieval is scored against the whole pool; set it to 0")
        head = head_for(task, {name: get_task(name) for name in params.heads})
        carried: dict[str, Scores] = {}
        if reference := of.reference_split(with_options(task, options), split):
            more: dict[str, Any] = {"max_length": max_length, "options": options, "hold": hold}
            first = self(params, task, languages, reference, **more)
            carried = {language: of.carry(scores) for language, scores in first.scores.items()}
        max_length = max_length or min(task.max_length, self.config.max_positions - 2)
        before = {*self._loaded, *self._encoded, *self._batches}
        parts = tuple(dict.fromkeys((*languages, *pool_parts)))
        batches_of = self._prepare(with_options(task, options), parts, split, max_length, limit)
        # The head's own options decide its layers, not how examples become tokens.
        task = with_options(task, {**self.head_options.get(head or "", {}), **options})
        chosen = Params(params.encoder, {} if head is None else {head: params.heads[head]})
        step = build_eval_step(self.config, task, self.mesh)

        def compute(part: str) -> tuple[Loaded, Outputs]:
            """The examples of a language, or of another part of the pool, and their outputs."""
            loaded, batches = self._load(task, part, split, limit), batches_of[part]
            if not hold and (key := (task.name, part, split)) not in before:
                del self._loaded[key]  # with forty languages, one set at a time is in memory
            outputs = batches.gather(list(_outputs(step, chosen, batches, mesh=self.mesh, ahead=self.ahead)))
            refuse_not_finite(outputs, batches.encoded, loaded.examples, f"{task.name} {part} {split}")
            return loaded, outputs

        pool, computed = _shared_pool(task, pool_parts, compute, keep=languages)
        result = Evaluation(task, split, {}, {}, {})
        if pool is not None:
            result.details["pool"] = {"texts": len(pool.ids), "parts": list(pool_parts)}
        for language in languages:
            loaded, outputs = computed.pop(language) if language in computed else compute(language)
            if pool is None:
                predictions = of.decode(task, loaded.examples, batches_of[language].encoded, outputs)
            else:
                predictions = of.rank(task, loaded, outputs, pool)
            scores = of.score(task, language, loaded, predictions, carried.get(language))
            result.add(language, loaded, predictions, scores, of.details(task, loaded, outputs))
            on_language(LanguageResult(task, language, loaded.examples, predictions, result.scores[language]))
        if not hold:
            self._encoded = {key: value for key, value in self._encoded.items() if key in before}
            self._batches = {key: value for key, value in self._batches.items() if key in before}
        return result

    def _prepare(
        self, task: Task, languages: tuple[str, ...], split: str, max_length: int, limit: int
    ) -> dict[str, EvalBatches]:
        """The batches of each language, of one shape. XtlError for a language without examples."""
        key = (task, languages, split, max_length, limit)
        if key not in self._batches:
            parts = {language: self._encode(task, language, split, max_length) for language in languages}
            if limit:
                parts = {language: first_examples(part, limit) for language, part in parts.items()}
            for language, part in parts.items():
                if not len(part):
                    raise XtlError(f"{task.name} {language} {split}: no examples to evaluate")
            shape = batch_shape(list(parts.values()), mesh=self.mesh, rows=self.eval_rows)
            how = {**shape, "tokenizer": self.tokenizer, "host": multihost.row_slice(self.mesh)}
            self._batches[key] = {x: EvalBatches(part, family(task), **how) for x, part in parts.items()}
        return self._batches[key]

    def _encode(self, task: Task, language: str, split: str, max_length: int) -> Encoded:
        key = (task, language, split, max_length)
        if key not in self._encoded:
            self._encoded[key] = cache.encoded(
                task,
                language,
                split,
                encode=family(task).encode,
                data=self.data,
                tokenizer=self.tokenizer,
                max_length=max_length,
                train=False,
                examples=lambda: self._load(task, language, split).examples,
            )
        return self._encoded[key]

    def _load(self, task: Task, language: str, split: str, limit: int = 0) -> Loaded:
        key = (task.name, language, split)
        if key not in self._loaded:
            self._loaded[key] = sources.load(task, language, split, self.data)
        loaded = self._loaded[key]
        return dataclasses.replace(loaded, examples=loaded.examples[:limit]) if limit else loaded


def refuse_not_finite(
    outputs: Mapping[str, np.ndarray], encoded: Encoded, examples: Sequence[Example], what: str
) -> None:
    """XtlError, with the first example concerned, if any output is NaN or infinite, or was made of a logit that is.

    outputs: of a whole set, `x_s..` by segment, `x_t` by token, `x_e..` by encoded example; `finite_t` says so of
    logits that stay on the device. A largest logit is chosen from among NaN, too, and scores stay plausible.
    """
    for key, values in outputs.items():
        name, dims = key.rsplit("_", 1)
        if name != "finite" and not np.issubdtype(values.dtype, np.floating):
            continue
        finite = values if name == "finite" else np.isfinite(values).reshape(len(values), -1).all(axis=1)
        if finite.all():
            continue
        index = int(np.argmin(finite))
        if dims[0] == "t":
            index = int(np.searchsorted(encoded.segment_offsets, index, side="right")) - 1
        if dims[0] in "ts":
            source = encoded.segment_columns.get("_example")
            offsets = encoded.example_offsets
            index = int(np.searchsorted(offsets, index, side="right")) - 1 if source is None else int(source[index])
        raise XtlError(
            f"{what}: the model's output for example {examples[index].id} is not finite ({int((~finite).sum())} of "
            f"{len(finite)} values): its weights hold NaN or infinity, or overflow; evaluate an earlier checkpoint or "
            "import the weights again"
        )


def _shared_pool(
    task: Task, parts: Sequence[str], compute: Callable[[str], tuple[Loaded, Outputs]], *, keep: Sequence[str]
) -> tuple[SharedPool | None, dict[str, tuple[Loaded, Outputs]]]:
    """The pool common to all languages (None without parts), and what was computed for it of the languages in `keep`,
    whose queries stand beside their part of the pool."""
    kept: dict[str, tuple[Loaded, Outputs]] = {}

    def sets() -> Iterator[tuple[Loaded, Outputs]]:
        for part in parts:
            computed = compute(part)
            if part in keep:
                kept[part] = computed
            yield computed

    return (family(task).shared_pool(task, sets()) if parts else None), kept


def _outputs(
    step: Callable, params: Params, batches: EvalBatches, *, mesh: Mesh, ahead: int
) -> Iterator[dict[str, np.ndarray]]:
    """The outputs of every batch, fetched one batch late: while one computes, the next is assembled and sent."""
    with jax.set_mesh(mesh):
        pending = None
        for batch in prefetched(batches, ahead=ahead):
            running = step(params, place(batch, mesh))
            if pending is not None:
                yield jax.device_get(pending)
            pending = running
        if pending is not None:
            yield jax.device_get(pending)


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
    train: bool = False,
) -> Encoded:
    """One language's examples from the token cache, the first `limit` of them (0: all)."""
    whole = cache.encoded(
        task,
        language,
        split,
        encode=family(task).encode,
        data=data,
        tokenizer=tokenizer,
        max_length=max_length,
        train=train,
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


# ---------------------------------------------------------------- a stage's evaluations


def evaluate_stage(
    evaluator: Evaluator,
    params: Params,
    stage: Stage,
    folder: files.Pathish,
    *,
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

            def report(judged: LanguageResult, split: str = entry.split) -> None:
                on_event(events.Evaluated(judged.task.name, split, judged.language, judged.scores))
                if split == "test" and multihost.is_first():
                    write_predictions(judged, folder)

            result = evaluator(
                params,
                task,
                entry.languages,
                entry.split,
                max_length=evaluation_length(task, stage),
                limit=entry.limit,
                options=entry.options,
                on_language=report,
            )
            if multihost.is_first():
                files.write_json(path, result.as_json())  # last: it says that the task is done
            multihost.barrier(f"evaluated/{folder}/{name}")
        averages[name] = files.read_json(path)["average"]
    return averages


def write_predictions(judged: LanguageResult, folder: files.Pathish) -> None:
    """predictions/<task>/test-<language>.* in the benchmark's own formats; nothing for a task that predicts nothing."""
    of, task = family(judged.task), judged.task
    if kind := of.file_kind(task):
        content = of.file_content(judged.predictions, judged.scores)
        to = files.join(folder, "predictions")
        submission.write_predictions(to, task, judged.language, judged.examples, content, kind=kind)


def evaluation_length(task: Task, stage: Stage) -> int:
    """Pieces per segment: what the stage trains the task (or the one it is trained by) with, else the task's own."""
    for name in (task.name, task.train):
        if name in stage.tasks:
            return stage.tasks[name].max_length
    return min(task.max_length, stage.encoder.max_positions - 2)
