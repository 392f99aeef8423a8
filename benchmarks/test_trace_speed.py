"""Speed of a trace: 64 stages x 512 microbatches, written to a file."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from steps import CATEGORIES, replay

from simtrain.cli.output import write_pieces
from simtrain.timeline.schedules import one_f_one_b
from simtrain.views.trace import trace


def test_trace(benchmark, tmp_path) -> None:
    """Messages beside passes: every kind of event is there."""
    found, held = replay(one_f_one_b.order(64, 1, 512), shown=0.5)
    out = tmp_path / "step.json"
    benchmark.pedantic(lambda: write_pieces(out, trace(found, held, CATEGORIES)), rounds=3, warmup_rounds=1)
    print(f"\n{out.stat().st_size / 1e6:.0f} MB")
