import keras
import numpy as np
import pytest
from hypothesis import assume, given
from oracles import Case, cases, in_format, many, max_pool, max_unpool

from keras_cae.layers import MaxPooling, MaxUnpooling

FORMATS = ("channels_last", "channels_first")


def pool(case, x):
    return case.run(MaxPooling(**case.settings, return_switches=True), x)


def unpool(case, pooled, switches, like=None):
    return case.run(MaxUnpooling(**case.settings), pooled, switches, like)


@many(200)
@given(cases())
def test_pooling_takes_the_maximum_and_the_first_of_equal_ones(case):
    x = case.numbers()
    pooled, switches = pool(case, x)
    expected, places = max_pool(case, x)
    np.testing.assert_array_equal(pooled, expected)
    np.testing.assert_array_equal(switches, places)
    np.testing.assert_array_equal(case.run(MaxPooling(**case.settings), x), pooled)


@many(200)
@given(cases())
def test_unpooling_keeps_the_chosen_cells_and_nothing_else(case):
    x = case.numbers()
    pooled, switches = pool(case, x)
    y = unpool(case, pooled, switches, like=x)
    chosen = max_unpool(case, np.ones_like(pooled), switches)
    np.testing.assert_array_equal(y, np.where(chosen, x, 0))


@many(80)
@given(cases())
def test_pooling_an_unpooled_map_gives_it_back(case):
    x = abs(case.numbers())
    pooled, switches = pool(case, x)
    y = unpool(case, pooled, switches, like=x)
    np.testing.assert_array_equal(pool(case, y)[0], pooled)


@many(120)
@given(cases())
def test_unpooling_obeys_any_switches_and_the_last_window_wins(case):
    pooled = case.numbers(case.pooled_grid)
    rng = np.random.default_rng(case.seed)
    codes = int(np.prod(case.pool_size))
    switches = rng.integers(0, codes, pooled.shape).astype("int32")
    y = unpool(case, pooled, switches, like=case.grid)
    np.testing.assert_array_equal(y, max_unpool(case, pooled, switches))


@many(60)
@given(cases())
def test_without_like_the_grid_is_that_of_whole_strides(case):
    case = case.on(case.natural_grid)
    x = case.numbers()
    pooled, switches = pool(case, x)
    y = unpool(case, pooled, switches)
    assert y.shape == x.shape
    np.testing.assert_array_equal(y, max_unpool(case, pooled, switches))


@many(30)
@given(cases())
def test_channels_are_independent(case):
    x = case.numbers(channels=3)
    pooled, switches = pool(case, x)
    y = unpool(case, pooled, switches, like=x)
    x[..., 1] = -x[..., 1]
    others = [0, 2]
    again, places = pool(case, x)
    np.testing.assert_array_equal(pooled[..., others], again[..., others])
    np.testing.assert_array_equal(switches[..., others], places[..., others])
    again = unpool(case, again, places, like=x)
    np.testing.assert_array_equal(y[..., others], again[..., others])


@many(40)
@given(cases())
def test_pooling_equals_that_of_keras(case):
    theirs = getattr(keras.layers, f"MaxPooling{len(case.grid)}D")
    x = case.numbers()
    np.testing.assert_array_equal(
        case.run(MaxPooling(**case.settings), x),
        case.run(theirs(**case.settings), x),
    )


@many(60)
@given(cases(ranks=(2,)))
def test_pair_equals_that_of_tensorflow(case):
    tf = pytest.importorskip("tensorflow")
    x = case.numbers()
    pooled, flat = tf.nn.max_pool_with_argmax(
        x, case.pool_size, case.strides, case.padding.upper()
    )
    ours, switches = pool(case, x)
    np.testing.assert_array_equal(ours, pooled)
    values = np.zeros((2, x[0].size), x.dtype)
    for image, cells, maxima in zip(values, flat.numpy(), pooled.numpy(), strict=True):
        image[cells.ravel()] = maxima.ravel()
    y = unpool(case, ours, switches, like=x)
    np.testing.assert_array_equal(y, values.reshape(x.shape))


@many(60)
@given(cases())
def test_pair_equals_that_of_torch(case):
    torch = pytest.importorskip("torch")
    rank = len(case.grid)
    windows = zip(
        case.grid, case.pooled_grid, case.pool_size, case.strides, strict=True
    )
    borders = [max((n - 1) * s + k - size, 0) for size, n, k, s in windows]
    if case.padding == "valid":
        borders = [0] * rank
    else:
        # PyTorch pads both sides alike, by half a window at the most.
        sizes = zip(borders, case.pool_size, strict=True)
        assume(all(b % 2 == 0 and b <= k for b, k in sizes))
    given = {
        "kernel_size": case.pool_size,
        "stride": case.strides,
        "padding": [border // 2 for border in borders],
    }
    x = case.numbers()
    image = torch.tensor(in_format(x, "channels_first").copy())
    theirs = getattr(torch.nn, f"MaxPool{rank}d")(**given, return_indices=True)
    pooled, cells = theirs(image)
    ours, switches = pool(case, x)
    np.testing.assert_array_equal(in_format(ours, "channels_first"), pooled)
    if any(k > s for k, s in zip(case.pool_size, case.strides, strict=True)):
        return
    theirs = getattr(torch.nn, f"MaxUnpool{rank}d")(**given)
    y = unpool(case, ours, switches, like=x)
    np.testing.assert_array_equal(
        in_format(y, "channels_first"), theirs(pooled, cells, output_size=image.shape)
    )


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("grid", [(7,), (7, 10), (3, 7, 4)])
def test_pair_of_one_setting_serves_every_rank_and_format(grid, data_format):
    case = Case(grid, (3,) * len(grid), (2,) * len(grid), "same", data_format)
    x = case.numbers()
    pooling = MaxPooling(3, 2, data_format=data_format, return_switches=True)
    pooled, switches = case.run(pooling, x)
    np.testing.assert_array_equal(pooled, max_pool(case, x)[0])
    unpooling = MaxUnpooling(3, 2, data_format=data_format)
    y = case.run(unpooling, pooled, switches, like=x)
    np.testing.assert_array_equal(y, max_unpool(case, pooled, switches))


def test_overlapping_windows_never_double_a_value():
    case = Case((1, 5), (1, 3), (1, 1))
    x = np.float32([[0, 0, 7, 0, 0]]).reshape(1, 1, 5, 1)
    pooled, switches = pool(case, x)
    assert pooled.ravel().tolist() == [0, 7, 7, 7, 0]
    assert unpool(case, pooled, switches, like=x).ravel().tolist() == [0, 0, 7, 0, 0]


def test_of_several_windows_on_one_cell_the_last_is_written():
    case = Case((3,), (3,), (1,))
    pooled = np.float32([1, 5, 3]).reshape(1, 3, 1)
    switches = np.int32([2, 1, 0]).reshape(1, 3, 1)
    assert unpool(case, pooled, switches).ravel().tolist() == [0, 3, 0]


def test_padding_never_wins_over_the_lowest_number():
    lowest = np.finfo("float32").min
    case = Case((3, 4), (3, 3), (1, 1))
    x = np.full((1, 3, 4, 1), lowest)
    pooled, switches = pool(case, x)
    np.testing.assert_array_equal(pooled, lowest)
    np.testing.assert_array_equal(switches, max_pool(case, x)[1])


def test_minus_infinity_loses_to_every_number():
    case = Case((6,), (2,), (2,))
    x = np.float32([-np.inf, -3, -5, -np.inf, np.inf, -np.inf]).reshape(1, 6, 1)
    pooled, switches = pool(case, x)
    assert pooled.ravel().tolist() == [-3, -5, np.inf]
    assert switches.ravel().tolist() == [1, 0, 0]
    y = unpool(case, pooled, switches, like=x)
    assert y.ravel().tolist() == [0, -3, -5, 0, np.inf, 0]


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_odd_values_stay_in_their_windows(value):
    case = Case((7,), (3,), (2,))
    x = abs(case.numbers(channels=1))
    clean = pool(case, x)
    x[:, 5:] = value
    pooled, switches = pool(case, x)
    for ours, expected in zip((pooled, switches), clean, strict=True):
        np.testing.assert_array_equal(ours[:, :2], expected[:, :2])
    assert np.all((switches >= 0) & (switches < 3))


def test_negative_zero_and_zero_are_a_tie():
    case = Case((4,), (2,), (2,))
    x = np.float32([-0.0, 0.0, 0.0, -0.0]).reshape(1, 4, 1)
    assert pool(case, x)[1].ravel().tolist() == [0, 0]


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64"])
def test_switches_of_every_integer_type_are_taken(dtype):
    case = Case((3, 5), (2, 2), (2, 2))
    x = case.numbers()
    pooled, switches = pool(case, x)
    np.testing.assert_array_equal(
        unpool(case, pooled, switches.astype(dtype), like=x),
        unpool(case, pooled, switches, like=x),
    )


@pytest.mark.parametrize(
    ("switches", "rule"),
    [
        (None, r"`switches` must be given: .* MaxPooling\(..., return_switches=True\)"),
        (np.zeros((1, 4, 3, 2), "int32"), "`switches` must have the shape"),
        (np.zeros((1, 4, 4, 1), "int32"), "`switches` must have the shape"),
        (np.zeros((4, 4, 2), "int32"), r"Received: switches of shape \(4, 4, 2\)"),
        (np.zeros((1, 4, 4, 2), "float32"), "`switches` must be integers.*float32"),
        (np.zeros((1, 4, 4, 2), "bool"), "`switches` must be integers.*bool"),
        ([0, 1, 2], "`switches` must"),
    ],
    ids=["missing", "grid", "channels", "rank", "float", "bool", "list"],
)
def test_refuses_switches_that_are_not_those_of_the_input(switches, rule):
    with pytest.raises(ValueError, match=rule):
        MaxUnpooling(2)(np.zeros((1, 4, 4, 2)), switches=switches)


@pytest.mark.parametrize(("place", "received"), [(4, "0 to 4"), (-1, "-1 to 0")])
def test_refuses_switches_that_are_no_places_in_the_window(place, received):
    switches = np.zeros((1, 4, 4, 2), "int32")
    switches[0, 1, 2, 0] = place
    rule = rf"`switches` must be .* from 0 to 3 for \(2, 2\).*from {received}"
    with pytest.raises(ValueError, match=rule):
        MaxUnpooling(2)(np.zeros((1, 4, 4, 2)), switches=switches)


def test_refuses_symbolic_switches_of_another_shape():
    x = keras.Input((4, 4, 2))
    with pytest.raises(ValueError, match="`switches` must have the shape"):
        MaxUnpooling(2)(x, switches=keras.Input((4, 5, 2), dtype="int32"))
    with pytest.raises(ValueError, match="`switches` must be given"):
        MaxUnpooling(2)(x)


def test_refuses_a_like_that_pools_to_another_grid():
    x, switches = np.zeros((1, 4, 4, 2)), np.zeros((1, 4, 4, 2), "int32")
    for like in ((9, 7), (7, 6), (7,), np.zeros((1, 7, 9, 2))):
        with pytest.raises(ValueError, match="`like` must"):
            MaxUnpooling(2)(x, switches=switches, like=like)


@pytest.mark.parametrize("value", [1, "yes", None])
def test_refuses_return_switches_that_is_no_bool(value):
    with pytest.raises(ValueError, match="`return_switches` must be a bool"):
        MaxPooling(2, return_switches=value)


def test_integer_maps_give_the_compute_dtype():
    case = Case((5,), (2,), (2,))
    x = case.numbers().astype("int32")
    pooled, switches = pool(case, x)
    assert pooled.dtype == "float32"
    y = unpool(case, pooled.astype("int32"), switches, like=x)
    assert y.dtype == "float32"


def test_unknown_sizes_compute_what_known_sizes_do():
    image = keras.Input((None, None, 2))
    pooled, switches = MaxPooling(3, 2, return_switches=True)(image)
    y = MaxUnpooling(3, 2)(pooled, switches=switches, like=image)
    assert y.shape == (None, None, None, 2)
    model = keras.Model(image, [pooled, switches, y])
    for grid in ((1, 1), (7, 10), (2, 13)):
        case = Case(grid, (3, 3), (2, 2))
        x = case.numbers()
        maxima, places, restored = model.predict(x, verbose=0)
        expected = max_pool(case, x)
        np.testing.assert_array_equal(maxima, expected[0])
        np.testing.assert_array_equal(places, expected[1])
        np.testing.assert_array_equal(restored, max_unpool(case, *expected))
