"""Real processes that are the hosts of one run, on loopback: `start` starts them, this module is each one.

A host is `xtl run`, whose batches are written down on their way to the devices, and which may meet with a misfortune.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
DEVICES = 4  # in all, however many processes share them


def main(record: str, doom: str, pause: str, words: list[str]) -> int:
    """`xtl WORDS`, with every training batch in RECORD/<step>-<host>.npy and without the report.

    doom: "kill:5", "term:5" (signals to itself) or "fail:5" (an error) before that step. pause: seconds before a step.
    """
    import jax

    from xtl.cli import main as cli
    from xtl.cli.verbs import run
    from xtl.training import loop, session

    what, _, when = doom.partition(":")
    place, prefetched, now = loop.place, session.prefetched, [0]

    def met_by_fate(stream, *, start, **options):
        for step, item in enumerate(prefetched(stream, start=start, **options), start + 1):
            now[0] = step
            time.sleep(float(pause))
            if what and step == int(when):
                if what == "fail":
                    raise OSError("disk on fire")
                os.kill(os.getpid(), signal.SIGKILL if what == "kill" else signal.SIGTERM)
            yield item

    def recorded(batch, mesh):
        np.save(Path(record, f"{now[0]}-{jax.process_index()}.npy"), batch["ids_rt"])
        return place(batch, mesh)

    loop.place, session.prefetched = recorded, met_by_fate
    run.write_pages = lambda workdir: workdir.path
    return cli.main(words)


def start(
    count: int,
    words: list[str],
    *,
    record: Path,
    doom: dict[int, str] | None = None,
    pause: float = 0.0,
    late: float = 0.0,
    settings: dict[str, str] | None = None,
) -> list[subprocess.Popen]:
    """`count` hosts; doom: what happens to which host, as `main` takes it; late: seconds until the last one starts."""
    record.mkdir(parents=True, exist_ok=True)
    address = f"127.0.0.1:{free_port()}"
    hosts = []
    for host in range(count):
        variables = os.environ | {"JAX_NUM_CPU_DEVICES": str(DEVICES // count), "COLUMNS": "120", **(settings or {})}
        if count > 1:
            variables |= {"XTL_COORDINATOR": address, "XTL_PROCESSES": str(count), "XTL_PROCESS": str(host)}
        program = [sys.executable, "-m", "tests.support.hosts"]
        command = [*program, str(record), (doom or {}).get(host, ""), str(pause), *words]
        if late and host == count - 1:
            command = ["sh", "-c", f'sleep {late}; exec "$@"', "-", *command]
        with open(record / f"host{host}.log", "w") as log:
            hosts.append(subprocess.Popen(command, cwd=ROOT, env=variables, stdout=log, stderr=subprocess.STDOUT))
    return hosts


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def finish(hosts: list[subprocess.Popen], *, timeout: float = 200) -> list[int]:
    """The exit statuses, once all have ended; none is left behind."""
    try:
        return [host.wait(timeout=timeout) for host in hosts]
    finally:
        for host in hosts:
            host.kill()
            host.wait()


def printed(record: Path, host: int) -> str:
    """What a host printed."""
    return (record / f"host{host}.log").read_text()


def batches(record: Path, count: int) -> dict[int, np.ndarray]:
    """step -> ids of the global batch, put together from what each host supplied."""
    steps = sorted({int(path.name.partition("-")[0]) for path in record.glob("*.npy")})
    return {s: np.concatenate([np.load(record / f"{s}-{host}.npy") for host in range(count)]) for s in steps}


def stage_folder(workdir: Path) -> Path:
    (folder,) = (workdir / "stages").iterdir()
    return folder


def status(workdir: Path) -> dict:
    return json.loads((stage_folder(workdir) / "status.json").read_text())


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4], sys.argv[4:]))
