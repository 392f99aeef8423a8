"""What is asked: a model, a cluster, how it is trained."""

from typing import Annotated, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from simtrain.spec.base import Spec
from simtrain.spec.calibration import OwnScale
from simtrain.spec.frozen import IN_LAYERS, PARTS, Freeze, Part
from simtrain.spec.hardware import Cluster
from simtrain.spec.model import Model
from simtrain.spec.precision import Optimizer, Precision
from simtrain.spec.stack import Stack


class Job(Spec):
    """Everything a plan is judged against. The cluster holds exactly the devices of the job."""

    model: Model
    cluster: Cluster
    devices: PositiveInt
    sequence: PositiveInt
    global_batch: Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
    """Sequences a step; more than one value: the search may choose."""
    precision: Precision
    optimizer: Optimizer
    stack: Stack
    tokens: PositiveInt | None = None
    own: OwnScale | None = None
    """The user's own calibration of this stack on this device."""
    adapter_rank: NonNegativeInt = 0
    """Rank of the adapters trained beside a frozen model (LoRA, arXiv 2106.09685); 0: every weight is trained."""

    freeze: Freeze = Field(default={})
    """Parts of the model without gradient, and so without moments and weight-gradient products."""

    @model_validator(mode="after")
    def _something_is_trained(self) -> Self:
        if self.freeze and self.adapter_rank:
            raise ValueError("adapters freeze the whole model: leave freeze out")
        partly = [part for part, share in self.freeze.items() if part not in IN_LAYERS and share not in (0, 1)]
        if partly:
            raise ValueError(f"there is one {partly[0]}: freeze it (1) or do not (0)")
        if all(self.freeze.get(part, 0) == 1 for part in PARTS):
            raise ValueError("every part is frozen: leave one to train")
        if self.model.tied_embeddings and self.freeze.get("embedding", 0) != self.freeze.get("head", 0):
            raise ValueError(f"embedding and head of {self.model.name} are the same weights: freeze both or neither")
        return self

    @model_validator(mode="after")
    def _whole_nodes(self) -> Self:
        node = self.cluster.node.devices
        if self.devices % node and node % self.devices:
            raise ValueError(f"{self.devices} devices are neither part of a node nor whole nodes of {node}")
        return self

    @property
    def frozen(self) -> bool:
        """Whether adapters alone are trained."""
        return self.adapter_rank > 0

    @property
    def trains_all(self) -> bool:
        """Whether every weight has a gradient."""
        return not self.frozen and not any(self.freeze.values())

    def trained(self, part: Part) -> float:
        """Share of a part whose weights have a gradient."""
        return 0.0 if self.frozen else 1.0 - self.freeze.get(part, 0.0)

    @property
    def node_devices(self) -> int:
        """Devices of the job in one node."""
        return min(self.cluster.node.devices, self.devices)

    @property
    def power_beside(self) -> float:
        """W a device of its host and, where the job spans nodes, of the switches between them; what nobody states is
        none."""
        fabric = self.cluster.fabric.power
        network = fabric.value if fabric is not None and self.devices > self.node_devices else 0.0
        return (self.cluster.node.host_power + network) / self.cluster.node.devices

    @property
    def domain(self) -> int:
        """Devices of the job in one scale-up domain: the largest even share of its devices that one domain holds."""
        node = self.node_devices
        nodes = self.devices // node
        return node * max(d for d in range(1, self.cluster.domain_nodes + 1) if nodes % d == 0)
