"""The data doctor: what is wrong is found and named, what is only partial is not called wrong; packing."""

import json
import shutil
from pathlib import Path

import pytest

from xtl.data import sources
from xtl.data.settings import Data
from xtl.data.sources import doctor, hub, pack
from xtl.tasks import catalog, get_task

FIXTURES = Path(__file__).parents[1] / "fixtures"


def data(root=FIXTURES / "original", **more):
    return Data(**{"source": "files", "root": str(root), **more})


def examine(*names, root=FIXTURES / "original", **more):
    return doctor.examine([get_task(n) for n in names], data(root, **more))


def one(report, language, split):
    return next(c for c in report.checked if (c.language, c.split) == (language, split))


def write(root, path, text):
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def nli(root, relabel):
    """60 English pairs whose second part is a negation, or the same sentence."""
    rows = ["language\tgold_label\tsentence1\tsentence2"]
    for i in range(30):
        rows.append(f"en\t{relabel['contradiction']}\tThe boat {i} is red.\tThe boat {i} is not red.")
        rows.append(f"en\t{relabel['entailment']}\tThe pier {i} is long.\tThe pier {i} is long.")
    write(root, "xnli/XNLI-1.0/xnli.test.tsv", "\n".join(rows) + "\n")


RIGHT = {"contradiction": "contradiction", "entailment": "entailment"}
SWAPPED = {"contradiction": "entailment", "entailment": "contradiction"}

# ---------------------------------------------------------------- findings


def test_all_fixtures_are_good_and_what_is_absent_is_listed():
    report = doctor.examine(list(catalog().values()), data())
    bad = {(c.task, c.language, c.split, *c.bad) for c in report.checked if c.bad}
    # the fixtures are small: dev and test share their sentences with train, and no line of sw text is held out
    assert {b[:3] for b in bad} <= {
        ("pawsx", "en", "dev"),
        ("pawsx", "en", "test"),
        ("pawsx", "de", "dev"),
        ("pawsx", "de", "test"),
        ("tydiqa", "en", "dev"),
        ("tydiqa", "en", "test"),
        ("tydiqa", "fi", "dev"),
        ("tydiqa", "fi", "test"),
        ("tydiqa", "sw", "dev"),
        ("tydiqa", "sw", "test"),
        ("mlm", "sw", "dev"),
        ("copa", "en", "dev"),
        ("copa", "en", "test"),
        ("hellaswag", "en", "dev"),
        ("hellaswag", "en", "test"),
        ("commonsenseqa", "en", "dev"),
        ("commonsenseqa", "en", "test"),
        ("socialiqa", "en", "dev"),
        ("anli", "en", "dev"),
        ("anli_plus", "en", "dev"),
    }
    assert report.absent["xnli"]["test"] == ["ar", "bg", "el", "es", "fr", "hi", "ru", "th", "tr", "ur", "vi", "zh"]
    json.dumps(report.to_json())


def test_right_label_order_passes(tmp_path):
    nli(tmp_path, RIGHT)
    assert examine("xnli", root=tmp_path).good


def test_wrong_label_order_is_seen_on_known_pairs(tmp_path):
    nli(tmp_path, SWAPPED)
    report = examine("xnli", root=tmp_path)
    assert not report.good
    (negation, equal) = one(report, "en", "test").bad
    assert (
        "negation in the second part only should mostly be 'contradiction', but 30 of 30 are 'entailment'" in negation
    )
    assert "pairs of equal sentences should mostly be 'entailment'" in equal


def test_labels_unlike_the_english_ones_of_the_same_ids_are_bad_if_many(tmp_path):
    rows = {x: ["id\tsentence1\tsentence2\tlabel"] for x in ("en", "de", "fr")}
    for i in range(40):
        for language, label in (("en", i % 2), ("de", (i + 1) % 2), ("fr", i % 2 if i else 1)):
            rows[language].append(f"{i}\t{language} eins {i}\t{language} zwei {i}\t{label}")
    for language, lines in rows.items():
        write(tmp_path, f"pawsx/x-final/{language}/test_2k.tsv", "\n".join(lines) + "\n")
    report = examine("pawsx", root=tmp_path)
    assert one(report, "de", "test").bad == ["40 of 40 labels differ from those of the same ids in English"]
    assert one(report, "fr", "test").notes["labels unlike those of the same ids in English"] == "1 of 40"


def test_wrong_tag_order_is_seen_on_punctuation_and_inside_entities(tmp_path):
    write(tmp_path, "udpos/xtreme/train-en.tsv", "boat\tNOUN\n.\tX\n\n" * 30)
    write(tmp_path, "panx/xtreme/train-en.tsv", "Ada\tB-PER\nKrog\tI-LOC\n\n" * 30)
    report = examine("udpos", "panx", root=tmp_path)
    udpos, panx = report.checked
    assert udpos.bad == ["label order looks wrong: punctuation marks should mostly be 'PUNCT', but 30 of 30 are 'X'"]
    assert "began with B-PER should mostly be 'I-PER', but 30 of 30 are 'I-LOC'" in panx.bad[0]


def test_misplaced_answers_are_bad_if_many_and_noted_if_few(tmp_path):
    def questions(wrong):
        qas = [
            {"id": f"q{i}", "question": f"{i}?", "answers": [{"text": "two", "answer_start": 0 if i < wrong else 4}]}
            for i in range(40)
        ]
        return json.dumps({"data": [{"paragraphs": [{"context": "one two three", "qas": qas}]}]})

    write(tmp_path, "mlqa/MLQA_V1/test/test-context-de-question-de.json", questions(40))
    write(tmp_path, "mlqa/MLQA_V1/test/test-context-es-question-es.json", questions(4))
    report = examine("mlqa", root=tmp_path)
    assert one(report, "de", "test").bad == ["40 of 40 answer offsets wrong, 0 answers not in their context"]
    assert not one(report, "es", "test").bad
    assert "answer offsets repaired, answers not in the context" in one(report, "es", "test").notes


def test_damaged_file_is_a_finding_that_names_it_and_the_rest_is_examined(tmp_path):
    shutil.copytree(FIXTURES / "original" / "mlqa", tmp_path / "mlqa")
    file = tmp_path / "mlqa/MLQA_V1/test/test-context-de-question-de.json"
    file.write_text(file.read_text()[:200])
    report = examine("mlqa", root=tmp_path)
    assert not report.good
    assert f"{file}: truncated JSON" in one(report, "de", "test").bad[0]
    assert one(report, "zh", "test").examples == 1 and not one(report, "zh", "test").bad


def test_repeats_and_contradicting_repeats_are_counted(tmp_path):
    row = '{{"premise": "p", "choice1": "a", "choice2": "b", "question": "cause", "label": {}, "idx": {}}}\n'
    write(tmp_path, "copa/COPA/val.jsonl", row.format(0, 1) + row.format(0, 2) + row.format(1, 3))
    report = examine("copa", root=tmp_path)
    assert one(report, "en", "dev").notes["repeated inputs"] == "2 (1 with different answers)"


def test_overlap_of_training_and_evaluation_is_bad(tmp_path):
    row = '{{"premise": "p{}", "choice1": "a", "choice2": "b", "question": "cause", "label": 0, "idx": 1}}\n'
    write(tmp_path, "copa/COPA/train.jsonl", "".join(row.format(i) for i in range(30)))
    write(tmp_path, "copa/COPA/val.jsonl", "".join(row.format(i) for i in range(20, 40)))
    report = examine("copa", root=tmp_path)
    assert one(report, "en", "dev").bad == ["10 of 20 examples (50.0%) are in the training set, too"]


def test_gold_only_bucc_is_named_as_incomplete():
    report = examine("bucc2018", root=FIXTURES / "xtreme")
    assert not report.checked and not report.good
    (files,) = report.incomplete.values()
    assert list(report.incomplete) == ["bucc2018 de dev"] and files[0].endswith("de-en.dev.gold")


def test_trap_15_4_corpora_that_are_only_the_gold_pairs_are_bad(tmp_path):
    for side in ("de", "en"):
        write(tmp_path, f"bucc2018/de-en/de-en.sample.{side}", f"{side}-1\teins\n{side}-2\tzwei\n")
    write(tmp_path, "bucc2018/de-en/de-en.sample.gold", "de-1\ten-1\nde-2\ten-2\n")
    report = examine("bucc2018", root=tmp_path)
    assert "nothing to mine" in one(report, "de", "dev").bad[0]


def test_part_of_the_data_is_a_note_and_hidden_labels_are_a_note():
    report = examine("mnli")
    assert one(report, "en", "train").notes == {"a part of the data": "4 of 392,702"}
    assert "labels hidden: can be predicted, not scored" in one(report, "en", "test").notes
    assert report.good


def test_nothing_there_is_not_good(tmp_path):
    report = examine("xquad", root=tmp_path)
    assert not report.good and report.absent["xquad"]["test"] == list(get_task("xquad").languages)


def test_progress_names_each_split():
    seen = []
    doctor.examine([get_task("mlqa")], data(), progress=seen.append)
    assert seen == ["mlqa dev", "mlqa test"]


# ---------------------------------------------------------------- packing


def test_packed_files_serve_as_a_root_with_the_same_revision(tmp_path):
    task = get_task("udpos")
    wanted = [(task, "de", "test"), (task, "en", "train")]
    written = pack.pack(wanted, data(), tmp_path)
    assert len(written) == 3
    for _, language, split in wanted:
        there, here = (
            sources.revision(task, data(root), language=language, split=split)
            for root in (tmp_path, FIXTURES / "original")
        )
        assert there == here
    assert pack.pack(wanted, data(), tmp_path) == []


def test_packing_what_is_missing_says_what_to_download(tmp_path):
    from xtl.errors import XtlError

    with pytest.raises(XtlError, match=r"no dev files for 'ar': looked in"):
        pack.pack([(get_task("mlqa"), "ar", "dev")], data(), tmp_path)


def test_packed_hub_tables_are_read_without_a_server(tmp_path, monkeypatch):
    from datasets import Dataset

    packed = Dataset.from_list([{"premise": "a", "hypothesis": "b", "label": 1}])
    monkeypatch.setattr(hub, "download", lambda *a, **k: packed)
    pack.pack([(get_task("xnli"), "sw", "test")], Data(source="hub"), tmp_path)
    monkeypatch.setattr(hub, "download", lambda *a, **k: pytest.fail("asked a server"))
    loaded = sources.load(get_task("xnli"), "sw", "test", Data(source="hub", root=str(tmp_path)))
    assert len(loaded.examples) == 1


def test_tokenizer_is_packed_from_its_folder(tmp_path):
    (tmp_path / "from").mkdir()
    (tmp_path / "from" / "tokenizer.json").write_text("{}")
    written = pack.pack([], data(tokenizer=str(tmp_path / "from")), tmp_path / "to")
    assert written == [tmp_path / "to" / "tokenizer" / "tokenizer.json"]


# ---------------------------------------------------------------- the verb


def xtl(*words):
    from xtl.cli import main as cli

    return cli.main(["data", *words])


def test_verb_exits_by_the_verdict_and_writes_its_report(tmp_path, capsys):
    root = FIXTURES / "original"
    assert xtl("--task=mnli,mlqa", f"--config.data.root={root}", f"--json={tmp_path / 'd.json'}") == 0
    assert "good: 8 sets read" in capsys.readouterr().out
    assert json.loads((tmp_path / "d.json").read_text())["good"]
    nli(tmp_path, SWAPPED)
    assert xtl("--task=xnli", f"--config.data.root={tmp_path}") == 1
    assert "label order looks wrong" in " ".join(capsys.readouterr().out.split())


def test_verb_without_a_root_is_one_line(tmp_path, capsys):
    assert xtl("--task=mnli", f"--config.data.root={tmp_path / 'no'}") == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "does not exist" in error


def test_verb_packs(tmp_path, capsys):
    assert xtl("--task=mlqa", f"--pack={tmp_path / 'p'}", f"--config.data.root={FIXTURES / 'original'}") == 0
    assert len(list((tmp_path / "p").rglob("*.json"))) == 4


def test_the_synthetic_languages_are_not_held_against_the_published_set():
    world = {"more_languages": 2, "dev": 20, "test": 20}
    report = doctor.examine([get_task("xnli"), get_task("tatoeba")], Data(source="world", world=world))
    assert not report.absent and not report.incomplete
    assert {c.language for c in report.checked if c.task == "xnli"} >= {"en", "qfc", "qga", "qgb"}
    assert all(c.expected is None and not c.bad for c in report.checked)
