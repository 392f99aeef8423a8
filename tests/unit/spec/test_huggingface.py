"""config.json files: real ones count as the catalog does, wrong ones name every problem."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simtrain.errors import Problem, WrongInput
from simtrain.spec import catalog, huggingface
from simtrain.spec.model import Model
from simtrain.workload.parameters import active, parameters, total

CONFIGS = sorted((Path(__file__).parent / "configs").glob("*.json"))
SAME_SHAPE = {"qwen-2-7b": "qwen-2.5-7b"}
"""Configs of models that the catalog holds under a sibling's name."""
OUTSIDE = {"name", "source", "published_parameters", "maximum_positions"}
"""Fields that are not the shape: names, sources, and the context length a model was trained at or stretched to."""


def config(name: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((Path(__file__).parent / "configs" / f"{name}.json").read_text())
    return data


def read(folder: Path, data: object) -> Model:
    file = folder / "config.json"
    file.write_text(data if isinstance(data, str) else json.dumps(data))
    return huggingface.model(file)


def problems(folder: Path, data: object) -> dict[str, Problem]:
    with pytest.raises(WrongInput) as raised:
        read(folder, data)
    return {problem.where.split("config.json")[-1].removeprefix("."): problem for problem in raised.value.problems}


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_real_config_is_the_catalog_model(file: Path) -> None:
    model = catalog.model(str(file))
    known = catalog.model(SAME_SHAPE.get(file.stem, file.stem))
    assert parameters(model) == parameters(known)
    assert (total(model), active(model)) == (total(known), active(known))
    assert model.model_dump(exclude=OUTSIDE) == known.model_dump(exclude=OUTSIDE)


def test_every_model_type_has_a_real_config() -> None:
    assert {json.loads(file.read_text())["model_type"] for file in CONFIGS} == set(huggingface.model_types())


def test_folder_gives_the_name(tmp_path: Path) -> None:
    folder = tmp_path / "my-llama"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config("llama-3-8b")))
    model = catalog.model(str(folder))
    assert model.name == "my-llama"
    assert "llama" in model.source


def test_folder_without_config(tmp_path: Path) -> None:
    with pytest.raises(WrongInput, match=r"config\.json: cannot be read"):
        catalog.model(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "absent", "field", "value"),
    [
        ("llama-3-8b", "num_key_value_heads", "kv_heads", 32),
        ("llama-3-8b", "tie_word_embeddings", "tied_embeddings", False),
        ("llama-3.2-1b", "head_dim", "head_dim", 64),
        ("mistral-7b", "num_key_value_heads", "kv_heads", 8),
        ("mistral-7b", "sliding_window", "windowed_layers", 32),
        ("mixtral-8x7b", "sliding_window", "windowed_layers", 0),
        ("qwen-3-8b", "head_dim", "head_dim", 128),
        ("qwen-3-30b-a3b", "head_dim", "head_dim", 64),
        ("gemma-2-9b", "head_dim", "head_dim", 256),
        ("gemma-3-1b", "vocab_size", "vocabulary", 262208),
        ("phi-3-mini", "sliding_window", "window", None),
        ("gpt-2-small", "n_positions", "learned_positions", 1024),
        ("pythia-6.9b", "tie_word_embeddings", "tied_embeddings", False),
        ("gpt-oss-20b", "layer_types", "windowed_layers", 12),
        ("deepseek-v2-lite", "first_k_dense_replace", "moe_layers", 27),
        ("deepseek-v3", "first_k_dense_replace", "moe_layers", 58),
    ],
)
def test_absent_key_takes_the_default_of_its_class(
    tmp_path: Path, name: str, absent: str, field: str, value: object
) -> None:
    data = config(name)
    del data[absent]
    assert getattr(read(tmp_path, data), field) == value


@pytest.mark.parametrize(
    ("name", "key", "field", "value"),
    [
        ("llama-3-8b", "num_key_value_heads", "kv_heads", 32),
        ("mistral-7b", "num_key_value_heads", "kv_heads", 32),
        ("mistral-7b", "sliding_window", "window", None),
        ("gpt-2-small", "n_inner", "ffn", 3072),
    ],
)
def test_null(tmp_path: Path, name: str, key: str, field: str, value: object) -> None:
    assert getattr(read(tmp_path, config(name) | {key: None}), field) == value


@pytest.mark.parametrize(
    ("name", "change", "field", "value"),
    [
        ("llama-3-8b", {"attention_bias": True}, "output_bias", True),
        ("llama-3-8b", {"mlp_bias": True}, "mlp_bias", True),
        ("qwen-3-30b-a3b", {"decoder_sparse_step": 2}, "moe_layers", 24),
        ("deepseek-v3", {"first_k_dense_replace": 1}, "moe_layers", 60),
        ("gpt-2-small", {"n_inner": 1000}, "ffn", 1000),
        ("gpt-oss-20b", {"layer_types": ["full_attention"] * 24}, "window", None),
        ("gpt-oss-20b", {"layer_types": ["sliding_attention"] * 24}, "windowed_layers", 24),
        ("gpt-oss-20b", {"layer_types": (["sliding_attention"] * 3 + ["full_attention"]) * 6}, "windowed_layers", 18),
    ],
)
def test_key_is_read(tmp_path: Path, name: str, change: dict[str, object], field: str, value: object) -> None:
    assert getattr(read(tmp_path, config(name) | change), field) == value


def test_shared_experts_multiply(tmp_path: Path) -> None:
    experts = read(tmp_path, config("deepseek-v3") | {"n_shared_experts": 3}).experts
    assert experts is not None
    assert experts.shared_ffn == 3 * 2048


@pytest.mark.parametrize("kind", ["t5", "_decoder", 7, ["llama"], {"a": 1}, True])
def test_unknown_model_type_lists_the_known(tmp_path: Path, kind: object) -> None:
    found = problems(tmp_path, {"model_type": kind})
    assert found.keys() == {"model_type"}
    for known in ("llama", "deepseek_v3", "gpt_oss"):
        assert known in found["model_type"].hint
    assert "_decoder" not in found["model_type"].hint


def test_no_model_type(tmp_path: Path) -> None:
    found = problems(tmp_path, {"hidden_size": 8})
    assert found["model_type"].rule == "is missing"
    assert "known: bloom" in found["model_type"].hint


def test_all_missing_keys_at_once(tmp_path: Path) -> None:
    found = problems(tmp_path, {"model_type": "llama"})
    assert found.keys() == {
        "num_hidden_layers",
        "hidden_size",
        "num_attention_heads",
        "intermediate_size",
        "vocab_size",
    }
    assert {problem.rule for problem in found.values()} == {"is missing"}


def test_missing_and_wrong_together(tmp_path: Path) -> None:
    data = config("deepseek-v3") | {
        "num_hidden_layers": "61",
        "hidden_size": 7168.0,
        "tie_word_embeddings": "no",
        "moe_layer_freq": 2,
        "n_routed_experts": True,
    }
    del data["vocab_size"]
    found = problems(tmp_path, data)
    assert found.keys() == {
        "num_hidden_layers",
        "hidden_size",
        "tie_word_embeddings",
        "moe_layer_freq",
        "n_routed_experts",
        "vocab_size",
    }
    assert found["num_hidden_layers"].value == "61"
    assert "whole number" in found["num_hidden_layers"].rule
    assert "true or false" in found["tie_word_embeddings"].rule


@pytest.mark.parametrize(
    ("name", "change", "key"),
    [
        ("llama-3-8b", {"hidden_size": 0}, "hidden_size"),
        ("llama-3-8b", {"num_attention_heads": 0}, "num_attention_heads"),
        ("llama-3-8b", {"vocab_size": -1}, "vocab_size"),
        ("llama-3-8b", {"vocab_size": 10**30}, "vocab_size"),
        ("llama-3-8b", {"hidden_size": [4096]}, "hidden_size"),
        ("llama-3-8b", {"hidden_size": float("nan")}, "hidden_size"),
        ("llama-3-8b", {"num_key_value_heads": 5}, ""),
        ("mixtral-8x7b", {"num_experts_per_tok": 9}, "experts"),
        ("mixtral-8x7b", {"num_local_experts": 0}, "num_local_experts"),
        ("bloom-176b", {"n_embed": 0}, "n_embed"),
        ("qwen-2-7b", {"use_sliding_window": True}, "use_sliding_window"),
        ("qwen-3-30b-a3b", {"mlp_only_layers": [0]}, "mlp_only_layers"),
        ("opt-6.7b", {"word_embed_proj_dim": 512}, "word_embed_proj_dim"),
        ("deepseek-v3", {"attention_bias": True}, "attention_bias"),
        ("deepseek-v3", {"first_k_dense_replace": 62}, ""),
        ("deepseek-v3", {"intermediate_size": 0}, ""),
        ("gemma-3-12b", {"text_config": 3}, "text_config"),
        ("gemma-3-12b", {"text_config": {"hidden_size": 8, "num_hidden_layers": 2}}, "text_config.intermediate_size"),
        ("gpt-oss-20b", {"layer_types": "all"}, "layer_types"),
        ("gpt-oss-20b", {"layer_types": ["full_attention"] * 3}, "layer_types"),
        ("gpt-oss-20b", {"layer_types": ["linear_attention"] * 24}, "layer_types"),
        ("gpt-oss-20b", {"layer_types": ["full_attention", "sliding_attention"] * 12}, "layer_types"),
        ("llama-3-8b", {"layer_types": ["sliding_attention"] * 32}, "layer_types"),
    ],
)
def test_wrong_value_names_the_key(tmp_path: Path, name: str, change: dict[str, object], key: str) -> None:
    assert key in problems(tmp_path, config(name) | change)


def test_multimodal_config_without_text(tmp_path: Path) -> None:
    assert problems(tmp_path, {"model_type": "gemma3"})["text_config"].rule == "is missing"


def test_broken_json_names_the_line(tmp_path: Path) -> None:
    found = problems(tmp_path, '{\n  "model_type": "llama",\n  "hidden_size": 4096,,\n}')
    assert "line 3" in found[""].rule


@pytest.mark.parametrize("text", ["[]", "3", '"llama"', "null", "", "[" * 100_000, "1" * 5000])
def test_not_an_object(tmp_path: Path, text: str) -> None:
    assert problems(tmp_path, text)[""].rule


def test_not_text(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(WrongInput, match="cannot be read"):
        huggingface.model(file)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(data=st.data())
def test_never_a_traceback(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    file = data.draw(st.sampled_from(CONFIGS))
    values = json.loads(file.read_text())
    keys = data.draw(st.lists(st.sampled_from([*sorted(values), "layer_types"]), min_size=1, max_size=4))
    changed = values | {key: data.draw(ANYTHING) for key in keys}
    folder = tmp_path_factory.mktemp("anything")
    with contextlib.suppress(WrongInput):
        assert total(read(folder, changed)) > 0
