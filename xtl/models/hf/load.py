"""Encoders, and heads, from Hugging Face folders (safetensors), without PyTorch.

Reading is streamed: every host reads only the slices its devices hold, one weight at a time, so host memory stays near
the size of one shard of one weight. Linear weights are [out, in] there and [in, out] here, and the layers are stacked
here. Letters as in encoder.py.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding

from xtl.errors import XtlError
from xtl.files import refuse_pointer
from xtl.models.encoder import Encoder, EncoderConfig
from xtl.models.hf.names import (
    FIELDS,
    IGNORED,
    MLM,
    MODEL_TYPES,
    Head,
    class_prefix,
    encoder_names,
    read_block,
    tensor_shape,
)
from xtl.models.layers import dense_init
from xtl.network import first_line, patiently
from xtl.parallel import mesh as xtl_mesh

Read = Callable[[tuple[slice, ...]], np.ndarray]  # index -> that block of a weight

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
                refuse_pointer(folder / name)
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
        refuse_pointer(path)
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
    from huggingface_hub import snapshot_download  # not needed for local folders

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
    """What was read, what is missing there, and what is of no use here."""

    source: str
    read: int  # tensors used
    initialised: tuple[str, ...]  # weights here that the files lack: made at random
    unexpected: tuple[str, ...]  # tensors there that nothing here uses (other heads)
    ignored: tuple[str, ...]  # copies and buffers, known to be of no use

    def __str__(self) -> str:
        lines = [f"{self.source}: {self.read} tensors read"]
        for what, weights in (("not in the file, made at random", self.initialised), ("not used", self.unexpected)):
            if weights:
                lines.append(f"  {what}: {', '.join(weights)}")
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

    Without `config` it is read from config.json. `head` asks for a task's head, too (names.head gives it); its outputs
    are brought from the order of config.json's id2label, or of `labels`, into the task's. A pooler that the files lack
    (the published XLM-R has none) is made at random from `key` (default: key 0) and reported. Raises XtlError when any
    other weight is missing or has another shape than the config says, and when the labels are not the task's.
    """
    folder = find(source)
    config = config or read_config(folder)
    weights = _EncoderWeights(folder, Tensors(folder), config)
    initialised = []

    def load(keys: Any, weight: nnx.Variable) -> nnx.Variable:
        path, shape = jax.tree_util.keystr(keys, simple=True, separator="/"), weight.get_value().shape
        read = weights.reader(path, shape)
        if read is None:
            initialised.append(path)
            read = _drawn(path, shape, jax.random.key(0) if key is None else key)
        if mesh is None:
            return weight.replace(_place(read, shape, None))
        part = xtl_mesh.spec(weight.get_metadata("axes"), shape, mesh, what=path)
        return weight.replace(_place(read, shape, NamedSharding(mesh, part)))

    shapes = jax.eval_shape(lambda: nnx.state(Encoder(config, rngs=nnx.Rngs(params=0)), nnx.Param))
    params = jax.tree_util.tree_map_with_path(load, shapes, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))
    tensors, used = weights.tensors, weights.used
    has_lm_head = any(name in tensors for _, _, name in MLM.weights.values())
    lm_head = _load_head(folder, tensors, MLM, config, used) if has_lm_head else None
    wanted_head = None if head is None else _load_head(folder, tensors, head, config, used, labels)
    rest = [name for name in tensors if name not in used]
    ignored = tuple(sorted(name for name in rest if IGNORED.fullmatch(name)))
    unexpected = tuple(sorted(set(rest) - set(ignored)))
    report = LoadReport(str(source), len(used), tuple(initialised), unexpected, ignored)
    return Loaded(config, params, lm_head, report, wanted_head)


class _EncoderWeights:
    """The encoder's weights in a folder's tensors; `used` collects the names of those that were asked for."""

    def __init__(self, folder: Path, tensors: Tensors, config: EncoderConfig):
        self.folder, self.tensors = folder, tensors
        prefix = "roberta." if any(name.startswith("roberta.") for name in tensors) else ""
        self.table = {path: (layout, prefix + template) for path, (layout, template) in encoder_names(config).items()}
        self.used: set[str] = set()

    def reader(self, path: str, shape: tuple[int, ...]) -> Read | None:
        """What reads the weight at `path`; None for a pooler that the files lack.

        XtlError if any other weight is missing, or has another shape than `shape`.
        """
        layout, template = self.table[path]
        stacked = path.startswith("layers/")
        names = [template.format(n=n) for n in range(shape[0] if stacked else 1)]
        missing = [name for name in names if name not in self.tensors]
        if missing and path.startswith("pooler/"):
            return None
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise XtlError(f"{self.folder}: tensor {missing[0]}{more} missing (weight {path})")
        layers = [self.tensors.slice(name) for name in names]
        expected = tensor_shape(layout, shape[1:] if stacked else shape)
        for name, view in zip(names, layers, strict=True):
            if tuple(view.get_shape()) != expected:
                raise XtlError(f"{self.folder}: {name} has shape {tuple(view.get_shape())}, the config says {expected}")
        self.used.update(names)

        def read(index: tuple[slice, ...]) -> np.ndarray:
            if not stacked:
                return np.ascontiguousarray(read_block(layout, layers[0], index), np.float32)
            block = np.empty([i.stop - i.start for i in index], np.float32)
            for n, layer in enumerate(layers[index[0]]):
                block[n] = read_block(layout, layer, index[1:])
            return block

        return read


def _drawn(path: str, shape: tuple[int, ...], key: jax.Array) -> Read:
    """A weight that no file holds: a matrix drawn as for training from scratch, a bias of zeros."""
    weight = np.asarray(dense_init(key, shape, jnp.float32))
    return (weight if path.endswith("kernel") else np.zeros_like(weight)).__getitem__


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
        what = "MLM head" if head is MLM else f"head of {class_prefix(config)}{head.architecture}"
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
