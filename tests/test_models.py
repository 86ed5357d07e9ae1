import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_cae as cae
from keras_cae.layers import AveragePooling, MaxPooling, pairs

# Every pooling with every way back that this package offers for it.
POOLINGS = sorted(pairs.POOLINGS)
UNPOOLINGS = (*pairs.UNPOOLINGS, "partner")


def images(*shape, seed=0):
    return np.random.default_rng(seed).uniform(size=shape).astype("float32")


def outputs(model, x):
    return keras.ops.convert_to_numpy(model(x, training=False))


def reloaded(model, folder):
    path = folder / "model.keras"
    model.save(path)
    return keras.saving.load_model(path, safe_mode=True)


def shuffled_weights(model):
    """Weights that no initializer gives, so that a lost one shows."""
    rng = np.random.default_rng(1)
    for weight in model.weights:
        low, high = (0.5, 2) if "variance" in weight.path else (-0.4, 0.4)
        weight.assign(rng.uniform(low, high, size=weight.shape))
    return model


@st.composite
def autoencoders(draw):
    rank = draw(st.integers(1, 3))
    top = {1: 65, 2: 21, 3: 7}[rank]
    grid = tuple(draw(st.integers(1, top)) for _ in range(rank))
    data_format = draw(st.sampled_from(("channels_last", "channels_first")))
    known = draw(st.booleans())
    shape = grid if known else (None,) * rank
    pooling = draw(st.sampled_from(POOLINGS))
    settings = {
        "filters": draw(st.sampled_from(((2,), (2, 3), (2, 1, 2)))),
        "pooling": pooling,
        "unpooling": draw(st.sampled_from(UNPOOLINGS)),
        "pool_size": 2 if pooling == "haar" else draw(st.integers(1, 4)),
        "kernel_size": draw(st.integers(1, 3)),
        "data_format": data_format,
    }
    if data_format == "channels_first":
        return (2, *shape), settings, (2, 2, *grid)
    return (*shape, 2), settings, (2, *grid, 2)


@settings(max_examples=60)
@given(autoencoders())
def test_output_has_the_grid_of_the_input(case):
    input_shape, settings, shape = case
    model = cae.autoencoder(input_shape, **settings)
    assert outputs(model, images(*shape)).shape == shape


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("unpooling", UNPOOLINGS)
def test_unknown_sizes_compute_what_fixed_sizes_do(pooling, unpooling):
    settings = {"filters": (3, 4), "pooling": pooling, "unpooling": unpooling}
    settings["pool_size"] = 2 if pooling == "haar" else 3
    free = cae.autoencoder((None, None, 2), **settings)
    shuffled_weights(free)
    for size in ((1, 2), (7, 10)):
        fixed = cae.autoencoder((*size, 2), **settings)
        fixed.set_weights(free.get_weights())
        x = images(2, *size, 2)
        y = outputs(free, x)
        assert y.std() > 1e-3
        np.testing.assert_allclose(y, outputs(fixed, x), atol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {"latent": 5},
        {"latent": 5, "unpooling": "partner", "norm": "batch"},
        {"latent": keras.layers.Conv2D(3, 1, name="code")},
        {"norm": keras.layers.LayerNormalization(), "residual": True, "convs": 2},
        {"pooling": "strided", "unpooling": "transposed", "dropout": 0.5},
        {"pooling": AveragePooling(3, strides=2), "unpooling": "partner"},
    ],
    ids=str,
)
def test_reloads_with_its_parts(settings, tmp_path):
    model = cae.autoencoder((7, 10, 2), filters=(3, 4), **settings)
    shuffled_weights(model)
    x = images(3, 7, 10, 2)
    again = reloaded(model, tmp_path)
    assert isinstance(again, cae.Autoencoder)
    np.testing.assert_allclose(outputs(again, x), outputs(model, x), atol=1e-6)
    codes = again.encoder(x, training=False)
    np.testing.assert_allclose(
        outputs(again.decoder, codes), outputs(model, x), atol=1e-6
    )
    assert len(again.weights) == len(model.weights)


def test_parts_share_the_weights_of_the_whole(tmp_path):
    model = cae.autoencoder((7, 7, 1), filters=(2, 3), latent=4)
    parts = [*model.encoder.weights, *model.decoder.weights]
    assert {id(w) for w in parts} == {id(w) for w in model.weights}
    model.compile("sgd", "mse")
    x = images(4, 7, 7, 1)
    before = outputs(model.decoder, outputs(model.encoder, x))
    model.fit(x, x, verbose=0)
    after = outputs(model.decoder, outputs(model.encoder, x))
    assert np.abs(after - before).max() > 0
    np.testing.assert_allclose(after, outputs(model, x), atol=1e-6)


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_each_part_is_saved_trained_and_frozen_on_its_own(part, tmp_path):
    model = shuffled_weights(cae.autoencoder((7, 7, 1), filters=(2, 3), latent=4))
    alone = getattr(model, part)
    x = images(4, 7, 7, 1) if part == "encoder" else images(4, 4)
    again = reloaded(alone, tmp_path)
    np.testing.assert_allclose(outputs(again, x), outputs(alone, x), atol=1e-6)
    alone.compile("sgd", "mse")
    alone.fit(x, np.zeros_like(outputs(alone, x)), verbose=0)
    assert np.abs(outputs(again, x) - outputs(alone, x)).max() > 0

    alone.trainable = False
    kept = [np.array(w) for w in alone.get_weights()]
    model.compile("sgd", "mse")
    whole = images(4, 7, 7, 1)
    model.fit(whole, whole, verbose=0)
    for old, new in zip(kept, alone.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_encoder_pretrains_a_classifier():
    model = cae.autoencoder((8, 8, 1), filters=(2, 3))
    x = keras.layers.GlobalAveragePooling2D()(model.encoder.output)
    classifier = keras.Model(model.encoder.input, keras.layers.Dense(2)(x))
    shared = {id(w) for w in model.encoder.weights}
    assert shared < {id(w) for w in classifier.weights}


def test_switches_travel_from_encoder_to_decoder():
    model = cae.autoencoder((None, None, 1), filters=(2, 2, 2), unpooling="partner")
    codes = model.encoder(images(1, 13, 9, 1))
    assert sorted(codes) == ["latent", "switches_1", "switches_2", "switches_3"]
    assert codes["switches_1"].shape == (1, 7, 5, 2)
    assert model.decoder(codes).shape == (1, 14, 10, 1)


def test_stages_may_differ():
    blocks = [
        cae.EncoderBlock(4, pooling=MaxPooling(3, strides=2), activation="gelu"),
        cae.EncoderBlock(3, convs=2, residual=True, pooling=None),
        cae.EncoderBlock(2, pooling=keras.layers.AveragePooling2D(2), norm="group"),
    ]
    model = cae.autoencoder((11, 13, 3), blocks=blocks)
    assert outputs(model, images(2, 11, 13, 3)).shape == (2, 11, 13, 3)
    mirrored = [x for x in model.decoder.layers if isinstance(x, cae.DecoderBlock)]
    assert [block.filters for block in mirrored] == [3, 4, 4]
    assert [block.convs for block in mirrored] == [1, 2, 1]
    assert [block.norm for block in mirrored] == ["group", None, None]


def test_joins_models_of_other_layers():
    encoder = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]
    )
    z = keras.Input((3,))
    y = keras.layers.Reshape((8, 8, 1))(keras.layers.Dense(64)(z))
    model = cae.Autoencoder(encoder, keras.Model(z, y))
    assert outputs(model, images(2, 8, 8, 1)).shape == (2, 8, 8, 1)


def test_blocks_wired_by_hand_restore_unknown_sizes():
    x = keras.Input((None, None, 1))
    encoder = keras.Model(x, cae.EncoderBlock(2)(cae.EncoderBlock(3)(x)))
    z = keras.Input((None, None, 2))
    decoder = keras.Model(z, cae.DecoderBlock(1)(cae.DecoderBlock(3)(z)))
    model = cae.Autoencoder(encoder, decoder)
    assert outputs(model, images(1, 13, 7, 1)).shape == (1, 13, 7, 1)


def test_output_is_float32_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = cae.autoencoder((7, 7, 1), filters=(2, 3), latent=4)
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.encoder.output.dtype == "float16"
    assert outputs(model, images(2, 7, 7, 1)).dtype == "float32"


def test_trains_with_xla():
    model = cae.autoencoder((7, 9, 1), filters=(2, 3), unpooling="partner")
    model.compile("sgd", "mse", jit_compile=True)
    x = images(4, 7, 9, 1)
    assert np.isfinite(model.fit(x, x, verbose=0).history["loss"]).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_shape": (28,)}, "`input_shape` must have one to three"),
        ({"input_shape": (28, 28, None)}, "`input_shape` must have one to three"),
        ({"input_shape": 28}, "`input_shape` must have one to three"),
        ({"input_shape": (0, 28, 1)}, "`input_shape` must have one to three"),
        ({"filters": ()}, "`filters` must be a sequence"),
        ({"filters": 32}, "`filters` must be a sequence"),
        ({"filters": (32, 0)}, "`filters` must be a positive int"),
        ({"filters": (True,)}, "`filters` must be a positive int"),
        ({"latent": 0}, "`latent` must be a positive int"),
        ({"latent": 2.0}, "`latent` must be a positive int"),
        ({"latent": 4, "input_shape": (None, 8, 1)}, "`latent` as an int needs"),
        ({"pooling": "mean"}, "`pooling` must be one of"),
        ({"pooling": 3}, "`pooling` must be one of"),
        ({"unpooling": "nearst"}, "Did you mean 'nearest'"),
        ({"pool_size": (2, 2, 2)}, "`pool_size` must have one entry"),
        ({"pool_size": True}, "`pool_size` must be a positive int"),
        ({"kernel_size": 2.5}, "`kernel_size` must be a positive int"),
        ({"convs": 0}, "`convs` must be a positive int"),
        ({"dropout": 1}, "`dropout` must be a number"),
        ({"norm": "bach"}, "Did you mean 'batch'"),
        ({"activation": "rely"}, "`activation` must be a Keras activation"),
        ({"output_activation": "rely"}, "`output_activation` must be"),
        ({"data_format": "last"}, "`data_format` must be one of"),
        ({"blocks": [keras.layers.Dense(2)]}, "`blocks` must be EncoderBlocks"),
        ({"blocks": []}, "`blocks` must be a sequence"),
        (
            {"pooling": MaxPooling(5, padding="valid"), "input_shape": (4, 4, 1)},
            "`pool_size` must not be larger than the grid",
        ),
        (
            {"pooling": MaxPooling(2), "unpooling": "partner"},
            "needs a max pooling that returns its switches",
        ),
    ],
    ids=str,
)
def test_refuses(arguments, message):
    arguments = {"input_shape": (8, 8, 1), "filters": (2,)} | arguments
    with pytest.raises(ValueError, match=message):
        cae.autoencoder(arguments.pop("input_shape"), **arguments)


def test_refuses_models_that_are_not_functional():
    with pytest.raises(ValueError, match="`encoder` must be a functional"):
        cae.Autoencoder(keras.Sequential([keras.layers.Dense(2)]), None)
    x = keras.Input((2,))
    with pytest.raises(ValueError, match="`decoder` must be a functional"):
        cae.Autoencoder(keras.Model(x, keras.layers.Dense(2)(x)), None)
