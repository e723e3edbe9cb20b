"""Scoring whole folders: own small files for all tasks of both benchmarks, with scores worked out by hand."""

import json
from pathlib import Path

import pytest

from xtl.benchmark.aggregate import XTREME, XTREME_R
from xtl.benchmark.prediction_files import file_path, kind_of
from xtl.benchmark.score import score_folder
from xtl.errors import XtlError


def squad(**answers):
    """A labels file in the SQuAD layout; question ids are the keyword names."""
    questions = [{"id": key, "answers": [{"text": text} for text in texts]} for key, texts in answers.items()]
    return json.dumps({"data": [{"paragraphs": [{"context": "", "qas": questions}]}]})


# task -> (labels, perfect predictions, the predictions of one language, {metric: that language's score})
CASES = {
    "xnli": (
        "neutral\nentailment\ncontradiction\nneutral\n",
        "neutral\nentailment\ncontradiction\nneutral\n",
        "neutral\nneutral\nneutral\nneutral\n",
        {"accuracy": 50.0},
    ),
    "pawsx": ("1\n0\n1\n0\n", "1\n0\n1\n0\n", "1\n1\n0\n0\n", {"accuracy": 50.0}),
    # gold runs: DET, NOUN(2), VERB | SCONJ, SCONJ; predicted: DET, NOUN, PROPN, VERB | SCONJ, ADP: 3 hits of 5 and 6
    "udpos": (
        "DET\nNOUN\nNOUN\nVERB\n\nSCONJ\nSCONJ\n\n",
        "DET\nNOUN\nNOUN\nVERB\n\nSCONJ\nSCONJ\n",
        "DET\nNOUN\nPROPN\nVERB\n\nSCONJ\nADP\n\n",
        {"f1": 100 * 6 / 11, "precision": 50.0, "recall": 60.0, "accuracy": 100 * 4 / 6},
    ),
    # gold: PER(0-1), LOC(3) | ORG(0); predicted: PER(0-1), ORG(3) | ORG(0), I after O opens: 2 hits of 3 and 3
    "panx": (
        "B-PER\nI-PER\nO\nB-LOC\n\nB-ORG\nO\n\n",
        "B-PER\nI-PER\nO\nB-LOC\n\nB-ORG\nO\n\n",
        "I-PER\nI-PER\nO\nB-ORG\n\nI-ORG\nO\n\n",
        {"f1": 100 * 2 / 3, "precision": 100 * 2 / 3, "recall": 100 * 2 / 3, "accuracy": 100 * 3 / 6},
    ),
    # EM 1, 0, 0 (missing); F1 1, 2 * (1/2 * 1) / (3/2) = 2/3, 0; a foreign id changes nothing
    "xquad": (
        squad(a=["the red car"], b=["Berlin"], c=["5"]),
        '{"a": "Red car!", "b": "berlin", "c": "5"}',
        '{"a": "red car", "b": "in Berlin", "z": "5"}',
        {"em": 100 / 3, "f1": 100 * (5 / 3) / 3, "em_f1": (100 / 3 + 100 * (5 / 3) / 3) / 2},
    ),
    "mlqa": (
        squad(a=["1945"], b=["x y"]),
        '{"a": "1945", "b": "x y"}',
        '{"a": "1945", "b": "x"}',
        {"em": 50.0, "f1": 100 * (1 + 2 / 3) / 2, "em_f1": (50 + 100 * (1 + 2 / 3) / 2) / 2},
    ),
    "tydiqa": (
        squad(a=["x"], b=["y", "y z"]),
        '{"a": "x", "b": "y z"}',
        '{"a": "", "b": "z"}',
        {"em": 0.0, "f1": 100 * (2 / 3) / 2, "em_f1": 100 * (2 / 3) / 4},
    ),
    # 2 of 3 predicted pairs are among the 4 gold ones
    "bucc2018": (
        "xx-1\ten-1\nxx-2\ten-2\nxx-3\ten-3\nxx-4\ten-4\n",
        "xx-4\ten-4\nxx-3\ten-3\nxx-2\ten-2\nxx-1\ten-1\n",
        "xx-1\ten-1\nxx-2\ten-9\nxx-4\ten-4\n",
        {"f1": 100 * 4 / 7, "precision": 100 * 2 / 3, "recall": 50.0},
    ),
    "tatoeba": ("2\n0\n1\n3\n", "2\n0\n1\n3\n", "2\n0\n1\n1\n", {"accuracy": 75.0}),
    "xcopa": (
        '{"label": 0, "idx": 0}\n{"label": 1, "idx": 1}\n',
        '{"label": 0}\n{"label": 1}\n',
        '{"label": 1}\n{"label": 1}\n',
        {"accuracy": 50.0},
    ),
    "mewslix": (
        '{"m": ["Q1"], "n": [" Q2 "]}',
        '{"m": ["Q1", "Q5"], "n": ["Q2"]}',
        '{"m": ["Q5", "Q1"]}',
        {"map20": 100 * (1 / 2 + 0) / 2},
    ),
    # hits at ranks 1 and 3 of 2 right ones: (1 + 2/3) / 2
    "lareqa": (
        '{"q": ["en-1", "de-1"]}',
        '{"q": ["de-1", "en-1"]}',
        '{"q": ["de-1", "th-4", "en-1"]}',
        {"map20": 100 * (5 / 3) / 2},
    ),
}
MAIN = {"xnli": "accuracy", "xquad": "em_f1", "mlqa": "em_f1", "tydiqa": "em_f1", "pawsx": "accuracy"}
MAIN |= {"tatoeba": "accuracy", "xcopa": "accuracy", "mewslix": "map20", "lareqa": "map20"}


def write(folder, task, language, text):
    path = file_path(folder, task, language, kind_of(task))
    (folder / task).mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text.replace("xx-", f"{language}-"))


@pytest.fixture
def folders(tmp_path):
    """Labels and predictions of all tasks of both benchmarks; the first language of each task is imperfect."""
    predictions, labels = tmp_path / "predictions", tmp_path / "labels"
    for benchmark in (XTREME, XTREME_R):
        for task, languages in benchmark.languages.items():
            gold, perfect, imperfect, _ = CASES[task]
            for language in languages:
                write(labels, task, language, gold)
                write(predictions, task, language, imperfect if language == languages[0] else perfect)
    return predictions, labels


@pytest.mark.parametrize("benchmark", [XTREME, XTREME_R], ids=lambda b: b.name)
def test_every_task_equals_the_hand_computed_scores(folders, benchmark):
    result = score_folder(*folders, benchmark.name)
    assert set(result["tasks"]) == set(benchmark.languages)
    assert result["skipped"] == {}
    main = {}
    for task, languages in benchmark.languages.items():
        scores, by_hand = result["tasks"][task], CASES[task][3]
        first, second = (scores["languages"][code] for code in languages[:2])
        assert {key: first[key] for key in by_hand} == pytest.approx(by_hand), task
        assert {second[key] for key in by_hand} == {100.0}, task
        rest = len(languages) - 1
        assert {key: scores["average"][key] for key in by_hand} == pytest.approx(
            {key: (value + 100 * rest) / (rest + 1) for key, value in by_hand.items()}
        ), task
        main[task] = (by_hand[MAIN.get(task, "f1")] + 100 * rest) / (rest + 1)
        assert scores["score"] == pytest.approx(main[task])
    assert result["overall"] == pytest.approx(sum(main.values()) / len(main))
    for group, tasks in benchmark.groups.items():
        assert result["groups"][group] == pytest.approx(sum(main[task] for task in tasks) / len(tasks))


def test_what_lowers_a_score_quietly_in_the_reference_is_a_warning(folders):
    predictions, labels = folders
    write(predictions, "xnli", "ar", "neutral\nentails\ncontradiction\nneutral\n")
    result = score_folder(predictions, labels)
    assert result["tasks"]["xnli"]["languages"]["ar"]["accuracy"] == 75.0
    warnings = [warning.removeprefix(f"{predictions}/") for warning in result["warnings"]]
    assert "xnli/test-ar.tsv: line 2: 'entails' is not one of contradiction entailment neutral" in warnings
    assert "xquad/test-ar.json: id c: has no prediction and scores 0" in warnings
    assert "xquad/test-ar.json: id z: is not an id of this test set" in warnings


def test_tasks_absent_from_either_folder_are_skipped_and_named(folders, tmp_path):
    predictions, labels = folders
    (predictions / "panx").rename(tmp_path / "panx")
    (labels / "xnli").rename(tmp_path / "xnli")
    (predictions / "notes.txt").write_text("")
    result = score_folder(predictions, labels)
    assert result["skipped"] == {
        "xnli": f"no folder xnli in {labels}",
        "panx": f"no folder panx in {predictions}",
    }
    assert result["ignored"] == ["lareqa", "mewslix", "notes.txt", "xcopa"]
    assert result["overall"] is None
    assert set(result["groups"]) == {"qa", "retrieval"}


def test_an_overall_of_100_needs_every_task_and_language_right(folders):
    predictions, labels = folders
    for task, languages in XTREME.languages.items():
        write(predictions, task, languages[0], CASES[task][1])
    assert score_folder(predictions, labels)["overall"] == pytest.approx(100.0)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("xnli/test-sw.tsv", None, "xnli/test-sw.tsv is missing"),
        ("xnli/test-sw.tsv", "neutral\n", "xnli/test-sw.tsv: 1 lines instead of 4"),
        ("xnli/test-sw.tsv", "neutral\n\nneutral\nneutral\n", "xnli/test-sw.tsv: line 2: is blank"),
        ("udpos/test-yo.tsv", "DET\nNOUN\nNOUN\n\nSCONJ\nSCONJ\n", "line 1: sentence 1 has 3 tags for 4 words"),
        (
            "udpos/test-yo.tsv",
            "SCONJ\nSCONJ\n\nDET\nNOUN\nNOUN\nVERB\n",
            "yo.tsv: sentences are out of order",
        ),
        ("panx/test-yo.tsv", "O\nO\nO\nO\n", "panx/test-yo.tsv: 1 sentences instead of 2"),
        ("tatoeba/test-jv.tsv", "2\n0\n1\nthree\n", "tatoeba/test-jv.tsv: line 4: 'three' is not a row number"),
        ("bucc2018/test-fr.tsv", "fr-1 en-1\n", "bucc2018/test-fr.tsv: line 1: 'fr-1 en-1' is not xx-id"),
        ("mlqa/test-hi.json", "{", "mlqa/test-hi.json: line 1: not valid JSON"),
        ("mlqa/test-hi.json", "[]", "mlqa/test-hi.json: expected one JSON object, a text by id"),
        ("mlqa/test-hi.json", '{"a": 1945, "b": "x"}', "mlqa/test-hi.json: id a: 1945 is not a text"),
    ],
)
def test_what_cannot_be_scored_names_the_file_and_line(folders, file, text, message):
    predictions, labels = folders
    if text is None:
        (predictions / file).unlink()
    else:
        (predictions / file).write_text(text)
    with pytest.raises(XtlError) as error:
        score_folder(predictions, labels)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_broken_labels_are_named_too(folders):
    predictions, labels = folders
    (labels / "xquad" / "test-de.json").write_text('{"data": [{"paragraphs": [{"qas": [{"id": "a"}]}]}]}')
    with pytest.raises(XtlError, match=r"labels/xquad/test-de.json: not in the SQuAD layout .*'answers'"):
        score_folder(predictions, labels)


def test_squad_labels_may_stand_without_the_top_level_data(folders):
    predictions, labels = folders
    path = labels / "xquad" / "test-de.json"
    path.write_text(json.dumps(json.loads(path.read_text())["data"]))
    assert score_folder(predictions, labels)["tasks"]["xquad"]["languages"]["de"]["em"] == 100.0


def test_folders_that_share_no_task_are_an_error_not_an_empty_table(folders, tmp_path):
    predictions, _ = folders
    (tmp_path / "empty").mkdir()
    with pytest.raises(XtlError, match="no task to score"):
        score_folder(predictions, tmp_path / "empty")
    with pytest.raises(XtlError, match="nowhere is not a folder"):
        score_folder(predictions, tmp_path / "nowhere")


def test_without_a_benchmark_every_shared_folder_is_scored_in_the_languages_of_its_labels(folders):
    predictions, labels = folders
    for folder in (predictions, labels):
        for task in XTREME.languages:
            for language in XTREME.languages[task][2:]:
                Path(file_path(folder, task, language, kind_of(task))).unlink()
    result = score_folder(predictions, labels, None)
    assert set(result["tasks"]["xnli"]["languages"]) == {"ar", "bg"}
    assert result["tasks"]["xnli"]["score"] == 75.0
    assert result["overall"] is None and result["groups"] == {} and result["benchmark"] is None


def test_unanswerable_questions_are_scored_by_the_v2_rules(tmp_path):
    for folder, text in (
        ("labels", squad(a=["x"], b=[])),
        ("predictions", '{"a": "x", "b": "y"}'),
    ):
        (tmp_path / folder / "squad_v2").mkdir(parents=True)
        (tmp_path / folder / "squad_v2" / "test-en.json").write_text(text)
    folders = (tmp_path / "predictions", tmp_path / "labels")
    with pytest.raises(XtlError, match=r"task squad_v2 .* has no form as a predictions file"):
        score_folder(*folders, None)
    result = score_folder(*folders, None, others={"squad_v2": "answers"}.get)
    scores = result["tasks"]["squad_v2"]["languages"]["en"]
    assert scores["em"] == 50.0 and scores["no_answer_em"] == 0.0 and scores["has_answer_em"] == 100.0


def test_xtreme_r_is_scored_task_by_task_and_what_is_absent_is_named(folders):
    predictions, labels = folders
    for folder in folders:  # what an XTREME folder holds
        for language in set(XTREME_R.languages["panx"]) - set(XTREME.languages["panx"]):
            (folder / "panx" / f"test-{language}.tsv").unlink()
    result = score_folder(predictions, labels, "xtreme-r")
    panx = result["tasks"]["panx"]
    assert panx["score"] is None and set(panx["absent"]) == set(XTREME_R.languages["panx"]) - set(panx["languages"])
    assert result["tasks"]["xnli"]["absent"] == [] and result["tasks"]["xnli"]["score"] is not None
    assert result["overall"] is None and "tagging" not in result["groups"]
