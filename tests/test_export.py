import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_cae as cae
from keras_cae import export
from keras_cae._norms import without_norms
from keras_cae.layers import pairs

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="SavedModels are TensorFlow's"
)

CASES = {
    "dense": {"input_shape": (7, 10, 1), "latent": 3},
    "unknown sizes": {"input_shape": (None, None, 2)},
    "switches": {"input_shape": (None, None, 1), "unpooling": "partner"},
    "volume": {"input_shape": (3, 5, 4, 1), "norm": "batch", "pooling": "average"},
}


def made(input_shape, **settings):
    model = cae.autoencoder(input_shape, filters=(2, 3), **settings)
    rng = np.random.default_rng(0)
    for weight in model.weights:
        low, high = (0.5, 2) if "variance" in weight.path else (-0.4, 0.4)
        weight.assign(rng.uniform(low, high, size=weight.shape))
    return model


def image_for(model, batch=3, size=7):
    shape = [batch, *(n or size for n in model.input.shape[1:])]
    return np.random.default_rng(1).uniform(size=shape).astype("float32")


@pytest.mark.parametrize("case", CASES)
def test_endpoints_equal_the_model(case, tmp_path):
    import tensorflow as tf

    model = made(**CASES[case])
    model.export(tmp_path / "1")
    served = tf.saved_model.load(str(tmp_path / "1"))
    assert {"serve", "encode", "decode", "reconstruct"} <= set(served.signatures)
    for batch, size in ((1, 7), (5, 13)):
        image = image_for(model, batch, size)
        want = np.asarray(model(image))
        assert want.shape == image.shape
        assert want.std() > 0.01
        for endpoint in (served.serve, served.reconstruct):
            got = endpoint(image)["reconstruction"]
            np.testing.assert_allclose(got, want, atol=1e-5)
        codes = served.encode(image)
        own = model.encoder(image)
        own = own if isinstance(own, dict) else {"latent": own}
        assert sorted(codes) == sorted(own)
        for name, code in codes.items():
            np.testing.assert_allclose(code, own[name], atol=1e-5)
        own = own if len(own) > 1 else own["latent"]
        np.testing.assert_allclose(
            served.decode(**codes)["reconstruction"], model.decoder(own), atol=1e-5
        )


def test_loads_in_a_process_without_keras_cae(tmp_path):
    model = made(**CASES["dense"])
    model.export(tmp_path / "1")
    image = image_for(model)
    np.save(tmp_path / "image.npy", image)
    script = (
        "import sys, numpy as np, tensorflow as tf\n"
        "m = tf.saved_model.load('1')\n"
        "f = m.signatures['reconstruct']\n"
        "y = f(image=tf.constant(np.load('image.npy')))['reconstruction']\n"
        "np.save('served.npy', y)\n"
        "assert 'keras_cae' not in sys.modules\n"
    )
    environment = {**os.environ, "PYTHONPATH": ""}
    subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, check=True, env=environment
    )
    served = np.load(tmp_path / "served.npy")
    np.testing.assert_allclose(served, np.asarray(model(image)), atol=1e-5)


def test_a_reloaded_model_exports(tmp_path):
    import tensorflow as tf

    model = made(**CASES["switches"])
    model.save(tmp_path / "model.keras")
    keras.saving.load_model(tmp_path / "model.keras").export(tmp_path / "1")
    served = tf.saved_model.load(str(tmp_path / "1"))
    image = image_for(model)
    np.testing.assert_allclose(
        served.serve(image)["reconstruction"], model(image), atol=1e-5
    )


def test_mixed_precision_serves_float32(tmp_path):
    import tensorflow as tf

    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = cae.autoencoder((7, 7, 1), filters=(2, 3), latent=2)
    finally:
        keras.config.set_dtype_policy("float32")
    model.export(tmp_path / "1")
    served = tf.saved_model.load(str(tmp_path / "1"))
    for endpoint in served.signatures.values():
        outputs = endpoint.structured_outputs
        assert {spec.dtype for spec in outputs.values()} == {tf.float32}


def test_an_existing_version_stays(tmp_path):
    model = made(**CASES["dense"])
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "kept").write_text("kept")
    with pytest.raises(FileExistsError, match="`path` must not exist"):
        model.export(tmp_path / "1")
    assert (tmp_path / "1" / "kept").read_text() == "kept"
    model.export(tmp_path / "1", overwrite=True)
    assert not (tmp_path / "1" / "kept").exists()
    assert (tmp_path / "1" / "saved_model.pb").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


@pytest.mark.parametrize("failing", ["_write", "_compare"])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_nothing_is_left_of_a_failed_export(failing, error, tmp_path, monkeypatch):
    whole = getattr(export, failing)

    def broken(*arguments):
        whole(*arguments)
        raise error

    monkeypatch.setattr(export, failing, broken)
    with pytest.raises(type(error)):
        made(**CASES["dense"]).export(tmp_path / "digits" / "1")
    assert not list((tmp_path / "digits").iterdir())


def test_outputs_that_differ_are_not_put_in_place(tmp_path, monkeypatch):
    model = made(**CASES["dense"])
    write = export._write

    def wrong(model, folder):
        model.set_weights([w + 1 for w in model.get_weights()])
        write(model, folder)

    monkeypatch.setattr(export, "_write", wrong)
    with pytest.raises(RuntimeError, match="does not give the outputs"):
        model.export(tmp_path / "1")
    assert not list(tmp_path.iterdir())


def test_what_does_not_run_is_not_put_in_place(tmp_path, monkeypatch):
    def broken(path, image):
        raise ValueError("no such operation")

    monkeypatch.setitem(export._RUNNERS, "tf_saved_model", broken)
    with pytest.raises(RuntimeError, match=r"does not run.*no such operation"):
        made(**CASES["dense"]).export(tmp_path / "1")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("format", "suffix", "package"),
    [("litert", "tflite", "ai_edge_litert"), ("onnx", "onnx", "onnxruntime")],
)
@pytest.mark.parametrize("pooling", sorted(pairs.POOLINGS))
@pytest.mark.slow
def test_other_formats_carry_every_pair(pooling, format, suffix, package, tmp_path):
    pytest.importorskip(package)
    model = made((7, 10, 2), pooling=pooling, unpooling="partner")
    path = tmp_path / f"model.{suffix}"
    model.export(path, format=format)
    image = image_for(model)
    want = np.asarray(model(image))
    assert want.std() > 0.01
    np.testing.assert_allclose(export._RUNNERS[format](path, image), want, atol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {"norm": "batch", "convs": 2, "residual": True},
        {"norm": keras.layers.BatchNormalization(scale=False, center=False)},
        {"norm": "batch", "activation": keras.layers.PReLU(shared_axes=[1, 2])},
        {"norm": "batch", "unpooling": "partner", "pooling": "strided"},
    ],
    ids=["residual", "as a layer, with a bias", "learned activation", "learned pair"],
)
def test_folded_norms_give_the_same_with_less(settings, tmp_path):
    import tensorflow as tf

    model = made((7, 10, 2), latent=3, **settings)
    model.export(tmp_path / "1", fold_norm=True)
    served = tf.saved_model.load(str(tmp_path / "1"))
    image = image_for(model)
    want = np.asarray(model(image))
    assert want.std() > 0.01
    got = served.serve(image)["reconstruction"]
    np.testing.assert_allclose(got, want, atol=1e-4)
    folded = without_norms(model)
    names = {layer.name for layer in folded._flatten_layers()}
    assert not any(name.startswith("norm") for name in names)
    assert folded.count_params() < model.count_params()


def test_other_norms_are_not_folded(tmp_path):
    model = made((7, 10, 2), norm="layer")
    model.export(tmp_path / "1", fold_norm=True)
    assert without_norms(model).count_params() == model.count_params()


def test_fold_norm_is_never_dropped_in_silence(tmp_path):
    with pytest.raises(ValueError, match="`fold_norm` go with the formats"):
        made((7, 10, 2)).export(tmp_path / "1", fold_norm=True, input_signature=None)


def test_refuses_fold_norm_that_is_no_bool(tmp_path):
    with pytest.raises(ValueError, match="`fold_norm` must be a bool"):
        made((7, 10, 2)).export(tmp_path / "1", fold_norm="yes")


@pytest.mark.parametrize(
    ("format", "suffix", "package"),
    [("litert", "tflite", "ai_edge_litert"), ("onnx", "onnx", "onnxruntime")],
)
@pytest.mark.parametrize("unpooling", sorted(pairs.UNPOOLINGS))
def test_other_formats_carry_every_unpooling(
    unpooling, format, suffix, package, tmp_path
):
    pytest.importorskip(package)
    model = made((7, 10, 2), unpooling=unpooling, norm="batch")
    path = tmp_path / f"model.{suffix}"
    model.export(path, format=format, fold_norm=True)
    image = image_for(model)
    want = np.asarray(model(image))
    assert want.std() > 0.01
    np.testing.assert_allclose(export._RUNNERS[format](path, image), want, atol=1e-4)


def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(export._PACKAGES, "onnx", ("no_such_package",))
    with pytest.raises(ImportError, match=r"keras_cae\[onnx\]"):
        made(**CASES["dense"]).export(tmp_path / "model.onnx", format="onnx")


def test_a_path_that_cannot_be_made_is_an_oserror(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        made(**CASES["dense"]).export(tmp_path / "file" / "1")


def test_versions_count_up(tmp_path):
    assert export.next_version(tmp_path / "digits").name == "1"
    for name in ("2", "10", "x", ".11"):
        (tmp_path / "digits" / name).mkdir(parents=True)
    assert export.next_version(tmp_path / "digits") == tmp_path / "digits" / "11"
