import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_cae.callbacks.tiles import GAP, GAP_SHADE, tile, tile_size


def cut(picture, size):
    """The tiles of a picture as `(samples, channels, height, width)`."""
    height, width = size[0] + GAP, size[1] + GAP
    rows = np.pad(picture, ((0, GAP), (0, GAP)), constant_values=GAP_SHADE)
    samples, channels = rows.shape[0] // height, rows.shape[1] // width
    tiles = rows.reshape(samples, height, channels, width).transpose(0, 2, 1, 3)
    assert np.all(tiles[:, :, size[0] :] == GAP_SHADE)
    assert np.all(tiles[:, :, :, size[1] :] == GAP_SHADE)
    return tiles[:, :, : size[0], : size[1]]


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
        ((10,), (24, 60)),
        ((16000,), (24, 128)),
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
    tiles = cut(tile(maps, (4, 4)), (4, 4))
    assert tiles.shape == (3, 5, 4, 4)
    for channel in range(5):
        x = maps[..., channel].astype("float64")
        shades = np.round((x - x.min()) / (x.max() - x.min()) * 255)
        np.testing.assert_array_equal(tiles[:, channel, ::2, ::2], shades)
        np.testing.assert_array_equal(tiles[:, channel, 1::2, 1::2], shades)


def test_cells_are_spread_evenly_over_a_tile_they_do_not_divide():
    maps = np.arange(4.0).reshape(1, 1, 4, 1)
    (row,) = tile(maps, (1, 10))
    assert [list(row).count(shade) for shade in (0, 85, 170, 255)] == [3, 2, 3, 2]


def test_large_maps_are_thinned_out():
    maps = random_maps(1, 6, 4, 1)
    np.testing.assert_array_equal(tile(maps, (3, 2)), tile(maps, (6, 4))[::2, ::2])


def test_sequence_is_a_band():
    picture = tile(np.array([[[0.0], [1.0], [2.0]]]), (2, 3))
    np.testing.assert_array_equal(picture, [[0, 128, 255]] * 2)


def test_volume_shows_its_middle_slice():
    volume = random_maps(2, 5, 4, 3, 2)
    expected = tile(volume[:, 2], (4, 3))
    np.testing.assert_array_equal(tile(volume, (4, 3)), expected)


@pytest.mark.parametrize("value", [0.0, 7.0, -1e30, 1e-40])
def test_constant_channels_are_black(value):
    maps = np.full((2, 3, 3, 1), value)
    maps[0, 0, 0, 0] *= 1 + 1e-9
    assert np.all(cut(tile(maps, (3, 3)), (3, 3)) == 0)


def test_one_channel_does_not_dim_another():
    maps = random_maps(2, 5, 5, 2)
    alone = tile(maps[..., 1:], (5, 5))
    maps[..., 0] *= 1e6
    np.testing.assert_array_equal(tile(maps, (5, 5))[:, 5 + GAP :], alone)


def test_what_is_not_a_number_is_a_checkerboard():
    maps = random_maps(1, 8, 8, 2)
    maps[..., 1] = np.nan
    maps[0, :4, :, 0] = np.nan
    hidden, lost = cut(tile(maps, (64, 64)), (64, 64))[0]
    for pattern in (hidden[:32], lost):
        assert set(np.unique(pattern)) == {0, 255}
        np.testing.assert_array_equal(pattern[:, :-4], 255 - pattern[:, 4:])
    assert len(np.unique(hidden[32:])) > 20


def test_infinite_values_are_black_and_white():
    maps = np.array([[1.0, 2.0, 3.0, np.inf, -np.inf]])[:, None, :, None]
    np.testing.assert_array_equal(tile(maps, (1, 5)), [[0, 128, 255, 255, 0]])


@pytest.mark.filterwarnings("error")
@given(
    st.lists(st.floats(width=32) | st.sampled_from([0.0, -0.0]), min_size=6, max_size=6)
)
def test_any_values_make_a_picture(values):
    maps = np.reshape(values, (1, 2, 3, 1)).astype("float32")
    picture = tile(maps, (2, 3))
    assert picture.dtype == np.uint8
    assert picture.shape == (2, 3)
