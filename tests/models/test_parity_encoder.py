"""Parity with transformers' PyTorch models: hidden states, MLM logits, export. Needs the `parity` extra."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

pytest.importorskip("torch")
pytestmark = pytest.mark.parity

import torch  # noqa: E402
import transformers  # noqa: E402
from safetensors.numpy import load_file  # noqa: E402

from xtl.models.encoder import Encoder  # noqa: E402
from xtl.models.hf import names  # noqa: E402
from xtl.models.hf.load import Loaded, load_hf  # noqa: E402
from xtl.models.hf.save import save_hf  # noqa: E402
from xtl.models.layers import gelu  # noqa: E402

TOLERANCE = 2e-5
TINY = {"vocab_size": 211, "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 96}
BASE = {"vocab_size": 1009, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}
SHAPES = {
    "tiny": ("XLMRoberta", TINY),
    "xl-tiny": ("XLMRobertaXL", TINY),
    "base": ("XLMRoberta", BASE),
}


def reference(shape: str):
    """A transformers MLM model with random weights, biases and norms included, and its folder-saving self."""
    family, fields = SHAPES[shape]
    fields = dict(fields, max_position_embeddings=514, layer_norm_eps=1e-5, pad_token_id=1, type_vocab_size=1)
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**fields, attn_implementation="eager")
    model = getattr(transformers, f"{family}ForMaskedLM")(config).eval()
    with torch.no_grad():
        for tensor in model.parameters():
            if tensor.ndim == 1:  # transformers starts biases at 0 and norms at 1, where an error could hide
                tensor.add_(0.1 * torch.randn_like(tensor))
    return model


class Pair(NamedTuple):
    model: torch.nn.Module
    folder: Path
    loaded: Loaded
    encode: Callable  # (ids, segments, positions) -> hidden_rtd, pooled layers, MLM logits


@pytest.fixture(scope="module", params=list(SHAPES))
def pair(request, tmp_path_factory):
    model = reference(request.param)
    folder = tmp_path_factory.mktemp(request.param) / "hf"
    model.save_pretrained(folder)
    loaded = load_hf(folder)
    return Pair(model, folder, loaded, jax.jit(functools.partial(encode, loaded)))


def encode(loaded, ids_rt, segments_rt, positions_rt):
    graph, _ = nnx.split(nnx.eval_shape(lambda: Encoder(loaded.config, rngs=nnx.Rngs(0))), nnx.Param)
    encoder = nnx.merge(graph, loaded.params)
    hidden_rtd = encoder(ids_rt, segments_rt, positions_rt)
    pooled = encoder.all_layers(ids_rt, segments_rt, positions_rt, jnp.zeros((len(ids_rt), 1), jnp.int32))
    return hidden_rtd, pooled, mlm_logits(loaded, hidden_rtd)


def mlm_logits(loaded, hidden_rtd):
    head = loaded.lm_head
    x = gelu(hidden_rtd @ head["dense"]["kernel"] + head["dense"]["bias"], "float32")
    x = (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + loaded.config.eps)
    x = x * head["norm"]["scale"] + head["norm"]["bias"]
    return x @ loaded.params["embed"]["token"].get_value().T + head["bias"]


def rows(vocabulary, lengths, width):
    """One segment a row: ids, segments, positions."""
    rng = np.random.default_rng(len(lengths))
    real = np.arange(width)[None] < np.array(lengths)[:, None]
    ids = np.where(real, rng.integers(3, vocabulary, real.shape), 1)
    ids[:, 0] = 0
    ids[np.arange(len(lengths)), np.array(lengths) - 1] = 2
    positions = np.where(real, np.arange(width)[None] + 2, 1)
    return ids.astype(np.int32), real.astype(np.int32), positions.astype(np.int32)


def run_reference(model, ids, real):
    with torch.no_grad():
        return model(torch.tensor(ids).long(), attention_mask=torch.tensor(real).long(), output_hidden_states=True)


LENGTHS = {"full rows": [64, 64, 64], "ragged rows": [40, 7, 23], "one token and full": [2, 64, 3]}


@pytest.mark.parametrize("lengths", LENGTHS)
def test_hidden_states_of_all_layers_and_mlm_logits_agree(pair, lengths):
    ids, real, positions = rows(pair.loaded.config.vocab_size, LENGTHS[lengths], 64)
    expected = run_reference(pair.model, ids, real)
    hidden, pooled, logits = pair.encode(ids, real, positions)
    keep = real.astype(bool)
    assert np.abs(np.asarray(hidden)[keep] - expected.hidden_states[-1].numpy()[keep]).max() <= TOLERANCE
    assert np.abs(np.asarray(logits)[keep] - expected.logits.numpy()[keep]).max() <= TOLERANCE
    for layer, state in enumerate(expected.hidden_states):
        mean = (state.numpy() * real[..., None]).sum(1) / real.sum(1, keepdims=True)
        assert np.abs(np.asarray(pooled.mean_lrsd[layer, :, 0]) - mean).max() <= TOLERANCE
        assert np.abs(np.asarray(pooled.cls_lrsd[layer, :, 0]) - state.numpy()[:, 0]).max() <= TOLERANCE


def test_positions_up_to_the_last_of_the_table_agree(pair):
    ids, real, positions = rows(pair.loaded.config.vocab_size, [512], 512)
    assert positions.max() == 513
    hidden = np.asarray(pair.encode(ids, real, positions)[0])
    assert np.abs(hidden - run_reference(pair.model, ids, real).hidden_states[-1].numpy()).max() <= TOLERANCE


def test_packed_rows_give_the_logits_of_single_rows(pair):
    lengths = [19, 30, 11]
    ids, real, positions = rows(pair.loaded.config.vocab_size, lengths, 30)
    keep = real.astype(bool)
    packed = np.ones((3, 64), np.int32), np.zeros((3, 64), np.int32), np.ones((3, 64), np.int32)
    for array, values in zip(packed, (ids[keep], np.repeat([1, 2, 3], lengths), positions[keep]), strict=True):
        array[1, :60] = values
    logits = np.asarray(pair.encode(*packed)[2])[1, :60]
    assert np.abs(logits - run_reference(pair.model, ids, real).logits.numpy()[keep]).max() <= TOLERANCE


@pytest.mark.parametrize("shard_bytes", [10**9, 3 * 10**6])
def test_export_gives_back_every_tensor_byte_for_byte_and_loads_in_transformers(pair, tmp_path, shard_bytes):
    config, params, lm_head, *_ = pair.loaded
    head = (names.MLM, lm_head)
    out = save_hf(tmp_path / "out", config, params, head=head, pooler=False, shard_bytes=shard_bytes)
    before, after = load_file(pair.folder / "model.safetensors"), {}
    for file in out.glob("*.safetensors"):
        after |= load_file(file)
    tied = {"lm_head.decoder.weight", "lm_head.decoder.bias"}
    assert set(before) - tied == set(after)
    assert all(before[name].tobytes() == after[name].tobytes() for name in after)
    again, info = type(pair.model).from_pretrained(out, output_loading_info=True, attn_implementation="eager")
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert type(again.config) is type(pair.model.config)
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        assert torch.equal(again.eval()(ids).logits, pair.model(ids).logits)


def test_pooler_agrees_and_survives_export(tmp_path):
    torch.manual_seed(0)
    fields = dict(TINY, max_position_embeddings=64, layer_norm_eps=1e-5, type_vocab_size=1, pad_token_id=1)
    model = transformers.XLMRobertaModel(transformers.XLMRobertaConfig(**fields)).eval()
    model.save_pretrained(tmp_path / "hf")
    loaded = load_hf(tmp_path / "hf")
    assert loaded.lm_head is None and not loaded.report.initialised and not loaded.report.unexpected
    ids, real, positions = rows(211, [9, 4], 9)
    encoder = nnx.merge(nnx.split(Encoder(loaded.config, rngs=nnx.Rngs(0)))[0], loaded.params)
    expected = run_reference(model, ids, real).pooler_output.numpy()
    assert np.abs(np.asarray(encoder.pool(encoder(ids, real, positions)[:, 0])) - expected).max() <= TOLERANCE
    out = save_hf(tmp_path / "out", loaded.config, loaded.params)
    again, info = transformers.XLMRobertaModel.from_pretrained(out, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert np.array_equal(run_reference(again.eval(), ids, real).pooler_output.numpy(), expected)
