"""Patience with the Hugging Face hub: what may pass is tried again, what will not is one line. No data stack needed."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from xtl.errors import Absent, Unreachable, XtlError

if TYPE_CHECKING:
    from tenacity import RetryCallState

ATTEMPTS = 5  # for what may pass: dropped connections, 429, 5xx, cut-off downloads
WAIT_S = 2.0  # before the second attempt; doubles with each further one
LONGEST_WAIT_S = 120.0  # whatever the server asks for

T = TypeVar("T")


class Offline(Absent, Unreachable):
    """Offline mode, and the local cache does not hold it."""


def patiently(action: Callable[[], T], *, what: str) -> T:
    """The result of a network action, tried again where that can help; otherwise an XtlError of one line.

    Tried again: dropped connections and time-outs, 429 (after the time the server asks for), 5xx, and downloads that
    ended early or do not match their checksum. Not tried again: 401, 403, 404, and offline mode. Raises Absent for
    what is not there, Offline for what offline mode lacks, Unreachable for a server that does not answer.
    """
    from tenacity import Retrying, retry_if_exception, stop_after_attempt

    retrying = Retrying(
        retry=retry_if_exception(_may_pass), stop=stop_after_attempt(ATTEMPTS), wait=_seconds_to_wait, reraise=True
    )
    try:
        return retrying(action)
    except Exception as error:
        explained = _explained(error, what, attempts=retrying.statistics["attempt_number"])
        if explained is None:
            raise
        raise explained from None


def _may_pass(error: BaseException) -> bool:
    if _is_missing(error):
        return False
    cause = _network_cause(error)
    if cause is None or _is_offline(cause):
        return False
    status = getattr(getattr(cause, "response", None), "status_code", None)
    return status is None or status >= 500 or status == 429


def _seconds_to_wait(state: "RetryCallState") -> float:
    """What the server asks for, but at least twice the wait before."""
    error = state.outcome.exception() if state.outcome else None
    cause = None if error is None else _network_cause(error)
    wait = WAIT_S * 2 ** (state.attempt_number - 1)
    return min(max(wait, 0.0 if cause is None else _asked_to_wait(cause)), LONGEST_WAIT_S)


def _explained(error: BaseException, what: str, *, attempts: int) -> XtlError | None:
    """The last error of an action in one line; None if it has nothing to do with the network."""
    from huggingface_hub import errors as hf

    if isinstance(error, hf.GatedRepoError):
        return XtlError(f"{what}: accept the terms on its page of the hub, and set HF_TOKEN to your token")
    if isinstance(error, hf.RemoteEntryNotFoundError):
        return Absent(f"{what}: not in the repository")
    if _is_missing(error):
        return Absent(f"{what}: not on the hub, or not open to you (HF_TOKEN)")
    cause = _network_cause(error)
    if cause is None:
        return None
    if _is_offline(cause):
        return Offline(f"{what}: the hub cannot be read: {first_line(cause)}")
    tries = f" ({attempts} attempts)" if _may_pass(error) else ""
    return Unreachable(f"{what}: the hub cannot be read{tries}: {first_line(cause)}")


def _is_missing(error: BaseException) -> bool:
    """Whether the hub has no such repository, revision or file, or does not show it."""
    from huggingface_hub import errors as hf

    kinds = (hf.RepositoryNotFoundError, hf.RevisionNotFoundError, hf.RemoteEntryNotFoundError)
    # The last is of `datasets`, which is not needed for a model, and so not imported here.
    return isinstance(error, kinds) or type(error).__name__ == "DatasetNotFoundError"


def _network_cause(error: BaseException) -> BaseException | None:
    """Among the error and its causes: offline mode, else the first that is about the network; None if none is."""
    import httpx2 as httpx
    from huggingface_hub import errors as hf

    chain: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in chain:
        chain.append(at)
        at = at.__cause__ or at.__context__
    kinds = (httpx.HTTPError, hf.HfHubHTTPError, ConnectionError, TimeoutError)
    offline = [e for e in chain if _is_offline(e)]
    network = [e for e in chain if isinstance(e, kinds) or "Consistency check failed" in str(e)]
    return next(iter(offline + network), None)


def _is_offline(error: BaseException) -> bool:
    """Two libraries have a class of this name, and `datasets` hands on only the name."""
    return "OfflineModeIsEnabled" in (type(error).__name__, *re.findall(r"\w+", str(error)))


def _asked_to_wait(error: BaseException) -> float:
    """Seconds of a Retry-After header; 0 without one."""
    headers = getattr(getattr(error, "response", None), "headers", {})
    try:
        return float(headers.get("Retry-After", 0))
    except ValueError:
        return 0.0


def first_line(error: BaseException) -> str:
    """What an error says first; the name of its class where it says nothing."""
    return (str(error) or type(error).__name__).strip().splitlines()[0]
