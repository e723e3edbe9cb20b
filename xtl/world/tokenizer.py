"""The world's own tokenizer: a unigram model over stems, affixes and letters, with the special ids of XLM-R."""

from collections.abc import Mapping
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

from xtl.world.grammar import lexicons
from xtl.world.language import ALPHABETS
from xtl.world.options import World, make_world

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
MARKS = ".,?:!'\"-{}()"


def pieces(world: World) -> list[str]:
    """All pieces but the special ones. Stems and affixes of every language come first, letters last."""
    stems_and_affixes: dict[str, None] = {}
    for lexicon in lexicons(world).values():
        for form in (*lexicon.concepts, *lexicon.function.values()):
            stems_and_affixes["▁" + form] = None
        for form in lexicon.affixes.values():
            stems_and_affixes[form] = None
    letters = {c for piece in stems_and_affixes for c in piece}
    letters |= {c for row in ALPHABETS.values() for part in row for c in part}
    letters |= set("abcdefghijklmnopqrstuvwxyz0123456789") | set(MARKS)
    return [*stems_and_affixes, *sorted(letters - set(stems_and_affixes))]


def tokenizer(options: Mapping[str, Any] | World | None = None) -> Tokenizer:
    """The tokenizer of a world: `<s>` 0, `<pad>` 1, `</s>` 2, `<unk>` 3, `<mask>` last.

    Scores make the fewest pieces win, and among these the longest stem; so a known word is stem + affixes.
    """
    vocabulary = [(token, 0.0) for token in SPECIAL]
    for piece in pieces(make_world(options)):
        single = len(piece.removeprefix("▁")) <= 1
        vocabulary.append((piece, -20.0 if single else -10.0 + 0.01 * len(piece) * piece.startswith("▁")))
    vocabulary.append(("<mask>", 0.0))
    model = Tokenizer(models.Unigram(vocabulary, unk_id=3, byte_fallback=False))
    model.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    model.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    model.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL])
    model.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True, normalized=False)])
    model.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return model
