"""Patience with the Hugging Face hub: what may pass is tried again, what will not is one line. No data stack needed."""

import re
import time
from collections.abc import Callable
from typing import TypeVar

from xtl.errors import Absent, Unreachable, XtlError

ATTEMPTS = 5  # for what may pass: dropped connections, 429, 5xx, cut-off downloads
WAIT_S = 2.0  # before the second attempt; doubles with each further one

T = TypeVar("T")


class Offline(Absent, Unreachable):
    """Offline mode, and the local cache does not hold it."""


def patiently(action: Callable[[], T], *, what: str) -> T:
    """The result of a network action, tried again where that can help; otherwise an XtlError of one line.

    Tried again: dropped connections and time-outs, 429 (after the time the server asks for), 5xx, and downloads that
    ended early or do not match their checksum. Not tried again: 401, 403, 404, and offline mode. Raises Absent for
    what is not there, Offline for what offline mode lacks, Unreachable for a server that does not answer.
    """
    from huggingface_hub import errors as hf

    for attempt in range(1, ATTEMPTS + 1):
        wait = WAIT_S * 2 ** (attempt - 1)
        try:
            return action()
        except hf.GatedRepoError:
            raise XtlError(f"{what}: accept the terms on its page of the hub, and set HF_TOKEN to your token") from None
        except (hf.RepositoryNotFoundError, hf.RevisionNotFoundError):
            raise Absent(f"{what}: not on the hub, or not open to you (HF_TOKEN)") from None
        except hf.RemoteEntryNotFoundError:
            raise Absent(f"{what}: not in the repository") from None
        except Exception as error:
            if type(error).__name__ == "DatasetNotFoundError":  # of `datasets`, which is not needed for a model
                raise Absent(f"{what}: not on the hub, or not open to you (HF_TOKEN)") from None
            cause = _network_cause(error)
            if cause is None:
                raise
            if _is_offline(cause):
                raise Offline(f"{what}: the hub cannot be read: {first_line(cause)}") from None
            status = getattr(getattr(cause, "response", None), "status_code", None)
            final = status is not None and status < 500 and status != 429
            if final or attempt == ATTEMPTS:
                tries = "" if final else f" ({attempt} attempts)"
                raise Unreachable(f"{what}: the hub cannot be read{tries}: {first_line(cause)}") from None
            wait = max(wait, _asked_to_wait(cause))
        time.sleep(min(wait, 120.0))
    raise AssertionError


def _network_cause(error: BaseException) -> BaseException | None:
    """Of the error and its causes: offline mode, else the first that is about the network; None if none is."""
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
    return (str(error) or type(error).__name__).strip().splitlines()[0]
