"""Every public layer and every pair through the kit: a case is a line."""

import inspect

import keras
import numpy as np
import pytest

import keras_cae as cae
from keras_cae import layers
from keras_cae.layers.pairs import POOLINGS
from keras_cae.testing import check_layer, check_pair


def maps(*grid, channels=3):
    """Two samples with negative numbers, and a third of zeros."""
    random = np.random.default_rng(0)
    values = random.normal(size=(2, *grid, channels))
    return (values * random.integers(0, 3, values.shape).clip(max=1)).astype("float32")


def first(x):
    """Channels first."""
    return np.moveaxis(x, -1, 1)


SEQUENCE, IMAGE, VOLUME = maps(7), maps(7, 10), maps(3, 4, 5, channels=2)
HALF, THIRD = maps(4, 5), maps(3, 4)  # what windows of 2 and 3 make of the image
POSITIVE = np.abs(IMAGE)
# Windows of 3 by 2, and all else that pools and unpools have, off its default.
OTHER = {"strides": 2, "padding": "valid", "data_format": "channels_first"}
TILES = {"strides": 3, "padding": "valid", "data_format": "channels_first"}
BANDS = TILES | {"strides": (2, 2)}
LEARNED = {"filters": 4, "use_bias": False, "kernel_initializer": "he_normal"}


def switches(shape, below):
    return np.random.default_rng(0).integers(0, below, shape, "int32")


# A layer, its inputs, and the promises that it does not make.
CASES = [
    (layers.AveragePooling(), IMAGE),
    (layers.AveragePooling(3, **OTHER), first(IMAGE)),
    (layers.AveragePooling(3, 2), SEQUENCE),
    (layers.AverageUnpooling(), HALF),
    (layers.AverageUnpooling((3, 2)), {"x": maps(3, 5), "like": IMAGE}),
    (layers.AverageUnpooling(3, **OTHER), {"x": first(THIRD), "like": first(IMAGE)}),
    (layers.BlurPooling(), IMAGE),
    (layers.BlurPooling(3, **OTHER, filter_size=4, border="edge"), first(IMAGE)),
    (layers.BlurPooling(3, 2, filter_size=5, border="zero"), SEQUENCE),
    (layers.BlurUnpooling(), {"x": HALF, "like": IMAGE}),
    (layers.BlurUnpooling(3, **OTHER, filter_size=4), first(HALF)),
    (layers.DepthToSpace(), {"x": maps(4, 5, channels=12), "like": IMAGE}),
    (layers.DepthToSpace(3, **TILES), first(maps(2, 3, channels=18))),
    (layers.GatedPooling(), IMAGE),
    (
        layers.GatedPooling(3, **OTHER, per_channel=True, kernel_initializer="normal"),
        first(IMAGE),
    ),
    (layers.HaarPooling(), SEQUENCE),
    (layers.HaarPooling((2, 2), **BANDS), first(IMAGE)),
    (layers.HaarUnpooling(), {"x": maps(4, channels=6), "like": SEQUENCE}),
    (layers.HaarUnpooling((2, 2), **BANDS), first(maps(3, 5, channels=12))),
    (layers.LpPooling(), IMAGE),
    (layers.LpPooling(3, **OTHER, p=3.5, learn_p=True), first(IMAGE)),
    (layers.LpPooling(p=1), SEQUENCE),
    (layers.MaxBlurPooling(), IMAGE),
    (layers.MaxBlurPooling(3, **OTHER, filter_size=2, border="edge"), first(IMAGE)),
    (layers.MaxPooling(), VOLUME),
    (layers.MaxPooling(3, **OTHER, return_switches=True), first(IMAGE)),
    (layers.MaxPooling(3, 2, return_switches=True), SEQUENCE),
    (layers.MaxUnpooling(), {"x": HALF, "switches": switches(HALF.shape, 4)}),
    (
        layers.MaxUnpooling(3, **OTHER),
        {
            "x": first(THIRD),
            "switches": switches((2, 3, 3, 4), 9),
            "like": first(IMAGE),
        },
    ),
    (layers.MixedPooling(), IMAGE),
    (layers.MixedPooling(3, **OTHER, mix=0.3, per_channel=True), first(IMAGE)),
    (layers.SoftPooling(), IMAGE),
    (layers.SoftPooling(3, **OTHER), first(IMAGE)),
    (layers.SpaceToDepth(), IMAGE),
    (layers.SpaceToDepth(3, **TILES), first(IMAGE)),
    (layers.StochasticPooling(), IMAGE),
    (layers.StochasticPooling(3, **OTHER, seed=7), first(IMAGE)),
    (layers.StridedConv(), IMAGE),
    (layers.StridedConv(3, **OTHER, **LEARNED), first(IMAGE)),
    (layers.StridedConv(3, 2), VOLUME),
    (layers.SubpixelConv(), {"x": HALF, "like": IMAGE}),
    (
        layers.SubpixelConv(
            **LEARNED, kernel_size=2, size=3, data_format="channels_first"
        ),
        first(HALF),
    ),
    (layers.TransposedConv(), {"x": HALF, "like": IMAGE}),
    (layers.TransposedConv(3, **OTHER, **LEARNED), first(THIRD)),
    (layers.TransposedConv(3, 2), maps(4)),
    (layers.Upsampling(), {"x": HALF, "like": IMAGE}),
    (layers.Upsampling(3, "linear", "channels_first"), first(HALF)),
    (layers.Upsampling(2, "linear"), {"x": maps(4), "like": SEQUENCE}),
    (layers.UpsamplingConv(4), HALF),
    (layers.UpsamplingConv(4), {"x": HALF, "like": IMAGE}),
    (
        layers.UpsamplingConv(
            **LEARNED,
            kernel_size=2,
            size=3,
            interpolation="linear",
            data_format="channels_first",
        ),
        first(HALF),
    ),
    # As many channels as columns: nothing may take the one axis for the other.
    *(
        (kind(filters=6, data_format="channels_first"), first(maps(*grid)))
        for kind, grid in (
            (layers.StridedConv, (4, 12)),
            (layers.SubpixelConv, (4, 3)),
            (layers.TransposedConv, (4, 3)),
            (layers.UpsamplingConv, (4, 3)),
            (cae.DecoderBlock, (4, 3)),
        )
    ),
    (cae.EncoderBlock(4), IMAGE),
    (
        cae.EncoderBlock(
            4,
            convs=2,
            kernel_size=2,
            norm="batch",
            activation="elu",
            dropout=0.2,
            residual=True,
            pooling=layers.MaxPooling(3, **OTHER, return_switches=True),
            pool_size=3,
            data_format="channels_first",
        ),
        first(SEQUENCE),
    ),
    (
        cae.EncoderBlock(
            3,
            norm=keras.layers.LayerNormalization(),
            activation=keras.layers.PReLU(shared_axes=[1, 2]),
            pooling=keras.layers.AveragePooling2D(2),
        ),
        IMAGE,
        "data format",  # the given layers are for channels last
    ),
    (cae.EncoderBlock(4, norm="group", pooling=None), SEQUENCE),
    (cae.DecoderBlock(4), {"x": HALF, "like": IMAGE}),
    (
        cae.DecoderBlock(
            4,
            convs=2,
            kernel_size=2,
            norm="instance",
            activation="elu",
            dropout=0.2,
            residual=True,
            unpooling=layers.MaxUnpooling(data_format="channels_first"),
            size=3,
            output_size=7,
            data_format="channels_first",
        ),
        {"x": first(maps(4)), "switches": switches((2, 3, 4), 2)},
    ),
    (cae.DecoderBlock(4, unpooling="linear", output_size=(7, 10)), HALF),
]


def shared_kernel(pool_size, strides):
    """A strided convolution and its adjoint: one kernel, no bias."""
    pooling = layers.StridedConv(pool_size, strides, use_bias=False)
    unpooling = layers.TransposedConv(pool_size, strides, use_bias=False)
    unpooling(pooling(IMAGE), like=IMAGE)
    unpooling.set_weights(pooling.get_weights())
    return pooling, unpooling


def with_partner(pooling):
    return pooling, layers.partner_of(pooling)


ADJOINT = {"adjoint": True}
LOSSLESS = {"lossless": True, "adjoint": True, "idempotent": True}
MIXING = {"mixes_channels": True}
IDEMPOTENT = {"idempotent": True}
PAIRS = [
    (*with_partner(layers.AveragePooling(2)), IMAGE, ADJOINT),
    (*with_partner(layers.AveragePooling(3, **OTHER)), first(IMAGE), ADJOINT),
    (*with_partner(layers.AveragePooling((2, 3), (1, 4))), IMAGE, ADJOINT),
    (*with_partner(keras.layers.AveragePooling2D(3, 2)), IMAGE, ADJOINT),
    (*with_partner(layers.BlurPooling(2)), IMAGE, {}),
    (*with_partner(layers.BlurPooling(3, filter_size=2, border="edge")), IMAGE, {}),
    (*with_partner(layers.GatedPooling(2, per_channel=True)), IMAGE, IDEMPOTENT),
    (*with_partner(layers.HaarPooling()), IMAGE, LOSSLESS),
    (*with_partner(layers.HaarPooling()), SEQUENCE, LOSSLESS),
    (*with_partner(layers.HaarPooling(padding="valid")), VOLUME, ADJOINT | IDEMPOTENT),
    (*with_partner(layers.LpPooling(2)), IMAGE, {}),
    (*with_partner(layers.MaxBlurPooling(2, border="edge")), IMAGE, {}),
    (*with_partner(layers.MaxPooling(2, return_switches=True)), POSITIVE, IDEMPOTENT),
    (
        *with_partner(layers.MaxPooling(3, **OTHER, return_switches=True)),
        first(POSITIVE),
        IDEMPOTENT,
    ),
    (*with_partner(layers.MixedPooling(3)), IMAGE, IDEMPOTENT),
    (*with_partner(layers.SoftPooling(2)), IMAGE, IDEMPOTENT),
    (*with_partner(layers.SpaceToDepth(3)), IMAGE, LOSSLESS),
    (*with_partner(layers.SpaceToDepth((2, 3))), IMAGE, LOSSLESS),
    (*with_partner(layers.StochasticPooling(2)), POSITIVE, IDEMPOTENT),
    (*shared_kernel(2, 2), IMAGE, ADJOINT | MIXING),
    (*shared_kernel(3, 2), IMAGE, ADJOINT | MIXING),
    (layers.StridedConv(2), layers.SubpixelConv(), IMAGE, MIXING),
    (layers.StridedConv(3), layers.UpsamplingConv(3, 3, 3), IMAGE, MIXING),
    (layers.MaxPooling(2), layers.Upsampling(2), IMAGE, IDEMPOTENT),
    (layers.MaxPooling(3), layers.Upsampling(3, "linear"), SEQUENCE, {}),
]


def named(value):
    return type(value).__name__ if isinstance(value, keras.layers.Layer) else ""


@pytest.mark.parametrize("case", CASES, ids=lambda case: type(case[0]).__name__)
def test_layer_keeps_its_promises(case):
    layer, inputs, *skip = case
    assert check_layer(layer, inputs, skip=skip)


@pytest.mark.parametrize(("pooling", "unpooling", "inputs", "laws"), PAIRS, ids=named)
def test_pair_obeys_its_laws(pooling, unpooling, inputs, laws):
    assert check_pair(pooling, unpooling, inputs, **laws)


PUBLIC = [
    kind
    for kind in (vars(layers) | vars(cae)).values()
    if inspect.isclass(kind)
    and issubclass(kind, keras.layers.Layer)
    and not issubclass(kind, keras.Model)
]


@pytest.mark.parametrize("kind", PUBLIC, ids=lambda kind: kind.__name__)
def test_public_layer_has_cases_with_each_argument_off_its_default(kind):
    configs = [layer.get_config() for layer, *_ in CASES if type(layer) is kind]
    assert configs, f"CASES has no {kind.__name__}"
    arguments = list(inspect.signature(kind).parameters.values())
    needed = [a.name for a in arguments if a.default is a.empty and a.name != "kwargs"]
    plain = kind(**{name: configs[0][name] for name in needed}).get_config()
    for name in {a.name for a in arguments} - {*needed, "kwargs"}:
        assert any(config[name] != plain[name] for config in configs), name


@pytest.mark.parametrize("name", POOLINGS)
def test_pooling_has_a_case_with_its_partner(name):
    assert any(type(pooling) is POOLINGS[name] for pooling, *_ in PAIRS)


@pytest.mark.parametrize("kind", PUBLIC, ids=lambda kind: kind.__name__)
def test_public_layer_can_be_loaded_by_name(kind):
    name = keras.saving.get_registered_name(kind)
    assert name == f"keras_cae>{kind.__name__}"
    assert keras.saving.get_registered_object(name) is kind
