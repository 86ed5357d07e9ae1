import keras
import numpy as np
import pytest
from keras import layers

import keras_cae
from keras_cae.callbacks.probe import Probe, find_pools, run_once
from keras_cae.layers import MaxPooling

IMAGES = np.random.default_rng(0).normal(size=(3, 10, 7, 2)).astype("float32")


EAGER = keras.backend.backend() == "torch"
as_array = keras.ops.convert_to_numpy


def maps_of(model, inputs=IMAGES):
    return run_once(model, find_pools(model), inputs)[1]


def assert_maps(maps, model, names, inputs=IMAGES):
    """The maps are those that Keras itself computes around the named layers."""
    assert set(maps) == set(names)
    for name in names:
        layer = model.get_layer(name)
        direct = keras.Model(model.inputs, [layer.input, layer.output])
        for seen, expected in zip(maps[name], direct.predict(inputs), strict=True):
            assert seen.dtype == np.float32
            np.testing.assert_allclose(seen, expected, atol=1e-5)


def functional(**options):
    image = keras.Input((10, 7, 2))
    x = layers.Conv2D(4, 3, padding="same", activation="relu")(image)
    x = layers.MaxPooling2D(padding="same", name="pool")(x)
    x = layers.Conv2D(5, 3, strides=(2, 1), padding="same", name="strided")(x)
    x = layers.AveragePooling2D(2, name="last")(x)
    return keras.Model(image, layers.GlobalAveragePooling2D()(x), **options)


def shape_model(*parts, shape=(10, 7, 2)):
    return keras.Sequential([keras.Input(shape), *parts])


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.convs = [layers.Conv2D(4, 3, padding="same") for _ in range(2)]
        self.pools = {"a": layers.MaxPooling2D(name="a"), "b": layers.MaxPooling2D(3)}

    def call(self, x):
        return self.pools["b"](self.convs[1](self.pools["a"](self.convs[0](x))))


class Block(layers.Layer):
    """A block that lists its parts, with a pool size of its own."""

    def __init__(self, *parts, **kwargs):
        super().__init__(**kwargs)
        self.layers = list(parts)
        self.pool_size = 2

    def call(self, x):
        for part in self.layers:
            x = part(x)
        return x


class Mapped(layers.Layer):
    """Runs a pooling once a sample, in a graph of its own."""

    def __init__(self):
        super().__init__()
        self.pool = layers.MaxPooling2D(name="hidden")

    def call(self, x):
        return keras.ops.map(lambda image: self.pool(image[None])[0], x)


class Turned(layers.Layer):
    """Makes one side of the grid smaller and the other larger."""

    pool_size = 2

    def call(self, x):
        return keras.ops.transpose(x, (0, 2, 1, 3))


class Counted(layers.Layer):
    """Counts how often Python runs it, which is how often it is traced."""

    calls = 0

    def call(self, x):
        self.calls += 1
        return x


def test_maps_of_a_functional_model_equal_a_direct_forward_pass():
    model = functional()
    assert_maps(maps_of(model), model, ["pool", "strided", "last"])


def test_maps_of_a_sequential_model_equal_a_direct_forward_pass():
    model = shape_model(layers.Conv2D(3, 3), layers.MaxPooling2D(name="pool"))
    assert_maps(maps_of(model), model, ["pool"])


@pytest.mark.parametrize(
    ("pooling", "shape"),
    [
        (layers.MaxPooling1D, (11, 3)),
        (layers.AveragePooling1D, (11, 3)),
        (layers.MaxPooling2D, (7, 10, 3)),
        (layers.AveragePooling2D, (7, 10, 3)),
        (layers.MaxPooling3D, (5, 7, 10, 2)),
        (layers.AveragePooling3D, (5, 7, 10, 2)),
    ],
)
def test_poolings_of_keras_are_found_in_one_to_three_axes(pooling, shape):
    model = shape_model(pooling(2, name="pool"), shape=shape)
    inputs = np.random.default_rng(1).normal(size=(2, *shape)).astype("float32")
    assert_maps(maps_of(model, inputs), model, ["pool"], inputs)


@pytest.mark.parametrize(
    "conv",
    [
        layers.Conv2D(3, 3, strides=2, name="pool"),
        layers.SeparableConv2D(3, 3, strides=2, name="pool"),
        layers.DepthwiseConv2D(3, strides=2, name="pool"),
    ],
)
def test_strided_convolutions_are_found(conv):
    model = shape_model(layers.Conv2D(4, 3), conv, layers.Conv2D(4, 1))
    assert_maps(maps_of(model), model, ["pool"])


def test_pooling_with_a_stride_of_one_is_found():
    model = shape_model(layers.AveragePooling2D(3, 1, padding="same", name="pool"))
    assert_maps(maps_of(model), model, ["pool"])


def test_layers_that_do_not_make_the_grid_smaller_are_left_out():
    model = shape_model(
        layers.UpSampling2D(),
        layers.Conv2DTranspose(3, 3, strides=2),
        layers.Conv2D(3, 1),
        Block(layers.Conv2D(3, 1)),
        Turned(),
        layers.GlobalMaxPooling2D(keepdims=True),
    )
    assert maps_of(model) == {}


def test_first_output_of_a_pooling_is_taken():
    image = keras.Input((10, 7, 2))
    pooled, _switches = MaxPooling(return_switches=True, name="pool")(image)
    model = keras.Model(image, pooled)
    before, after = maps_of(model)["pool"]
    np.testing.assert_array_equal(before, IMAGES)
    np.testing.assert_allclose(after, model.predict(IMAGES))


@pytest.mark.parametrize("pooling", ["max", "average", "strided"])
def test_maps_of_an_autoencoder_are_those_of_its_encoder_blocks(pooling):
    model = keras_cae.autoencoder((10, 7, 2), filters=(3, 4), pooling=pooling)
    maps = maps_of(model)
    assert set(maps) == {"encoder_block_1", "encoder_block_2"}
    block = model.encoder.get_layer("encoder_block_1")
    expected = as_array(block(IMAGES))
    np.testing.assert_allclose(maps["encoder_block_1"][1], expected, atol=1e-5)
    assert maps["encoder_block_1"][0].shape == (3, 10, 7, 3)


def test_layers_inside_nested_models_are_prefixed_with_their_names():
    inner = functional(name="inner")
    encoder = keras.Sequential([inner.layers[0], *inner.layers[1:3]], name="encoder")
    model = keras.Sequential([keras.Input((10, 7, 2)), encoder], name="outer")
    maps = maps_of(model)
    assert set(maps) == {"encoder/pool"}
    np.testing.assert_allclose(maps["encoder/pool"][1], model.predict(IMAGES))


def test_layers_of_a_subclassed_model_are_found():
    model = Subclassed()
    expected = model.predict(IMAGES)
    maps = maps_of(model)
    names = [model.pools["a"].name, model.pools["b"].name]
    assert set(maps) == set(names)
    np.testing.assert_allclose(maps[names[1]][1], expected, atol=1e-5)
    before = as_array(model.convs[0](IMAGES))
    np.testing.assert_allclose(maps[names[0]][0], before, atol=1e-5)


def test_block_lends_its_name_to_its_only_pooling():
    one = Block(layers.Conv2D(4, 3), layers.MaxPooling2D(name="a"), name="one")
    two = Block(layers.MaxPooling2D(name="b"), layers.Conv2D(4, 2, 2, name="c"))
    two.name = "two"
    model = keras.Sequential([keras.Input((30, 30, 2)), one, two])
    assert {pool.name for pool in find_pools(model)} == {"one", "two/b", "two/c"}
    before, after = maps_of(model, np.ones((2, 30, 30, 2), "float32"))["one"]
    assert before.shape == (2, 28, 28, 4)
    assert after.shape == (2, 14, 14, 4)


def test_shared_layer_has_maps_of_each_call():
    pool = layers.MaxPooling2D(name="pool")
    image = keras.Input((10, 7, 2))
    first = pool(image)
    model = keras.Model(image, [first, pool(first)])
    maps = maps_of(model)
    once, twice = model.predict(IMAGES)
    assert set(maps) == {"pool", "pool_2"}
    np.testing.assert_allclose(maps["pool"][1], once)
    np.testing.assert_allclose(maps["pool_2"][0], once)
    np.testing.assert_allclose(maps["pool_2"][1], twice)


def test_pooling_shared_by_two_blocks_goes_by_the_name_of_the_first():
    pool = layers.MaxPooling2D()
    first, second = Block(pool, name="first"), Block(pool, name="second")
    model = shape_model(first, second)
    assert [found.name for found in find_pools(model)] == ["first"]
    assert set(maps_of(model)) == {"first", "first_2"}


def test_equal_names_are_told_apart():
    class Twins(keras.Model):
        def __init__(self):
            super().__init__()
            self.a = layers.MaxPooling2D(name="pool")
            self.b = layers.AveragePooling2D(2, name="pool")

        def call(self, x):
            return self.b(self.a(x))

    model = Twins()
    maps = maps_of(model)
    assert set(maps) == {"pool", "pool_2"}
    np.testing.assert_array_equal(maps["pool"][1], maps["pool_2"][0])


def test_model_with_several_inputs_is_probed():
    a, b = keras.Input((8, 8, 1), name="a"), keras.Input((4, 4, 1), name="b")
    pooled = layers.MaxPooling2D(name="pool")(a)
    model = keras.Model({"a": a, "b": b}, pooled + b)
    inputs = {"a": np.ones((2, 8, 8, 1)), "b": np.ones((2, 4, 4, 1))}
    before, after = maps_of(model, inputs)["pool"]
    assert before.shape == (2, 8, 8, 1)
    assert after.shape == (2, 4, 4, 1)


def test_maps_with_channels_first_come_out_with_channels_last():
    model = shape_model(
        layers.MaxPooling2D(data_format="channels_first", name="pool"), shape=(2, 10, 7)
    )
    inputs = np.moveaxis(IMAGES, -1, 1)
    before, after = maps_of(model, inputs)["pool"]
    np.testing.assert_array_equal(before, IMAGES)
    np.testing.assert_allclose(np.moveaxis(after, -1, 1), model.predict(inputs))


def test_maps_of_a_mixed_precision_model_are_float32():
    policy = keras.dtype_policies.DTypePolicy("mixed_float16")
    model = shape_model(
        layers.Conv2D(3, 3, dtype=policy),
        layers.MaxPooling2D(dtype=policy, name="pool"),
    )
    before, after = maps_of(model)["pool"]
    assert before.dtype == after.dtype == np.float32
    np.testing.assert_array_equal(after, model.predict(IMAGES).astype("float32"))


@pytest.mark.parametrize("how", ["jit_compile", "run_eagerly"])
def test_probe_is_compiled_as_its_model_is(how):
    model = functional()
    model.compile(loss="mse", **{how: True})
    probe, maps = run_once(model, find_pools(model), IMAGES)
    assert getattr(probe, how)
    assert_maps(maps, model, ["pool", "strided", "last"])


class Noisy(keras.Model):
    """Behaves as in training, unless it is told not to."""

    def __init__(self):
        super().__init__()
        self.dropout = layers.Dropout(0.5)
        self.norm = layers.BatchNormalization()
        self.pool = layers.MaxPooling2D(name="pool")

    def call(self, x, training=True):
        return self.pool(self.norm(self.dropout(x), training=training))


class Around(keras.Model):
    """A model that takes no `training`."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, x):
        return self.inner(x)


@pytest.mark.parametrize("model", [Noisy(), Around(Noisy())], ids=["noisy", "around"])
def test_probe_runs_the_model_as_in_inference(model):
    expected = as_array(model(IMAGES, training=False))
    before = [as_array(weight) for weight in model.weights]
    (maps,) = maps_of(model).values()
    np.testing.assert_allclose(maps[1], expected, atol=1e-5)
    np.testing.assert_allclose(expected, as_array(model(IMAGES, training=False)))
    for old, new in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, as_array(new))


@pytest.mark.skipif(EAGER, reason="nothing is traced")
def test_probe_is_traced_once():
    counted = Counted()
    model = shape_model(counted, layers.MaxPooling2D())
    probe, _ = run_once(model, find_pools(model), IMAGES)
    traced = counted.calls
    for _ in range(5):
        probe.predict_on_batch(IMAGES)
    assert counted.calls == traced


def test_probe_sees_new_weights():
    model = functional()
    probe, _ = run_once(model, find_pools(model), IMAGES)
    model.layers[1].bias.assign(np.full(4, 3.0))
    assert_maps(probe.predict_on_batch(IMAGES), model, ["pool", "strided", "last"])


def test_probe_leaves_no_trace_in_the_model():
    model = functional()
    model.compile("adam", "mse")
    model.fit(IMAGES, np.zeros((3, 5)), verbose=0)
    held = [
        {key: id(value) for key, value in vars(layer).items()}
        for layer in (model, *model.layers)
    ]
    config, path = model.get_config(), model.path
    maps_of(model)
    assert model.get_config() == config
    assert model.path == path
    assert held == [
        {key: id(value) for key, value in vars(layer).items()}
        for layer in (model, *model.layers)
    ]


def test_failing_pass_leaves_no_trace_in_the_layers():
    model = functional()
    with pytest.raises(ValueError, match="shape"):
        Probe(model, find_pools(model)).predict_on_batch(np.zeros((2, 5, 5, 9)))
    assert not any("call" in vars(layer) for layer in model.layers)


def test_wrapped_call_of_a_layer_is_put_back():
    model = shape_model(layers.MaxPooling2D(name="pool"))
    pool = model.get_layer("pool")
    own = pool.call
    pool.call = own
    maps_of(model)
    assert pool.call is own


@pytest.mark.skipif(EAGER, reason="there are no graphs")
def test_layer_in_an_inner_graph_is_left_out_with_a_warning():
    image = keras.Input((10, 7, 2))
    x = layers.MaxPooling2D(name="seen")(image)
    model = keras.Model(image, Mapped()(x))
    with pytest.warns(UserWarning, match=r"Left out: mapped.*/hidden"):
        maps = maps_of(model)
    assert_maps(maps, model, ["seen"])


def test_layers_that_hold_each_other_are_walked_once():
    model = shape_model(Block(layers.MaxPooling2D(name="pool"), name="block"))
    block = model.get_layer("block")
    block._tracker.unlock()
    block.layers.append(block)
    assert [pool.name for pool in find_pools(model)] == ["block"]


@pytest.mark.slow
def test_all_strided_convolutions_of_mobilenet_are_found():
    model = keras.applications.MobileNetV2(weights=None, input_shape=(96, 96, 3))
    inputs = np.random.default_rng(2).uniform(-1, 1, (2, 96, 96, 3)).astype("float32")
    strided = [
        layer.name for layer in model.layers if getattr(layer, "strides", 1) == (2, 2)
    ]
    assert len(strided) == 5
    assert_maps(maps_of(model, inputs), model, strided, inputs)
