import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_cae import data
from keras_cae.datasets import images, prepared

tf = pytest.importorskip("tensorflow")
tfds = pytest.importorskip("tensorflow_datasets")

ROOT = Path(__file__).parents[1]
REAL = ROOT.parent / "shared" / "data" / "tfds"
needs_mnist = pytest.mark.skipif(
    not (REAL / "mnist").is_dir(), reason="no prepared MNIST beside the checkout"
)
on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="Keras layers in tf.data need it"
)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def data_dir(digits_dir):
    return digits_dir


@pytest.fixture
def load(data_dir):
    def load(*args, **kwargs):
        return data.load(*args, **({"data_dir": data_dir} | kwargs))

    return load


def inputs(dataset):
    return np.concatenate([x for x, _ in dataset.as_numpy_iterator()])


def targets(dataset):
    return np.concatenate([y for _, y in dataset.as_numpy_iterator()])


def as_set(array):
    """What is there, in whatever order."""
    return sorted(x.tobytes() for x in array)


def define(name, features, examples):
    """Defines and so registers a small data set with one split, train."""

    def _info(self):
        feature = tfds.features.FeaturesDict(features)
        return tfds.core.DatasetInfo(builder=self, features=feature)

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        yield from enumerate(examples())

    methods = {f.__name__: f for f in (_info, _split_generators, _generate_examples)}
    about = {"name": name, "VERSION": tfds.core.Version("1.0.0"), "__module__": name}
    type(name, (tfds.core.GeneratorBasedBuilder,), methods | about)


def image(shape, **kwargs):
    return tfds.features.Image(shape=shape, **kwargs)


def never():
    raise AssertionError("was prepared before its features were checked")


def uneven():
    for side in (5, 8):
        yield {"photo": np.full((side, 2 * side, 3), 10 * side, "uint8")}


def deep():
    yield {
        "image": np.full((2, 2, 1), 65535, "uint16"),
        "mask": np.zeros((2, 2, 1), "u1"),
    }


define("cae_uneven", {"photo": image((None, None, 3))}, uneven)
define(
    "cae_deep",
    {"mask": image((2, 2, 1)), "image": image((2, 2, 1), dtype=np.uint16)},
    deep,
)
define("cae_text", {"text": tfds.features.Text()}, never)
define("cae_two", {"left": image((2, 2, 1)), "right": image((2, 2, 1))}, never)
define("cae_float", {"image": image((2, 2, 1), dtype=np.float32)}, never)
define("cae_channels", {"image": image((2, 2, None))}, never)
define("cae_sizes", {"image": image((None, None, 1))}, never)


# The embedded digits


def test_digits_hold_the_same_number_of_each_class(data_dir):
    for split, count in (("train", 600), ("test", 100)):
        examples = tfds.load("digits", split=split, data_dir=data_dir, batch_size=-1)
        assert np.bincount(examples["label"]).tolist() == [count] * 10
        assert examples["image"].shape == (10 * count, 28, 28, 1)
        assert examples["image"].dtype == "uint8"


def test_digits_have_the_means_they_were_drawn_with(load):
    means = [255 * targets(load("digits", split)).mean() for split in ("train", "test")]
    assert means == pytest.approx(
        [33.59512, 34.13497], abs=1e-3
    )  # MNIST: 33.318, 33.791


def test_digits_are_small_and_name_their_licence():
    folder = ROOT / "keras_cae" / "datasets" / "digits"
    assert (folder / "digits.npz").stat().st_size < 1_500_000
    assert "CC BY-SA 3.0" in (folder / "LICENSE").read_text()
    assert "LeCun" in (folder / "README.md").read_text()


@needs_mnist
def test_script_draws_the_embedded_digits_again():
    path = ROOT / "scripts" / "make_digits.py"
    spec = importlib.util.spec_from_file_location("make_digits", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    drawn = script.draw(REAL)
    with np.load(script.OUTPUT) as embedded:
        assert sorted(embedded) == sorted(drawn)
        for key in drawn:
            np.testing.assert_array_equal(embedded[key], drawn[key], strict=True)


def test_two_processes_prepare_digits_at_once(tmp_path):
    code = (
        "import socket, sys; del socket.getaddrinfo\n"
        "import keras_cae, keras_cae.data\n"
        "assert 'tensorflow_datasets' not in sys.modules\n"
        "print(len(keras_cae.data.load('digits', 'test', batch_size=1)))"
    )
    env = os.environ | {"TFDS_DATA_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, env=env, **pipes) for _ in range(2)]
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert out.split() == ["1000"], err
    assert [p.name for p in (tmp_path / "digits").iterdir()] == ["1.0.0"]


def test_digits_prepared_by_another_process_meanwhile_are_used(tmp_path, monkeypatch):
    from keras_cae.datasets.digits import Digits

    calls = []

    def slow(self, split):
        calls.append(split)
        if len(calls) == 1:
            data.load("digits", "test", data_dir=tmp_path)  # the faster one
        yield 0, {"image": np.zeros((28, 28, 1), "uint8"), "label": 0}

    monkeypatch.setattr(Digits, "_generate_examples", slow)
    assert len(data.load("digits", "test", data_dir=tmp_path)) == 1
    assert sorted(calls) == ["test", "test", "train", "train"]
    assert [p.name for p in (tmp_path / "digits").iterdir()] == ["1.0.0"]


def test_digits_that_appear_while_loading_are_read(data_dir, tmp_path, monkeypatch):
    find = prepared.find_builder
    found = [find("digits", tmp_path)]  # before anything is prepared
    shutil.copytree(data_dir / "digits", tmp_path / "digits")

    def first_as_before(*args):
        return found.pop() if found else find(*args)

    monkeypatch.setattr(prepared, "find_builder", first_as_before)
    builder = prepared.open_builder("digits", tmp_path)
    assert builder.info.splits["test"].num_examples == 1000


def test_failed_preparation_names_the_folder_and_leaves_nothing(tmp_path, monkeypatch):
    from keras_cae.datasets.digits import Digits

    def fail(self, split):
        yield 0, {"image": np.zeros((28, 28, 1), "uint8"), "label": 0}
        raise OSError("disk full")

    monkeypatch.setattr(Digits, "_generate_examples", fail)
    with pytest.raises(OSError, match=rf"{tmp_path}/digits/1\.0\.0: .*disk full"):
        data.load("digits", data_dir=tmp_path)
    assert not list((tmp_path / "digits").iterdir())


def test_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OSError, match=f"cannot be prepared in {tmp_path}/file/digits"):
        data.load("digits", data_dir=tmp_path / "file")


# Batches


def test_batches_are_pairs_of_unit_floats(load):
    test = load("digits", "test", batch_size=300)
    shapes = [(x.shape, y.shape) for x, y in test]
    assert shapes == [((n, 28, 28, 1),) * 2 for n in (300, 300, 300, 100)]
    for x, y in test:
        np.testing.assert_array_equal(x, y)
        assert x.dtype == y.dtype == "float32"
        assert (x.numpy().min(), x.numpy().max()) == (0, 1)


def test_last_batch_can_be_dropped(load):
    test = load("digits", "test", batch_size=300, drop_remainder=True)
    assert [len(x) for x, _ in test] == [300] * 3
    assert test.element_spec[0].shape == (300, 28, 28, 1)


def test_train_split_is_shuffled_anew_in_every_epoch_by_the_seed(load):
    train = load("digits")
    first, second = targets(train), targets(train)
    assert not np.array_equal(first, second)
    assert as_set(first) == as_set(second)
    again, other = load("digits"), load("digits", shuffle_seed=1)
    np.testing.assert_array_equal(targets(again), first)
    np.testing.assert_array_equal(targets(again), second)
    assert not np.array_equal(targets(other), first)


def test_without_a_seed_no_split_is_shuffled(load, data_dir):
    train = load("digits", shuffle_seed=None)
    stored = tfds.load("digits", split="train", data_dir=data_dir, batch_size=-1)
    for _ in range(2):
        np.testing.assert_array_equal(targets(train) * 255, stored["image"])


def test_other_splits_keep_their_order(load, data_dir):
    stored = tfds.load("digits", split="test", data_dir=data_dir, batch_size=-1)
    for seed in (0, 1):
        test = load("digits", "test", shuffle_seed=seed)
        for _ in range(2):
            np.testing.assert_array_equal(targets(test) * 255, stored["image"])


def test_part_of_a_split_is_a_split(load):
    part = load("digits", "train[:10%]", batch_size=600)
    first, second = targets(part), targets(part)
    assert len(first) == 600
    assert not np.array_equal(first, second)


def test_images_stay_bytes_until_the_batch(data_dir):
    builder = prepared.open_builder("digits", data_dir)
    feature = images.image_feature(builder)
    stored = images.read_images(builder, "test", feature, None)
    assert stored.element_spec == tf.TensorSpec((28, 28, 1), "uint8")


@pytest.mark.parametrize("seed", [0, None])
def test_data_larger_than_memory_is_streamed_in_the_same_batches(
    load, monkeypatch, seed
):
    split = "train[:1000]"
    kept = load("digits", split, shuffle_seed=seed)
    monkeypatch.setattr(images, "IN_MEMORY", 1000 * 28 * 28 - 1)
    monkeypatch.setattr(images, "SHUFFLED", 300 * 28 * 28)
    streamed, again = (load("digits", split, shuffle_seed=seed) for _ in range(2))
    assert len(streamed) == len(kept)
    first, second = targets(streamed), targets(streamed)
    assert np.array_equal(first, second) == (seed is None)
    assert as_set(first) == as_set(targets(kept))
    np.testing.assert_array_equal(targets(again), first)
    np.testing.assert_array_equal(targets(again), second)


def test_model_is_trained_on_it(load):
    model = keras.Sequential([keras.layers.Conv2D(1, 3, padding="same")])
    model.compile("sgd", "mse")
    test = load("digits", "test[:200]", corrupt=0.1)
    history = model.fit(test, validation_data=test, epochs=2, verbose=0).history
    assert history["loss"][1] < history["loss"][0]


# Corruption


def test_noise_has_the_standard_deviation_and_stays_in_range(load):
    noisy, clean = next(iter(load("digits", "test", batch_size=1000, corrupt=0.25)))
    np.testing.assert_array_equal(clean, targets(load("digits", "test")))
    noise, inside = (noisy - clean).numpy(), (clean > 0.4) & (clean < 0.6)
    assert noisy.numpy().min() == 0
    assert noisy.numpy().max() == 1
    assert noise[(clean == 0) & (noise > 0)].std() == pytest.approx(0.151, abs=0.003)
    assert noise[inside].mean() == pytest.approx(0, abs=0.01)
    assert np.abs(noise[inside]).mean() == pytest.approx(0.199, abs=0.01)


def test_noise_differs_between_images_and_batches(load):
    test = load("digits", "test[:256]", corrupt=0.1)
    borders = [noisy[:, 0].numpy() for noisy, _ in test]  # there all images are black
    assert not np.array_equal(borders[0][0], borders[0][1])
    assert not np.array_equal(borders[0], borders[1])


@pytest.mark.parametrize(("split", "same"), [("train[:300]", False), ("test", True)])
def test_noise_is_new_in_every_epoch_of_training_only(load, split, same):
    noisy = load("digits", split, corrupt=0.1, batch_size=64, shuffle_seed=None)
    assert np.array_equal(inputs(noisy), inputs(noisy)) == same


@pytest.mark.parametrize("split", ["train[:300]", "test"])
def test_noise_is_reproduced_by_the_seed(load, split):
    one, same, other = (
        load("digits", split, corrupt=0.1, shuffle_seed=seed) for seed in (3, 3, 4)
    )
    for _ in range(2):
        epoch = inputs(one)
        np.testing.assert_array_equal(inputs(same), epoch)
        assert not np.array_equal(inputs(other), epoch)


def test_function_makes_the_input(load):
    def negative(batch):
        return 1 - batch

    for x, y in load("digits", "test[:200]", corrupt=negative):
        np.testing.assert_allclose(x, 1 - y)


def test_function_that_takes_training_gets_true(load):
    def zero(batch, training=False):
        return batch * 0 if training else batch

    assert inputs(load("digits", "test[:9]", corrupt=zero)).max() == 0


def test_function_without_static_shape_keeps_the_shape(load):
    def flip(batch):
        return tf.numpy_function(
            lambda x: x[:, ::-1].astype("float64"), [batch], "double"
        )

    flipped = load("digits", "test[:9]", corrupt=flip)
    assert flipped.element_spec[0] == tf.TensorSpec((None, 28, 28, 1), "float32")
    for x, y in flipped:
        np.testing.assert_array_equal(x, y[:, ::-1])


@on_tensorflow
def test_layer_corrupts_as_in_training_and_by_its_own_seed(load):
    def epoch():
        layer = keras.layers.GaussianNoise(0.1, seed=7)
        return inputs(load("digits", "test", corrupt=layer))

    first = epoch()
    assert not np.array_equal(first, targets(load("digits", "test")))
    np.testing.assert_array_equal(epoch(), first)


@on_tensorflow
def test_unbuilt_layers_and_models_corrupt(load):
    layer = keras.layers.Conv2D(
        1, 1, kernel_initializer="ones", bias_initializer="ones"
    )
    for corrupt in (layer, keras.Sequential([layer])):
        for x, y in load("digits", "test[:9]", corrupt=corrupt):
            np.testing.assert_allclose(x, y + 1)


def test_corrupt_must_keep_the_shape(load):
    def crop(batch):
        return batch[:, 1:]

    with pytest.raises(ValueError, match=r"`corrupt` must return .*27, 28, 1.*crop"):
        load("digits", "test", corrupt=crop)


# Other data sets


@needs_mnist
def test_prepared_data_sets_of_tfds_load_by_name():
    test = data.load("mnist", "test", data_dir=REAL)
    assert targets(test).mean() * 255 == pytest.approx(33.791, abs=1e-3)
    assert len(test) == 79


def test_prepared_data_need_no_builder_code(load, data_dir, tmp_path):
    adopt(data_dir, tmp_path, "orphan")
    found = data.load("orphan", "test", data_dir=tmp_path)
    np.testing.assert_array_equal(targets(found), targets(load("digits", "test")))


def test_images_that_differ_in_size_are_resized(load):
    small = load("cae_uneven", image_size=(4, 6), shuffle_seed=None)
    assert small.element_spec[0].shape == (None, 4, 6, 3)
    values = sorted(np.unique(np.round(targets(small) * 255)))
    assert values == [50, 80]


def test_resizing_is_antialiased(load):
    quarter = load("digits", "test", image_size=(7, 7))
    means = targets(load("digits", "test")).mean((1, 2, 3))
    np.testing.assert_allclose(targets(quarter).mean((1, 2, 3)), means, atol=0.01)


def test_feature_called_image_is_taken_and_scaled_by_its_type(load):
    assert targets(load("cae_deep")).tolist() == np.ones((1, 2, 2, 1)).tolist()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cae_text", r"one image feature.*cae_text.*Text"),
        ("cae_two", r"one image feature.*cae_two.*left.*right"),
        ("cae_float", r"unsigned integers.*cae_float.*float32"),
        ("cae_channels", r"known channels.*cae_channels"),
        ("cae_sizes", r"`image_size` must be given.*cae_sizes.*None"),
    ],
)
def test_unfit_features_are_refused_before_any_download(load, name, message):
    with pytest.raises(ValueError, match=message):
        load(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("digit", "'digit'.*Near matches: digits"),
        ("mnsit", "'mnsit'.*Near matches: .*mnist"),
        ("xqzw", r"'xqzw', data_dir=.*\.$"),
        ("mnist/no", "'mnist/no'.*BuilderConfig no not found"),
        ("mnist:9.9.9", "'mnist:9.9.9'.*only: 3.0.1"),
        ("two words", "'two words'.*format"),
    ],
)
def test_unknown_names_get_near_matches_or_the_reason(load, name, message):
    with pytest.raises(ValueError, match=rf"(?s)`name` must be .*{message}"):
        load(name)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("name", ""),
        ("name", None),
        ("split", ""),
        ("split", ["train"]),
        ("split", "tset"),
        ("split", "test[:0]"),
        ("split", "test[9:5]"),
        ("split", "test[:2000]"),
        ("batch_size", 0),
        ("batch_size", 2.0),
        ("batch_size", True),
        ("corrupt", 0),
        ("corrupt", -0.1),
        ("corrupt", True),
        ("corrupt", float("nan")),
        ("corrupt", float("inf")),
        ("corrupt", "noise"),
        ("shuffle_seed", -1),
        ("shuffle_seed", 1.5),
        ("shuffle_seed", True),
        ("shuffle_seed", 2**63),
        ("data_dir", 3),
        ("image_size", 28),
        ("image_size", (28,)),
        ("image_size", (28, 0)),
        ("image_size", (28, 2.5)),
        ("drop_remainder", 1),
    ],
)
def test_bad_arguments_are_named_with_rule_and_value(load, argument, value):
    received = re.escape(f"Received: {argument}={value!r}")
    with pytest.raises(ValueError, match=f"^`{argument}` must .*{received}"):
        load(**{argument: value})


def test_unknown_split_lists_the_splits(load):
    with pytest.raises(ValueError, match=r"\['train', 'test'\].*split='tset'"):
        load("digits", "tset")


@pytest.mark.parametrize(
    ("module", "extra"),
    [
        ("tensorflow", "tensorflow"),
        ("tensorflow_datasets", "tfds"),
        ("importlib_resources", "tfds"),
    ],
)
def test_missing_package_names_the_extra(load, monkeypatch, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        ImportError, match=rf'{module}.*pip install "keras_cae\[{extra}\]'
    ):
        load("digits")


def test_package_broken_in_any_way_names_the_extra(load, monkeypatch):
    def fail(module):
        raise RuntimeError("protobuf is too old")

    monkeypatch.setattr(prepared.importlib, "import_module", fail)
    with pytest.raises(ImportError, match=r"protobuf is too old.*pip install"):
        load("digits")


# Damaged files


def adopt(data_dir, folder, name):
    """Copies the prepared digits under a name for which there is no builder."""
    target = folder / name / "1.0.0"
    shutil.copytree(data_dir / "digits" / "1.0.0", target)
    for path in target.iterdir():
        path.rename(target / path.name.replace("digits", name))
    info = json.loads((target / "dataset_info.json").read_text())
    (target / "dataset_info.json").write_text(json.dumps(info | {"name": name}))
    return target


def shorten(path):
    os.truncate(path, path.stat().st_size - 1)


def empty(path):
    path.write_text("")


def cut(path):
    path.write_text(path.read_text()[:40])


def blank(path):
    path.write_text("{}")


def flip(path):
    content = bytearray(path.read_bytes())
    content[1000] ^= 255
    path.write_bytes(content)


def remove(path):
    path.unlink()


SHARD = "{name}-test.tfrecord-00000-of-00001"
DAMAGES = [
    (SHARD, shorten),
    (SHARD, empty),
    (SHARD, flip),
    (SHARD, remove),
    ("dataset_info.json", cut),
    ("dataset_info.json", blank),
    ("dataset_info.json", remove),
    ("features.json", cut),
]


@pytest.mark.parametrize("name", ["digits", "orphan"])
@pytest.mark.parametrize(("file", "damage"), DAMAGES)
def test_damage_is_reported_with_folder_and_remedy(
    data_dir, tmp_path, name, file, damage
):
    folder = adopt(data_dir, tmp_path, name)
    damage(folder / file.format(name=name))
    with pytest.raises(
        (OSError, ValueError), match=r"(?s)damaged.* [dD]elete"
    ) as caught:
        data.load(name, "test", data_dir=tmp_path)
    assert f"{tmp_path}/{name}" in str(caught.value)


@pytest.mark.parametrize("bytes_of", ["examples", "files", "nothing"])
def test_every_way_of_tfds_to_count_bytes_is_accepted(data_dir, tmp_path, bytes_of):
    folder = adopt(data_dir, tmp_path, "orphan")
    info = json.loads((folder / "dataset_info.json").read_text())
    for split in info["splits"]:
        count = int(split["numBytes"]), 16 * int(split["shardLengths"][0])
        sizes = {"examples": count[0], "files": sum(count), "nothing": 0}
        split["numBytes"] = str(sizes[bytes_of])
    (folder / "dataset_info.json").write_text(json.dumps(info))
    assert len(data.load("orphan", "test", data_dir=tmp_path)) == 8


def test_data_of_old_tfds_without_features_file_load_by_their_builder(
    data_dir, tmp_path
):
    remove(adopt(data_dir, tmp_path, "digits") / "features.json")
    assert len(data.load("digits", "test", data_dir=tmp_path)) == 8


def test_wrong_config_beside_good_data_gives_no_advice_to_delete(load):
    with pytest.raises(ValueError, match="digits/no") as caught:
        load("digits/no")
    assert "elete" not in str(caught.value)
