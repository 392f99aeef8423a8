"""How layers are divided over stages."""

import pytest
from jobs import job

from simtrain.spec.base import Fact
from simtrain.spec.job import Job
from simtrain.spec.plan import Plan, PlanTable
from simtrain.workload.strategies.pipeline import Layout, layout, stage_layers


def divided(pp: int, division: str, **model: int) -> Layout:
    asked: Job = job("llama-3-8b", gpus=64)
    stack = asked.stack.model_copy(update={"division": Fact(value=division)})
    changed = asked.model.model_copy(update=model)
    return layout(
        asked.model_copy(update={"stack": stack, "model": changed}), PlanTable.of([Plan(pp=pp, global_batch=64)])
    )


SMALL = {
    "layers": 16,
    "hidden": 2048,
    "heads": 32,
    "kv_heads": 32,
    "head_dim": 64,
    "ffn": 8192,
    "vocabulary": 131072,
}
LARGE = {"layers": 32, "kv_heads": 32, "vocabulary": 131072}


@pytest.mark.parametrize(
    ("shape", "pp", "first"),
    [
        *((LARGE, pp, first) for pp, first in ((1, 32), (2, 18), (4, 9), (8, 5), (16, 3), (32, 2))),
        *((SMALL, pp, first) for pp, first in ((2, 10), (4, 5), (8, 3), (16, 2))),
    ],
)
def test_first_stage_by_cost(shape: dict[str, int], pp: int, first: int) -> None:
    """Layers of nanotron-bench's first stages, as their allocated memory at rest tells."""
    assert divided(pp, "by cost", **shape).layers[0, 0] == first


@pytest.mark.parametrize(("pp", "layers", "place"), [(16, 0, 15), (8, 2, 7), (32, 0, 30)])
def test_a_head_that_would_exceed_a_share_stands_alone(pp: int, layers: int, place: int) -> None:
    """32 layers and a head of 2.207: of 16 stages the last has the head alone, as their times tell."""
    found = divided(pp, "by cost", **LARGE)
    assert (found.layers[3, 0], found.position[3, 0], found.head[3, 0]) == (layers, place, 1)


@pytest.mark.parametrize("division", ["even", "by cost", "with ends"])
@pytest.mark.parametrize("pp", [1, 2, 3, 5, 7, 8, 16])
def test_every_layer_and_both_ends_are_held_once(division: str, pp: int) -> None:
    found = divided(pp, division, **SMALL)
    assert (found.count * found.layers).sum() == 16
    assert (found.count * found.head).sum() == (found.count * found.embedding).sum() == 1
    assert (found.count >= 0).all()


def test_a_head_as_large_as_four_layers() -> None:
    """20 units over 8 stages: 3, 2, 3, 2, 3, 2, one layer, then the head."""
    found = divided(8, "by cost", **SMALL)
    assert found.count[:, 0].tolist() == [1, 1, 5, 1]
    assert found.layers[:, 0].tolist() == [3, 3, 2, 0]
    assert found.position[3, 0] == 7


@pytest.mark.parametrize(("pp", "layers"), [(2, (41, 39)), (4, (20, 21, 21, 18)), (8, (10, 11, 11, 10, 10, 10, 10, 8))])
def test_ends_count_as_layers(pp: int, layers: tuple[int, ...]) -> None:
    """80 layers, embedding, norm and head are 83: what does not divide goes to the earliest stages."""
    found = divided(pp, "with ends", layers=80)
    stages = [found.layers[kind, 0] for kind in range(4) for _ in range(int(found.count[kind, 0]))]
    assert stages == list(layers)


@pytest.mark.parametrize(
    ("pp", "vpp", "first", "last"),
    [(16, 1, 4, 1), (8, 2, 8, 5), (4, 4, 16, 13), (2, 8, 32, 29), (1, 1, 61, 61), (24, 1, 2, 2)],
)
def test_modules_that_predict_further_leave_the_last_stage_the_rest(pp: int, vpp: int, first: int, last: int) -> None:
    """The layouts of Megatron-Bridge's DeepSeek-V3 (recipes/deepseek/deepseek_v3.py, layout_map; Et*4|(t*4|)*14tmL).

    24 stages of three would leave none."""
    plain: Job = job("deepseek-v3", gpus=64)
    asked = plain.model_copy(update={"model": plain.model.model_copy(update={"prediction_modules": 1})})
    plans = PlanTable.of([Plan(pp=pp, vpp=vpp, schedule="interleaved" if vpp > 1 else "1f1b", global_batch=64)])
    found, without = layout(asked, plans), layout(plain, plans)
    assert stage_layers(asked, plans)[0] == first
    assert stage_layers(asked, plans)[-1] == last
    assert (found.count * found.layers).sum() == (without.count * without.layers).sum() + 1
    assert (found.count * (found.layers - found.dense)).sum() == 58 + 1
