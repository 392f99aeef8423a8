"""Perseus's emulated pipelines as trade-offs: eight stages, 1F1B, no communication (arXiv 2312.06902)."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from simtrain.price.curve import Curve
from simtrain.price.power_profile import PowerProfile, power_profile
from simtrain.search.clocks import tradeoff
from simtrain.search.tradeoff import Tradeoff
from simtrain.timeline.build import build
from simtrain.timeline.costs import Costs, Traffic
from simtrain.timeline.order import FORWARD
from simtrain.timeline.schedules import one_f_one_b

PUBLISHED: dict[str, Any] = json.loads((Path(__file__).parents[1] / "validate/published/energy.json").read_text())
PROFILES = {
    ("gpt3-175b", "A100-SXM4-80GB"): "gpt-3-175b-a100-sxm-80gb",
    ("gpt3-175b", "A40"): "gpt-3-175b-a40",
    ("bloom", "A100-SXM4-80GB"): "bloom-176b-a100-sxm-80gb",
    ("bloom", "A40"): "bloom-176b-a40",
}


def blocking(profile: PowerProfile) -> float:
    """W of a device that waits."""
    assert profile.measured is not None
    return profile.measured.blocking_power.value


def at_largest(curve: Curve) -> tuple[float, float]:
    """Seconds and joules at the largest clock."""
    at = curve.clock.argmax()
    return float(curve.seconds[at]), float(curve.joules[at])


def pipeline(name: str, microbatches: int, change: Callable[[Curve], Curve] = lambda curve: curve) -> Tradeoff:
    """A step of a profile's stages, all passes at the largest clock as the base; `change`: of every curve."""
    profile = power_profile(name)
    stages = len(profile.curves)
    seconds = np.array([[at_largest(curve)[0] for curve in stage] for stage in profile.curves])[None, :, :, None]
    none = Traffic(np.zeros((stages, 1)))
    zero = np.zeros((1, stages, 1))
    costs = Costs(seconds[:, :, 0], seconds[:, :, 1], zero, np.zeros(stages), none, none, np.zeros(stages))
    order = one_f_one_b.order(stages, 1, microbatches)

    def curve_of(phase: int, stage: int, chunk: int) -> Curve:
        return change(profile.curves[stage][0 if phase == FORWARD else 1])

    return tradeoff(build(order, costs), costs, curve_of, blocking(profile))


def base(name: str, microbatches: int) -> tuple[float, float]:
    """Seconds and joules (waiting not counted) of a step at the largest clocks."""
    profile = power_profile(name)
    found = pipeline(name, microbatches, lambda curve: curve.take(np.array([curve.clock.argmax()])))
    joules = sum(at_largest(c)[1] - blocking(profile) * at_largest(c)[0] for stage in profile.curves for c in stage)
    return found.duration(found.seconds(found.fastest)), microbatches * joules
