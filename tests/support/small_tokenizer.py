"""A small tokenizer in XLM-R's layout: a few words and pieces, and all single letters that tests use."""

import string

import tokenizers
from tokenizers import models, normalizers, pre_tokenizers

from xtl.data.tokenizer import Tokenizer

COMMON = "the cat sat on a mat dog house river who where is was in paris london 1 2 3"
WORDS = tuple(COMMON.split())
SCRIPTS = "äöüéñçßабвгдежзшיהושלםابتسنعمहिनदी你好世界東京大学กขคง👩👍🏽\u0301\u200d"
LETTERS = string.ascii_letters + string.digits + string.punctuation + SCRIPTS


def rust_tokenizer() -> tokenizers.Tokenizer:
    vocabulary = [(name, 0.0) for name in ("<s>", "<pad>", "</s>", "<unk>")]
    vocabulary += [("▁" + word, -5.0) for word in WORDS] + [("▁", -3.0), ("ing", -4.0), ("er", -4.0), ("你好", -4.0)]
    vocabulary += [(letter, -8.0) for letter in dict.fromkeys(LETTERS)]
    vocabulary += [("<mask>", 0.0)]
    rust = tokenizers.Tokenizer(models.Unigram(vocabulary, unk_id=3, byte_fallback=False))
    rust.normalizer = normalizers.NFKC()
    metaspace = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    rust.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), metaspace])
    return rust


def small_tokenizer() -> Tokenizer:
    return Tokenizer(rust_tokenizer())
