"""Errors meant for people: one line that names the thing and the mend."""

import difflib
from collections.abc import Iterable


class XtlError(Exception):
    """A mistake in the input or the set-up. The command line prints it as one line, without a traceback."""


class Unreachable(XtlError):
    """A server that does not answer, or a folder not given yet: what was asked for may well be right."""


class Absent(XtlError):
    """Something that is not there, and why; where several could serve, the next one is tried."""


def nearest(name: str, options: Iterable[str]) -> str:
    """` Did you mean 'x'?`, or the list of options when nothing is near; to be appended to an error message."""
    options = sorted(map(str, options))
    close = difflib.get_close_matches(str(name), options, n=1, cutoff=0.6)
    if close:
        return f" Did you mean {close[0]!r}?"
    return f" Known: {', '.join(options)}." if len(options) <= 60 else ""
