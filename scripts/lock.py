"""Write the lock files: the exact versions that set-up installs, resolved by pip from pyproject.toml.

    python scripts/lock.py              keep every version that is already locked, add what is new
    python scripts/lock.py --upgrade    resolve everything anew

`requirements.lock` holds what xtl itself needs (and its build backend); `requirements-EXTRA.lock` holds what an extra
adds on top. Only names and versions are written, so any package index serves them. Made for Linux on x86-64 with
Python 3.11. The `cuda` extra is not locked: jax pins its own CUDA plugin, and NVIDIA's libraries follow from that.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = ("dev", "gcs", "parity", "tpu", "typology")


def normal(name: str) -> str:
    """The canonical spelling of a distribution name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read(path: Path) -> dict[str, str]:
    """Name -> version of a lock file, without the files it includes."""
    pins = (line.split("#")[0].strip().partition("==") for line in path.read_text().splitlines())
    return {name: version for name, equals, version in pins if equals}


def resolve(requirements: list[str], keep: dict[str, str]) -> dict[str, str]:
    """Name -> version of everything pip would install for `requirements`, holding to the versions in `keep`."""
    with tempfile.TemporaryDirectory() as folder:
        constraints, report = Path(folder, "keep.txt"), Path(folder, "report.json")
        constraints.write_text("".join(f"{name}=={version}\n" for name, version in keep.items()))
        command = [sys.executable, "-m", "pip", "install", "-q", "--dry-run", "--ignore-installed"]
        subprocess.run([*command, "-c", constraints, "--report", report, *requirements], check=True)
        packages = [item["metadata"] for item in json.loads(report.read_text())["install"]]
    # "+cpu" and the like name one index's build of a version; the version itself is what is locked.
    return {normal(item["name"]): item["version"].partition("+")[0] for item in packages}


def write(path: Path, pins: dict[str, str], *, base: str | None) -> None:
    """Write `pins` sorted by name, after a line that includes the lock file `base`."""
    head = ["# Written by scripts/lock.py from pyproject.toml; do not edit."] + ([f"-r {base}"] if base else [])
    path.write_text("\n".join([*head, *(f"{name}=={version}" for name, version in sorted(pins.items()))]) + "\n")
    print(f"{path.name}: {len(pins)} packages")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--upgrade", action="store_true", help="forget the versions that are locked now")
    parser.add_argument("--keep", type=Path, help="also hold to the versions in this file (the output of pip freeze)")
    args = parser.parse_args()

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lock = ROOT / "requirements.lock"
    locks = {extra: ROOT / f"requirements-{extra}.lock" for extra in EXTRAS}
    keep: dict[str, str] = {}
    for path in [] if args.upgrade else [lock, *locks.values()]:
        keep |= read(path) if path.exists() else {}
    keep |= read(args.keep) if args.keep else {}

    needed = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    core = resolve(needed, keep)
    write(lock, core, base=None)
    for extra, path in locks.items():
        pins = resolve([*needed, *project["project"]["optional-dependencies"][extra]], keep | core)
        write(path, {name: version for name, version in pins.items() if name not in core}, base=lock.name)


if __name__ == "__main__":
    main()
