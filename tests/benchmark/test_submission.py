"""Predictions folders: the formats as written, and every violation named with file and line or id."""

import json

import pytest

from xtl.benchmark.aggregate import XTREME
from xtl.benchmark.prediction_files import file_path, kind_of, parse_predictions
from xtl.benchmark.submission import assemble, write_predictions
from xtl.benchmark.validation import WORDS, validate
from xtl.errors import XtlError
from xtl.task import NLI, PANX_TAGS, UPOS, Choice, Loaded, Pair, Span, Tagged, Task, Text
from xtl.tasks import catalog


def task(name, family, labels=()):
    return Task(name=name, family=family, about="", languages=("de",), splits=("test",), metric="", labels=labels)


XNLI, PAWSX = task("xnli", "pair", NLI), task("pawsx", "pair", ("0", "1"))
UDPOS, PANX = task("udpos", "tag", UPOS), task("panx", "tag", PANX_TAGS)
XQUAD, SQUAD_V2 = task("xquad", "span"), task("squad_v2", "span")
BUCC, TATOEBA = task("bucc2018", "retrieve"), task("tatoeba", "retrieve")
XCOPA, HELLASWAG = task("xcopa", "choice"), task("hellaswag", "choice")
MEWSLIX = task("mewslix", "dual")

PAIRS = [Pair("1", "a", "b", 0), Pair("2", "c", "d", 2)]
SENTENCES = [Tagged("1", ("Der", "Hund"), (0, 7)), Tagged("2", ("Ja",), (6,)), Tagged("3", ("a", "b", "c"), (5, 7, 15))]
SPANS = [Span("q-1", "?", "ein Wort", (("Wort", 4),)), Span("q-2", "?", "zwei", (("zwei", 0), ("zwei!", 0)))]
CHOICES = [Choice("7", "p", ("a", "b"), 1), Choice("8", "p", ("a", "b"), 0)]
BITEXT = [
    Text("en-0", "Yes.", "query"),
    Text("en-1", "Are you in?", "query"),
    Text("de-0", "Ja.", "pool"),
    Text("de-1", "Bist du da?", "pool"),
]
GOLD = (("en-0", "de-0"), ("en-1", "de-1"))


def content(path):
    with open(path, encoding="utf-8", newline="") as file:
        return file.read()


# ---------------------------------------------------------------- writing


def test_pair_tasks_are_written_as_label_words(tmp_path):
    path = write_predictions(tmp_path, XNLI, "de", PAIRS, [1, "neutral"])
    assert path == str(tmp_path / "xnli" / "test-de.tsv")
    assert content(path) == "entailment\nneutral\n"
    assert content(write_predictions(tmp_path, PAWSX, "de", PAIRS, [1, 0])) == "1\n0\n"


def test_tags_are_written_one_per_line_with_a_blank_line_after_each_sentence(tmp_path):
    path = write_predictions(tmp_path, UDPOS, "de", SENTENCES[:2], [("DET", "NOUN"), (6,)])
    assert content(path) == "DET\nNOUN\n\nINTJ\n\n"


def test_answers_are_written_as_json_by_id_in_plain_unicode(tmp_path):
    path = write_predictions(tmp_path, XQUAD, "th", SPANS, ["คำ", ""])
    assert content(path) == '{"q-1": "คำ", "q-2": ""}\n'


def test_choices_are_written_as_json_lines(tmp_path):
    path = write_predictions(tmp_path, XCOPA, "et", CHOICES, [1, 0])
    assert path.endswith("xcopa/test-et.jsonl")
    assert [json.loads(line)["label"] for line in content(path).splitlines()] == [1, 0]


def test_tatoeba_is_written_in_sorted_order_of_the_english_side(tmp_path):
    # "Are you in?" sorts first and was matched with row 0 of the foreign file, "Yes." with row 1.
    assert content(write_predictions(tmp_path, TATOEBA, "de", BITEXT, ["de-1", 0])) == "0\n1\n"


def test_bucc_is_written_as_pairs_of_ids(tmp_path):
    path = write_predictions(tmp_path, BUCC, "de", BITEXT, [("de-1", "en-1"), ("de-0", "en-0")])
    assert content(path) == "de-1\ten-1\nde-0\ten-0\n"


def test_rankings_are_written_as_json_and_cut_at_20(tmp_path):
    queries = [Text("m1", "x", "query"), Text("m2", "y", "query")]
    path = write_predictions(tmp_path, MEWSLIX, "de", queries, [["Q1"], [f"Q{i}" for i in range(30)]])
    written = json.loads(content(path))
    assert written["m1"] == ["Q1"] and len(written["m2"]) == 20


def test_tasks_outside_the_benchmarks_take_the_format_that_is_given(tmp_path):
    path = write_predictions(tmp_path, SQUAD_V2, "en", SPANS, ["", "x"], kind="answers")
    assert path.endswith("squad_v2/test-en.json")
    path = write_predictions(tmp_path, HELLASWAG, "en", CHOICES, [0, 0], kind="choices")
    assert path.endswith("hellaswag/test-en.jsonl")
    with pytest.raises(XtlError, match=r"task mlm .* has no form as a predictions file"):
        write_predictions(tmp_path, task("mlm", "mlm"), "de", [], [])


@pytest.mark.parametrize(
    ("task", "examples", "predictions", "message"),
    [
        (XNLI, PAIRS, [1], "xnli de: 1 predictions for 2 examples"),
        (XNLI, PAIRS, [1, 3], "xnli de: 2: 3 is no index of the 3 labels"),
        (XNLI, PAIRS, ["neutral", "contradictory"], "xnli de: 2: label 'contradictory' is unknown"),
        (UDPOS, SENTENCES[:1], [["DET"]], "udpos de: 1: 1 tags for 2 words"),
        (XQUAD, [SPANS[0], SPANS[0]], ["x", "y"], "xquad de: id q-1 occurs 2 times"),
        (XCOPA, CHOICES, [0, 2], "xcopa de: 8: there is no choice 2 among 2"),
        (TATOEBA, BITEXT, [0, 2], "tatoeba de: en-1: 2 is no row or id of the 2 pool sentences"),
        (TATOEBA, BITEXT, [0, "de-7"], "'de-7' is no row or id"),
        (BUCC, BITEXT, [("de-0", "en-9")], "is not a pair of sentence ids"),
        (MEWSLIX, [Text("m1", "x", "query")], {"m2": ["Q1"]}, "prediction for unknown id m2"),
    ],
)
def test_predictions_that_do_not_fit_the_examples_are_refused(tmp_path, task, examples, predictions, message):
    with pytest.raises(XtlError, match=message.replace("?", r"\?")):
        write_predictions(tmp_path, task, "de", examples, predictions)
    assert not list(tmp_path.iterdir())


def test_words_with_odd_separators_do_not_break_lines(tmp_path):
    # U+2028 and U+0085 end a line for str.splitlines, but not for the reader of the benchmark
    (tmp_path / "t.tsv").write_text("A\u2028B\nC\n", encoding="utf-8")
    assert parse_predictions(str(tmp_path / "t.tsv"), "labels").content == ["A\u2028B", "C"]


def test_carriage_returns_and_a_missing_last_line_feed_are_read(tmp_path):
    (tmp_path / "t.tsv").write_bytes(b"DET\r\nNOUN\r\n\r\nINTJ")
    assert parse_predictions(str(tmp_path / "t.tsv"), "tags").trusted() == [["DET", "NOUN"], ["INTJ"]]


# ---------------------------------------------------------------- validation

LINES = {
    "labels": "{word}\n{word}\n",
    "tags": "{word}\n{word}\n\n{word}\n\n",
    "answers": '{{"q-1": "x", "q-2": ""}}\n',
    "pairs": "{language}-000000001\ten-000000002\n",
    "rows": "1\n0\n",
}
WORD = {"xnli": "neutral", "pawsx": "1", "udpos": "NOUN", "panx": "B-LOC"}


@pytest.fixture
def folder(tmp_path):
    """A complete XTREME predictions folder of a few lines a file."""
    for name, languages in XTREME.languages.items():
        (tmp_path / "predictions" / name).mkdir(parents=True)
        for language in languages:
            kind = kind_of(name)
            text = LINES[kind].format(word=WORD.get(name), language=language)
            with open(file_path(tmp_path / "predictions", name, language, kind), "w", encoding="utf-8") as file:
                file.write(text)
    return tmp_path / "predictions"


def inputs(name, language):
    """Unlabelled inputs that fit the folder."""
    tagged = [Tagged("1", ("a", "b"), None), Tagged("2", ("c",), None)]
    examples = {
        "xnli": [Pair("1", "a", "b", None), Pair("2", "c", "d", None)],
        "panx": tagged,
        "udpos": tagged,
        "xquad": [Span("q-1", "?", "c", ()), Span("q-2", "?", "c", ())],
        "tatoeba": BITEXT,
        "bucc2018": [Text(f"{language}-000000001", "a", "query"), Text("en-000000002", "b", "pool")],
    }
    return Loaded(examples[name]) if name in examples else None


def problems(folder, **options):
    return [str(violation).removeprefix(f"{folder}/") for violation in validate(folder, **options)]


def test_a_complete_folder_has_no_violations(folder):
    assert problems(folder) == []
    assert problems(folder, labels=folder.parent / "labels", inputs=inputs) == []


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("xnli/test-de.tsv", "neutral\nentails\n", "line 2: 'entails' is not one of contradiction entailment neutral"),
        ("xnli/test-de.tsv", "neutral\n", "1 lines instead of 2"),
        ("xnli/test-de.tsv", "neutral\n\n", "line 2: is blank"),
        ("xnli/test-de.tsv", "neutral\ta\nneutral\n", "line 1: has several columns; one label per line"),
        ("xnli/test-de.tsv", "\ufeffneutral\nneutral\n", "line 1: starts with a byte order mark; write plain UTF-8"),
        ("pawsx/test-ja.tsv", "1\n2\n", "line 2: '2' is not one of 0 1"),
        ("udpos/test-th.tsv", "NOUN\nNN\n\nVERB\n", "line 2: 'NN' is not one of " + " ".join(UPOS)),
        ("udpos/test-th.tsv", "NOUN\n\nVERB\nVERB\n\n", "sentences are out of order"),
        ("udpos/test-th.tsv", "NOUN\n\nVERB\n\n", "line 1: sentence 1 has 1 tags for 2 words"),
        ("udpos/test-th.tsv", "NOUN\nNOUN\n\n\nVERB\n", "line 4: is a blank line without a sentence before it"),
        ("panx/test-qq.tsv", "O\n", "is not a file of this task and would be ignored"),
        (
            "panx/test-de.tsv",
            "Berlin\tB-LOC\nO\n\nO\n",
            "line 1: has several columns; one tag per line",
        ),
        ("xquad/test-el.json", '{"q-1": "x"}', "id q-2: has no prediction and scores 0"),
        ("xquad/test-el.json", '{"q-1": "x", "q-2": "", "q-3": ""}', "id q-3: is not an id of this test set"),
        ("xquad/test-el.json", '{"q-1": "x", "q-1": "", "q-2": "y"}', "id q-1: occurs twice"),
        ("xquad/test-el.json", '{"q-1": ["x"], "q-2": "y"}', 'id q-1: ["x"] is not a text'),
        ("xquad/test-el.json", '{"q-1": "x",\n', "line 2: not valid JSON"),
        ("tatoeba/test-de.tsv", "1\n2\n", "line 2: row 2 is beyond the 2 foreign sentences"),
        ("tatoeba/test-de.tsv", "1\nx\n", "line 2: 'x' is not a row number"),
        ("bucc2018/test-ru.tsv", "en-000000002\tru-000000001\n", "line 1: expected ru-... <TAB> en-..."),
        ("bucc2018/test-ru.tsv", "ru-000000001 en-000000002\n", "line 1: 'ru-000000001 en-000000002' is not xx-id"),
        ("bucc2018/test-ru.tsv", "ru-000000009\ten-000000002\n", "line 1: ru-000000009 or en-000000002 is no id of"),
    ],
)
def test_each_violation_names_its_file_and_place(folder, file, text, expected):
    (folder / file).write_text(text, encoding="utf-8")
    violations = problems(folder, inputs=inputs)
    assert any(problem.startswith(f"{file}: {expected}") for problem in violations), violations
    assert all(problem.startswith(file) for problem in violations)


def test_missing_files_and_tasks_are_named(folder):
    (folder / "mlqa" / "test-vi.json").unlink()
    for file in (folder / "pawsx").iterdir():
        file.unlink()
    (folder / "pawsx").rmdir()
    (folder / "snli").mkdir()
    assert problems(folder) == [
        "snli: is not a task of xtreme and would be ignored",
        "pawsx: folder is missing (7 languages)",
        "mlqa/test-vi.json: is missing",
    ]
    assert problems(folder, tasks=("xnli", "mlqa"))[1:] == ["mlqa/test-vi.json: is missing"]


def test_other_encodings_are_named(folder):
    (folder / "xquad" / "test-es.json").write_bytes('{"q-1": "ñ"}'.encode("latin-1"))
    assert problems(folder) == ["xquad/test-es.json: not UTF-8 (byte 9)"]


def test_a_labels_folder_gives_counts_lengths_and_ids(folder, tmp_path):
    labels = tmp_path / "labels"
    question = {"id": "q-1", "question": "?", "answers": [{"text": "Wort", "answer_start": 4}]}
    article = {"paragraphs": [{"context": "ein Wort", "qas": [question]}]}
    for name, text in (
        ("xnli/test-de.tsv", "contradiction\nneutral\ncontradiction\n"),
        ("panx/test-de.tsv", "B-LOC\nB-LOC\n\nB-LOC\nB-LOC\n\n"),
        ("xquad/test-de.json", json.dumps({"data": [article]})),
    ):
        (labels / name).parent.mkdir(parents=True)
        (labels / name).write_text(text)
    assert problems(folder, labels=labels) == [
        "xnli/test-de.tsv: 2 lines instead of 3",
        "panx/test-de.tsv: line 4: sentence 2 has 1 tags for 2 words",
        "xquad/test-de.json: id q-2: is not an id of this test set",
    ]


def test_xtreme_r_checks_choices_and_rankings(tmp_path):
    for name, file, text in (
        ("xcopa", "test-et.jsonl", '{"label": 2}\n{"lable": 1}\n{"label": true}\n{"label": 0, "idx": 3}\n'),
        ("mewslix", "test-ar.json", json.dumps({"m": [f"Q{i}" for i in range(21)], "n": ["Q1", "Q1"], "o": "Q1"})),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text(text)
    violations = problems(tmp_path, benchmark="xtreme-r", tasks=("xcopa", "mewslix"))
    assert [problem for problem in violations if not problem.endswith("is missing")] == [
        'xcopa/test-et.jsonl: line 2: \'{"lable": 1}\' is not an object with a whole number "label"',
        'xcopa/test-et.jsonl: line 3: \'{"label": true}\' is not an object with a whole number "label"',
        "xcopa/test-et.jsonl: line 1: '2' is not one of 0 1",
        'mewslix/test-ar.json: id o: "Q1" is not a list of ids',
        "mewslix/test-ar.json: id m: 21 candidates; only the first 20 count",
        "mewslix/test-ar.json: id n: lists a candidate twice",
    ]


def test_the_words_checked_are_the_labels_of_the_catalogue():
    for name, words in WORDS.items():
        if catalog()[name].labels:
            assert set(catalog()[name].labels) == set(words), name


# ---------------------------------------------------------------- assembling


def test_files_of_several_stages_are_gathered_without_leftovers(folder, tmp_path):
    out = tmp_path / "out"
    written = assemble({"xnli": folder, "mlqa": folder}, out)
    assert len(written) == 15 + 7
    assert problems(out, tasks=("xnli", "mlqa")) == []
    with pytest.raises(XtlError, match="is not empty"):
        assemble({"xnli": folder}, out)


def test_gathering_refuses_an_incomplete_task_before_it_writes(folder, tmp_path):
    (folder / "mlqa" / "test-vi.json").unlink()
    with pytest.raises(XtlError, match=r"mlqa/test-vi.json is missing \(1 of 22"):
        assemble({"xnli": folder, "mlqa": folder}, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(XtlError, match="task snli is not part of xtreme"):
        assemble({"snli": folder}, tmp_path / "out")
