"""What was exported once keeps loading, without keras_cae."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

FOLDER = Path(__file__).parents[1] / "savedmodels" / "digits" / "1"
DIGITS = Path(__file__).parents[1] / "keras_cae" / "datasets" / "digits" / "digits.npz"

SCRIPT = """
import sys
import numpy as np
import tensorflow as tf
images = np.load(sys.argv[2])["test_images"] / np.float32(255)
model = tf.saved_model.load(sys.argv[1])
codes = model.signatures["encode"](image=tf.constant(images))
assert codes["latent"].shape == (1000, 16), codes
restored = model.signatures["decode"](**codes)["reconstruction"]
assert "keras_cae" not in sys.modules
print(np.mean((restored - images) ** 2))
"""


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="SavedModels are TensorFlow's"
)
def test_the_first_model_still_loads_and_restores_the_test_digits():
    command = [sys.executable, "-c", SCRIPT, str(FOLDER), str(DIGITS)]
    environment = {**os.environ, "PYTHONPATH": ""}
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert 0.005 < float(run.stdout.splitlines()[-1]) < 0.0095


def test_the_first_model_is_small():
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 2**20
