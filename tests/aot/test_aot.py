# ruff: noqa: E501 (HLO has long lines)
"""Reading optimized HLO, the cost model, planned shapes and the search: on small texts, without the TPU compiler."""

import dataclasses

import pytest

from tests.support import stages
from xtl import world
from xtl.aot import compile as aot
from xtl.aot import cost, hlo, steps, tune
from xtl.data.batches import EvalBatches, TrainStream, TrainTask
from xtl.data.rows import RowShape
from xtl.data.tokenizer import load_tokenizer
from xtl.errors import XtlError
from xtl.families import family
from xtl.models.encoder import EncoderConfig
from xtl.parallel.chips import topology
from xtl.task import FAMILIES
from xtl.tasks import get_task

TEXT = """HloModule jit_step, is_scheduled=true

%sum (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  ROOT %add = f32[] add(%a, %a)
}

%product (p: bf16[8,8]) -> bf16[8,8] {
  %p = bf16[8,8]{1,0:T(8,128)(2,1)} parameter(0)
  ROOT %convolution.1 = bf16[8,8]{1,0} convolution(%p, %p), dim_labels=bf_io->bf
}

%body (x: (s32[], bf16[8,8])) -> (s32[], bf16[8,8]) {
  %x = (s32[], bf16[8,8]) parameter(0)
  %fusion.1 = bf16[8,8]{1,0} fusion(%x), kind=kOutput, calls=%product, metadata={op_name="jit(step)/jvp()/while/body/dot_general"}, backend_config={"estimated_cycles":"1000"}
  ROOT %tuple = (s32[], bf16[8,8]) tuple(%x, %fusion.1)
}

%condition (x: (s32[], bf16[8,8])) -> pred[] {
  %limit = s32[]{:T(128)} constant(24)
  %x = (s32[], bf16[8,8]) parameter(0)
  ROOT %lt = pred[] compare(%x, %limit), direction=LT
}

ENTRY %main (p0: bf16[8,8]) -> bf16[8,8] {
  %p0 = bf16[8,8]{1,0} parameter(0)
  %all-gather-start = (bf16[1,8]{1,0}, bf16[900000,50]{1,0}) all-gather-start(%p0), channel_id=1, replica_groups=[1,16]<=[16], dimensions={0}
  %while.1 = (s32[], bf16[8,8]) while(%p0), condition=%condition, body=%body
  %all-gather-done = bf16[900000,50]{1,0} all-gather-done(%all-gather-start)
  %all-reduce.1 = f32[1000,9]{1,0} all-reduce(%p0), channel_id=2, replica_groups={{0,16},{1,17}}, to_apply=%sum
  %kernel = bf16[8,8]{1,0} custom-call(%p0), custom_call_target="tpu_custom_call", metadata={op_name="jit(step)/jvp(attention)/pallas_call"}, backend_config={"custom_call_config":{"cost_estimate":{"flops":"197000000","transcendentals":"1","bytes_accessed":"8"}}}
  ROOT %fusion.2 = bf16[8,8]{1,0} fusion(%kernel), kind=kLoop, calls=%sum, backend_config={"estimated_cycles":"500"}
}
"""


@pytest.fixture
def module():
    return hlo.parse(TEXT)


# ---------------------------------------------------------------- text


def test_instructions_know_shape_cycles_and_what_they_call(module):
    (fusion,) = [one for one in module.computations["body"] if one.opcode == "fusion"]
    assert (fusion.name, fusion.cycles, fusion.called, fusion.arrays) == ("fusion.1", 1000, ("product",), [128])
    assert [one.opcode for one in module.inside(fusion)] == ["parameter", "convolution"]
    assert module.entry == "main"


def test_trip_counts_are_read_from_the_condition_or_from_what_the_compiler_says(module):
    (loop,) = [one for one in module.computations["main"] if one.opcode == "while"]
    assert module.trips(loop) == 24
    annotated = dataclasses.replace(loop, text=loop.text + ', backend_config={"known_trip_count":{"n":"7"}}')
    assert module.trips(annotated) == 7
    unknown = dataclasses.replace(loop, text="while(%p0), condition=%sum, body=%body")
    assert module.trips(unknown) is None


@pytest.mark.parametrize(
    ("text", "group"),
    [
        ("replica_groups={{0,4},{1,5}}", (0, 4)),
        ("replica_groups=[2,4]<=[8]", (0, 1, 2, 3)),
        ("replica_groups=[2,4]<=[4,2]T(1,0)", (0, 2, 4, 6)),
        ("replica_groups=mesh['data'=2,'fsdp'=4] {'fsdp'}", (0, 1, 2, 3)),
        ("replica_groups=mesh['data'=2,'fsdp'=4] {'data'}", (0, 4)),
        ("source_target_pairs={{0,1},{1,2},{2,0}}, x", (0, 1, 2)),
        ("", (0, 1, 2, 3, 4, 5, 6, 7)),
    ],
)
def test_groups_are_read_in_every_notation(text, group):
    assert hlo._groups(text, 8) == group


def test_a_text_that_is_no_module_is_an_error():
    with pytest.raises(XtlError, match="no ENTRY computation"):
        hlo.parse("nothing")


# ---------------------------------------------------------------- time


def test_time_is_cycles_times_trips_plus_kernels_plus_what_collectives_expose(module):
    seen = cost.predict(module, topology("2*v5e:4x4"), devices=32)
    assert seen.compute == pytest.approx((24 * 1000 + 500) / 1.5e9)
    assert seen.kernels == pytest.approx(1e-6)  # 197 MFLOP at 197 TFLOP/s
    gather, reduce = sorted(seen.traffic.values(), key=lambda row: -row.size)
    assert (gather.kind, gather.network, gather.size) == ("all-gather", "ICI", 90e6)
    assert gather.seconds == pytest.approx(90e6 * 15 / 16 / 9e10)  # two lines of four chips
    assert gather.exposed == pytest.approx(gather.seconds - 24 * 1000 / 1.5e9)  # hidden behind the loop in part
    assert (reduce.kind, reduce.network) == ("all-reduce", "DCN")  # devices 0 and 16 are in different slices
    assert reduce.exposed == pytest.approx(36000 / 3.125e9)
    assert seen.exposed == pytest.approx(gather.exposed + reduce.exposed)
    assert seen.seconds == pytest.approx(seen.compute + seen.kernels + seen.exposed)


def test_what_the_hosts_carry_between_slices_lasts_from_its_recv_to_the_end_of_it():
    megascale = '_xla_host_transfer_rendezvous="r",_xla_megascale_transfer_type="ALL_REDUCE"'
    text = f"""HloModule m
ENTRY %main (p: f32[1000,8]) -> f32[1000,8] {{
  %p = f32[1000,8]{{1,0}} parameter(0)
  %t = token[] after-all()
  %send.1 = (f32[1000,8]{{1,0}}, u32[], token[]) send(%p, %t), is_host_transfer=true, frontend_attributes={{{megascale}}}
  %recv.1 = (f32[1000,8]{{1,0}}, u32[], token[]) recv(%t), is_host_transfer=true, frontend_attributes={{{megascale}}}
  %fusion.1 = f32[8]{{0}} fusion(%p), kind=kLoop, calls=%c, backend_config={{"estimated_cycles":"1500"}}
  %send-done.1 = token[] send-done(%send.1), is_host_transfer=true
  %recv-done.1 = (f32[1000,8]{{1,0}}, token[]) recv-done(%recv.1), is_host_transfer=true
}}
"""
    seen = cost.predict(hlo.parse(text), topology("2*v5e:4x4"), devices=32)
    (row,) = seen.traffic.values()
    assert (row.kind, row.network, row.count, row.size) == ("all-reduce", "DCN", 1, 32000)
    assert row.seconds == pytest.approx(32000 / 3.125e9)  # half of it twice, between two slices
    assert row.exposed == pytest.approx(row.seconds - 1500 / 1.5e9)


def test_times_are_told_apart_by_operation(module):
    seen = cost.predict(module, topology("v5e:4x4"), devices=16)
    assert set(seen.by_operation) == {"matrix products, forward", "layout changes and other", "kernel: jvp(attention)"}


def test_an_asynchronous_collective_spread_over_fusions_ends_at_the_last_of_them():
    text = """HloModule m
%start (p: bf16[1,8]) -> bf16[16,8] {
  %p = bf16[1,8]{1,0} parameter(0)
  ROOT %all-gather.1 = bf16[16000,8]{1,0} all-gather(%p), channel_id=5, replica_groups=[1,16]<=[16], dimensions={0}
}
ENTRY %main (p: bf16[1,8]) -> bf16[16,8] {
  %p = bf16[1,8]{1,0} parameter(0)
  %async.1 = bf16[16,8]{1,0} fusion(%p), kind=kCustom, calls=%start
  %work = bf16[16,8]{1,0} fusion(%p), kind=kLoop, calls=%start, backend_config={"estimated_cycles":"1"}
  %more = bf16[16,8]{1,0} fusion(%p), kind=kLoop, backend_config={"estimated_cycles":"1500000"}
  ROOT %async.2 = bf16[16,8]{1,0} fusion(%p), kind=kCustom, calls=%start
}
"""
    seen = cost.predict(hlo.parse(text), topology("v5e:4x4"), devices=16)
    (row,) = seen.traffic.values()
    assert (row.count, row.size, row.exposed) == (1, 256000, 0)


# ---------------------------------------------------------------- slices


def test_without_the_compiler_the_message_names_the_extra(monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(XtlError, match=r"pip install 'xtl\[tpu\]'"):
        aot.devices(topology("v5e:2x2"))


# ---------------------------------------------------------------- planned steps


def small_step(**changes):
    shape = RowShape(rows=16, length=128, slots=1, examples=16)
    config = EncoderConfig(hidden=64, layers=8, heads=4, mlp=128)
    fields = {
        "kind": "train",
        "task": get_task("mnli"),
        "config": config,
        "shape": shape,
        "segments": 16,
        "length": 128,
    }
    return steps.Step(**{**fields, **changes})


# One task of each family; retrieval is never trained.
TRAINED = ("mnli", "hellaswag", "squad_v1", "udpos", "mlm", "lareqa")
WORLD = {"seed": 0, "train": 12, "dev": 12, "test": 12, "documents": 12}


def planned(kind, task, shape, accumulate=1):
    step = small_step(kind=kind, task=task, shape=shape, accumulate=accumulate)
    return {name: (shape, str(dtype)) for name, (shape, dtype) in step.batch().items()}


def arrays(batch):
    return {name: (array.shape, str(array.dtype)) for name, array in batch.items()}


def encoded(task, split, tokenizer):
    language = "qna" if task.name == "tatoeba" else "en"
    examples = world.load(task, language, split, WORLD).examples
    return family(task).encode(task, examples, tokenizer, max_length=64, train=split == "train")


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("name", TRAINED)
def test_a_training_batch_has_exactly_the_arrays_that_are_planned(name, accumulate):
    task, tokenizer = get_task(name), load_tokenizer("world", WORLD)
    part = TrainTask(name, family(task), [encoded(task, "train", tokenizer)], batch_size=8, row_length=128)
    stream = TrainStream([part], steps=2, seed=0, tokenizer=tokenizer, slots=8, accumulate=accumulate, shapes=1)
    ((shape,),) = stream.shapes
    assert arrays(stream[0][1]) == planned("train", task, shape, accumulate)


@pytest.mark.parametrize("name", [*TRAINED, "tatoeba"])
def test_an_evaluation_batch_has_exactly_the_arrays_that_are_planned(name):
    task, tokenizer = get_task(name), load_tokenizer("world", WORLD)
    split, choices = "test" if "test" in task.splits else "dev", 4 if name == "hellaswag" else 1
    part = encoded(task, split, tokenizer)
    batches = EvalBatches(part, family(task), rows=4, row_length=128, slots=4, choices=choices, tokenizer=tokenizer)
    assert arrays(batches[0]) == planned("eval", task, batches.shape)


def test_the_tasks_of_these_tests_cover_every_family():
    assert {get_task(name).family for name in (*TRAINED, "tatoeba")} == set(FAMILIES)


def test_a_stage_is_planned_with_the_options_of_its_tasks(tmp_path):
    """head="hf" leaves the pooler out: compiling the default's layers would be another step."""
    entry = {"batch_size": 8, "max_length": 48, "options": {"head": "hf"}}
    one = stages.stage(tmp_path, tasks={"mnli": entry}, evaluate={"tatoeba": {"options": {"layer": 1}}})
    train, evaluate = steps.plan({"s": one}, shards={"s": 1})
    assert train.task.options["head"] == "hf" and evaluate.task.options["layer"] == 1


def test_rows_of_a_step_can_be_set_and_stay_filled():
    step = small_step(length=64).with_rows(8, 4)
    assert (step.shape.rows, step.shape.slots, step.segments, step.examples) == (32, 2, 64, 64)
    assert step.model_flops == pytest.approx(2 * 16 / 16 * small_step(length=64, segments=32).model_flops)


# ---------------------------------------------------------------- search


def test_what_the_tuner_keeps_depends_on_code_that_exists():
    names = {path.relative_to(tune.PACKAGE).as_posix() for path in tune.code_files()}
    assert {"aot/tune.py", "models/encoder.py", "families/pair.py", "parallel/mesh.py", "training/step.py"} <= names


def test_the_search_finds_the_best_of_a_separable_landscape_and_tries_nothing_twice():
    worth = {"remat": {"none": 3, "full": 1}, "scan": {0: 1, 2: 5}, "rows": {8: 1, 16: 4}}
    seen = []

    def evaluate(choice, best):
        seen.append(choice)
        speed = sum(table[getattr(choice, knob)] for knob, table in worth.items())
        return tune.Trial(choice, 1.0, 0.0, 0.0, speed)

    first = tune.Choice(8, 1, 16, 1, "full", 0, "fused", "table")
    trials = list(tune.search({knob: tuple(table) for knob, table in worth.items()}, evaluate, first=first))
    best = max(trials, key=lambda trial: trial.examples_per_second)
    assert (best.choice.remat, best.choice.scan, best.choice.rows) == ("none", 2, 16)
    assert len(set(seen)) == len(seen)


def test_what_does_not_fit_never_wins():
    first = tune.Choice(8, 1, 16, 1, "none", 0, "fused", "table")
    fits = tune.Trial(first, 1.0, 0.0, 0.1, 10.0)
    assert not tune.Trial(first, None, 0.0, 0.0, 0.0, "does not fit").beats(fits)
    assert fits.beats(None)
