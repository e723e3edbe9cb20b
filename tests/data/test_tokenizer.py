"""Tokenizer: ids as SentencePiece's for any text, offsets into the original text, one result whatever the path."""

import io
import json

import numpy as np
import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.small_tokenizer import rust_tokenizer, small_tokenizer
from xtl.data.tokenizer import BOS, EOS, PAD, SPECIALS, UNK, Tokenizer, load_tokenizer
from xtl.errors import XtlError

TOKENIZER = small_tokenizer()
TEXT = """The cat sat on the mat. Der Hund läuft über die Straße. Кошка сидит на ковре. 你好，世界。
שלום עולם مرحبا بالعالم नमस्ते दुनिया สวัสดีชาวโลก Every house by the river was sold in 1923, she said."""


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    """A folder with a SentencePiece model of XLM-R's kind, trained on a few sentences."""
    folder = tmp_path_factory.mktemp("spm")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT.splitlines() * 20),
        model_writer=model,
        vocab_size=150,
        hard_vocab_limit=False,
        model_type="unigram",
        normalization_rule_name="nmt_nfkc",
        minloglevel=2,
    )
    (folder / "sentencepiece.bpe.model").write_bytes(model.getvalue())
    return folder


def reference_ids(folder, text):
    """SentencePiece's own ids in fairseq's numbering: unknown is 3, the others one higher."""
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "sentencepiece.bpe.model"))
    return [3 if i == 0 else i + 1 for i in processor.encode(text)]


@pytest.mark.parametrize(
    "text",
    [
        "The cat sat on the mat.",
        "你好，世界 hello",
        "a </s> <s>b <mask> <pad> <unk>",  # text of specials is text
        "Straße  läuft\tüber\n",
        "ﬁne ＡＢＣ ½ e\u0301",
        "",
        "   ",
    ],
)
def test_ids_are_sentencepieces(model_folder, text):
    tokenizer = load_tokenizer(str(model_folder))
    assert tokenizer.encode_batch([text])[0][0].tolist() == reference_ids(model_folder, text)


def test_layout_of_ids_is_xlm_rs(model_folder):
    tokenizer = load_tokenizer(str(model_folder))
    assert tokenizer.pieces([BOS, PAD, EOS, UNK]) == list(SPECIALS)
    assert tokenizer.mask == tokenizer.vocab_size - 1
    assert tokenizer.pieces([0, 2, tokenizer.mask]) == ["<s>", "</s>", "<mask>"]


def test_folder_is_loaded_once_and_its_fingerprint_is_of_the_content(model_folder, tmp_path):
    assert load_tokenizer(str(model_folder)) is load_tokenizer(str(model_folder))
    copy = tmp_path / "sentencepiece.bpe.model"
    copy.write_bytes((model_folder / "sentencepiece.bpe.model").read_bytes())
    assert load_tokenizer(str(tmp_path)).fingerprint == load_tokenizer(str(model_folder)).fingerprint
    assert load_tokenizer(str(tmp_path)).fingerprint != TOKENIZER.fingerprint


def test_tokenizer_json_gives_the_same_ids_and_hides_its_specials(tmp_path):
    rust = rust_tokenizer()
    rust.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    rust.enable_truncation(4)
    rust.save(str(tmp_path / "tokenizer.json"))
    loaded = load_tokenizer(str(tmp_path))
    text = "the cat sat on a mat"
    assert loaded.encode_batch([text])[0][0].tolist() == TOKENIZER.encode_batch([text])[0][0].tolist()
    assert loaded.vocab_size == TOKENIZER.vocab_size
    assert not {0, 1, 2, loaded.mask} & set(loaded.encode_batch(["<s> </s> <mask>a<pad>"])[0][0].tolist())


@given(st.lists(st.text(max_size=30), max_size=8))
@settings(deadline=None)
def test_both_paths_give_the_same_ids(texts):
    texts = texts + texts[:2]  # repeats are encoded once
    ids, offsets = TOKENIZER.encode_ids_batch(iter(texts))
    pairs = TOKENIZER.encode_batch(texts)
    assert ids.dtype == np.int32 and len(offsets) == len(texts) + 1 and offsets[-1] == len(ids)
    for i, (expected, _) in enumerate(pairs):
        assert ids[offsets[i] : offsets[i + 1]].tolist() == expected.tolist()


@given(st.text(max_size=40))
@settings(deadline=None)
def test_offsets_are_ordered_and_inside_the_text(text):
    _, offsets = TOKENIZER.encode_batch([text])[0]
    assert ((offsets[:, 0] >= 0) & (offsets[:, 0] <= offsets[:, 1]) & (offsets[:, 1] <= len(text))).all()
    assert (np.diff(offsets[:, 0]) >= 0).all()


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("the 👍🏽 cat", ["the", "👍🏽", "cat"]),  # offsets count characters, neither bytes nor UTF-16 units
        ("was e\u0301te\u0301 in", ["was", "e\u0301te\u0301", "in"]),  # accents merged away stay part of the word
        ("👩\u200d👩 a", ["👩\u200d👩", "a"]),
        ("你好世界 東京", ["你好世界", "東京"]),
        ("ＡＢ１ a", ["ＡＢ１", "a"]),
        ("שלום ة", ["שלום", "ة"]),
    ],
)
def test_offsets_cut_words_out_of_the_original_text(text, cut):
    ids, offsets = TOKENIZER.encode_batch([text])[0]
    starts = [i for i, piece in enumerate(TOKENIZER.pieces(ids)) if piece.startswith("▁")]
    ends = [*(i - 1 for i in starts[1:]), len(ids) - 1]
    assert [text[offsets[a, 0] : offsets[b, 1]] for a, b in zip(starts, ends, strict=True)] == cut


def test_foreign_layout_missing_files_and_damage_are_one_line_errors(tmp_path):
    with pytest.raises(XtlError, match="neither a folder, nor a hub id"):
        load_tokenizer(str(tmp_path / "absent"))
    with pytest.raises(XtlError, match="holds neither sentencepiece"):
        load_tokenizer(str(tmp_path))
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(XtlError, match="not a readable tokenizer"):
        load_tokenizer(str(tmp_path))
    other = json.loads(rust_tokenizer().to_str())
    other["model"]["vocab"][1:3] = other["model"]["vocab"][2:0:-1]
    (tmp_path / "tokenizer.json").write_text(json.dumps(other))
    with pytest.raises(XtlError, match="<pad> must be id 1"):
        load_tokenizer(str(tmp_path))


def test_a_bare_rust_tokenizer_has_a_fingerprint_of_its_own():
    assert Tokenizer(rust_tokenizer()).fingerprint == TOKENIZER.fingerprint
