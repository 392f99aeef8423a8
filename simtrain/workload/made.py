"""Which tensor a forward operation makes, and what of it runs again where that tensor is not kept."""

from typing import Final

from simtrain.spec.stack import Stack
from simtrain.spec.tensors import TensorName
from simtrain.workload.op import Message, Op

MAKES: Final[dict[str, TensorName | None]] = {
    "attention norm": "normed",
    "feed-forward norm": "normed",
    "attention gather": "projected",
    "query key value": "projected",
    "latent down": "projected",
    "latent up": "projected",
    "key value up": "projected",
    "query up": "projected",
    "query key norm": "projected",
    "rotary": "projected",
    "context exchange": "attention",
    "context ring": "attention",
    "attention": "attention",
    "windowed attention": "attention",
    "scores": "attention",
    "softmax": "attention",
    "weighted values": "attention",
    "heads joined": "attention",
    "output": "middle",
    "attention scatter": "middle",
    "attention reduce": "middle",
    "attention residual": "middle",
    "router": "routed",
    "permute": "routed",
    "dispatch": "routed",
    "expert gather": "routed",
    "expert down": "routed",
    "expert scatter": "routed",
    "combine": "routed",
    "feed-forward gather": "expanded",
    "shared expert gather": "expanded",
    "feed-forward up": "expanded",
    "shared expert up": "expanded",
    "expert up": "expanded",
    "feed-forward activation": "activated",
    "shared expert activation": "activated",
    "expert activation": "activated",
    "feed-forward residual": "masks",
    "feed-forward down": None,
    "feed-forward scatter": None,
    "feed-forward reduce": None,
    "shared expert down": None,
    "shared expert scatter": None,
    "shared expert reduce": None,
    "unpermute": None,
    "tokens restored": None,
}
"""None: the layer's own result, which the next layer keeps. The masks of both halves are drawn with the second residual
sum: the first one makes the stream between them anyway."""
BESIDE: Final = (" narrowed", " adapter dropout", " adapter down", " adapter up", " adapter sum")
"""What a product's own passes are called after its name."""


def made(op: Op) -> TensorName | None:
    """The tensor a forward op of a layer makes; None where it makes none that is kept."""
    name = op.name
    if name.endswith(" adapter dropout"):
        return "adapters"
    for suffix in BESIDE:
        name = name.removesuffix(suffix)
    return MAKES[name]


def again(op: Op, stack: Stack) -> float:
    """Share of an op that selective recomputation runs again, of messages what no product then hides."""
    if not isinstance(op.work, Message):
        return 0.0 if op.phase != "forward" else stack.rebuilt(op.role)
    gathers = op.phase == "forward" and op.work.collective == "all_gather" and op.work.axis == "tensor"
    return gathers * stack.rebuilt("gather") * (1 - stack.overlap.tensor.value)
