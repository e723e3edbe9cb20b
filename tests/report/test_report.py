"""The report: shows what the run folder holds, gives equal bytes for equal results, and needs no other file."""

import json
import re
from collections import Counter

import numpy as np
import pytest
from matplotlib.text import Text as FigureText

from tests.support import browser
from tests.support.report_runs import XTREME, make_run
from xtl import files, report
from xtl.benchmark import submission
from xtl.benchmark.aggregate import overall
from xtl.cli.main import main
from xtl.report import analysis, examples, figures, graph, labels, markdown, p_values, page, significance, stages, style
from xtl.report.languages import Atlas
from xtl.runs.read import read_run
from xtl.runs.results import BASELINE
from xtl.task import Loaded, Pair, Span, Tagged, Text
from xtl.tasks import get_task

SMALL = {"conditions": ("mnli", "ccg"), "targets": ("xnli", "tatoeba")}


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr(significance, "RESAMPLES", 200)


@pytest.fixture
def undrawn(monkeypatch):
    """For what is not about figures, which take most of the time."""
    monkeypatch.setattr(figures, "draw", lambda *a, **k: [])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished run with its report: two seeds, a sweep, something failed, collapsed and dropped."""
    path = tmp_path_factory.mktemp("whole")
    workdir = make_run(
        path,
        **SMALL,
        seeds=(0, 1),
        sweep=True,
        states={"ccg-s1": "failed", "ccg-xnli-s1": "pending", "ccg-tatoeba-s1": "pending"},
        collapsed=("mnli-xnli",),
        restarted=("ccg-xnli",),
        dropped={"xnli": {"sw": {"no label": 7}}},
    )
    report.write(workdir)
    return workdir


def text_of(workdir) -> str:
    return (workdir.path / "report" / "index.html").read_text("utf-8")


# ---------------------------------------------------------------- the page as a file


def test_the_page_stands_alone(whole):
    text = text_of(whole)
    assert not re.search(r'<(link|script|img|iframe)\b[^>]*\b(src|href)="(?!data:)', text)
    assert not re.search(r"@import|url\((?!#)", text) and "xlink" not in text
    assert {x for x in re.findall(r'href="([^#][^"]*)"', text) if not x.startswith("figures/")} == {"data:,"}


def test_every_number_leads_to_its_stage_and_ids_are_unique(whole):
    text = text_of(whole)
    ids = Counter(re.findall(r'\bid="([^"]+)"', text))
    assert not [name for name, times in ids.items() if times > 1]
    links = set(re.findall(r'href="#([^"]+)"', text))
    assert links <= set(ids)
    assert {f"stage-{name}" for name in read_run(whole, "paper").stages} <= links & set(ids)
    assert {f"figures/{p.name}" for p in (whole.path / "report" / "figures").iterdir()} == set(
        re.findall(r'href="(figures/[^"]+)"', text)
    )


def test_the_page_names_what_is_missing_failed_collapsed_and_dropped(whole):
    for text in (text_of(whole), (whole.path / "report" / "report.md").read_text("utf-8")):
        assert "out of luck" in text and "starts from ccg-s1, which is not done" in text
        assert "the loss is flat" in text and "collapsed at 1e-05, trained again lower" in text and "no label" in text


def test_retrieval_scores_stand_beside_their_layer_and_pooling(whole):
    assert text_of(whole).count("layer 8 of 12, mean pooling, not centred") >= 3
    assert "layer 8 of 12" in (whole.path / "report" / "report.md").read_text("utf-8")


def test_the_configs_are_in_the_page_as_they_are(whole):
    config = next(iter(read_run(whole, "paper").stages.values())).config
    assert json.loads(stages.pretty(config)) == config


def test_the_same_results_give_the_same_bytes(tmp_path):
    for name in "ab":
        report.write(make_run(tmp_path / name, conditions=("mnli",), targets=("pawsx",), select=False))
    written = {
        name: {p.relative_to(tmp_path / name): p.read_bytes() for p in (tmp_path / name / "report").rglob("*.*")}
        for name in "ab"
    }
    assert len(written["a"]) > 6 and written["a"] == written["b"]


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"states": dict.fromkeys(("none-xnli", "mnli-xnli", "ccg-xnli"), "pending")}, "Nothing is evaluated yet"),
        ({"states": {"none-xnli": "failed"}}, "there are scores, no differences"),
        ({"states": {"mnli-xnli": "pending", "ccg-xnli": "running"}}, "No intermediate task is evaluated on all"),
        ({"languages": ("de", "fr")}, "on average over 1 target"),
        ({"languages": ("en",)}, "Training on English|No intermediate task"),
        ({}, "from [0-9.]+ to [0-9.]+ on average over 1 target"),
    ],
)
def test_any_part_of_the_results_makes_a_report(tmp_path, options, sentence):
    workdir = make_run(tmp_path, conditions=("mnli", "ccg"), targets=("xnli",), **options)
    report.write(workdir)
    assert re.search(sentence, text_of(workdir)), re.search("<h1>.*</h1>", text_of(workdir))
    assert re.search(sentence, (tmp_path / "report" / "report.md").read_text("utf-8"))


@pytest.mark.usefixtures("undrawn")
def test_names_from_configs_cannot_break_the_page(tmp_path):
    workdir = make_run(tmp_path, conditions=("mnli",), targets=("xnli",), name="a<b>&c")
    report.write(workdir)
    assert "a<b>" not in text_of(workdir) and "a&lt;b&gt;&amp;c" in text_of(workdir)


@pytest.mark.usefixtures("undrawn")
def test_the_verb_rebuilds_the_report_and_says_what_is_missing(tmp_path, capsys):
    make_run(tmp_path, **SMALL, states={"mnli-xnli": "failed"})
    assert main(["report", f"--workdir={tmp_path}"]) == 1
    out = capsys.readouterr().out
    assert str(tmp_path / "report" / "index.html") in out and "mnli-xnli (failed)" in out
    assert (tmp_path / "results.csv").exists()


# ---------------------------------------------------------------- figures


def test_figures_are_files_for_paper_and_themed_elements_of_the_page(whole):
    folder = whole.path / "report" / "figures"
    names = {p.stem for p in folder.iterdir()}
    assert {
        "distance-mnli",
        "heatmap-xnli",
        "curve-target-xnli-loss",
        "curve-target-xnli-dev",
        "sweep-tatoeba-mean",
    } <= names
    assert all((folder / f"{name}.{kind}").stat().st_size > 1000 for name in names for kind in ("svg", "png"))
    drawn = re.findall(r"<svg role=.*?</svg>", text_of(whole), flags=re.S)
    assert len(drawn) == len([name for name in names if not name.startswith("heatmap")])
    for svg in drawn:
        assert 'aria-label="' in svg and "var(--muted)" in svg
        assert not re.search("|".join(style.VARIABLES), svg, flags=re.I)  # no colour that the theme cannot change


def test_graph_boxes_do_not_overlap_and_hold_every_unit(whole):
    run = read_run(whole, "paper")
    svg = graph.draw(run)
    assert svg.count("<a ") == len(run.units) and 'class="failed"' in svg
    boxes = [(float(x), float(y)) for x, y in re.findall(r'<rect x="([\d.]+)" y="([\d.]+)"', svg)]
    for i, (x, y) in enumerate(boxes):
        for u, v in boxes[i + 1 :]:
            assert abs(x - u) >= graph.WIDE or abs(y - v) >= graph.HIGH, ((x, y), (u, v))


def test_names_cover_neither_each_other_nor_the_points_nor_the_legend():
    points = [(f"name {i}", 1 + i % 3 / 40, 1 + i // 3 / 40) for i in range(9)] + [("corner", 0.0, 0.0)]
    with style.canvas(3.5, 2.7) as (figure, axes):
        axes.scatter([x for _, x, _ in points], [y for _, _, y in points], label="points", s=4)
        axes.legend(loc="center")
        axes.margins(0.6)
        labels.label_points(axes, points, size=6)
        figure.draw_without_rendering()
        renderer = figure.canvas.get_renderer()
        boxes = [FigureText.get_window_extent(text, renderer) for text in axes.texts]  # without the lines
        frame, legend = axes.get_window_extent(), axes.get_legend().get_window_extent(renderer)
        marks = axes.transData.transform([(x, y) for _, x, y in points])
    assert sorted(text.get_text() for text in axes.texts) == sorted(name for name, _, _ in points)
    for i, box in enumerate(boxes):
        assert frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
        assert not box.overlaps(legend) and not any(box.contains(*mark) for mark in marks)
        assert not any(box.overlaps(other) for other in boxes[i + 1 :])


# ---------------------------------------------------------------- what is worked out


def test_languages_run_from_english_to_far():
    atlas = Atlas({"source": "files"})
    assert atlas.ordered(["sw", "de", "xx", "en", "my"]) == ["en", "de", "sw", "my", "xx"]
    assert atlas["de"].name == "German" and atlas["xx"].distance is None
    world = Atlas({"source": "world", "world": {"seed": 0}})
    assert world.ordered(["qfc", "en", "qma", "qna"]) == ["en", "qna", "qma", "qfc"]


def test_the_composite_is_chosen_on_dev_scores_where_all_have_them(tmp_path):
    run = read_run(make_run(tmp_path / "a", **SMALL), "paper")
    composite = analysis.composite(run)
    dev = {label: run.stages_of(label, "xnli")[0].dev_score for label in run.labels}
    assert composite.chosen["xnli"] == max(dev, key=dev.get) and composite.basis["xnli"] == analysis.DEV
    assert composite.basis["tatoeba"] == analysis.TEST and not composite.honest
    run = read_run(make_run(tmp_path / "b", **SMALL, select=False), "paper")
    english = {label: run.score(label, "xnli", "en") for label in run.labels}
    composite = analysis.composite(run)
    assert (
        composite.chosen["xnli"] == max(english, key=english.get) and composite.basis["xnli"] == analysis.TEST_ENGLISH
    )


def test_benchmark_averages_are_the_scorers(tmp_path):
    run = read_run(make_run(tmp_path, conditions=("mnli",), seeds=(0, 1)), "paper")
    averages = analysis.averages(run)
    assert averages.benchmark == "xtreme" and not averages.partial
    scores = {
        task: np.mean([run.score("mnli", task, x) for x in languages]) for task, languages in XTREME.languages.items()
    }
    expected = overall(scores, "xtreme")
    assert {group: values["mnli"] for group, values in averages.groups.items()} == pytest.approx(expected)


def test_signed_numbers_have_a_real_minus_and_no_negative_zero():
    assert [analysis.signed(x) for x in (1.24, -0.36, -0.04, 0.0)] == ["+1.2", "−0.4", "0.0", "0.0"]


# ---------------------------------------------------------------- significance


def test_p_values_are_corrected_for_their_number():
    assert p_values.adjusted([0.01, 0.02, 0.04], "holm") == pytest.approx([0.03, 0.04, 0.04])
    assert p_values.adjusted([0.01, 0.02, 0.04], "fdr") == pytest.approx([0.03, 0.03, 0.04])
    assert p_values.adjusted([], "holm") == p_values.adjusted([], "fdr") == []
    assert [p_values.equation(p) for p in (0.0004, 0.0123)] == ["p < 0.001", "p = 0.012"]


def two_conditions(tmp_path, *, right):
    """xnli in two languages: `right` of 100 examples right for each condition, as predictions and as scores."""
    workdir = make_run(tmp_path, conditions=("mnli",), targets=("xnli",), languages=("en", "de"))
    task, run = get_task("xnli"), read_run(workdir, "paper")
    pairs = [Pair(f"{i}", "a", "b", i % 3) for i in range(100)]
    for label, count in right.items():
        (stage,) = run.stages_of(label, "xnli")
        predicted = [(i % 3 + (i >= count)) % 3 for i in range(100)]
        scored = json.loads(files.read_text(f"{stage.folder}/eval/xnli.json"))
        for language in ("en", "de"):
            submission.write_predictions(f"{stage.folder}/predictions", task, language, pairs, predicted)
            scored["languages"][language] = {"accuracy": float(count), "n": 100}
        files.write_json(f"{stage.folder}/eval/xnli.json", scored)
    return read_run(workdir, "paper"), Loaded(pairs)


def test_one_seed_gives_an_interval_over_examples_and_no_mark(tmp_path, monkeypatch):
    run, loaded = two_conditions(tmp_path, right={"none": 50, "mnli": 90})
    monkeypatch.setattr(significance, "load_gold", lambda stage, target, x: (get_task(target), x, loaded))
    tests = significance.compare(run)
    assert not tests.fallbacks and set(tests.untested) == {("mnli", 0), ("mnli", 1)}
    test = tests.cells["mnli", 0]
    assert test.p is None and not test.mark and test.over_runs is None and test.seeds_needed is None
    assert 20 < test.over_examples.low < 40 < test.over_examples.high
    part = page.Part(run, tests, [], Atlas({}))
    for text in (markdown.render([part]), page.render([part])):
        assert "of these trainings, not of the method" in text and "at least 3, better 5 seeds" in text
        assert "No difference can be called significant" in text and "adjusted p =" not in text
        assert re.search(r"\+3\d\.\d to \+4\d\.\d over examples", text) or "over examples; needs at least 3" in text
    run, loaded = two_conditions(tmp_path / "equal", right={"none": 50, "mnli": 50})
    equal = significance.compare(run).cells["mnli", 0].over_examples
    assert equal.low == equal.high == 0.0


def test_predictions_of_other_data_are_not_believed(tmp_path, monkeypatch):
    run, loaded = two_conditions(tmp_path, right={"none": 50, "mnli": 90})
    other = Loaded([Pair(x.id, x.a, x.b, (x.label + 1) % 3) for x in loaded.examples])
    monkeypatch.setattr(significance, "load_gold", lambda stage, target, x: (get_task(target), x, other))
    tests = significance.compare(run)
    assert "on record is" in tests.fallbacks["xnli"] and not tests.tested
    assert all(test.over_examples is None for test in tests.cells.values())
    assert "xnli: no intervals over examples" in markdown.render([page.Part(run, tests, [], Atlas({}))])


QUESTIONS = [Span("a", "q", "the red fox", (("red fox", 4),)), Span("b", "q", "no", (("no", 0),))]
SENTENCES = [Tagged("a", ("x", "y"), (2, 6)), Tagged("b", ("z",), (0,))]  # B-PER O, B-LOC
PAIRED = [Text(f"{side}{i}", f"{side} {'bca'[i]}", side) for side in ("query", "pool") for i in range(3)]


@pytest.mark.parametrize(
    ("name", "loaded", "predicted", "metric", "score"),
    [
        ("xquad", Loaded(QUESTIONS), ["red fox", "yes"], "em_f1", 50.0),
        ("xquad", Loaded(QUESTIONS), ["fox", "no"], "f1", 100 * (2 / 3 + 1) / 2),
        ("panx", Loaded(SENTENCES), [[2, 6], [2]], "f1", 50.0),
        ("panx", Loaded(SENTENCES), [[6, 6], [0]], "accuracy", 100 * 2 / 3),
        ("tatoeba", Loaded(PAIRED, [(f"query{i}", f"pool{i}") for i in range(3)]), [0, 2, 2], "accuracy", 200 / 3),
    ],
)
def test_examples_add_up_to_the_score(tmp_path, name, loaded, predicted, metric, score):
    workdir = make_run(tmp_path, conditions=(), targets=(name,), languages=("de",))
    (stage,) = read_run(workdir, "paper").stages_of(BASELINE, name)
    submission.write_predictions(f"{stage.folder}/predictions", get_task(name), "de", loaded.examples, predicted)
    stage.evaluations[name]["languages"]["de"][metric] = score
    ratios = examples.ratios(stage, (get_task(name), "de", loaded), metric=metric)
    assert 100 * ratios[:, 0].sum() / ratios[:, 1].sum() == pytest.approx(score)


# ---------------------------------------------------------------- in a browser

SORT = """
const table = document.querySelector(".results"), heads = table.querySelectorAll("thead th[aria-sort]");
heads[2].firstElementChild.click();
probe.sorted = [...table.tBodies[0].rows].map((row) => Number(row.cells[2].dataset.v));
probe.aria = heads[2].getAttribute("aria-sort");
document.getElementById("theme").click();
probe.after = document.documentElement.dataset.theme || "auto";
location.hash = probe.link = document.querySelector(".results td a").getAttribute("href");
dispatchEvent(new HashChangeEvent("hashchange"));
probe.open = document.querySelector("details[open]").id;
"""


@pytest.mark.procs
@pytest.mark.skipif(browser.CHROMIUM is None, reason="no Chromium here")
@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (390, "dark")])
def test_the_page_fits_any_width_asks_for_nothing_and_works(whole, tmp_path, width, theme):
    probe = browser.probe(whole.path / "report" / "index.html", width=width, theme=theme, folder=tmp_path, play=SORT)
    assert probe["console"] == [] and probe["loaded"] == []
    assert probe["scroll"] == probe["wide"] == width and probe["outside"] == []
    assert probe["sorted"] == sorted(probe["sorted"], reverse=True) and probe["aria"] == "descending"
    assert f"#{probe['open']}" == probe["link"]
    assert probe["after"] == {"light": "dark", "dark": "auto"}[theme]
    assert probe["background"] == {"light": "rgb(247, 248, 250)", "dark": "rgb(14, 17, 22)"}[theme]
