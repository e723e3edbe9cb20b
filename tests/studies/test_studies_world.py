"""Promises: what is planted in the synthetic languages comes out of the studies that are trained on them by default.

Each trains its encoder and all of its stages, about ten minutes: `pytest -m slow tests/studies/test_studies_world.py`.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from xtl.runs.workdir import Workdir
from xtl.studies import run

STUDIES = Path(__file__).resolve().parents[2] / "configs" / "studies"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


def headline(name, workdir, arg=""):
    words = ["run", f"--config={STUDIES / name}.py:source=world{arg}", f"--workdir={workdir}"]
    # One device and optimised code, as for a user; the other tests have eight devices and compile quickly.
    environment = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES")}
    subprocess.run([sys.executable, "-m", "xtl", *words], env=environment, check=True, cwd=STUDIES.parent.parent)
    return run.analyse(Workdir(workdir), name).headline


def test_the_gap_to_english_grows_with_the_distance_of_a_grammar(tmp_path):
    slope = headline("typology", tmp_path)[0]
    assert slope.n == 39 and slope.low > 0


def test_questions_in_several_languages_help_those_of_little_text_more_than_as_many_in_english(tmp_path):
    advantage = headline("multilingual", tmp_path)[0]
    assert advantage.n == 27 and advantage.low > 0


def test_spans_of_the_targets_domain_help_more_than_spans_of_another(tmp_path):
    _, similarity, _ = headline("domain", tmp_path, ",formats=span")
    assert similarity.n == 5 and similarity.low > 0
