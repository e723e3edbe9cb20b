"""Encoders, and heads, from and to Hugging Face folders (safetensors), without PyTorch.

Reading is streamed: every host reads only the slices its devices hold, one weight at a time, so host memory stays near
the size of one shard of one weight. Linear weights are [out, in] there and [in, out] here; query, key and value are
one fused weight here, and the layers are stacked. Letters as in encoder.py.
"""

import contextlib
import json
import math
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding

from xtl.errors import XtlError
from xtl.models.encoder import Encoder, EncoderConfig
from xtl.models.hf.names import (
    FIELDS,
    IGNORED,
    MLM,
    MODEL_TYPES,
    Head,
    encoder_names,
    read_block,
    tensor_shape,
    write_block,
)
from xtl.models.layers import dense_init
from xtl.parallel import mesh as xtl_mesh

# ---------------------------------------------------------------- files


class Tensors:
    """The tensors of a folder with model.safetensors, or with several files and model.safetensors.index.json."""

    def __init__(self, folder: Path):
        from safetensors import SafetensorError, safe_open

        index, single = folder / "model.safetensors.index.json", folder / "model.safetensors"
        if index.exists():
            files = sorted(set(_read_json(index)["weight_map"].values()))
        elif single.exists():
            files = [single.name]
        else:
            hint = (
                " It holds PyTorch pickles only: save it again with safetensors." if list(folder.glob("*.bin")) else ""
            )
            raise XtlError(f"{folder}: there is no model.safetensors.{hint}")
        self._handles: dict[str, Any] = {}
        for name in files:
            try:
                handle = safe_open(folder / name, framework="numpy")
            except (SafetensorError, OSError) as error:
                raise XtlError(f"{folder / name}: damaged or missing ({error})") from error
            self._handles |= dict.fromkeys(handle.keys(), handle)

    def __contains__(self, name: str) -> bool:
        return name in self._handles

    def __iter__(self) -> Iterator[str]:
        return iter(self._handles)

    def slice(self, name: str) -> Any:
        """A view that reads from disk when indexed with slices."""
        return self._handles[name].get_slice(name)


def _read_json(path: Path) -> dict:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise XtlError(f"{path}: cannot be read as JSON ({error})") from error


def find(source: str | Path) -> Path:
    """The local folder of a source: a folder, or a Hugging Face hub id (downloaded once into the hub's cache)."""
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", str(source)):
        raise XtlError(f"{source}: there is no such folder (and it is no Hugging Face id)")
    from huggingface_hub import snapshot_download

    from xtl.network import first_line, patiently

    patterns = ["config.json", "*.safetensors", "*.safetensors.index.json", "tokenizer*", "sentencepiece.bpe.model"]
    try:
        return Path(patiently(lambda: snapshot_download(str(source), allow_patterns=patterns), what=str(source)))
    except Exception as error:  # the hub raises a dozen kinds; each means that there is nothing to read
        reason = first_line(error).removeprefix(f"{source}: ")
        raise XtlError(f"{source}: neither a folder nor to be had from the Hugging Face hub ({reason})") from error


def read_config(source: str | Path, **changes: Any) -> EncoderConfig:
    """The EncoderConfig of a Hugging Face folder or hub id; `changes` set dtype, remat, dropout and the like."""
    path = find(source) / "config.json"
    theirs = _read_json(path)
    kind = theirs.get("model_type")
    if kind not in MODEL_TYPES:
        raise XtlError(f"{path}: model_type {kind!r} is not one of {', '.join(MODEL_TYPES)}")
    if theirs.get("hidden_act", "gelu") != "gelu" or theirs.get("type_vocab_size", 1) != 1:
        raise XtlError(f"{path}: only hidden_act 'gelu' and type_vocab_size 1 are XLM-R")
    missing = [name for name in FIELDS.values() if name not in theirs]
    if missing:
        raise XtlError(f"{path}: {', '.join(missing)} missing")
    ours = {field: theirs[name] for field, name in FIELDS.items()}
    return EncoderConfig(**(ours | {"norm": MODEL_TYPES[kind]} | changes))


# ---------------------------------------------------------------- load


@dataclass(frozen=True)
class LoadReport:
    """What loading found, in both directions."""

    source: str
    read: int  # tensors used
    initialised: tuple[str, ...]  # weights here that the files lack: made at random
    unexpected: tuple[str, ...]  # tensors there that nothing here uses (other heads)
    ignored: tuple[str, ...]  # copies and buffers, known to be of no use

    def __str__(self) -> str:
        lines = [f"{self.source}: {self.read} tensors read"]
        for what, found in (("not in the file, made at random", self.initialised), ("not used", self.unexpected)):
            if found:
                lines.append(f"  {what}: {', '.join(found)}")
        return "\n".join(lines)


class Loaded(NamedTuple):
    """A loaded encoder: `params` is what nnx.state(Encoder(config), nnx.Param) would be."""

    config: EncoderConfig
    params: nnx.State
    lm_head: dict | None  # {"dense": {kernel, bias}, "norm": {scale, bias}, "bias"} as numpy float32
    report: LoadReport
    head: dict | None = None  # the head that was asked for: nested as its module's parameters, numpy float32


def load_hf(
    source: str | Path,
    *,
    config: EncoderConfig | None = None,
    head: Head | None = None,
    labels: Sequence[str] = (),
    mesh: Mesh | None = None,
    key: jax.Array | None = None,
) -> Loaded:
    """An encoder (and MLM head, if there is one) from a Hugging Face folder or hub id, float32, in the mesh's layout.

    Without `config` it is read from config.json. `head` asks for a task's head, too (names.head makes it); its outputs
    are brought from the order of config.json's id2label, or of `labels`, into the task's. A pooler that the files lack
    (the published XLM-R has none) is made at random from `key` (default: key 0) and reported. Raises XtlError when any
    other weight is missing or has another shape than the config says, and when the labels are not the task's.
    """
    folder = find(source)
    tensors = Tensors(folder)
    config = config or read_config(folder)
    prefix = "roberta." if any(name.startswith("roberta.") for name in tensors) else ""
    table = {path: (layout, prefix + template) for path, (layout, template) in encoder_names(config).items()}
    used: set[str] = set()

    def reader(path: str, shape: tuple[int, ...]) -> Callable[[tuple[slice, ...]], np.ndarray] | None:
        """index -> that block of the weight; None when the files do not hold the weight."""
        layout, template = table[path]
        stacked = path.startswith("layers/")
        wanted = [template.format(n=n) for n in range(shape[0] if stacked else 1)]
        missing = [name for name in wanted if name not in tensors]
        if missing and path.startswith("pooler/"):
            return None
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise XtlError(f"{folder}: tensor {missing[0]}{more} missing (weight {path})")
        layers = [tensors.slice(name) for name in wanted]
        one = shape[1:] if stacked else shape
        for name, view in zip(wanted, layers, strict=True):
            expected = tensor_shape(layout, one)
            if tuple(view.get_shape()) != expected:
                raise XtlError(f"{folder}: {name} has shape {tuple(view.get_shape())}, the config says {expected}")
        used.update(wanted)

        def read(index: tuple[slice, ...]) -> np.ndarray:
            if not stacked:
                return np.ascontiguousarray(read_block(layout, layers[0], index), np.float32)
            block = np.empty([i.stop - i.start for i in index], np.float32)
            for n, layer in enumerate(layers[index[0]]):
                block[n] = read_block(layout, layer, index[1:])
            return block

        return read

    initialised = []

    def load(keys: Any, weight: nnx.Variable) -> nnx.Variable:
        path, shape = jax.tree_util.keystr(keys, simple=True, separator="/"), weight.get_value().shape
        read = reader(path, shape)
        if read is None:
            initialised.append(path)
            pooler = np.asarray(dense_init(jax.random.key(0) if key is None else key, shape, jnp.float32))
            pooler = pooler if path.endswith("kernel") else np.zeros_like(pooler)
            read = pooler.__getitem__
        if mesh is None:
            return weight.replace(_place(read, shape, None))
        part = xtl_mesh.spec(weight.get_metadata("axes"), shape, mesh, what=path)
        return weight.replace(_place(read, shape, NamedSharding(mesh, part)))

    shapes = jax.eval_shape(lambda: nnx.state(Encoder(config, rngs=nnx.Rngs(params=0)), nnx.Param))
    params = jax.tree_util.tree_map_with_path(load, shapes, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))
    has_lm_head = any(name in tensors for _, _, name in MLM.weights.values())
    lm_head = _load_head(folder, tensors, MLM, config, used) if has_lm_head else None
    wanted_head = None if head is None else _load_head(folder, tensors, head, config, used, labels)
    rest = [name for name in tensors if name not in used]
    ignored = tuple(sorted(name for name in rest if IGNORED.fullmatch(name)))
    unexpected = tuple(sorted(set(rest) - set(ignored)))
    report = LoadReport(str(source), len(used), tuple(initialised), unexpected, ignored)
    return Loaded(config, params, lm_head, report, wanted_head)


def _place(read: Callable, shape: tuple[int, ...], sharding: NamedSharding | None) -> jax.Array:
    """An array whose every distinct shard is read once, and freed before the next is read."""
    if sharding is None:
        return jnp.asarray(read(tuple(slice(0, size) for size in shape)))
    devices: dict[tuple, list] = {}
    for device, index in sharding.addressable_devices_indices_map(shape).items():
        block = tuple(slice(*i.indices(size)[:2]) for i, size in zip(index or (), shape, strict=True))
        devices.setdefault(tuple((i.start, i.stop) for i in block), []).append((device, block))
    shards = []
    for holders in devices.values():
        block = read(holders[0][1])
        shards += [jax.device_put(block, device) for device, _ in holders]
        jax.block_until_ready(shards[-1])
    return jax.make_array_from_single_device_arrays(shape, sharding, shards)


def _load_head(
    folder: Path, tensors: Tensors, head: Head, config: EncoderConfig, used: set[str], labels: Sequence[str] = ()
) -> dict:
    lacking = sorted(name for _, _, name in head.weights.values() if name not in tensors)
    if lacking:
        is_of = ", ".join(_read_json(folder / "config.json").get("architectures") or ["no class"])
        what = "MLM head" if head is MLM else f"head of {_family(config)}{head.architecture}"
        raise XtlError(f"{folder}: the {what} is not complete: {', '.join(lacking)} missing (config.json: {is_of})")
    order = _label_order(folder, head.labels, labels) if head.labels else None
    loaded: dict = {}
    for path, (layout, dims, name) in head.weights.items():
        view, shape = tensors.slice(name), head.shape(path, config)
        if tuple(view.get_shape()) != tensor_shape(layout, shape):
            expected = tensor_shape(layout, shape)
            raise XtlError(f"{folder}: {name} has shape {tuple(view.get_shape())}, the head here needs {expected}")
        block = read_block(layout, view, tuple(slice(0, size) for size in shape))
        if order is not None and dims.endswith("K"):
            block = block[..., order]
        *parents, last = path.split("/")
        node = loaded
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = np.ascontiguousarray(block, np.float32)
        used.add(name)
    return loaded


def _label_order(folder: Path, ours: Sequence[str], given: Sequence[str]) -> list[int]:
    """For each label here its output there. Upper and lower case are the same unless the task tells them apart."""
    named = _read_json(folder / "config.json").get("id2label") or {}
    theirs = list(given) or [str(named[key]) for key in sorted(named, key=int)]
    if not given and all(re.fullmatch(r"LABEL_\d+", label) for label in theirs):
        raise XtlError(f"{folder}: config.json does not name the labels; give them in the model's order: --labels")
    fold = str.casefold if len({label.casefold() for label in ours}) == len(ours) else str
    places = {fold(label): place for place, label in enumerate(theirs)}
    if len(theirs) != len(ours) or set(places) != {fold(label) for label in ours}:
        raise XtlError(
            f"{folder}: the model has the {len(theirs)} labels {_some(theirs)}, the task has the {len(ours)} "
            f"{_some(ours)}; if only the words differ, give the task's in the model's order: --labels"
        )
    return [places[fold(label)] for label in ours]


def _some(labels: Sequence[str]) -> str:
    return ", ".join(labels[:20]) + (", ..." if len(labels) > 20 else "")


# ---------------------------------------------------------------- save


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
    folder, first = Path(folder), jax.process_index() == 0
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise XtlError(f"{folder}: exists already; give a new folder")
    kind, head_params = head or (None, {})
    prefix = "roberta." if kind else ""
    of_head: list[tuple[str, str, Any, int | None]] = []
    if kind:
        of_head = [(name, layout, _value(head_params, path), None) for path, (layout, _, name) in kind.weights.items()]
    taken = {name for name, *_ in of_head}
    sources: list[tuple[str, str, Any, int | None]] = []
    for path, (layout, template) in encoder_names(config).items():
        if path.startswith("pooler/") and (not pooler or prefix + template in taken):
            continue
        weight = _value(params, path)
        layers = range(config.layers) if path.startswith("layers/") else (None,)
        sources += [((prefix + template).format(n=n), layout, weight, n) for n in layers]
    sources += of_head

    sizes = [math.prod(np.shape(weight)[0 if n is None else 1 :]) * 4 for _, _, weight, n in sources]
    shards = _split(sizes, shard_bytes)
    partial = folder.with_name(f".{folder.name}.partial-{os.getpid()}")
    with contextlib.ExitStack() as stack:
        if first:
            partial.mkdir(parents=True)
            stack.callback(shutil.rmtree, partial, ignore_errors=True)
        weight_map: dict[str, str] = {}
        for number, members in enumerate(shards, 1):
            one = len(shards) == 1
            file = "model.safetensors" if one else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
            tensors: dict[str, np.ndarray] = {}
            for name, layout, weight, n in (sources[i] for i in members):
                tensors[name] = np.ascontiguousarray(write_block(layout, _fetch(weight, n)))
            weight_map |= dict.fromkeys(tensors, file)
            if first:
                from safetensors.numpy import save_file

                save_file(tensors, partial / file, metadata={"format": "pt"})
        if first:
            if len(shards) > 1:
                index = {"metadata": {"total_size": sum(sizes)}, "weight_map": dict(sorted(weight_map.items()))}
                (partial / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
            (partial / "config.json").write_text(json.dumps(_their_config(config, kind), indent=2) + "\n")
            for file_path in files:
                shutil.copy(file_path, partial)
            if folder.exists():
                folder.rmdir()  # empty, as checked above
            partial.rename(folder)
    return folder


def _family(config: EncoderConfig) -> str:
    return {"post": "XLMRoberta", "pre": "XLMRobertaXL"}[config.norm]


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
    architecture = _family(config) + (head.architecture if head else "Model")
    labels = dict(enumerate(head.labels)) if head else {}
    if labels:
        fixed |= {"id2label": labels, "label2id": {label: n for n, label in labels.items()}}
    return {"architectures": [architecture], "model_type": kind, "dtype": "float32", **theirs, **fixed}


def _value(tree: Mapping, path: str) -> Any:
    node: Any = tree
    for part in path.split("/"):
        node = node[part]
    return node.get_value() if isinstance(node, nnx.Variable) else node


def _fetch(weight: Any, layer: int | None) -> np.ndarray:
    """One layer of a weight (None: all of it) as numpy float32 on this host, wherever its shards are."""
    weight = weight if layer is None else weight[layer]
    if isinstance(weight, jax.Array) and not weight.is_fully_addressable:
        from jax.experimental import multihost_utils

        weight = multihost_utils.process_allgather(weight, tiled=True)
    return np.asarray(weight, np.float32)


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
