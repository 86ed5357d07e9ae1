import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_cae.callbacks.quality import psnr, ssim


def pair(*shape):
    random = np.random.default_rng(0)
    targets = random.uniform(size=shape)
    outputs = np.clip(targets + random.normal(scale=0.2, size=shape), 0, 1)
    return targets.astype("float32"), outputs.astype("float32")


@pytest.mark.skipif(
    not hasattr(keras.ops.image, "ssim"), reason="this Keras has no ssim"
)
@pytest.mark.parametrize("shape", [(3, 28, 28, 1), (2, 11, 17, 3)], ids=str)
@pytest.mark.parametrize("peak", [1.0, 255.0])
def test_ssim_equals_that_of_keras(shape, peak):
    targets, outputs = (peak * x for x in pair(*shape))
    expected = keras.ops.image.ssim(
        targets, outputs, max_val=peak, data_format="channels_last"
    )
    expected = keras.ops.convert_to_numpy(expected)
    np.testing.assert_allclose(ssim(targets, outputs, peak), expected, atol=2e-5)


@pytest.mark.skipif(
    not hasattr(keras.ops.image, "ssim"), reason="this Keras has no ssim"
)
@pytest.mark.parametrize(("sides", "window"), [((10, 30), 9), ((7, 7), 7), ((4, 3), 3)])
def test_window_shrinks_to_the_largest_odd_one_that_fits(sides, window):
    targets, outputs = pair(2, *sides, 1)
    expected = keras.ops.image.ssim(
        targets, outputs, filter_size=window, data_format="channels_last"
    )
    expected = keras.ops.convert_to_numpy(expected)
    np.testing.assert_allclose(ssim(targets, outputs, 1.0), expected, atol=2e-5)


@pytest.mark.parametrize(
    "shape", [(2, 9, 1), (2, 5, 5, 5, 1), (2, 2, 30, 1), (2, 1, 1, 3)], ids=str
)
def test_what_is_no_image_has_no_ssim(shape):
    assert ssim(*pair(*shape), 1.0) is None


def test_ssim_of_two_constants_is_that_of_their_light():
    # (2 a b + c) / (a² + b² + c), with c = 0.01²
    black, grey = np.zeros((1, 12, 12, 1)), np.full((1, 12, 12, 1), 0.5)
    np.testing.assert_allclose(ssim(black, grey, 1.0), 1e-4 / (0.25 + 1e-4))


def test_ssim_of_a_negative_is_below_zero():
    targets, _ = pair(2, 16, 16, 1)
    assert np.all(ssim(targets, 1 - targets, 1.0) < 0)


@pytest.mark.parametrize(
    ("error", "peak", "decibels"), [(0.1, 1.0, 20), (25.5, 255, 20), (0.0, 1.0, 100)]
)
def test_psnr_follows_its_formula(error, peak, decibels):
    targets = np.zeros((2, 5, 3), "float32")
    np.testing.assert_allclose(psnr(targets, targets + error, peak), [decibels] * 2)


def test_each_sample_has_its_own_figures():
    targets, outputs = pair(3, 16, 16, 2)
    outputs[1] = targets[1]
    assert list(psnr(targets, outputs, 1.0) == 100) == [False, True, False]
    assert list(ssim(targets, outputs, 1.0) > 0.999) == [False, True, False]
    assert psnr(targets, outputs, 1.0)[2] == psnr(targets[2:], outputs[2:], 1.0)[0]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_has_no_figure_and_spoils_no_other(value):
    targets, outputs = pair(2, 12, 12, 1)
    outputs[0, 3, 3] = value
    for figures in (psnr(targets, outputs, 1.0), ssim(targets, outputs, 1.0)):
        assert list(np.isfinite(figures)) == [False, True]


@given(st.integers(3, 20), st.integers(3, 20), st.floats(0.1, 300))
def test_ssim_is_symmetric_and_does_not_depend_on_the_unit(height, width, scale):
    targets, outputs = pair(1, height, width, 1)
    expected = ssim(targets, outputs, 1.0)
    assert -1 <= expected[0] <= 1
    np.testing.assert_allclose(ssim(outputs, targets, 1.0), expected)
    scaled = ssim(scale * targets, scale * outputs, scale)
    np.testing.assert_allclose(scaled, expected, rtol=1e-4)
