"""The allocator's share is recovered from figures and from labels, and left-out sweeps do not see themselves."""

from dataclasses import replace

import numpy as np
import pytest

from simtrain.spec.load import stack_as_described
from simtrain.validation.corpus import Corpus, corpus
from simtrain.validation.memory_fit import Observed, allocators, fit, observed_runs

RUNS = 200
SHARE = 0.2


def observed(*, figures: bool, labels: bool) -> Observed:
    """Runs whose device loses SHARE of what comes and goes, on devices some are too large for."""
    random = np.random.default_rng(0)
    held, dynamic = random.uniform(20, 40, (4, RUNS)), random.uniform(20, 60, (4, RUNS))
    need = (held + SHARE * dynamic).max(axis=0)
    capacity = np.full(RUNS, 45.0 if labels else 100.0)
    at = ((held + SHARE * dynamic).argmax(axis=0), np.arange(RUNS))
    return Observed(
        stack="nanotron",
        sources=("made up",) * RUNS,
        sweep=np.arange(RUNS) % 10,
        held=held,
        dynamic=dynamic,
        capacity=capacity,
        ran=need <= capacity,
        figure=need if figures else np.full(RUNS, np.nan),
        counted=held[at],
        exposed=dynamic[at],
    )


@pytest.mark.parametrize(("figures", "labels"), [(True, False), (False, True), (True, True)])
def test_the_share_is_found(figures: bool, labels: bool) -> None:
    found = fit(observed(figures=figures, labels=labels))
    assert found.share == pytest.approx(SHARE, rel=0.1)
    assert found.right.mean() > 0.9


def test_a_sweep_is_left_out_of_its_own_prediction() -> None:
    """One sweep that lost three times as much is not explained by its own figures, and hardly moves the others."""
    made = observed(figures=True, labels=False)
    odd = made.sweep == 0
    found = fit(replace(made, figure=np.where(odd, made.counted + 3 * SHARE * made.exposed, made.figure)))
    assert (found.error[odd] < -0.1).all()
    assert np.abs(found.error[~odd]).max() < 0.02


def test_runs_that_ran_with_room_say_nothing() -> None:
    made = observed(figures=False, labels=False)
    assert not made.speaks
    assert fit(made).share == pytest.approx(stack_as_described("nanotron").fragmentation.value, rel=0.02)


def test_published_runs_speak_of_the_stacks_that_count_it() -> None:
    """Allocated tensors do not show what the allocator loses; reserved blocks and failures do."""
    found = corpus()
    few = Corpus(tuple(row for row in found.rows if row.source in ("layouts-2023", "simumax")), found.models)
    assert {one.stack for one in observed_runs(few)} == {"aa-scaling", "megatron-core-plain"}
    (shown,) = allocators(few)
    assert shown.of.stack == "aa-scaling"
    assert shown.right.mean() > 0.93
