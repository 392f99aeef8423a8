"""How often a stage and its neighbours exchange messages."""

import numpy as np
import pytest
from jobs import job, uncalibrated

from simtrain.estimate import passes
from simtrain.spec.base import Fact
from simtrain.spec.plan import Plan, PlanTable


@pytest.mark.parametrize(("in_turn", "exchanges"), [(False, (1, 2, 2, 1)), (True, (2, 4, 4, 2))])
def test_sends_and_receives_in_turn_are_exchanges_of_their_own(in_turn: bool, exchanges: tuple[int, ...]) -> None:
    asked = job("llama-3-8b", gpus=64)
    stack = asked.stack.model_copy(update={"exchanged_in_turn": Fact(value=in_turn)})
    plans = PlanTable.of([Plan(tp=2, pp=8, dp=4, global_batch=64)])
    _, hops = passes(asked.model_copy(update={"stack": stack}), plans, uncalibrated(asked))
    assert np.array_equal(hops.exchanges[:, 0], exchanges)
