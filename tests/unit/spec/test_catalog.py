"""The model catalog: what it holds agrees with what was published, and names and files are found."""

from pathlib import Path

import pytest

from simtrain.errors import WrongInput
from simtrain.spec import catalog, library
from simtrain.spec.base import Evidence
from simtrain.spec.model import Model
from simtrain.workload.parameters import active, total

NAMES = catalog.model_names()
SHAPE_DISAGREES = {"gpt-3-350m": 355_871_744}
"""Models whose own paper rounds to something their shape does not give, with the count of the shape."""


def rounded_like(count: int, published: int) -> int:
    digits = len(str(published).rstrip("0"))
    return int(float(f"{count:.{digits - 1}e}"))


def test_rounding_keeps_the_digits_of_the_published_figure() -> None:
    assert rounded_like(174_604_259_328, 175_000_000_000) == 175_000_000_000
    assert rounded_like(174_604_259_328, 174_600_000_000) == 174_600_000_000
    assert rounded_like(8_030_261_248, 8_030_261_248) == 8_030_261_248


def test_holds_at_least_ninety_models() -> None:
    assert len(NAMES) >= 90


@pytest.mark.parametrize("name", NAMES)
def test_count_is_the_published_one(name: str) -> None:
    model = catalog.model(name)
    published = model.published_parameters
    assert published is not None
    assert published.value.is_integer()
    if name in SHAPE_DISAGREES:
        assert published.evidence is Evidence.ASSUMED
        assert published.note
        assert total(model) == SHAPE_DISAGREES[name]
    else:
        assert rounded_like(total(model), int(published.value)) == published.value


@pytest.mark.parametrize("name", NAMES)
def test_every_number_has_a_source_and_a_grade(name: str) -> None:
    model = catalog.model(name)
    assert model.name == name
    assert model.source != Model.model_fields["source"].default
    assert model.published_parameters is not None
    assert {"source", "evidence"} <= model.published_parameters.model_fields_set


def test_many_counts_are_exact_ones_of_checkpoints() -> None:
    facts = [catalog.model(name).published_parameters for name in NAMES]
    counted = [fact for fact in facts if fact is not None and fact.evidence is Evidence.MEASURED_ELSEWHERE]
    assert len(counted) >= 30


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("mixtral-8x7b", 12.9),
        ("qwen-3-30b-a3b", 3.4),
        ("qwen-3-235b-a22b", 22.2),
        ("deepseek-v3", 37.6),
        ("llama-4-maverick", 17.2),
        ("glam-1.2t", 96.6),
        ("gpt-oss-120b", 5.7),
    ],
)
def test_active_count(name: str, billions: float) -> None:
    assert round(active(catalog.model(name)) / 1e9, 1) == billions


@pytest.mark.parametrize(
    ("name", "layers"),
    [("llama-4-maverick", 24), ("glam-1.2t", 32), ("deepseek-v3", 58), ("deepseek-v2-lite", 26), ("llama-3-8b", 0)],
)
def test_layers_with_experts(name: str, layers: int) -> None:
    assert catalog.model(name).moe_layers == layers


@pytest.mark.parametrize(
    ("name", "layers"),
    [("mistral-7b", 32), ("gemma-2-9b", 21), ("gemma-3-12b", 40), ("gemma-3-1b", 22), ("gpt-oss-20b", 12)],
)
def test_layers_with_a_window(name: str, layers: int) -> None:
    assert catalog.model(name).windowed_layers == layers


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("llama3-70b", "llama-3-70b"),
        ("gpt3-175b", "gpt-3-175b"),
        ("Llama-3-70B", "llama-3-70b"),
        ("GPT2", "gpt-2-small"),
        ("DeepSeek-V3", "deepseek-v3"),
        ("qwen2.5-7b", "qwen-2.5-7b"),
    ],
)
def test_aliases_and_any_case(typed: str, name: str) -> None:
    assert catalog.model(typed) is catalog.model(name)


def test_no_two_models_answer_to_one_name() -> None:
    tables = [
        library.read_toml(library.path_of(catalog.FOLDER, f"{file}.toml")) for file in library.names(catalog.FOLDER)
    ]
    models = [(name, table) for file in tables for name, table in file.items() if name != "family"]
    answers = [name for name, _ in models] + [alias for _, table in models for alias in table.get("aliases", ())]
    assert len(answers) == len(set(answers))
    assert answers == [answer.lower() for answer in answers]


def test_each_family_file_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def counting(path: Path) -> dict[str, object]:
        read.append(path.name)
        return library.read_toml(path)

    monkeypatch.setattr(catalog, "read_toml", counting)
    for cached in (catalog._tables, catalog._aliases, catalog._named):
        cached.cache_clear()
    for name in NAMES:
        catalog.model(name)
    assert sorted(read) == sorted(f"{file}.toml" for file in library.names(catalog.FOLDER))


def test_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(WrongInput) as raised:
        catalog.model("lama-3-70b")
    (problem,) = raised.value.problems
    assert problem.value == "lama-3-70b"
    assert "llama-3-70b" in problem.hint


@pytest.mark.parametrize("name", ["", " ", "no such", "a\0b", "x" * 5000, "..x", "nowhere/at/all"])
def test_nonsense_is_an_unknown_name(name: str) -> None:
    with pytest.raises(WrongInput, match="is not known"):
        catalog.model(name)


OWN = """
layers = 2
hidden = 64
heads = 4
kv_heads = 2
head_dim = 16
ffn = 128
gated = true
vocabulary = 1000
"""


def test_own_toml(tmp_path: Path) -> None:
    file = tmp_path / "tiny.toml"
    file.write_text(OWN)
    model = catalog.model(str(file))
    assert model.name == "tiny"
    assert total(model) == 2 * (2 * 64 * (64 + 32) + 3 * 64 * 128 + 2 * 64) + 2 * 1000 * 64 + 64


def test_own_toml_names_every_problem(tmp_path: Path) -> None:
    file = tmp_path / "tiny.toml"
    file.write_text(OWN.replace("layers = 2", "layer = 2").replace("heads = 4", "heads = 0", 1))
    with pytest.raises(WrongInput) as raised:
        catalog.model(str(file))
    wheres = {problem.where.removeprefix(f"{file}.") for problem in raised.value.problems}
    assert wheres == {"layers", "layer", "heads"}


@pytest.mark.parametrize("name", ["missing.toml", "missing.json", "missing\0.json", "x" * 5000 + ".json"])
def test_missing_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(WrongInput, match="cannot be read"):
        catalog.model(str(tmp_path / name))
