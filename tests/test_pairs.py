import keras
import numpy as np
import pytest
from hypothesis import given
from oracles import cases, many

from keras_cae import layers
from keras_cae.layers import pairs

POOLINGS = (layers.AveragePooling, layers.MaxPooling, layers.StridedConv)
SETTINGS = {"pool_size": 3, "strides": (2, 1), "padding": "valid"}


def with_switches(pooling):
    return {"return_switches": True} if pooling is layers.MaxPooling else {}


def there_and_back(case, pooling, unpooling, x):
    pooled, given = case.run(pooling, x), {}
    if isinstance(pooled, tuple):
        pooled, given["switches"] = pooled
    return case.run(unpooling, pooled, like=x, **given)


@pytest.mark.parametrize("pooling", POOLINGS)
@many(40)
@given(case=cases(ranks=(1, 2)))
def test_partner_restores_every_grid(pooling, case):
    x = case.numbers()
    layer = pooling(**case.settings, **with_switches(pooling))
    assert there_and_back(case, layer, pairs.partner_of(layer), x).shape == x.shape


@pytest.mark.parametrize("pooling", POOLINGS)
def test_partner_has_the_settings_of_its_pooling(pooling):
    layer = pooling(
        **SETTINGS,
        data_format="channels_first",
        dtype="float64",
        **with_switches(pooling),
    )
    partner = pairs.partner_of(layer)
    ours, theirs = layer.get_config(), partner.get_config()
    for key in (*SETTINGS, "data_format", "dtype"):
        assert theirs[key] == ours[key]
    assert partner.name != layer.name
    assert partner is not pairs.partner_of(layer)


def test_every_pooling_has_a_partner():
    for pooling in pairs.POOLINGS.values():
        partner = pairs.partner_of(pooling(2, **with_switches(pooling)))
        assert type(partner).__name__ in layers.__all__


def test_partner_of_stands_where_its_errors_say():
    assert layers.partner_of is pairs.partner_of


@pytest.mark.parametrize("value", [keras.layers.Dense(2), layers.Upsampling(2), "max"])
def test_refuses_a_partner_of_what_has_none(value):
    with pytest.raises(ValueError, match="`pooling` must be a layer with a partner"):
        pairs.partner_of(value)


@pytest.mark.parametrize("name", ["average", "max", "strided"])
def test_names_give_poolings_of_that_window(name):
    layer = pairs.pooling_named(name, (3, 2), name="p", data_format="channels_first")
    assert (layer.pool_size, layer.strides, layer.name) == ((3, 2), None, "p")
    assert layer(np.zeros((1, 4, 7, 5))).shape == (1, 4, 3, 3)


@pytest.mark.parametrize("name", ["linear", "nearest", "transposed"])
def test_names_give_unpoolings_of_that_factor(name):
    layer = pairs.unpooling_named(name, (3, 2), name="u", data_format="channels_first")
    assert layer.name == "u"
    assert layer(np.zeros((1, 4, 7, 5))).shape == (1, 4, 21, 10)
    if name != "transposed":
        assert layer.interpolation == name


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (pairs.pooling_named, "`pooling` must be one of .*Did you mean 'max'"),
        (pairs.unpooling_named, r"`unpooling` must be one of \['linear', 'nearest'"),
    ],
)
def test_refuses_an_unknown_name(make, rule):
    with pytest.raises(ValueError, match=rule):
        make("maxx", 2)


def test_refuses_partner_where_no_pooling_is_known():
    with pytest.raises(ValueError, match=r'`unpooling="partner"` needs to know'):
        pairs.unpooling_named("partner", 2)


@pytest.mark.parametrize(
    ("layer", "factor"),
    [
        (layers.MaxPooling(3), 3),
        (layers.MaxPooling(3, strides=2), 2),
        (layers.StridedConv((3, 2), strides=(2, 1)), (2, 1)),
        (keras.layers.MaxPooling2D(3, strides=2), (2, 2)),
        (keras.layers.AveragePooling1D(3), (3,)),
        (keras.layers.Conv2D(4, 3, strides=2), (2, 2)),
    ],
)
def test_factor_is_the_step_of_a_pooling(layer, factor):
    got = pairs.factor_of(layer)
    assert np.all(np.asarray(got) == np.asarray(factor))
    pairs.unpooling_named("nearest", got)


def test_refuses_a_factor_of_what_has_none():
    with pytest.raises(ValueError, match="`pooling` must be a layer with `strides`"):
        pairs.factor_of(keras.layers.Dense(2))
