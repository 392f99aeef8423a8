"""The term that was made wrong is the one that is named."""

from dataclasses import replace

import numpy as np
import pytest
from jobs import job

from simtrain.estimate import TERMS
from simtrain.spec.plan import Plan
from simtrain.validation.corpus import Row
from simtrain.validation.culprit import LINKS, RATES, STATED, Suspect, suspects, width
from simtrain.validation.rows import Expressed
from simtrain.validation.score import Prediction

ASKED = job("llama-3-8b", gpus=64, global_batch=64)


def run(micro_batch: int, **terms: float) -> Prediction:
    """A run predicted to spend these seconds; measured as predicted."""
    seconds = np.array([terms.get(name.replace(" ", "_"), 0.0) for name in TERMS])
    row = Row(id=str(micro_batch), source="made", model="m", gpu="g", gpus=64, status="ok", step_s=seconds.sum())
    plan = Plan(tp=8, dp=8, micro_batch=micro_batch, global_batch=64)
    expressed = Expressed(row, ASKED, plan, (), "device", False)
    return Prediction(row, expressed=expressed, step_time=float(seconds.sum()), terms=seconds)


def measured(p: Prediction, term: str, factor: float) -> Prediction:
    """The same with a measured time in which one term takes `factor` times what is predicted."""
    assert p.terms is not None
    true = p.step_time + (factor - 1) * float(p.terms[TERMS.index(term)])
    return replace(p, row=p.row.model_copy(update={"step_s": true}))


RUNS = [
    run(1, matmul=4.0, attention=1.0, launch=2.0, gradient_reduction=0.3),
    run(2, matmul=4.0, attention=4.0, launch=1.0, gradient_reduction=0.3),
    run(4, matmul=4.0, attention=0.1, launch=0.6, gradient_reduction=0.3),
]


def named(term: str, factor: float) -> Suspect:
    wrong = [measured(p, term, factor) for p in RUNS]
    return suspects(wrong[:1], wrong)[0][0]


@pytest.mark.parametrize(("term", "factor"), [("launch", 2.0), ("launch", 0.5), ("attention", 1.6), ("matmul", 1.3)])
def test_the_wrong_term_is_named_with_its_factor(term: str, factor: float) -> None:
    found = named(term, factor)
    assert found.term == term
    assert found.factor == pytest.approx(factor)
    assert (found.agree, found.neighbours) == (2, 2)
    assert found.alone


def test_neighbours_overrule_what_is_known_of_a_term() -> None:
    """Launches stretch more easily than products, but only products explain the runs that launch less."""
    one = measured(RUNS[0], "matmul", 1.3)
    assert suspects([one], [one])[0][0].term == "launch"
    assert named("matmul", 1.3).term == "matmul"


def test_a_term_cannot_take_less_than_nothing() -> None:
    (found,) = suspects([measured(RUNS[0], "matmul", 0.5)], [])
    assert {s.term for s in found} == {"matmul"}


def test_far_off_is_no_term_alone() -> None:
    assert not named("matmul", 10.0).alone


def test_beliefs_are_shares() -> None:
    (found,) = suspects([measured(RUNS[0], "attention", 1.5)], RUNS)
    assert sum(s.belief for s in found) == pytest.approx(1.0)
    assert [s.belief for s in found] == sorted((s.belief for s in found), reverse=True)


def test_runs_that_differ_in_two_settings_are_no_neighbours() -> None:
    wrong = [measured(p, "launch", 2.0) for p in RUNS]
    far = [replace(p, row=p.row.model_copy(update={"seq": 4096})) for p in wrong[1:]]
    assert suspects(wrong[:1], [wrong[0], *far])[0][0].neighbours == 0


def test_every_term_has_a_width() -> None:
    assert set(TERMS) == {*RATES, *LINKS, *STATED}
    assert width("bubble", RUNS[0]) == STATED["bubble"]
    assert width("tensor communication", RUNS[0]) < width("gradient reduction", RUNS[0])
