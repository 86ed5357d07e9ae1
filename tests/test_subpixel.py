import math

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops
from oracles import DATA_FORMATS, Case, in_format, many, resize

from keras_cae.layers import SubpixelConv, Upsampling
from keras_cae.testing import backends

JIT = keras.backend.backend() != "torch"


def keras_conv(rank, filters, kernel_size, weights):
    """Keras' convolution on channels-last arrays with these weights."""
    conv = getattr(keras.layers, f"Conv{rank}D")(
        filters, kernel_size, padding="same", data_format="channels_last"
    )
    conv.build((*(None for _ in range(rank + 1)), weights[0].shape[-2]))
    conv.set_weights(weights)
    return conv


def depth_to_space(maps, factors):
    """The channels of a cell as a window, in reading order, filters last."""
    grid, phases = maps.shape[1:-1], math.prod(factors)
    filters = maps.shape[-1] // phases
    sizes = (n * f for n, f in zip(grid, factors, strict=True))
    y = np.empty((len(maps), *sizes, filters), maps.dtype)
    for phase, place in enumerate(np.ndindex(*factors)):
        index = tuple(slice(p, None, f) for p, f in zip(place, factors, strict=True))
        y[(slice(None), *index)] = maps[..., phase * filters : (phase + 1) * filters]
    return y


def cut_to(y, grid):
    """Cut evenly and at the end first, as "same" pooling pads."""
    for axis, size in enumerate(grid, 1):
        y = np.take(y, np.arange(size) + (y.shape[axis] - size) // 2, axis)
    return y


@st.composite
def layers(draw):
    """A case with numbers, a layer built for it with its first weights, and a grid."""
    rank = draw(st.integers(1, 2))
    long = draw(st.integers(0, rank - 1))
    grid = tuple(draw(st.integers(1, 33 if a == long else 4)) for a in range(rank))
    factors = tuple(draw(st.integers(1, 4)) for _ in range(rank))
    case = Case(grid, factors, factors, "same", draw(st.sampled_from(DATA_FORMATS)))
    layer = SubpixelConv(
        draw(st.integers(1, 4)),
        tuple(draw(st.integers(1, 7)) for _ in range(rank)),
        factors,
        case.data_format,
        kernel_initializer=keras.initializers.RandomNormal(seed=1),
    )
    layer.build(in_format(case.numbers(channels=3), case.data_format).shape)
    sizes = zip(grid, factors, strict=True)
    return case, layer, tuple(n * f - draw(st.integers(0, f - 1)) for n, f in sizes)


@many(80)
@given(layers())
def test_is_a_convolution_of_keras_with_its_channels_made_cells(drawn):
    case, layer, like = drawn
    x, random = case.numbers(channels=3), np.random.default_rng(0)
    layer.set_weights([random.normal(size=w.shape) for w in layer.get_weights()])
    kernel, bias = layer.get_weights()
    conv = keras_conv(len(case.grid), len(bias), layer.kernel_size, [kernel, bias])
    y = depth_to_space(ops.convert_to_numpy(conv(x)), layer.size)
    np.testing.assert_allclose(case.run(layer, x), y, atol=1e-4)
    y = cut_to(y, like)
    np.testing.assert_allclose(case.run(layer, x, like=like), y, atol=1e-4)
    tensor = np.zeros((1, *like, 5))
    np.testing.assert_allclose(case.run(layer, x, like=tensor), y, atol=1e-4)


@many(80)
@given(layers())
def test_at_the_start_it_is_a_convolution_and_nearest_up_sampling(drawn):
    case, layer, like = drawn
    x = case.numbers(channels=3)
    kernel, bias = layer.get_weights()
    first = [kernel[..., : layer.filters], bias[: layer.filters]]
    conv = keras_conv(len(case.grid), layer.filters, layer.kernel_size, first)
    assert np.ptp(first[0]) > 0
    y = resize(ops.convert_to_numpy(conv(x)), layer.size, "nearest")
    np.testing.assert_allclose(case.run(layer, x), y, atol=1e-5)
    np.testing.assert_allclose(
        case.run(layer, x, like=like), cut_to(y, like), atol=1e-5
    )


@pytest.mark.parametrize("data_format", DATA_FORMATS)
def test_volumes_obey_the_same_rules(data_format):
    case = Case((3, 4, 2), (2, 1, 3), (2, 1, 3), "same", data_format)
    layer = SubpixelConv(2, (3, 2, 1), (2, 1, 3), data_format)
    x = case.numbers(channels=3)
    layer.build(in_format(x, data_format).shape)
    random = np.random.default_rng(0)
    layer.set_weights([random.normal(size=w.shape) for w in layer.get_weights()])
    conv = keras_conv(3, 12, (3, 2, 1), layer.get_weights())
    y = depth_to_space(ops.convert_to_numpy(conv(x)), (2, 1, 3))
    np.testing.assert_allclose(case.run(layer, x), y, atol=1e-4)
    np.testing.assert_allclose(
        case.run(layer, x, like=(5, 4, 4)), cut_to(y, (5, 4, 4)), atol=1e-4
    )


def test_the_start_is_drawn_for_one_cell_and_shared():
    initializer = keras.initializers.GlorotUniform(seed=3)
    layer = SubpixelConv(4, 3, (2, 3), kernel_initializer=initializer)
    layer.build((None, None, None, 5))
    one = ops.convert_to_numpy(keras.initializers.GlorotUniform(seed=3)((3, 3, 5, 4)))
    kernel, bias = layer.get_weights()
    np.testing.assert_array_equal(kernel, np.tile(one, 6))
    np.testing.assert_array_equal(bias, np.zeros(24))


def test_after_the_start_each_cell_has_weights_of_its_own():
    layer = SubpixelConv(2, 3, (2, 3))
    x = np.random.default_rng(0).normal(size=(1, 4, 5, 3)).astype("float32")
    before = ops.convert_to_numpy(layer(x))
    kernel, bias = layer.get_weights()
    kernel[..., 2 * 4 + 1] += 1  # the fifth of six cells, the second filter
    layer.set_weights([kernel, bias])
    changed = ops.convert_to_numpy(layer(x)) != before
    assert changed[:, 1::2, 1::3, 1].all()
    changed[:, 1::2, 1::3, 1] = False
    assert not changed.any()


def test_filters_default_to_the_channels_and_a_bias_can_be_left_out():
    layer = SubpixelConv(size=(2, 3), use_bias=False)
    assert layer(np.ones((1, 3, 4, 7))).shape == (1, 6, 12, 7)
    assert [tuple(w.shape) for w in layer.weights] == [(3, 3, 7, 42)]


def test_what_is_missing_behind_valid_windows_is_as_in_up_sampling():
    layer = SubpixelConv(1, use_bias=False)
    x = np.random.default_rng(0).normal(size=(1, 3, 2)).astype("float32")
    y = layer(x, like=(8,))
    kernel = layer.get_weights()[0][..., :1]
    expected = Upsampling(2)(ops.conv(x, kernel, padding="same"), like=(8,))
    np.testing.assert_allclose(
        ops.convert_to_numpy(y), ops.convert_to_numpy(expected), atol=1e-6
    )


def test_gradients_are_those_of_the_convolution_behind_the_shuffle():
    x = np.random.default_rng(0).normal(size=(2, 4, 5, 3)).astype("float32")
    layer = SubpixelConv(2, 3, (2, 3))
    layer.build(x.shape)
    conv = keras_conv(2, 12, 3, layer.get_weights())

    def shuffled(conv, tensors):
        y = ops.reshape(conv(tensors["x"]), (2, 4, 5, 2, 3, 2))
        return ops.reshape(ops.transpose(y, (0, 1, 3, 2, 4, 5)), (2, 8, 15, 2))

    _, ours = backends.differentiated(layer, lambda of, t: of(t["x"]))({"x": x})
    _, theirs = backends.differentiated(conv, shuffled)({"x": x})
    for slope, expected in zip(ours.values(), theirs.values(), strict=True):
        np.testing.assert_allclose(
            ops.convert_to_numpy(slope), ops.convert_to_numpy(expected), atol=1e-4
        )


def test_unknown_sizes_compute_what_known_sizes_do():
    maps, image = keras.Input((None, None, 3)), keras.Input((None, None, 1))
    layer = SubpixelConv(2, size=(2, 3))
    free, bound = layer(maps), layer(maps, like=image)
    assert free.shape == bound.shape == (None, None, None, 2)
    model = keras.Model([maps, image], [free, bound])
    for grid, like in (((1, 1), (1, 2)), ((3, 4), (5, 12)), ((2, 5), (4, 14))):
        x = np.random.default_rng(0).normal(size=(2, *grid, 3)).astype("float32")
        free, bound = model.predict([x, np.zeros((2, *like, 1))], verbose=0)
        np.testing.assert_allclose(free, ops.convert_to_numpy(layer(x)), atol=1e-5)
        np.testing.assert_allclose(
            bound, ops.convert_to_numpy(layer(x, like=like)), atol=1e-5
        )


@pytest.mark.skipif(not JIT, reason="this backend has no compiler of its own")
def test_compiled_it_computes_the_same():
    layer = SubpixelConv(2, size=(2, 3))
    x = ops.convert_to_tensor(np.random.default_rng(0).normal(size=(2, 4, 5, 3)))
    expected = layer(x, like=(7, 14))
    y = backends.compiled(lambda x: layer(x, like=(7, 14)))(x)
    np.testing.assert_allclose(
        ops.convert_to_numpy(y), ops.convert_to_numpy(expected), atol=1e-5
    )


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_gives_what_full_precision_gives(policy):
    x = np.random.default_rng(0).normal(size=(2, 4, 5, 8))
    full, half = SubpixelConv(4), SubpixelConv(4, dtype=policy)
    expected, _ = full(x), half.build(x.shape)
    half.set_weights(full.get_weights())
    y = half(x)
    assert keras.backend.standardize_dtype(y.dtype) == policy.removeprefix("mixed_")
    y = ops.convert_to_numpy(ops.cast(y, "float32"))
    np.testing.assert_allclose(y, ops.convert_to_numpy(expected), atol=0.05)


def test_integer_maps_give_the_compute_dtype():
    y = SubpixelConv(dtype="float16")(np.ones((1, 4, 5, 3), "int32"))
    assert keras.backend.standardize_dtype(y.dtype) == "float16"


def test_reloaded_it_computes_the_same(tmp_path):
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype("float32")
    initializer = keras.initializers.RandomNormal(seed=1)
    maps = keras.Input((3, 4, 5))
    layer = SubpixelConv(
        2, 5, (2, 3), "channels_first", False, kernel_initializer=initializer
    )
    model = keras.Model(maps, layer(maps, like=(8, 14)))
    layer.set_weights([np.random.default_rng(1).normal(size=(5, 5, 3, 12))])
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.layers[1].get_config() == layer.get_config()
    np.testing.assert_array_equal(
        ops.convert_to_numpy(again(x)), ops.convert_to_numpy(model(x))
    )


@pytest.mark.parametrize(
    ("argument", "value", "rule"),
    [
        ("filters", 0, "`filters` must be a positive int"),
        ("filters", True, "Received: filters=True"),
        ("kernel_size", 0, "`kernel_size` must be a positive int"),
        ("kernel_size", 1.5, r"Received: kernel_size=1\.5"),
        ("size", 0, "`size` must be a positive int"),
        ("size", True, "Received: size=True"),
        ("data_format", "NHWC", "`data_format` must be one of"),
        ("use_bias", 1, "`use_bias` must be a bool"),
        ("kernel_initializer", "glorot", "Could not interpret initializer"),
    ],
)
def test_refuses_an_argument_that_breaks_its_rule(argument, value, rule):
    with pytest.raises(ValueError, match=rule):
        SubpixelConv(**{argument: value})


def test_takes_no_interpolation():
    with pytest.raises(TypeError, match="interpolation"):
        SubpixelConv(interpolation="linear")


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
        SubpixelConv(**settings).build(shape)


@pytest.mark.parametrize("like", [(6, 6), (7, 4), np.zeros((1, 6, 5, 2))])
def test_refuses_a_like_that_cuts_off_whole_cells(like):
    with pytest.raises(ValueError, match="`like` must not cut off whole cells"):
        SubpixelConv(2)(np.zeros((1, 4, 3, 2)), like=like)
