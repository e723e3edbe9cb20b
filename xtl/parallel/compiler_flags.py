"""Flags of the TPU compiler, each with its reason; `system.flags` of a config adds or changes some.

`xtl.parallel.chips` says which generation takes which table. They are handed to the compiler with each step, which
refuses names it does not know; nothing is read from the environment. A test compiles with every table, and
`xtl compile --tune` tries the table against none.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Flag:
    """The value of a flag, and the reason for it."""

    value: str
    reason: str


COMMON = {
    "xla_tpu_enable_latency_hiding_scheduler": Flag("true", "starts collectives early and ends them late"),
    "xla_jf_spmd_threshold_for_windowed_einsum_mib": Flag(
        "1000000",
        "no products with pieces of weights around a ring: at rows of 128 they take four times as long as whole ones",
    ),
    "xla_jf_crs_combiner_threshold_in_bytes": Flag(
        "16000000",
        "gradients are reduced in parts as they come; by default all at once, when no compute is left to hide it",
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

V4 = {
    **COMMON,
    "xla_enable_async_collective_permute": Flag("true", "off by default on this generation"),
    "xla_tpu_enable_async_collective_fusion": Flag("false", "at large's width it wants more than 16 MiB of VMEM"),
}
