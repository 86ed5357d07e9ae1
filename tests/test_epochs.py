"""What all callbacks share: steps, pace, bytes, full disks, interrupted trainings."""

import errno
import os
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

from keras_cae.callbacks import epochs
from keras_cae.callbacks.epochs import EpochLogger


class Seen(EpochLogger):
    """Logs how many epochs it saw, and takes as long as a false clock says."""

    def __init__(self, log_dir, *, costs=(), size=1, **options):
        super().__init__(log_dir, "seen", **options)
        self.costs, self.size, self.clock = list(costs), size, 0.0
        self.prepared, self.logged = [], 0

    def prepare(self, model):
        self.prepared.append(model)

    def log_epoch(self, writer, step):
        self.logged += 1
        self.clock += self.costs.pop(0) if self.costs else 0
        for number in range(self.size):
            writer.scalar(f"logged/{number}", self.logged, step)


MODEL = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])


def train(callback, epochs=1, first=0, seconds=10.0):
    """As `fit` calls a callback, with epochs that last `seconds` of its clock."""
    callback.set_model(MODEL)
    callback.on_train_begin()
    for epoch in range(first, epochs):
        callback.on_epoch_begin(epoch)
        callback.clock += seconds
        callback.on_epoch_end(epoch)
    callback.on_train_end()


def read(log_dir, tag="logged/0"):
    """The pairs of step and value of a scalar."""
    events = EventAccumulator(str(log_dir / "seen"), size_guidance={"tensors": 0})
    events = events.Reload().Tensors(tag)
    return [(e.step, float(tensor_util.make_ndarray(e.tensor_proto))) for e in events]


def steps(log_dir):
    return [step for step, _ in read(log_dir)]


@pytest.fixture
def clock(monkeypatch):
    """Makes the callback's own clock the time, and logging cost from the start."""

    def use(callback):
        monkeypatch.setattr(epochs.time, "perf_counter", lambda: callback.clock)
        monkeypatch.setattr(epochs, "FREE", 0.0)
        return callback

    return use


def test_every_epoch_is_logged_with_its_cost(tmp_path, clock):
    train(clock(Seen(tmp_path, costs=[3, 0.1, 0.2])), 3)
    assert read(tmp_path) == [(0, 1), (1, 2), (2, 3)]
    cost = read(tmp_path, "seen/seconds")
    assert cost == [(0, 3), (1, pytest.approx(0.1)), (2, pytest.approx(0.2))]


def test_model_is_prepared_once_a_training_before_a_file_is_made(tmp_path):
    class Fails(Seen):
        def prepare(self, model):
            super().prepare(model)
            raise ValueError("unsuitable")

    seen = Seen(tmp_path / "runs")
    train(seen, 3)
    assert seen.prepared == [MODEL]
    with pytest.raises(ValueError, match="unsuitable"):
        train(Fails(tmp_path / "none"))
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("first", [0, 3])
def test_every_skips_epochs(tmp_path, first):
    train(Seen(tmp_path, every=3), 10, first)
    assert steps(tmp_path) == [step for step in (0, 3, 6, 9) if step >= first]


def test_second_training_from_0_counts_on(tmp_path):
    seen = Seen(tmp_path)
    train(seen, 2)
    train(seen, 3)
    assert read(tmp_path) == [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)]


@pytest.mark.parametrize("same", [True, False])
def test_training_that_goes_on_replaces_what_was_logged_from_there(tmp_path, same):
    seen = Seen(tmp_path)
    train(seen, 5)
    train(seen if same else Seen(tmp_path), 6, first=3)
    later = [6, 7, 8] if same else [1, 2, 3]
    assert read(tmp_path) == list(enumerate([1, 2, 3, *later]))


def test_interrupted_training_is_closed_when_the_next_begins(tmp_path):
    seen = Seen(tmp_path)
    seen.set_model(MODEL)
    seen.on_train_begin()
    seen.on_epoch_end(0)
    file = seen._writer._file
    assert steps(tmp_path) == [0]
    train(seen, 3, first=1)
    assert file.closed
    assert steps(tmp_path) == [0, 1, 2]


def test_callback_that_takes_too_long_logs_less_often_and_says_so_once(tmp_path, clock):
    seen = clock(Seen(tmp_path, costs=[9] + 20 * [1.3]))
    with pytest.warns(UserWarning, match=r"takes 1\.3 s.*max_time=0\.05.*10 s") as all_:
        train(seen, 12)
    assert len(all_) == 1
    # 1.3 s are 5 % of 26 s, which are 3 epochs.
    assert steps(tmp_path) == [0, 1, 4, 7, 10]


@pytest.mark.parametrize(("limit", "every"), [(0.05, 3), (None, 1), (0.2, 1)])
def test_pace_heeds_max_time_and_every(tmp_path, clock, limit, every):
    seen = clock(Seen(tmp_path, costs=20 * [1.3], max_time=limit, every=every))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(seen, 12)
    assert steps(tmp_path) == list(range(0, 12, every))


@pytest.mark.filterwarnings("error")
def test_tracing_and_a_single_hiccup_do_not_count(tmp_path, clock):
    train(clock(Seen(tmp_path, costs=[60, 0.1, 50, 0.1, 0.1])), 5)
    assert steps(tmp_path) == [0, 1, 2, 3, 4]


@pytest.mark.filterwarnings("error")
def test_first_seconds_are_free(tmp_path, clock, monkeypatch):
    seen = clock(Seen(tmp_path, costs=[60] + 4 * [1]))
    monkeypatch.setattr(epochs, "FREE", 5.0)
    train(seen, 5, seconds=0.5)
    assert steps(tmp_path) == [0, 1, 2, 3, 4]


def test_file_stays_below_max_bytes_and_ends_with_a_whole_epoch(tmp_path):
    seen = Seen(tmp_path, size=50, max_bytes=8_000)
    with pytest.warns(UserWarning, match="max_bytes=8000. Training goes on") as caught:
        train(seen, 20)
    assert len(caught) == 1
    (file,) = (tmp_path / "seen").iterdir()
    assert 5_000 < file.stat().st_size <= 8_000
    assert read(tmp_path, "logged/49") == read(tmp_path) == [(0, 1), (1, 2)]
    assert read(tmp_path, "seen/seconds")[-1][0] == 1


class Fails:
    """A file in which there is no room."""

    def __init__(self, file):
        self.file = file

    def write(self, data):
        self.file.write(data[:20])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def __getattr__(self, name):
        return getattr(self.file, name)


def test_training_goes_on_when_the_disk_is_full(tmp_path):
    class Fills(Seen):
        def log_epoch(self, writer, step):
            super().log_epoch(writer, step)
            if step == 2:
                writer._file = Fails(writer._file)

    seen = Fills(tmp_path)
    with pytest.warns(UserWarning, match=r"No space left on device.*goes on") as caught:
        train(seen, 6)
    assert len(caught) == 1
    assert seen.logged == 3
    assert steps(tmp_path) == [0, 1]
    train(seen, 2)
    assert steps(tmp_path) == [0, 1, 3, 4]


def test_training_goes_on_when_the_disk_is_full_from_the_start(tmp_path, monkeypatch):
    def full(folder):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    seen = Seen(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(epochs, "EventWriter", full)
        with pytest.warns(UserWarning, match=r"No space left.*goes on") as caught:
            train(seen, 3)
    assert len(caught) == 1
    assert seen.logged == 0
    train(seen, 2)
    assert steps(tmp_path) == [0, 1]


FILL = """
import resource, sys, warnings
import keras, numpy as np
from keras_cae.callbacks import PooledFeatureMaps

model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.MaxPooling2D(),
                          keras.layers.Flatten(), keras.layers.Dense(1)])
model.compile("sgd", "mse")
images = np.random.default_rng(0).uniform(size=(8, 8, 8, 1)).astype("float32")
maps = PooledFeatureMaps(sys.argv[1], images)
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, resource.RLIM_INFINITY))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    losses = model.fit(images, np.zeros(8), epochs=30, verbose=0, callbacks=[maps])
said = [w for w in caught if "Training goes on" in str(w.message)]
print(len(losses.history["loss"]), len(said), said[0].message)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no limits for files")
def test_file_that_may_not_grow_any_more_ends_logging_but_not_fit(tmp_path):
    command = [sys.executable, "-c", FILL, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, check=True, text=True)
    trained, said, *message = run.stdout.splitlines()[-1].split()
    assert (trained, said) == ("30", "1")
    assert "File too large" in " ".join(message)
    folder = tmp_path / "feature_maps"
    (file,) = folder.iterdir()
    assert 10_000 < file.stat().st_size <= 40_000
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()
    counts = {len(events.Tensors(tag)) for tag in events.Tags()["tensors"]}
    assert len(counts) == 1
    assert 1 < counts.pop() < 30


def test_training_goes_on_when_the_log_folder_is_gone(tmp_path):
    class Removed(Seen):
        def log_epoch(self, writer, step):
            super().log_epoch(writer, step)
            if step == 1:
                writer.path.unlink()
                writer.path.parent.rmdir()

    with pytest.warns(UserWarning, match=r"event file is gone.*Training goes on"):
        train(Removed(tmp_path), 4)


def test_fit_trains_the_same_beside_it(tmp_path):
    def weights(*callbacks):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        x = np.ones((4, 1))
        model.fit(x, x, epochs=3, verbose=0, callbacks=list(callbacks))
        return model.get_weights()

    for one, other in zip(weights(), weights(Seen(tmp_path)), strict=True):
        np.testing.assert_array_equal(one, other)
    assert steps(tmp_path) == [0, 1, 2]


@pytest.mark.parametrize("value", [0, -1, True, 1.5, "1"])
def test_max_bytes_that_is_no_positive_int_is_refused(tmp_path, value):
    with pytest.raises(ValueError, match="`max_bytes` must be a positive int"):
        Seen(tmp_path, max_bytes=value)


@pytest.mark.parametrize("value", [0, -0.1, True, "5%", float("nan")])
def test_max_time_that_is_no_share_is_refused(tmp_path, value):
    with pytest.raises(ValueError, match="`max_time` must be None or a share"):
        Seen(tmp_path, max_time=value)
