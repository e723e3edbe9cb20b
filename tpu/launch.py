"""Run xtl on Cloud TPU: ask for slices, set them up, run, keep the run alive, delete.

    python -m tpu.launch babysit NAME --type=v6e-16 --zone=ZONE -- \\
        xtl run --config=configs/phang2020.py --workdir=gs://BUCKET/runs/phang2020

does all of it: queues for a spot slice, waits, installs this checkout on every worker, starts the command, follows it,
asks for another slice after a preemption, and deletes everything at the end. The verbs create, wait, setup, run,
status, logs, stop and delete do one step each. `--dry-run` prints the exact gcloud commands. docs/tpu.md is the guide.
"""

import argparse
import sys
from pathlib import Path

from tpu import commands, manifests, slices
from tpu.babysit import Patience, ask, babysit, delete, queue_state, wait
from tpu.commands import CAPACITY, Request
from tpu.job import Job
from tpu.shell import Shell, Stopped
from xtl.errors import XtlError


def parser() -> argparse.ArgumentParser:
    """The command line; flags that only some verbs take are declared with them."""
    top = argparse.ArgumentParser(
        prog="python -m tpu.launch", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")

    place = argparse.ArgumentParser(add_help=False)
    place.add_argument("--zone", help="default: gcloud's own")
    place.add_argument("--project", help="default: gcloud's own")
    place.add_argument("--dry-run", action="store_true", help="print the gcloud commands; run nothing")

    named = argparse.ArgumentParser(add_help=False, parents=[place])
    named.add_argument("name", help="of the queued resource and its TPU VMs")
    named.add_argument("--type", help="slice: v6e-16, v5e-16, v6e:4x4, ... (the verb `slices` lists them)")
    named.add_argument("--slices", type=int, default=1, help="how many, joined over the data centre network")
    named.add_argument("--logs", type=Path, default=Path("logs"), help="folder for logs (default: logs/)")

    asked = argparse.ArgumentParser(add_help=False)
    asked.add_argument("--capacity", choices=CAPACITY, default="spot", help="default: spot")
    asked.add_argument("--runtime", help="TPU VM image; default: the one of the generation")
    asked.add_argument("--network")
    asked.add_argument("--subnetwork")
    asked.add_argument("--service-account", help="of the TPU VMs; it must be able to write to the work directory")
    asked.add_argument("--internal-ips", action="store_true", help="no external addresses (needs Cloud NAT for pip)")
    asked.add_argument("--valid-until", metavar="DURATION", help="leave the queue after so long, e.g. 6h")

    code = argparse.ArgumentParser(add_help=False)
    code.add_argument("--revision", default="HEAD", help="git revision of this checkout to install (default: HEAD)")
    code.add_argument("--wheel", type=Path, help="install this wheel instead; configs and lock files come along")

    what = argparse.ArgumentParser(add_help=False)
    what.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="for the command; repeatable")
    what.add_argument("command", nargs="+", metavar="-- COMMAND", help="run on every worker, in the source folder")

    waits = argparse.ArgumentParser(add_help=False)
    usual = Patience()
    waits.add_argument("--poll", type=float, default=usual.poll_s, metavar="SECONDS")
    waits.add_argument("--wait-hours", type=float, default=usual.wait_s / 3600, help="for capacity, each time")
    waits.add_argument("--total-hours", type=float, default=usual.total_s / 3600, help="for everything")
    waits.add_argument("--max-preemptions", type=int, default=usual.preemptions)
    waits.add_argument("--max-failures", type=int, default=usual.failures, help="of the job on a healthy slice")
    waits.add_argument("--max-refusals", type=int, default=usual.refusals, help="by quota or capacity, in a row")
    waits.add_argument(
        "--pause", type=float, default=usual.pause_s, metavar="SECONDS", help="first pause before a retry"
    )
    waits.add_argument("--grace", type=float, default=usual.grace_s, metavar="SECONDS", help="for a job to save")

    kept = argparse.ArgumentParser(add_help=False)
    kept.add_argument("--keep", action="store_true", help="do not delete at the end")

    elsewhere = argparse.ArgumentParser(add_help=False)
    elsewhere.add_argument("--capacity", choices=CAPACITY, default="spot", help="default: spot")
    elsewhere.add_argument("--image", help="container image, made with tpu/Dockerfile (jobset, xpk)")
    elsewhere.add_argument("--cluster", help="GKE cluster (xpk)")
    elsewhere.add_argument("--service-account", help="Kubernetes account that may write to the work directory (jobset)")
    elsewhere.add_argument("--max-restarts", type=int, default=50)

    for verb, about, parents in (
        (
            "babysit",
            "everything, until the command has exited 0 on every worker",
            [named, asked, code, waits, kept, what],
        ),
        ("create", "ask for the slices and return", [named, asked]),
        ("wait", "wait until they are there", [named, waits]),
        ("setup", "install the code on every worker", [named, code]),
        ("run", "start the command on every worker and return", [named, what]),
        ("status", "where the queue and the workers stand", [named]),
        ("logs", "fetch every worker's log", [named]),
        ("stop", "ask the command to save and leave", [named]),
        ("delete", "delete the slices", [named]),
        ("list", "what exists in the zone, and may be costing money", [place]),
        ("slices", "the table of slices", []),
        ("jobset", "print a JobSet manifest for GKE", [named, elsewhere, what]),
        ("xpk", "print the xpk command for GKE", [named, elsewhere, what]),
        ("skypilot", "print a SkyPilot task", [named, elsewhere, what]),
    ):
        verbs.add_parser(verb, help=about, description=about, parents=parents)
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
    kind = named.get("type")
    return Request(name=named.get("name", "-"), slice=slices.find(kind) if kind else None, **given)


def _patience(args: argparse.Namespace) -> Patience:
    if "poll" not in args:
        return Patience()
    named = vars(args)
    counts = {key: named[f"max_{key}"] for key in ("preemptions", "failures", "refusals")}
    hours = {"wait_s": args.wait_hours * 3600, "total_s": args.total_hours * 3600}
    return Patience(poll_s=args.poll, pause_s=args.pause, grace_s=args.grace, **hours, **counts)


def _manifest(args: argparse.Namespace) -> str:
    write = {"jobset": manifests.jobset, "xpk": manifests.xpk, "skypilot": manifests.skypilot}[args.verb]
    options = {"image": args.image, "cluster": args.cluster, "max_restarts": args.max_restarts}
    return write(_request(args), args.command, env=environment(args.env), **options)


def main(words: list[str] | None = None) -> int:
    """The command line; returns the exit status: 0 on full success, 1 on an error, 130 after an interruption."""
    args = parser().parse_args(words)
    try:
        if args.verb == "slices":
            print(slices.table())
        elif args.verb in ("jobset", "xpk", "skypilot"):
            print(_manifest(args), end="")
        else:
            _act(args)
    except XtlError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Stopped as signal:
        print(f"stopped by {signal}", file=sys.stderr)
        return 130
    return 0


def _act(args: argparse.Namespace) -> None:
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
            _do(args, job, patience)
        except XtlError as error:
            shell.note(f"error: {error}")
            raise


def _do(args: argparse.Namespace, job: Job, patience: Patience) -> None:
    request, shell = job.request, job.shell
    match args.verb:
        case "babysit":
            babysit(job, patience, keep=args.keep)
        case "create":
            ask(request, shell, patience)
            shell.say(f"it costs money from ACTIVE on, until: python -m tpu.launch delete {request.name}")
        case "wait":
            wait(request, shell, patience)
        case "setup":
            job.set_up(attempts=patience.attempts, pause_s=patience.pause_s / 4)
        case "run":
            job.start()
        case "status":
            state, reason = queue_state(request, shell, patience)
            shell.say(f"{request.name}: queue {state}" + (f" ({reason})" if reason else ""))
            if state == "ACTIVE":
                shell.say(f"{request.name}: {job.status(whichever=True)}")
        case "logs":
            job.fetch_logs("fetched")
        case "stop":
            job.stop(grace_s=patience.grace_s)
        case "delete":
            delete(request, shell, patience)
        case "list":
            for command in (commands.list_queues(request), commands.list_nodes(request)):
                result = shell.run(command)
                if result.code:
                    raise XtlError(result.reason)
                print(result.out, end="")


if __name__ == "__main__":
    sys.exit(main())
