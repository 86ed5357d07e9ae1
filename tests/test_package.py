"""What holds for the package as a whole: what importing it costs, sets and promises."""

import ast
import configparser
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import keras_cae

PACKAGE = Path(keras_cae.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
BACKENDS = ("tensorflow", "jax", "torch")

# Run in a fresh process: what is there after `import keras`, what after our import.
WATCH = """
import json, os, sys, warnings
from pathlib import Path
import keras

def state():
    roots = {name.partition(".")[0] for name in sys.modules}
    return {
        "packages": sorted(roots - set(sys.stdlib_module_names)),
        "files": sorted(str(path) for path in Path(os.environ["HOME"]).rglob("*")),
        "environment": dict(os.environ),
        "warning filters": [str(entry) for entry in warnings.filters],
        "settings": {
            "backend": keras.config.backend(),
            "dtype policy": keras.config.dtype_policy().name,
            "epsilon": keras.config.epsilon(),
            "floatx": keras.config.floatx(),
            "image data format": keras.config.image_data_format(),
            "traceback filtering": keras.config.is_traceback_filtering_enabled(),
            "interactive logging": keras.config.is_interactive_logging_enabled(),
        },
    }

before = state()
import keras_cae
print(json.dumps([before, state()]))
"""


def run_python(code, home, *flags, **environment):
    """Run code in a fresh process that lives in an empty folder of its own.

    It inherits next to nothing: what our import set here would hide what it sets there.
    """
    kept = {"PATH", "LD_LIBRARY_PATH", "KERAS_BACKEND"} & set(os.environ)
    given = {key: os.environ[key] for key in kept} | {
        "HOME": str(home),
        "TMPDIR": str(home),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": str(PACKAGE.parent),
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
    return subprocess.run(
        [sys.executable, *flags, "-c", code],
        cwd=home,
        env=given | environment,
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def states(tmp_path_factory):
    done = run_python(WATCH, tmp_path_factory.mktemp("home"))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_import_loads_no_package_but_itself(states):
    before, after = states
    assert set(after["packages"]) - set(before["packages"]) == {"keras_cae"}


@pytest.mark.parametrize("what", ["files", "environment", "warning filters"])
def test_import_leaves_the_process_and_the_disk_alone(states, what):
    before, after = states
    assert after[what] == before[what]


def test_import_sets_nothing_in_keras(states):
    before, after = states
    assert after["settings"] == before["settings"]


@pytest.fixture
def packages_without_backend(tmp_path):
    """A folder that holds this environment's packages, the backends left out."""
    folder = tmp_path / "packages"
    folder.mkdir()
    (folder / "keras_cae").symlink_to(PACKAGE)
    for place in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(place).iterdir():
            if not entry.name.startswith((*BACKENDS, "keras_cae")):
                (folder / entry.name).symlink_to(entry)
    return folder


@pytest.mark.parametrize("backend", [None, *BACKENDS])
def test_a_missing_backend_is_one_sentence_with_the_pip_line(
    packages_without_backend, tmp_path, backend
):
    home = tmp_path / "home"
    home.mkdir()
    done = run_python(
        "import keras_cae",
        home,
        "-S",
        PYTHONPATH=str(packages_without_backend),
        KERAS_BACKEND=backend or "",
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert re.match(r'ImportError: .*pip install "keras_cae\[tensorflow\]"', last)


def test_public_names():
    assert sorted(keras_cae.__all__) == [
        "Autoencoder",
        "DecoderBlock",
        "EncoderBlock",
        "autoencoder",
        "callbacks",
        "data",
        "export",
        "layers",
    ]
    assert all(hasattr(keras_cae, name) for name in keras_cae.__all__)


def test_version_is_that_of_setup_cfg():
    setup = configparser.ConfigParser()
    if not setup.read(PACKAGE.parent / "setup.cfg"):
        pytest.skip("only in a checkout")
    try:
        installed = importlib.metadata.version("keras_cae")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("only where keras_cae is installed")
    assert keras_cae.__version__ == installed == setup["metadata"]["version"]


def test_type_checkers_find_the_types():
    assert (PACKAGE / "py.typed").is_file()


@pytest.mark.parametrize(
    "path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_sources_raise_instead_of_asserting(path):
    asserts = [
        n.lineno
        for n in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(n, ast.Assert)
    ]
    assert not asserts


@pytest.mark.parametrize(
    "path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_sources_keep_to_public_keras(path):
    assert not re.search(
        r"\b(keras|tensorflow\.python)\.src\b", path.read_text("utf-8")
    )
