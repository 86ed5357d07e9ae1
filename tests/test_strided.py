import keras
import numpy as np
import pytest
from hypothesis import given
from oracles import Case, cases, conv, from_format, in_format, many, transposed_conv

from keras_cae.layers import StridedConv, TransposedConv

GRIDS = [(9,), (7, 10), (3, 7, 4)]
WINDOWS = [(2, 2), (3, 2), (2, 3), (5, 1)]


def with_weights(layer, case, x):
    """The layer built for `x`, with weights that no initializer gives."""
    layer.build(in_format(x, case.data_format).shape)
    rng = np.random.default_rng(case.seed)
    weights = [rng.integers(-3, 4, w.shape) for w in layer.get_weights()]
    layer.set_weights([np.asarray(w, "float32") for w in weights])
    return layer


def strided(case, x, **settings):
    return with_weights(StridedConv(**case.settings, **settings), case, x)


def transposed(case, x, **settings):
    return with_weights(TransposedConv(**case.settings, **settings), case, x)


# Keras compiles convolutions of channels-first volumes for every new shape.
@many(80)
@given(cases(ranks=(1, 2)))
def test_conv_is_the_kernel_at_every_window(case):
    x = case.numbers()
    layer = strided(case, x, filters=3)
    kernel, bias = layer.get_weights()
    expected = conv(case, x, kernel) + bias
    np.testing.assert_allclose(case.run(layer, x), expected, atol=1e-4)


@many(80)
@given(cases(ranks=(1, 2)))
def test_transposed_conv_adds_up_the_kernel_at_every_window(case):
    y = case.numbers(case.pooled_grid, channels=3)
    layer = transposed(case, y, filters=2)
    kernel, bias = layer.get_weights()
    expected = transposed_conv(case, y, kernel) + bias
    np.testing.assert_allclose(case.run(layer, y, like=case.grid), expected, atol=1e-4)


@many(80)
@given(cases(ranks=(1, 2)))
def test_transposed_conv_is_the_adjoint_of_conv(case):
    x, y = case.numbers(), case.numbers(case.pooled_grid, channels=3)
    there = strided(case, x, filters=3, use_bias=False)
    back = transposed(case, y, filters=2, use_bias=False)
    back.set_weights(there.get_weights())
    restored = case.run(back, y, like=x)
    assert restored.shape == x.shape
    np.testing.assert_allclose(
        np.vdot(case.run(there, x), y), np.vdot(x, restored), rtol=1e-4, atol=1e-2
    )


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_volumes_obey_the_same_rules(data_format, padding):
    case = Case((5, 7, 3), (3, 2, 3), (2, 3, 1), padding, data_format)
    x, y = case.numbers(), case.numbers(case.pooled_grid, channels=3)
    there = strided(case, x, filters=3, use_bias=False)
    back = transposed(case, y, filters=2, use_bias=False)
    back.set_weights(there.get_weights())
    (kernel,) = there.get_weights()
    np.testing.assert_allclose(case.run(there, x), conv(case, x, kernel), atol=1e-4)
    np.testing.assert_allclose(
        case.run(back, y, like=x), transposed_conv(case, y, kernel), atol=1e-4
    )


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("windows", WINDOWS)
@pytest.mark.parametrize("grid", GRIDS)
def test_conv_equals_that_of_keras(grid, windows, padding):
    rank = len(grid)
    case = Case(grid, (windows[0],) * rank, (windows[1],) * rank, padding)
    if padding == "valid" and min(grid) < windows[0]:
        case = case.on((5,) * rank)
    x = case.numbers()
    layer = strided(case, x, filters=4)
    theirs = getattr(keras.layers, f"Conv{rank}D")(4, *windows, padding=padding)
    theirs.build(x.shape)
    theirs.set_weights(layer.get_weights())
    np.testing.assert_allclose(case.run(layer, x), case.run(theirs, x), atol=1e-4)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("windows", WINDOWS)
@pytest.mark.parametrize("grid", GRIDS)
def test_transposed_conv_equals_that_of_keras(grid, windows, padding):
    rank = len(grid)
    if padding == "valid" and windows[0] < windows[1]:
        return  # Keras fills whole strides, ours whole windows.
    case = Case(grid, (windows[0],) * rank, (windows[1],) * rank, padding)
    x = case.numbers()
    layer = transposed(case, x, filters=4)
    theirs = getattr(keras.layers, f"Conv{rank}DTranspose")
    theirs = theirs(4, *windows, padding=padding)
    theirs.build(x.shape)
    theirs.set_weights(layer.get_weights())
    np.testing.assert_allclose(case.run(layer, x), case.run(theirs, x), atol=1e-4)


@many(50)
@given(cases(ranks=(1, 2)))
def test_without_like_the_grid_is_that_of_whole_strides(case):
    case = case.on(case.natural_grid)
    y = case.numbers(case.pooled_grid)
    layer = transposed(case, y, filters=1)
    kernel, bias = layer.get_weights()
    expected = transposed_conv(case, y, kernel) + bias
    np.testing.assert_allclose(case.run(layer, y), expected, atol=1e-4)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("layer", [StridedConv, TransposedConv])
def test_channels_of_the_output_are_filters_or_those_of_the_input(layer, data_format):
    x = in_format(np.zeros((1, 4, 6, 3), "float32"), data_format)
    for filters in (None, 5):
        made = layer(2, data_format=data_format, filters=filters)
        y = from_format(made(x), data_format)
        assert y.shape[-1] == (filters or 3)
        assert made.compute_output_shape(x.shape) == made(x).shape
        assert [w.shape[0] for w in made.weights if "bias" in w.path] == [y.shape[-1]]


@pytest.mark.parametrize("layer", [StridedConv, TransposedConv])
def test_kernel_starts_as_asked_and_bias_can_be_left_out(layer):
    made = layer(3, 2, filters=2, use_bias=False, kernel_initializer="ones")
    made.build((None, 5, 5, 4))
    (kernel,) = made.get_weights()
    np.testing.assert_array_equal(kernel, 1)


@pytest.mark.parametrize("layer", [StridedConv, TransposedConv])
@pytest.mark.parametrize(
    ("argument", "value", "rule"),
    [
        ("filters", 0, "`filters` must be a positive int"),
        ("filters", True, "Received: filters=True"),
        ("filters", 2.0, r"Received: filters=2\.0"),
        ("use_bias", 1, "`use_bias` must be a bool"),
        ("kernel_initializer", "bogus", "bogus"),
    ],
)
def test_refuses_an_argument_that_breaks_its_rule(layer, argument, value, rule):
    with pytest.raises(ValueError, match=rule):
        layer(**{argument: value})


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("layer", [StridedConv, TransposedConv])
def test_refuses_an_unknown_number_of_channels(layer, data_format):
    shape = (None, 7, None) if data_format == "channels_last" else (None, None, 7)
    with pytest.raises(ValueError, match="must have a known number of channels"):
        layer(2, data_format=data_format).build(shape)


def test_unknown_sizes_compute_what_known_sizes_do():
    image = keras.Input((None, None, 2))
    there, back = StridedConv(3, 2, filters=3), TransposedConv(3, 2, filters=2)
    y = back(there(image), like=image)
    assert y.shape == (None, None, None, 2)
    model = keras.Model(image, y)
    for grid in ((1, 1), (7, 10), (2, 13)):
        case = Case(grid, (3, 3), (2, 2))
        x = case.numbers()
        maps = conv(case, x, there.get_weights()[0])
        expected = transposed_conv(case, maps, back.get_weights()[0])
        np.testing.assert_allclose(
            model.predict(x, verbose=0), expected, rtol=1e-4, atol=1e-4
        )
