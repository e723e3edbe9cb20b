"""Typed access to the fields of a row, whatever the source: JSON objects, table rows, NumPy values of TFDS.

Every reader takes its values through these functions, so a field of another shape (null for text, a number for text, an
object for a list, no such key) is an XtlError of one line: where, which field, what was expected, what is there.
`where` is a file and line, a file and id, or a table and row.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from xtl.errors import XtlError

Row = Mapping[str, Any]
T = TypeVar("T")

EXPECTED: dict[Any, str] = {
    str: "text",
    int: "an integer",
    str | int: "text or an integer",
    list[str]: "a list of texts",
    list[int]: "a list of integers",
    list[str | int]: "a list of texts or integers",
    tuple[int, int]: "two integers",
    list[tuple[int, int]]: "a list of pairs of integers",
    dict[str, Any]: "an object",
    list[dict[str, Any]]: "a list of objects",
}
INTEGRAL = re.compile(r"-?\d+\.0+")  # how a column of labels is written once it had to hold missing values
LABEL_COLUMNS = {  # names under which distributions and their copies have the label
    *("label", "labels", "gold", "golden", "gold_label", "gold_labels", "target", "class"),
    *("answer", "answerkey", "answer_key", "correct", "cop", "is_duplicate"),
}


def value(row: Any, key: str, where: str) -> Any:
    """A field as it is, or an error that names the fields there are."""
    if not isinstance(row, Mapping):
        raise XtlError(f"{where}: expected an object with {key!r}, there is {shown(row)}")
    if key not in row:
        raise XtlError(f"{where}: no column {key!r} (found: {', '.join(map(str, row)) or 'nothing'})")
    return row[key]


def typed(row: Any, key: str, kind: type[T], where: str) -> T:
    """A field as one of the kinds in EXPECTED."""
    given = plain(value(row, key, where))
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError:
        part = _unlike(given, kind)
        within = "" if part is given else f"; it holds {shown(part)}"
        raise XtlError(f"{where}: {key!r} should be {EXPECTED[kind]}, it is {shown(given)}{within}") from None


def text(row: Any, key: str, where: str, *, strip: bool = True) -> str:
    """A text, without surrounding white space unless its characters are counted (contexts of answers)."""
    content = value(row, key, where)
    if not isinstance(content, str):
        content = typed(row, key, str, where)
    return whole(content.strip() if strip else content, key, where)


def texts(row: Any, key: str, where: str, *, strip: bool = True, count: int | None = None) -> list[str]:
    """A list of texts, of length `count` where one is given."""
    items = [whole(t.strip() if strip else t, key, where) for t in typed(row, key, list[str], where)]
    if count is not None and len(items) != count:
        raise XtlError(f"{where}: {len(items)} {key}, expected {count}")
    return items


def name(row: Any, key: str, where: str) -> str:
    """An id, which may be a number."""
    return str(typed(row, key, str | int, where)).strip()  # type: ignore[arg-type]


def integers(row: Any, key: str, where: str) -> list[int]:
    """A list of integers."""
    return typed(row, key, list[int], where)


def record(row: Any, key: str, where: str) -> dict[str, Any]:
    """An object."""
    return typed(row, key, dict[str, Any], where)


def records(row: Any, key: str, where: str) -> list[dict[str, Any]]:
    """A list of objects."""
    return typed(row, key, list[dict[str, Any]], where)


def label(row: Row, key: str, where: str, *, hidden: bool = False, words: Sequence[str] = ()) -> str | int | None:
    """A label as text or integer; None or "" where there is none. Integers may be written as text or as floats.

    hidden: the column may be missing (test sets). Even then a label column under another name is an error, not a set
    without labels: one named as label columns are, or one that holds one of `words`.
    """
    if key not in row and hidden:
        other = _label_column(row, words)
        if other is None:
            return None
        raise XtlError(f"{where}: no column {key!r}, but {other!r} ({row[other]!r:.40}): is that the label?")
    given = plain(value(row, key, where))
    if isinstance(given, bool):
        return int(given)
    if isinstance(given, str):
        given = given.strip()
        if INTEGRAL.fullmatch(given):
            given = given.partition(".")[0]
        return -1 if given == "-1" else given
    if given is None or isinstance(given, int):
        return given
    raise XtlError(f"{where}: {key!r} should be a label (text or an integer), it is {shown(given)}")


def _label_column(row: Row, words: Sequence[str]) -> str | None:
    spelled = {word for word in words if not word.isdigit()}
    for column, content in row.items():
        if str(column).strip().casefold() in LABEL_COLUMNS or (isinstance(content, str) and content.strip() in spelled):
            return column
    return None


def plain(given: Any) -> Any:
    """Bytes as text, NumPy values as Python's, whole floats as integers, NaN as None."""
    if isinstance(given, bytes):
        return given.decode("utf-8", "surrogateescape")
    if hasattr(given, "tolist"):
        given = given.tolist()
        return plain(given)
    if isinstance(given, float):
        return None if math.isnan(given) else int(given) if given.is_integer() else given
    if isinstance(given, list | tuple):
        return [plain(item) if not isinstance(item, str | int) else item for item in given]
    return given


def whole(content: str, key: str, where: str) -> str:
    """The text, unless it holds half of a surrogate pair (an emoji cut in two), which no tokenizer takes."""
    if not content.isascii():
        try:
            content.encode("utf-8")
        except UnicodeEncodeError as error:
            raise XtlError(
                f"{where}: {key!r} holds a character that is no Unicode text (half of a surrogate pair, or a byte that "
                f"is not UTF-8) at {error.start}"
            ) from None
    return content


def _unlike(given: Any, kind: Any) -> Any:
    """The first item of a list that makes it another kind; the value itself where that is no list."""
    if isinstance(given, list):
        for item in given:
            try:
                msgspec.convert([item], kind)
            except msgspec.ValidationError:
                return item
    return given


def shown(given: Any) -> str:
    """A value for a message: its kind in JSON's words, and its beginning."""
    if given is None:
        return "null"
    kinds = {str: "text", bool: "a truth value", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return f"{kinds.get(type(given), type(given).__name__)}: {given!r:.60}"
