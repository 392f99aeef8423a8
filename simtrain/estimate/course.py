"""How a step runs otherwise than its plan says."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from simtrain.errors import Problem, WrongInput
from simtrain.spec.plan import Plan
from simtrain.spec.slow import Slow
from simtrain.timeline.duration_table import Durations
from simtrain.timeline.order import Order
from simtrain.timeline.slowdown import Slowdown, slowdown

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Course:
    """An order of one's own, devices that are slow, passes of other lengths."""

    order: Order | None = None
    """Instead of the schedule's."""
    slow: tuple[Slow, ...] = ()
    durations: Durations | None = None
    """Instead of priced ones; the slow take a multiple of them."""

    def over(self, plan: Plan, order: Order) -> tuple[Slowdown | None, Array | None]:
        """What is slow, and seconds given for passes (see Durations.of); WrongInput with all that is not there."""
        slow, given, problems = None, None, list[Problem]()
        try:
            slow = self._slow(plan, order.stages)
        except WrongInput as wrong:
            problems.extend(wrong.problems)
        try:
            given = None if self.durations is None else self.durations.of(order)
        except WrongInput as wrong:
            problems.extend(wrong.problems)
        if problems:
            raise WrongInput(problems)
        return slow, given

    def undrained(self, plan: Plan, stages: int) -> Slowdown | None:
        """What is slow in a pipeline that never drains; WrongInput where it would have to end a step."""
        slow = self._slow(plan, stages)
        problems = []
        if slow is not None and len(slow.count) > 1:
            rule = "slows one replica, which others meet at the end of a step: no-flush has none"
            problems.append(Problem("--slow", self.slow[0].text, rule, "name stages alone"))
        if self.durations is not None:
            rule = "names passes of one step: no-flush runs those of several at once"
            problems.append(Problem("--durations", self.durations.name, rule, "take another schedule"))
        if problems:
            raise WrongInput(problems)
        return slow

    def _slow(self, plan: Plan, stages: int) -> Slowdown | None:
        return slowdown(self.slow, plan, stages) if self.slow else None


PLANNED: Final = Course()
