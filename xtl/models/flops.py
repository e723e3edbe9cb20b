"""Model FLOPs, counted analytically, and chip peaks: the two sides of MFU.

Counted: two operations per multiply-add, over real (non-padding) tokens only; the matrices of the encoder, attention
within each segment, and the vocabulary matmul of the MLM head; training is three forwards. Not counted: embedding
look-ups, biases, norms, softmax, the small task heads (under 0.1 %), and anything computed twice for memory's sake.
So packing, padding and recomputation show in MFU and not in the count. Pure Python: `xtl plan` uses it without JAX.
"""

from typing import Protocol

# bf16 FLOP/s of one JAX device, dense. A v4 or v5p chip is one device (megacore); a tpu7x chip is two.
# cloud.google.com/tpu/docs (v4 275, v5e 197, v5p 459, v6e 918, 7x 2307 per chip); NVIDIA data sheets, without sparsity.
PEAK_FLOPS = {
    "v4": 275e12,
    "v5e": 197e12,
    "v5p": 459e12,
    "v6e": 918e12,
    "tpu7x": 2307e12 / 2,
    "a100": 312e12,
    "h100": 989e12,
    "h200": 989e12,
}

# pieces of jax.Device.device_kind, first match wins
_KINDS = (
    ("v5 lite", "v5e"),
    ("v5litepod", "v5e"),
    ("v5e", "v5e"),
    ("v6 lite", "v6e"),
    ("v6e", "v6e"),
    ("tpu7x", "tpu7x"),
    ("v5p", "v5p"),
    ("tpu v5", "v5p"),
    ("v4", "v4"),
    ("a100", "a100"),
    ("h100", "h100"),
    ("h200", "h200"),
)


class Sizes(Protocol):
    """The part of EncoderConfig that FLOPs depend on."""

    @property
    def hidden(self) -> int: ...
    @property
    def layers(self) -> int: ...
    @property
    def mlp(self) -> int: ...
    @property
    def vocab_size(self) -> int: ...


def chip(device_kind: str) -> str | None:
    """'TPU v5 lite' -> 'v5e'; None for a chip (or CPU) that is not in the table."""
    kind = device_kind.lower()
    return next((name for piece, name in _KINDS if piece in kind), None)


def peak_flops(device_kind: str) -> float | None:
    """bf16 FLOP/s of one device of that kind; None where no MFU can be stated."""
    name = chip(device_kind)
    return None if name is None else PEAK_FLOPS[name]


def matrix_weights(config: Sizes) -> int:
    """Weights in the encoder's matrices: per layer 4 D^2 for attention and 2 D F for the MLP."""
    return config.layers * (4 * config.hidden**2 + 2 * config.hidden * config.mlp)


def forward_flops(config: Sizes, *, tokens: float, token_pairs: float, predicted: float = 0.0) -> float:
    """FLOPs of one forward pass over segments.

    tokens: real tokens. token_pairs: the sum of length^2 over segments. predicted: positions that go through the MLM
    head (a D x D transform, then D x V).
    """
    encoder = 2 * matrix_weights(config) * tokens + 4 * config.layers * config.hidden * token_pairs
    return encoder + 2 * predicted * config.hidden * (config.hidden + config.vocab_size)


def train_flops(config: Sizes, *, tokens: float, token_pairs: float, predicted: float = 0.0) -> float:
    """FLOPs of forward and backward: three forwards (6 x weights x tokens + 12 L D x token_pairs + MLM head)."""
    return 3 * forward_flops(config, tokens=tokens, token_pairs=token_pairs, predicted=predicted)


def mfu(flops: float, *, seconds: float, devices: int, peak: float | None) -> float | None:
    """Model FLOPs utilisation, 0..1; None without a known peak."""
    return None if peak is None or seconds <= 0 else flops / (seconds * devices * peak)
