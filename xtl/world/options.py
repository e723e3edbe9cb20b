"""The knobs of the world, and its only source of randomness."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import numpy as np

from xtl.errors import XtlError, nearest
from xtl.world.language import DRAWN, Language, draw, language_table

SPLITS = ("train", "dev", "test")


@dataclass(frozen=True)
class World:
    """All that a world depends on. Equal worlds give equal data, in any process.

    anchor_share: share of content words spelled as in English, in every language (a language's own share goes before).
    transliterate: True writes shared words in the language's own script, so that other scripts share no piece at all.
    code_switch: probability that a content word of MLM text is replaced by its translation in another language
        (into English, and from English into all): an alignment planted by hand, off unless asked for.
    documents: MLM documents of a language with data_share 1.
    train/dev/test: examples per task and language; `sizes` overrides by task name: {"mnli": 1000} (train) or
        {"mnli": {"train": 1000, "test": 100}}.
    special: share of the special domain by task name (its own nouns and verbs); others use 0, MLM text .1.
    anchor_free: share of every dev and test set that is drawn without words that any language shares with English.
    more_languages: how many there are besides the ten, drawn evenly over distance and affixation (language.draw). The
        data of the ten stays what it is, but for what holds all languages (answer and entity pools, code switching).
    languages: changes to the table of languages, {"qfa": {"order": "SVO", "data_share": .1}}.
    """

    seed: int = 0
    anchor_share: float = 0.35
    transliterate: bool = False
    code_switch: float = 0.0
    documents: int = 6000
    train: int = 4000
    dev: int = 300
    test: int = 400
    anchor_free: float = 0.5
    sizes: Mapping[str, Any] = field(default_factory=dict)
    special: Mapping[str, float] = field(default_factory=dict)
    more_languages: int = 0
    languages: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("anchor_share", "code_switch", "anchor_free"):
            if not 0 <= getattr(self, name) <= 1:
                raise XtlError(f"world.{name} {getattr(self, name)} is not between 0 and 1")
        for task, share in self.special.items():
            if not 0 <= share <= 1:
                raise XtlError(f"world.special.{task} {share} is not between 0 and 1")
        for name in ("documents", *SPLITS):
            if getattr(self, name) < 1:
                raise XtlError(f"world.{name} {getattr(self, name)} must be at least 1")
        if not 0 <= self.more_languages <= len(DRAWN):
            raise XtlError(f"world.more_languages {self.more_languages} is not between 0 and {len(DRAWN)}")

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, World) and self._key == other._key

    @cached_property
    def _key(self) -> str:
        return repr([(f.name, _plain(getattr(self, f.name))) for f in fields(self)])

    @cached_property
    def table(self) -> dict[str, Language]:
        """Languages by code, changes applied; English first."""
        more = draw(self.more_languages, self.rng("languages"))
        return language_table({code: dict(changes) for code, changes in self.languages.items()}, more)

    def language(self, code: str) -> Language:
        if code not in self.table:
            raise XtlError(f"the world has no language {code!r}.{nearest(code, self.table)}")
        return self.table[code]

    def share(self, code: str) -> float:
        """Anchor share of one language."""
        own = self.language(code).anchor_share
        return self.anchor_share if own is None else own

    def size(self, task: str, split: str) -> int:
        """Examples of one task, split and language."""
        given = self.sizes.get(task)
        if isinstance(given, Mapping):
            given = given.get(split)
        elif split != "train":
            given = None
        return int(given) if given is not None else int(getattr(self, split))

    def rng(self, *address: object) -> np.random.Generator:
        """The generator of one address: a pure function of (seed, address)."""
        digest = hashlib.blake2b(repr((self.seed, *address)).encode(), digest_size=16).digest()
        return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))


def _nested(options: Any) -> dict[str, Any]:
    """Plain dicts for nested mappings; a ConfigDict is none by type, but has items."""
    return {k: _nested(v) if hasattr(v, "items") else v for k, v in options.items()}


def _plain(value: Any) -> Any:
    return sorted((str(k), _plain(v)) for k, v in value.items()) if isinstance(value, Mapping) else value


def make_world(options: Mapping[str, Any] | World | None = None) -> World:
    """A World from a mapping (a ConfigDict, say); an unknown knob is an error."""
    if isinstance(options, World):
        return options
    known = {f.name for f in fields(World)}
    given = {} if options is None else _nested(options)
    for key in given:
        if key not in known:
            raise XtlError(f"unknown world option {key!r}.{nearest(key, known)}")
    return World(**given)
