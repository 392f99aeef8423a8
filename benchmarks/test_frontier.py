"""The time-energy frontier of GPT-3 175B on A100, eight stages, against lowtime (pip install 'simtrain[bench]')."""

import time

import numpy as np
import pytest

from simtrain.price.curve import Curve
from simtrain.price.power_profile import power_profile
from simtrain.search.deadline import Deadline
from simtrain.search.frontier import frontier
from simtrain.search.rounding import Rounder
from simtrain.timeline.graph import COMPUTE
from tests.perseus import blocking, pipeline

NAME = "gpt-3-175b-a100-sxm-80gb"
UNIT = 1e-3
"""Seconds lowtime floors durations to."""
POINTS = 200
"""Plans compared; all 1,088 of 12 microbatches were once (a change in search/polish.py should do it again)."""


@pytest.mark.parametrize("microbatches", [12, 48, 128])
def test_frontier(benchmark, microbatches: int) -> None:
    """The whole frontier to 0.1 %, clocks rounded and slack filled."""
    frontier(pipeline(NAME, 2))
    found = benchmark.pedantic(lambda: frontier(pipeline(NAME, microbatches)), rounds=3)
    gaps = [found.gap(point) for point in found.points]
    print(
        f"\n{len(found.points)} points, {100 * np.mean(gaps):.3f} % over the bound in the mean, {100 * max(gaps):.3f} %"
    )


def solved_by_lowtime(microbatches: int):
    """Every plan of lowtime: floored seconds, its own cost, and the clock of every (stage, phase, microbatch)."""
    pytest.importorskip("lowtime")
    import networkx as nx
    from lowtime.cost_model import ExponentialModel
    from lowtime.operation import CandidateExecutionOptions, DummyOperation, ExecutionOption, Operation, OperationSpec
    from lowtime.solver import PhillipsDessouky

    profile = power_profile(NAME)
    specs = {}
    for stage, pair in enumerate(profile.curves):
        for phase, curve in enumerate(pair):
            above = curve.over(blocking(profile))
            points = [
                ExecutionOption(real_time=float(t), unit_time=UNIT, cost=float(e), knob=float(f))
                for t, e, f in zip(above.seconds, above.joules, above.clock, strict=True)
            ]
            options = CandidateExecutionOptions(options=points)
            specs[stage, phase] = OperationSpec(options, ExponentialModel(options, search_strategy="best"))
    graph = pipeline(NAME, microbatches).graph
    count = int(graph.first[(COMPUTE + 1) * graph.ranks])
    dag = nx.DiGraph()
    operations = {at: Operation(specs[int(graph.rank[at]), int(graph.kind[at])]) for at in range(count)}
    for at, operation in operations.items():
        dag.add_node(at, op=operation)
    for at in range(count):
        before = [int(b) for b in graph.needs[at] if 0 <= b < count]
        if at not in graph.first:
            before.append(at - 1)
        dag.add_edges_from((b, at) for b in before)
    source, sink = count, count + 1
    dag.add_node(source, op=DummyOperation())
    dag.add_node(sink, op=DummyOperation())
    dag.add_edges_from((source, at) for at in range(count) if dag.in_degree(at) == 0)
    dag.add_edges_from((at, sink) for at in range(count) if dag.out_degree(at) == 0)
    dag.graph["source_node"], dag.graph["sink_node"] = source, sink
    start = time.perf_counter()
    plans = []
    for result in PhillipsDessouky(dag).run():
        clocks = [operations[at].assigned_knob for at in range(count)]
        plans.append((result.real_time, result.cost, clocks))
    return plans, time.perf_counter() - start, specs


@pytest.mark.filterwarnings("ignore:Covariance of the parameters", "ignore::RuntimeWarning:lowtime.cost_model")
@pytest.mark.parametrize("microbatches", [12, 48])
def test_energy_is_never_above_lowtimes(microbatches: int) -> None:
    """At the real time of lowtime's plans; and on its own fitted, floored problem our cost is its cost.

    lowtime takes minutes for 48 microbatches.
    """
    plans, took, specs = solved_by_lowtime(microbatches)
    found = pipeline(NAME, microbatches)
    rounder, solver = Rounder(found), Deadline(found)
    curves = [curve.over(blocking(power_profile(NAME))) for pair in power_profile(NAME).curves for curve in pair]
    count = len(plans[0][2])
    number = 2 * found.graph.rank[:count] + found.graph.kind[:count]
    ratios = []
    for _, _, clocks in plans[:: max(1, len(plans) // POINTS)]:
        rows = [int(np.flatnonzero(curves[c].clock == clock)[0]) for c, clock in zip(number, clocks, strict=True)]
        seconds = found.fixed.copy()
        seconds[:count] = [curves[c].seconds[row] for c, row in zip(number, rows, strict=True)]
        length = found.duration(seconds)
        theirs = sum(curves[c].joules[row] for c, row in zip(number, rows, strict=True)) + found.standing * length
        if length < found.duration(found.seconds(found.fastest)):
            continue
        ours = rounder.polished(rounder.point(length, solver.solve(length * (1 + 1e-9))[2]))
        ratios.append(found.joules(ours.choice, length) / theirs)
    print(f"\nlowtime: {len(plans)} plans, {took:.1f} s")
    print(f"our energy over theirs: {np.mean(ratios):.4f} in the mean, {max(ratios):.4f} at most")

    def floored(curve: Curve) -> Curve:
        """Every duration lowtime may choose, at its fitted cost."""
        spec = next(specs[k] for k, c in zip(specs, curves, strict=True) if c.seconds[0] == curve.seconds[0])
        units = [option.quant_time for option in spec.options.options]
        all_units = np.arange(min(units), max(units) + 1)
        cost = np.array([spec.cost_model(int(unit)) for unit in all_units])
        return Curve(all_units.astype(float), UNIT * all_units, cost + blocking(power_profile(NAME)) * UNIT * all_units)

    same = Deadline(pipeline(NAME, microbatches, floored))
    apart = [
        same.solve(real * (1 + 1e-12))[0] - found.standing * real - cost for real, cost, _ in plans[:: len(plans) // 12]
    ]
    costs = [cost for _, cost, _ in plans[:: len(plans) // 12]]
    print(f"on lowtime's own problem: {max(abs(a) / c for a, c in zip(apart, costs, strict=True)):.2e} apart at most")
    assert max(abs(a) / c for a, c in zip(apart, costs, strict=True)) < 1e-4
    assert np.mean(ratios) < 0.998
    assert max(ratios) <= 1 + 1e-9
