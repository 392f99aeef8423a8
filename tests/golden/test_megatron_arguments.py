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
RUNS = PUBLISHED["runs"]


@pytest.fixture(scope="module")
def expressed() -> dict[str, Expressed]:
    found = express(corpus().of_source("megatron-sc21"))
    return {each.row.id: each for each in found if isinstance(each, Expressed)}


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
    published = stated(f"{RUNS[run]} {PUBLISHED['shared']}")
    told = settings(expressed[run].job, expressed[run].plan)
    ours = {name: "" if value is True else str(value) for name, value in told.values.items()}
    both = published.keys() & ours.keys()
    assert len(both) >= 10
    assert {name: ours[name] for name in both} == {name: published[name] for name in both}
    assert told.lost == ()


@pytest.mark.parametrize("run", RUNS)
def test_published_flags_are_the_plan_of_the_row(run: str, expressed: dict[str, Expressed]) -> None:
    row = expressed[run]
    asked = Request(cluster="selene", gpus=str(row.job.devices), stack=row.job.stack.name)
    found = brought("megatron-lm", f"pretrain_gpt.py {RUNS[run]} {PUBLISHED['shared']}", asked, {})
    assert found.plan == row.plan
    assert found.imported.unknown == ()
    shape = found.job.model.model_dump(include={"layers", "hidden", "heads", "ffn", "gated"})
    assert shape == row.job.model.model_dump(include={"layers", "hidden", "heads", "ffn", "gated"})
