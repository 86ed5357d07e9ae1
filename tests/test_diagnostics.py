"""Every diagnostic against closed forms: gratings, constants, impulses."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_cae.callbacks.diagnostics import (
    aliasing,
    dead_channels,
    effective_channels,
    energy_kept,
    shift_consistency,
    sparsity,
)

RANKS = pytest.mark.parametrize("rank", [1, 2, 3])


def grating(cycles, size=16, rank=2, axis=0, phase=0.3):
    """One sample, one channel: a cosine along an axis of a cubic grid."""
    cells = np.arange(size).reshape([-1 if i == axis else 1 for i in range(rank)])
    wave = np.cos(2 * np.pi * cycles * cells / size + phase)
    return np.broadcast_to(wave, (size,) * rank)[None, ..., None].astype("float32")


def impulse(size=8, rank=2):
    x = np.zeros((1, *[size] * rank, 1), "float32")
    x[(0, *[2] * rank, 0)] = 5
    return x


def every(x, stride=2):
    """Sub-sampling: every `stride`-th cell."""
    return x[(slice(None), *[slice(None, None, stride)] * (x.ndim - 2))]


def pool(x, over):
    """Windows of two cells along each axis."""
    grid = [side for length in x.shape[1:-1] for side in (length // 2, 2)]
    axes = tuple(range(2, 2 * (x.ndim - 2) + 1, 2))
    return over(x.reshape(len(x), *grid, -1), axes)


@RANKS
@pytest.mark.parametrize("over", [np.max, np.mean])
def test_constant_loses_no_energy(rank, over):
    x = np.full((2, *[6] * rank, 3), -4.0, "float32")
    assert energy_kept(x, pool(x, over)) == pytest.approx(1)
    assert energy_kept(x[:, :5], pool(x, over)) == pytest.approx(1)


@RANKS
@pytest.mark.parametrize("over", [np.max, np.mean])
def test_impulse_keeps_the_energy_of_one_cell_in_a_window(rank, over):
    x = impulse(rank=rank)
    assert energy_kept(x, pool(x, over)) == pytest.approx(0.5**rank)


@pytest.mark.parametrize("cycles", [0, 1, 3, 4, 7, 8])
def test_average_keeps_of_a_grating_what_its_filter_lets_through(cycles):
    # Of a complex wave a window of two keeps (1 + cos w) / 2 of the energy, exactly.
    shares = [
        energy_kept(x, pool(x, np.mean)) * np.sum(x**2)
        for x in (grating(cycles, phase=0), grating(cycles, phase=-np.pi / 2))
    ]
    expected = (1 + np.cos(2 * np.pi * cycles / 16)) / 2
    assert sum(shares) / 16**2 == pytest.approx(expected, abs=1e-6)


def test_strength_of_a_pooling_does_not_count_as_energy_kept():
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 3))
    kept = energy_kept(x, pool(x, np.mean))
    assert energy_kept(x, pool(x, np.sum) * [1, -2, 0.1]) == pytest.approx(kept)
    assert 0.1 < kept < 0.5


def test_energy_kept_of_an_odd_grid_counts_its_last_cell():
    x = np.array([1.0, 1, 2, 2, 3])[None, :, None]
    assert energy_kept(x, np.array([1.0, 2, 3])[None, :, None]) == pytest.approx(1)


def test_dead_channels_are_those_that_tell_nothing():
    x = np.random.default_rng(0).normal(size=(2, 3, 3, 8)).astype("float32")
    x[..., 0] = 0
    x[..., 3] = 1e6
    x[..., 5] = np.nan
    x[0, 0, 0, 3] *= 1 + 1e-7
    assert dead_channels(x) == 3 / 8
    assert dead_channels(np.zeros((1, 2, 2, 4))) == 1
    x[0, 0, 0, 1] = np.inf
    assert dead_channels(x) == 3 / 8


def test_channel_that_differs_between_samples_alone_is_alive():
    x = np.stack([np.zeros((2, 2, 1)), np.ones((2, 2, 1))])
    assert dead_channels(x) == 0


@pytest.mark.parametrize("count", [1, 4, 16, 64])
def test_sparsity_counts_equal_values_among_zeros(count):
    x = np.zeros(64)
    x[:count] = -3
    expected = (8 - np.sqrt(count)) / 7
    assert sparsity(x.reshape(1, 8, 8, 1)) == pytest.approx(expected)


def test_sparsity_of_nothing_is_full():
    assert sparsity(np.zeros((1, 2, 2, 3))) == 1
    assert sparsity(np.ones((1, 1, 1, 1))) == 1


@pytest.mark.parametrize("waves", [1, 2, 5])
def test_effective_channels_counts_orthogonal_gratings(waves):
    channels = [grating(1 + number) for number in range(waves)]
    x = 3 + np.concatenate(channels, axis=-1)
    assert effective_channels(x) == pytest.approx(waves)
    twice = np.concatenate([x, 2 - x], axis=-1)
    assert effective_channels(twice) == pytest.approx(waves)


def test_effective_channels_is_the_participation_ratio_of_the_eigenvalues():
    x = np.random.default_rng(0).normal(size=(2, 3, 2, 30)) * np.arange(30)
    for maps in (x, np.concatenate([x] * 5)[..., :7]):
        covariance = np.cov(maps.reshape(-1, maps.shape[-1]).T)
        values = np.linalg.eigvalsh(covariance)
        expected = values.sum() ** 2 / np.sum(values**2)
        assert effective_channels(maps) == pytest.approx(expected)


def test_effective_channels_of_constants_is_0():
    assert effective_channels(np.full((2, 3, 3, 4), 0.1, "float32")) == 0


@RANKS
@pytest.mark.parametrize("cycles", [1, 2, 3])
def test_grating_below_the_new_nyquist_frequency_moves_with_the_image(rank, cycles):
    x = grating(cycles, rank=rank)
    moved = np.roll(x, [1] * rank, range(1, rank + 1))
    consistency = shift_consistency(every(x), every(moved), [2] * rank)
    assert consistency == pytest.approx(1, abs=1e-5)


@RANKS
@pytest.mark.parametrize("cycles", [5, 6, 7])
def test_grating_above_the_new_nyquist_frequency_moves_against_the_image(rank, cycles):
    x = grating(cycles, rank=rank)
    moved = np.roll(x, [1] * rank, range(1, rank + 1))
    consistency = shift_consistency(every(x), every(moved), [2] * rank)
    assert consistency == pytest.approx(-1, abs=1e-5)


def test_larger_strides_move_by_smaller_fractions():
    x = grating(3, size=32)
    moved = np.roll(x, 1, 1)
    assert shift_consistency(every(x, 4), every(moved, 4), [4, 4]) == pytest.approx(1)
    assert shift_consistency(every(x, 4), every(moved, 4), [1, 1]) < 0.5


def test_maps_that_do_not_move_are_as_consistent_as_the_angle_they_should_turn_by():
    x = every(grating(2, size=32))  # 2 of 16 cycles: 1/16 turn for half a cell
    expected = np.cos(2 * np.pi * 2 / 16 / 2)
    assert shift_consistency(x, x, [2, 2]) == pytest.approx(expected, abs=1e-5)


def test_constant_and_strength_do_not_hide_a_wrong_shift():
    x, other = 9 + grating(2), 7 + grating(2, phase=0.3 + np.pi)
    assert shift_consistency(x, other, [10**9] * 2) == pytest.approx(-1, abs=1e-5)


def test_constant_maps_are_consistent():
    x = np.full((1, 5, 5, 2), 0.1, "float32")
    assert shift_consistency(x, x, [2, 2]) == 1


def test_border_does_not_count_in_shift_consistency():
    x = grating(2)
    moved = np.roll(x, 1, 1)
    moved[:, :4] = moved[:, :, -4:] = 1e3
    assert shift_consistency(x, moved, [1, 10**9]) == pytest.approx(1, abs=1e-5)


@RANKS
@pytest.mark.parametrize(
    ("cycles", "stride", "expected"),
    [(1, 2, 0), (4, 2, 0), (5, 2, 1), (8, 2, 1), (2, 4, 0), (3, 4, 1), (8, 1, 0)],
)
def test_aliasing_is_the_energy_above_the_new_nyquist_frequency(
    rank, cycles, stride, expected
):
    for axis in range(rank):
        x = 5 + grating(cycles, rank=rank, axis=axis)
        assert aliasing(x, [stride] * rank) == pytest.approx(expected, abs=1e-6)


def test_aliasing_weighs_gratings_by_their_energy():
    x = grating(2) + 2 * grating(7)
    assert aliasing(x, [2, 2]) == pytest.approx(4 / 5)
    assert aliasing(x, [1, 2]) == pytest.approx(0, abs=1e-6)


@RANKS
@pytest.mark.parametrize("size", [8, 9])
def test_aliasing_of_an_impulse_is_the_share_of_frequencies_above_nyquist(rank, size):
    # An impulse has all frequencies alike; of 8, or 9, five are at 1/4 or below.
    lost = 1 - (5**rank - 1) / (size**rank - 1)
    assert aliasing(impulse(size, rank), [2] * rank) == pytest.approx(lost)


def test_constant_folds_nothing():
    assert aliasing(np.full((1, 5, 5, 2), 0.1, "float32"), [2, 2]) == 0


NUMBERS = (
    lambda x: energy_kept(x, pool(x, np.max)),
    dead_channels,
    sparsity,
    effective_channels,
    lambda x: shift_consistency(x, x, [2, 2]),
    lambda x: aliasing(x, [2, 2]),
)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_gives_nan_without_a_warning(bad):
    x = np.ones((2, 4, 4, 3), "float32")
    x[0, 0, 0, 0] = bad
    values = [number(x) for number in NUMBERS]
    assert [np.isnan(value) for value in values] == [True, False, *[True] * 4]


@pytest.mark.filterwarnings("error")
@given(
    st.lists(
        st.floats(-(2.0**60), 2.0**60, width=32) | st.sampled_from([0.0, -0.0, 1.0]),
        min_size=16,
        max_size=16,
    )
)
def test_finite_maps_of_any_values_have_numbers_in_range(values):
    x = np.reshape(values, (1, 4, 2, 2)).astype("float32")
    kept, dead, sparse, effective, consistent, folded = (f(x) for f in NUMBERS)
    assert min(kept, dead, sparse, folded) >= 0
    assert max(kept, dead, sparse, folded) <= 1 + 1e-9
    assert 0 <= effective <= 2 + 1e-9
    assert -1 - 1e-9 <= consistent <= 1 + 1e-9
