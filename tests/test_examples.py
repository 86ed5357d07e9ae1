import importlib.util
from pathlib import Path

import keras
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the examples load data by tf.data"
)


def main_of(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch, digits_dir):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(digits_dir))


def test_train_digits():
    assert 0 < main_of("train_digits")(epochs=1, out="out", filters=(2, 2)) < 0.3
    assert Path("out/savedmodels/1/saved_model.pb").exists()


def test_classify_digits():
    assert main_of("classify_digits")(epochs=1, images=64) > 0


def test_denoise_digits():
    from PIL import Image

    assert main_of("denoise_digits")(epochs=1, filters=(2, 2)) > 0
    with Image.open("denoised.png") as picture:
        assert picture.size == (280, 84)


def test_compare_pooling():
    from PIL import Image

    pairs = [("max", "partner"), ("haar", "nearest")]
    rows = main_of("compare_pooling")(1, "out", filters=(2, 2), pairs=pairs)
    assert [row.split("|")[1].strip() for row in rows[2:]] == ["max", "haar"]
    with Image.open("out/pooling.png") as picture:
        assert picture.width > 1000


def test_every_example_is_run_and_short():
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    assert all(f"test_{name}" in globals() for name in names)
    for name in names:
        assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) < 100
