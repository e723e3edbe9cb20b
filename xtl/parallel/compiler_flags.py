"""Flags of the TPU compiler by generation, each with its reason; `system.flags` of a config adds or changes some.

They are handed to the compiler with each step, which refuses names it does not know; nothing is read from the
environment. A test compiles with every table, and `xtl compile --tune` tries the table against none.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Flag:
    """A value and why."""

    value: str
    reason: str


_COMMON = {
    "xla_tpu_enable_latency_hiding_scheduler": Flag("true", "starts collectives early and ends them late"),
    "xla_jf_spmd_threshold_for_windowed_einsum_mib": Flag(
        "1000000",
        "no products with pieces of weights around a ring: at rows of 128 they take four times as long as whole ones",
    ),
    "xla_jf_crs_combiner_threshold_in_bytes": Flag(
        "16000000",
        "gradients are reduced in parts as they come; by default all at once, in the end, in nobody's shadow",
    ),
    "xla_enable_async_all_reduce": Flag("true", "those reductions run beside the backward pass"),
    "xla_tpu_enable_data_parallel_all_reduce_opt": Flag("true", "moves them away from where they are used"),
    "xla_tpu_data_parallel_opt_different_sized_ops": Flag("true", "the same, for weights of different sizes"),
    "xla_enable_async_all_gather": Flag("true", "weights of fsdp are gathered beside compute"),
    "xla_tpu_enable_async_collective_fusion": Flag("true", "collectives advance inside matrix products"),
    "xla_tpu_enable_async_collective_fusion_fuse_all_gather": Flag("true", "the same for fsdp; off on v6e by default"),
    "xla_tpu_enable_async_collective_fusion_fuse_all_reduce": Flag("true", "the same for gradients"),
    "xla_tpu_enable_async_collective_fusion_multiple_steps": Flag("true", "over several products"),
    "xla_tpu_overlap_compute_collective_tc": Flag("true", "compute and collectives share a core"),
}

FLAGS: dict[str, dict[str, Flag]] = {
    "v4": {
        **_COMMON,
        "xla_enable_async_collective_permute": Flag("true", "off by default on this generation"),
        "xla_tpu_enable_async_collective_fusion": Flag("false", "at large's width it wants more than 16 MiB of VMEM"),
    },
    "v5e": _COMMON,
    "v5p": _COMMON,
    "v6e": _COMMON,
    "tpu7x": _COMMON,
}


def compiler_flags(chip: str | None, changes: Mapping[str, object] | None = None) -> dict[str, str]:
    """The flags for a chip (none for GPUs, CPUs and unknown chips), with a config's changes over them.

    A change to "" leaves a flag out.
    """
    found = {name: flag.value for name, flag in FLAGS.get(chip or "", {}).items()}
    found |= {
        name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in (changes or {}).items()
    }
    return {name: value for name, value in found.items() if value}
