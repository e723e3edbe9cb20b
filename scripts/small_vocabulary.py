"""Train a small SentencePiece vocabulary on the MLM text of a data folder, in XLM-R's layout.

    python scripts/small_vocabulary.py --root=DATA --out=runs/vocabulary --size=16000

Writes OUT/sentencepiece.bpe.model; give the encoder SIZE + 2 pieces (XLM-R adds <pad> and <mask>). Languages are
sampled with XLM-R's exponent, so that small ones get pieces of their own.
"""

import argparse
import random
import sys
from collections.abc import Iterator
from pathlib import Path

from xtl.data import sources
from xtl.data.settings import Data
from xtl.task import Text
from xtl.tasks import get_task

EXPONENT = 0.3


def sentences(root: str, *, count: int, seed: int = 0) -> Iterator[str]:
    """`count` texts of all languages there are, language by language, with replacement in small ones."""
    task, data = get_task("mlm"), Data(source="files", root=root)
    texts = {
        language: [e.text for e in sources.load(task, language, "train", data).examples if isinstance(e, Text)]
        for language in sources.languages(task, data, split="train")
    }
    weights = {language: len(lines) ** EXPONENT for language, lines in texts.items()}
    rng = random.Random(seed)
    for language, lines in texts.items():
        share = round(count * weights[language] / sum(weights.values()))
        yield from rng.sample(lines, share) if share <= len(lines) else rng.choices(lines, k=share)


def main(argv: list[str] | None = None) -> int:
    """Train and write."""
    import sentencepiece

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", required=True, help="data folder, as for data.root")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", type=int, default=16000, help="pieces with <unk>, <s> and </s>")
    parser.add_argument("--count", type=int, default=100_000, help="texts to train on")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=sentences(args.root, count=args.count),
        model_prefix=str(args.out / "sentencepiece.bpe"),
        vocab_size=args.size,
        model_type="unigram",
        character_coverage=0.9995,
        normalization_rule_name="nmt_nfkc",
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        minloglevel=1,
    )
    (args.out / "sentencepiece.bpe.vocab").unlink()
    print(f"{args.out}: {args.size} pieces; config arguments vocabulary={args.out},pieces={args.size + 2}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
