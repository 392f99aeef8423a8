"""Every model of the catalog has a plan that fits on some cluster."""

import pytest
from jobs import job

from simtrain.search.advice import fits
from simtrain.spec.catalog import model, model_names


@pytest.mark.parametrize("name", model_names())
def test_every_model_plans_somewhere(name: str) -> None:
    shape = model(name)
    sequence = min(shape.maximum_positions, 2048, shape.learned_positions or 2048)
    assert fits(job(name, "dgx-h100", gpus=512, seq=sequence, global_batch=512))
