"""What a fresh clone relies on: complete lock files, a wheel with its data, an import that costs nothing."""

import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import xtl

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = sorted(ROOT.glob("requirements*.lock"))


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(path: Path) -> dict[str, str]:
    lines = (line for line in path.read_text().splitlines() if "==" in line)
    return dict(line.split("==") for line in lines)


def tracked(*paths: str) -> list[str]:
    listed = subprocess.run(["git", "ls-files", *paths], cwd=ROOT, capture_output=True, text=True, check=True)
    return listed.stdout.splitlines()


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)
def test_a_lock_file_holds_exact_versions_and_names_no_place(path):
    for line in path.read_text().splitlines():
        assert re.fullmatch(r"#.*|-r requirements\.lock|[a-z0-9-]+==[\w.]+", line), line


def test_every_requirement_of_the_project_is_locked_within_its_range():
    core = pins(ROOT / "requirements.lock")
    extras = PROJECT["project"]["optional-dependencies"]
    wanted = {"": PROJECT["project"]["dependencies"] + PROJECT["build-system"]["requires"]}
    wanted |= {extra: requirements for extra, requirements in extras.items() if extra != "cuda"}
    for extra, requirements in wanted.items():
        locked = core | (pins(ROOT / f"requirements-{extra}.lock") if extra else {})
        for requirement in map(Requirement, requirements):
            version = locked.get(normal(requirement.name))
            assert version and requirement.specifier.contains(version), f"{requirement}: locked {version}"


@pytest.mark.parametrize("extra", ["", "dev"])
def test_the_lock_files_are_complete(extra):
    locked = pins(ROOT / "requirements.lock") | (pins(ROOT / f"requirements-{extra}.lock") if extra else {})
    for name, version in locked.items():
        distribution = importlib.metadata.distribution(name)
        assert distribution.version == version, f"{name}: {version} is locked, {distribution.version} installed"
        for requirement in map(Requirement, distribution.requires or []):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                assert normal(requirement.name) in locked, f"{name} needs {requirement}: run `make lock`"


def test_neither_tensorflow_nor_pytorch_is_a_dependency():
    locked = pins(ROOT / "requirements.lock").keys() | pins(ROOT / "requirements-dev.lock").keys()
    assert not locked & {"tensorflow", "tensorflow-cpu", "tf-nightly", "torch"}


def test_importing_xtl_starts_no_jax_and_takes_no_time():
    code = "import time; t = time.perf_counter(); import xtl, sys; print(time.perf_counter() - t, 'jax' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    seconds, has_jax = out.split()
    assert has_jax == "False" and float(seconds) < 1


def test_the_wheel_holds_every_tracked_file_of_the_package(tmp_path):
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path, ROOT]
    subprocess.run(
        [str(word) for word in command], check=True, capture_output=True, env={**os.environ, "PIP_NO_INDEX": "1"}
    )
    (wheel,) = tmp_path.glob(f"xtl-{xtl.__version__}-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    missing = {name for name in tracked("xtl") if (ROOT / name).exists()} - inside
    assert not missing
    assert any(name.endswith("entry_points.txt") for name in inside)


def test_the_citation_names_this_version():
    assert f"\nversion: {xtl.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_the_licence_is_apache_2():
    assert "Apache License" in (ROOT / "LICENSE").read_text() and PROJECT["project"]["license"] == "Apache-2.0"


def test_ci_is_executable_and_every_make_target_that_is_named_exists():
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    named = re.findall(r"^tier ([a-z-]+)$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    for text in ("README.md", "BUILD.md", "docs/tpu.md"):
        named += re.findall(r"`make ([a-z-]+)", (ROOT / text).read_text())
        named += re.findall(r"^make ([a-z-]+)", (ROOT / text).read_text(), re.MULTILINE)
    assert named and set(named) <= targets


def test_no_tracked_file_names_a_place_on_someones_machine():
    place = re.compile(r"(?<![\w.])/(work|root|farm|home/[a-z]+)/")
    for name in tracked():
        path = ROOT / name
        if path.exists() and path.suffix in {
            ".py",
            ".md",
            ".toml",
            ".cfg",
            ".lock",
            ".yaml",
            ".yml",
            ".sh",
            ".cff",
            "",
        }:
            match = place.search(path.read_text(errors="replace"))
            assert not match, f"{name}: {match.group()}"
