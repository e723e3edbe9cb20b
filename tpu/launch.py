"""Run xtl on Cloud TPU: ask for slices, set them up, run, keep the run alive, delete.

    python -m tpu.launch babysit NAME --type=v6e-16 --zone=ZONE -- \\
        xtl run --config=configs/paper.py --workdir=gs://BUCKET/runs/paper

does all of it: queues for a spot slice, waits, installs this checkout on every worker, starts the command, follows it,
asks for another slice after a preemption, and deletes everything at the end. The verbs create, wait, setup, run,
status, logs, stop and delete do one step each. `--dry-run` prints the exact gcloud commands. docs/tpu.md is the guide.
"""

import argparse
import dataclasses
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tpu import commands, manifests
from tpu.babysit import Patience, ask, babysit, delete, queue_state, wait
from tpu.commands import CAPACITY, Request
from tpu.job import Job
from tpu.shell import Shell, Stopped
from xtl.errors import XtlError
from xtl.parallel.chips import GIB, SLICES, rented

# ---------------------------------------------------------------- flags, in groups that verbs share


def _place(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--zone", help="default: gcloud's own")
    parser.add_argument("--project", help="default: gcloud's own")
    parser.add_argument("--dry-run", action="store_true", help="print the gcloud commands; run nothing")


def _named(parser: argparse.ArgumentParser) -> None:
    _place(parser)
    parser.add_argument("name", help="of the queued resource and its TPU VMs")
    parser.add_argument("--type", help="slice: v6e-16, v5e-16, v6e:4x4, ... (the verb `slices` lists them)")
    parser.add_argument("--slices", type=int, default=1, help="how many, joined over the data centre network")
    parser.add_argument("--logs", type=Path, default=Path("logs"), help="folder for logs (default: logs/)")


def _asked(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--capacity", choices=CAPACITY, default="spot", help="default: spot")
    parser.add_argument("--runtime", help="TPU VM image; default: the one of the generation")
    parser.add_argument("--network")
    parser.add_argument("--subnetwork")
    parser.add_argument("--service-account", help="of the TPU VMs; it must be able to write to the work directory")
    parser.add_argument("--internal-ips", action="store_true", help="no external addresses (needs Cloud NAT for pip)")
    parser.add_argument("--valid-until", metavar="DURATION", help="leave the queue after so long, e.g. 6h")


def _code(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--revision", default="HEAD", help="git revision of this checkout to install (default: HEAD)")
    parser.add_argument("--wheel", type=Path, help="install this wheel instead; configs and lock files come along")


def _what(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="for the command; repeatable")
    parser.add_argument("command", nargs="+", metavar="-- COMMAND", help="run on every worker, in the source folder")


def _waits(parser: argparse.ArgumentParser) -> None:
    usual = Patience()
    parser.add_argument("--poll", type=float, default=usual.poll_s, metavar="SECONDS")
    parser.add_argument("--wait-hours", type=float, default=usual.wait_s / 3600, help="for capacity, each time")
    parser.add_argument("--total-hours", type=float, default=usual.total_s / 3600, help="for everything")
    parser.add_argument("--max-preemptions", type=int, default=usual.preemptions)
    parser.add_argument("--max-failures", type=int, default=usual.failures, help="of the job on a healthy slice")
    parser.add_argument("--max-refusals", type=int, default=usual.refusals, help="by quota or capacity, in a row")
    parser.add_argument(
        "--pause", type=float, default=usual.pause_s, metavar="SECONDS", help="first pause before a retry"
    )
    parser.add_argument("--grace", type=float, default=usual.grace_s, metavar="SECONDS", help="for a job to save")


def _kept(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--keep", action="store_true", help="do not delete at the end")


def _elsewhere(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--capacity", choices=CAPACITY, default="spot", help="default: spot")
    parser.add_argument("--image", help="container image, built with tpu/Dockerfile (jobset, xpk)")
    parser.add_argument("--cluster", help="GKE cluster (xpk)")
    parser.add_argument("--service-account", help="Kubernetes account that may write to the work directory (jobset)")
    parser.add_argument("--max-restarts", type=int, default=50)


# ---------------------------------------------------------------- what verbs do


def _babysit(args: argparse.Namespace, job: Job, patience: Patience) -> None:
    babysit(job, patience, keep=args.keep)


def _create(args: argparse.Namespace, job: Job, patience: Patience) -> None:
    ask(job.request, job.shell, patience)
    job.shell.say(f"it costs money from ACTIVE on, until: python -m tpu.launch delete {job.request.name}")


def _wait(args: argparse.Namespace, job: Job, patience: Patience) -> None:
    wait(job.request, job.shell, patience)


def _setup(args: argparse.Namespace, job: Job, patience: Patience) -> None:
    job.set_up(attempts=patience.attempts, pause_s=patience.pause_s / 4)


def _run(args: argparse.Namespace, job: Job, patience: Patience) -> None:
    job.start()


def _status(args: argparse.Namespace, job: Job, patience: Patience) -> None:
    name = job.request.name
    state, reason = queue_state(job.request, job.shell, patience)
    job.shell.say(f"{name}: queue {state}" + (f" ({reason})" if reason else ""))
    if state == "ACTIVE":
        job.shell.say(f"{name}: {job.status(whichever=True)}")


def _logs(args: argparse.Namespace, job: Job, patience: Patience) -> None:
    job.fetch_logs("fetched")


def _stop(args: argparse.Namespace, job: Job, patience: Patience) -> None:
    job.stop(grace_s=patience.grace_s)


def _delete(args: argparse.Namespace, job: Job, patience: Patience) -> None:
    delete(job.request, job.shell, patience)


def _list(args: argparse.Namespace, job: Job, patience: Patience) -> None:
    for command in (commands.list_queues(job.request), commands.list_nodes(job.request)):
        result = job.shell.run(command)
        if result.code:
            raise XtlError(result.reason)
        print(result.out, end="")


def slice_table() -> str:
    """All slices as text, one line per slice."""
    head = "type            topology  chips  hosts  HBM GiB  peak TFLOP/s  runtime version"
    lines = [
        f"{one.accelerator_type:<14}  {one.shape:<8}  {one.chips:5}  {one.hosts_per_slice:5}  "
        f"{one.chips * one.chip.chip_hbm / GIB:7.0f}  {one.chips * one.chip.chip_peak / 1e12:12,.0f}  "
        f"{one.chip.runtime or 'GKE only'}"
        for one in SLICES
    ]
    return "\n".join([head, *lines])


# ---------------------------------------------------------------- the command line

Flags = Callable[[argparse.ArgumentParser], None]
Action = Callable[[argparse.Namespace, Job, Patience], None]


@dataclass(frozen=True)
class Verb:
    """What help says of a verb, its groups of flags, and what it does; no action: it only prints."""

    about: str
    flags: tuple[Flags, ...] = ()
    action: Action | None = None


VERBS = {
    "babysit": Verb(
        "everything, until the command has exited 0 on every worker",
        (_named, _asked, _code, _waits, _kept, _what),
        _babysit,
    ),
    "create": Verb("ask for the slices and return", (_named, _asked), _create),
    "wait": Verb("wait until they are there", (_named, _waits), _wait),
    "setup": Verb("install the code on every worker", (_named, _code), _setup),
    "run": Verb("start the command on every worker and return", (_named, _what), _run),
    "status": Verb("where the queue and the workers stand", (_named,), _status),
    "logs": Verb("fetch every worker's log", (_named,), _logs),
    "stop": Verb("ask the command to save and leave", (_named,), _stop),
    "delete": Verb("delete the slices", (_named,), _delete),
    "list": Verb("what exists in the zone, and may be costing money", (_place,), _list),
    "slices": Verb("the table of slices"),
    "jobset": Verb("print a JobSet manifest for GKE", (_named, _elsewhere, _what)),
    "xpk": Verb("print the xpk command for GKE", (_named, _elsewhere, _what)),
    "skypilot": Verb("print a SkyPilot task", (_named, _elsewhere, _what)),
}
MANIFESTS = {"jobset": manifests.jobset, "xpk": manifests.xpk, "skypilot": manifests.skypilot}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="python -m tpu.launch", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, verb in VERBS.items():
        one = verbs.add_parser(name, help=verb.about, description=verb.about)
        for add in verb.flags:
            add(one)
    return top


def environment(pairs: list[str]) -> dict[str, str]:
    """NAME=VALUE words as a dict."""
    for pair in pairs:
        if "=" not in pair:
            raise XtlError(f"--env={pair}: write NAME=VALUE")
    return dict(pair.split("=", 1) for pair in pairs)


def _request(args: argparse.Namespace) -> Request:
    named = vars(args)
    wanted = (*("zone", "project", "slices", "capacity", "runtime", "network", "subnetwork"), "service_account")
    given = {key: named[key] for key in (*wanted, "internal_ips", "valid_until") if key in named}
    slices = rented(named["type"]) if named.get("type") else None
    if slices and slices.slices > 1:
        if args.slices > 1:
            raise XtlError(f"--type={args.type} --slices={args.slices}: say once how many slices")
        given["slices"], slices = slices.slices, dataclasses.replace(slices, slices=1)
    return Request(name=named.get("name", "-"), slice=slices, **given)


def _patience(args: argparse.Namespace) -> Patience:
    if "poll" not in args:
        return Patience()
    named = vars(args)
    counts = {key: named[f"max_{key}"] for key in ("preemptions", "failures", "refusals")}
    hours = {"wait_s": args.wait_hours * 3600, "total_s": args.total_hours * 3600}
    return Patience(poll_s=args.poll, pause_s=args.pause, grace_s=args.grace, **hours, **counts)


def _manifest(args: argparse.Namespace) -> str:
    options = {"image": args.image, "cluster": args.cluster, "max_restarts": args.max_restarts}
    return MANIFESTS[args.verb](_request(args), args.command, env=environment(args.env), **options)


def main(words: list[str] | None = None) -> int:
    """The command line; returns the exit status: 0 on full success, 1 on an error, 130 after an interruption."""
    args = parser().parse_args(words)
    action = VERBS[args.verb].action
    try:
        if action:
            _act(args, action)
        else:
            print(_manifest(args) if args.verb in MANIFESTS else slice_table() + "\n", end="")
    except XtlError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Stopped as signal:
        print(f"stopped by {signal}", file=sys.stderr)
        return 130
    return 0


def _act(args: argparse.Namespace, action: Action) -> None:
    request, patience = _request(args), _patience(args)
    logs = getattr(args, "logs", Path("logs")) / request.name
    shell = Shell(dry=args.dry_run, log=None if args.verb == "list" else logs / "launch.log")
    job = Job(
        request=request,
        shell=shell,
        logs=logs,
        command=getattr(args, "command", []),
        env=environment(getattr(args, "env", [])),
        revision=getattr(args, "revision", "HEAD"),
        wheel=getattr(args, "wheel", None),
    )
    with shell.interrupts:
        try:
            action(args, job, patience)
        except XtlError as error:
            shell.note(f"error: {error}")
            raise


if __name__ == "__main__":
    sys.exit(main())
