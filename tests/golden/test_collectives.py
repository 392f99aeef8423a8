"""Collectives against published measurements (collectives.csv): the error of each row may only shrink."""

import csv
import statistics
from collections import defaultdict
from pathlib import Path

import pytest

from simtrain.price.collectives import Group, collective_seconds, network
from simtrain.spec import load

ROWS = list(csv.DictReader(Path(__file__).with_name("collectives.csv").read_text(encoding="utf-8").splitlines()))
DOMAIN = {"gb200-nvl72": 72}
SLACK = 0.01
"""Rounding of the recorded errors, and room for harmless changes of order."""


@pytest.fixture(scope="module")
def errors():
    networks = {name: network(load.cluster(name), DOMAIN.get(name, 8)) for name in {row["cluster"] for row in ROWS}}
    found = []
    for row in ROWS:
        ranks = Group(float(row["members"]), float(row["local"]))
        timed = collective_seconds(networks[row["cluster"]], row["collective"], float(row["bytes"]), ranks)
        found.append(timed.seconds.item() / float(row["time_s"]) - 1)
    return found


def test_no_row_is_worse_than_recorded(errors):
    worse = {
        (row["cluster"], row["collective"], row["members"], row["local"], row["bytes"]): (row["error"], round(error, 3))
        for row, error in zip(ROWS, errors, strict=True)
        if abs(error) > abs(float(row["error"])) + SLACK
    }
    assert not worse


@pytest.mark.parametrize(
    ("source", "median", "largest"),
    [
        ("ZiyanIshani/vpbenchmarking @b841c5b", 0.12, 0.36),
        ("arXiv 2411.13055, read off the plot", 0.08, 0.16),
        ("NVIDIA GTC24 S62129, read off the plot", 0.05, 0.18),
        ("stas00/ml-engineering @744d01e", 0.09, 0.39),
        ("stas00/ml-engineering @744d01e, NVLS sweep", 0.05, 0.11),
        ("microsoft/vidur @7d47513", 0.04, 0.33),
        ("NVIDIA GTC25 S72583", 0.03, 0.30),
    ],
)
def test_a_source_is_met_within_its_band(errors, source, median, largest):
    by_source = defaultdict(list)
    for row, error in zip(ROWS, errors, strict=True):
        by_source[row["source"]].append(abs(error))
    assert statistics.median(by_source[source]) <= median
    assert max(by_source[source]) <= largest
