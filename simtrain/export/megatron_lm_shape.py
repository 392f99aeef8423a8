"""The model that arguments of Megatron-LM describe."""

import ast
from typing import Any, Final

from simtrain.errors import Problem
from simtrain.spec.catalog import model, model_names
from simtrain.spec.model import Model

Given = dict[str, str]
GPT_2_VOCABULARY: Final = 50257
"""Entries of the vocabulary that --vocab-file and --merge-file name in Megatron-LM's own scripts (GPT2BPETokenizer)."""
NEEDED: Final = ("--num-layers", "--hidden-size", "--num-attention-heads", "--seq-length")


class Numbers:
    """Whole numbers among the values of flags; what cannot be read is kept as a problem."""

    def __init__(self, stated: Given):
        self.stated = stated
        self.problems: list[Problem] = []

    def of(self, name: str, default: int = 1) -> int:
        """The value of a flag; `default` where it is not stated or not readable."""
        text = self.stated.get(name)
        if text is None:
            return default
        if not text.isdecimal() or not int(text):
            problem = Problem(name, text, "must be a whole number of at least 1")
            self.problems += [problem] if problem not in self.problems else []
            return default
        return int(text)


def shape(stated: Given, numbers: Numbers, remarks: list[str]) -> dict[str, Any]:
    """Fields of a Model; what cannot be read becomes a problem of `numbers`."""
    numbers.problems += [
        Problem(name, None, "is missing: it says what the model is") for name in NEEDED if name not in stated
    ]
    hidden, heads, layers = (numbers.of(name) for name in ("--hidden-size", "--num-attention-heads", "--num-layers"))
    gated, bias = "--swiglu" in stated, "--disable-bias-linear" not in stated
    usual = int(4 * hidden * 2 / 3) // 64 * 64 if gated else 4 * hidden
    positions = numbers.of("--max-position-embeddings", numbers.of("--seq-length"))
    rope = stated.get("--position-embedding-type", "learned_absolute") != "learned_absolute"
    if "--vocab-size" not in stated:
        remarks.append(f"--vocab-size is not stated: {GPT_2_VOCABULARY} is taken, as GPT2BPETokenizer has")
    return {
        "name": "imported",
        "layers": layers,
        "hidden": hidden,
        "heads": heads,
        "kv_heads": numbers.of("--num-query-groups", heads) if "--group-query-attention" in stated else heads,
        "head_dim": numbers.of("--kv-channels", max(hidden // heads, 1)),
        "ffn": numbers.of("--ffn-hidden-size", usual),
        "gated": gated,
        "vocabulary": numbers.of("--vocab-size", GPT_2_VOCABULARY),
        "maximum_positions": positions,
        "learned_positions": 0 if rope else positions,
        "tied_embeddings": "--untie-embeddings-and-output-weights" not in stated,
        "norm": "rms" if stated.get("--normalization") == "RMSNorm" else "layer",
        "qk_norm": "head" if "--qk-layernorm" in stated else "none",
        "query_key_value_bias": bias or "--add-qkv-bias" in stated,
        "output_bias": bias,
        "mlp_bias": bias,
        "experts": _experts(stated, numbers, layers),
        "latent": _latent(stated, numbers),
    }


def _experts(stated: Given, numbers: Numbers, layers: int) -> dict[str, Any] | None:
    if "--num-experts" not in stated:
        return None
    pattern = _pattern(stated.get("--moe-layer-freq", "1"), layers)
    if not any(pattern):
        numbers.problems.append(
            Problem("--moe-layer-freq", stated["--moe-layer-freq"], "must be N or a list like [0,1]")
        )
        pattern = [1] * layers
    dense, every = pattern.index(1), 1
    while every < layers and pattern[dense:] != [int(i % every == 0) for i in range(layers - dense)]:
        every += 1
    return {
        "count": numbers.of("--num-experts"),
        "top_k": numbers.of("--moe-router-topk", 2),
        "ffn": numbers.of("--moe-ffn-hidden-size", numbers.of("--ffn-hidden-size", 4 * numbers.of("--hidden-size"))),
        "shared_ffn": numbers.of("--moe-shared-expert-intermediate-size", 0),
        "first_dense_layers": dense - (every - 1),
        "every": every,
    }


def _pattern(text: str, layers: int) -> list[int]:
    """1 where a layer holds experts; empty where the text says nothing readable."""
    if text.isdecimal() and int(text):
        return [int(layer % int(text) == 0) for layer in range(layers)]
    try:
        found = _written(text)
    except (ValueError, SyntaxError):
        return []
    return found if len(found) == layers and set(found) <= {0, 1} else []


def _written(text: str) -> list[int]:
    """A list of zeros and ones, written out or as Megatron-LM's sums of products, ([0]*1+[1]*26)."""
    tree = ast.parse(text, mode="eval").body

    def of(node: ast.expr) -> Any:
        if isinstance(node, ast.List | ast.Constant):
            return ast.literal_eval(node)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mult):
            left, right = of(node.left), of(node.right)
            return left + right if isinstance(node.op, ast.Add) else left * min(right, 1024)
        raise ValueError(text)

    found = of(tree)
    return found if isinstance(found, list) else []


def _latent(stated: Given, numbers: Numbers) -> dict[str, int] | None:
    if "--multi-latent-attention" not in stated:
        return None
    return {
        "query_rank": numbers.of("--q-lora-rank", 0),
        "key_value_rank": numbers.of("--kv-lora-rank", 32),
        "nope_head_dim": numbers.of("--qk-head-dim", 128),
        "rope_head_dim": numbers.of("--qk-pos-emb-head-dim", 64),
        "value_head_dim": numbers.of("--v-head-dim", 128),
    }


def catalogued(shape: Model) -> Model:
    """The catalog's model of this shape, where there is one."""
    unsaid = {"name", "source", "published_parameters", "maximum_positions"}
    unsaid |= {"head_dim"} if shape.latent else set()

    def told(held: Model) -> dict[str, Any]:
        data = held.model_dump(exclude=unsaid)
        if data["experts"]:
            data["experts"] = {key: value for key, value in data["experts"].items() if "bias" not in key}
        return data

    def same(name: str) -> bool:
        return told(model(name)) == told(shape)

    return next((model(name) for name in model_names() if same(name)), shape)
