"""Where every weight of the encoder lies in a Hugging Face file: names, and the order of elements.

Linear weights are [out, in] there and [in, out] here; query, key and value are one fused weight here. Letters as in
encoder.py. Source: transformers' XLMRoberta and XLMRobertaXL classes.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from xtl.models.encoder import EncoderConfig

# Weight here -> (how its elements lie there, names there). {n} is the layer; three names are query, key, value.

COMMON = {
    "embed/token": ("table", "embeddings.word_embeddings.weight"),
    "embed/position": ("table", "embeddings.position_embeddings.weight"),
    "embed/token_type": ("row", "embeddings.token_type_embeddings.weight"),
    "layers/attention/qkv/kernel": ("qkv kernel", "encoder.layer.{n}.attention.self.{qkv}.weight"),
    "layers/attention/qkv/bias": ("qkv bias", "encoder.layer.{n}.attention.self.{qkv}.bias"),
    "layers/attention/out/kernel": ("out kernel", "encoder.layer.{n}.attention.output.dense.weight"),
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
LM_HEAD = {
    "dense/kernel": ("linear", "lm_head.dense.weight"),
    "dense/bias": ("vector", "lm_head.dense.bias"),
    "norm/scale": ("vector", "lm_head.layer_norm.weight"),
    "norm/bias": ("vector", "lm_head.layer_norm.bias"),
    "bias": ("vector", "lm_head.bias"),
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


def encoder_names(config: EncoderConfig) -> dict[str, tuple[str, str]]:
    """Path of every encoder weight -> (layout, name template in a Hugging Face file)."""
    table = dict(COMMON)
    for ours, theirs in NORMS[config.norm].items():
        table[f"{ours}/scale"] = ("vector", f"{theirs}.weight")
        table[f"{ours}/bias"] = ("vector", f"{theirs}.bias")
    return table


def tensor_names(layout: str, template: str, layer: int) -> list[str]:
    """Names there of one weight of one layer: one, or three for query-key-value."""
    parts = ("query", "key", "value") if layout.startswith("qkv") else ("",)
    return [template.format(n=layer, qkv=part) for part in parts]


def read_block(layout: str, tensors: Sequence[Any], index: tuple[slice, ...], head_size: int) -> np.ndarray:
    """The block `index` (of a weight as it is here) out of the sliceable tensors that hold it there."""
    if layout.startswith("qkv") or layout == "out kernel":
        heads = index[0] if layout == "out kernel" else index[-2]
        rows = slice(heads.start * head_size, heads.stop * head_size)  # K itself is never split
    match layout:
        case "vector" | "table":
            return tensors[0][index]
        case "row":
            return tensors[0][(slice(0, 1), *index)][0]
        case "linear":
            return tensors[0][index[1], index[0]].T
        case "out kernel":
            return tensors[0][index[2], rows].T.reshape(-1, head_size, index[2].stop - index[2].start)
        case "qkv bias":
            return np.stack([tensor[rows].reshape(-1, head_size) for tensor in tensors[index[0]]])
        case "qkv kernel":
            size = index[0].stop - index[0].start
            return np.stack([t[rows, index[0]].T.reshape(size, -1, head_size) for t in tensors[index[1]]], axis=1)
    raise ValueError(layout)


def write_block(layout: str, weight: np.ndarray) -> list[np.ndarray]:
    """The tensors that hold a whole weight there: the inverse of read_block."""
    match layout:
        case "vector" | "table":
            return [weight]
        case "row":
            return [weight[None]]
        case "linear":
            return [weight.T]
        case "out kernel":
            return [weight.reshape(-1, weight.shape[-1]).T]
        case "qkv bias":
            return [part.reshape(-1) for part in weight]
        case "qkv kernel":
            return [weight[:, n].reshape(len(weight), -1).T for n in range(3)]
    raise ValueError(layout)


def tensor_shape(layout: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape there of a weight that has `shape` here (one of the three, for query-key-value)."""
    match layout:
        case "row":
            return (1, *shape)
        case "linear":
            return shape[::-1]
        case "out kernel":
            return shape[2], shape[0] * shape[1]
        case "qkv bias":
            return (shape[1] * shape[2],)
        case "qkv kernel":
            return shape[2] * shape[3], shape[0]
    return shape
