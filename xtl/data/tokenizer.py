"""Text to XLM-R piece ids, through the rust `tokenizers` library.

Data may contain the text "</s>" or "<mask>". SentencePiece never reads such text as the special piece; the `tokenizers`
copy of a model does, because there the specials are ordinary vocabulary with the best score. Here the specials are
renamed so that no text can match them (their names end in a space, and words are split at white space first). Ids then
are SentencePiece's, but for ties between segmentations (3 of 171,562 texts of the XTREME tasks) and for half-width kana
with sound marks, which the `tokenizers` library does not compose. Special ids are put in by the task families.
"""

import functools
import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from xtl.data.rows import ranges
from xtl.data.sources import hub
from xtl.errors import Absent, XtlError
from xtl.files import refuse_pointer

BOS, PAD, EOS, UNK = 0, 1, 2, 3
SPECIALS = ("<s>", "<pad>", "</s>", "<unk>")
MASK_NAME = "<mask>"
MODEL_FILES = ("sentencepiece.bpe.model", "tokenizer.json")  # in the order they are looked for
METASPACE = "▁"
CHUNK = 8192  # texts per call into rust: bounds memory, and is the window in which repeated texts are encoded once
WORDS = 1 << 18  # words whose pieces the model remembers; its own 10,000 do not hold the words of one language
RULES = "1"  # goes into the fingerprint; raise it when the same file gives other ids


class Tokenizer:
    """Piece ids without specials, and character offsets into the original text. Thread-safe.

    `rust` must have `<s>`, `<pad>`, `</s>`, `<unk>` as ids 0 to 3; `fingerprint` (sha256 of what the ids depend on) is
    derived from its serialised form when not given.
    """

    def __init__(self, rust: tokenizers.Tokenizer, *, fingerprint: str | None = None):
        for expected, name in enumerate(SPECIALS):
            if _special_id(rust, name) != expected:
                raise XtlError(
                    f"tokenizer: {name} must be id {expected}, it is {_special_id(rust, name)}: not XLM-R's layout"
                )
        mask = _special_id(rust, MASK_NAME)
        if mask is None:
            raise XtlError(f"tokenizer: {MASK_NAME} is not in the vocabulary")
        rust.no_truncation()
        rust.no_padding()
        rust.encode_special_tokens = True  # added tokens in the data are text, too
        if hasattr(rust.model, "_resize_cache"):
            rust.model._resize_cache(WORDS)
        self.rust = rust
        self.mask: int = mask
        self.vocab_size: int = rust.get_vocab_size()
        self.fingerprint = fingerprint or hashlib.sha256(f"{RULES}{rust.to_str()}".encode()).hexdigest()

    def encode_batch(self, texts: Sequence[str]) -> list[tuple[np.ndarray, np.ndarray]]:
        """(ids int32 [n], offsets int32 [n, 2]) of each text.

        Offsets count Python characters of the text as given: piece i covers text[start:end]. Normalisation may merge
        characters (a letter and its accent) or expand one into several pieces, which then share its offsets; every
        character that is not white space belongs to a piece, unless the text begins with invisible ones. Equal texts
        share their arrays, which are read-only.
        """
        encoded: list[tuple[np.ndarray, np.ndarray]] = []
        for chunk in _chunks(texts):
            index = _unique(chunk)
            unique = []
            for text, e in zip(index, self.rust.encode_batch(list(index), add_special_tokens=False), strict=True):
                ids, offsets = np.array(e.ids, np.int32), np.array(e.offsets, np.int32).reshape(-1, 2)
                if not text.isascii():
                    _cover(text, offsets)
                ids.setflags(write=False)
                offsets.setflags(write=False)
                unique.append((ids, offsets))
            encoded.extend(unique[index[text]] for text in chunk)
        return encoded

    def encode_ids_batch(self, texts: Iterable[str]) -> tuple[np.ndarray, np.ndarray]:
        """(ids int32 [tokens], offsets int64 [texts + 1]): text i is ids[offsets[i]:offsets[i + 1]]. The fast path."""
        parts, lengths = [], []
        for chunk in _chunks(texts):
            index = _unique(chunk)
            encodings = self.rust.encode_batch_fast(list(index), add_special_tokens=False)
            length = np.fromiter(map(len, encodings), np.int64, count=len(encodings))
            ids = np.fromiter(
                itertools.chain.from_iterable(e.ids for e in encodings), np.int32, count=int(length.sum())
            )
            if len(index) < len(chunk):
                take = np.fromiter(map(index.__getitem__, chunk), np.int64, count=len(chunk))
                starts = np.cumsum(length) - length
                ids, length = ids[ranges(starts[take], length[take])], length[take]
            parts.append(ids)
            lengths.append(length)
        flat = np.concatenate(parts) if parts else np.zeros(0, np.int32)
        return flat, np.concatenate([np.zeros(1, np.int64), *lengths]).cumsum()

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """The pieces as text, for people."""
        return [(self.rust.id_to_token(int(i)) or f"[{int(i)}]").rstrip(" ") for i in ids]


def _cover(text: str, offsets: np.ndarray) -> None:
    """Extends the last piece before a gap over what is no white space there: the rust library counts an accent that was
    merged into its letter, or a joiner that was dropped, to no piece, so a span that ends there would lose it."""
    following = np.append(offsets[1:, 0], len(text))
    for i in np.flatnonzero(offsets[:, 1] < following).tolist():
        end, limit = int(offsets[i, 1]), int(following[i])
        while end < limit and not text[end].isspace():
            end += 1
        offsets[i, 1] = end


def _chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    iterator = iter(texts)
    while chunk := list(itertools.islice(iterator, CHUNK)):
        yield chunk


def _unique(texts: Sequence[str]) -> dict[str, int]:
    """The distinct texts and their rank. NLI premises and QA contexts repeat; encoding them once halves the work."""
    index: dict[str, int] = {}
    for text in texts:
        index.setdefault(text, len(index))
    return index


def _special_id(rust: tokenizers.Tokenizer, name: str) -> int | None:
    hidden = rust.token_to_id(_hidden(name))
    return rust.token_to_id(name) if hidden is None else hidden


def _hidden(name: str) -> str:
    return f"{name} "


# ---------------------------------------------------------------- loading


def load_tokenizer(name: str, world: Mapping[str, object] | None = None) -> Tokenizer:
    """A tokenizer by name, loaded once per process.

    `name` is "world" (the embedded synthetic languages; `world` holds their options), a folder with
    sentencepiece.bpe.model or tokenizer.json, one of these files, or a hub id such as FacebookAI/xlm-roberta-base.
    """
    return _load(name, json.dumps(dict(world or {}), sort_keys=True, default=list) if name == "world" else "{}")


@functools.lru_cache(maxsize=8)
def _load(name: str, world: str) -> Tokenizer:
    if name == "world":
        from xtl.world import tokenizer  # generates the languages; not needed for real data

        return Tokenizer(tokenizer(json.loads(world)))
    file = _find(name)
    refuse_pointer(file)
    try:
        content = file.read_bytes()
        rust = _from_sentencepiece(content) if file.suffix == ".model" else _from_json(content)
    except Exception as error:
        raise XtlError(f"{file}: not a readable tokenizer ({type(error).__name__}: {error})") from error
    return Tokenizer(rust, fingerprint=hashlib.sha256(RULES.encode() + content).hexdigest())


def _find(name: str) -> Path:
    path = Path(name).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        for file in MODEL_FILES:
            if (path / file).is_file():
                return path / file
        raise XtlError(
            f"{name}: holds neither {' nor '.join(MODEL_FILES)}; data.tokenizer must name a folder that does"
        )
    if path.is_absolute() or name.startswith(".") or name.count("/") != 1:
        raise XtlError(f"data.tokenizer {name!r} is neither a folder, nor a hub id (owner/name), nor 'world'")
    reasons = []
    for file in MODEL_FILES:
        try:
            return hub.fetch(name, file, "main", kind="model")
        except Absent as error:
            reasons.append(str(error))
    raise XtlError(f"data.tokenizer {name!r}: no such folder, and on the hub: {'; '.join(dict.fromkeys(reasons))}")


def _from_sentencepiece(content: bytes) -> tokenizers.Tokenizer:
    """XLM-R's ids from the published model: piece id + 1, fairseq's four specials first, `<mask>` last.

    Built straight from the model's records, which is several times faster than going through tokenizer.json.
    """
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto.FromString(content)  # type: ignore[attr-defined]
    vocabulary = [(_hidden(name), 0.0) for name in SPECIALS]
    vocabulary += [(p.piece, p.score) for p in model.pieces[3:]]  # the model's own <unk>, <s>, </s> come first
    vocabulary += [(_hidden(MASK_NAME), 0.0)]
    rust = tokenizers.Tokenizer(models.Unigram(vocabulary, unk_id=UNK, byte_fallback=False))
    if model.normalizer_spec.precompiled_charsmap:
        rust.normalizer = normalizers.Precompiled(model.normalizer_spec.precompiled_charsmap)
    metaspace = pre_tokenizers.Metaspace(replacement=METASPACE, prepend_scheme="always")
    rust.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), metaspace])
    rust.decoder = decoders.Metaspace(replacement=METASPACE, prepend_scheme="always")
    return rust


def _from_json(content: bytes) -> tokenizers.Tokenizer:
    """A tokenizer.json without its added tokens and template, its specials hidden from the text."""
    spec = json.loads(content)
    spec.update(added_tokens=[], post_processor=None, truncation=None, padding=None)
    hide = {name: _hidden(name) for name in (*SPECIALS, MASK_NAME)}
    model = spec["model"]
    vocabulary = model["vocab"]
    if isinstance(vocabulary, list):  # Unigram: [piece, score] in the order of ids
        model["vocab"] = [[hide.get(piece, piece), score] for piece, score in vocabulary]
    else:
        model["vocab"] = {hide.get(piece, piece): i for piece, i in vocabulary.items()}
    if model.get("unk_token") in hide:
        model["unk_token"] = hide[model["unk_token"]]
    return tokenizers.Tokenizer.from_str(json.dumps(spec))
