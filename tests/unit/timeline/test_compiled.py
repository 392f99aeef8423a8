"""Functions that cannot be kept on disk are compiled all the same."""

from simtrain.timeline.compiled import compiled


def test_a_function_without_a_file() -> None:
    """As in an installation nobody may write to: there is no place for what is compiled."""
    names: dict[str, object] = {}
    exec("def double(x):\n    return 2 * x", names)
    double = compiled(names["double"])
    assert double(21) == 42
    assert double.signatures
