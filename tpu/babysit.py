"""Keep a run alive on slices that may be taken away: ask, wait, set up, start, watch, ask again, and always delete.

The run itself resumes: the same command on a new slice goes on from the checkpoints in its work directory (`gs://...`).
So all that is kept here are counts, and a launcher that was killed can be started again with the same name.
"""

import contextlib
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from tpu import commands
from tpu.commands import Request
from tpu.job import Job
from tpu.shell import Shell, Stopped
from xtl.errors import XtlError

ENDED = ("SUSPENDING", "SUSPENDED", "FAILED", "DELETING")  # a queued resource in these is never used again
_QUOTA = re.compile(r"quota|RESOURCE_EXHAUSTED|no more capacity|stockout", re.IGNORECASE)
_PASSING = re.compile(r"UNAVAILABLE|INTERNAL|DEADLINE_EXCEEDED|ABORTED|no answer within|timed? ?out|HttpError 5", re.I)


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How often and how long; every wait of the babysitter has an end."""

    poll_s: float = 30
    wait_s: float = 24 * 3600  # for capacity, each time it is asked for
    total_s: float = 14 * 24 * 3600  # for everything
    preemptions: int = 50
    refusals: int = 5  # by quota or capacity, in a row
    failures: int = 2  # of the job on a healthy slice, beyond the first
    silences: int = 5  # polls in a row without an answer from every worker
    attempts: int = 5  # at set-up, at deletion, and at asking gcloud the same question
    pause_s: float = 60  # first pause before trying again; doubles up to 15 minutes
    grace_s: float = 120  # for a job to save and leave

    def pause(self, attempt: int) -> float:
        """Seconds before attempt number `attempt` (from 1) is repeated."""
        return min(self.pause_s * 2 ** (attempt - 1), 900)


class Outcome(Enum):
    DONE = "done"
    LOST = "lost"  # the slice is gone; ask for another
    FAILED = "failed"  # the job ended badly on a healthy slice


class Refused(XtlError):
    """Refused by quota or capacity; asking again later may help."""


class Leak(XtlError):
    """Something could not be deleted and goes on costing money."""


def queue_state(request: Request, shell: Shell, patience: Patience, *, rehearsed: str = "ACTIVE") -> tuple[str, str]:
    """(state, reason) of the queued resource; ("GONE", "") when there is none."""
    for attempt in range(1, patience.attempts + 1):
        answer = json.dumps({"state": {"state": rehearsed}})
        result = shell.run(commands.describe(request), timeout_s=120, rehearsed=answer)
        if not result.code:
            state = json.loads(result.out or "{}").get("state", {})
            reason = state.get("failedData", {}).get("error", {}).get("message", "")
            return state.get("state", "UNKNOWN"), reason
        if "NOT_FOUND" in result.err:
            return "GONE", ""
        if not _PASSING.search(result.err):
            raise XtlError(f"{request.name}: {result.reason}")
        shell.say(f"{request.name}: {result.reason}")
        shell.sleep(patience.pause(attempt))
    raise XtlError(f"{request.name}: no answer from gcloud in {patience.attempts} attempts: {result.reason}")


def ask(request: Request, shell: Shell, patience: Patience) -> None:
    """Create the queued resource; Refused when quota or capacity says no."""
    command = commands.create(request)
    kind = f"{request.slices} x {request.slice.accelerator_type}" if request.slice else "slices"
    for attempt in range(1, patience.attempts + 1):
        shell.say(f"asking for {kind} ({request.capacity}) as {request.name}")
        result = shell.run(command, timeout_s=600)
        if not result.code or "ALREADY_EXISTS" in result.err:
            return
        if _QUOTA.search(result.err):
            raise Refused(result.reason)
        if not _PASSING.search(result.err):
            raise XtlError(f"{request.name} was not created: {result.reason}")
        shell.say(f"{request.name}: {result.reason}")
        shell.sleep(patience.pause(attempt))
    raise XtlError(f"{request.name} was not created in {patience.attempts} attempts: {result.reason}")


def wait(request: Request, shell: Shell, patience: Patience) -> None:
    """Wait until the slices are there; Refused when the queue gives up, an error after `patience.wait_s`."""
    started, last_state = time.monotonic(), ""
    while True:
        state, reason = queue_state(request, shell, patience)
        waited = time.monotonic() - started
        if state != last_state:
            shell.say(f"{request.name}: {state}" + (f" after {waited / 60:.0f} min" if last_state else ""))
            last_state = state
        if state == "ACTIVE":
            return
        if state in (*ENDED, "GONE"):
            raise Refused(reason or f"the queued resource is {state}")
        if waited > patience.wait_s:
            raise XtlError(
                f"{request.name}: no capacity within {patience.wait_s / 3600:.1f} h; try another zone or type"
            )
        shell.sleep(patience.poll_s)


def delete(request: Request, shell: Shell, patience: Patience) -> None:
    """Delete queue and nodes, and look that they are gone; a Leak error names what is left and how to delete it."""
    undo = " ".join(commands.delete(request))
    problem = ""
    with shell.interrupts.hold(f"deleting {request.name} first, so that it stops costing money; by hand: {undo}"):
        for attempt in range(1, patience.attempts + 1):
            with contextlib.suppress(XtlError):
                if attempt > 1 or queue_state(request, shell, patience)[0] != "GONE":
                    shell.run(commands.delete(request), timeout_s=900)
                state, _ = queue_state(request, shell, patience, rehearsed="GONE")
                nodes = leftovers(request, shell) if state == "GONE" else request.nodes
                for node in nodes if state == "GONE" else []:
                    shell.say(f"{node} outlived its queue; deleting it")
                    shell.run(commands.delete_node(request, node), timeout_s=900)
                if state == "GONE" and not nodes:
                    shell.say(f"{request.name}: deleted")
                    return
                problem = f"queue {state}, nodes {', '.join(nodes) or 'none'}"
            shell.say(f"{request.name} is not deleted yet ({problem or 'gcloud does not answer'})")
            shell.sleep(patience.pause(attempt))
    raise Leak(f"{request.name} COULD NOT BE DELETED and may go on costing money ({problem}); run: {undo}")


def leftovers(request: Request, shell: Shell) -> list[str]:
    """The request's nodes that still exist."""
    result = shell.run(commands.list_nodes(request, names_only=True), timeout_s=120)
    if result.code:
        raise XtlError(result.reason)
    there = {line.strip().rpartition("/")[2] for line in result.out.splitlines()}
    return [node for node in request.nodes if node in there]


def watch(job: Job, patience: Patience, deadline: float) -> Outcome:
    """Poll the queue and the workers until the job is over or the slice is lost."""
    request, shell = job.request, job.shell
    silences, last_status = 0, ""
    while True:
        state, _ = queue_state(request, shell, patience)
        if state != "ACTIVE":
            shell.say(f"{request.name}: {state}; the slice was taken away")
            return Outcome.LOST
        status = job.status()
        if str(status) != last_status:
            last_status = str(status)
            shell.say(f"{request.name}: {last_status}")
        if status.done:
            return Outcome.DONE
        if status.failures:
            # A preempted slice often shows first as a job that fails; its queue follows within a minute or two.
            shell.sleep(min(patience.grace_s, 4 * patience.poll_s))
            if queue_state(request, shell, patience)[0] != "ACTIVE":
                shell.say(f"{request.name}: the job ended because the slice was taken away")
                return Outcome.LOST
            shell.say(f"{request.name}: {'; '.join(status.failures)}")
            return Outcome.FAILED
        silences = 0 if status.reachable else silences + 1
        if silences >= patience.silences:
            shell.say(f"{request.name}: workers silent {silences} times in a row; taken for lost")
            return Outcome.LOST
        if time.monotonic() > deadline:
            raise XtlError(f"{request.name}: not done within {patience.total_s / 3600:.0f} h in all")
        shell.sleep(patience.poll_s)


def babysit(job: Job, patience: Patience, *, keep: bool = False) -> None:
    """Run the job to its end over any number of slices; returns when every worker's command exited 0.

    Whatever happens, what was asked for is deleted at the end, unless `keep`. Start it inside `shell.interrupts`.
    """
    shell, request = job.shell, job.request
    commands.create(request)  # a request that cannot be written down fails here, before anything exists,
    _refuse_to_disturb(job, patience)  # and so do gcloud without a login, and a name that is in use
    deadline = time.monotonic() + patience.total_s
    with _cleaned_up(job, patience, keep=keep):
        attempt = preemptions = failures = refusals = 0
        while True:
            if time.monotonic() > deadline:
                raise XtlError(f"{request.name}: not done within {patience.total_s / 3600:.0f} h in all")
            try:
                was_active = _obtain(request, shell, patience)
                refusals = 0
            except Refused as refusal:
                refusals += 1
                shell.say(f"refused ({refusals} of {patience.refusals}): {refusal}")
                delete(request, shell, patience)
                if refusals >= patience.refusals:
                    raise XtlError(
                        f"{request.name} was refused {refusals} times: {refusal} (quota: IAM & Admin > Quotas in the "
                        "Cloud console; capacity: another zone, type, or --capacity)"
                    ) from refusal
                shell.sleep(patience.pause(refusals))
                continue
            attempt += 1
            outcome = _attempt(job, patience, deadline, was_active=was_active)
            if outcome is Outcome.DONE:
                job.fetch_logs(f"attempt-{attempt}")
                shell.say(f"{request.name}: done after {preemptions} preemptions and {failures} failures")
                return
            if outcome is Outcome.LOST:
                preemptions += 1
                if preemptions > patience.preemptions:
                    raise XtlError(f"{request.name}: lost its slice {preemptions} times; giving up")
                shell.say(f"preemption {preemptions} of at most {patience.preemptions}: asking for another slice")
                delete(request, shell, patience)
            else:
                failures += 1
                logs = job.fetch_logs(f"attempt-{attempt}")
                if failures > patience.failures:
                    raise XtlError(f"{request.name}: the job failed {failures} times on a healthy slice; see {logs}")
                shell.say(f"failure {failures} of at most {patience.failures}: starting again where the run left off")
                job.stop(grace_s=patience.grace_s)  # workers that still wait for the failed one
                shell.sleep(patience.pause(failures))


def _refuse_to_disturb(job: Job, patience: Patience) -> None:
    """An error while another job runs under the request's name: its slices must not be deleted at our end."""
    if queue_state(job.request, job.shell, patience, rehearsed="GONE")[0] == "ACTIVE" and (
        others := job.status().others
    ):
        raise XtlError(
            f"another job runs on {', '.join(others)}: take another name, or end it with "
            f"`python -m tpu.launch stop {job.request.name}`"
        )


def _obtain(request: Request, shell: Shell, patience: Patience) -> bool:
    """Have active slices; returns whether they were there already (an earlier launcher's, or after a failed job)."""
    state, _ = queue_state(request, shell, patience, rehearsed="GONE")
    if state in ENDED:
        shell.say(f"{request.name}: left over as {state}")
        delete(request, shell, patience)
        state = "GONE"
    if state == "GONE":
        ask(request, shell, patience)
    else:
        shell.say(f"{request.name}: there already, {state}; taking it up")
    wait(request, shell, patience)
    return state != "GONE"


def _attempt(job: Job, patience: Patience, deadline: float, *, was_active: bool) -> Outcome:
    """Set up, start and watch on active slices; on those that `was_active` before, a job that runs is only watched."""
    try:
        if not (was_active and job.status().running):
            job.set_up(attempts=patience.attempts, pause_s=patience.pause_s / 4)
            job.start()
    except XtlError:
        if queue_state(job.request, job.shell, patience)[0] == "ACTIVE":
            raise
        job.shell.say(f"{job.request.name}: the slice was taken away during set-up")
        return Outcome.LOST
    return watch(job, patience, deadline)


@contextlib.contextmanager
def _cleaned_up(job: Job, patience: Patience, *, keep: bool) -> Iterator[None]:
    """Delete at the end, whatever the end is; after Ctrl-C or a signal, first let the job save and fetch its logs."""
    request, shell = job.request, job.shell
    try:
        yield
    except Stopped as signal:
        shell.say(f"interrupted by {signal}")
        if not keep:
            with shell.interrupts.hold("letting the job save; deletion follows"), contextlib.suppress(XtlError):
                if queue_state(request, shell, patience)[0] == "ACTIVE":
                    job.stop(grace_s=patience.grace_s)
                    job.fetch_logs("interrupted")
        raise
    finally:
        with shell.interrupts.hold("cleaning up", last=True):
            if keep:
                shell.say(f"kept, and costing money until deleted: {' '.join(commands.delete(request))}")
            else:
                delete(request, shell, patience)
