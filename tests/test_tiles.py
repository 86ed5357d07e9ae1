import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_cae.callbacks.drawing import CHECKS, LINE, PALETTE, PAPER, text
from keras_cae.callbacks.tiles import (
    GAP,
    NARROWEST,
    active_channels,
    picture,
    tile_size,
)

TOP = len(PALETTE) - 1
HEAD = 3 * LINE + GAP
KEY = LINE + GAP


def draw(maps, size, kept=None):
    return picture(maps, size, range(maps.shape[-1]), kept)


def cut(maps, size, kept=None):
    """The tiles of a picture as `(samples, channels, height, width, 3)`."""
    drawn = draw(maps, size, kept)
    samples, channels = len(maps), maps.shape[-1]
    height, width = size[0] + GAP, max(size[1], NARROWEST) + GAP
    rows = drawn[HEAD : HEAD + samples * height - GAP, : channels * width - GAP]
    rows = np.pad(rows, ((0, GAP), (0, GAP), (0, 0)), constant_values=PAPER)
    tiles = rows.reshape(samples, height, channels, width, 3).transpose(0, 2, 1, 3, 4)
    assert np.all(tiles[:, :, size[0] :] == PAPER)
    assert np.all(tiles[:, :, :, size[1] :] == PAPER)
    return tiles[:, :, : size[0], : size[1]]


def shades(tiles):
    """The place of each pixel's colour in the palette; -1 where it is none of them."""
    same = np.all(tiles[..., None, :] == PALETTE, axis=-1)
    return np.where(same.any(-1), same.argmax(-1), -1)


def random_maps(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


@pytest.mark.parametrize(
    ("grid", "size"),
    [
        ((28, 28), (56, 56)),
        ((14, 14), (56, 56)),
        ((1, 1), (56, 56)),
        ((31, 45), (62, 90)),
        ((100, 120), (100, 120)),
        ((224, 224), (112, 112)),
        ((4, 64), (16, 128)),
        ((10,), (56, 60)),
        ((16000,), (56, 128)),
        ((9, 20, 24), (60, 72)),
    ],
)
def test_size_of_a_tile(grid, size):
    assert tile_size(grid) == size


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=3))
def test_tiles_are_neither_tiny_nor_huge(grid):
    height, width = tile_size(tuple(grid))
    assert 1 <= height <= 128
    assert 1 <= width <= 128
    thin = max(grid[-2:]) > 20 * min(grid[-2:])
    assert len(grid) == 1 or thin or min(height, width) > 9


def test_rows_are_samples_and_columns_are_channels():
    maps = random_maps(3, 2, 2, 5)
    tiles = shades(cut(maps, (4, 4)))
    assert tiles.shape == (3, 5, 4, 4)
    for channel in range(5):
        x = maps[..., channel].astype("float64")
        expected = np.round((x - x.min()) / (x.max() - x.min()) * TOP)
        np.testing.assert_array_equal(tiles[:, channel, ::2, ::2], expected)
        np.testing.assert_array_equal(tiles[:, channel, 1::2, 1::2], expected)


def test_cells_are_spread_evenly_over_a_tile_they_do_not_divide():
    maps = np.arange(4.0).reshape(1, 1, 4, 1)
    row = list(shades(cut(maps, (1, 10)))[0, 0, 0])
    assert [row.count(shade) for shade in (0, 39, 78, TOP)] == [3, 2, 3, 2]


def test_large_maps_are_thinned_out():
    maps = random_maps(1, 6, 4, 1)
    thinned = cut(maps, (6, 4))[:, :, ::2, ::2]
    np.testing.assert_array_equal(cut(maps, (3, 2)), thinned)


def test_volume_shows_its_middle_slice():
    volume = random_maps(2, 5, 4, 3, 2)
    low_high = volume.reshape(-1, 2).min(0), volume.reshape(-1, 2).max(0)
    expected = (volume[:, 2] - low_high[0]) / (low_high[1] - low_high[0]) * TOP
    tiles = shades(cut(volume, (4, 3))).transpose(0, 2, 3, 1)
    assert np.max(np.abs(tiles - expected)) <= 0.51


@pytest.mark.parametrize("value", [0.0, 7.0, -1e30, 1e-40])
def test_constant_channels_are_dark_and_said_to_be_so(value):
    maps = np.full((2, 3, 3, 1), value)
    maps[0, 0, 0, 0] *= 1 + 1e-9
    assert np.all(shades(cut(maps, (3, 3))) == 0)
    assert np.any(np.all(draw(maps, (3, 3))[LINE : 2 * LINE, :30] == text("const")))


def test_number_highest_and_lowest_value_stand_above_a_channel():
    maps = random_maps(2, 4, 4, 3)
    maps[..., 2] = [[[-0.5, 0, 0, 12.25]] * 4] * 2
    drawn = picture(maps, (56, 56), [3, 17, 8])
    for line, words in enumerate(["#8", "12.2", "-0.5"]):
        head = drawn[line * LINE : (line + 1) * LINE, 2 * 60 :][:, : 6 * len(words)]
        upper = slice(0, LINE - 1)  # Below the lowest is a line.
        np.testing.assert_array_equal(head[upper], text(words)[upper])


def test_one_channel_does_not_dim_another():
    maps = random_maps(2, 5, 5, 2)
    alone = cut(maps[..., 1:], (5, 5))
    maps[..., 0] *= 1e6
    np.testing.assert_array_equal(cut(maps, (5, 5))[:, 1:], alone)


def test_what_is_not_a_number_is_a_checkerboard():
    maps = random_maps(1, 8, 8, 2)
    maps[..., 1] = np.nan
    maps[0, :4, :, 0] = np.nan
    hidden, lost = cut(maps, (64, 64))[0]
    for pattern in (hidden[:32], lost):
        assert set(np.unique(pattern)) == set(CHECKS)
    assert np.all(shades(hidden[32:]) >= 0)
    assert np.any(np.all(draw(maps, (64, 64))[LINE : 2 * LINE, 68:86] == text("NaN")))


def test_infinite_values_are_at_the_ends():
    maps = np.array([[1.0, 2.0, 3.0, np.inf, -np.inf]])[:, None, :, None]
    seen = shades(cut(maps, (1, 5)))[0, 0, 0]
    np.testing.assert_array_equal(seen, [0, 58, TOP, TOP, 0])


def test_values_that_are_thrown_away_are_grey():
    maps = random_maps(2, 6, 6, 3)
    kept = np.random.default_rng(1).integers(0, 2, maps.shape)
    tiles, all_kept = cut(maps, (6, 6), kept), cut(maps, (6, 6))
    chosen = kept.transpose(0, 3, 1, 2) == 1
    np.testing.assert_array_equal(tiles[chosen], all_kept[chosen])
    grey = tiles[~chosen]
    assert np.all(grey == grey[:, :1])
    assert len(np.unique(grey)) > 20


@pytest.mark.parametrize("size", [(24, 6), (24, 12), (24, 3)])
def test_sequence_is_a_curve_through_its_values(size):
    values = np.array([0.0, 1, 2, 1, 0, 4])
    tiles = cut(values[None, :, None], size)[0, 0]
    drawn = np.all(tiles == tiles.min(), axis=-1)
    assert np.all(drawn.any(axis=0))
    for pixel in range(size[1]):
        cell = pixel * 6 // size[1]
        assert drawn[round(23 * (1 - values[cell] / 4)), pixel]
    below = np.flatnonzero(drawn[:, -1])
    assert np.all(np.diff(below) == 1)
    assert below[0] == 0


def test_kept_values_of_a_sequence_have_a_colour():
    values, kept = np.array([0.0, 1, 0, 1]), np.array([0, 1, 0, 0])
    tiles = cut(values[None, :, None], (8, 4), kept[None, :, None])[0, 0]
    coloured = np.any(tiles != tiles[..., :1], axis=-1)
    np.testing.assert_array_equal(coloured.any(axis=0), [False, True, False, False])


def test_sequence_shows_where_it_is_not_a_number():
    values = np.array([0.0, np.nan, 2, 3])
    tiles = cut(values[None, :, None], (8, 4))[0, 0]
    assert set(np.unique(tiles[:, 1])) == set(CHECKS)
    assert not set(np.unique(tiles[:, [0, 2, 3]])) & set(CHECKS)


def test_channels_that_vary_most_are_the_active_ones():
    maps = random_maps(2, 4, 4, 6) * [1, 5, 0, 3, 4, 2] + [0, 0, 99, 0, 0, 0]
    maps[0, 0, 0, 5] = np.nan
    assert active_channels(maps, 3) == [1, 3, 4]
    assert active_channels(maps, 99) == list(range(6))


@pytest.mark.filterwarnings("error")
@given(
    st.lists(st.floats(width=32) | st.sampled_from([0.0, -0.0]), min_size=6, max_size=6)
)
def test_any_values_make_a_picture(values):
    for shape in [(1, 2, 3, 1), (1, 6, 1)]:
        maps = np.reshape(values, shape).astype("float32")
        drawn = draw(maps, (2, 6))
        assert drawn.dtype == np.uint8
        assert drawn.shape[2] == 3


def test_curve_has_no_gaps():
    values = random_maps(1, 40, 1)
    for width in (13, 40, 90):
        tiles = cut(values, (24, width))[0, 0]
        rows = [np.flatnonzero(column) for column in np.all(tiles < 100, -1).T]
        for one, other in itertools.pairwise(rows):
            assert one[0] <= other[-1] + 1
            assert other[0] <= one[-1] + 1


def test_what_is_not_a_number_is_no_value_thrown_away():
    maps = random_maps(1, 8, 8, 1)
    maps[0, :4] = np.nan
    tiles = cut(maps, (8, 8), np.zeros_like(maps))[0, 0]
    assert set(np.unique(tiles[:4])) == set(CHECKS)
