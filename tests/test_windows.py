import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import Case, cases, from_format, in_format, many

from keras_cae.layers import (
    AveragePooling,
    AverageUnpooling,
    MaxPooling,
    MaxUnpooling,
    StridedConv,
    TransposedConv,
    Upsampling,
    _windows,
)

WINDOW_LAYERS = (
    AveragePooling,
    AverageUnpooling,
    MaxPooling,
    MaxUnpooling,
    StridedConv,
    TransposedConv,
)
POOLINGS = (AveragePooling, MaxPooling, StridedConv)
UNPOOLINGS = (AverageUnpooling, TransposedConv)


def windows_of(case):
    return _windows.Windows(
        case.pool_size, case.strides, case.padding, (1, 2, 3)[: len(case.grid)]
    )


@many(300)
@given(cases())
def test_windows_stand_where_tensorflow_puts_them(case):
    windows = windows_of(case)
    assert windows.pooled_grid(case.grid) == case.pooled_grid
    before, after = windows.borders(case.grid, case.pooled_grid)
    _, first, _ = next(case.windows())
    assert [-start for start in first] == before
    *_, (_, last, _) = case.windows()
    sizes = zip(last, case.pool_size, case.grid, strict=True)
    assert [max(start + k - n, 0) for start, k, n in sizes] == after


@many(300)
@given(cases())
def test_natural_grid_pools_back_to_the_same_grid(case):
    windows = windows_of(case)
    assert windows.natural_grid(case.pooled_grid) == case.natural_grid
    assert windows.pooled_grid(case.natural_grid) == case.pooled_grid


@given(
    st.integers(1, 9),
    st.integers(1, 30),
    st.booleans(),
    st.sampled_from(("channels_last", "channels_first")),
)
@many(100)
def test_fit_cuts_evenly_and_at_the_end_first(size, asked, known, data_format):
    x = np.arange(size * 6.0).reshape(1, size, 3, 2)
    axes = _windows.spatial_axes(2, data_format)
    grid = (asked, 3) if known else (keras.ops.convert_to_tensor(asked), 3)
    y = _windows.fit(keras.ops.convert_to_tensor(in_format(x, data_format)), axes, grid)
    y = from_format(y, data_format)
    assert y.shape == (1, asked, 3, 2)
    if asked <= size:
        start = (size - asked) // 2
        np.testing.assert_array_equal(y, x[:, start : start + asked])
    else:
        assert set(np.unique(y)) == set(np.unique(x))


@pytest.mark.parametrize("layer", WINDOW_LAYERS)
@pytest.mark.parametrize(
    ("argument", "value", "rule"),
    [
        ("pool_size", 0, "`pool_size` must be a positive int"),
        ("pool_size", -2, "Received: pool_size=-2"),
        ("pool_size", True, "Received: pool_size=True"),
        ("pool_size", 2.0, r"Received: pool_size=2\.0"),
        ("pool_size", "2", "Received: pool_size='2'"),
        ("pool_size", None, "Received: pool_size=None"),
        ("pool_size", (), r"Received: pool_size=\(\)"),
        ("pool_size", (2, 0), r"Received: pool_size=\(2, 0\)"),
        ("pool_size", (2, 2, 2, 2), "one for each spatial axis"),
        ("strides", 0, "`strides` must be a positive int"),
        ("strides", False, "Received: strides=False"),
        ("strides", (1, -1), "one for each spatial axis"),
        ("padding", "bogus", r"`padding` must be one of \['same', 'valid'\]"),
        ("padding", "vali", "Did you mean 'valid'"),
        ("padding", None, "Received: padding=None"),
        ("data_format", "NCHW", "`data_format` must be one of"),
    ],
)
def test_refuses_an_argument_that_breaks_its_rule(layer, argument, value, rule):
    with pytest.raises(ValueError, match=rule):
        layer(**{argument: value})


@pytest.mark.parametrize("layer", WINDOW_LAYERS)
@pytest.mark.parametrize("argument", ["pool_size", "strides"])
def test_refuses_more_entries_than_spatial_axes(layer, argument):
    with pytest.raises(ValueError, match=f"`{argument}` must have one entry for each"):
        layer(**{argument: (2, 2)}).build((None, 7, 3))


@pytest.mark.parametrize("layer", [*WINDOW_LAYERS, Upsampling])
@pytest.mark.parametrize("shape", [(None, 7), (None, 7, 7, 7, 7, 7)])
def test_refuses_an_input_of_another_rank(layer, shape):
    with pytest.raises(ValueError, match="must have 3, 4 or 5 axes"):
        layer().build(shape)


@pytest.mark.parametrize("layer", POOLINGS)
def test_refuses_a_valid_window_larger_than_the_grid(layer):
    rule = "`pool_size` must not be larger than the grid"
    with pytest.raises(ValueError, match=rule):
        layer(4, padding="valid")(keras.Input((7, 3, 2)))
    with pytest.raises(ValueError, match=rule):
        layer(4, padding="valid")(np.zeros((1, 7, 3, 2)))
    assert layer(4)(np.zeros((1, 7, 3, 2))).shape == (1, 2, 1, 2)


@pytest.mark.parametrize("layer", POOLINGS)
def test_built_layer_refuses_another_rank(layer):
    layer = layer(2)
    layer(np.zeros((1, 7, 3, 2)))
    with pytest.raises(ValueError, match="ndim"):
        layer(np.zeros((1, 7, 2)))


@pytest.mark.parametrize("layer", [*UNPOOLINGS, Upsampling])
@pytest.mark.parametrize(
    "like", [(7, 5), [7, 5], (None, 7, 5, 9), (4, 7, 5, None), np.zeros((1, 7, 5, 9))]
)
def test_like_is_a_tensor_or_a_shape_with_or_without_the_rest(layer, like):
    assert layer(2)(np.zeros((2, 4, 3, 2)), like=like).shape == (2, 7, 5, 2)
    x = keras.Input((4, 3, 2))
    assert layer(2)(x, like=like).shape == (None, 7, 5, 2)


@pytest.mark.parametrize("layer", [*UNPOOLINGS, Upsampling])
def test_like_is_the_shape_of_a_tensor(layer):
    image = keras.ops.zeros((1, 7, 5, 9))
    for shape in (image.shape, keras.ops.shape(image)):
        assert layer(2)(np.zeros((2, 4, 3, 2)), like=shape).shape == (2, 7, 5, 2)


@pytest.mark.parametrize("layer", [*UNPOOLINGS, Upsampling])
def test_like_follows_the_data_format(layer):
    x = np.zeros((2, 2, 4, 3))
    for like in ((7, 5), (None, 9, 7, 5), np.zeros((1, 9, 7, 5))):
        y = layer(2, data_format="channels_first")(x, like=like)
        assert y.shape == (2, 2, 7, 5)


@pytest.mark.parametrize("layer", [*UNPOOLINGS, Upsampling])
@pytest.mark.parametrize(
    ("like", "rule"),
    [
        ((7,), "`like` must be a tensor with 2 spatial axes or the shape of one"),
        ((7, 5, 3), "`like` must be a tensor with 2 spatial axes"),
        (np.zeros((7, 5)), "`like` must be a tensor with 2 spatial axes"),
        ((0, 5), "every size positive"),
        ((-7, 5), "every size positive"),
        ((7.0, 5), "`like` must be"),
        ((None, 5), "`like` as a shape must have known sizes"),
        (7, "`like` must be"),
        ("75", "`like` must be"),
    ],
    ids=repr,
)
def test_refuses_a_like_that_is_no_grid(layer, like, rule):
    with pytest.raises(ValueError, match=rule):
        layer(2)(np.zeros((2, 4, 3, 2)), like=like)


@pytest.mark.parametrize("layer", UNPOOLINGS)
def test_refuses_a_like_that_pools_to_another_grid(layer):
    for like in ((9, 6), (7, 3)):
        with pytest.raises(ValueError, match="`like` must have a grid that pools to"):
            layer(2)(np.zeros((2, 4, 3, 2)), like=like)
        with pytest.raises(ValueError, match="`like` must have a grid that pools to"):
            layer(2)(keras.Input((4, 3, 2)), like=like)


@pytest.mark.parametrize("pooling", [AveragePooling, MaxPooling])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_two_by_two_halves_the_grid_and_keeps_the_channels(pooling, data_format):
    shape = in_format(np.empty((1, 28, 28, 64)), data_format).shape
    pooled = in_format(np.empty((1, 14, 14, 64)), data_format).shape
    layer = pooling(2, data_format=data_format)
    assert layer(np.zeros(shape)).shape == pooled
    assert layer.compute_output_shape(shape) == pooled


@pytest.mark.parametrize("pooling", [AveragePooling, MaxPooling])
@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_half_precision_pools_every_rank(rank, dtype, pooling):
    grid = (5, 4, 3)[:rank]
    x = Case(grid, (2,) * rank, (2,) * rank).numbers()
    half = pooling(2, dtype=dtype)(x)
    assert keras.backend.standardize_dtype(half.dtype) == dtype.removeprefix("mixed_")
    half = keras.ops.convert_to_numpy(keras.ops.cast(half, "float32"))
    np.testing.assert_allclose(half, pooling(2)(x), atol=0.02)


def test_data_format_is_the_setting_of_keras():
    assert MaxPooling().data_format == keras.config.image_data_format()
    keras.config.set_image_data_format("channels_first")
    try:
        assert MaxPooling()(np.zeros((1, 2, 7, 5))).shape == (1, 2, 4, 3)
        assert Upsampling()(np.zeros((1, 2, 7, 5))).shape == (1, 2, 14, 10)
    finally:
        keras.config.set_image_data_format("channels_last")


def test_numpy_ints_are_ints():
    case = Case((7,), (3,), (2,))
    layer = MaxPooling(np.int64(3), [np.int32(2)])
    assert layer.get_config()["pool_size"] == 3
    assert layer.get_config()["strides"] == (2,)
    assert case.run(layer, case.numbers()).shape == (2, 4, 2)
