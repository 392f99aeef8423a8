"""`simtrain show`: names, and one thing with its sources."""

import json
from collections.abc import Callable

import pytest
from conftest import Run

KINDS = {
    "devices": "h100-sxm-80gb",
    "nodes": "dgx-h100",
    "clusters": "dgx-h100",
    "models": "llama-3-8b",
    "stacks": "megatron-core",
    "precisions": "bf16-mixed",
    "optimizers": "adamw",
}


def test_show(run: Run, snapshot: Callable[[str], None]) -> None:
    outcome = run("show", "devices", "l40s")
    assert (outcome.code, outcome.err) == (0, "")
    snapshot(outcome.out)


@pytest.mark.parametrize(("kind", "name"), KINDS.items())
def test_a_kind_and_one_of_it(run: Run, kind: str, name: str) -> None:
    listed = run("show", kind)
    assert listed.code == 0
    names = [line.split()[0] for line in listed.out.splitlines()]
    assert name in names
    answer = json.loads(run("show", kind, "--json").out)
    assert answer == {"format_version": 1, kind: names}
    one = run("show", kind, name)
    assert one.code == 0
    assert name in one.out
    document = json.loads(run("show", kind, name, "--json").out)
    assert document["format_version"] == 1
    assert document[kind.removesuffix("s")]["name"] == name


def test_every_number_of_a_device_has_a_source(run: Run) -> None:
    lines = run("show", "devices", "h100-sxm-80gb").out.splitlines()
    memory = next(line for line in lines if line.strip().startswith("memory "))
    assert "GiB" in memory
    assert len(memory.split()) > 4


def test_unknown_names_get_the_nearest(run: Run) -> None:
    kind = run("show", "device")
    assert (kind.code, kind.out) == (2, "")
    assert "did you mean devices?" in kind.err
    name = run("show", "clusters", "dgxh100")
    assert name.code == 2
    assert "did you mean dgx-h100" in name.err


def test_missing_kind(run: Run) -> None:
    outcome = run("show")
    assert (outcome.code, outcome.out) == (2, "")
    assert "Missing argument" in outcome.err
    assert "simtrain show --help" in outcome.err


@pytest.mark.parametrize("kind", [*KINDS, "policies"])
def test_everything_known_can_be_shown(run: Run, kind: str) -> None:
    for name in json.loads(run("show", kind, "--json").out)[kind]:
        outcome = run("show", kind, name)
        assert (outcome.code, outcome.err) == (0, ""), name
