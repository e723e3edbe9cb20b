"""Data sets of the hub and of TFDS: which table holds a (language, split), and how its rows become examples.

Specs only; xtl/data/sources/hub.py and xtl/data/sources/tfds.py fetch the rows.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from xtl.data.sources.formats.base import SPLITS, MakeExample, Rows, collect, what_became_of
from xtl.errors import Absent, XtlError, nearest
from xtl.task import Loaded

ENTAILMENT_FIRST = ("entailment", "neutral", "contradiction")  # integer NLI labels on the hub and in TFDS


@dataclass(frozen=True)
class Request:
    """What to read from a table: a language (and its name in the table), a split, the reading options."""

    language: str
    code: str
    split: str
    options: Mapping[str, Any]


ReadRows = Callable[[Rows, Request], Loaded]


def by_example(make: MakeExample, *, only: Callable[[Mapping[str, Any], Request], bool] | None = None) -> ReadRows:
    """One example per row; `only` picks one language out of a mixed table."""

    def read(rows: Rows, request: Request) -> Loaded:
        chosen = rows if only is None else (r for r in rows if only(r[1], request))
        return collect(chosen, make, language=request.language, split=request.split)

    return read


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """One data set, with {language}, {code} and option names to be filled into its names.

    name: hub repository, or TFDS builder and config. config: hub only. splits: ours -> the data set's, where + joins
    several. codes, languages, when: as in `At`. evaluation: languages for dev and test (training has `languages`).
    """

    name: str
    read: ReadRows
    config: str = ""
    splits: Mapping[str, str] = field(default_factory=lambda: SPLITS)
    codes: Mapping[str, str] = field(default_factory=dict)
    languages: tuple[str, ...] | None = None
    when: Mapping[str, Any] = field(default_factory=dict)
    revision: str = ""

    def has(self, language: str, split: str, options: Mapping[str, Any]) -> bool:
        known = language in self.codes if self.codes else self.languages is None or language in self.languages
        return split in self.splits and known and all(options[k] == v for k, v in self.when.items())

    def filled(self, language: str, split: str, options: Mapping[str, Any]) -> "Table":
        """This table with the names filled in; `splits` holds this split only."""
        names = {**options, "language": language, "code": self.codes.get(language, language)}
        return replace(
            self,
            name=self.name.format(**names),
            config=self.config.format(**names),
            splits={split: self.splits[split].format(**names)},
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Tables:
    """A task's tables in one source, in the order they are tried; the option `repo` picks one by name.

    note: why some are not here or need an option, for the error message.
    """

    task: str
    at: tuple[Table, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""

    def candidates(
        self, language: str, split: str, options: Mapping[str, Any] | None
    ) -> Iterator[tuple[Table, Request]]:
        """Tables that should hold the split, names filled in. Raises XtlError if there are none."""
        merged = {"repo": "", **self.options, **(options or {})}
        for name in options or {}:
            if name not in {"repo", *self.options}:
                raise XtlError(f"task {self.task} has no data option {name!r}.{nearest(name, self.options)}")
        none = True
        for table in self.at:
            if merged["repo"] in ("", table.name) and table.has(language, split, merged):
                none = False
                request = Request(language, table.codes.get(language, language), split, merged)
                yield table.filled(language, split, merged), request
        if none:
            note = f": {self.note}" if self.note else ""
            raise XtlError(f"task {self.task}: no table for language {language!r}, split {split!r}{note}")

    def has(self, language: str, split: str, options: Mapping[str, Any] | None = None) -> bool:
        """Whether a table is declared for the split; nothing is fetched."""
        merged = {"repo": "", **self.options, **(options or {})}
        return any(t.has(language, split, merged) for t in self.at if merged["repo"] in ("", t.name))


@dataclass(frozen=True, kw_only=True, eq=False)
class JoinedTables:
    """Several tasks' tables as one set; ids are led by the part's name. Option `parts`: those to take (default all)."""

    task: str
    parts: Mapping[str, Tables]

    def chosen(self, options: Mapping[str, Any] | None) -> dict[str, Tables]:
        chosen = tuple((options or {}).get("parts") or self.parts)
        for name in chosen:
            if name not in self.parts:
                raise XtlError(f"task {self.task} has no part {name!r}.{nearest(name, self.parts)}")
        return {name: self.parts[name] for name in chosen}

    def has(self, language: str, split: str, options: Mapping[str, Any] | None = None) -> bool:
        return all(t.has(language, split, (options or {}).get(n)) for n, t in self.chosen(options).items())


def joined(parts: Iterable[tuple[str, Loaded]]) -> Loaded:
    """One set out of several; ids are led by the part's name."""
    whole = Loaded([])
    examples = []
    for name, loaded in parts:
        examples += [replace(e, id=f"{name}:{e.id}") for e in loaded.examples]
        whole.dropped.update(loaded.dropped)
        whole.files += tuple(loaded.files)
    whole.examples = examples
    return whole


def load_first(
    source: Tables | JoinedTables,
    language: str,
    split: str,
    options: Mapping[str, Any] | None,
    fetch: Callable[[Table, Request], tuple[Rows, str] | None],
) -> Loaded:
    """Examples from the first table that `fetch` finds rows for; for one that is not there it returns None, or raises
    Absent if there is more to say.

    Raises XtlError if no table is there, or the split turns out empty.
    """
    if isinstance(source, JoinedTables):
        each = source.chosen(options).items()
        return joined((n, load_first(t, language, split, (options or {}).get(n), fetch)) for n, t in each)
    tried = []
    for table, request in source.candidates(language, split, options):
        try:
            fetched = fetch(table, request)
        except Absent as error:
            tried.append(str(error))
            continue
        if fetched is None:
            tried.append(f"{table.name} {table.config}".strip())
            continue
        rows, where = fetched
        loaded = table.read(rows, request)
        if not loaded.examples:
            raise XtlError(
                f"task {source.task}: no examples for language {language!r}, split {split!r} in {where}"
                f"{what_became_of(loaded.dropped)}"
            )
        loaded.files = (where,)
        return loaded
    raise XtlError(f"task {source.task}: no data set found for {language!r}, {split!r}; looked for {', '.join(tried)}")
