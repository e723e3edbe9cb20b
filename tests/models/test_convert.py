"""Hugging Face folders in and out, without PyTorch: layout, streaming, damage, reports."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from xtl.errors import XtlError
from xtl.models.encoder import Encoder, EncoderConfig
from xtl.models.hf import load, names, save
from xtl.models.hf.load import load_hf, read_config
from xtl.models.hf.save import save_hf
from xtl.parallel import mesh as xtl_mesh

POST = EncoderConfig(vocab_size=104, hidden=32, layers=2, heads=4, mlp=64, max_positions=40)
CONFIGS = {"post": POST, "pre": dataclasses.replace(POST, norm="pre")}


def random_params(config):
    """Every weight different from every other, biases and norms included."""
    params = jax.eval_shape(lambda: nnx.state(Encoder(config, rngs=nnx.Rngs(params=0)), nnx.Param))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), params)


def random_lm_head(config):
    rng, size = np.random.default_rng(1), config.hidden
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
    return {
        "dense": {"kernel": draw(size, size), "bias": draw(size)},
        "norm": {"scale": draw(size), "bias": draw(size)},
        "bias": draw(config.vocab_size),
    }


@pytest.fixture(params=list(CONFIGS))
def saved(request, tmp_path):
    config = CONFIGS[request.param]
    params, lm_head = random_params(config), random_lm_head(config)
    return config, params, lm_head, save_hf(tmp_path / "hf", config, params, head=(names.MLM, lm_head))


@pytest.fixture
def folder(tmp_path):
    return save_hf(tmp_path / "hf", POST, random_params(POST))


def rewrite(folder, change):
    """Changes the tensors of a folder's only file."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def assert_equal_trees(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


# ---------------------------------------------------------------- round trips


def test_saved_encoder_and_mlm_head_come_back_unchanged(saved):
    config, params, lm_head, folder = saved
    loaded = load_hf(folder)
    assert loaded.config == config
    assert_equal_trees(loaded.params, params)
    assert_equal_trees(loaded.lm_head, lm_head)
    assert loaded.report.read == len(load_file(folder / "model.safetensors"))
    assert not (loaded.report.initialised or loaded.report.unexpected or loaded.report.ignored)


def test_linear_weights_are_transposed(saved):
    config, params, _, folder = saved
    tensors = load_file(folder / "model.safetensors")
    for name, theirs in (
        ("query", "self.query"),
        ("key", "self.key"),
        ("value", "self.value"),
        ("out", "output.dense"),
    ):
        ours = np.asarray(params["layers"]["attention"][name]["kernel"].get_value())
        np.testing.assert_array_equal(tensors[f"roberta.encoder.layer.1.attention.{theirs}.weight"], ours[1].T)
    assert tensors["roberta.embeddings.token_type_embeddings.weight"].shape == (1, config.hidden)


def test_every_weight_of_the_encoder_has_a_name_there(saved):
    config, params, _, _ = saved
    paths = {
        jax.tree_util.keystr(path[:-1], simple=True, separator="/")
        for path, _ in jax.tree_util.tree_leaves_with_path(params)
    }
    assert paths == set(names.encoder_names(config))


def test_large_models_are_written_in_several_files_with_an_index(saved, tmp_path):
    config, params, lm_head, _ = saved
    folder = save_hf(tmp_path / "parts", config, params, head=(names.MLM, lm_head), shard_bytes=20_000)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    files = sorted(path.name for path in folder.glob("*.safetensors"))
    assert len(files) > 2 and files == sorted(set(index["weight_map"].values()))
    assert not (folder / "model.safetensors").exists()
    sizes = [sum(t.nbytes for t in load_file(folder / name).values()) for name in files]
    assert max(sizes) <= 20_000 and index["metadata"]["total_size"] == sum(sizes)
    assert_equal_trees(load_hf(folder).params, params)


def test_names_without_prefix_and_half_precision_files_are_read(folder):
    exact = load_hf(folder).params
    assert all(not name.startswith("roberta.") for name in load_file(folder / "model.safetensors"))
    rewrite(folder, lambda tensors: tensors.update({k: v.astype(ml_dtypes.bfloat16) for k, v in tensors.items()}))
    loaded = load_hf(folder).params
    for got, expected in zip(jax.tree.leaves(loaded), jax.tree.leaves(exact), strict=True):
        assert got.dtype == jnp.float32
        np.testing.assert_array_equal(got, np.asarray(expected).astype(ml_dtypes.bfloat16).astype(np.float32))


def test_tokenizer_files_are_exported_along(tmp_path):
    (tmp_path / "sentencepiece.bpe.model").write_bytes(b"pieces")
    files = [tmp_path / "sentencepiece.bpe.model"]
    folder = save_hf(tmp_path / "hf", POST, random_params(POST), files=files)
    assert (folder / "sentencepiece.bpe.model").read_bytes() == b"pieces"


# ---------------------------------------------------------------- streaming


@pytest.mark.mesh
@pytest.mark.parametrize("shape", [(8, 1, 1), (1, 8, 1), (2, 2, 2)])
def test_each_shard_is_read_once_and_nothing_larger_than_a_shard_is_held(folder, shape, monkeypatch):
    mesh, blocks = xtl_mesh.make_mesh(shape), []
    original = load.read_block

    def record(layout, tensor, index):
        block = original(layout, tensor, index)
        blocks.append(block.size)
        return block

    monkeypatch.setattr(load, "read_block", record)
    params = load_hf(folder, mesh=mesh).params
    assert_equal_trees(jax.tree.map(np.asarray, params), jax.tree.map(np.asarray, random_params(POST)))
    leaves = jax.tree.leaves(params)
    assert sum(blocks) == sum(leaf.size for leaf in leaves)
    assert max(blocks) <= max(leaf.addressable_shards[0].data.size for leaf in leaves)
    expected = xtl_mesh.shardings(jax.eval_shape(lambda: params), mesh)
    assert [leaf.sharding for leaf in leaves] == jax.tree.leaves(expected)


@pytest.mark.mesh
def test_a_sharded_encoder_is_exported_like_a_local_one(folder, tmp_path):
    params = load_hf(folder, mesh=xtl_mesh.make_mesh((2, 2, 2))).params
    again = save_hf(tmp_path / "again", POST, params)
    assert (again / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


# ---------------------------------------------------------------- both directions are reported


def test_a_missing_pooler_is_made_from_the_key_and_reported(folder):
    rewrite(folder, lambda tensors: [tensors.pop(name) for name in list(tensors) if name.startswith("pooler.")])
    loaded, other = load_hf(folder), load_hf(folder, key=jax.random.key(1))
    assert loaded.report.initialised == ("pooler/bias", "pooler/kernel")
    assert "made at random: pooler/bias, pooler/kernel" in str(loaded.report)
    kernel, another = (x.params["pooler"]["kernel"].get_value() for x in (loaded, other))
    assert abs(float(kernel.std()) - 0.02) < 2e-3 and not np.array_equal(kernel, another)


def test_unknown_tensors_are_reported_and_known_copies_are_ignored(folder):
    more = {"classifier.weight": np.ones(2, np.float32), "embeddings.position_ids": np.arange(4)}
    rewrite(folder, lambda tensors: tensors.update(more))
    report = load_hf(folder).report
    assert report.unexpected == ("classifier.weight",) and report.ignored == ("embeddings.position_ids",)
    assert "not used: classifier.weight" in str(report)


# ---------------------------------------------------------------- mistakes and damage


def test_a_missing_tensor_is_named(folder):
    rewrite(folder, lambda tensors: tensors.pop("encoder.layer.1.output.dense.weight"))
    with pytest.raises(XtlError, match=r"encoder.layer.1.output.dense.weight missing \(weight layers/mlp/wo/kernel\)"):
        load_hf(folder)


def test_a_tensor_of_another_shape_is_named(folder):
    config = dataclasses.replace(POST, vocab_size=105)
    with pytest.raises(XtlError, match=r"word_embeddings.weight has shape \(104, 32\), the config says \(105, 32\)"):
        load_hf(folder, config=config)


def test_half_an_mlm_head_is_refused(saved):
    *_, folder = saved
    rewrite(folder, lambda tensors: tensors.pop("lm_head.bias"))
    with pytest.raises(XtlError, match=r"MLM head is not complete: lm_head\.bias missing"):
        load_hf(folder)


def test_damaged_and_absent_files_are_one_line_errors(folder, tmp_path):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(XtlError, match=r"model\.safetensors: damaged"):
        load_hf(folder)
    path.unlink()
    with pytest.raises(XtlError, match=r"there is no model\.safetensors"):
        load_hf(folder)
    (folder / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(XtlError, match="save it again with safetensors"):
        load_hf(folder)
    (folder / "config.json").write_text('{"model_type": ')
    with pytest.raises(XtlError, match=r"config\.json: cannot be read as JSON"):
        read_config(folder)
    with pytest.raises(XtlError, match="there is no such folder"):
        load_hf(tmp_path / "no" / "such")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "bert"}, "model_type 'bert' is not one of xlm-roberta, xlm-roberta-xl"),
        ({"hidden_act": "gelu_new"}, "only hidden_act 'gelu'"),
        ({"type_vocab_size": 2}, "type_vocab_size 1"),
        ({"hidden_size": None}, "hidden_size missing"),
    ],
)
def test_configs_of_other_models_are_refused(folder, change, message):
    fields = json.loads((folder / "config.json").read_text()) | change
    (folder / "config.json").write_text(json.dumps({k: v for k, v in fields.items() if v is not None}))
    with pytest.raises(XtlError, match=message):
        read_config(folder)


def test_execution_settings_are_given_on_reading(folder):
    config = read_config(folder, dtype="bfloat16", dropout=0.0)
    assert config == dataclasses.replace(POST, dtype="bfloat16", dropout=0.0)


def test_nothing_is_overwritten_and_nothing_half_written_remains(folder, tmp_path, monkeypatch):
    with pytest.raises(XtlError, match="exists already"):
        save_hf(folder, POST, random_params(POST))
    monkeypatch.setattr(save.json, "dumps", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_hf(tmp_path / "new", POST, random_params(POST))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hf"]


def test_an_id_that_the_hub_does_not_have_is_a_one_line_error(monkeypatch):
    import huggingface_hub

    def offline(*_, **__):
        raise OSError("offline\nand more lines")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(XtlError, match=r"someone/model: neither a folder nor .* \(offline\)$"):
        load_hf("someone/model")
