"""Answers as values: rows, text, HTML, files."""

from pathlib import Path

import pandas
import pytest

import simtrain as st
from simtrain.cli.planfile import read_plans


@pytest.fixture(scope="module")
def answer() -> object:
    return st.plan(st.job("llama-3-8b", "dgx-h100", gpus=8, global_batch=64, tokens="1T"), top=3)


def test_rows_are_plain(answer: object) -> None:
    table = pandas.DataFrame(answer.rows)
    assert list(table["rank"]) == [1, 2, 3]
    assert table["step_time_s"].is_monotonic_increasing
    assert {type(value) for row in answer.rows for value in row.values()} <= {str, int, float, bool, type(None)}
    assert table["run_cost_usd"].notna().all()


def test_prints_as_the_command_line_does(answer: object) -> None:
    text = repr(answer)
    assert "Best plan" in text
    assert answer.rows[0]["layout"] in text
    assert "Where a step&#x27;s time goes" in answer._repr_html_()
    assert "<script" not in answer._repr_html_()


def test_a_written_plan_is_a_plan_file(answer: object, tmp_path: Path) -> None:
    answer.write(str(tmp_path / "plan.json"))
    job, ranked, front = read_plans(tmp_path / "plan.json", "1")
    assert job == answer.job
    assert ranked[0] == answer.plan()
    assert front


def test_simulating_a_plan_gives_its_row(answer: object) -> None:
    again = st.simulate(answer.job, answer.plan(2)).rows[0]
    assert again["step_time_s"] == pytest.approx(answer.rows[1]["step_time_s"])


def test_rows_show_as_a_table() -> None:
    rows = st.models()
    assert rows._repr_html_().count("<tr>") == len(rows) + 1
    assert type(rows)()._repr_html_()


def test_rows_print_as_a_table_or_as_the_command_line_does(answer: object) -> None:
    assert repr(st.models()).endswith(f"and {len(st.models()) - 30} more")
    found = st.explain(answer, why_not={"tp": 8})
    assert "Why not tp 8" in repr(found)
    assert "Binds: " in repr(found)
    swept = st.sweep("llama-3-8b", "dgx-h100", vary={"gpus": [8]}, global_batch=64, processes=1)
    assert swept[0]["gpus"] == 8
    assert "Best plan at every point" in repr(swept)


def test_what_is_no_job_and_no_answer() -> None:
    for wrong in (lambda: st.plan("x"), lambda: st.simulate("x"), lambda: st.explain("plan.json")):
        with pytest.raises(st.WrongInput, match="is no "):
            wrong()


def test_wrong_input() -> None:
    with pytest.raises(st.WrongInput, match="gpu: is not known"):
        st.job("llama-3-8b", "dgx-h100", gpu=8)
    with pytest.raises(st.WrongInput, match="is not an option of a layout"):
        st.simulate(st.job("llama-3-8b", "dgx-h100", gpus=8, global_batch=64), tensor=2)
    nothing = st.plan(st.job("llama-3-70b", "dgx-h100", gpus=1, global_batch=1))
    assert nothing.rows == []
    assert "Nothing fits" in repr(nothing)
    with pytest.raises(st.WrongInput, match="nothing fits"):
        nothing.plan()
