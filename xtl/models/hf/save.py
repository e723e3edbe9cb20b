"""Encoders, and heads, to Hugging Face folders (safetensors) that transformers' XLMRoberta(XL) classes load.

Linear weights are [out, in] there and [in, out] here; the layers, stacked here, are one tensor each there.
"""

import contextlib
import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

from xtl.errors import XtlError
from xtl.models.encoder import EncoderConfig
from xtl.models.hf.names import FIELDS, MODEL_TYPES, Head, class_prefix, encoder_names, write_block


class _Tensor(NamedTuple):
    """One tensor to be written: its name and how its elements lie there; the weight here, and which layer of it."""

    name: str
    layout: str
    weight: Any
    layer: int | None  # None: the whole weight

    @property
    def size(self) -> int:
        """Bytes, float32."""
        return math.prod(np.shape(self.weight)[0 if self.layer is None else 1 :]) * 4

    def fetch(self) -> np.ndarray:
        """The tensor as it lies there, on this host, wherever its shards are."""
        weight = self.weight if self.layer is None else self.weight[self.layer]
        if isinstance(weight, jax.Array) and not weight.is_fully_addressable:
            from jax.experimental import multihost_utils

            weight = multihost_utils.process_allgather(weight, tiled=True)
        return np.ascontiguousarray(write_block(self.layout, np.asarray(weight, np.float32)))


def save_hf(
    folder: str | Path,
    config: EncoderConfig,
    params: Mapping,
    *,
    head: tuple[Head, Mapping] | None = None,
    pooler: bool = True,
    files: Iterable[str | Path] = (),
    shard_bytes: int = 5 * 10**9,
) -> Path:
    """Writes a new folder that transformers' XLMRoberta(XL) classes load: config.json and safetensors, float32.

    `head` adds a head: (what it is there, its weights; (names.MLM, lm_head) for the MLM head). `pooler=False` leaves
    the encoder's pooler out; a head that has one of its own takes its place. `files` (a tokenizer's) are copied along.
    Weights are fetched one at a time, and written to several files when they exceed `shard_bytes`. On several hosts
    every process must call this; the first one writes. The folder appears only when complete. Raises XtlError when it
    exists already.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise XtlError(f"{folder}: exists already; give a new folder")
    kind, head_params = head or (None, {})
    tensors = [*_encoder_tensors(config, params, kind, pooler=pooler), *_head_tensors(kind, head_params)]
    partial = folder.with_name(f".{folder.name}.partial-{os.getpid()}")
    with contextlib.ExitStack() as stack:
        if jax.process_index() == 0:
            partial.mkdir(parents=True)
            stack.callback(shutil.rmtree, partial, ignore_errors=True)
        _write_tensors(partial, tensors, shard_bytes)
        if jax.process_index() == 0:
            (partial / "config.json").write_text(json.dumps(_their_config(config, kind), indent=2) + "\n")
            for file in files:
                shutil.copy(file, partial)
            if folder.exists():
                folder.rmdir()  # empty, as checked above
            partial.rename(folder)
    return folder


def _encoder_tensors(config: EncoderConfig, params: Mapping, head: Head | None, *, pooler: bool) -> Iterator[_Tensor]:
    prefix = "roberta." if head else ""
    taken = {name for _, _, name in head.weights.values()} if head else set()
    for path, (layout, template) in encoder_names(config).items():
        if path.startswith("pooler/") and (not pooler or prefix + template in taken):
            continue
        layers = range(config.layers) if path.startswith("layers/") else (None,)
        for n in layers:
            yield _Tensor((prefix + template).format(n=n), layout, _value(params, path), n)


def _head_tensors(head: Head | None, params: Mapping) -> Iterator[_Tensor]:
    for path, (layout, _, name) in head.weights.items() if head else ():
        yield _Tensor(name, layout, _value(params, path), None)


def _write_tensors(folder: Path, tensors: Sequence[_Tensor], shard_bytes: int) -> None:
    """model.safetensors, or several files and their index. Every host fetches, the first one writes."""
    from safetensors.numpy import save_file

    sizes = [tensor.size for tensor in tensors]
    shards, first = _split(sizes, shard_bytes), jax.process_index() == 0
    weight_map: dict[str, str] = {}
    for number, members in enumerate(shards, 1):
        file = "model.safetensors" if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        content = {tensors[i].name: tensors[i].fetch() for i in members}
        weight_map |= dict.fromkeys(content, file)
        if first:
            save_file(content, folder / file, metadata={"format": "pt"})
    if first and len(shards) > 1:
        index = {"metadata": {"total_size": sum(sizes)}, "weight_map": dict(sorted(weight_map.items()))}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def _their_config(config: EncoderConfig, head: Head | None) -> dict:
    kind = next(kind for kind, norm in MODEL_TYPES.items() if norm == config.norm)
    fixed = {
        "hidden_act": "gelu",
        "type_vocab_size": 1,
        "initializer_range": 0.02,
        "bos_token_id": 0,
        "eos_token_id": 2,
    }
    theirs = {name: getattr(config, field) for field, name in FIELDS.items()}
    architecture = class_prefix(config) + (head.architecture if head else "Model")
    labels = dict(enumerate(head.labels)) if head else {}
    if labels:
        fixed |= {"id2label": labels, "label2id": {label: n for n, label in labels.items()}}
    return {"architectures": [architecture], "model_type": kind, "dtype": "float32", **theirs, **fixed}


def _value(tree: Mapping, path: str) -> Any:
    node: Any = tree
    for part in path.split("/"):
        node = node[part]
    return node.get_value() if isinstance(node, nnx.Variable) else node


def _split(sizes: Sequence[int], limit: int) -> list[list[int]]:
    """Consecutive positions in groups of at most `limit` bytes (a larger one stands alone)."""
    groups: list[list[int]] = [[]]
    room = limit
    for position, size in enumerate(sizes):
        if groups[-1] and size > room:
            groups.append([])
            room = limit
        groups[-1].append(position)
        room -= size
    return groups
