"""Studies end to end without training: configs counted by hand, made-up results, analyses, pages."""

import hashlib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from xtl import config, files
from xtl.cli import main as cli
from xtl.cli.verbs.report import write_pages
from xtl.config.resolution import resolve
from xtl.config.schema import as_dict
from xtl.data import sources
from xtl.data.settings import Data
from xtl.errors import XtlError
from xtl.runs.pipeline import Graph
from xtl.runs.workdir import Workdir
from xtl.studies import designs, divergence, finished, pages, predictors, record, run
from xtl.tasks import get_task
from xtl.world import distance

STUDIES = Path(__file__).resolve().parents[2] / "configs" / "studies"
NAMES = ("typology", "multilingual", "divergence", "morphology", "domain")


def load(name, arg=""):
    return config.load_config(f"{STUDIES / name}.py:{arg}")


def noise(*address):
    """-1 to 1, from the address alone."""
    return int(hashlib.sha256(repr(address).encode()).hexdigest()[:8], 16) / 2**31 - 1


def fake_run(path, program, *, lose=()):
    """A WORKDIR in which every stage of a config is done, with made-up scores: worse with distance, noisy by seed.

    lose: stages left pending.
    """
    graph, workdir = Graph(resolve(program)), Workdir(path)
    record.record(workdir, graph.name, program)
    for unit in graph.units.values():
        if set(unit.names) & set(lose):
            continue
        stage, folder = unit.stage, workdir.folder(unit.fingerprint, unit.name)
        workdir.write_config(folder, as_dict(stage))
        for task, entry in stage.evaluate.items():
            metric, scores = get_task(task).metric, {}
            for code in entry.languages:
                far = distance(code, stage.data.world) if stage.data.source == "world" else 0.3
                helped = 0 if stage.intermediate == "none" else 2 + noise(stage.intermediate, task)
                value = 70 + helped - (20 - helped) * far + 3 * noise(code, task) + noise(unit.name, code, task)
                scores[code] = {metric: value, "anchor_free_accuracy": value - 5, "n": 100}
            evaluation = {"task": task, "split": entry.split, "metric": metric, "languages": scores, "average": 50.0}
            files.write_json(folder / "eval" / f"{task}.json", evaluation)
        workdir.write_status(folder, {"state": "done", "fingerprint": unit.fingerprint})
    workdir.write_plan(graph.name, graph.entries())
    return workdir


# ---------------------------------------------------------------- configs


@pytest.mark.parametrize(
    ("name", "arg", "stages"),
    [
        # 4 intermediate; 5 rows of xnli pawsx udpos panx xquad+mlqa tydiqa bucc2018 tatoeba; 3 seeds
        ("typology", "", 3 * (4 + 5 * 8)),
        # 9 intermediate, 10 rows
        ("divergence", "", 3 * (9 + 10 * 8)),
        # 6 intermediate; 7 rows of xnli udpos panx mlqa tatoeba and xcopa in two stages
        ("multilingual", "", 3 * (6 + 7 * 7)),
        # 15 languages; 16 rows of one retrieval stage
        ("morphology", "", 3 * (15 + 16)),
        # 2 domains x (5 sizes of pairs, 5 of choices, 3 of spans); 27 rows of pawsx tydiqa udpos panx and xcopa in two
        # stages; 5 seeds
        ("domain", "", 5 * (26 + 27 * 6)),
        ("domain", "formats=pair,targets=pawsx+udpos+panx+tydiqa", 5 * (10 + 11 * 4)),
        ("domain", "formats=choice+span,seeds=0", 16 + 17 * 6),
        # MLM, 4 intermediate, 5 rows of 4 targets
        ("typology", "source=world,seeds=0", 1 + 4 + 5 * 4),
        # MLM, 2 formats x 2 domains x 5 sizes, 21 rows of 2 targets
        ("domain", "source=world,seeds=0+1", 1 + 2 * (20 + 21 * 2)),
        ("domain", "source=world,seeds=0+1,formats=span", 1 + 2 * (10 + 11 * 2)),
    ],
)
def test_stages_of_the_configs_counted_by_hand(name, arg, stages):
    assert len(Graph(resolve(load(name, arg), look=False)).stages) == stages


def test_stages_are_shared_only_where_they_are_equal():
    typology = Graph(resolve(load("typology"), look=False))
    assert len(typology.units) == len(typology.stages) - 2 * 2  # the baseline's retrieval needs no second seed
    divergence_ = Graph(resolve(load("divergence"), look=False))
    assert set(typology.units) <= set(divergence_.units)
    domain = Graph(resolve(load("domain"), look=False))
    assert len(domain.units) == len(domain.stages)  # genres are options of the data, not of the stage


def test_plan_of_every_study_works_without_any_data(tmp_path, capsys):
    for name in NAMES:
        out = tmp_path / f"{name}.json"
        words = [f"--config={STUDIES / name}.py", f"--workdir={tmp_path}", "--nolook", "--topology=v5e:4x4"]
        assert cli.main(["plan", *words, f"--json={out}"]) == 0
        assert files.read_json(out)["chip_hours"] > 0
    assert "chip-hours" in capsys.readouterr().out


def test_conditions_of_equal_size_have_equal_examples_and_steps():
    stages = Graph(resolve(load("multilingual"), look=False)).stages
    total = lambda name: next((e.limit * len(e.languages) for e in stages[name].tasks.values()), 0)
    assert total("squad_translated") == total("squad_matched") == 13_104
    assert total("tydiqa_all") == total("tydiqa_english")
    distinct = stages["squad_distinct"]
    assert distinct.tasks["squad_v1"].limit == stages["squad_translated"].tasks["squad_v1"].limit
    assert distinct.tasks["squad_v1"].limit * distinct.train.epochs == 13_104 * stages["squad_matched"].train.epochs


@pytest.mark.parametrize("arg", ["", "source=world"])
def test_domains_of_a_format_differ_in_nothing_but_their_data(arg):
    program = load("domain", arg)
    stages, cells = resolve(program, look=False).stages, program.study.to_dict()["cells"]
    for form in {cell["format"] for cell in cells.values()}:
        mine = {name: cell for name, cell in cells.items() if cell["format"] == form}
        sizes = {d: sorted(c["size"] for c in mine.values() if c["domain"] == d) for d in ("general", "special")}
        assert sizes["general"] == sizes["special"]
        assert len(sizes["general"]) == (3 if (form, arg) == ("span", "") else 5)
        trained = {}
        for name, cell in mine.items():
            ((task, entry),) = stages[name].tasks.items()
            assert entry.limit == cell["size"] and stages[name].select.every == 0
            assert arg or cell["size"] <= get_task(task).sizes["train"]
            alike = trained.setdefault(cell["size"], (get_task(task).family, entry, stages[name].train))
            assert alike == (get_task(task).family, entry, stages[name].train)


def test_every_set_of_the_domain_study_is_on_the_hub_as_it_is_asked_for():
    """UDPOS and the genres of MNLI are there with their options only."""
    for stage in resolve(load("domain"), look=False).stages.values():
        asked = [(task, "train", entry) for task, entry in stage.tasks.items()]
        asked += [(task, entry.split, entry) for task, entry in stage.evaluate.items()]
        for task, split, entry in asked:
            options = stage.data.options.get(task, {})
            assert all(get_task(task).hub.has(x, split, options) for x in entry.languages), (stage.name, task)


def test_a_format_that_a_source_lacks_is_an_error():
    with pytest.raises(XtlError, match=r"no format 'choice'.*Known: pair, span"):
        load("domain", "source=world,formats=choice")
    with pytest.raises(XtlError, match=r"Did you mean 'span'"):
        load("domain", "formats=spans")


@pytest.mark.parametrize("target", ["xquad", "lareqa", "tydiqa"])
def test_targets_that_share_items_or_languages_with_the_training_data_are_refused(target):
    with pytest.raises(XtlError, match=rf"{target}.*leave") as caught:
        load("multilingual", f"targets=xnli+{target}")
    assert "\n" not in str(caught.value)


def test_overlap_is_refused_in_every_direction():
    with pytest.raises(XtlError, match=r"leak into xquad, lareqa"):
        designs.refuse_overlap("squad_v1", ["xnli", "xquad", "lareqa"], split="dev")
    designs.refuse_overlap("squad_v1", ["xquad"], split="train")


def test_a_layer_chosen_for_one_condition_is_refused(tmp_path):
    program = load("morphology", "source=world,seeds=0")
    record.record(Workdir(tmp_path), "morphology", program)
    config.override(program, "stages.qfa-retrieval.evaluate.tatoeba.options.layer", "2")
    with pytest.raises(XtlError, match=r"qfa-retrieval.*choose one layer"):
        record.record(Workdir(tmp_path), "morphology", program)
    with pytest.raises(XtlError, match=r"names no layer"):
        record.one_layer({"de-retrieval": {}})


def test_every_study_that_can_be_recorded_has_an_analysis():
    assert tuple(run.ANALYSES) == record.NAMES == NAMES


def test_an_unknown_study_is_an_error_that_names_the_known_ones(tmp_path):
    program = load("typology", "source=world,seeds=0")
    config.override(program, "study.name", "typolgy")
    with pytest.raises(XtlError, match="Did you mean 'typology'"):
        record.record(Workdir(tmp_path), "typology", program)


# ---------------------------------------------------------------- pages


def fake_distances(finished, base, tasks, count, layer):
    return [
        {"intermediate": i, "target": t, "texts": count, "layer": 1, "measure": m, "distance": 0.5 + noise(m, i, t) / 4}
        for m in ("mmd", "mmd, English")
        for i in tasks
        for t in finished.run.targets
    ] + [
        {"intermediate": i, "target": t, "texts": count, "layer": 1, "measure": "format", "distance": 1.0}
        for i in tasks
        for t in finished.run.targets
    ]


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """All five studies under one WORKDIR, and their pages."""
    path = tmp_path_factory.mktemp("studies")
    for name in NAMES:
        program = load(name, "source=world,seeds=0+1")
        program.study["resamples"] = 50
        fake_run(path, program)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predictors, "_measured", fake_distances)
        pages.write(Workdir(path))
    return Workdir(path)


@pytest.mark.parametrize("name", NAMES)
def test_every_study_ends_in_a_page_with_figure_tables_and_methods(workdir, name):
    folder = workdir.path / "report"
    html, text = (folder / f"{name}.html").read_text(), (folder / f"{name}.md").read_text()
    assert "There is no answer yet" not in html
    assert "<svg" in html and "95 % interval" in html
    assert "## Limits" in text and "## Methods" in text and "synthetic" in text
    assert "a small encoder (2 layers, 64 wide) trained from scratch" in text and "XLM-R (" not in text
    figures = list((folder / "figures").glob(f"{name}*.png"))
    assert figures and all(figure.stat().st_size > 5000 for figure in figures)
    tables = list((folder / "tables").glob(f"{name}-*.csv"))
    assert tables and all(len(pd.read_csv(table)) for table in tables)
    assert " nan" not in text and "nan]" not in text


def test_the_analysis_recovers_what_the_made_up_scores_hold(workdir):
    slope = run.analyse(workdir, "typology").headline[0]
    assert slope.low < 20 < slope.high or slope.value > 10


def test_a_measure_that_only_tells_tasks_apart_is_left_out(workdir):
    text = (workdir.path / "report" / "divergence.md").read_text()
    assert "format is left out" in text and "mmd, English" in text


def test_distances_are_measured_once(workdir, monkeypatch):
    monkeypatch.setattr(predictors, "_measured", None)  # a second measurement would fail
    assert isinstance(run.analyse(workdir, "divergence").headline[0].value, float)


def test_the_text_that_an_encoder_was_pretrained_on_is_measured_once_and_not_needed_afterwards(tmp_path):
    data = Data(source="files", root=str(Path(__file__).parents[1] / "fixtures" / "original"))
    spoken = sources.languages(get_task("mlm"), data, split="train")

    def sizes(data, fingerprint):
        stage = SimpleNamespace(
            config={"tasks": {"mlm": {"languages": list(spoken)}}},
            settings=SimpleNamespace(data=data),
            fingerprint=fingerprint,
        )
        return finished.text_sizes(Workdir(tmp_path), "mini", stage)

    measured = sizes(data, "a")
    texts = sources.load(get_task("mlm"), spoken[0], "train", data).examples
    assert measured[spoken[0]] == sum(len(e.text.encode()) for e in texts) / 2**30 > 0
    gone = replace(data, root=str(tmp_path / "gone"))
    assert sizes(gone, "a") == measured
    with pytest.raises(XtlError):
        sizes(gone, "b")


def test_a_study_with_stages_missing_says_so_on_its_page(tmp_path):
    program = load("typology", "source=world,seeds=0")
    unfinished = fake_run(tmp_path, program, lose=("mnli-panx",))
    write_pages(unfinished)
    assert 'href="typology.html"' in (tmp_path / "report" / "index.html").read_text()
    assert "1 stages are missing: mnli-panx" in (tmp_path / "report" / "typology.md").read_text()
    assert "There is no answer yet" in (tmp_path / "report" / "typology.html").read_text()


def test_no_study_no_page(tmp_path):
    program = load("typology", "source=world,seeds=0")
    del program["study"]
    assert pages.write(fake_run(tmp_path, program)) == []


def test_divergence_names_its_primary_measure_beforehand():
    assert load("divergence").study["primary"] == "mmd"
    with pytest.raises(XtlError, match="primary measure"):
        divergence.analyse(pd.DataFrame(), {}, primary="mmd")
