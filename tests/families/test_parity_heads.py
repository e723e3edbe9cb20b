"""Heads and losses agree with transformers' PyTorch models, imported from there and exported to there. Needs the
`parity` extra."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest
from flax import nnx

pytest.importorskip("torch")
pytestmark = pytest.mark.parity

import torch  # noqa: E402
import transformers  # noqa: E402

from xtl.data.batches import EvalBatches  # noqa: E402
from xtl.data.rows import Encoded  # noqa: E402
from xtl.families import family  # noqa: E402
from xtl.families.choice import FAMILY as choice  # noqa: E402
from xtl.families.mlm import FAMILY as mlm  # noqa: E402
from xtl.families.pair import FAMILY as pair  # noqa: E402
from xtl.families.span import FAMILY as span  # noqa: E402
from xtl.families.tag import FAMILY as tag  # noqa: E402
from xtl.models.encoder import Encoder, EncoderConfig  # noqa: E402
from xtl.models.hf import names  # noqa: E402
from xtl.models.hf.load import load_hf  # noqa: E402
from xtl.models.hf.save import save_hf  # noqa: E402
from xtl.task import Task  # noqa: E402

LENGTHS = (20, 9, 15, 3)
TOLERANCE = {"rtol": 2e-5, "atol": 2e-5}


@pytest.fixture(params=["XLMRoberta", "XLMRobertaXL"])
def model_name(request):
    return request.param


def reference(name, kind, folder, **fields):
    """A small transformers model with one head, all its weights drawn, and its folder."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(
        vocab_size=211, hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96,
        max_position_embeddings=66, layer_norm_eps=1e-5, type_vocab_size=1, pad_token_id=1,
        attn_implementation="eager", **fields
    )  # fmt: skip
    model = getattr(transformers, f"{name}For{kind}")(config).eval()
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


def head_of(task):
    return names.head(family(task).head_of_transformers(task), task.labels)


def run(of, task, folder, encoded, labels=()):
    """(logits, loss, batch) of our modules with the weights of a transformers folder."""
    loaded = load_hf(folder, head=head_of(task), labels=labels)
    assert not set(loaded.report.initialised) - {"pooler/kernel", "pooler/bias"} and not loaded.report.unexpected
    return computed(of, task, loaded.config, loaded.params, loaded.head, encoded)


def computed(of, task, config, params, head_params, encoded):
    """(logits, loss, batch) of our modules: all segments packed into two rows."""
    graph, _ = nnx.split(nnx.eval_shape(lambda: Encoder(config, rngs=nnx.Rngs(0))), nnx.Param)
    encoder, head = nnx.merge(graph, params), of.head(config, task, rngs=nnx.Rngs(0))
    nnx.update(head, head_params)
    plain = SimpleNamespace(augment=lambda segments, *_: segments, finish=mlm.finish)
    batching = plain if of is mlm else of  # what is masked is given here
    choices = {"choices": 2} if of is choice else {}
    (batch,) = EvalBatches(encoded, batching, rows=2, row_length=32, slots=3, **choices)
    assert (batch["slot_weight_rs"].sum(axis=1) > 1).any(), "nothing is packed"
    hidden = encoder(batch["ids_rt"], batch["segments_rt"], batch["positions_rt"])
    logits = head(hidden, batch, embedding=encoder.embedding, pool=encoder.pool)
    loss, weight = of.loss(logits, batch)
    return np.asarray(logits), float(loss / weight), batch


def run_reference(model, encoded, choices=0, **labels):
    """The reference's output with the sentences as padded rows; with `choices` as [examples, choices, tokens]."""
    width = max(LENGTHS)
    ids = torch.ones(len(LENGTHS), width, dtype=torch.long)
    for row, n in enumerate(LENGTHS):
        ids[row, :n] = torch.tensor(encoded.ids[encoded.tokens(row)])
    ids = ids.reshape(-1, choices, width) if choices else ids
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


# ---------------------------------------------------------------- import


def assert_classes_agree(logits, batch, expected):
    for n, row in zip(LENGTHS, expected.logits.numpy(), strict=True):
        np.testing.assert_allclose(logits[batch["lengths_rs"] == n][0], row, **TOLERANCE)


def assert_tokens_agree(logits, batch, expected_nrt):
    for row, n in enumerate(LENGTHS):
        np.testing.assert_allclose(by_sentence(logits, batch)[n], expected_nrt[row, :n].numpy(), **TOLERANCE)


def assert_choices_agree(logits, batch, expected, labels):
    for row, label in zip(expected.logits.numpy(), labels, strict=True):
        np.testing.assert_allclose(logits[batch["label_e"] == label][0], row, **TOLERANCE)


def test_classification_head_and_loss_agree(model_name, tmp_path):
    model = reference(model_name, "SequenceClassification", tmp_path, num_labels=3)
    encoded = sentences(segment_columns={"label": [2, 0, 1, 1]})
    toy = task("pair", ("a", "b", "c"), head="hf")
    logits, loss, batch = run(pair, toy, tmp_path, encoded, labels=("a", "b", "c"))
    expected = run_reference(model, encoded, labels=[2, 0, 1, 1])
    assert_classes_agree(logits, batch, expected)
    for n, label in zip(LENGTHS, [2, 0, 1, 1], strict=True):
        assert batch["label_rs"][batch["lengths_rs"] == n] == label
    np.testing.assert_allclose(loss, expected.loss.item(), rtol=1e-5)


def test_labels_in_another_order_are_put_in_ours(tmp_path):
    model = reference(
        "XLMRoberta", "SequenceClassification", tmp_path, id2label={0: "C", 1: "A", 2: "B"},
        label2id={"C": 0, "A": 1, "B": 2},
    )  # fmt: skip
    encoded = sentences(segment_columns={"label": [0] * 4})
    logits, _, batch = run(pair, task("pair", ("a", "b", "c"), head="hf"), tmp_path, encoded)
    expected = run_reference(model, encoded)
    expected.logits = expected.logits[:, [1, 2, 0]]
    assert_classes_agree(logits, batch, expected)


def test_choice_head_and_loss_agree(model_name, tmp_path):
    model = reference(model_name, "MultipleChoice", tmp_path)
    encoded = sentences(per_example=[2, 2], example_columns={"label": [1, 0]})
    logits, loss, batch = run(choice, task("choice", head="hf"), tmp_path, encoded)
    expected = run_reference(model, encoded, choices=2, labels=[1, 0])
    assert_choices_agree(logits, batch, expected, [1, 0])
    np.testing.assert_allclose(loss, expected.loss.item(), rtol=1e-5)


def test_tagging_head_and_loss_agree(model_name, tmp_path):
    words = tuple("abcde")
    names_there = {"id2label": dict(enumerate(words)), "label2id": {w: n for n, w in enumerate(words)}}
    model = reference(model_name, "TokenClassification", tmp_path, **names_there)
    rng = np.random.default_rng(1)
    tags = [np.where(rng.random(n) < 0.6, rng.integers(0, 5, n), -1) for n in LENGTHS]
    encoded = sentences(token_columns={"tag": tags})
    logits, loss, batch = run(tag, task("tag", words), tmp_path, encoded)
    expected = run_reference(model, encoded, labels=padded([np.where(t < 0, -100, t) for t in tags]))
    assert_tokens_agree(logits, batch, expected.logits)
    np.testing.assert_allclose(loss, expected.loss.item(), rtol=1e-5)


def test_span_head_and_loss_agree(model_name, tmp_path):
    model = reference(model_name, "QuestionAnswering", tmp_path)
    start, end = [4, 0, 7, 1], [9, 0, 7, 2]
    encoded = sentences(segment_columns={"start": start, "end": end, "context": [2] * 4})
    logits, loss, batch = run(span, task("span"), tmp_path, encoded)
    expected = run_reference(model, encoded, start_positions=start, end_positions=end)
    assert_tokens_agree(logits, batch, torch.stack([expected.start_logits, expected.end_logits], -1))
    # The reference's own loss spreads over padding too, which a packed row does not have.
    losses = [
        torch.nn.functional.cross_entropy(theirs[row, :n], torch.tensor(gold[row])).item()
        for row, n in enumerate(LENGTHS)
        for gold, theirs in ((start, expected.start_logits), (end, expected.end_logits))
    ]
    np.testing.assert_allclose(loss, np.mean(losses), rtol=1e-5)


def masked():
    """Sentences with one piece in five to predict, and those targets."""
    rng = np.random.default_rng(2)
    targets = [np.where(np.arange(n) % 5 == 1, rng.integers(4, 210, n), -1) for n in LENGTHS]
    return sentences(token_columns={"target": targets}), targets


def assert_pieces_agree(logits, batch, expected, targets):
    places = np.full(batch["ids_rt"].shape, -1)
    for r, m in np.argwhere(batch["target_weight_rm"] > 0):
        places[r, batch["masked_rm"][r, m]] = m
    rows_of = {int(n): r for r, lengths in enumerate(batch["lengths_rs"]) for n in lengths if n}
    for row, (n, target) in enumerate(zip(LENGTHS, targets, strict=True)):
        at = by_sentence(places, batch)[n]
        assert ((at >= 0) == (target >= 0)).all()
        ours = logits[rows_of[n], at[at >= 0]]
        np.testing.assert_allclose(ours, expected.logits[row, :n].numpy()[target >= 0], **TOLERANCE)


def test_mlm_head_and_loss_agree(model_name, tmp_path):
    model = reference(model_name, "MaskedLM", tmp_path)
    encoded, targets = masked()
    logits, loss, batch = run(mlm, task("mlm"), tmp_path, encoded)
    expected = run_reference(model, encoded, labels=padded([np.where(t < 0, -100, t) for t in targets]))
    np.testing.assert_allclose(loss, expected.loss.item(), rtol=1e-5)
    assert_pieces_agree(logits, batch, expected, targets)


# ---------------------------------------------------------------- export


def exported(of, task, model_name, encoded, folder):
    """Our random modules: (their logits and batch, transformers' own class loaded from the exported folder)."""
    norm = {"XLMRoberta": "post", "XLMRobertaXL": "pre"}[model_name]
    config = EncoderConfig(vocab_size=211, hidden=48, layers=2, heads=4, mlp=96, max_positions=66, norm=norm)
    rng = np.random.default_rng(3)
    drawn = lambda module: jax.tree.map(
        lambda x: x + 0.1 * rng.normal(size=x.shape).astype(np.float32), nnx.state(module, nnx.Param)
    )
    params = drawn(Encoder(config, rngs=nnx.Rngs(0)))
    head = drawn(of.head(config, task, rngs=nnx.Rngs(1)))
    logits, _, batch = computed(of, task, config, params, head, encoded)
    save_hf(folder, config, params, head=(head_of(task), head), pooler=False)
    (architecture,) = transformers.AutoConfig.from_pretrained(folder).architectures
    assert architecture.startswith(f"{model_name}For")
    model, info = getattr(transformers, architecture).from_pretrained(
        folder, output_loading_info=True, attn_implementation="eager"
    )
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    return logits, batch, model.eval()


def test_exported_classifier_agrees(model_name, tmp_path):
    encoded = sentences(segment_columns={"label": [2, 0, 1, 1]})
    toy = task("pair", ("no", "yes", "maybe"), head="hf")
    logits, batch, model = exported(pair, toy, model_name, encoded, tmp_path / "hf")
    assert_classes_agree(logits, batch, run_reference(model, encoded))
    assert model.config.id2label == {0: "no", 1: "yes", 2: "maybe"}
    assert model.config.label2id == {"no": 0, "yes": 1, "maybe": 2}


def test_exported_choice_head_agrees(model_name, tmp_path):
    encoded = sentences(per_example=[2, 2], example_columns={"label": [1, 0]})
    logits, batch, model = exported(choice, task("choice", head="hf"), model_name, encoded, tmp_path / "hf")
    assert_choices_agree(logits, batch, run_reference(model, encoded, choices=2), [1, 0])


def test_exported_tagger_agrees(model_name, tmp_path):
    encoded = sentences(token_columns={"tag": [np.zeros(n, int) for n in LENGTHS]})
    logits, batch, model = exported(tag, task("tag", tuple("abcde")), model_name, encoded, tmp_path / "hf")
    assert_tokens_agree(logits, batch, run_reference(model, encoded).logits)
    assert model.config.id2label == dict(enumerate("abcde"))


def test_exported_span_head_agrees(model_name, tmp_path):
    encoded = sentences(segment_columns={"start": [0] * 4, "end": [0] * 4, "context": [2] * 4})
    logits, batch, model = exported(span, task("span"), model_name, encoded, tmp_path / "hf")
    expected = run_reference(model, encoded)
    assert_tokens_agree(logits, batch, torch.stack([expected.start_logits, expected.end_logits], -1))


def test_exported_mlm_head_agrees(model_name, tmp_path):
    encoded, targets = masked()
    logits, batch, model = exported(mlm, task("mlm"), model_name, encoded, tmp_path / "hf")
    assert_pieces_agree(logits, batch, run_reference(model, encoded), targets)
