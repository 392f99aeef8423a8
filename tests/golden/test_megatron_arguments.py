"""Exported Megatron-LM arguments against those that published runs state, and those imported again."""

import shlex
import tomllib
from pathlib import Path

import pytest

from simtrain.export.imports import brought
from simtrain.export.megatron_lm import settings
from simtrain.spec.request import Request
from simtrain.validation.corpus import corpus
from simtrain.validation.rows import Expressed, express

PUBLISHED = tomllib.loads((Path(__file__).parent / "megatron_arguments.toml").read_text(encoding="utf-8"))
RUNS = {run: (group, flags) for group, held in PUBLISHED.items() for run, flags in held["runs"].items()}


@pytest.fixture(scope="module")
def expressed() -> dict[str, Expressed]:
    found = [each for group in PUBLISHED.values() for each in express(corpus().of_source(group["source"]))]
    return {each.row.id: each for each in found if isinstance(each, Expressed)}


def published_flags(run: str) -> str:
    group, flags = RUNS[run]
    return f"pretrain_gpt.py {flags} {PUBLISHED[group]['shared']}"


def stated(text: str) -> dict[str, str]:
    words = shlex.split(text)
    names = [place for place, word in enumerate(words) if word.startswith("--")]
    return {
        words[here]: " ".join(words[here + 1 : there])
        for here, there in zip(names, [*names[1:], len(words)], strict=True)
    }


def test_enough_runs() -> None:
    assert len(RUNS) >= 6


@pytest.mark.parametrize("run", RUNS)
def test_flags_both_have_are_equal(run: str, expressed: dict[str, Expressed]) -> None:
    published = stated(published_flags(run))
    told = settings(expressed[run].job, expressed[run].plan)
    ours = {name: "" if value is True else str(value) for name, value in told.values.items()}
    both = published.keys() & ours.keys()
    assert len(both) >= 10
    assert {name: ours[name] for name in both} == {name: published[name] for name in both}
    assert told.lost == ()


@pytest.mark.parametrize("run", RUNS)
def test_published_flags_are_the_plan_of_the_row(run: str, expressed: dict[str, Expressed]) -> None:
    row = expressed[run]
    asked = Request(cluster=PUBLISHED[RUNS[run][0]]["cluster"], gpus=str(row.job.devices), stack=row.job.stack.name)
    found = brought("megatron-lm", published_flags(run), asked, {})
    assert found.plan == row.plan
    assert found.imported.unknown == ()
    shape = found.job.model.model_dump(include={"layers", "hidden", "heads", "ffn", "gated"})
    assert shape == row.job.model.model_dump(include={"layers", "hidden", "heads", "ffn", "gated"})
