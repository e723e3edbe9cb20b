"""The table of accelerators agrees with their makers' documents, and one parser reads every name of a slice."""

import subprocess
import sys
from pathlib import Path

import pytest

from xtl.errors import XtlError
from xtl.parallel import chips
from xtl.parallel.chips import SLICES, TPUS, compiler_flags

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("name", "accelerator_type", "shape", "count", "hosts"),
    [
        ("v4-8", "v4-8", "2x2x1", 4, 1),
        ("v4-32", "v4-32", "2x2x4", 16, 4),
        ("v5e-1", "v5litepod-1", "1x1", 1, 1),
        ("v5litepod-8", "v5litepod-8", "2x4", 8, 1),
        ("v5e:4x4", "v5litepod-16", "4x4", 16, 4),
        ("v5litepod:4x4", "v5litepod-16", "4x4", 16, 4),
        ("v5e-256", "v5litepod-256", "16x16", 256, 64),
        ("v5p:2x2x2", "v5p-16", "2x2x2", 8, 2),
        ("v6e-8", "v6e-8", "2x4", 8, 1),
        ("v6e-16", "v6e-16", "4x4", 16, 4),
        ("tpu7x:2x2x1", "tpu7x-8", "2x2x1", 4, 1),
    ],
)
def test_a_slice_is_known_by_type_and_by_topology(name, accelerator_type, shape, count, hosts):
    for parse in (chips.topology, chips.rented):
        one = parse(name)
        assert (one.accelerator_type, one.shape, one.slices) == (accelerator_type, shape, 1)
        assert (one.chips_per_slice, one.chips, one.hosts_per_slice) == (count, count, hosts)


@pytest.mark.parametrize("name", ["2*v5e:4x4", "2*v5e-16", "2*v5litepod-16"])
def test_several_slices_are_one_topology(name):
    slices = chips.topology(name)
    assert (slices.name, slices.slices, slices.chips, slices.devices_per_slice) == ("2*v5e:4x4", 2, 32, 16)
    assert slices.hosts_per_slice == 4 and chips.rented(name) == slices


@pytest.mark.parametrize("one", SLICES, ids=lambda one: one.accelerator_type)
def test_every_slice_is_made_of_whole_hosts_and_has_a_name_of_its_own(one):
    assert one.chips_per_host * one.hosts_per_slice == one.chips and one.chips_per_host in (1, 4, 8)
    assert chips.rented(one.accelerator_type) == one == chips.rented(one.name)


def test_memory_and_peak_are_those_of_the_data_sheets():
    facts = {name: (tpu.chip_hbm / chips.GIB, tpu.chip_peak / 1e12) for name, tpu in TPUS.items()}
    assert facts == {"v4": (32, 275), "v5e": (16, 197), "v5p": (95, 459), "v6e": (32, 918), "tpu7x": (192, 2307)}


@pytest.mark.parametrize(
    ("kind", "name", "peak"),
    [
        ("TPU v4", "v4", 275e12),
        ("TPU v5 lite", "v5e", 197e12),
        ("TPU v5e", "v5e", 197e12),
        ("TPU v5p", "v5p", 459e12),
        ("TPU v5", "v5p", 459e12),
        ("TPU v6 lite", "v6e", 918e12),
        ("TPU v6e", "v6e", 918e12),
        ("TPU7x", "tpu7x", 1153.5e12),
        ("NVIDIA A100-SXM4-80GB", "a100", 312e12),
        ("NVIDIA H100 80GB HBM3", "h100", 989e12),
        ("NVIDIA H200", "h200", 989e12),
        ("cpu", None, None),
        ("NVIDIA GeForce RTX 4090", None, None),
    ],
)
def test_chips_and_peaks_are_known_by_what_jax_calls_a_device(kind, name, peak):
    assert (chips.chip_of(kind), chips.peak_flops(kind)) == (name, peak)


def test_links_of_a_ring_feed_from_both_sides():
    assert chips.topology("v5e:16x16").bandwidth(256) == 4 * 4.5e10  # rings
    assert chips.topology("v5e:4x4").bandwidth(16) == 2 * 4.5e10  # lines


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("v5e-12", "unknown TPU slice 'v5e-12'. Did you mean 'v5e-1"),
        ("v6e:4x5", "unknown TPU slice 'v6e:4x5'. Did you mean 'v6e:4x"),
        ("2*v6e-17", "unknown TPU slice 'v6e-17'. Did you mean 'v6e-1"),
        ("gpu-8", "unknown chip 'gpu'. Known: tpu7x, v4"),
        ("v5x:2x2", "unknown chip 'v5x'. Did you mean 'v5"),
        ("v5e", "write a slice as v5e:4x4 or v5e-16, several as 2*v5e:4x4"),
        ("0*v5e:4x4", "write a slice as"),
        ("v5e:4x", "write a slice as"),
    ],
)
def test_an_unknown_slice_is_an_error_that_names_one_that_exists(name, hint):
    with pytest.raises(XtlError) as error:
        chips.rented(name)
    assert hint in str(error.value)


def test_a_slice_that_nobody_rents_out_can_be_planned_for():
    assert chips.topology("v5e:4x5").chips == 20


def test_chips_and_their_peak_are_counted_per_chip_also_where_a_chip_is_two_devices():
    assert chips.accelerators("tpu7x:2x2x1") == (4, 2307e12)
    assert chips.accelerators("2*v5e:4x4") == (32, 197e12)
    assert chips.accelerators("v5e") == (1, 197e12) and chips.accelerators("h100:8") == (8, 989e12)


def test_flags_have_reasons_and_a_config_changes_them():
    assert all(flag.value and flag.reason for tpu in TPUS.values() for flag in tpu.flags.values())
    assert all(len(tpu.flags) > 10 for tpu in TPUS.values())
    name = next(iter(TPUS["v5e"].flags))
    assert name not in compiler_flags("v5e", {name: ""})
    assert compiler_flags("h100", {"x": True}) == {"x": "true"} and compiler_flags(None) == {}


def test_table_and_launcher_need_the_standard_library_alone():
    """The launcher runs on any Python, so nothing that it imports may come from site-packages (-S leaves them out)."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from tpu import launch; sys.exit(launch.main(['slices']))"
    done = subprocess.run([sys.executable, "-S", "-I", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "v5litepod-16" in done.stdout, done.stderr
