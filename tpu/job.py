"""One run of a command on all workers of a request's slices: set up, start, look, fetch logs, stop."""

import hashlib
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from tpu import commands
from tpu.commands import Request
from tpu.shell import Result, Shell
from xtl.errors import XtlError

ROOT = Path(__file__).resolve().parent.parent
FOLDER = "xtl-run"  # below the home of every worker
_STATUS = re.compile(r"^xtl-job (\S+) (idle|other|running|lost|done|failed:\d+) ?(.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Status:
    """What the workers answered: host -> state. A worker that did not answer is not in it."""

    states: dict[str, str]
    hosts: int  # how many should have answered
    last_line: str = ""

    @property
    def reachable(self) -> bool:
        return len(self.states) >= self.hosts

    @property
    def done(self) -> bool:
        return self.reachable and all(state == "done" for state in self.states.values())

    @property
    def running(self) -> bool:
        """Whether the job is under way and none of its workers is known to have ended badly."""
        return "running" in self.states.values() and not self.failures

    @property
    def others(self) -> list[str]:
        """Hosts on which another command runs."""
        return [host for host, state in self.states.items() if state == "other"]

    @property
    def failures(self) -> list[str]:
        """`host: state` of the workers whose job ended badly."""
        bad = {host: state for host, state in self.states.items() if state.startswith(("failed", "lost"))}
        return [f"{host} {state}" for host, state in sorted(bad.items())]

    def __str__(self) -> str:
        counts = dict.fromkeys(sorted({state.split(":")[0] for state in self.states.values()}), 0)
        for state in self.states.values():
            counts[state.split(":")[0]] += 1
        summary = ", ".join(f"{count} {kind}" for kind, count in counts.items()) or "none answers"
        missing = self.hosts - len(self.states)
        summary += f", {missing} silent" if missing > 0 and self.states else ""
        return summary + (f" | {self.last_line}" if self.last_line else "")


@dataclass(frozen=True, kw_only=True)
class Job:
    """A command for every worker, with the code it needs: a wheel, or a git revision of this checkout."""

    request: Request
    shell: Shell
    logs: Path  # folder for the workers' logs
    command: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    revision: str = "HEAD"
    wheel: Path | None = None

    @property
    def id(self) -> str:
        """Tells this job from another one that runs, or ran, on the same workers."""
        return hashlib.sha256(repr((self.command, sorted(self.env.items()))).encode()).hexdigest()[:12]

    def _on_all(self, words: str, *, timeout_s: float = 600, output: Path | None = None, rehearsed: str = "") -> Result:
        """Run a shell command on every worker of every node; the first failure is the result."""
        out = []
        for node in self.request.nodes:
            call = commands.ssh(self.request, node, words, output=output / node if output else None)
            result = self.shell.run(call, timeout_s=timeout_s, rehearsed=rehearsed)
            out.append(result.out)
            if result.code:
                return Result(result.code, "\n".join(out), result.err)
        return Result(0, "\n".join(out))

    def set_up(self, *, attempts: int, pause_s: float) -> None:
        """Copy the code to every worker and install it; fresh VMs refuse ssh for a while, hence the attempts."""
        files = self._package(self.logs / "package")
        for attempt in range(1, attempts + 1):
            result = self._on_all(f"mkdir -p {FOLDER} && rm -f {FOLDER}/*.whl")
            for node in self.request.nodes if not result.code else []:
                result = self.shell.run(commands.scp(self.request, node, files, FOLDER))
                if result.code:
                    break
            if not result.code:
                result = self._on_all(f"bash {FOLDER}/worker.sh setup", timeout_s=1800)
            if not result.code:
                self.shell.say(f"set up {self.request.workers} workers")
                return
            self.shell.say(f"set-up, attempt {attempt} of {attempts}: {result.reason}")
            if attempt < attempts:
                self.shell.sleep(pause_s)
        raise XtlError(f"the workers of {self.request.name} could not be set up: {result.reason}")

    def _package(self, folder: Path) -> list[Path]:
        """The files that go to the workers: the script, the source (for a wheel: lock files and configs), the wheel."""
        source, worker = folder / "source.tar.gz", folder / "worker.sh"
        files = [source, worker, *([self.wheel] if self.wheel else [])]
        if self.wheel and not self.wheel.is_file():
            raise XtlError(f"no wheel at {self.wheel}; `make wheel` builds one in dist/")
        if self.shell.dry:
            return files
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "tpu" / "worker.sh", worker)
        only = ["configs", *sorted(path.name for path in ROOT.glob("requirements*.lock"))] if self.wheel else []
        archive = [
            "git",
            "-C",
            str(ROOT),
            "archive",
            "--format=tar.gz",
            "-o",
            str(source.resolve()),
            self.revision,
            *only,
        ]
        try:
            subprocess.run(archive, check=True, capture_output=True, text=True)
        except subprocess.CalledProcessError as error:
            raise XtlError(f"git revision {self.revision!r}: {error.stderr.strip().splitlines()[-1]}") from error
        changed = subprocess.run(["git", "-C", str(ROOT), "status", "--porcelain"], capture_output=True, text=True)
        if changed.stdout.strip() and not self.wheel:
            count = len(changed.stdout.splitlines())
            self.shell.say(f"note: {count} uncommitted changes stay behind; the workers get {self.revision}")
        return files

    def start(self) -> None:
        """Start the command in the background on every worker, all of them within JAX's time for joining."""
        env = [f"{key}={value}" for key, value in {**commands.WORKER_ENV, **self.env}.items()]
        words = shlex.join(["env", *env, "bash", f"{FOLDER}/worker.sh", "start", self.id, *self.command])
        result = self._on_all(words)
        if result.code:
            raise XtlError(f"the job could not be started on {self.request.name}: {result.reason}")
        self.shell.say(f"started on {self.request.workers} workers: {shlex.join(self.command)}")

    def status(self, *, whichever: bool = False) -> Status:
        """Ask every worker once how this job (or `whichever` runs there) stands; a silent one is not in the result."""
        words = f"bash {FOLDER}/worker.sh status" + ("" if whichever else f" {self.id}")
        rehearsed = "\n".join(
            f"xtl-job worker-{index} done" for index in range(self.request.workers // self.request.slices)
        )
        lines: list[tuple[str, str, str]] = []
        for node in self.request.nodes:
            call = commands.ssh(self.request, node, words)
            result = self.shell.run(call, timeout_s=120, rehearsed=rehearsed)
            lines += [(f"{node}/{host}", state, last) for host, state, last in _STATUS.findall(result.out)]
        last_line = next((last for *_, last in lines if last), "")
        return Status({host: state for host, state, _ in lines}, self.request.workers, last_line)

    def fetch_logs(self, label: str) -> Path:
        """Write every worker's log to LOGS/LABEL/NODE/WORKER.log; what cannot be reached is reported, not raised."""
        folder = self.logs / label
        if not self.shell.dry:
            for node in self.request.nodes:
                (folder / node).mkdir(parents=True, exist_ok=True)
        result = self._on_all(f"bash {FOLDER}/worker.sh log", output=folder, timeout_s=300)
        self.shell.say(f"logs in {folder}" if not result.code else f"logs not fetched: {result.reason}")
        return folder

    def stop(self, *, grace_s: float = 120) -> None:
        """Ask the job to save and leave; unreachable workers are no error, they are about to be deleted."""
        words = f"env XTL_STOP_SECONDS={grace_s:.0f} bash {FOLDER}/worker.sh stop"
        result = self._on_all(words, timeout_s=grace_s + 60)
        self.shell.say("job stopped" if not result.code else f"job not stopped: {result.reason}")
