"""Published energy, carbon and cost of runs."""

import pytest

from simtrain.cli.sizes import largest, sizes
from simtrain.estimate import estimate, machine
from simtrain.spec.plan import Plan, PlanTable
from simtrain.spec.request import Request
from simtrain.study.bill import Rates, bill, intensity
from simtrain.study.fleet import first_look
from simtrain.study.run import cost

HOUR, KWH = 3600.0, 3.6e6


def test_bloom() -> None:
    """1,082,990 A100 hours at 0.4 kW and 57 g/kWh (arXiv 2211.02001): 433,196 kWh, 24.7 t, 11.2 t embodied."""
    hours = 1_082_990
    asked = Rates(pue=1.0, grid=intensity("57 g/kWh"), tariff=None, price=None)
    found = bill(asked, 384, hours / 384 * HOUR, hours * HOUR * 400)
    assert found.joules / KWH == pytest.approx(433_196, rel=1e-6)
    assert found.carbon == pytest.approx(24_700, rel=2e-3)
    assert found.embodied == pytest.approx(11_200, rel=5e-3)
    assert found.money is None


def test_the_cheaper_plan_of_mt_nlg_is_found() -> None:
    """Sizes compared: vTrain's layout for 2,016 devices, at about 0.957 of the cost and 1.063 of the time of 2,240."""
    base = Request(model="mt-nlg-530b", cluster="dgx-a100", gpus="2016,2240", seq="2048", global_batch="1920",
                   stack="megatron-deepspeed", tokens="270B")  # fmt: skip
    fewer, published = (first_look(job) for job in sizes(base, largest(base).job()))
    best = Plan.model_validate(fewer["plans"][0])
    assert (best.tp, best.pp, best.dp) == (8, 21, 12)
    slower = fewer["seconds"][0] / published["seconds"][0]
    assert slower == pytest.approx(1.063, abs=0.02)
    assert slower * 2016 / 2240 == pytest.approx(0.957, abs=0.02)


def test_mt_nlg_on_fewer_devices_is_cheaper() -> None:
    """vTrain (arXiv 2312.12391): 2,016 devices cost 0.957 of the published 2,240 and take 1.063 of the time."""

    def step(devices: int, pp: int, dp: int) -> tuple[float, float]:
        asked = Request(
            model="mt-nlg-530b", cluster="dgx-a100", gpus=str(devices), seq="2048", global_batch="1920",
            stack="megatron-deepspeed-2021",
        )  # fmt: skip
        job = asked.job()
        plan = Plan(tp=8, pp=pp, dp=dp, global_batch=1920, recompute="full")
        seconds = float(estimate(job, PlanTable.of([plan]), machine(job)).step_time[0])
        spent = cost(job, seconds)
        assert spent is not None
        return seconds, spent

    published, cheaper = step(2240, 35, 8), step(2016, 21, 12)
    assert cheaper[0] / published[0] == pytest.approx(1.063, abs=0.02)
    assert cheaper[1] / published[1] == pytest.approx(0.957, abs=0.02)
