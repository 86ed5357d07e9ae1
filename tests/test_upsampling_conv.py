import dataclasses

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops
from oracles import DATA_FORMATS, in_format, many

from keras_cae.layers import Upsampling, UpsamplingConv
from keras_cae.testing import backends

INTERPOLATIONS = ("linear", "nearest")
JIT = keras.backend.backend() != "torch"


@dataclasses.dataclass(frozen=True)
class Growing:
    """A grid, a factor and a kernel for each axis, and cells to cut off or to add."""

    grid: tuple[int, ...]
    factors: tuple[int, ...]
    kernel_size: tuple[int, ...]
    cut: tuple[int, ...] | None = None
    interpolation: str = "nearest"
    data_format: str = "channels_last"
    channels: int = 3
    filters: int = 2

    @property
    def like(self):
        if self.cut is None:
            return None
        sizes = zip(self.grid, self.factors, self.cut, strict=True)
        return tuple(n * f - c for n, f, c in sizes)

    def numbers(self, seed=0):
        shape = (2, *self.grid, self.channels)
        return np.random.default_rng(seed).normal(size=shape).astype("float32")

    def plain(self):
        """Keras' convolution with random weights; everything here is channels last."""
        conv = getattr(keras.layers, f"Conv{len(self.grid)}D")
        conv = conv(
            self.filters,
            self.kernel_size,
            padding="same",
            data_format="channels_last",
            bias_initializer="normal",
        )
        conv.build((None, *self.grid, self.channels))
        return conv

    def call_plain(self, conv, tensors):
        enlarge = Upsampling(self.factors, self.interpolation, "channels_last")
        return conv(enlarge(tensors["x"], like=self.like))

    def ours(self, conv):
        """Our layer with its weights."""
        layer = UpsamplingConv(
            self.filters,
            self.kernel_size,
            self.factors,
            self.interpolation,
            self.data_format,
        )
        layer.build(in_format(self.numbers(), self.data_format).shape)
        layer.set_weights(conv.get_weights())
        return layer

    def call_ours(self, layer, tensors):
        x = tensors["x"]
        if self.data_format == "channels_first":
            x = ops.moveaxis(x, -1, 1)
        y = layer(x, like=self.like)
        return ops.moveaxis(y, 1, -1) if self.data_format == "channels_first" else y

    def check(self):
        """Outputs and gradients equal those of the two layers one after the other."""
        conv, x = self.plain(), {"x": self.numbers()}
        layer = self.ours(conv)
        y, slopes = backends.differentiated(layer, self.call_ours)(x)
        plain_y, plain_slopes = backends.differentiated(conv, self.call_plain)(x)
        assert_close(y, plain_y)
        for slope, plain in zip(slopes.values(), plain_slopes.values(), strict=True):
            assert_close(slope, plain)


def assert_close(y, expected):
    """Equal to 1e-5, on the scale of the largest value."""
    y, expected = ops.convert_to_numpy(y), ops.convert_to_numpy(expected)
    scale = np.abs(expected).max() + 1e-6
    np.testing.assert_allclose(y / scale, expected / scale, atol=1e-5)


@st.composite
def growings(draw):
    """One axis with up to 33 cells, kernels up to 7, factors up to 4.

    Half the cases are cut, or made a little larger than the enlarged grid.
    """
    rank = draw(st.integers(1, 2))
    long = draw(st.integers(0, rank - 1))
    grid = [draw(st.integers(1, 33 if a == long else 4)) for a in range(rank)]
    factors = [draw(st.integers(1, 4)) for _ in range(rank)]
    cut = None
    if draw(st.booleans()):
        cut = tuple(draw(st.integers(-2, f - 1)) for f in factors)
    return Growing(
        tuple(grid),
        tuple(factors),
        tuple(draw(st.sampled_from((1, 3, 5, 7, 2, 4, 6, 3, 5))) for _ in range(rank)),
        cut,
        draw(st.sampled_from(("linear", "nearest", "nearest"))),
        draw(st.sampled_from(DATA_FORMATS)),
        draw(st.integers(1, 4)),
        draw(st.integers(1, 4)),
    )


@many(150)
@given(growings())
def test_equals_upsampling_and_convolution_in_outputs_and_gradients(case):
    case.check()


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("cut", [None, (1, 0), (0, 2), (1, 2), (-1, 0)])
@pytest.mark.parametrize("kernel_size", [(1, 1), (3, 5), (2, 3)])
def test_every_form_restores_the_grid_of_like(kernel_size, cut, interpolation):
    Growing((3, 4), (2, 3), kernel_size, cut, interpolation).check()


@pytest.mark.parametrize("data_format", DATA_FORMATS)
@pytest.mark.parametrize("cut", [None, (1, 0, 0), (0, 2, 0), (0, 0, 3)])
def test_volumes_obey_the_same_rules(cut, data_format):
    Growing((3, 4, 2), (2, 3, 4), (3, 5, 1), cut, data_format=data_format).check()


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("grid", [(9,), (7, 10), (3, 4, 2)])
def test_equals_the_layers_of_keras(grid, interpolation):
    rank = len(grid)
    if interpolation == "linear" and rank != 2:
        return  # Keras has it for images only.
    case = Growing(grid, (2,) * rank, (3,) * rank, interpolation=interpolation)
    conv, x = case.plain(), case.numbers()
    enlarge = getattr(keras.layers, f"UpSampling{rank}D")
    settings = {"interpolation": "bilinear"} if interpolation == "linear" else {}
    expected = conv(enlarge(2, **settings)(x))
    assert_close(case.ours(conv)(x), expected)


def shapes_enlarged(monkeypatch, layer, *args, **kwargs):
    """The shapes that a call of the layer enlarges before or behind its kernel."""
    shapes, call = [], Upsampling.call

    def spy(self, x, like=None):
        shapes.append(tuple(x.shape))
        return call(self, x, like)

    monkeypatch.setattr(Upsampling, "call", spy)
    layer(*args, **kwargs)
    return shapes


@pytest.mark.parametrize("like", [None, (8, 14), (8, 13), np.zeros((1, 8, 14, 1))])
@pytest.mark.parametrize("kernel_size", [3, (5, 1), 7])
def test_nearest_and_an_odd_kernel_make_no_larger_map(monkeypatch, kernel_size, like):
    layer = UpsamplingConv(4, kernel_size)
    x = np.ones((1, 4, 7, 3))
    layer.build(x.shape)
    assert shapes_enlarged(monkeypatch, layer, x, like=like) == []


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize(("filters", "enlarged"), [(2, 2), (4, 3)])
def test_the_smaller_of_both_maps_is_enlarged_for_a_1x1_kernel(
    monkeypatch, filters, enlarged, interpolation
):
    layer = UpsamplingConv(filters, 1, interpolation=interpolation)
    x = np.ones((1, 4, 7, 3))
    layer.build(x.shape)
    assert shapes_enlarged(monkeypatch, layer, x, like=(7, 13)) == [(1, 4, 7, enlarged)]


def test_weights_are_those_of_a_convolution_of_keras():
    layer = UpsamplingConv(5, (3, 2))
    layer.build((None, None, None, 4))
    theirs = keras.layers.Conv2D(5, (3, 2))
    theirs.build((None, None, None, 4))
    shapes = [(w.name, tuple(w.shape)) for w in layer.weights]
    assert shapes == [(w.name, tuple(w.shape)) for w in theirs.weights]


def test_filters_default_to_the_channels_and_a_bias_can_be_left_out():
    layer = UpsamplingConv(None, use_bias=False)
    assert layer(np.ones((1, 3, 4, 7))).shape == (1, 6, 8, 7)
    assert [w.name for w in layer.weights] == ["kernel"]


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_unknown_sizes_compute_what_known_sizes_do(interpolation):
    maps, image = keras.Input((None, None, 3)), keras.Input((None, None, 1))
    layer = UpsamplingConv(2, 3, (2, 3), interpolation)
    free, bound = layer(maps), layer(maps, like=image)
    assert free.shape == bound.shape == (None, None, None, 2)
    model = keras.Model([maps, image], [free, bound])
    for grid, cut in (((1, 1), (1, 2)), ((4, 3), (0, 1)), ((2, 5), (0, 0))):
        case = Growing(grid, (2, 3), (3, 3), cut, interpolation)
        x, image = case.numbers(), np.zeros((2, *case.like, 1))
        free, bound = model.predict([x, image], verbose=0)
        assert_close(free, layer(x))
        assert_close(bound, layer(x, like=case.like))


@pytest.mark.skipif(not JIT, reason="this backend has no compiler of its own")
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_compiled_it_computes_and_learns_the_same(interpolation):
    case = Growing((4, 5), (2, 3), (3, 5), (0, 1), interpolation)
    conv, x = case.plain(), case.numbers()
    trained = []
    for jit_compile in (False, True):
        layer, maps = case.ours(conv), keras.Input((4, 5, 3))
        model = keras.Model(maps, [layer(maps), layer(maps, like=case.like)])
        model.compile("sgd", ["mse", "mse"], jit_compile=jit_compile)
        targets = [np.ones((2, 8, 15, 2)), np.ones((2, *case.like, 2))]
        trained.append([model.train_on_batch(x, targets), *layer.get_weights()])
    for compiled, plain in zip(trained[1], trained[0], strict=True):
        assert_close(compiled, plain)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("kernel_size", [1, 3])
def test_half_precision_is_near_full_precision_with_all_gradients(kernel_size, policy):
    x = np.random.default_rng(0).normal(size=(2, 32, 32, 4)).astype("float32")
    full, half = (
        UpsamplingConv(4, kernel_size),
        UpsamplingConv(4, kernel_size, dtype=policy),
    )
    full.build(x.shape)
    half.build(x.shape)
    half.set_weights(full.get_weights())
    results = []
    for layer in (full, half):
        y, slopes = backends.differentiated(layer, lambda of, t: of(t["x"]))({"x": x})
        results.append([y, *slopes.values()])
    dtype = keras.backend.standardize_dtype(results[1][0].dtype)
    assert dtype == policy.removeprefix("mixed_")
    for near, exact in zip(results[1], results[0], strict=True):
        near, exact = (
            ops.convert_to_numpy(ops.cast(v, "float32")) for v in (near, exact)
        )
        np.testing.assert_allclose(near, exact, atol=0.02 * np.abs(exact).max())


@pytest.mark.parametrize("kernel_size", [1, 2, 3])
def test_integer_maps_give_the_compute_dtype(kernel_size):
    y = UpsamplingConv(2, kernel_size)(np.ones((1, 4, 5, 3), "int32"))
    assert keras.backend.standardize_dtype(y.dtype) == "float32"


def test_reloaded_it_computes_the_same(tmp_path):
    x = np.random.default_rng(0).normal(size=(2, 4, 5, 3)).astype("float32")
    initializer = keras.initializers.RandomNormal(seed=1)
    settings = {"kernel_initializer": initializer, "use_bias": False}
    maps = keras.Input((4, 5, 3))
    model = keras.Model(
        maps,
        UpsamplingConv(2, (3, 5), (2, 3), "linear", **settings)(maps, like=(7, 15)),
    )
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.layers[1].get_config() == model.layers[1].get_config()
    np.testing.assert_array_equal(
        again.predict(x, verbose=0), model.predict(x, verbose=0)
    )


@pytest.mark.parametrize(
    ("argument", "value", "rule"),
    [
        ("filters", 0, "`filters` must be a positive int"),
        ("filters", True, "Received: filters=True"),
        ("filters", 2.0, r"Received: filters=2\.0"),
        ("kernel_size", 0, "`kernel_size` must be a positive int"),
        ("kernel_size", (3, 3, 3, 3), "one for each spatial axis"),
        ("kernel_size", 1.5, r"Received: kernel_size=1\.5"),
        ("size", 0, "`size` must be a positive int"),
        ("size", True, "Received: size=True"),
        ("interpolation", "bilinear", "`interpolation` must be one of"),
        ("data_format", "NHWC", "`data_format` must be one of"),
        ("use_bias", 1, "`use_bias` must be a bool"),
        ("kernel_initializer", "glorot", "Could not interpret initializer"),
    ],
)
def test_refuses_an_argument_that_breaks_its_rule(argument, value, rule):
    with pytest.raises(ValueError, match=rule):
        UpsamplingConv(**({"filters": 2} | {argument: value}))


@pytest.mark.parametrize(
    ("settings", "shape", "rule"),
    [
        ({"kernel_size": (3, 3)}, (None, 7, 3), "`kernel_size` must have one entry"),
        ({"size": (2, 2)}, (None, 7, 3), "`size` must have one entry"),
        ({}, (None, 3), "must have 3, 4 or 5 axes"),
        ({}, (None, 7, 7, None), "must have a known number of channels"),
    ],
)
def test_refuses_an_input_that_does_not_fit(settings, shape, rule):
    with pytest.raises(ValueError, match=rule):
        UpsamplingConv(2, **settings).build(shape)


@pytest.mark.parametrize("like", [(6, 6), (7, 4), np.zeros((1, 6, 5, 2))])
@pytest.mark.parametrize("kernel_size", [1, 2, 3])
def test_refuses_a_like_that_cuts_off_whole_cells(kernel_size, like):
    layer = UpsamplingConv(2, kernel_size)
    with pytest.raises(ValueError, match="`like` must not cut off whole cells"):
        layer(np.zeros((1, 4, 3, 2)), like=like)


def test_refuses_other_channels_than_it_was_built_for():
    layer = UpsamplingConv(2)
    layer.build((None, 4, 4, 3))
    with pytest.raises(ValueError, match="of input shape to have value 3"):
        layer(np.zeros((1, 4, 4, 2)))
