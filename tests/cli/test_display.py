"""The live picture and the plain lines, from a stream of made-up events."""

import io

import pytest
from rich.console import Console

from tests.support.fake_training import FakeTrain, small_graph
from xtl.cli.display import Board, Display, english_and_others, picture, plain
from xtl.runs.events import StateChanged
from xtl.runs.pipeline import run
from xtl.runs.workdir import Workdir
from xtl.training import events


def drawn(board, *, width=100, height=30):
    console = Console(width=width, height=height, file=io.StringIO(), force_terminal=False)
    console.print(picture(board, width=width, height=height))
    return console.file.getvalue()


@pytest.fixture
def board(tmp_path):
    graph = small_graph()
    return Board(graph, Workdir(tmp_path), {unit.name for unit in graph.units.values()}, clock=lambda: 1000.0)


def training(board, name="mlm", step=50):
    board.take(name, StateChanged("running"))
    board.take(name, events.Started(step=0, steps=200, devices="1 x cpu"))
    record = {"step": step, "steps": 10, "loss": 2.5, "tokens_per_second": 12345.0, "seconds_per_step": 2.0}
    board.take(name, events.Logged(step, 200, record))


def test_the_picture_shows_the_graph_with_progress(board):
    training(board)
    text = drawn(board)
    assert "50/200" in text and "2.500" in text and "12.3k" in text and "5m00s left" in text
    assert "0 of 8 stages done · 1 running" in text
    assert "├ ○ none-xnli" in text and "  ├ ○ mnli-xnli" in text


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_no_line_is_wider_than_the_terminal(board, width):
    training(board, "mnli-xquad+mlqa")
    board.take("mnli-xquad+mlqa", events.Judged(step=50, score=61.2, best=True))
    text = drawn(board, width=width)
    assert max(map(len, text.splitlines())) <= width
    assert "dev 61.2" in text and "50/200" in text


@pytest.mark.parametrize("height", [9, 12, 20])
def test_a_graph_higher_than_the_terminal_is_folded_around_what_runs(tmp_path, height):
    graph = small_graph(seeds=range(4))
    board = Board(graph, Workdir(tmp_path), {unit.name for unit in graph.units.values()})
    training(board, "mnli-xnli-s2")
    text = drawn(board, height=height)
    assert len(text.splitlines()) < height and "mnli-xnli-s2" in text and "waiting" in text


def test_a_failed_stage_says_why_and_what_it_blocks(board):
    board.take("mnli", StateChanged("failed", "loss is not finite"))
    board.take("mnli-xnli", StateChanged("blocked", "mnli"))
    text = drawn(board, width=120)
    assert "✘ mnli" in text and "loss is not finite" in text and "needs mnli" in text


def test_time_left_counts_waiting_stages_by_their_likes(board):
    assert board.seconds_left() is None
    for name, one in board.progress.items():
        one.state, one.seconds = ("done", 10.0) if name not in ("mnli-xnli", "mnli-tatoeba") else ("waiting", None)
    board.progress["none-xnli"].seconds = 40.0
    assert board.seconds_left() == pytest.approx(40.0 + 10.0)


def test_plain_lines_where_nothing_can_be_redrawn(tmp_path):
    stream, graph, workdir = io.StringIO(), small_graph(), Workdir(tmp_path)
    with Display(graph, workdir, stream=stream) as show:
        assert not show.live
        run(graph, workdir, train=FakeTrain(), on_event=show)
    lines = stream.getvalue().splitlines()
    assert any("mlm" in line and "step 10/10" in line and "loss 1.5000" in line for line in lines)
    assert sum("[8/8]" in line for line in lines) == 1 and "done" in lines[-1]
    assert not any("\x1b" in line for line in lines)


def test_hosts_beside_the_first_show_nothing(tmp_path):
    stream, graph = io.StringIO(), small_graph()
    with Display(graph, Workdir(tmp_path), stream=stream, first=False) as show:
        show("mlm", StateChanged("running"))
    assert stream.getvalue() == ""


def test_stages_done_before_show_their_scores_and_time(tmp_path):
    graph, workdir = small_graph(), Workdir(tmp_path)
    run(graph, workdir, train=FakeTrain())
    board = Board(graph, workdir, {unit.name for unit in graph.units.values()})
    run(graph, workdir, train=FakeTrain(), on_event=board.take)
    assert board.counts() == {"done": 8}
    assert board.progress["none-xnli"].score.startswith("xnli ") and board.progress["none-xnli"].seconds is not None
    (line,) = plain("none-xnli", StateChanged("done"), board)
    assert "xnli" in line and "[8/8]" in line


def test_scores_are_english_and_others():
    scores = {"en": {"f1": 80.0, "n": 3}, "de": {"f1": 60.0, "n": 3}, "sw": {"f1": 50.0, "n": 3}}
    assert english_and_others({"metric": "f1", "languages": scores}) == "80.0/55.0"
    del scores["en"]
    assert english_and_others({"metric": "f1", "languages": scores}) == "55.0"
