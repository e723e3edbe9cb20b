"""Texts of a task's examples, and their words."""

import numpy as np
import regex

from xtl.data import sources
from xtl.data.settings import Data
from xtl.errors import XtlError
from xtl.families import family
from xtl.runs.results import SOURCE_LANGUAGE
from xtl.task import Choice, Example, Pair, Span, Tagged, Task, Text

UNSPACED = ("zh", "ja", "th", "my")  # written without spaces between words: a segmenter would be needed to count them


def words(text: str) -> list[str]:
    """Runs of letters, marks and digits, in lower case. Python's `\\w` would split off Indic vowel signs."""
    return regex.findall(r"[\p{L}\p{M}\p{N}]+", text.lower())


def text_of(example: Example, language: str = SOURCE_LANGUAGE) -> str:
    """The whole input of an example as one text, without its answer."""
    match example:
        case Pair():
            return f"{example.a} {example.b}"
        case Choice():
            return f"{example.prompt} {' '.join(example.choices)}"
        case Span():
            return f"{example.question} {example.context}"
        case Tagged():
            return ("" if language in UNSPACED else " ").join(example.words)
        case Text():
            return example.text
    raise XtlError(f"an example of type {type(example).__name__} has no text")


def texts(task: Task, language: str, split: str, data: Data, *, count: int, limit: int = 0, seed: int = 0) -> list[str]:
    """`count` different texts of one language, drawn without replacement by (task, language, seed); fewer if there are
    no more.

    limit: draw from the first `limit` examples (0: all). Retrieval pairs a language with English: "en" stands for the
    pool of the first language, any other language for its queries.
    """
    side = ""
    if family(task).english_pool:
        side = "pool" if language == SOURCE_LANGUAGE else "query"
    if side == "pool":
        language = next(iter(sources.languages(task, data, split=split)))
    examples = sources.load(task, language, split, data).examples
    drawn_from = [e for e in examples if not side or (isinstance(e, Text) and e.side == side)]
    text_language = SOURCE_LANGUAGE if side == "pool" else language
    distinct = list(dict.fromkeys(text_of(e, text_language) for e in drawn_from[: limit or None]))
    entropy = [seed, *f"{task.name}/{language}/{side}".encode()]
    chosen = np.sort(np.random.default_rng(entropy).permutation(len(distinct))[:count])
    return [distinct[i] for i in chosen]
