"""Where the files of a task lie under the data root, and what reading them yields.

A task's `files` is a `Files`: layouts in the order they are looked for, each a few path patterns and a reader. The
same declaration answers all questions: load a split, which languages and splits are there, what to hash, what to pack.
"""

import functools
import glob
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from xtl.data.sources.formats import fields
from xtl.errors import XtlError, nearest
from xtl.task import Example, Loaded


@dataclass(frozen=True)
class SplitFiles:
    """The files of one (language, split), in the order of the layout's patterns, and the reading options."""

    paths: tuple[Path, ...]
    language: str
    split: str
    code: str  # the language's name inside the files
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Place:
    """Where a row stands, for error messages and ids, and the count of rows that are dropped.

    Its methods are the accessors of `fields`, with the place of this row in their errors.
    """

    where: str
    index: int
    language: str
    split: str
    dropped: Counter

    def text(self, row: Any, key: str, *, strip: bool = True) -> str:
        """A text, without surrounding white space."""
        return fields.text(row, key, self.where, strip=strip)

    def texts(self, row: Any, key: str, *, strip: bool = True, count: int | None = None) -> list[str]:
        """A list of (`count`) texts."""
        return fields.texts(row, key, self.where, strip=strip, count=count)

    def name(self, row: Any, key: str) -> str:
        """An id, which may be a number."""
        return fields.name(row, key, self.where)

    def integers(self, row: Any, key: str) -> list[int]:
        """A list of integers."""
        return fields.integers(row, key, self.where)

    def record(self, row: Any, key: str) -> dict[str, Any]:
        """An object."""
        return fields.record(row, key, self.where)

    def label(self, row: Any, key: str, words: Sequence[str] = ()) -> str | int | None:
        """A label, which the rows of test sets may lack."""
        return fields.label(row, key, self.where, hidden=self.split == "test", words=words)


Rows = Iterable[tuple[str, Mapping[str, Any]]]
MakeExample = Callable[[Mapping[str, Any], Place], Example | None]
Read = Callable[[SplitFiles], Loaded]
Options = Mapping[str, Any] | None


def collect(rows: Rows, make: MakeExample, *, language: str, split: str) -> Loaded:
    """Examples from rows; `make` returns None for a row it has counted as dropped."""
    dropped: Counter = Counter()
    examples = []
    for index, (where, row) in enumerate(rows):
        example = make(row, Place(where, index, language, split, dropped))
        if example is not None:
            examples.append(example)
    return Loaded(distinct_ids(examples, dropped), dropped=dropped)


def distinct_ids(examples: list, dropped: Counter) -> list:
    """The same examples, repeated ids followed by a count, since ids are keys (XTREME's TyDiQA training ids repeat)."""
    seen: Counter = Counter()
    taken = {e.id for e in examples}
    if len(taken) == len(examples):
        return examples
    result = []
    for example in examples:
        seen[example.id] += 1
        if seen[example.id] > 1:
            new = f"{example.id}#{seen[example.id]}"
            while new in taken:
                seen[example.id] += 1
                new = f"{example.id}#{seen[example.id]}"
            taken.add(new)
            example = replace(example, id=new)
            dropped["repeated id numbered"] += 1
        result.append(example)
    return result


def what_became_of(dropped: Mapping[str, int]) -> str:
    """The counts of what was not used, for the error about a set that is empty."""
    counts = ", ".join(f"{count:,} {reason}" for reason, count in dropped.items())
    return f" (rows left out: {counts})" if counts else " (it has no rows)"


def by_row(rows: Callable[[Path], Rows], make: MakeExample) -> Read:
    """A reader of files that hold one example per row; several files are read one after the other."""

    def read(files: SplitFiles) -> Loaded:
        chained = (row for path in files.paths for row in rows(path))
        return collect(chained, make, language=files.language, split=files.split)

    return read


# ---------------------------------------------------------------- layouts

SPLITS = {"train": "train", "dev": "dev", "test": "test"}


@dataclass(frozen=True, kw_only=True, eq=False)
class At:
    """One layout: path patterns below the task's folder with {split}, {language}, {code} and option names filled in.

    splits: our split -> its word in the file names; several words name variants of one file of which the largest is
      taken, the first on a tie (a whole file beside cut-down copies, whichever of them was given the official name).
    codes: language -> its name in file names or inside the files; a language without one is not in this layout.
    languages: None means any. optional: patterns of files that are read when present, appended after the others.
    when: option values this layout serves; {} serves all.
    inside: for files that hold several languages, the codes that occur in the first of the paths.
    A pattern with `*` matches any number of files, taken in the order of their names.
    """

    paths: tuple[str, ...]
    read: Read
    splits: Mapping[str, str | tuple[str, ...]] = field(default_factory=lambda: SPLITS)
    codes: Mapping[str, str] = field(default_factory=dict)
    languages: tuple[str, ...] | None = None
    optional: tuple[str, ...] = ()
    when: Mapping[str, Any] = field(default_factory=dict)
    inside: Callable[[Path], Iterable[str]] | None = None

    def has(self, language: str, split: str, options: Mapping[str, Any]) -> bool:
        known = language in self.codes if self.codes else self.languages is None or language in self.languages
        return split in self.splits and known and all(options[k] == v for k, v in self.when.items())

    def patterns(self, language: str, split: str, options: Mapping[str, Any]) -> Iterator[tuple[list[str], list[str]]]:
        """(required, optional) file patterns of each variant."""
        words = self.splits[split]
        for word in (words,) if isinstance(words, str) else words:
            names = {**options, "language": language, "code": self.codes.get(language, language)}
            names["split"] = word.format(**names)
            yield [p.format(**names) for p in self.paths], [p.format(**names) for p in self.optional]

    def find(self, folder: Path, language: str, split: str, options: Mapping[str, Any]) -> SplitFiles | None:
        best: tuple[int, tuple[Path, ...]] | None = None
        for required, optional in self.patterns(language, split, options):
            matched = [_match(folder, p) for p in required]
            if not all(matched):
                continue
            if self.inside and self.codes.get(language, language) not in _codes_inside(self.inside, matched[0][0]):
                continue
            paths = tuple(p for group in matched + [_match(folder, p) for p in optional] for p in group)
            size = sum(p.stat().st_size for p in paths)
            if best is None or size > best[0]:
                best = size, paths
        if best is None:
            return None
        return SplitFiles(best[1], language, split, self.codes.get(language, language), options)


def _codes_inside(inside: Callable[[Path], Iterable[str]], path: Path) -> frozenset[str]:
    stat = path.stat()
    return _codes_of(inside, path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=1000)
def _codes_of(inside: Callable[[Path], Iterable[str]], path: Path, size: int, mtime_ns: int) -> frozenset[str]:
    """Once per process for each (path, size, time)."""
    return frozenset(inside(path))


def _match(folder: Path, pattern: str) -> list[Path]:
    if "*" not in pattern:
        path = folder / pattern
        return [path] if path.is_file() else []
    names = glob.glob(pattern, root_dir=folder, recursive=True)
    return [folder / name for name in sorted(names, key=lambda n: (Path(n).name, n)) if (folder / name).is_file()]


@dataclass(frozen=True, kw_only=True, eq=False)
class Files:
    """The `files` source of a task. Calling it reads one (language, split) under a data root."""

    task: str
    at: tuple[At, ...]  # looked for in this order
    get: str  # what to download and where to put it, for the error message
    options: Mapping[str, Any] = field(default_factory=dict)  # reading options and their defaults
    folder: str = ""  # below the root; the task's name if empty

    def __call__(self, root: Path, language: str, split: str, options: Options = None) -> Loaded:
        """Raises XtlError if nothing is there, a file is damaged, or the split has no examples in that language."""
        at, files = self._locate(Path(root), language, split, options)
        if files is None or at is None:
            raise XtlError(self._missing(Path(root), language, split, options))
        loaded = at.read(files)
        if not loaded.examples:
            names = ", ".join(map(str, files.paths[:3]))
            raise XtlError(
                f"task {self.task}: no examples for language {language!r}, split {split!r} in {names}"
                f"{what_became_of(loaded.dropped)}"
            )
        loaded.files = tuple(map(str, files.paths))
        return loaded

    def find(
        self, root: Path, language: str, split: str, options: Mapping[str, Any] | None = None
    ) -> SplitFiles | None:
        """The files that would be read; None if they are not there. Reads no content."""
        return self._locate(Path(root), language, split, options)[1]

    def incomplete(self, root: Path, language: str, split: str, options: Options = None) -> list[Path]:
        """Files that belong to a split which cannot be read because others are missing (BUCC's gold without texts)."""
        options = self._checked(options)
        present: list[Path] = []
        if self.find(root, language, split, options) is None:
            for at in self.at:
                if at.inside is None and at.has(language, split, options):
                    for required, optional in at.patterns(language, split, options):
                        present += [p for x in required + optional for p in _match(Path(root) / self.folder_name, x)]
        return present

    @property
    def folder_name(self) -> str:
        return self.folder or self.task

    def _locate(self, root: Path, language: str, split: str, options: Options) -> tuple[At | None, SplitFiles | None]:
        options = self._checked(options)
        for at in self.at:
            if at.has(language, split, options):
                files = at.find(root / self.folder_name, language, split, options)
                if files is not None:
                    return at, files
        return None, None

    def _checked(self, options: Options) -> dict[str, Any]:
        for name in options or {}:
            if name not in self.options:
                raise XtlError(f"task {self.task} has no data option {name!r}.{nearest(name, self.options)}")
        return {**self.options, **(options or {})}

    def _missing(self, root: Path, language: str, split: str, options: Options) -> str:
        if not root.is_dir():
            return f"data root {root} does not exist: set data.root to the folder that holds {self.folder_name}/"
        folder, options = root / self.folder_name, self._checked(options)
        tried: list[str] = []
        for at in self.at:
            if at.has(language, split, options):
                for required, _ in at.patterns(language, split, options):
                    tried += [p for p in required if p not in tried]
                    if at.inside and _match(folder, required[0]):
                        present = ", ".join(sorted(_codes_inside(at.inside, folder / required[0])))
                        return f"task {self.task}: {folder / required[0]} has nothing for {language!r}, only {present}"
        if not tried:
            return f"task {self.task}: its files have no split {split!r} for language {language!r}"
        names = ", ".join(tried)
        return f"task {self.task}: no {split} files for {language!r}: looked in {folder} for {names}. {self.get}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Join:
    """Several tasks' files as one set: the examples one after the other, ids led by the part's name.

    The option `parts` names those to take (default all); each part's own options stand under its name.
    """

    task: str
    parts: Mapping[str, "Files"]

    def __call__(self, root: Path, language: str, split: str, options: Options = None) -> Loaded:
        """Raises XtlError if any of the parts is missing or damaged: a join without a part would be another task."""
        examples: list[Example] = []
        dropped: Counter = Counter()
        read: list[str] = []
        for name, part in self._chosen(options).items():
            loaded = part(root, language, split, (options or {}).get(name))
            examples += [replace(e, id=f"{name}:{e.id}") for e in loaded.examples]
            dropped.update(loaded.dropped)
            read += loaded.files
        return Loaded(examples, dropped=dropped, files=tuple(read))

    def find(
        self, root: Path, language: str, split: str, options: Mapping[str, Any] | None = None
    ) -> SplitFiles | None:
        """The files of all parts; None unless every part is there."""
        of_parts = [
            part.find(root, language, split, (options or {}).get(name)) for name, part in self._chosen(options).items()
        ]
        if any(files is None for files in of_parts):
            return None
        return SplitFiles(
            tuple(p for files in of_parts if files is not None for p in files.paths), language, split, language
        )

    def _chosen(self, options: Options) -> dict[str, "Files"]:
        chosen = tuple((options or {}).get("parts") or self.parts)
        for name in (*chosen, *(n for n in options or {} if n != "parts")):
            if name not in self.parts:
                raise XtlError(f"task {self.task} has no part {name!r}.{nearest(name, self.parts)}")
        return {name: self.parts[name] for name in chosen}
