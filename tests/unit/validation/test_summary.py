"""Summary formulas on hand-made numbers."""

from dataclasses import replace

import numpy as np
import pytest

from simtrain.validation import summary
from simtrain.validation.corpus import Row
from simtrain.validation.score import Prediction


def row(name: str, measured: float | None, status: str = "ok", source: str = "s", **cells: object) -> Row:
    data = {"id": name, "source": source, "model": "m", "gpu": "g", "gpus": 8, "status": status, "step_s": measured}
    return Row.model_validate(data | cells)


def made(name: str, measured: float | None, predicted: float, status: str = "ok", fits: bool = True) -> Prediction:
    return Prediction(
        row(name, measured, status), step_time=predicted, low=0.9 * predicted, high=1.1 * predicted, fits=fits
    )


FOUR = [made("a", 1.0, 1.2), made("b", 2.0, 1.8), made("c", 4.0, 4.0), made("d", 8.0, 12.0)]


def test_errors_are_relative_to_the_measured() -> None:
    found = summary.errors(np.array([1.2, 0.9, 1.0, 1.5]))
    assert found is not None
    assert found.count == 4
    assert found.mape == pytest.approx(0.2)
    assert found.median == pytest.approx(0.15)
    assert found.bias == pytest.approx(0.15)
    assert found.p90 == pytest.approx(0.41)
    assert summary.errors(np.array([])) is None


def test_one_scale_a_source_and_gpu_brings_the_median_to_one() -> None:
    ratio = summary.rescaled([made("a", 1.0, 2.0), made("b", 1.0, 4.0), made("c", 1.0, 1.0)])
    assert ratio == pytest.approx([1.0, 2.0, 0.5])
    other = Prediction(row("d", 1.0, source="other"), step_time=7.0)
    assert summary.rescaled([made("a", 1.0, 2.0), other]) == pytest.approx([1.0, 1.0])


def test_rank_is_spearman_of_timed_rows() -> None:
    assert summary.rank(FOUR) == pytest.approx(1.0)
    swapped = [made("a", 1.0, 2.0), made("b", 2.0, 1.0), made("c", 4.0, 4.0), made("d", 8.0, 12.0)]
    assert summary.rank(swapped) == pytest.approx(1 - 6 * 2 / (4 * 15))
    assert summary.rank(FOUR[:3]) is None
    assert summary.rank([made(str(i), 1.0 + i, 3.0) for i in range(4)]) is None


def test_regret_is_what_the_pick_costs() -> None:
    assert summary.regret(FOUR) == 0.0
    assert summary.regret([made("a", 1.0, 3.0), made("b", 1.5, 2.0)]) == pytest.approx(0.5)
    assert summary.regret(FOUR[:1]) is None


def test_pick_ran_looks_at_rows_said_to_fit() -> None:
    failed = made("o", None, 0.5, "oom")
    assert summary.pick_ran([*FOUR, failed]) is False
    assert summary.pick_ran([*FOUR, made("o", None, 0.5, "oom", fits=False)]) is True
    assert summary.pick_ran(FOUR) is None


def test_the_pick_leaves_the_planners_headroom() -> None:
    tight = made("o", None, 0.5, "oom")
    roomy = [replace(p, roomy=True) for p in FOUR]
    assert summary.pick_ran([*roomy, tight]) is True
    assert summary.pick_ran([*roomy, replace(tight, roomy=True)]) is False


def test_verdicts_count_all_four_cases_and_no_other_failure() -> None:
    found = summary.verdicts(
        [
            made("a", 1.0, 1.0),
            made("b", 1.0, 1.0, fits=False),
            made("c", None, 1.0, "oom", fits=False),
            made("d", None, 1.0, "oom"),
            made("e", None, 1.0, "oom"),
            made("f", None, 1.0, "other_error"),
        ]
    )
    assert found == {
        "oom_said_oom": 1,
        "oom_said_fits": 2,
        "ran_said_fits": 1,
        "ran_said_oom": 1,
        "accuracy": pytest.approx(0.4),
    }


def test_intervals_and_memory() -> None:
    assert summary.interval_coverage(FOUR) == 0.25 + 0.0, "only c lies within 10 % of its prediction"
    full = Prediction(row("m", 1.0, peak_mem_gib=10.0), memory=12 * 2.0**30)
    assert summary.memory_ratio([full, *FOUR]) == pytest.approx([1.2])


def test_sweeps_share_the_work_not_the_layout() -> None:
    rows = [
        Prediction(row("a", 1.0, seq=2048, tp=1, global_batch=8)),
        Prediction(row("b", 1.0, seq=2048, tp=2, global_batch=8)),
        Prediction(row("c", 1.0, seq=2048, tp=2, global_batch=16)),
        Prediction(row("d", 1.0, seq=4096, tp=2, global_batch=8)),
    ]
    assert [[p.row.id for p in members] for _, members in summary.sweeps(rows)] == [["a", "b"], ["c"], ["d"]]


def test_unsupported_rows_count_against_coverage_only() -> None:
    found = summary.figures([*FOUR, Prediction(row("u", 5.0), "no")])
    assert (found["rows"], found["covered"], found["time"]["count"]) == (5, 4, 4)
    assert found["coverage"] == pytest.approx(0.8)
    whole = summary.summary([*FOUR, Prediction(row("u", 5.0), "no")])
    assert whole["sources"]["s"]["unsupported"] == {"no": 1}
    assert whole["all"]["time"] == found["time"]
