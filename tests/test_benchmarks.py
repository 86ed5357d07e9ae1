import json
import operator
import os
import time

import keras
import numpy as np
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("compares with TensorFlow", allow_module_level=True)

from benchmarks import __main__ as command_line
from benchmarks import curves, growth, keras_nets, layers, limits, report, timing
from benchmarks.cases import Case
from benchmarks.rows import Row, agree, faster
from benchmarks.timing import Effort, Spread
from benchmarks.workers import Worker

TINY = Case((8, 8, 1), (2, 3), 2)
ONCE = Effort(seconds=0, rounds=2, processes=1, epochs=0, cases=(TINY,))


def row(figure=2.0, **goal):
    spread = Spread(figure, figure - 1, figure + 1)
    return Row("case", 1.0, "theirs", 2.0, "ms", spread, **goal)


def test_a_spread_is_a_median_between_quartiles():
    assert Spread.of([5, 1, 4, 2, 3]) == Spread(3, 2, 4)


def test_geometric_mean_is_that_of_each_quartile():
    mean = timing.geometric_mean([Spread(2, 1, 3), Spread(8, 4, 12)])
    assert (mean.median, mean.low, mean.high) == pytest.approx((4, 2, 6))


def test_every_round_times_every_party_once():
    called = []

    def party(name, seconds):
        def timed(number):
            called.append((name, number))
            return seconds

        return timed

    parties = {"long": party("long", 1.0), "short": party("short", 0.001)}
    times = timing.interleave(parties, Effort(0, 4, 1, 0, ()))
    assert {name: list(seconds) for name, seconds in times.items()} == {
        "long": [1.0] * 4,
        "short": [0.001] * 4,
    }
    rounds = called[-8:]
    assert sorted(rounds) == [("long", 1)] * 4 + [("short", 5)] * 4
    names = [name for name, _ in rounds]
    assert all(set(names[start : start + 2]) == set(parties) for start in (0, 2, 4, 6))


def test_time_of_a_call_is_that_of_one():
    assert 0.01 <= timing.here(lambda: time.sleep(0.01))(10) < 0.1


def test_ratios_are_taken_within_a_round():
    # The machine was three times slower in the second round.
    times = {"ours": np.array([1.0, 3.0, 1.0]), "theirs": np.array([2.0, 6.0, 2.0])}
    result = faster("case", times, "ours", "theirs", at_least=1.5)
    assert result.figure == Spread(2.0, 2.0, 2.0)
    assert result.ours == 1e3
    assert result.other == 2e3
    assert result.reached


@pytest.mark.parametrize(
    ("goal", "reached"),
    [
        ({}, None),
        ({"at_least": 2.0}, True),
        ({"at_least": 2.1}, False),
        ({"at_most": 2.0}, True),
        ({"at_most": 1.9}, False),
    ],
)
def test_goals_are_met_by_medians(goal, reached):
    assert row(**goal).reached is reached


def test_sides_that_differ_are_not_compared():
    same = [np.ones(3), np.full(2, 100.0)]
    agree("case", same, [np.ones(3), np.full(2, 100.001)])
    for other in (np.full(2, 101.0), np.array([100.0, np.nan])):
        with pytest.raises(RuntimeError, match="Both sides of 'case'"):
            agree("case", same, [np.ones(3), other])


def test_results_come_back_from_json():
    results = {"topic": [row(at_least=1.5, size=4.0), row()]}
    facts = {"processor": "some, 2 cores"}
    assert report.from_json(report.to_json(results, facts)) == (results, facts)


def test_tables_show_quartiles_and_goals():
    line = report.table([row(at_least=2.5)]).splitlines()[1]
    assert " ".join(line.split()) == "case 1 ms theirs 2 ms 2 x 1 - 3 >= 2.5 NO"
    text = report.markdown({"topic": [row()]}, {"system": "any"})
    assert text.startswith("- system: any\n\n**topic**\n\n| what | ours |")
    assert text.endswith("| case | 1 ms | theirs | 2 ms | 2 x | 1 - 3 |  |  |")


def test_multiply_adds_are_those_of_forward_and_backward():
    x = image = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(4, 3, padding="same")(x)
    model = keras.Model(image, keras.layers.Conv2D(1, 3, padding="same")(x))
    # The first convolution needs no gradient of its input.
    one = TINY.batch * 8 * 8 * 9 * 4
    assert limits.multiply_adds(model, TINY) == 2 * one + 3 * one


def test_our_net_is_the_plain_one_with_less_arithmetic():
    ours, plain = keras_nets.ours(TINY), keras_nets.plain(TINY)
    assert [w.shape for w in ours.weights] == [w.shape for w in plain.weights]
    adds = [limits.multiply_adds(model, TINY) for model in (ours, plain)]
    assert 0 < adds[0] < adds[1]


def test_our_net_learns_as_the_plain_one():
    assert curves.exact(TINY).reached


def test_a_layer_is_compared_with_its_plain_way():
    other = keras.layers.AveragePooling2D(2, padding="same")
    same = layers._compared("average", other, other, (2, 4, 4, 3), ONCE)
    assert same.figure.low > 0
    maxima = keras.layers.MaxPooling2D(2, padding="same")
    with pytest.raises(RuntimeError, match="must compute the same"):
        layers._compared("average", other, maxima, (2, 4, 4, 3), ONCE)


def test_pytorch_has_the_same_net():
    torch_nets = pytest.importorskip("benchmarks.torch_nets", exc_type=ImportError)
    model = keras_nets.ours(TINY)
    calls = torch_nets.make(TINY, model.get_weights())
    want = keras_nets.predict(model, TINY)()
    for layout in torch_nets.LAYOUTS:
        got = calls[f"predict {layout}"]().transpose(0, 2, 3, 1)
        np.testing.assert_allclose(got, want, atol=1e-5)
        first = float(np.mean((want - TINY.images()) ** 2))
        assert calls[f"train {layout}"]() == pytest.approx(first, rel=1e-4)


def test_a_worker_answers_from_its_own_process():
    calls = {"divide": operator.truediv, "process": os.getpid}
    with Worker(dict, calls) as worker:
        assert worker.call("divide", 6, 2) == 3
        assert worker.call("process") != os.getpid()
        assert 0 < worker.party("process")(5) < 1
        with pytest.raises(ZeroDivisionError):
            worker.call("divide", 6, 0)


def test_a_run_prints_and_writes_its_results(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(timing, "QUICK", ONCE)
    monkeypatch.setattr(growth, "BATCHES", (1, 2))
    monkeypatch.setattr(growth, "SIDES", (8, 16))
    options = ["--quick", "--only", "growth", "--out", str(tmp_path / "results")]
    assert command_line.main(options) == 0
    assert "Training step, batch 2" in capsys.readouterr().out
    values = json.loads((tmp_path / "results/results.json").read_text())
    assert list(values["topics"]) == ["growth"]
    assert values["machine"]["keras"] == keras.__version__
    assert command_line.main(["--markdown", *options[3:]]) == 0
    assert "| Training step, batch 2 |" in capsys.readouterr().out


def test_results_that_are_not_there_are_asked_for(tmp_path, capsys):
    assert command_line.main(["--markdown", "--out", str(tmp_path)]) == 2
    assert "There are no results yet" in capsys.readouterr().err
