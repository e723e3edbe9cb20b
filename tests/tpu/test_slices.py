"""The slice table agrees with Cloud TPU's documentation and with the compiler's topology names."""

import pytest

from tpu import slices
from xtl.errors import XtlError


@pytest.mark.parametrize(
    ("name", "kind", "topology", "chips", "hosts"),
    [
        ("v4-8", "v4-8", "2x2x1", 4, 1),
        ("v4-32", "v4-32", "2x2x4", 16, 4),
        ("v5e-1", "v5litepod-1", "1x1", 1, 1),
        ("v5litepod-8", "v5litepod-8", "2x4", 8, 1),
        ("v5e:4x4", "v5litepod-16", "4x4", 16, 4),
        ("v5e-256", "v5litepod-256", "16x16", 256, 64),
        ("v5p:2x2x2", "v5p-16", "2x2x2", 8, 2),
        ("v6e-8", "v6e-8", "2x4", 8, 1),
        ("v6e-16", "v6e-16", "4x4", 16, 4),
        ("tpu7x:2x2x1", "tpu7x-8", "2x2x1", 4, 1),
    ],
)
def test_a_slice_is_found_by_type_and_by_topology(name, kind, topology, chips, hosts):
    found = slices.find(name)
    assert (found.type, found.topology, found.chips, found.hosts) == (kind, topology, chips, hosts)


@pytest.mark.parametrize("item", slices.SLICES, ids=lambda item: item.type)
def test_every_slice_is_made_of_whole_hosts_and_has_a_name_of_its_own(item):
    assert item.host_chips * item.hosts == item.chips and item.host_chips in (1, 4, 8)
    assert slices.find(item.type) == item == slices.find(f"{item.generation.name}:{item.topology}")


def test_memory_and_peak_are_those_of_the_data_sheets():
    facts = {name: (item.hbm_gib, item.peak_tflops) for name, item in slices.GENERATIONS.items()}
    assert facts == {"v4": (32, 275), "v5e": (16, 197), "v5p": (95, 459), "v6e": (32, 918), "tpu7x": (192, 2307)}


@pytest.mark.parametrize(("name", "hint"), [("v5e-12", "v5e-1"), ("v6e:4x5", "v6e:4x"), ("gpu-8", "Known: tpu7x, v4")])
def test_an_unknown_slice_is_an_error_that_names_one_that_exists(name, hint):
    with pytest.raises(XtlError, match="unknown TPU slice") as error:
        slices.find(name)
    assert hint in str(error.value)


def test_the_table_lists_every_slice():
    lines = slices.table().splitlines()
    assert len(lines) == 1 + len(slices.SLICES) and "GKE only" in lines[-1]
