import numpy as np
import pytest

from keras_cae.callbacks.drawing import (
    CHECKS,
    LINE,
    PALETTE,
    PAPER,
    SHADES,
    colours,
    column,
    row,
    scale_bar,
    text,
)


def lightness(rgb):
    """L* of CIELAB, for sRGB."""
    c = rgb / 255
    c = np.where(c > 0.04045, ((c + 0.055) / 1.055) ** 2.4, c / 12.92)
    y = c @ [0.2126, 0.7152, 0.0722]
    return np.where(y > 0.008856, 116 * np.cbrt(y) - 16, 903.3 * y)


def test_lightness_of_the_colours_rises_evenly():
    steps = lightness(PALETTE)
    line = np.linspace(steps[0], steps[-1], len(steps))
    assert np.max(np.abs(steps - line)) < 2
    assert steps[0] < 20
    assert steps[-1] > 90


def test_numbers_have_the_colour_of_their_share():
    seen = colours(np.array([[0, 0.501, 1, -3, np.inf]]))
    np.testing.assert_array_equal(seen[0], PALETTE[[0, SHADES // 2, -1, 0, -1]])
    assert seen.dtype == np.uint8


def test_what_is_not_a_number_is_a_checkerboard():
    seen = colours(np.full((2, 8, 8), np.nan))
    assert seen.shape == (2, 8, 8, 3)
    assert set(np.unique(seen)) == set(CHECKS)
    assert np.all(seen[:, :, :4] != seen[:, :, 4:])


def test_text_is_a_line_of_dark_letters_on_paper():
    line = text("#12 a")
    assert line.shape == (LINE, 30, 3)
    assert line.min() < 100
    assert np.all(line[:, :6].min(axis=(0, 1)) < 100)
    assert np.all(text("     ") == PAPER)
    assert np.any(text("1.5") != text("1.6"))


def test_text_of_no_letters_is_no_error():
    assert text("").shape[0] == LINE


def test_scale_bar_shows_all_colours_between_its_ends():
    bar = scale_bar("low", "high", width=SHADES)
    middle = bar[LINE // 2, 3 * 6 + 6 :][:SHADES]
    np.testing.assert_array_equal(middle, PALETTE)


@pytest.mark.parametrize(("put", "shape"), [(row, (5, 13, 3)), (column, (11, 7, 3))])
def test_pictures_are_put_together_on_paper(put, shape):
    small, large = np.zeros((2, 3, 3), "uint8"), np.ones((5, 7, 3), "uint8")
    whole = put([small, large], gap=4) if put is column else put([small, large], gap=3)
    assert whole.shape == shape
    assert np.all(whole[:2, :3] == 0)
    assert np.all(whole[-5:, -7:] == 1)
    assert np.sum(whole == PAPER) == whole.size - small.size - large.size
