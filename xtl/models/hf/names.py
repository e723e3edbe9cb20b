"""Where every weight of the encoder and of the heads lies in a Hugging Face file: names, and the order of elements.

Linear weights are [out, in] there and [in, out] here. Letters as in encoder.py; K is the outputs of a head. Source:
transformers' XLMRoberta and XLMRobertaXL classes.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from xtl.models.encoder import EncoderConfig

# Weight here -> (how its elements lie there, name there). {n} is the layer.

COMMON = {
    "embed/token": ("table", "embeddings.word_embeddings.weight"),
    "embed/position": ("table", "embeddings.position_embeddings.weight"),
    "embed/token_type": ("row", "embeddings.token_type_embeddings.weight"),
    "layers/attention/query/kernel": ("linear", "encoder.layer.{n}.attention.self.query.weight"),
    "layers/attention/query/bias": ("vector", "encoder.layer.{n}.attention.self.query.bias"),
    "layers/attention/key/kernel": ("linear", "encoder.layer.{n}.attention.self.key.weight"),
    "layers/attention/key/bias": ("vector", "encoder.layer.{n}.attention.self.key.bias"),
    "layers/attention/value/kernel": ("linear", "encoder.layer.{n}.attention.self.value.weight"),
    "layers/attention/value/bias": ("vector", "encoder.layer.{n}.attention.self.value.bias"),
    "layers/attention/out/kernel": ("linear", "encoder.layer.{n}.attention.output.dense.weight"),
    "layers/attention/out/bias": ("vector", "encoder.layer.{n}.attention.output.dense.bias"),
    "layers/mlp/wi/kernel": ("linear", "encoder.layer.{n}.intermediate.dense.weight"),
    "layers/mlp/wi/bias": ("vector", "encoder.layer.{n}.intermediate.dense.bias"),
    "layers/mlp/wo/kernel": ("linear", "encoder.layer.{n}.output.dense.weight"),
    "layers/mlp/wo/bias": ("vector", "encoder.layer.{n}.output.dense.bias"),
    "pooler/kernel": ("linear", "pooler.dense.weight"),
    "pooler/bias": ("vector", "pooler.dense.bias"),
}
NORMS = {
    "post": {
        "embed/norm": "embeddings.LayerNorm",
        "layers/attention_norm": "encoder.layer.{n}.attention.output.LayerNorm",
        "layers/mlp_norm": "encoder.layer.{n}.output.LayerNorm",
    },
    "pre": {
        "layers/attention_norm": "encoder.layer.{n}.attention.self_attn_layer_norm",
        "layers/mlp_norm": "encoder.layer.{n}.LayerNorm",
        "norm": "encoder.LayerNorm",
    },
}
# Copies of other tensors, and buffers that older versions stored.
IGNORED = re.compile(r"(.*\.)?position_ids|lm_head\.decoder\.(weight|bias)")
MODEL_TYPES = {"xlm-roberta": "post", "xlm-roberta-xl": "pre"}
FIELDS = {  # of EncoderConfig -> of config.json
    "vocab_size": "vocab_size",
    "hidden": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "mlp": "intermediate_size",
    "max_positions": "max_position_embeddings",
    "dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
    "eps": "layer_norm_eps",
    "pad_id": "pad_token_id",
}


def class_prefix(config: EncoderConfig) -> str:
    """How the names of transformers' classes for such an encoder begin."""
    return {"post": "XLMRoberta", "pre": "XLMRobertaXL"}[config.norm]


def encoder_names(config: EncoderConfig) -> dict[str, tuple[str, str]]:
    """Path of every encoder weight -> (layout, name template in a Hugging Face file)."""
    table = dict(COMMON)
    for ours, theirs in NORMS[config.norm].items():
        table[f"{ours}/scale"] = ("vector", f"{theirs}.weight")
        table[f"{ours}/bias"] = ("vector", f"{theirs}.bias")
    return table


# ---------------------------------------------------------------- heads


@dataclass(frozen=True)
class Head:
    """A task's head as one of transformers' classes has it."""

    architecture: str  # the class, after XLMRoberta or XLMRobertaXL
    weights: Mapping[str, tuple[str, str, str]]  # weight here -> (how it lies there, dimensions here, name there)
    labels: tuple[str, ...] = ()  # words of the outputs; () where transformers has none
    outputs: int = 0  # K

    def shape(self, path: str, config: EncoderConfig) -> tuple[int, ...]:
        """The shape here of one of the weights."""
        sizes = {"D": config.hidden, "V": config.vocab_size, "K": self.outputs}
        return tuple(sizes[letter] for letter in self.weights[path][1])


def _linear(ours: str, theirs: str, dims: str) -> dict[str, tuple[str, str, str]]:
    return {
        f"{ours}/kernel": ("linear", dims, f"{theirs}.weight"),
        f"{ours}/bias": ("vector", dims[1:], f"{theirs}.bias"),
    }


MLM = Head(
    "ForMaskedLM",
    {
        **_linear("dense", "lm_head.dense", "DD"),
        "norm/scale": ("vector", "D", "lm_head.layer_norm.weight"),
        "norm/bias": ("vector", "D", "lm_head.layer_norm.bias"),
        "bias": ("vector", "V", "lm_head.bias"),
    },
)
_HEADS = (
    MLM,
    Head(
        "ForSequenceClassification",
        _linear("dense", "classifier.dense", "DD") | _linear("out", "classifier.out_proj", "DK"),
    ),
    # There the dense layer of the head is the encoder's pooler.
    Head(
        "ForMultipleChoice",
        _linear("classifier/dense", "roberta.pooler.dense", "DD") | _linear("classifier/out", "classifier", "DK"),
        outputs=1,
    ),
    Head("ForQuestionAnswering", _linear("out", "qa_outputs", "DK"), outputs=2),
    Head("ForTokenClassification", _linear("out", "classifier", "DK")),
)
HEADS = {head.architecture: head for head in _HEADS}


def head(architecture: str, labels: Sequence[str] = ()) -> Head:
    """The head of a class of transformers (`Family.head_of_transformers` names it), for a task with these labels."""
    known = HEADS[architecture]
    if known is MLM or known.outputs:
        return known
    return replace(known, labels=tuple(labels), outputs=len(labels))


# ---------------------------------------------------------------- order of elements


def read_block(layout: str, tensor: Any, index: tuple[slice, ...]) -> np.ndarray:
    """The block `index` (of a weight as it is here) out of the sliceable tensor that holds it there."""
    match layout:
        case "vector" | "table":
            return tensor[index]
        case "row":
            return tensor[(slice(0, 1), *index)][0]
        case "linear":
            return tensor[index[1], index[0]].T
    raise ValueError(layout)


def write_block(layout: str, weight: np.ndarray) -> np.ndarray:
    """The tensor that holds a whole weight there: the inverse of read_block."""
    return {"row": weight[None], "linear": weight.T}.get(layout, weight)


def tensor_shape(layout: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape there of a weight that has `shape` here."""
    return {"row": (1, *shape), "linear": shape[::-1]}.get(layout, shape)
