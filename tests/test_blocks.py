import inspect

import keras
import numpy as np
import pytest
from oracles import in_format

import keras_cae as cae
from keras_cae.layers import (
    AveragePooling,
    AverageUnpooling,
    MaxPooling,
    MaxUnpooling,
    StridedConv,
    TransposedConv,
    Upsampling,
)

FORMATS = ("channels_last", "channels_first")
RANKS_AND_FORMATS = [
    (1, "channels_last"),
    (2, "channels_last"),
    (2, "channels_first"),
    (3, "channels_last"),
]
NORMS = ("batch", "group", "instance", "layer")
# PyTorch has no XLA, and its own compiler needs one of C++.
JIT = keras.backend.backend() != "torch"


def images(*shape, seed=0):
    return np.random.default_rng(seed).uniform(size=shape).astype("float32")


def outputs(model, x, **given):
    return keras.ops.convert_to_numpy(model(x, training=False, **given))


def shuffled_weights(model):
    """Weights that no initializer gives, so that a lost one shows."""
    rng = np.random.default_rng(1)
    model.set_weights([rng.uniform(0.1, 0.5, w.shape) for w in model.get_weights()])
    return model


def reloaded(model, folder):
    path = folder / "model.keras"
    model.save(path)
    again = keras.saving.load_model(path, safe_mode=True)
    assert len(again.weights) == len(model.weights)
    return again


def trained(model, x, y, steps=1, **settings):
    """The model after steps of training, which moved its weights."""
    before = [np.array(w) for w in model.get_weights()]
    model.compile("sgd", "mse", **settings)
    model.fit(x, y, batch_size=len(x), epochs=steps, verbose=0)
    moved = [
        np.abs(old - new).max()
        for old, new in zip(before, model.get_weights(), strict=True)
    ]
    assert max(moved) > 0
    assert np.isfinite(moved).all()
    return model


def skip_where_keras_is_wrong(norm, data_format):
    backend = keras.backend.backend()
    if (backend, norm, data_format) == ("torch", "layer", "channels_first"):
        pytest.skip("LayerNormalization of Keras takes the last axis on PyTorch")


def classifier(*blocks, shape=(7, 10, 2)):
    axes = {2: "1D", 3: "2D", 4: "3D"}[len(shape)]
    pool = getattr(keras.layers, f"GlobalAveragePooling{axes}")
    return keras.Sequential(
        [keras.Input(shape), *blocks, pool(), keras.layers.Dense(3)]
    )


# What a block computes


@pytest.mark.parametrize(("rank", "data_format"), RANKS_AND_FORMATS)
def test_encoder_block_equals_plain_keras_layers(rank, data_format):
    grid = (7, 10, 4)[:rank]
    x = in_format(images(2, *grid, 3), data_format)
    block = cae.EncoderBlock(
        4, convs=2, norm="batch", pool_size=3, data_format=data_format
    )
    block.build(x.shape)
    shuffled_weights(block)
    conv = getattr(keras.layers, f"Conv{rank}D")
    axis = 1 if data_format == "channels_first" else -1
    settings = {"padding": "same", "use_bias": False, "data_format": data_format}
    plain = keras.Sequential(
        [
            keras.Input(x.shape[1:]),
            conv(4, 3, **settings),
            keras.layers.BatchNormalization(axis),
            keras.layers.ReLU(),
            conv(4, 3, **settings),
            keras.layers.BatchNormalization(axis),
            keras.layers.ReLU(),
            getattr(keras.layers, f"MaxPooling{rank}D")(
                3, padding="same", data_format=data_format
            ),
        ]
    )
    plain.set_weights(block.get_weights())
    np.testing.assert_allclose(outputs(block, x), outputs(plain, x), atol=1e-5)


def test_decoder_block_equals_plain_keras_layers():
    x = images(2, 4, 5, 3)
    block = cae.DecoderBlock(4, convs=2, kernel_size=(3, 1), activation="tanh", size=3)
    block.build(x.shape)
    plain = keras.Sequential(
        [
            keras.layers.UpSampling2D(3),
            keras.layers.Conv2D(4, (3, 1), padding="same", activation="tanh"),
            keras.layers.Conv2D(4, (3, 1), padding="same", activation="tanh"),
        ]
    )
    plain.build(x.shape)
    plain.set_weights(block.get_weights())
    np.testing.assert_allclose(outputs(block, x), outputs(plain, x), atol=1e-5)


@pytest.mark.parametrize("convs", [1, 2])
@pytest.mark.parametrize("filters", [3, 4])
def test_residual_adds_the_input_before_the_last_activation(convs, filters):
    x = images(2, 7, 5, 3)
    settings = {"convs": convs, "pooling": None}
    block = cae.EncoderBlock(filters, residual=True, **settings)
    block.build(x.shape)
    shuffled_weights(block)
    kinds = [type(part).__name__ for part in block.layers]
    assert kinds.count("Conv2D") == convs + (filters != 3)
    y = x
    parts = {part.name: part for part in block.layers}
    for number in range(1, convs + 1):
        y = parts[f"conv_{number}"](y)
        if number == convs:
            y = keras.ops.add(y, x if filters == 3 else parts["shortcut"](x))
        y = keras.ops.relu(y)
    y = keras.ops.convert_to_numpy(y)
    np.testing.assert_allclose(outputs(block, x), y, atol=1e-5)


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize(
    ("norm", "axes"), [("instance", (1, 2)), ("layer", (3,)), ("group", (1, 2, 3))]
)
def test_norms_take_their_mean_over_their_axes(norm, axes, data_format):
    skip_where_keras_is_wrong(norm, data_format)
    x = in_format(10 * images(2, 7, 5, 3), data_format)
    block = cae.EncoderBlock(
        5, norm=norm, activation=None, pooling=None, data_format=data_format
    )
    y = outputs(block, x)
    y = np.moveaxis(y, 1, -1) if data_format == "channels_first" else y
    if norm == "group":  # 5 filters and 32 groups have no divisor in common
        assert block.layers[1].groups == 1
    np.testing.assert_allclose(y.mean(axes), 0, atol=1e-3)
    np.testing.assert_allclose(y.var(axes), 1, atol=0.05)


@pytest.mark.parametrize(
    ("filters", "groups"), [(6, 2), (32, 32), (48, 16), (64, 32), (7, 1)]
)
def test_groups_divide_the_filters(filters, groups):
    block = cae.EncoderBlock(filters, norm="group")
    block.build((None, 3, 3, 1))
    assert block.layers[1].groups == groups


@pytest.mark.parametrize("data_format", FORMATS)
def test_dropout_drops_whole_channels_in_training_only(data_format):
    x = in_format(np.ones((8, 6, 6, 2), "float32"), data_format)
    block = cae.EncoderBlock(
        16, dropout=0.5, activation=None, pooling=None, data_format=data_format
    )
    kept = outputs(block, x)
    y = keras.ops.convert_to_numpy(block(x, training=True))
    grid = (2, 3) if data_format == "channels_first" else (1, 2)
    dropped = np.all(y == 0, axis=grid)
    assert 0.2 < dropped.mean() < 0.8
    assert not np.array_equal(dropped.all(1), dropped.any(1))
    expected = np.where(np.expand_dims(dropped, grid), 0, kept * 2)
    np.testing.assert_allclose(y, expected, atol=1e-5)
    np.testing.assert_array_equal(outputs(block, x), kept)


def test_dropout_and_batch_norm_follow_the_call_they_are_in():
    x = images(8, 6, 6, 2)
    inside = cae.EncoderBlock(4, norm="batch", dropout=0.5)

    class Outer(keras.Model):
        def __init__(self):
            super().__init__()
            self.block = inside

        def call(self, x):
            return self.block(x)

    model = Outer()
    kept = outputs(model, x)
    np.testing.assert_array_equal(outputs(model, x), kept)
    assert np.abs(keras.ops.convert_to_numpy(model(x, training=True)) - kept).max() > 0
    assert np.abs(outputs(model, x) - kept).max() > 0  # the moving mean has moved


@pytest.mark.parametrize(("rank", "data_format"), RANKS_AND_FORMATS)
@pytest.mark.parametrize(
    "pooling", ["average", "max", "strided", "keras", "conv", "ours", None]
)
def test_any_pooling_layer_fits_into_an_encoder_block(pooling, rank, data_format):
    grid = (5, 4, 3)[:rank]
    halves = grid if pooling is None else (3, 2, 2)[:rank]
    x = in_format(images(2, *grid, 2), data_format)
    same = {"padding": "same", "data_format": data_format}
    pooling = {
        "keras": lambda: getattr(keras.layers, f"AveragePooling{rank}D")(2, **same),
        "conv": lambda: getattr(keras.layers, f"Conv{rank}D")(3, 2, 2, **same),
        "ours": lambda: MaxPooling(3, strides=2, data_format=data_format),
    }.get(pooling, lambda: pooling)()
    block = cae.EncoderBlock(3, pooling=pooling, data_format=data_format)
    expected = in_format(np.empty((2, *halves, 3)), data_format).shape
    assert block(x).shape == expected
    assert block.compute_output_shape(x.shape) == expected
    symbolic = block(keras.Input(x.shape[1:]))
    assert symbolic.shape[1:] == expected[1:]


def unpoolings(rank, data_format):
    upsampling = getattr(keras.layers, f"UpSampling{rank}D")
    # UpSampling1D has no data format.
    settings = {"data_format": data_format} if rank > 1 else {}
    return {
        "linear": "linear",
        "nearest": "nearest",
        "transposed": "transposed",
        "none": None,
        "ours": AverageUnpooling(2, data_format=data_format),
        "keras": upsampling(size=2, **settings),
    }


@pytest.mark.parametrize(("rank", "data_format"), RANKS_AND_FORMATS)
@pytest.mark.parametrize("unpooling", unpoolings(2, None))
def test_decoder_block_gives_the_grid_of_like(unpooling, rank, data_format):
    grid, finer = (4, 3, 2)[:rank], (7, 5, 4)[:rank]
    x = in_format(images(2, *grid, 2), data_format)
    image = in_format(np.zeros((2, *finer, 1), "float32"), data_format)
    expected = in_format(np.empty((2, *finer, 3)), data_format).shape
    unpooling = unpoolings(rank, data_format)[unpooling]
    block = cae.DecoderBlock(3, unpooling=unpooling, data_format=data_format)
    assert block(x, like=image).shape == expected
    for like in (finer, keras.Input(image.shape[1:])):
        assert block(keras.Input(x.shape[1:]), like=like).shape[1:] == expected[1:]


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("unpooling", unpoolings(2, None))
def test_decoder_block_gives_a_fixed_output_size(unpooling, data_format):
    x = in_format(images(2, 4, 3, 2), data_format)
    expected = in_format(np.empty((2, 7, 5, 3)), data_format).shape
    block = cae.DecoderBlock(
        3,
        unpooling=unpoolings(2, data_format)[unpooling],
        output_size=(7, 5),
        data_format=data_format,
    )
    assert block(x).shape == expected
    assert block.compute_output_shape(x.shape) == expected
    assert block(keras.Input(x.shape[1:])).shape[1:] == expected[1:]


class EverySecond(keras.layers.Layer):
    """A pooling of somebody else that has nothing but a `call`."""

    def call(self, x):
        return x[:, ::2, ::2]


class Twice(keras.layers.Layer):
    """An unpooling of somebody else that has nothing but a `call`."""

    def call(self, x):
        return keras.ops.repeat(keras.ops.repeat(x, 2, axis=1), 2, axis=2)


def test_layers_of_your_own_need_only_a_call():
    x = images(2, 7, 10, 3)
    pooled = cae.EncoderBlock(4, pooling=EverySecond())(x)
    assert pooled.shape == (2, 4, 5, 4)
    for like in (None, x):
        block = cae.DecoderBlock(3, unpooling=Twice())
        grid = (8, 10) if like is None else (7, 10)
        assert block(pooled, like=like).shape == (2, *grid, 3)
    block = cae.DecoderBlock(3, unpooling=Twice(), output_size=(7, 9))
    assert block(pooled).shape == (2, 7, 9, 3)
    maps = cae.EncoderBlock(4, pooling=EverySecond())(keras.Input((7, 10, 3)))
    block = cae.DecoderBlock(3, unpooling=Twice())
    assert block(maps, like=keras.Input((7, 10, 3))).shape == (None, 7, 10, 3)


def test_upsampling_of_keras_is_cut_as_ours_is():
    x, image = images(2, 4, 3, 2), np.zeros((2, 7, 5, 1))
    ours = cae.DecoderBlock(3)
    theirs = cae.DecoderBlock(3, unpooling=keras.layers.UpSampling2D(2))
    y = outputs(ours, x, like=image)
    theirs(x, like=image)
    theirs.set_weights(ours.get_weights())
    np.testing.assert_allclose(outputs(theirs, x, like=image), y, atol=1e-6)


def test_switches_go_to_the_unpooling():
    x = images(2, 7, 10, 3)
    pooled, switches = MaxPooling(2, return_switches=True)(x)
    block = cae.DecoderBlock(3, activation=None, unpooling=MaxUnpooling(2))
    y = outputs(block, pooled, switches=switches, like=x)
    maps = MaxUnpooling(2)(pooled, switches=switches, like=x)
    conv = block.layers[1]
    np.testing.assert_allclose(y, outputs(conv, maps), atol=1e-6)


def test_encoder_block_returns_the_switches_of_its_pooling():
    x = images(2, 7, 10, 3)
    block = cae.EncoderBlock(4, pooling=MaxPooling(2, return_switches=True))
    pooled, switches = map(keras.ops.convert_to_numpy, block(x))
    maps = cae.EncoderBlock(4, pooling=None)
    maps.build(x.shape)
    maps.set_weights(block.get_weights())
    expected = MaxPooling(2, return_switches=True)(outputs(maps, x))
    np.testing.assert_allclose(pooled, expected[0], atol=1e-6)
    np.testing.assert_array_equal(switches, expected[1])
    specs = block(keras.Input((7, 10, 3)))
    assert [spec.shape for spec in specs] == [(None, 4, 5, 4)] * 2
    assert [spec.dtype for spec in specs] == ["float32", "int32"]
    shapes = block.compute_output_shape((None, 7, 10, 3))
    assert tuple(map(tuple, shapes)) == ((None, 4, 5, 4),) * 2


def test_activation_with_weights_of_every_cell_fits_an_output_size():
    block = cae.DecoderBlock(2, activation=keras.layers.PReLU(), output_size=7)
    assert block(images(1, 4, 4, 3)).shape == (1, 7, 7, 2)


# The parts of a block


def test_parts_are_listed_in_their_order():
    settings = {"convs": 2, "norm": "batch", "dropout": 0.1}
    encoder = cae.EncoderBlock(4, residual=True, **settings)
    decoder = cae.DecoderBlock(4, **settings)
    encoder.build((None, 7, 7, 1))
    decoder.build((None, 7, 7, 1))
    stages = [
        f"{part}_{number}"
        for number in (1, 2)
        for part in ("conv", "norm", "activation", "dropout")
    ]
    assert [part.name for part in encoder.layers] == ["shortcut", *stages, "pooling"]
    assert [part.name for part in decoder.layers] == ["unpooling", *stages]
    assert all(part.built for part in (*encoder.layers, *decoder.layers))


def test_summary_shows_the_parts():
    image = keras.Input((28, 28, 1))
    x = cae.EncoderBlock(4, norm="batch")(image)
    model = keras.Model(image, cae.DecoderBlock(2, unpooling="transposed")(x))
    lines = []
    model.summary(expand_nested=True, print_fn=lines.append, line_length=120)
    text = "\n".join(map(str, lines))
    for part in ("conv_1", "norm_1", "activation_1", "pooling", "unpooling"):
        assert part in text


def test_weights_are_counted_once():
    block = cae.EncoderBlock(
        3,
        convs=2,
        norm=keras.layers.BatchNormalization(),
        activation=keras.layers.PReLU(shared_axes=[1, 2]),
        pooling=StridedConv(2),
    )
    block.build((None, 7, 7, 2))
    # Twice a convolution with its bias, a norm and an activation; then the pooling.
    assert len(block.weights) == 2 * (2 + 4 + 1) + 2
    assert len({id(w) for w in block.weights}) == len(block.weights)


def test_layers_given_are_copied_for_further_convolutions():
    norm, activation = keras.layers.LayerNormalization(), keras.layers.LeakyReLU(0.3)
    block = cae.EncoderBlock(3, convs=2, norm=norm, activation=activation)
    block.build((None, 7, 7, 2))
    norms = [p for p in block.layers if isinstance(p, keras.layers.LayerNormalization)]
    leaky = [p for p in block.layers if isinstance(p, keras.layers.LeakyReLU)]
    assert norms[0] is not norms[1]
    assert [part.negative_slope for part in leaky] == [0.3, 0.3]
    assert len({part.name for part in block.layers}) == len(block.layers)


@pytest.mark.parametrize(
    "block", [cae.EncoderBlock(4), cae.DecoderBlock(4)], ids=["encoder", "decoder"]
)
def test_config_names_every_argument(block):
    names = set(inspect.signature(type(block).__init__).parameters)
    assert names - {"self", "kwargs"} <= set(block.get_config())


# In models of others

VARIANTS = {
    "plain": {},
    "norm": {"convs": 2, "norm": "batch", "dropout": 0.2},
    "group": {"norm": "group", "residual": True, "kernel_size": (1, 3)},
    "layers": {
        "convs": 2,
        "norm": keras.layers.LayerNormalization(),
        "activation": keras.layers.PReLU(shared_axes=[1, 2]),
    },
    "linear": {"activation": None, "norm": "instance"},
}
POOLINGS = {
    "average": "average",
    "strided": "strided",
    "none": None,
    "ours": AveragePooling(3, strides=2),
    "keras": keras.layers.MaxPooling2D(2),
    "sequential": keras.Sequential(
        [keras.layers.MaxPooling2D(2), keras.layers.Conv2D(3, 1)]
    ),
}
UNPOOLINGS = {
    "linear": "linear",
    "transposed": "transposed",
    "none": None,
    "ours": TransposedConv(3, strides=2),
    "keras": keras.layers.UpSampling2D(2),
}


def fresh(settings):
    """The settings with layers of their own, of the dtype that is the setting now."""

    def copied(value):
        if not isinstance(value, keras.layers.Layer):
            return value
        config = value.get_config()
        return type(value).from_config({k: config[k] for k in config if k != "dtype"})

    return {key: copied(value) for key, value in settings.items()}


@pytest.mark.parametrize("pooling", POOLINGS)
def test_encoder_block_reloads_with_any_pooling(pooling, tmp_path):
    block = cae.EncoderBlock(3, **fresh({"pooling": POOLINGS[pooling]}))
    model, x = shuffled_weights(classifier(block)), images(4, 7, 10, 2)
    again = reloaded(model, tmp_path)
    np.testing.assert_allclose(outputs(again, x), outputs(model, x), atol=1e-6)


@pytest.mark.parametrize("unpooling", UNPOOLINGS)
def test_decoder_block_reloads_with_any_unpooling(unpooling, tmp_path):
    maps, image = keras.Input((4, 5, 3)), keras.Input((7, 10, 1))
    block = cae.DecoderBlock(2, **fresh({"unpooling": UNPOOLINGS[unpooling]}))
    model = shuffled_weights(keras.Model([maps, image], block(maps, like=image)))
    x = [images(4, 4, 5, 3), np.zeros((4, 7, 10, 1))]
    again = reloaded(model, tmp_path)
    np.testing.assert_allclose(outputs(again, x), outputs(model, x), atol=1e-6)


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
def test_encoder_block_trains_and_reloads(settings, tmp_path):
    blocks = cae.EncoderBlock(3, **fresh(settings)), cae.EncoderBlock(2)
    model = shuffled_weights(classifier(*blocks))
    x = images(4, 7, 10, 2)
    trained(model, x, np.ones((4, 3)))
    again = reloaded(model, tmp_path)
    np.testing.assert_allclose(outputs(again, x), outputs(model, x), atol=1e-6)


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
def test_decoder_block_trains_and_reloads(settings, tmp_path):
    maps, image = keras.Input((4, 5, 3)), keras.Input((7, 10, 1))
    y = cae.DecoderBlock(2, **fresh(settings))(maps, like=image)
    y = cae.DecoderBlock(2, output_size=(13, 20))(y)
    model = shuffled_weights(keras.Model([maps, image], y))
    x = [images(4, 4, 5, 3), np.zeros((4, 7, 10, 1))]
    trained(model, x, np.zeros((4, 13, 20, 2)))
    again = reloaded(model, tmp_path)
    np.testing.assert_allclose(outputs(again, x), outputs(model, x), atol=1e-6)


@keras.saving.register_keras_serializable(package="keras_cae_tests")
class Subclassed(keras.Model):
    """A model of somebody else that holds blocks in attributes and in a list."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first = cae.EncoderBlock(3, norm="batch")
        self.rest = [cae.EncoderBlock(4, pooling=None) for _ in range(2)]
        self.last = cae.DecoderBlock(2, unpooling="transposed")

    def call(self, x, training=None):
        y = self.first(x)
        for block in self.rest:
            y = block(y)
        return self.last(y, like=x)


def test_blocks_work_in_a_subclassed_model(tmp_path):
    model, x = Subclassed(), images(4, 7, 10, 2)
    model(x)
    shuffled_weights(model)
    trained(model, x, x)
    again = reloaded(model, tmp_path)
    np.testing.assert_allclose(outputs(again, x), outputs(model, x), atol=1e-6)


def test_shared_block_has_one_set_of_weights(tmp_path):
    block = cae.EncoderBlock(3, norm="batch")
    left, right = keras.Input((7, 10, 2)), keras.Input((5, 4, 2))
    pool = keras.layers.GlobalAveragePooling2D()
    y = pool(block(left)) - pool(block(right))
    model = shuffled_weights(keras.Model([left, right], y))
    assert len(model.weights) == len(block.weights)
    x = [images(4, 7, 10, 2), images(4, 5, 4, 2)]
    apart = [outputs(block, part).mean((1, 2)) for part in x]
    np.testing.assert_allclose(outputs(model, x), apart[0] - apart[1], atol=1e-5)
    again = reloaded(trained(model, x, np.ones((4, 3))), tmp_path)
    np.testing.assert_allclose(outputs(again, x), outputs(model, x), atol=1e-6)


def test_blocks_share_a_layer_without_weights(tmp_path):
    pooling, activation = AveragePooling(2), keras.layers.LeakyReLU(0.1)
    blocks = [
        cae.EncoderBlock(count, pooling=pooling, activation=activation)
        for count in (3, 2)
    ]
    model, x = shuffled_weights(classifier(*blocks)), images(4, 7, 10, 2)
    again = reloaded(model, tmp_path)
    np.testing.assert_allclose(outputs(again, x), outputs(model, x), atol=1e-6)


def test_blocks_given_one_norm_reload(tmp_path):
    norm = keras.layers.BatchNormalization()
    blocks = [cae.EncoderBlock(3, norm=norm), cae.EncoderBlock(3, norm=norm)]
    model, x = shuffled_weights(classifier(*blocks)), images(4, 7, 10, 2)
    again = reloaded(model, tmp_path)
    np.testing.assert_allclose(outputs(again, x), outputs(model, x), atol=1e-6)


def test_blocks_work_in_nested_models(tmp_path):
    x = images(4, 7, 10, 2)
    image = keras.Input((None, None, 2))
    inner = keras.Model(image, cae.EncoderBlock(3, pooling="strided")(image))
    deeper = keras.Sequential([inner, cae.EncoderBlock(4, norm="layer")])
    y = cae.DecoderBlock(2, size=4)(deeper(image), like=image)
    model = shuffled_weights(keras.Model(image, y))
    trained(model, x, x)
    again = reloaded(model, tmp_path)
    np.testing.assert_allclose(outputs(again, x), outputs(model, x), atol=1e-6)


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
def test_clones_have_weights_of_their_own(settings):
    image = keras.Input((7, 10, 2))
    maps = cae.EncoderBlock(3, pooling="strided", **fresh(settings))(image)
    y = cae.DecoderBlock(2, unpooling="transposed", **fresh(settings))(maps, like=image)
    model = shuffled_weights(keras.Model(image, y))
    x = images(4, 7, 10, 2)
    expected = outputs(model, x)
    clone = keras.models.clone_model(model)
    assert not {id(w) for w in clone.weights} & {id(w) for w in model.weights}
    clone.set_weights(model.get_weights())
    np.testing.assert_allclose(outputs(clone, x), expected, atol=1e-6)
    shuffled_weights(clone).set_weights([w * 2 for w in clone.get_weights()])
    np.testing.assert_array_equal(outputs(model, x), expected)


def frozen_by_attribute(**settings):
    block = cae.EncoderBlock(3, **settings)
    block.build((None, 7, 10, 2))
    block.trainable = False
    return block


def frozen_before_building(**settings):
    block = cae.EncoderBlock(3, **settings)
    block.trainable = False
    return block


def frozen_by_argument(**settings):
    return cae.EncoderBlock(3, trainable=False, **settings)


def assert_frozen(model):
    block = model.layers[0]
    before = [np.array(w) for w in block.get_weights()]
    trained(model, images(4, 7, 10, 2), np.ones((4, 3)))
    assert block.trainable_weights == []
    for old, new in zip(before, block.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize(
    "frozen", [frozen_by_attribute, frozen_before_building, frozen_by_argument]
)
def test_frozen_block_keeps_all_its_numbers(frozen):
    assert_frozen(classifier(frozen(convs=2, norm="batch", pooling="strided")))


def test_frozen_block_stays_frozen_when_reloaded(tmp_path):
    assert_frozen(reloaded(classifier(frozen_by_attribute(norm="batch")), tmp_path))


def test_frozen_decoder_block_keeps_all_its_numbers():
    image = keras.Input((7, 10, 2))
    maps = cae.EncoderBlock(3)(image)
    block = cae.DecoderBlock(2, unpooling="transposed", norm="batch", trainable=False)
    model = keras.Model(image, block(maps, like=image))
    before = [np.array(w) for w in block.get_weights()]
    x = images(4, 7, 10, 2)
    trained(model, x, x)
    for old, new in zip(before, block.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_thawed_block_learns_again():
    block = frozen_by_argument(norm="batch")
    model = classifier(block)
    block.trainable = True
    before = [np.array(w) for w in block.get_weights()]
    trained(model, images(4, 7, 10, 2), np.ones((4, 3)))
    for old, new in zip(before, block.get_weights(), strict=True):
        assert np.abs(old - new).max() > 0


@pytest.fixture
def mixed_float16():
    keras.config.set_dtype_policy("mixed_float16")
    yield
    keras.config.set_dtype_policy("float32")


def test_blocks_train_in_half_precision(mixed_float16, tmp_path):
    settings = VARIANTS["layers"] | {"residual": True, "dropout": 0.2}
    image = keras.Input((7, 10, 2))
    maps = cae.EncoderBlock(3, **fresh(settings))(image)
    y = cae.DecoderBlock(2, **fresh(settings))(maps, like=image)
    assert maps.dtype == y.dtype == "float16"
    model = keras.Model(image, y)
    x = images(4, 7, 10, 2)
    trained(model, x, x, steps=8)  # the first ones find the scale of the loss
    assert {w.dtype for w in model.trainable_weights} == {"float32"}
    again = reloaded(model, tmp_path)
    np.testing.assert_allclose(outputs(again, x), outputs(model, x), atol=1e-3)
    assert outputs(model, x).dtype == "float16"


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("residual", [False, True])
def test_one_block_in_half_precision_takes_layers_of_full(settings, residual):
    settings = fresh(settings) | {"residual": residual}
    x = images(2, 4, 5, 3)
    block = cae.DecoderBlock(2, dtype="mixed_float16", **settings)
    y = block(x, like=(7, 10))
    assert keras.backend.standardize_dtype(y.dtype) == "float16"
    assert block(keras.Input((4, 5, 3))).dtype == "float16"


def pair_of_blocks(data_format, norm, pool_size=3):
    image = keras.Input(in_format(np.empty((1, 7, 10, 2)), data_format).shape[1:])
    settings = {"norm": norm, "data_format": data_format}
    windows = {"pool_size": pool_size, "strides": 2, "data_format": data_format}
    pooling = MaxPooling(**windows, return_switches=True)
    maps, switches = cae.EncoderBlock(3, pooling=pooling, **settings)(image)
    unpooling = MaxUnpooling(**windows)
    block = cae.DecoderBlock(2, unpooling=unpooling, residual=True, **settings)
    y = block(maps, switches=switches, like=image)
    return shuffled_weights(keras.Model(image, y))


@pytest.mark.parametrize("norm", [None, *NORMS])
def test_channels_first_equals_channels_last(norm):
    skip_where_keras_is_wrong(norm, "channels_first")
    first = pair_of_blocks("channels_first", norm)
    last = pair_of_blocks("channels_last", norm)
    x = images(4, 7, 10, 2)
    np.testing.assert_allclose(
        outputs(first, in_format(x, "channels_first")),
        in_format(outputs(last, x), "channels_first"),
        atol=1e-5,
    )


@pytest.mark.skipif(not JIT, reason="this backend has no compiler of its own")
def test_channels_first_trains_compiled_as_channels_last_does_plain():
    first = pair_of_blocks("channels_first", "batch", pool_size=2)
    last = pair_of_blocks("channels_last", "batch", pool_size=2)
    x = images(4, 7, 10, 2)
    trained(last, x, x, jit_compile=False)
    x = in_format(x, "channels_first")
    trained(first, x, x, jit_compile=True)
    for ours, theirs in zip(first.get_weights(), last.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize("pooling", ["average", "max", "strided"])
def test_unknown_sizes_compute_what_known_sizes_do(pooling):
    def model(grid):
        image = keras.Input((*grid, 2))
        maps = cae.EncoderBlock(3, pooling=pooling, pool_size=3, norm="group")(image)
        return keras.Model(image, cae.DecoderBlock(2, size=3)(maps, like=image))

    free = shuffled_weights(model((None, None)))
    for grid in ((1, 1), (7, 10), (2, 13)):
        known = model(grid)
        known.set_weights(free.get_weights())
        x = images(3, *grid, 2)
        np.testing.assert_allclose(outputs(free, x), outputs(known, x), atol=1e-5)


# The journeys


def test_blocks_make_a_classifier_in_a_sequential():
    model = keras.Sequential(
        [
            keras.Input((24, 32, 3)),
            cae.EncoderBlock(4),
            cae.EncoderBlock(8, pooling="average"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(10),
        ]
    )
    assert [layer.output.shape for layer in model.layers[:2]] == [
        (None, 12, 16, 4),
        (None, 6, 8, 8),
    ]
    trained(model, images(4, 24, 32, 3), np.ones((4, 10)))


def test_switches_are_wired_by_hand(tmp_path):
    x = keras.Input((None, None, 1))
    pooled, switches = cae.EncoderBlock(4, pooling=MaxPooling(2, return_switches=True))(
        x
    )
    y = cae.DecoderBlock(1, unpooling=MaxUnpooling(2))(
        pooled, switches=switches, like=x
    )
    assert y.shape == (None, None, None, 1)
    model = shuffled_weights(keras.Model(x, y))
    again = reloaded(model, tmp_path)
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    for grid in ((1, 1), (7, 10), (13, 2)):
        image = images(2, *grid, 1)
        assert outputs(model, image).shape == image.shape
        for other in (again, clone):
            np.testing.assert_allclose(
                outputs(other, image), outputs(model, image), atol=1e-6
            )
    trained(model, images(4, 7, 7, 1), images(4, 7, 7, 1))


# What a block refuses


@pytest.mark.parametrize("block", [cae.EncoderBlock, cae.DecoderBlock])
@pytest.mark.parametrize(
    ("argument", "value", "rule"),
    [
        ("filters", 0, "`filters` must be a positive int"),
        ("filters", True, "Received: filters=True"),
        ("filters", 2.5, r"Received: filters=2\.5"),
        ("convs", 0, "`convs` must be a positive int"),
        ("kernel_size", 0, "`kernel_size` must be a positive int"),
        ("kernel_size", (3, 3, 3, 3), "one for each spatial axis"),
        ("norm", "bacth", "`norm` must be one of.*Did you mean 'batch'"),
        ("norm", keras.layers.BatchNormalization, "`norm` must be"),
        ("activation", "rellu", "`activation` must be a Keras activation"),
        ("activation", 3, "Received: activation=3"),
        ("activation", keras.layers.ReLU, "`activation` must be"),
        ("dropout", 1.0, r"`dropout` must be a number in \[0, 1\)"),
        ("dropout", -0.1, r"Received: dropout=-0\.1"),
        ("dropout", True, "Received: dropout=True"),
        ("dropout", float("nan"), "Received: dropout=nan"),
        ("residual", 1, "`residual` must be a bool"),
        ("data_format", "last", "`data_format` must be one of"),
    ],
)
def test_refuses_an_argument_that_breaks_its_rule(block, argument, value, rule):
    with pytest.raises(ValueError, match=rule):
        block(**({"filters": 4} | {argument: value}))


@pytest.mark.parametrize(
    ("block", "settings", "rule"),
    [
        (cae.EncoderBlock, {"pooling": "maxx"}, "`pooling` must be.*mean 'max'"),
        (cae.EncoderBlock, {"pooling": 2}, "`pooling` must be"),
        (cae.EncoderBlock, {"pooling": MaxPooling}, "`pooling` must be"),
        (cae.EncoderBlock, {"pool_size": 0}, "`pool_size` must be a positive int"),
        (cae.DecoderBlock, {"unpooling": "max"}, "`unpooling` must be one of"),
        (cae.DecoderBlock, {"unpooling": "partner"}, "needs to know the pooling"),
        (cae.DecoderBlock, {"unpooling": Upsampling}, "`unpooling` must be"),
        (cae.DecoderBlock, {"size": 0}, "`size` must be a positive int"),
        (cae.DecoderBlock, {"output_size": 0}, "`output_size` must be a positive int"),
        (cae.DecoderBlock, {"output_size": (7, 7.0)}, "`output_size` must be"),
    ],
)
def test_refuses_a_change_of_grid_that_breaks_its_rule(block, settings, rule):
    with pytest.raises(ValueError, match=rule):
        block(4, **settings)


@pytest.mark.parametrize(
    ("block", "settings"),
    [
        (cae.EncoderBlock, {"pooling": MaxPooling(2)}),
        (cae.EncoderBlock, {"pooling": keras.layers.MaxPooling2D(2)}),
        (cae.DecoderBlock, {"unpooling": Upsampling(2)}),
        (cae.DecoderBlock, {"unpooling": keras.layers.UpSampling2D(2)}),
    ],
)
def test_refuses_a_layer_of_another_data_format(block, settings):
    with pytest.raises(ValueError, match="data_format"):
        block(4, data_format="channels_first", **settings)


@pytest.mark.parametrize("block", [cae.EncoderBlock, cae.DecoderBlock])
def test_refuses_an_input_that_breaks_its_rule(block):
    with pytest.raises(ValueError, match="must have 3, 4 or 5 axes"):
        block(4)(np.zeros((1, 7)))
    with pytest.raises(ValueError, match="must have a known number of channels"):
        block(4)(keras.Input((7, 7, None)))
    with pytest.raises(ValueError, match="`kernel_size` must have one entry for each"):
        block(4, kernel_size=(3, 3))(np.zeros((1, 7, 2)))


def test_refuses_entries_for_other_axes():
    x = np.zeros((1, 7, 2))
    with pytest.raises(ValueError, match="`pool_size` must have one entry for each"):
        cae.EncoderBlock(4, pool_size=(2, 2))(x)
    with pytest.raises(ValueError, match="`size` must have one entry for each"):
        cae.DecoderBlock(4, size=(2, 2))(x)
    with pytest.raises(ValueError, match="`output_size` must have one entry for each"):
        cae.DecoderBlock(4, output_size=(7, 7))(x)


def test_refuses_like_beside_an_output_size():
    with pytest.raises(ValueError, match="`like` must not be given to a block with"):
        cae.DecoderBlock(4, output_size=7)(np.zeros((1, 4, 4, 2)), like=(7, 7))


@pytest.mark.parametrize(
    "unpooling", ["nearest", "transposed", keras.layers.UpSampling2D(2), None]
)
def test_refuses_switches_that_nobody_takes(unpooling):
    x = np.zeros((1, 4, 4, 2))
    with pytest.raises(ValueError, match="`switches` must only be given to"):
        cae.DecoderBlock(4, unpooling=unpooling)(x, switches=np.zeros(x.shape, "int32"))


def test_refuses_to_unpool_without_switches():
    with pytest.raises(ValueError, match="`switches` must be given"):
        cae.DecoderBlock(4, unpooling=MaxUnpooling(2))(np.zeros((1, 4, 4, 2)))
    with pytest.raises(ValueError, match="`switches` must have the shape"):
        cae.DecoderBlock(4, unpooling=MaxUnpooling(2))(
            np.zeros((1, 4, 4, 2)), switches=np.zeros((1, 4, 4, 3), "int32")
        )


@pytest.mark.parametrize("unpooling", ["nearest", "transposed", None])
@pytest.mark.parametrize("like", [(7,), (7, 7, 2), (0, 7), "77"])
def test_refuses_a_like_that_is_no_grid(like, unpooling):
    with pytest.raises(ValueError, match="`like` must"):
        cae.DecoderBlock(4, unpooling=unpooling)(np.zeros((1, 4, 4, 2)), like=like)


def test_refuses_an_output_size_too_small_by_its_name():
    with pytest.raises(ValueError, match="`output_size`"):
        cae.DecoderBlock(4, output_size=3)(np.zeros((1, 4, 4, 2)))
