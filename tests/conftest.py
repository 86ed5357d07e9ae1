"""Settings of every test run. Which backend runs them, KERAS_BACKEND says."""

import os

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# The first example of a test often traces and compiles, so no example has a deadline.
# CI runs the same examples every time; a person's runs look for new ones.
common = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("keras_cae", max_examples=30, **common)
settings.register_profile("keras_cae_ci", derandomize=True, max_examples=100, **common)
settings.load_profile("keras_cae_ci" if os.environ.get("CI") else "keras_cae")


def pytest_report_header():
    import keras

    return f"keras {keras.__version__} on {keras.backend.backend()}"


@pytest.fixture(scope="session")
def digits_dir(tmp_path_factory):
    """A folder in which TFDS has prepared the digits."""
    from keras_cae import data

    folder = tmp_path_factory.mktemp("tfds")
    data.load("digits", "test", data_dir=folder)
    return folder
