import dataclasses

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import DATA_FORMATS, Case, many, resize

from keras_cae.layers import MaxPooling, Upsampling

INTERPOLATIONS = ("linear", "nearest")


@dataclasses.dataclass(frozen=True)
class Resizing:
    """A grid, a factor for each axis, and how many cells to cut off behind."""

    grid: tuple[int, ...]
    factors: tuple[int, ...]
    cut: tuple[int, ...]
    interpolation: str
    data_format: str

    @property
    def like(self):
        sizes = zip(self.grid, self.factors, self.cut, strict=True)
        return tuple(n * f - c for n, f, c in sizes)

    def run(self, x, like=None):
        layer = Upsampling(
            self.factors,
            interpolation=self.interpolation,
            data_format=self.data_format,
        )
        case = Case(self.grid, self.factors, self.factors, "same", self.data_format)
        return case.run(layer, x, like=like)

    def numbers(self, channels=2):
        return Case(self.grid, self.factors, self.factors).numbers(channels=channels)


@st.composite
def resizings(draw):
    rank = draw(st.integers(1, 3))
    long = draw(st.integers(0, rank - 1))
    grid = tuple(draw(st.integers(1, 33 if a == long else 3)) for a in range(rank))
    factors = tuple(draw(st.integers(1, 5 if a == long else 3)) for a in range(rank))
    cut = tuple(draw(st.integers(0, factor - 1)) for factor in factors)
    interpolation = draw(st.sampled_from(INTERPOLATIONS))
    data_format = draw(st.sampled_from(DATA_FORMATS))
    return Resizing(grid, factors, cut, interpolation, data_format)


@many(150)
@given(resizings())
def test_every_cell_is_interpolated_between_pixel_centres(case):
    x = case.numbers()
    expected = resize(x, case.factors, case.interpolation)
    np.testing.assert_allclose(case.run(x), expected, atol=1e-5)


@many(150)
@given(resizings())
def test_like_cuts_off_evenly_and_at_the_end_first(case):
    x = case.numbers()
    y = resize(x, case.factors, case.interpolation)
    for axis, (cut, size) in enumerate(zip(case.cut, case.like, strict=True), 1):
        y = np.take(y, np.arange(size) + cut // 2, axis)
    np.testing.assert_allclose(case.run(x, like=case.like), y, atol=1e-5)
    np.testing.assert_allclose(case.run(x, like=np.zeros(y.shape)), y, atol=1e-5)


@many(30)
@given(resizings())
def test_channels_are_independent(case):
    x = case.numbers(channels=3)
    y = case.run(x, like=case.like)
    x[..., 1] = np.nan
    others = [0, 2]
    again = case.run(x, like=case.like)
    np.testing.assert_array_equal(y[..., others], again[..., others])


@many(100)
@given(st.integers(1, 65), st.integers(1, 5), st.sampled_from(("same", "valid")))
def test_nearest_puts_each_maximum_on_its_own_window(size, factor, padding):
    size = max(size, factor)
    x = np.arange(1.0, size + 1).reshape(1, size, 1)
    pooled = MaxPooling(factor, padding=padding)(x)
    y = keras.ops.convert_to_numpy(Upsampling(factor)(pooled, like=x)).ravel()
    case = Case((size,), (factor,), (factor,), padding)
    for _, _, (cells,) in case.windows():
        np.testing.assert_array_equal(y[cells], cells.stop)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_what_is_missing_behind_valid_windows_repeats_the_border(interpolation):
    x = np.float32([2, 4, 6]).reshape(1, 3, 1)
    layer = Upsampling(2, interpolation=interpolation)
    whole = keras.ops.convert_to_numpy(layer(x)).ravel()
    y = keras.ops.convert_to_numpy(layer(x, like=(7,))).ravel()
    assert y.tolist() == [*whole, 6]


@pytest.mark.parametrize("data_format", DATA_FORMATS)
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("size", [1, (2, 3), 4])
def test_equals_upsampling_of_keras(size, interpolation, data_format):
    case = Case((5, 4), (1, 1), (1, 1), "same", data_format)
    theirs = {"linear": "bilinear", "nearest": "nearest"}[interpolation]
    x = case.numbers()
    ours = Upsampling(size, interpolation=interpolation, data_format=data_format)
    theirs = keras.layers.UpSampling2D(
        size, interpolation=theirs, data_format=data_format
    )
    np.testing.assert_allclose(case.run(ours, x), case.run(theirs, x), atol=1e-5)


@pytest.mark.parametrize("rank", [1, 3])
def test_equals_upsampling_of_keras_for_sequences_and_volumes(rank):
    case = Case((4, 3, 2)[:rank], (1,) * rank, (1,) * rank)
    x = case.numbers()
    theirs = getattr(keras.layers, f"UpSampling{rank}D")(3)
    np.testing.assert_array_equal(case.run(Upsampling(3), x), case.run(theirs, x))


def test_a_constant_map_stays_constant():
    for interpolation in INTERPOLATIONS:
        y = Upsampling(3, interpolation)(np.full((1, 4, 1, 2), 7.0), like=(11, 2))
        np.testing.assert_allclose(keras.ops.convert_to_numpy(y), 7, rtol=1e-6)


@pytest.mark.parametrize(
    ("argument", "value", "rule"),
    [
        ("size", 0, "`size` must be a positive int"),
        ("size", True, "Received: size=True"),
        ("size", 1.5, r"Received: size=1\.5"),
        ("size", (2, 2, 2, 2), "one for each spatial axis"),
        ("interpolation", "bilinear", "`interpolation` must be one of.*Did you mean"),
        ("interpolation", None, "Received: interpolation=None"),
        ("data_format", "NHWC", "`data_format` must be one of"),
    ],
)
def test_refuses_an_argument_that_breaks_its_rule(argument, value, rule):
    with pytest.raises(ValueError, match=rule):
        Upsampling(**{argument: value})


def test_refuses_more_entries_than_spatial_axes():
    with pytest.raises(ValueError, match="`size` must have one entry for each"):
        Upsampling((2, 2)).build((None, 7, 3))


@pytest.mark.parametrize("like", [(6, 6), (7, 4), np.zeros((1, 6, 5, 2))])
def test_refuses_a_like_that_cuts_off_whole_cells(like):
    with pytest.raises(ValueError, match="must not cut off whole cells"):
        Upsampling(2)(np.zeros((1, 4, 3, 2)), like=like)


def test_integer_maps_give_the_compute_dtype():
    for interpolation in INTERPOLATIONS:
        y = Upsampling(2, interpolation)(np.int32([[[0], [4]]]))
        assert keras.backend.standardize_dtype(y.dtype) == "float32"


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_unknown_sizes_compute_what_known_sizes_do(interpolation):
    maps, image = keras.Input((None, None, 2)), keras.Input((None, None, 1))
    y = Upsampling(3, interpolation)(maps, like=image)
    assert y.shape == (None, None, None, 2)
    model = keras.Model([maps, image], y)
    for grid, like in (((1, 1), (1, 2)), ((3, 4), (7, 12)), ((2, 5), (6, 14))):
        case = Resizing(grid, (3, 3), (0, 0), interpolation, "channels_last")
        x, image = case.numbers(), np.zeros((2, *like, 1))
        expected = case.run(x, like=like)
        np.testing.assert_allclose(
            model.predict([x, image], verbose=0), expected, atol=1e-6
        )
