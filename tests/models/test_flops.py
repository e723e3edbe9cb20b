"""Promises: FLOPs are counted by hand-checkable rules; MFU is stated only where the peak is known."""

import pytest

from xtl.models import flops
from xtl.models.encoder import encoder_config

BASE = encoder_config("base")


def test_matrix_weights_of_base_and_large_are_those_of_the_papers():
    assert flops.matrix_weights(BASE) == 12 * 12 * 768**2 == 84_934_656
    assert flops.matrix_weights(encoder_config("large")) == 24 * 12 * 1024**2


def test_training_is_six_per_weight_and_token_plus_attention():
    segments = [100, 28]
    got = flops.train_flops(BASE, tokens=sum(segments), token_pairs=sum(n * n for n in segments))
    assert got == 6 * 84_934_656 * 128 + 12 * 12 * 768 * (100**2 + 28**2)


def test_packing_changes_no_model_flops_and_longer_segments_cost_more():
    two = flops.forward_flops(BASE, tokens=128, token_pairs=2 * 64**2)
    one = flops.forward_flops(BASE, tokens=128, token_pairs=128**2)
    assert one - two == 4 * 12 * 768 * (128**2 - 2 * 64**2)


def test_the_mlm_head_counts_by_predicted_positions():
    plain = flops.train_flops(BASE, tokens=512, token_pairs=512**2)
    masked = flops.train_flops(BASE, tokens=512, token_pairs=512**2, predicted=77)
    assert masked - plain == 6 * 77 * 768 * (768 + 250002)


def test_mfu_is_a_share_of_all_devices_and_none_without_a_peak():
    assert flops.mfu(197e12, seconds=2, devices=4, peak=197e12) == pytest.approx(1 / 8)
    assert flops.mfu(197e12, seconds=2, devices=4, peak=None) is None
