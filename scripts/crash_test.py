"""Kill a run again and again and see that nothing shows: the results are those of an undisturbed run, byte for byte.

    python scripts/crash_test.py --config=configs/demo.py:mlm_steps=60,steps=20 --workdir=runs/crash --kills=20
    python scripts/crash_test.py --config=... --workdir=runs/crash --launches=4 --killed=2

The first form kills one launch (SIGKILL, its whole process group) at random moments and starts it again; the second
starts several launches on one WORKDIR and kills some of them. WORKDIR/straight holds the undisturbed run, which is done
once. Exit status 1 if a byte differs or a stage that nobody killed was trained twice.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def launch(config: list[str], workdir: Path, log: Path) -> subprocess.Popen:
    """`xtl run` in a process group of its own."""
    words = [sys.executable, "-m", "xtl", "run", *config, f"--workdir={workdir}"]
    with open(log, "a") as out:
        return subprocess.Popen(words, cwd=ROOT, stdout=out, stderr=out, start_new_session=True)


def kill(process: subprocess.Popen) -> None:
    """No last words."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def straight(config: list[str], folder: Path) -> float:
    """The undisturbed run; returns its seconds, kept on record when it was first done."""
    took = folder / "seconds.json"
    if not took.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        began = time.monotonic()
        if launch(config, folder, folder / "log.txt").wait():
            sys.exit(f"the undisturbed run failed: see {folder / 'log.txt'}")
        took.write_text(json.dumps(time.monotonic() - began))
    return float(json.loads(took.read_text()))


def killed_in_a_row(config: list[str], folder: Path, *, kills: int, seconds: float, chance: random.Random) -> int:
    """One launch, killed `kills` times at random moments, then left alone; returns how often it was killed."""
    folder.mkdir(parents=True)
    for n in range(kills):
        process, wait = launch(config, folder, folder / "log.txt"), chance.uniform(0.1, 2 * seconds / kills + 5)
        try:
            process.wait(timeout=wait)
        except subprocess.TimeoutExpired:
            kill(process)
            print(f"kill {n + 1} after {wait:.1f} s: {states(folder)}", flush=True)
        else:
            print(f"the run was over before kill {n + 1}")
            return n
    return kills if launch(config, folder, folder / "log.txt").wait() == 0 else -1


def side_by_side(
    config: list[str], folder: Path, *, launches: int, killed: int, seconds: float, chance: random.Random
) -> int:
    """Several launches on one folder, some of them killed; returns how many were, or -1 if another one failed."""
    folder.mkdir(parents=True)
    running = [launch(config, folder, folder / f"log{i}.txt") for i in range(launches)]
    count = 0
    for victim in chance.sample(running, killed):
        time.sleep(chance.uniform(0.2, 0.8) * seconds / max(killed, 1) / 2)
        if victim.poll() is None:
            kill(victim)
            count += 1
            print(f"killed launch {running.index(victim) + 1}: {states(folder)}", flush=True)
    others = [process.wait() for process in running if process.returncode != -signal.SIGKILL]
    return -1 if any(others) else count


def states(folder: Path) -> str:
    """`3 done, 1 running`."""
    counts: dict[str, int] = {}
    for path in (folder / "stages").glob("*/status.json"):
        state = json.loads(path.read_text())["state"]
        counts[state] = counts.get(state, 0) + 1
    return ", ".join(f"{n} {state}" for state, n in sorted(counts.items())) or "nothing yet"


def attempts(folder: Path) -> int:
    """How often a stage was begun beyond once, over all stages."""
    paths = (folder / "stages").glob("*/status.json")
    return sum(json.loads(path.read_text())["attempt"] - 1 for path in paths)


def differences(one: Path, other: Path) -> list[str]:
    """What of the results differs: results.csv, and every eval/*.json."""
    names = ["results.csv", *(str(p.relative_to(one)) for p in sorted(one.glob("stages/*/eval/*.json")))]
    return [n for n in names if not (other / n).exists() or (one / n).read_bytes() != (other / n).read_bytes()]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--launches", type=int, default=1)
    parser.add_argument("--killed", type=int, default=2, help="of several launches")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    args, config = parser.parse_known_args()
    folder, chance = args.workdir.resolve(), random.Random(args.seed)
    seconds = straight(config, folder / "straight")
    print(f"undisturbed: {seconds:.0f} s")
    disturbed = folder / f"disturbed-{args.seed}-{args.launches}"
    shutil.rmtree(disturbed, ignore_errors=True)
    if args.launches > 1:
        options = {"launches": args.launches, "killed": args.killed}
        kills = side_by_side(config, disturbed, **options, seconds=seconds, chance=chance)
    else:
        kills = killed_in_a_row(config, disturbed, kills=args.kills, seconds=seconds, chance=chance)
    wrong = differences(folder / "straight", disturbed)
    again = attempts(disturbed)
    print(f"{kills} kills, {again} stages taken up again, {states(disturbed)}")
    for name in wrong:
        print(f"differs: {name}")
    if kills < 0:
        print("a launch that nobody killed failed: see the logs")
    if again > max(kills, 0):
        print(f"{again - kills} stages were begun again for no reason")
    return 1 if wrong or kills < 0 or again > kills else 0


if __name__ == "__main__":
    sys.exit(main())
