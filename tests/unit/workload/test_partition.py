"""Layers dealt to stages until each has its share of the weights."""

import numpy as np
import pytest
from jobs import job

from simtrain.spec.plan import Plan, PlanTable
from simtrain.workload.parameters import parameters
from simtrain.workload.partition import filled
from simtrain.workload.strategies.pipeline import layout

ASKED = job("llama-3-8b", gpus=8, stack="nanotron")
STAGES = [1, 2, 4, 8]


def test_a_stage_is_full_when_it_exceeds_its_share() -> None:
    """Llama 3 8B: 32 layers of 218 M (grouped queries) and a head of 525 M, 2.41 layers: shares of 4.30 on 8 stages.

    Dealt by hand: 5, 4, 4, 5, 4, 4, 5 layers, and what is left: one and the head.
    """
    parts = parameters(ASKED.model)
    assert parts.embedding / (parts.attention + parts.dense_mlp) == pytest.approx(2.41, abs=0.01)
    count, held = filled(parts, 32, np.array([8]))
    assert count[:, 0].tolist() == [1, 2, 4, 1]
    assert held[:, 0].tolist() == [5, 5, 4, 1]


def test_stages_behind_the_head_hold_nothing() -> None:
    """GPT-2's head weighs 5.45 of its 12 layers: on 8 stages a share is 2.18, and the sixth stage takes the rest."""
    small = job("gpt-2-small", gpus=8, seq=1024, stack="nanotron")
    count, held = filled(parameters(small.model), small.model.layers, np.array([8]))
    assert count[:, 0].tolist() == [1, 4, 2, 1]
    assert held[:, 0].tolist() == [3, 2, 0, 1]


def test_every_layer_is_on_a_stage() -> None:
    plans = PlanTable.of([Plan(pp=stages) for stages in STAGES])
    found = layout(ASKED, plans)
    assert found.count.sum(axis=0).tolist() == STAGES
    assert (found.count * found.layers).sum(axis=0).tolist() == [ASKED.model.layers] * len(STAGES)
    even = layout(job("llama-3-8b", gpus=8), plans)
    assert (even.layers[0] == [32, 16, 8, 4]).all()
    assert found.layers[3, 1] < 16 < found.layers[0, 1]
