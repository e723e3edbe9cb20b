"""Lines and rows of text files: UTF-8, both quoting dialects, errors that name the file and the line.

Lines end at a line feed and nowhere else: sentences of the wild hold U+2028, vertical tabs and bare carriage returns,
which `str.splitlines` would take for line ends and so shift every row after them.
"""

import csv
import gzip
import json
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from xtl.errors import XtlError
from xtl.files import refuse_pointer

Row = dict[str, Any]
LONGEST_CELL = 2**31 - 1  # characters; what a C long holds everywhere


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """(line number from 1, line without its end). Raises XtlError for bytes that are not UTF-8."""
    refuse_pointer(path)
    with open(path, "rb") as file:
        yield from _decoded(file, str(path))


def archived_lines(archive: Path, member: str) -> Iterator[tuple[int, str]]:
    """The same for one file of a .tar.gz archive, in whatever folder of it, without unpacking it to disk."""
    name = f"{archive}/{member}"
    members: list[str] = []
    refuse_pointer(archive)
    try:
        with gzip.open(archive) as unzipped, tarfile.open(fileobj=unzipped, mode="r:") as tar:
            for info in filter(tarfile.TarInfo.isfile, tar):
                members.append(PurePosixPath(info.name).name)
                if members[-1] == member and members.count(member) == 1:
                    file = tar.extractfile(info)
                    assert file is not None
                    yield from _decoded(file, name)
            unzipped.read()  # gzip compares its checksum at the very end
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise XtlError(f"{name}: the archive is damaged or truncated ({error}); fetch it again") from None
    if member not in members:
        raise XtlError(f"{archive}: no file {member!r} in the archive, only: {', '.join(members) or 'nothing'}")


def _decoded(file: Iterable[bytes], name: str) -> Iterator[tuple[int, str]]:
    for number, raw in enumerate(file, 1):
        try:
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise XtlError(f"{name}:{number}: not UTF-8 ({error.reason} at byte {error.start})") from None
        yield number, line.rstrip("\n").removesuffix("\r")


def json_lines(path: Path) -> Iterator[tuple[str, Row]]:
    """(where, object) for each line of a JSON Lines file; blank lines are passed over."""
    for number, line in lines(path):
        if line.strip():
            where = f"{path}:{number}"
            yield where, json_object(line, where)


def json_file(path: Path) -> Any:
    """A whole JSON file."""
    text = "\n".join(line for _, line in lines(path))
    return parse_json(text, str(path))


def json_object(text: str, where: str) -> Row:
    """A JSON object; XtlError for any other value."""
    row = parse_json(text, where)
    if not isinstance(row, dict):
        raise XtlError(f"{where}: expected a JSON object, there is {type(row).__name__}")
    return row


def parse_json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        cut = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated")
        fault = "truncated JSON, fetch the file again" if cut else "broken JSON"
        raise XtlError(f"{where}: {fault} ({error.msg}, line {error.lineno} column {error.colno})") from None


def tsv(
    path: Path,
    *,
    numbered: Iterable[tuple[int, str]] | None = None,
    columns: Sequence[str] = (),
    quoted: bool = False,
    label_last: bool = False,
    short_rows: bool = False,
) -> Iterator[tuple[str, Row]]:
    """(where, row) of a tab-separated file.

    Args:
      numbered: the lines to read with their numbers, header first; default: all of the file.
      columns: names of the columns of a file without a header; a missing last column (hidden labels) is allowed.
      quoted: the dialect of Python's `csv` writer, which XTREME's own files are in. Originals are unquoted and hold
        bare quotation marks; read the wrong way, rows run together or keep doubled quotes.
      label_last: rows may be longer than the header and then end in the column the header ends in (GLUE's SNLI).
      short_rows: rows may lack their last columns (GLUE's QQP), which are None then.
    """
    header: list[str] = list(columns)
    name = str(path)
    for number, line in lines(path) if numbered is None else numbered:
        where = f"{name}:{number}"
        cells = line.split("\t")
        if quoted:
            cells = [_unquote(cell, where) for cell in cells]
        if not header:
            header = cells
            if "\r" in line:
                raise XtlError(f"{where}: lines end in carriage returns only; convert the file to line feeds")
            continue
        if not line.strip():
            continue
        if label_last and len(cells) > len(header):
            cells = [*cells[: len(header) - 1], cells[-1]]
        missing = len(header) - len(cells)
        if missing < 0 or missing > (len(header) if short_rows else bool(columns)):
            raise XtlError(f"{where}: {len(cells)} columns, expected {len(header)} ({', '.join(header)})")
        row = dict(zip(header, cells, strict=False))
        yield where, row | dict.fromkeys(header[len(cells) :]) if short_rows else row


def _unquote(cell: str, where: str) -> str:
    if '"' not in cell:
        return cell
    inner = cell[1:-1]
    if len(cell) < 2 or cell[0] != '"' or cell[-1] != '"' or '"' in inner.replace('""', ""):
        raise XtlError(
            f"{where}: a bare quotation mark in a file of the csv dialect: xtreme/ folders hold files written by "
            "XTREME's scripts; put unquoted originals in the layout of their distribution"
        )
    return inner.replace('""', '"')


def comma_separated(path: Path) -> Iterator[tuple[str, Row]]:
    """(where, row) of a comma-separated file with a header and quoted cells, which may hold line ends."""
    refuse_pointer(path)
    csv.field_size_limit(LONGEST_CELL)  # of the process; a limit of the text is none of the file's
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            header = next(reader, [])
            for cells in reader:
                where = f"{path}:{reader.line_num}"
                if len(cells) != len(header):
                    raise XtlError(f"{where}: {len(cells)} columns, expected {len(header)} ({', '.join(header)})")
                yield where, dict(zip(header, cells, strict=True))
        except (csv.Error, UnicodeDecodeError) as error:
            raise XtlError(f"{path}:{reader.line_num}: {error}; fetch the file again") from None
