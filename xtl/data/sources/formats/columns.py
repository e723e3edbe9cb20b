"""One word per line, its tag after a tab, blank lines between sentences: PAN-X's archives and XTREME's own files."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from xtl.data.sources.formats.base import Read, SplitFiles
from xtl.data.sources.formats.examples import Labels
from xtl.data.sources.formats.text import archived_lines, json_file, lines
from xtl.errors import XtlError
from xtl.task import Loaded, Tagged

Word = tuple[str, str | None, str]  # word, tag (None where hidden), where


def sentences(path: Path, *, prefixed: bool = False, member: str = "") -> Iterator[list[Word]]:
    """Sentences of one file.

    prefixed: words are written `lang:word`; the prefix ends at the first colon, since words hold colons too. What stays
    of a word may be empty or odd white space; it is kept, because predictions are compared line by line.
    member: the path is a .tar.gz archive, and this the file in it.
    """
    sentence: list[Word] = []
    name = f"{path}/{member}" if member else str(path)
    for number, line in archived_lines(path, member) if member else lines(path):
        where = f"{name}:{number}"
        if not line.strip():
            if sentence:
                yield sentence
            sentence = []
            continue
        cells = line.split("\t")
        if len(cells) > 2:
            raise XtlError(f"{where}: {len(cells)} columns, expected a word and a tag")
        word, tag = cells[0], cells[1].strip() if len(cells) == 2 else None
        if prefixed:
            prefix, colon, word = word.partition(":")
            if not colon:
                raise XtlError(f"{where}: expected lang:word, found {prefix!r}")
        sentence.append((word.strip(), tag, where))
    if sentence:
        yield sentence


def read(labels: Labels, *, prefixed: bool = False, member: str = "") -> Read:
    """Reader of word-and-tag files. Only a test file may come without tags, and then without any.

    member: the paths are .tar.gz archives; the name of the file in them, with {split} filled in.
    """

    def read_files(files: SplitFiles) -> Loaded:
        dropped: Counter = Counter()
        examples: list[Tagged] = []
        for path in files.paths:
            for sentence in sentences(path, prefixed=prefixed, member=member.format(split=files.split)):
                words = tuple(w for w, _, _ in sentence)
                tags = [t for _, t, _ in sentence]
                if files.split == "test" and all(t is None for t in tags):
                    ids = None
                else:
                    ids = tuple(_tag(labels, tag, where) for _, tag, where in sentence)
                examples.append(Tagged(str(len(examples)), words, ids))
        return Loaded(examples, dropped=dropped)

    return read_files


def _tag(labels: Labels, tag: str | None, where: str) -> int:
    if tag is None:
        raise XtlError(f"{where}: a word without a tag")
    return labels.index(tag, where)


def read_lines_with_tag_file(count: int) -> Read:
    """Reader of one sentence a line, `words TAB tags`, and a JSON file with the ids of `count` tags (jiant's CCG)."""

    def read_files(files: SplitFiles) -> Loaded:
        path, tag_file = files.paths
        tag_ids = json_file(tag_file)
        if not isinstance(tag_ids, dict) or any(i not in range(count) for i in tag_ids.values()):
            raise XtlError(f"{tag_file}: expected an object from tag to an id of 0 to {count - 1}")
        examples: list[Tagged] = []
        for number, line in lines(path):
            if not line.strip():
                continue
            words, _, tags = (part.split() for part in line.partition("\t"))
            where = f"{path}:{number}"
            if len(words) != len(tags) and (tags or files.split != "test"):
                raise XtlError(f"{where}: {len(words)} words but {len(tags)} tags")
            unknown = next((tag for tag in tags if tag not in tag_ids), None)
            if unknown is not None:
                raise XtlError(f"{where}: tag {unknown!r} is not in {tag_file}")
            examples.append(Tagged(str(len(examples)), tuple(words), tuple(tag_ids[t] for t in tags) or None))
        return Loaded(examples)

    return read_files
