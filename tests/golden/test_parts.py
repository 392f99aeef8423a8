"""What sources print of single rows: passes of a layer and of a stage, memory by class. Bands only tighten.

Layer passes and memory: Korthikanti et al. (arXiv 2205.05198) table 4 and figure 1. Stage passes: Qi et al.
(arXiv 2401.10241), profiled; there a stage's forward pass is slower and its weight gradients faster than ours, and a
message between stages takes four times what its bytes need on NVLink.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from simtrain.errors import WrongInput
from simtrain.estimate import estimate, machine, passes
from simtrain.spec.plan import PlanTable
from simtrain.validation.corpus import corpus
from simtrain.validation.parts import parts
from simtrain.validation.rows import Expressed, express

BANDS = {
    "layer forward": (0.95, 1.04),
    "layer backward": (1.00, 1.07),
    "memory of states": (1.00, 1.05),
    "activations": (0.99, 1.01),
    "stage forward": (0.77, 1.00),
    "stage backward to the input": (0.88, 1.10),
    "stage backward to the weights": (1.00, 1.23),
    "stage message to the next stage": (0.54, 1.00),
}
"""Predicted over measured."""
PARTS = parts(corpus())


OUT = {"layer forward": "22 billion parameters with sequence parallelism at 1.042 since the fit of 2026-12-01"}
"""Parts that left their band, which stays where it is until they are won back."""


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.xfail(reason=OUT[name], strict=True)) if name in OUT else name
        for name in BANDS
    ],
)
def test_parts_within_their_band(name: str) -> None:
    found = [part for part in PARTS if part.name == name or part.name.startswith(f"{name},")]
    low, high = BANDS[name]
    assert len(found) >= 2
    for part in found:
        assert low <= part.ratio <= high, (part.row, part.name, part.ratio)


def test_what_left_its_band_gets_no_worse() -> None:
    for part in PARTS:
        if part.name.split(",")[0] in OUT:
            assert BANDS["layer forward"][0] <= part.ratio <= 1.043, (part.row, part.name, part.ratio)


def test_every_part_has_a_band_and_is_printed_once() -> None:
    assert {part.name.split(",")[0] for part in PARTS} == set(BANDS)
    assert len({(part.row, part.name) for part in PARTS}) == len(PARTS) == 40


def test_passes_are_what_the_step_is_made_of() -> None:
    """On one stage a microbatch takes both passes; the weights' gradients are a part of the second."""
    item = next(item for item in express(corpus().of_source("korthikanti-2022")) if item.row.id == "seqsel-t5-22b-full")
    assert isinstance(item, Expressed)
    plans, on = PlanTable.of([item.plan]), machine(item.job)
    found, hops = passes(item.job, plans, on)
    busy = float((found.forward + found.backward)[0, 0] * plans.microbatches[0])
    assert 0.9 < busy / float(estimate(item.job, plans, on).step_time[0]) < 1.0
    assert 0 < found.weight[0, 0] < found.backward[0, 0] / 2
    assert np.all(hops.path == 0)


def test_an_unknown_part_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "parts.json").write_text(json.dumps({"x": {"table4_per_layer_ms": {}}}), encoding="utf-8")
    with pytest.raises(WrongInput, match="table4_per_layer_ms"):
        parts(corpus().of_source("korthikanti-2022"), tmp_path)
    with pytest.raises(WrongInput, match="cannot be read"):
        parts(corpus().of_source("korthikanti-2022"), tmp_path / "none")
