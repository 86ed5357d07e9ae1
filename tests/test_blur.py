import dataclasses
import math

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import Case, cases, in_format, many, max_pool

from keras_cae.layers import MaxPooling, Upsampling
from keras_cae.layers.blur import BlurPooling, BlurUnpooling, MaxBlurPooling

POOLINGS = (BlurPooling, MaxBlurPooling)
LAYERS = (*POOLINGS, BlurUnpooling)
BORDERS = ("reflect", "edge", "zero")


@dataclasses.dataclass(frozen=True)
class Blur:
    """Filters on the grid of a case, and the border they look at."""

    case: Case
    filter_size: int = 3
    border: str = "reflect"

    @property
    def filters(self):
        """The case whose windows are the filters."""
        sizes = (self.filter_size,) * len(self.case.grid)
        return dataclasses.replace(self.case, pool_size=sizes)

    def pool(self, x, layer=BlurPooling):
        settings = {"filter_size": self.filter_size, "border": self.border}
        return self.case.run(layer(**self.case.settings, **settings), x)

    def unpool(self, y, like=None):
        layer = BlurUnpooling(**self.case.settings, filter_size=self.filter_size)
        return self.case.run(layer, y, like=like)

    def matrices(self, border=None):
        """Along each axis, what every output cell takes of every input cell."""
        case = self.filters
        axes = zip(case.grid, case.pool_size, case.strides, strict=True)
        for size, filter_size, stride in axes:
            line = Case((size,), (filter_size,), (stride,), case.padding)
            yield _matrix(line, border or self.border)

    def seen(self):
        """Along each axis, the weights with which all filters together see a cell."""
        return [matrix.sum(0) for matrix in self.matrices("zero")]


def _matrix(line, border):
    (size,), (filter_size,) = line.grid, line.pool_size
    weights = np.polynomial.polynomial.polypow([0.5, 0.5], filter_size - 1)
    modes = {"reflect": "reflect", "edge": "edge", "zero": "constant"}
    bordered = np.pad(np.eye(size), ((9, 9), (0, 0)), modes[border])
    firsts = [first + 9 for _, (first,), _ in line.windows()]
    return np.stack([weights @ bordered[at : at + filter_size] for at in firsts])


def along_axes(matrices, x):
    for axis, matrix in enumerate(matrices, 1):
        x = np.moveaxis(np.tensordot(matrix, x, (1, axis)), 0, axis)
    return x


@st.composite
def blurs(draw, borders=BORDERS):
    case = draw(cases())
    filter_size = draw(st.integers(1, 7))
    border = draw(st.sampled_from(borders))
    least = filter_size if case.padding == "valid" else filter_size // 2
    return Blur(case.on(max(n, least) for n in case.grid), filter_size, border)


@many(150)
@given(blurs())
def test_pooling_weighs_the_cells_under_its_filter(blur):
    x = blur.case.numbers()
    expected = along_axes(blur.matrices(), x)
    np.testing.assert_allclose(blur.pool(x), expected, atol=1e-5)


@many(60)
@given(blurs())
def test_max_blur_pooling_blurs_the_maximum_around_each_cell(blur):
    x = blur.case.numbers(channels=1)
    steps = (1,) * len(blur.case.grid)
    around = dataclasses.replace(blur.case, strides=steps, padding="same")
    expected = along_axes(blur.matrices(), max_pool(around, x)[0])
    pooled = blur.pool(x, MaxBlurPooling)
    np.testing.assert_allclose(pooled, expected, atol=1e-5)


@many(80)
@given(blurs())
def test_unpooling_takes_the_mean_of_the_values_that_saw_a_cell(blur):
    y = blur.case.numbers(blur.filters.pooled_grid)
    shares = [
        matrix.T / np.where(seen > 0, seen, 1)[:, None]
        for matrix, seen in zip(blur.matrices("zero"), blur.seen(), strict=True)
    ]
    expected = along_axes(shares, y)
    restored = blur.unpool(y, like=blur.case.grid)
    np.testing.assert_allclose(restored, expected, atol=1e-5)


@many(80)
@given(blurs(borders=("zero",)))
def test_unpooling_is_the_adjoint_of_pooling_but_for_how_well_cells_are_seen(blur):
    x, y = blur.case.numbers(), blur.case.numbers(blur.filters.pooled_grid)
    spread = along_axes(map(np.diag, blur.seen()), blur.unpool(y, like=x))
    np.testing.assert_allclose(
        np.vdot(blur.pool(x), y), np.vdot(x, spread), rtol=1e-4, atol=1e-3
    )


@many(40)
@given(blurs())
def test_without_like_the_grid_is_that_of_whole_strides(blur):
    natural = blur.filters.natural_grid
    y = blur.case.numbers(blur.filters.pooled_grid)
    np.testing.assert_array_equal(blur.unpool(y), blur.unpool(y, like=natural))


@many(40)
@given(blurs())
def test_pair_restores_the_size_and_keeps_constants(blur):
    x = np.full((1, *blur.case.grid, 1), 3.0, "float32")
    for layer in POOLINGS:
        pooled = blur.pool(x, layer)
        assert pooled.shape == (1, *blur.filters.pooled_grid, 1)
        if blur.border != "zero":
            np.testing.assert_allclose(pooled, 3.0, rtol=1e-6)
        restored = blur.unpool(np.full_like(pooled, 3.0), like=x)
        seen = along_axes([np.diag(line > 0) for line in blur.seen()], x)
        np.testing.assert_allclose(restored, seen, rtol=1e-6)


@many(30)
@given(blurs())
def test_channels_are_independent(blur):
    x = blur.case.numbers(channels=3)
    spoiled = np.array(x)
    spoiled[..., 1] = np.nan
    for layer in POOLINGS:
        clean, pooled = blur.pool(x, layer), blur.pool(spoiled, layer)
        np.testing.assert_array_equal(pooled[..., ::2], clean[..., ::2])
        restored = blur.unpool(pooled, like=x)[..., ::2]
        np.testing.assert_array_equal(restored, blur.unpool(clean, like=x)[..., ::2])


@pytest.mark.parametrize("layer", POOLINGS)
@pytest.mark.parametrize("filter_size", range(1, 8))
def test_no_filter_changes_the_size_even_or_odd(layer, filter_size):
    for size, stride in ((1, 2), (2, 2), (7, 2), (8, 2), (7, 3), (10, 4), (5, 1)):
        pooling = layer(2, stride, filter_size=filter_size, border="edge")
        shape = (2, math.ceil(size / stride), 1)
        assert pooling.compute_output_shape((2, size, 1)) == shape
        assert pooling(np.zeros((2, size, 1))).shape == shape


@pytest.mark.parametrize(
    ("filter_size", "interpolation"), [(2, "nearest"), (3, None), (4, "linear")]
)
def test_unpooling_by_two_interpolates(filter_size, interpolation):
    y = Case((5, 3), (1, 1), (1, 1)).numbers()
    restored = BlurUnpooling(2, filter_size=filter_size)(y)
    if interpolation is not None:
        expected = Upsampling(2, interpolation)(y)
        np.testing.assert_allclose(restored, expected, atol=1e-6)
    else:
        between = (y[:, :-1, :-1] + y[:, 1:, :-1] + y[:, :-1, 1:] + y[:, 1:, 1:]) / 4
        np.testing.assert_allclose(restored[:, 1::2, 1::2], y, atol=1e-6)
        np.testing.assert_allclose(restored[:, 2::2, 2::2], between, atol=1e-6)


def change_by_shift(layer, period):
    """How much a square grating's place changes the strength of what is pooled."""
    places = np.arange(-8, 240 + 8) + np.arange(period)[:, None]
    gratings = (places % period < period / 2).astype("float32")[..., None]
    pooled = keras.ops.convert_to_numpy(layer(gratings))[:, 4:-4, 0]
    strengths = np.abs(np.fft.rfft(pooled))
    return np.linalg.norm(strengths - strengths.mean(0)) / np.linalg.norm(strengths)


@pytest.mark.parametrize("period", [4, 8, 12, 16])
def test_blur_makes_the_response_to_a_shifted_grating_stable(period):
    by_max = change_by_shift(MaxPooling(2), period)
    assert by_max > 0.15
    assert change_by_shift(BlurPooling(2), period) < 0.01
    assert change_by_shift(MaxBlurPooling(2), period) < 0.45 * by_max
    wide = MaxBlurPooling(2, filter_size=5)
    assert change_by_shift(wide, period) < 0.25 * by_max


def test_unknown_sizes_compute_what_known_sizes_do():
    image = keras.Input((None, None, 2))
    pooled = BlurPooling(2)(image)
    restored = BlurUnpooling(2)(pooled, like=image)
    assert restored.shape == (None, None, None, 2)
    outputs = [pooled, restored, MaxBlurPooling(2, filter_size=4, border="edge")(image)]
    model = keras.Model(image, outputs)
    for grid in ((1, 1), (7, 10), (2, 13)):
        blur = Blur(Case(grid, (2, 2), (2, 2)))
        wide = Blur(blur.case, 4, "edge")
        x = blur.case.numbers()
        pooled, restored, maxima = model.predict(x, verbose=0)
        np.testing.assert_allclose(pooled, blur.pool(x), atol=1e-6)
        np.testing.assert_allclose(restored, blur.unpool(pooled, x), atol=1e-6)
        expected = wide.pool(x, MaxBlurPooling)
        np.testing.assert_allclose(maxima, expected, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("layer", LAYERS)
def test_large_values_do_not_overflow_half_precision(layer, dtype):
    x = np.full((1, 7, 10, 2), 6e4)
    y = layer(3, 2, filter_size=7, dtype=dtype)(x)
    assert keras.backend.standardize_dtype(y.dtype) == dtype
    y = keras.ops.convert_to_numpy(keras.ops.cast(y, "float32"))
    np.testing.assert_allclose(y, 6e4, rtol=2e-2)


@pytest.mark.parametrize("layer", LAYERS)
def test_integer_maps_give_the_compute_dtype(layer):
    y = layer(2)(np.arange(10, dtype="int32").reshape(1, 5, 2))
    assert keras.backend.standardize_dtype(y.dtype) == "float32"
    expected = layer(2)(np.arange(10, dtype="float32").reshape(1, 5, 2))
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("value", [0, -1, 8, True, 3.0, "3", None, (3, 3)])
def test_refuses_a_filter_size_that_is_none(layer, value):
    with pytest.raises(ValueError, match="`filter_size` must be an int from 1 to 7"):
        layer(2, filter_size=value)


@pytest.mark.parametrize("layer", POOLINGS)
@pytest.mark.parametrize("value", ["mirror", "reflct", None, 0])
def test_refuses_a_border_that_is_none(layer, value):
    with pytest.raises(ValueError, match="`border` must be one of"):
        layer(2, border=value)


@pytest.mark.parametrize("layer", POOLINGS)
@pytest.mark.parametrize(("filter_size", "size"), [(4, 1), (5, 1), (6, 2), (7, 2)])
def test_refuses_a_reflected_border_wider_than_the_grid(layer, filter_size, size):
    pooling = layer(2, filter_size=filter_size)
    rule = 'must not be wider than the grid: use border="edge"'
    with pytest.raises(ValueError, match=rule):
        pooling(np.zeros((1, 9, size, 1)))
    with pytest.raises(ValueError, match=rule):
        layer(2, filter_size=filter_size)(keras.Input((None, size, 1)))
    assert pooling.compute_output_shape((1, 9, size + 1, 1))
    for border in ("edge", "zero"):
        other = layer(2, filter_size=filter_size, border=border)
        assert other(np.zeros((1, 9, size, 1))).shape == (1, 5, 1, 1)


@pytest.mark.parametrize("layer", POOLINGS)
def test_refuses_a_valid_filter_larger_than_the_grid(layer):
    pooling = layer(2, padding="valid", filter_size=5)
    for size in (1, 4):
        rule = "`filter_size` must not be larger than the grid"
        with pytest.raises(ValueError, match=rule):
            pooling(np.zeros((1, size, 9, 1)))
    assert layer(5, padding="valid")(np.zeros((1, 4, 1))).shape == (1, 1, 1)


def test_unpooling_refuses_a_like_that_pools_to_another_grid():
    with pytest.raises(ValueError, match="`like` must have a grid that pools to"):
        BlurUnpooling(2)(np.zeros((1, 4, 3, 2)), like=(9, 6))


@pytest.mark.parametrize("layer", LAYERS)
def test_refuses_more_entries_than_spatial_axes(layer):
    with pytest.raises(ValueError, match="`pool_size` must have one entry for each"):
        layer((2, 2), 2)(np.zeros((1, 4, 1)))


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_config_rebuilds_the_layer(layer, data_format):
    settings = {"filter_size": 4, "padding": "valid", "data_format": data_format}
    if layer is not BlurUnpooling:
        settings["border"] = "zero"
    x = in_format(Case((9, 8), (1, 1), (1, 1)).numbers(), data_format)
    first = layer((2, 3), (3, 2), **settings)
    second = layer.from_config(first.get_config())
    assert settings.items() <= second.get_config().items()
    np.testing.assert_array_equal(first(x), second(x))
