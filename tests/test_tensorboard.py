"""What the callbacks write, as a real TensorBoard serves it and a browser shows it."""

import contextlib
import io
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

import keras
import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

import keras_cae as cae
from keras_cae import callbacks
from keras_cae.page import write_page

IMAGES = np.random.default_rng(0).uniform(size=(20, 12, 12, 1)).astype("float32")
RUNS = {"feature_maps", "reconstructions", "latent_space"}
EPOCHS = 3
# What README.md advises; 0, which TensorBoard documents to mean all, shows no image.
OPTIONS = ("--samples_per_plugin", "images=1000")


@pytest.fixture(scope="module")
def log_dir(tmp_path_factory):
    """The events of all callbacks over a short training, and their page."""
    folder = tmp_path_factory.mktemp("runs")
    keras.utils.set_random_seed(0)
    model = cae.autoencoder((12, 12, 1), filters=(3, 4), latent=5)
    model.compile("adam", "mse")
    watching = [
        callbacks.PooledFeatureMaps(folder, IMAGES, max_time=None),
        callbacks.Reconstructions(folder, IMAGES, max_time=None),
        callbacks.LatentSpace(folder, IMAGES, range(20), max_time=None),
    ]
    model.fit(IMAGES, IMAGES, epochs=EPOCHS, verbose=0, callbacks=watching)
    write_page(folder, "A page", {}, EPOCHS - 1)
    return folder


@pytest.fixture(scope="module")
def written(log_dir):
    """All that was written: `{plugin: {(run, tag): [(step, value), ...]}}`."""
    found = {}
    for run in RUNS:
        events = EventAccumulator(str(log_dir / run), {"tensors": 0}).Reload()
        for tag in events.Tags()["tensors"]:
            plugin = events.summary_metadata[tag].plugin_data.plugin_name
            values = []
            for event in events.Tensors(tag):
                proto = event.tensor_proto
                images = plugin == "images"
                value = proto.string_val[2] if images else make_ndarray(proto)
                values.append((event.step, value))
            found.setdefault(plugin, {})[run, tag] = values
    return found


@pytest.fixture(scope="module")
def server(log_dir):
    """The address of a TensorBoard that has read all of it."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(log_dir)]
    command += ["--host", "127.0.0.1", "--port", "0", *OPTIONS]
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said)
        try:
            address = _wait(lambda: _address(process, said))
            _wait(lambda: set(fetch(address, "runs")) == RUNS)
            _wait(lambda: _is_read(address))
            yield address
        finally:
            process.kill()
            process.wait()


def _wait(condition, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            if value := condition():
                return value
        time.sleep(0.1)
    raise TimeoutError(f"waited {seconds} s in vain")


def _address(process, said):
    said.seek(0)
    text = said.read()
    if process.poll() is not None:
        pytest.fail(f"TensorBoard ended: {text}")
    match = re.search(r"http://127\.0\.0\.1:\d+/", text)
    return match and match[0]


def _is_read(address):
    """Whether the last event of each run has been served."""
    for run in RUNS:
        query = {"run": run, "tag": f"{run}/seconds"}
        if len(fetch(address, "plugin/scalars/scalars", **query)) < EPOCHS:
            return False
    return True


def fetch(address, route, raw=False, **query):
    url = f"{address}data/{route}?{urllib.parse.urlencode(query)}"
    with urllib.request.urlopen(url, timeout=30) as response:
        body = response.read()
    return body if raw else json.loads(body)


def tags(address, plugin):
    served = fetch(address, f"plugin/{plugin}/tags")
    return {(run, tag) for run, found in served.items() for tag in found}


def test_all_images_are_served_at_every_step(server, written):
    assert tags(server, "images") == set(written["images"])
    assert len(written["images"]) > 6
    for (run, tag), values in written["images"].items():
        query = {"run": run, "tag": tag, "sample": 0}
        served = fetch(server, "plugin/images/images", **query)
        assert [image["step"] for image in served] == list(range(EPOCHS))
        for image, (_, png) in zip(served, values, strict=True):
            route = f"plugin/images/individualImage?{image['query']}"
            with urllib.request.urlopen(f"{server}data/{route}", timeout=30) as body:
                assert body.read() == png


def test_all_scalars_are_served(server, written):
    assert tags(server, "scalars") == set(written["scalars"])
    names = {tag for _, tag in written["scalars"]}
    assert {"reconstructions/psnr", "latent/active_units"} <= names
    for (run, tag), values in written["scalars"].items():
        served = fetch(server, "plugin/scalars/scalars", run=run, tag=tag)
        assert [row[1] for row in served] == [step for step, _ in values]
        numbers = [np.float32(row[2]) for row in served]
        np.testing.assert_array_equal(numbers, [value for _, value in values])


def test_all_histograms_are_served(server, written):
    assert tags(server, "histograms") == set(written["histograms"])
    for (run, tag), values in written["histograms"].items():
        served = fetch(server, "plugin/histograms/histograms", run=run, tag=tag)
        for row, (step, buckets) in zip(served, values, strict=True):
            assert row[1] == step
            np.testing.assert_allclose(row[2], buckets)


def test_projector_is_served(server, log_dir):
    route = "plugin/projector"
    assert fetch(server, f"{route}/runs") == ["latent_space"]
    info = fetch(server, f"{route}/info", run="latent_space")
    (embedding,) = info["embeddings"]
    assert embedding["tensorShape"] == [20, 5]
    which = {"run": "latent_space", "name": embedding["tensorName"]}
    vectors = np.frombuffer(fetch(server, f"{route}/tensor", True, **which), "float32")
    expected = np.loadtxt(log_dir / "latent_space" / "latent.tsv", dtype="float32")
    np.testing.assert_array_equal(vectors.reshape(20, 5), expected)
    rows = fetch(server, f"{route}/metadata", True, **which).decode().splitlines()
    assert rows == ["label\tindex", *(f"{n}\t{n}" for n in range(20))]
    sprite = Image.open(
        io.BytesIO(fetch(server, f"{route}/sprite_image", True, **which))
    )
    assert sprite.size == (5 * 12, 5 * 12)
    assert embedding["sprite"]["singleImageDim"] == [12, 12]


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium of its own."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
    names = ("chromium", "chromium-browser", "google-chrome")
    chromium = next(filter(None, map(shutil.which, names)), None)
    driver = shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("needs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for flag in (
            "headless",
            "no-sandbox",
            "disable-gpu",
            "disable-quic",
            "no-first-run",
            "disable-background-networking",
            "disable-component-update",
            "disable-sync",
            "disable-dev-shm-usage",
            # The projector draws with WebGL, here in software.
            "use-gl=angle",
            "use-angle=swiftshader",
            "enable-unsafe-swiftshader",
            "window-size=1400,1000",
            f"user-data-dir={profile}",
        ):
            options.add_argument(f"--{flag}")
        service = webdriver.ChromeService(executable_path=driver)
        window = webdriver.Chrome(options=options, service=service)
        try:
            yield window
        finally:
            window.quit()


# All pictures of a page that have arrived, those in shadow trees too.
PICTURES = """
const found = [];
(function walk(root) {
  for (const element of root.querySelectorAll("*")) {
    if (element.tagName === "IMG" && element.complete && element.naturalWidth > 0) {
      const box = element.getBoundingClientRect();
      if (box.width > 0 && box.height > 0) {
        found.push([element.naturalWidth, element.naturalHeight]);
      }
    }
    if (element.shadowRoot) walk(element.shadowRoot);
  }
})(document);
return found;
"""


def sizes(written):
    """The width and height of each picture."""
    pngs = [values[-1][1] for values in written["images"].values()]
    return {Image.open(io.BytesIO(png)).size for png in pngs}


@pytest.mark.browser
def test_images_appear_on_the_images_page(browser, server, written):
    first = sorted({tag.split("/")[0] for _, tag in written["images"]})[0]
    expected = sizes(
        {"images": {key: v for key, v in written["images"].items() if first in key[1]}}
    )
    browser.get(f"{server}#images")

    def shown():
        return expected <= {tuple(size) for size in browser.execute_script(PICTURES)}

    assert _wait(shown)


@pytest.mark.browser
def test_samples_appear_in_the_projector(browser, server):
    browser.get(f"{server}data/plugin/projector/projector_binary.html")

    def text():
        script = """
        let found = "";
        (function walk(root) {
          for (const element of root.querySelectorAll("*")) {
            for (const node of element.childNodes) {
              if (node.nodeType === 3) found += node.data.trim() + " ";
            }
            if (element.shadowRoot) walk(element.shadowRoot);
          }
        })(document);
        return found;
        """
        return browser.execute_script(script)

    def is_complete():
        return re.search(r"Points:\s*20\b.*Dimension:\s*5\b", text(), re.S)

    assert _wait(is_complete)

    def colours():
        pixels = np.asarray(
            Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("L")
        )
        middle = pixels[200:800, 400:1000]
        return len(np.unique(middle)) > 50

    assert _wait(colours)


@pytest.mark.browser
def test_page_opens_from_disk_with_all_its_pictures(browser, log_dir, written):
    browser.get((log_dir / "index.html").as_uri())
    assert browser.title == "A page"
    shown = [tuple(size) for size in browser.execute_script(PICTURES)]
    assert len(shown) == len(written["images"])
    assert set(shown) == sizes(written)
    script = "return performance.getEntriesByType('resource').map(e => e.name)"
    loaded = browser.execute_script(script)
    assert all(name.startswith("data:") for name in loaded)
    width = "return [document.body.scrollWidth, window.innerWidth]"
    page, window = browser.execute_script(width)
    assert page <= window
