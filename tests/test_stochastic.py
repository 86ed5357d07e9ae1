import keras
import numpy as np
import pytest
from hypothesis import given
from oracles import Case, average_pool, cases, from_format, in_format, many

from keras_cae.layers import MaxPooling, StochasticPooling
from keras_cae.testing import backends


def draw(layer, x):
    """What the layer draws in training, channels last."""
    data_format = layer.data_format
    y = layer(in_format(x, data_format), training=True)
    return from_format(y, data_format)


def slope_of(layer, x, training):
    """Of the kit's loss, an unequal sum of the outputs, along inputs."""

    def call(layer, tensors):
        return layer(tensors["x"], training=training)

    _, slopes = backends.differentiated(layer, call)({"x": x})
    return keras.ops.convert_to_numpy(slopes["input x"])


def state_of(layer):
    return keras.ops.convert_to_numpy(layer.seed_generator.state).tolist()


def network(seed=3, **kwargs):
    """A small network with noise in it."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(4, 3, activation="relu"),
            StochasticPooling(2, seed=seed),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(1),
        ]
    )
    model.compile("adam", "mse", **kwargs)
    return model


def batches():
    random = np.random.default_rng(0)
    return random.normal(size=(32, 8, 8, 1)), random.normal(size=(32, 1))


def fit(model, epochs):
    x, y = batches()
    losses = model.fit(x, y, batch_size=8, epochs=epochs, shuffle=False, verbose=0)
    return losses.history["loss"]


@many(250)
@given(cases())
def test_inference_takes_the_expectation(case):
    x = case.numbers()
    values = np.maximum(x, 0).astype("float64")
    total, squares = average_pool(case, values), average_pool(case, values**2)
    expected = squares / np.where(total, total, 1)
    y = case.run(StochasticPooling(**case.settings), x)
    np.testing.assert_allclose(y, expected, rtol=1e-5)


@many(100)
@given(cases())
def test_training_draws_a_positive_value_of_each_window(case):
    x = case.numbers()
    y = draw(StochasticPooling(**case.settings, seed=case.seed), x)
    assert y.shape == (2, *case.pooled_grid, 2)
    for index, _, cells in case.windows():
        for b, c in np.ndindex(2, 2):
            window = x[(b, *cells, c)]
            assert y[(b, *index, c)] in (
                window[window > 0] if window.max() > 0 else [0]
            )


def test_probabilities_are_proportional_to_the_values():
    window = np.array([[1.0, 3.0], [0.0, 6.0]])
    x = np.tile(window[None, :, :, None], (8, 32, 32, 4))
    y = draw(StochasticPooling(2, seed=7), x)
    counts = np.array([(y == value).sum() for value in (1, 3, 6)])
    assert counts.sum() == y.size == 8 * 32 * 32 * 4
    expected = y.size * np.array([0.1, 0.3, 0.6])
    # Chi-squared with two degrees of freedom: larger once in a thousand seeds.
    assert ((counts - expected) ** 2 / expected).sum() < 13.8
    np.testing.assert_allclose(y.mean(), 4.6, rtol=0.01)


def test_cells_of_windows_at_the_border_and_of_overlapping_ones_are_weighed_alike():
    line = np.array([2.0, 1.0, 3.0, 4.0])
    x = np.tile(line[None, :, None], (4, 1, 20000))
    y = draw(StochasticPooling(3, 2, seed=7), x)
    # "same" pads one cell at the end: the windows are (2, 1, 3) and (3, 4).
    for at, shares in enumerate(({2: 1 / 3, 1: 1 / 6, 3: 1 / 2}, {3: 3 / 7, 4: 4 / 7})):
        for value, share in shares.items():
            assert (y[:, at] == value).mean() == pytest.approx(share, abs=0.01)


def test_samples_windows_and_channels_draw_for_themselves():
    x = np.tile(np.array([1.0, 2.0])[None, :, None], (64, 64, 64))
    chosen = draw(StochasticPooling(2, seed=7), x) == 2
    # Two draws that have nothing to do with each other agree at 1/9 + 4/9.
    for axis in range(3):
        agree = chosen == np.roll(chosen, 1, axis)
        assert agree.mean() == pytest.approx(5 / 9, abs=0.01)


@pytest.mark.parametrize(("noise", "place"), [(0, 0), (1 - 2**-24, -1)])
def test_the_least_and_the_largest_noise_draw_positive_values(
    monkeypatch, noise, place
):
    def uniform(shape, dtype, seed):
        return keras.ops.full(shape, noise, dtype)

    monkeypatch.setattr(keras.random, "uniform", uniform)
    for values in ([0, 1, 2, 0], [0.1, 0.7, 0, 0], [0, 0, 1e-3, 300]):
        x = np.reshape(values, (1, 4, 1)).astype("float32")
        y = draw(StochasticPooling(4, seed=1), x)
        assert np.squeeze(y) == x[x > 0][place]


def test_large_windows_draw_from_all_of_their_cells():
    x = np.ones((1, 15, 4000)) * np.arange(1, 16)[None, :, None]
    y = draw(StochasticPooling(15, seed=7), x)
    assert set(np.unique(y)) == set(range(1, 16))


def test_float16_neither_overflows_nor_vanishes():
    for value in (60000.0, 1e-6):
        x = np.full((2, 4, 4, 1), value, "float16")
        layer = StochasticPooling(3, 2, dtype="float16")
        expected = from_format(layer(x), "channels_last")
        np.testing.assert_array_equal(expected, x[:, :2, :2])
        np.testing.assert_array_equal(draw(layer, x), x[:, :2, :2])


def test_gradient_goes_to_the_cells_that_were_drawn():
    x = np.random.default_rng(1).permutation(np.arange(1.0, 65)).reshape(1, 8, 8, 1)
    x = x.astype("float32")
    drawn = draw(StochasticPooling(2, seed=7), x)

    slope = slope_of(StochasticPooling(2, seed=7), x, training=True)
    np.testing.assert_array_equal(slope != 0, np.isin(x, drawn))
    weights = np.random.default_rng(0).normal(size=drawn.shape)
    np.testing.assert_allclose((slope * x).sum(), (weights * drawn).sum(), rtol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_odd_values_stay_in_their_windows_and_are_not_hidden(training):
    x = abs(Case((6,), (2,), (2,)).numbers(channels=1))
    clean, dirty = StochasticPooling(2, seed=7), StochasticPooling(2, seed=7)
    expected = from_format(clean(x, training=training), "channels_last")
    x[:, 4] = np.nan
    y = from_format(dirty(x, training=training), "channels_last")
    np.testing.assert_array_equal(y[:, :2], expected[:, :2])
    assert np.isnan(y[:, 2]).all()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("value", [0.0, -2.0])
def test_windows_without_a_positive_value_give_zero_and_no_gradient(value, training):
    x = np.full((1, 5, 5, 1), value, "float32")
    layer = StochasticPooling(2, seed=7)
    np.testing.assert_array_equal(layer(x, training=training), np.zeros((1, 3, 3, 1)))
    np.testing.assert_array_equal(slope_of(layer, x, training), 0)


def test_draws_follow_the_seed_and_never_repeat():
    x = abs(Case((9, 9), (2, 2), (2, 2)).numbers(channels=8))
    first, second = StochasticPooling(2, seed=5), StochasticPooling(2, seed=5)
    draws = [draw(first, x) for _ in range(3)]
    for earlier in draws:
        np.testing.assert_array_equal(draw(second, x), earlier)
    others = (draw(StochasticPooling(2, seed=6), x), draw(StochasticPooling(2), x))
    for other in (*draws[1:], *others):
        assert (other != draws[0]).any()


def test_inference_is_not_random_and_takes_nothing_from_the_noise():
    x = abs(Case((9, 9), (2, 2), (2, 2)).numbers())
    layer = StochasticPooling(2, seed=5)
    before = state_of(layer)
    pooled = [from_format(layer(x), "channels_last") for _ in range(2)]
    np.testing.assert_array_equal(*pooled)
    assert state_of(layer) == before
    draw(layer, x)
    assert state_of(layer) != before


@pytest.mark.parametrize("seed", [3, None])
def test_a_reloaded_run_goes_on_as_the_uninterrupted_one(tmp_path, seed):
    model = network(seed)
    fit(model, 2)
    model.save(tmp_path / "model.keras")
    uninterrupted = fit(model, 2)
    resumed = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(fit(resumed, 2), uninterrupted, rtol=1e-6)
    for ours, theirs in zip(resumed.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)


def test_weights_files_carry_the_noise(tmp_path):
    x, _ = batches()
    model = network()
    model(x, training=True)
    model.save_weights(tmp_path / "run.weights.h5")
    other = network(seed=99)
    other.load_weights(tmp_path / "run.weights.h5")
    np.testing.assert_array_equal(
        *(keras.ops.convert_to_numpy(m(x, training=True)) for m in (model, other))
    )


def test_weights_of_a_network_with_another_pooling_load(tmp_path):
    def small(pooling):
        conv = keras.layers.Conv2D(2, 3, name="conv")
        return keras.Sequential([keras.Input((7, 7, 1)), conv, pooling])

    source = small(MaxPooling(2))
    source.save_weights(tmp_path / "max.weights.h5")
    layer = StochasticPooling(2, seed=5)
    target = small(layer)
    target.load_weights(tmp_path / "max.weights.h5")
    for ours, theirs in zip(target.get_weights(), source.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert state_of(layer) == state_of(StochasticPooling(2, seed=5))


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="has no XLA")
def test_training_compiles_by_xla_and_draws_anew_each_step():
    model = network(jit_compile=True)
    losses = fit(model, 3)
    assert np.isfinite(losses).all()
    assert state_of(model.layers[1])[1] == 12  # steps


@pytest.mark.parametrize("seed", [-1, 2**31, True, 1.5, "7"])
def test_seed_must_be_an_int_that_every_backend_takes(seed):
    with pytest.raises(ValueError, match="`seed` must be None or an int from 0"):
        StochasticPooling(2, seed=seed)


@pytest.mark.parametrize("pool_size", [0, -2, True, 1.5, (2, 2, 2, 2)])
def test_windows_must_be_positive_ints(pool_size):
    with pytest.raises(ValueError, match="`pool_size` must be a positive int"):
        StochasticPooling(pool_size)
