"""What a task is: examples, labels, languages, sources. Pure data; no JAX and no file is touched at import.

A task is one small file in `xtl/tasks/` that ends in `TASK = Task(...)`. How examples become tokens, logits, a loss,
predictions and scores is the business of its family (`xtl/families/pair.py`, `span.py`, ...), named by a string.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from xtl.errors import XtlError, nearest

# ---------------------------------------------------------------- examples
# Labels are indices into Task.labels; None means hidden (test sets). Every id is unique within one loaded set.


@dataclass(frozen=True, slots=True)
class Pair:
    """One or two texts with one label (NLI, paraphrase)."""

    id: str
    a: str
    b: str | None
    label: int | None


@dataclass(frozen=True, slots=True)
class Choice:
    """A prompt and its candidate continuations, one of them right."""

    id: str
    prompt: str
    choices: tuple[str, ...]
    label: int | None


@dataclass(frozen=True, slots=True)
class Span:
    """A question on a context; answers are (text, character offset in the context). No answers: unanswerable."""

    id: str
    question: str
    context: str
    answers: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Tagged:
    """A sentence as words with one tag per word."""

    id: str
    words: tuple[str, ...]
    tags: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class Text:
    """A bare sentence: MLM text (side is empty) or one side of a retrieval task ("query" or "pool")."""

    id: str
    text: str
    side: str = ""


Example = Pair | Choice | Span | Tagged | Text


@dataclass
class Loaded:
    """Examples of one (task, language, split), and what became of the rest of the input."""

    examples: Sequence[Example]
    gold: Sequence[tuple[str, str]] = ()  # retrieval only: (query id, id of a text of the pool)
    anchor_free: frozenset[str] = frozenset()  # retrieval in the world: ids of texts without words shared with English
    dropped: Counter = field(default_factory=Counter)  # reason -> rows not used; never silent, always reported
    files: tuple[str, ...] = ()  # what was read


# ---------------------------------------------------------------- tasks

FAMILIES = ("mlm", "pair", "choice", "span", "tag", "retrieve", "dual")

NLI = ("contradiction", "entailment", "neutral")  # jiant's and XTREME's order; hub copies differ
UPOS = (
    "ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM", "PART", "PRON", "PROPN", "PUNCT", "SCONJ", "SYM",
    "VERB", "X",
)  # fmt: skip
PANX_TAGS = ("B-LOC", "B-ORG", "B-PER", "I-LOC", "I-ORG", "I-PER", "O")


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task under one name.

    `files` reads the original distribution: (root, language, split) -> Loaded; `hub` and `tfds` likewise, with the
    task's declarative spec for that source (xtl/data/sources/). `train` names the task whose English training
    data trains this one ("xnli" -> "mnli"); "" means this task has no training data of its own or another's.
    """

    name: str
    family: str
    about: str  # one line for `xtl tasks`
    languages: tuple[str, ...]
    splits: tuple[str, ...]  # of "train", "dev", "test"
    metric: str  # key of the score that selection and averages use
    labels: tuple[str, ...] = ()
    train: str = ""
    max_length: int = 128
    sizes: Mapping[str, int | Mapping[str, int]] = field(default_factory=dict, hash=False)  # split -> examples
    retrieval: bool = False  # examples are queries and a pool of texts; `sizes` counts pairs of a query and its answer
    # Retrieval from one pool for all languages: split -> part -> texts of the pool in it. A part is a language, whose
    # set then holds queries and texts, or a name of its own. {}: every set brings its own pool along.
    pool: Mapping[str, Mapping[str, int]] = field(default_factory=dict, hash=False)
    files: Callable[[Path, str, str], Loaded] | None = None
    hub: object | None = field(default=None, hash=False)
    tfds: object | None = field(default=None, hash=False)
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)  # for the family, see `with_options`
    benchmarks: tuple[str, ...] = ()  # "xtreme", "xtreme-r"
    languages_r: tuple[str, ...] = ()  # added by XTREME-R
    licence: str = ""

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise XtlError(f"task {self.name}: unknown family {self.family!r}.{nearest(self.family, FAMILIES)}")

    def label_id(self, label: str, where: str) -> int:
        """Index of a label word; `where` (file and line or id) goes into the error."""
        try:
            return self.labels.index(label)
        except ValueError:
            known = f"{', '.join(self.labels[:20])}{', ...' if len(self.labels) > 20 else ''}"
            raise XtlError(f"{where}: label {label!r} is unknown to task {self.name} (known: {known})") from None


def with_options(task: Task, options: Mapping[str, Any]) -> Task:
    """The task with other options laid over its own. Families read the result alone, so this is the one place where
    options are merged; equal options give equal tasks, and so one compiled step."""
    return replace(task, options={**task.options, **options}) if options else task
