"""Where states are: names, and what is read as them."""

import numpy as np
import pytest

from simtrain.spec.placement import CPU, DEVICE, NVME, OFFLOAD, PLACE_OF, STATES, placement
from simtrain.spec.plan import Plan, PlanTable


def places(text: str) -> dict[str, int]:
    return dict(zip(STATES, PLACE_OF[OFFLOAD.index(placement(text))].tolist(), strict=True))


def test_every_combination_has_a_name_that_is_read_back() -> None:
    assert len(OFFLOAD) == len(set(OFFLOAD)) == 3**4
    assert len(np.unique(PLACE_OF, axis=0)) == 3**4
    assert [placement(name) for name in OFFLOAD] == list(OFFLOAD)
    assert PlanTable.of([Plan(offload=name, pp=1) for name in OFFLOAD]).offload.tolist() == list(range(3**4))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("none", {}),
        ("optimizer", {"gradients": CPU, "master": CPU, "moments": CPU}),
        ("weights = cpu, optimizer = nvme", {"weights": CPU, "gradients": NVME, "master": NVME, "moments": NVME}),
        ("all=nvme,gradients=device", {"weights": NVME, "master": NVME, "moments": NVME}),
        ("moments", {"moments": CPU}),
    ],
)
def test_what_is_not_named_stays(text: str, expected: dict[str, int]) -> None:
    assert places(text) == dict.fromkeys(STATES, DEVICE) | expected


@pytest.mark.parametrize(("text", "said"), [("weight", "did you mean weights"), ("all=disk", "no place for all")])
def test_what_is_neither(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        placement(text)
