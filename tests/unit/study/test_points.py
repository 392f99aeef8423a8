"""What is varied, in words, and the points it makes."""

import pytest

from simtrain.errors import WrongInput
from simtrain.spec.request import Request
from simtrain.study.points import axis, points

BASE = Request(model="llama-3-8b", cluster="dgx-h100", global_batch="64")


@pytest.mark.parametrize(
    ("text", "name", "values"),
    [
        ("gpus=64..4096", "gpus", ("64", "128", "256", "512", "1024", "2048", "4096")),
        ("gpus=48..200", "gpus", ("48", "96", "192")),
        ("gpus=8,64..128", "gpus", ("8", "64", "128")),
        ("seq=4k..16k", "seq", ("4096", "8192", "16384")),
        ("seq=4k,8k", "seq", ("4k", "8k")),
        ("global-batch=64,128,64", "global_batch", ("64", "128")),
        ("cluster=dgx-a100,dgx-h100", "cluster", ("dgx-a100", "dgx-h100")),
    ],
)
def test_axes(text: str, name: str, values: tuple[str, ...]) -> None:
    assert axis(text) == (name, values)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("gpus", "names no values"),
        ("gpus=", "names no values"),
        ("gpu=8", "did you mean gpus"),
        ("gpus=64..8", "write gpus=8..64"),
        ("gpus=a..b", "two whole numbers"),
        ("cluster=dgx-a100..dgx-h100", "two whole numbers"),
    ],
)
def test_wrong_axes(text: str, says: str) -> None:
    with pytest.raises(WrongInput) as wrong:
        axis(text)
    assert any(says in f"{problem} {problem.hint}" for problem in wrong.value.problems)


def test_every_combination_the_last_fastest() -> None:
    found = points(BASE, [("gpus", ("8", "16")), ("seq", ("4k", "8k"))])
    assert [(point.job.devices, point.job.sequence) for point in found] == [
        (8, 4096),
        (8, 8192),
        (16, 4096),
        (16, 8192),
    ]
    assert found[1].settings == {"gpus": "8", "seq": "8k"}


def test_what_is_wrong_anywhere_is_said_once() -> None:
    with pytest.raises(WrongInput) as wrong:
        points(BASE, [("gpus", ("8", "12")), ("cluster", ("dgx-h100", "dgx-h1000")), ("seq", ("4k", "x"))])
    said = [str(problem) for problem in wrong.value.problems]
    assert sorted(set(said)) == sorted(said)
    assert len(said) == 3


def test_twice_the_same_axis() -> None:
    with pytest.raises(WrongInput, match="varied twice"):
        points(BASE, [("gpus", ("8",)), ("gpus", ("16",))])


@pytest.mark.parametrize(("axes", "said"), [([("gpu", ["4"])], "is not known"), ([("gpus", [])], "names no values")])
def test_axes_given_from_python_are_checked(axes: list, said: str) -> None:
    with pytest.raises(WrongInput, match=said):
        points(Request(model="llama-3-8b", cluster="dgx-h100"), axes)
