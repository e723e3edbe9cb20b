"""Readers: both quoting dialects, odd characters, and errors that name the file and the line."""

import pytest

from xtl.data.sources.formats import columns, conllu, dual, plain, squad, text
from xtl.data.sources.formats.base import Place, SplitFiles, distinct_ids
from xtl.data.sources.formats.examples import Labels, span
from xtl.errors import XtlError
from xtl.task import UPOS, Tagged, Text

TAGS = Labels("udpos", UPOS)


def split_files(*paths, language="en", split="train", **options):
    return SplitFiles(tuple(paths), language, split, language, options)


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


# ---------------------------------------------------------------- lines and rows


def test_only_line_feeds_end_lines(tmp_path):
    path = write(tmp_path / "a.txt", "one\u2028still one\x0band\x85too\r\ntwo\rstill two\nthree")
    assert list(text.lines(path)) == [
        (1, "one\u2028still one\x0band\x85too"),
        (2, "two\rstill two"),
        (3, "three"),
    ]


def test_byte_order_mark_is_not_text(tmp_path):
    assert list(text.lines(write(tmp_path / "a.txt", b"\xef\xbb\xbfone\n"))) == [(1, "one")]


def test_bytes_that_are_not_utf8_name_the_line(tmp_path):
    path = write(tmp_path / "a.txt", b"fine\nbro\xffken\n")
    with pytest.raises(XtlError, match=r"a\.txt:2: not UTF-8 \(invalid start byte at byte 3\)"):
        list(text.lines(path))


def test_unquoted_dialect_keeps_bare_quotation_marks(tmp_path):
    path = write(tmp_path / "a.tsv", 'a\tb\n"Stop\t""he" said\n')
    assert [row for _, row in text.tsv(path)] == [{"a": '"Stop', "b": '""he" said'}]


def test_csv_dialect_undoes_quoting_and_carriage_returns(tmp_path):
    path = write(tmp_path / "a.tsv", '"He said ""stop"""\tplain\tx\r\n"""Go"", she said"\tb\ty\r\n')
    rows = [row for _, row in text.tsv(path, columns=("a", "b", "label"), quoted=True)]
    assert rows == [
        {"a": 'He said "stop"', "b": "plain", "label": "x"},
        {"a": '"Go", she said', "b": "b", "label": "y"},
    ]


def test_unquoted_file_in_the_place_of_a_quoted_one_is_refused(tmp_path):
    path = write(tmp_path / "a.tsv", 'fine\tfine\n"Stop\tsaid he\n')
    with pytest.raises(XtlError, match=r"a\.tsv:2: a bare quotation mark in a file of the csv dialect"):
        list(text.tsv(path, columns=("a", "b"), quoted=True))


@pytest.mark.parametrize("row", ["only one", "one\ttwo\tthree\tfour"])
def test_wrong_column_count_names_the_line_and_the_columns(tmp_path, row):
    path = write(tmp_path / "a.tsv", f"a\tb\tc\n1\t2\t3\n{row}\n")
    with pytest.raises(XtlError, match=r"a\.tsv:3: \d columns, expected 3 \(a, b, c\)"):
        list(text.tsv(path))


def test_truncated_json_line_names_file_and_line(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"a": 1}\n\n{"a": "unfini')
    with pytest.raises(XtlError, match=r"a\.jsonl:3: truncated JSON, fetch the file again"):
        list(text.json_lines(path))


def test_truncated_json_file_is_one_line_error(tmp_path):
    path = write(tmp_path / "a.json", '{"data": [\n{"paragraphs": [')
    with pytest.raises(XtlError, match=r"a\.json: truncated JSON, fetch the file again") as error:
        text.json_file(path)
    assert "\n" not in str(error.value)


def test_comma_separated_cells_hold_line_ends_and_quotes(tmp_path):
    path = write(tmp_path / "a.csv", 'id,text\n1,"two\nlines, ""quoted"""\n')
    assert [row for _, row in text.comma_separated(path)] == [{"id": "1", "text": 'two\nlines, "quoted"'}]


def test_comma_separated_file_cut_inside_a_quote_is_refused(tmp_path):
    path = write(tmp_path / "a.csv", 'id,text\n1,"cut')
    with pytest.raises(XtlError, match=r"a\.csv:2: unexpected end of data"):
        list(text.comma_separated(path))


# ---------------------------------------------------------------- ids, labels, spans


def test_repeated_ids_are_numbered_and_counted():
    from collections import Counter

    dropped = Counter()
    ids = [t.id for t in distinct_ids([Text("1", "a"), Text("1", "b"), Text("1#2", "c"), Text("1", "d")], dropped)]
    assert ids == ["1", "1#3", "1#2", "1#4"]
    assert dropped == {"repeated id numbered": 2}


def test_unknown_label_names_the_place_and_the_known_ones():
    with pytest.raises(XtlError, match=r"f:7: label 'VRB' is unknown to task udpos \(known: ADJ, ADP"):
        TAGS.index("VRB", "f:7")


def place(split="train"):
    from collections import Counter

    return Place("f: id q", 0, "en", split, Counter())


def make_span(context, answers, split="train"):
    at = place(split)
    return span(at, id="q", question="?", context=context, answers=answers), dict(at.dropped)


def test_wrong_offset_moves_to_the_nearest_occurrence():
    question, dropped = make_span("ab ab ab", [("ab", 4)])
    assert question.answers == (("ab", 3),)
    assert dropped == {"answer offset repaired": 1}


def test_answer_that_does_not_occur_is_dropped_from_training_and_kept_elsewhere():
    assert make_span("ab", [("xy", 0)]) == (None, {"answer not in the context": 1})
    question, dropped = make_span("ab", [("xy", 0)], split="test")
    assert question.answers == (("xy", -1),)
    assert dropped == {"answer not in the context": 1}


def test_offset_beyond_the_context_or_below_zero_is_repaired():
    assert make_span("one two", [("two", 99)])[0].answers == (("two", 4),)
    assert make_span("one two", [("two", -3)])[0].answers == (("two", 4),)


def test_no_answers_mean_unanswerable_and_blank_answers_mean_hidden():
    assert make_span("ab", [])[0].answers == ()
    assert make_span("ab", [("", 0)])[0].answers is None


def test_answer_without_offset_names_the_question(tmp_path):
    path = write(
        tmp_path / "q.json",
        '{"data": [{"paragraphs": [{"context": "c", '
        '"qas": [{"id": "q9", "question": "?", "answers": [{"text": "c"}]}]}]}]}',
    )
    with pytest.raises(XtlError, match=r"q\.json: id q9: an answer needs a text and an integer answer_start"):
        squad.read()(split_files(path))


def test_json_that_is_not_squad_says_so(tmp_path):
    with pytest.raises(XtlError, match=r"q\.json: not SQuAD's JSON layout: no list 'data'"):
        squad.read()(split_files(write(tmp_path / "q.json", "[1]")))


# ---------------------------------------------------------------- tags


def test_words_keep_colons_and_odd_white_space(tmp_path):
    path = write(tmp_path / "t", "sw:7:30\tNUM\nsw:\u00a0\tPUNCT\nsw:a\u2028b\tNOUN\n\n\nsw:x\tX\n")
    (first, second) = columns.read(TAGS, prefixed=True)(split_files(path)).examples
    assert first.words == ("7:30", "", "a\u2028b")
    assert second == Tagged("1", ("x",), (UPOS.index("X"),))


def test_unknown_tag_names_the_line(tmp_path):
    path = write(tmp_path / "t.tsv", "a\tNOUN\nb\tNUON\n")
    with pytest.raises(XtlError, match=r"t\.tsv:2: label 'NUON' is unknown to task udpos"):
        columns.read(TAGS)(split_files(path))


def test_only_test_files_come_without_tags(tmp_path):
    path = write(tmp_path / "t.tsv", "a\nb\n\n")
    assert columns.read(TAGS)(split_files(path, split="test")).examples == [Tagged("0", ("a", "b"), None)]
    with pytest.raises(XtlError, match=r"t\.tsv:1: a word without a tag"):
        columns.read(TAGS)(split_files(path, split="dev"))


def test_a_test_sentence_with_some_tags_missing_is_refused(tmp_path):
    with pytest.raises(XtlError, match=r"t\.tsv:2: a word without a tag"):
        columns.read(TAGS)(split_files(write(tmp_path / "t.tsv", "a\tX\nb\n\n"), split="test"))


def test_conllu_row_out_of_order_names_the_line(tmp_path):
    row = "\t".join(["2", "a", "a", "X", "_", "_", "0", "root", "_", "_"])
    with pytest.raises(XtlError, match=r"t\.conllu:1: id '2' or head '0' is out of order"):
        conllu.read(TAGS)(split_files(write(tmp_path / "t.conllu", row + "\n\n"), fusion=True))


def test_conllu_short_row_names_the_line(tmp_path):
    with pytest.raises(XtlError, match=r"t\.conllu:2: 3 columns, expected the 10 of CoNLL-U"):
        conllu.read(TAGS)(split_files(write(tmp_path / "t.conllu", "# text\n1\ta\tX\n"), fusion=True))


def test_depth_of_a_cycle_is_finite():
    assert conllu.depth([2, 1], 1) == 2


def sentence(tags, heads, fused=()):
    return conllu.Sentence("f:1", [t.lower() for t in tags], list(tags), list(heads), list(fused))


def test_multiword_token_takes_the_tag_of_the_part_nearest_the_root():
    s = sentence(("ADP", "DET", "NOUN"), (3, 1, 0), [(1, 2, "im")])
    assert conllu.fuse(s, "de") == (["im", "noun"], ["ADP", "NOUN"])


def test_tie_between_parts_is_decided_by_the_language_order():
    s = sentence(("ADP", "PRON", "VERB"), (3, 3, 0), [(1, 2, "zuihm")])
    assert conllu.fuse(s, "de")[1] == ["PRON", "VERB"]  # PRON before ADP by default
    s = sentence(("NOUN", "AUX", "VERB"), (3, 3, 0), [(1, 2, "x")])
    assert conllu.fuse(s, "de")[1] == ["NOUN", "VERB"]
    assert conllu.fuse(s, "fr")[1] == ["AUX", "VERB"]  # French puts AUX before NOUN


def test_words_lose_spaces_and_zero_width_non_joiners_only_inside():
    assert conllu.clean("mi\u200cravam") == "miravam"
    assert conllu.clean("1 000") == "1000"
    assert conllu.clean("\u200c") == "\u200c"  # a word must stay a word


def test_withheld_sentences_are_those_with_at_most_one_word_left():
    assert conllu.withheld(["_", "_", "."])
    assert not conllu.withheld(["_", "a", "."])
    assert not conllu.withheld(["a"])


# ---------------------------------------------------------------- plain text


def test_plain_text_is_read_lazily_and_splits_are_disjoint(tmp_path):
    path = write(tmp_path / "fi.txt", "".join(f"rivi {i} 🛶\n" for i in range(500)) + "\n \nrivi 3 🛶\nviimeinen")
    train, dev = (plain.read_lines(split_files(path, language="fi", split=s)) for s in ("train", "dev"))
    texts = [t.text for t in train.examples] + [t.text for t in dev.examples]
    assert sorted(texts) == sorted([*(f"rivi {i} 🛶" for i in range(500)), "viimeinen"])
    assert 1 <= len(dev.examples) <= 30
    assert train.dropped == {"blank line": 2, "repeated text": 1}
    assert train.examples[2:5] == [train.examples[i] for i in (2, 3, 4)]
    assert len({t.id for t in train.examples}) == len(train.examples)


def test_plain_text_that_is_not_utf8_names_the_line_when_it_is_reached(tmp_path):
    path = write(tmp_path / "fi.txt", b"hyv\xe4\xe4\n" * 1 + b"fine\n")
    examples = plain.read_lines(split_files(path, language="fi")).examples
    with pytest.raises(XtlError, match=r"fi\.txt:1: not UTF-8"):
        list(examples)


# ---------------------------------------------------------------- dual encoders


def test_sentences_break_at_full_stops_but_not_at_initials_and_titles():
    text_ = 'Dr. A. Krog left. "Where to?" asked Bo. To 3.5 km north!'
    parts = [text_[a:b].strip() for a, b in dual.sentence_breaks(text_)]
    assert parts == ["Dr. A. Krog left.", '"Where to?" asked Bo.', "To 3.5 km north!"]


def test_sentence_breaks_cover_the_text():
    text_ = "One. Two?  Three"
    breaks = dual.sentence_breaks(text_)
    assert "".join(text_[a:b] for a, b in breaks) == text_
