"""Model FLOPs, counted analytically, and MFU; the chips' peaks stand in `xtl.parallel.chips`.

Counted: two operations per multiply-add, over real (non-padding) tokens only; the matrices of the encoder, attention
within each segment, and the vocabulary matmul of the MLM head; training is three forwards. Not counted: embedding
look-ups, biases, norms, softmax, the small task heads (under 0.1 %), and anything computed twice for memory's sake.
So packing, padding and recomputation show in MFU and not in the count. Pure Python: `xtl plan` uses it without JAX.
"""

from typing import Protocol


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
