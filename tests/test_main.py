import contextlib
import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_cae import __main__ as command_line
from keras_cae import data

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="trains from tf.data, exports"
)


@pytest.fixture
def few_digits(monkeypatch):
    """Two small batches in place of the digits."""
    import tensorflow as tf

    images = np.random.default_rng(0).uniform(size=(8, 28, 28, 1)).astype("float32")

    def load(name, split, *, batch_size, **others):
        pairs = tf.data.Dataset.from_tensor_slices((images, images))
        return pairs.batch(batch_size)

    monkeypatch.setattr(data, "load", load)


def run(*options):
    tiny = ("--epochs", "1", "--filters", "2", "3", "--latent", "2")
    return command_line.main(["train", *tiny, *options])


def test_trains_and_leaves_all_it_names(few_digits, tmp_path, monkeypatch, capsys):
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    assert run() == 0
    said = capsys.readouterr().out.splitlines()[-5:]
    assert [line.split()[0] for line in said] == [
        "Test",
        "Picture",
        "Keras",
        "SavedModel",
        "TensorBoard",
    ]
    assert float(said[0].split()[2]) > 0
    with Image.open(said[1].split()[1]) as picture:
        assert np.all(np.array(picture.size) > (8 * 28 * 4, 2 * 28 * 4))
    assert keras.saving.load_model(said[2].split()[2]).name == "autoencoder"
    folder = Path(said[3].split()[1])
    assert folder == Path("savedmodels/digits/1")
    assert (folder / "saved_model.pb").exists()
    logs = said[4].split("--logdir ")[1].split()[0]
    assert list(Path(logs).rglob("feature_maps/events*"))
    assert list(Path(logs).rglob("validation/events*"))


def test_each_run_has_a_version_of_its_own(few_digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "savedmodels" / "digits" / "4").mkdir(parents=True)
    assert run("--unpooling", "partner", "--latent", "0") == 0
    assert (tmp_path / "savedmodels/digits/5/saved_model.pb").exists()
    assert (tmp_path / "runs/digits/5/reconstructions.png").exists()


def test_the_picture_shows_inputs_above_reconstructions(few_digits, tmp_path):
    from PIL import Image

    test = data.load("digits", "test", batch_size=8)

    class Model:
        def predict_on_batch(self, images):
            return 1 - images

    command_line._draw(Model(), test, tmp_path / "picture.png")
    with Image.open(tmp_path / "picture.png") as picture:
        pixels = np.asarray(picture)[..., 0]
    digit = np.round(255 * np.asarray(next(iter(test))[0])[0, :, :, 0])
    above = np.kron(digit, np.ones((4, 4))).astype("uint8")
    (top, left), (lower, beside) = place(above, pixels), place(255 - above, pixels)
    assert left == beside
    assert lower >= top + len(above)


def place(panel, pixels):
    """Where the only such panel lies, found by its middle row."""
    middle = len(panel) // 2
    rows = np.lib.stride_tricks.sliding_window_view(pixels, len(panel), axis=1)
    hits = np.argwhere((rows == panel[middle]).all(axis=-1)) - (middle, 0)
    found = [
        (top, left)
        for top, left in hits
        if np.array_equal(pixels[top:, left:][: len(panel), : len(panel)], panel)
    ]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--epochs", "0"], "`epochs` must be a positive int"),
        (["--batch-size", "-1"], "`batch_size` must be a positive int"),
        (["--filters", "0"], "`filters` must be a positive int"),
        (["--latent", "-3"], "`latent` must be a positive int"),
        (["--log-dir", __file__], "`log_dir` must be a folder"),
        (["--export", __file__], "`export` must be a folder"),
    ],
    ids=str,
)
def test_bad_options_are_one_clear_line(
    options, message, few_digits, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert run(*options) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not list(tmp_path.rglob("saved_model.pb"))


def test_an_unknown_pooling_names_the_known_ones(capsys):
    with pytest.raises(SystemExit, match="2"):
        run("--pooling", "mean")
    assert "average" in capsys.readouterr().err


@pytest.mark.slow
def test_ctrl_c_leaves_nothing_half_written(tmp_path):
    environment = {**os.environ, "TFDS_DATA_DIR": str(tmp_path / "tfds")}
    process = subprocess.Popen(
        [sys.executable, "-m", "keras_cae", "train", "--epochs", "50"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs the tests in the background has them ignore interrupts.
        preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    with contextlib.suppress(StopIteration):
        while "Epoch 1/" not in next(process.stdout):
            pass
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert errors.splitlines()[-1].startswith("keras-cae: interrupted")
    assert not (tmp_path / "savedmodels").exists()
