"""Totals of a training run."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jobs import job

from simtrain.spec.job import Job
from simtrain.study.run import cost, run

PRICED = job("llama-3-8b", gpus=16, tokens="1T")


def at_price(asked: Job, hourly: float | None) -> Job:
    """The job on a cluster of that price a device and hour (USD), or of none."""
    price = None
    if hourly is not None:
        price = {"value": f"{hourly} USD/h", "source": "test", "evidence": "assumed"}
    cluster = type(asked.cluster).model_validate(asked.cluster.model_dump() | {"price": price})
    return asked.model_copy(update={"cluster": cluster})


def test_a_run_by_hand() -> None:
    """1e12 tokens in steps of 64 x 4096 of 2 s on 16 devices of 3 USD an hour."""
    found = run(at_price(PRICED, 3.0), 64, 2.0)
    assert found is not None
    assert found.steps == pytest.approx(1e12 / (64 * 4096))
    assert found.seconds == pytest.approx(found.steps * 2)
    assert found.device_seconds == pytest.approx(found.seconds * 16)
    assert found.cost == pytest.approx(found.device_seconds / 3600 * 3)


def test_without_tokens_there_is_no_run() -> None:
    assert run(job("llama-3-8b", gpus=16), 64, 2.0) is None


def test_without_a_price_there_is_no_cost() -> None:
    found = run(at_price(PRICED, None), 64, 2.0)
    assert found is not None
    assert found.cost is None
    assert cost(at_price(PRICED, None), 1.0) is None


@given(st.integers(1, 4096), st.floats(1e-3, 1e3), st.floats(0.1, 100))
def test_half_the_step_time_or_twice_the_batch_halves_the_run(batch: int, step: float, hourly: float) -> None:
    asked = at_price(PRICED, hourly)
    slow, fast, large = run(asked, batch, 2 * step), run(asked, batch, step), run(asked, 2 * batch, 2 * step)
    assert slow is not None
    assert fast is not None
    assert large is not None
    assert slow.seconds == pytest.approx(2 * fast.seconds)
    assert large.seconds == pytest.approx(fast.seconds)
    assert slow.cost == pytest.approx(2 * (fast.cost or 0))
    assert large.steps == pytest.approx(slow.steps / 2)
