"""Heads and losses agree with transformers' PyTorch models on the same weights. Needs the `parity` extra."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

pytest.importorskip("torch")
pytestmark = pytest.mark.parity

import torch  # noqa: E402
import transformers  # noqa: E402

from xtl.data.batches import EvalBatches  # noqa: E402
from xtl.data.rows import Encoded  # noqa: E402
from xtl.models import convert  # noqa: E402
from xtl.models.encoder import Encoder  # noqa: E402
from xtl.tasks import mlm, pair, span, tag  # noqa: E402
from xtl.tasks.base import Task  # noqa: E402

LENGTHS = (20, 9, 15, 3)
TOLERANCE = {"rtol": 2e-5, "atol": 2e-5}


def reference(kind, folder, **fields):
    """A small transformers model with one head, all its weights drawn, and its folder."""
    torch.manual_seed(0)
    config = transformers.XLMRobertaConfig(
        vocab_size=211, hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96,
        max_position_embeddings=66, layer_norm_eps=1e-5, type_vocab_size=1, attn_implementation="eager", **fields
    )  # fmt: skip
    model = getattr(transformers, f"XLMRobertaFor{kind}")(config).eval()
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.add_(0.1 * torch.randn_like(tensor))
    model.save_pretrained(folder)
    return model


def task(family, labels=(), **options):
    return Task(name="toy", family=family, about="", languages=(), splits=(), metric="", labels=labels, options=options)


def sentences(**columns):
    rng = np.random.default_rng(0)
    ids = [[0, *rng.integers(4, 210, n - 2), 2] for n in LENGTHS]
    return Encoded.from_segments(ids, **columns)


def run(family, task, folder, encoded, weights):
    """(logits, loss, batch) of our modules: all segments packed into two rows, weights from the torch model."""
    loaded = convert.load_hf(folder)
    graph, _ = nnx.split(nnx.eval_shape(lambda: Encoder(loaded.config, rngs=nnx.Rngs(0))), nnx.Param)
    encoder = nnx.merge(graph, loaded.params)
    head = family.Head(loaded.config, task, rngs=nnx.Rngs(0))
    nnx.update(head, weights if weights is not None else loaded.lm_head)
    batching = SimpleNamespace(finish=mlm.finish) if family is mlm else family  # what is masked is given here
    (batch,) = EvalBatches(encoded, batching, rows=2, row_length=32, slots=3)
    assert (batch["slot_weight_rs"].sum(axis=1) > 1).any(), "nothing is packed"
    hidden = encoder(batch["ids_rt"], batch["segments_rt"], batch["positions_rt"])
    logits = head(hidden, batch, embedding=encoder.embedding, pool=encoder.pool)
    loss, weight = family.loss(logits, batch)
    return np.asarray(logits), float(loss / weight), batch


def linear(module):
    return {"kernel": jnp.asarray(module.weight.detach().numpy().T), "bias": jnp.asarray(module.bias.detach().numpy())}


def run_reference(model, encoded, **labels):
    """The reference's output with the sentences as padded rows."""
    width = max(LENGTHS)
    ids = torch.ones(len(LENGTHS), width, dtype=torch.long)
    for row, n in enumerate(LENGTHS):
        ids[row, :n] = torch.tensor(encoded.ids[encoded.tokens(row)])
    with torch.no_grad():
        return model(ids, attention_mask=(ids != 1).long(), **{k: torch.tensor(v) for k, v in labels.items()})


def by_sentence(values_rt, batch):
    """Token values of each sentence, in the order of the batch's rows and slots: a dict from its length."""
    return {
        int(n): values_rt[r, start : start + n]
        for r, (starts, lengths) in enumerate(zip(batch["slots_rs"], batch["lengths_rs"], strict=True))
        for start, n in zip(starts, lengths, strict=True)
        if n
    }


def padded(rows, fill=-100):
    return np.stack([np.pad(r, (0, max(LENGTHS) - len(r)), constant_values=fill) for r in rows])


def test_classification_head_and_loss_agree(tmp_path):
    model = reference("SequenceClassification", tmp_path, num_labels=3)
    encoded = sentences(segment_columns={"label": [2, 0, 1, 1]})
    weights = {"dense": linear(model.classifier.dense), "out": linear(model.classifier.out_proj)}
    logits, loss, batch = run(pair, task("pair", ("a", "b", "c"), head="hf"), tmp_path, encoded, weights)
    expected = run_reference(model, encoded, labels=[2, 0, 1, 1])
    for n, label, row in zip(LENGTHS, [2, 0, 1, 1], expected.logits.numpy(), strict=True):
        at = batch["lengths_rs"] == n
        np.testing.assert_allclose(logits[at][0], row, **TOLERANCE)
        assert batch["label_rs"][at] == label
    np.testing.assert_allclose(loss, expected.loss.item(), rtol=1e-5)


def test_tagging_head_and_loss_agree(tmp_path):
    model = reference("TokenClassification", tmp_path, num_labels=5)
    rng = np.random.default_rng(1)
    tags = [np.where(rng.random(n) < 0.6, rng.integers(0, 5, n), -1) for n in LENGTHS]
    encoded = sentences(token_columns={"tag": tags})
    weights = {"out": linear(model.classifier)}
    logits, loss, batch = run(tag, task("tag", tuple("abcde")), tmp_path, encoded, weights)
    expected = run_reference(model, encoded, labels=padded([np.where(t < 0, -100, t) for t in tags]))
    for row, (n, ours) in zip(
        range(4), sorted(by_sentence(logits, batch).items(), key=lambda x: LENGTHS.index(x[0])), strict=True
    ):
        np.testing.assert_allclose(ours, expected.logits[row, :n].numpy(), **TOLERANCE)
    np.testing.assert_allclose(loss, expected.loss.item(), rtol=1e-5)


def test_span_head_and_loss_agree(tmp_path):
    model = reference("QuestionAnswering", tmp_path)
    start, end = [4, 0, 7, 1], [9, 0, 7, 2]
    encoded = sentences(segment_columns={"start": start, "end": end, "context": [2] * 4})
    logits, loss, batch = run(span, task("span"), tmp_path, encoded, {"out": linear(model.qa_outputs)})
    expected = run_reference(model, encoded, start_positions=start, end_positions=end)
    losses = []
    for row, n in enumerate(LENGTHS):
        for side, theirs in enumerate((expected.start_logits, expected.end_logits)):
            np.testing.assert_allclose(by_sentence(logits, batch)[n][:, side], theirs[row, :n].numpy(), **TOLERANCE)
            # The reference's own loss spreads over padding too, which a packed row does not have.
            losses.append(
                torch.nn.functional.cross_entropy(theirs[row, :n], torch.tensor((start, end)[side][row])).item()
            )
    np.testing.assert_allclose(loss, np.mean(losses), rtol=1e-5)


def test_mlm_head_and_loss_agree(tmp_path):
    model = reference("MaskedLM", tmp_path)
    rng = np.random.default_rng(2)
    targets = [np.where(np.arange(n) % 5 == 1, rng.integers(4, 210, n), -1) for n in LENGTHS]
    encoded = sentences(token_columns={"target": targets})
    logits, loss, batch = run(mlm, task("mlm"), tmp_path, encoded, None)
    expected = run_reference(model, encoded, labels=padded([np.where(t < 0, -100, t) for t in targets]))
    np.testing.assert_allclose(loss, expected.loss.item(), rtol=1e-5)
    chosen = {n: t >= 0 for n, t in zip(LENGTHS, targets, strict=True)}
    places = np.full(batch["ids_rt"].shape, -1)
    for r, m in np.argwhere(batch["target_weight_rm"] > 0):
        places[r, batch["masked_rm"][r, m]] = m
    rows_of = {int(n): r for r, lengths in enumerate(batch["lengths_rs"]) for n in lengths if n}
    for row, n in enumerate(LENGTHS):
        at = by_sentence(places, batch)[n]
        assert ((at >= 0) == chosen[n]).all()
        ours = logits[rows_of[n], at[at >= 0]]
        np.testing.assert_allclose(ours, expected.logits[row, :n].numpy()[chosen[n]], **TOLERANCE)
