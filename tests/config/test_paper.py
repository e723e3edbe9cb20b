"""configs/paper.py: the matrix counted by hand, and what its stages are."""

from pathlib import Path

import pytest

from xtl import config, files
from xtl.cli import main as cli
from xtl.config.resolution import resolve
from xtl.runs import cost
from xtl.runs.pipeline import Graph
from xtl.tasks import get_task
from xtl.world import languages as world_languages

PAPER = str(Path(__file__).resolve().parents[2] / "configs" / "paper.py")


def graph(arg=""):
    return Graph(resolve(config.load_config(f"{PAPER}:{arg}"), look=False))


def test_a_small_grid_counted_by_hand():
    # none, mnli, qqp, both together; two of them trained: 3 intermediate stages and 4 rows of 8 targets a seed
    paper = graph("intermediate=mnli+qqp,mlm=no,text=english,seeds=0+1")
    assert len(paper.stages) == 2 * (3 + 4 * 8)
    # the baseline's two retrieval tasks train nothing: their second seed is the first
    assert len(paper.units) == len(paper.stages) - 2


def test_the_papers_matrix_counted_by_hand():
    # English: nine tasks and all nine, with and without MLM: 20. Translated: MNLI and SQuAD have public translations,
    # with and without MLM: 4. With the baseline 25 rows of 8 target stages: xquad and mlqa share a model.
    paper = graph()
    assert len(paper.stages) == 24 + 25 * 8 == len(paper.units)
    both = [name for name, stage in paper.stages.items() if set(stage.evaluate) == {"xquad", "mlqa"}]
    assert len(both) == 25
    untrained = [name for name, stage in paper.stages.items() if not stage.tasks]
    assert len(untrained) == 2 * 25 and all(paper.stages[n].phase == "eval" for n in untrained)


def test_xtreme_r_has_its_own_targets_and_trains_xcopa_in_two_stages():
    paper = graph("benchmark=xtreme-r,mlm=no,text=english")
    # xnli, xcopa (twice), udpos, panx, xquad+mlqa, tydiqa, tatoeba, mewslix, lareqa
    assert len(paper.stages) == 10 + 11 * 10
    assert paper.stages["mnli-xcopa"].start == "stage:mnli-xcopa-first"
    assert list(paper.stages["mnli-xcopa-first"].tasks) == ["socialiqa"]
    assert list(paper.stages["mnli-xcopa"].tasks) == ["copa"]


def test_the_rows_hold_the_papers_numbers():
    stages = graph().stages
    mnli, mixed, multi = stages["mnli"], stages["mnli+mlm"], stages["multi"]
    assert (mnli.tasks["mnli"].batch_size, mnli.train.epochs, mnli.train.learning_rate) == (24, 2.0, 1e-5)
    assert mnli.select.patience == 30 and mnli.select.examples == 500 and mnli.select.languages == ("en",)
    assert mixed.tasks["mlm"].weight == 0.2 and mixed.train.learning_rate == 5e-6
    assert mixed.train.sampling.language_exponent == 0.3 and len(mixed.tasks["mlm"].languages) > 40
    assert len(multi.tasks) == 9 and multi.train.sampling.cap == 2**17
    assert stages["mnli+translated"].tasks["mnli"].languages == ("de", "ru", "sw")
    assert stages["mnli-xnli"].start == "stage:mnli" and not stages["mnli-xnli"].train.keep_head


def test_what_a_source_lacks_is_read_from_files():
    assert graph().stages["ccg"].data.sources == {"ccg": "files"}
    tfds = graph("source=tfds").stages["none-xnli"].data.sources
    assert {"ccg", "commonsenseqa", "bucc2018"} <= set(tfds)
    assert all(get_task(name).tfds is None for name in tfds)


def test_the_world_has_a_counterpart_of_every_task():
    paper = Graph(resolve(config.load_config(f"{PAPER}:source=world,encoder=tiny")))
    # 20 English rows, MNLI, QQP and HellaSwag translated with and without MLM, the baseline; MLM pretraining first
    assert len(paper.stages) == 1 + 26 + 27 * 8
    assert paper.stages["mnli+translated"].tasks["mnli"].languages == ("qna", "qma", "qfa")
    xnli = paper.stages["none-xnli"]
    assert xnli.evaluate["xnli"].languages == world_languages(get_task("xnli")) and xnli.start == "stage:mlm"


def test_the_world_has_xtreme_r_too():
    paper = Graph(resolve(config.load_config(f"{PAPER}:source=world,encoder=tiny,benchmark=xtreme-r,mlm=no")))
    for name in ("lareqa", "mewslix"):
        stage = paper.stages[f"none-{name}"]
        assert stage.tasks[name].languages == ("en",) and stage.evaluate[name].languages == world_languages()


@pytest.mark.parametrize("what", ["mlm=maybe", "text=german", "benchmark=xtreem", "intermediate=mnlu", "source=web"])
def test_arguments_are_checked(what):
    with pytest.raises(Exception, match=r"maybe|german|xtreem|mnlu|web") as caught:
        graph(what)
    assert "\n" not in str(caught.value)


def test_plan_lists_all_stages_and_their_cost(tmp_path, capsys):
    out = tmp_path / "plan.json"
    words = ["plan", f"--config={PAPER}", f"--workdir={tmp_path}", "--nolook", "--topology=v5e:4x4", "--price=1.2"]
    assert cli.main([*words, f"--json={out}"]) == 0
    plan = files.read_json(out)
    assert len(plan["stages"]) == plan["units"] == 24 + 25 * 8
    assert all(stage["cost"]["flops"] > 0 for stage in plan["stages"])
    assert plan["price"] == pytest.approx(1.2 * plan["chip_hours"])
    text = capsys.readouterr().out
    assert "chip-hours at 40 % MFU" in text and "1.2 per chip-hour" in text


@pytest.mark.parametrize("source", ["hub", "tfds", "files"])
def test_a_benchmark_is_evaluated_in_its_own_languages_from_every_source(source):
    xtreme = graph(f"source={source}").stages
    counts = {t: len(e.languages) for s in xtreme.values() if s.intermediate == "none" for t, e in s.evaluate.items()}
    assert (counts["panx"], counts["udpos"], counts["xquad"], counts["tatoeba"]) == (40, 33, 11, 36)
    wider = graph(f"source={source},benchmark=xtreme-r").stages
    counts = {t: len(e.languages) for s in wider.values() if s.intermediate == "none" for t, e in s.evaluate.items()}
    assert (counts["panx"], counts["udpos"], counts["xquad"], counts["tatoeba"]) == (48, 38, 12, 41)


def test_xtreme_r_s_dual_encoders_and_xcopa_are_trained_as_published():
    stages = graph("benchmark=xtreme-r").stages
    assert stages["none-xcopa"].train.keep_head and not stages["none-xcopa-first"].train.keep_head
    negatives = {
        name: stages[f"none-{name}"].tasks[name].batch_size // stages[f"none-{name}"].train.accumulate - 1
        for name in ("lareqa", "mewslix")
    }
    assert negatives == {"lareqa": 3, "mewslix": 7}
    assert stages["none-mewslix"].select.tasks == ("mewslix_pairs",)


def test_plan_counts_the_pool_and_the_selections():
    xtreme_r = graph("benchmark=xtreme-r")
    cost_of = lambda unit: cost.unit_cost(unit, cost.estimated)
    unit = xtreme_r.unit("none-mewslix")
    trained = 2 * 167_719 // 32 * 32
    selections = cost_of(unit).steps // 500
    assert cost_of(unit).examples == pytest.approx(trained + 1_003_893 + 14_624 + selections * 14_051, abs=64)
