"""Hardware as data sheets state it: device, node, fabric, cluster. No efficiencies: those are measured (profiles/)."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, ValidationInfo, field_validator

from simtrain.spec.base import (
    CarbonIntensity,
    Compute,
    Duration,
    Fact,
    Frequency,
    HourlyPrice,
    Power,
    Rate,
    Size,
    Spec,
)

Datatype = Literal["fp32", "tf32", "fp16", "bf16", "fp8", "fp4"]
LinkKind = Literal["nvlink", "xgmi", "pcie", "none"]


class Device(Spec):
    """One accelerator as ranks see it (an MI250X GCD is a device)."""

    name: str
    title: str
    vendor: Literal["NVIDIA", "AMD", "other"]
    architecture: Literal["volta", "ampere", "ada", "hopper", "blackwell", "cdna2", "cdna3", "cpu"]
    driver_names: tuple[str, ...] = ()
    """What its driver calls it, so that `simtrain measure` knows it again."""
    silicon: str | None = None
    """A chip of the architecture that sustains rates of its own; None: the architecture's first."""
    peak: dict[Datatype, Fact[Compute]]
    memory: Fact[Size]
    memory_bandwidth: Fact[Rate]
    power_limit: Fact[Power]
    idle_power: Fact[Power] | None = None
    maximum_clock: Fact[Frequency] | None = None
    processors: Fact[PositiveInt] | None = None
    """Streaming multiprocessors (NVIDIA) or compute units (AMD)."""
    profile: str | None = None
    """Folder whose measurements hold for this device: a name under profiles/devices/, or a path (written by `simtrain
    measure`; relative ones are seen from the cluster's file). None: its own name."""

    @field_validator("idle_power")
    @classmethod
    def _below_the_limit(cls, idle: Fact[float] | None, info: ValidationInfo) -> Fact[float] | None:
        limit = info.data.get("power_limit")
        if idle is not None and limit is not None and idle.value >= limit.value:
            raise ValueError(f"{idle.value} W must be below the limit, {limit.value} W")
        return idle


class Scaleup(Spec):
    """The fast links inside a scale-up domain (a node, or a rack for NVL72)."""

    kind: LinkKind
    bandwidth: Fact[Rate]
    """Per device and direction, all links together."""
    switched: bool
    """Whether any pair reaches the full bandwidth (NVSwitch); False: ring or mesh of links."""
    multicast: bool = False
    """In-switch reduction (NVLink SHARP)."""


class Nic(Spec):
    """The network adapters of one node."""

    count: PositiveInt
    bandwidth: Fact[Rate]
    """Each adapter, per direction."""


class Host(Spec):
    """The host of one node."""

    memory: Fact[Size]
    device_bandwidth: Fact[Rate]
    """Device to host, per device and direction (PCIe, C2C or xGMI)."""
    shared_bandwidth: Fact[Rate] | None = None
    """What all devices of the node move to or from their host at once, per direction; None: what their links do."""
    nvme: Fact[Size] | None = None
    """What its drives hold."""
    nvme_read: Fact[Rate] | None = None
    """All drives together."""
    nvme_write: Fact[Rate] | None = None
    power: Fact[Power] | None = None

    @property
    def has_drives(self) -> bool:
        """Whether size and rates of drives are stated."""
        return None not in (self.nvme, self.nvme_read, self.nvme_write)


class Node(Spec):
    """A server: devices, the links between them, adapters, host."""

    name: str
    title: str
    device: str
    devices: PositiveInt
    scaleup: Scaleup
    nic: Nic
    host: Host

    @property
    def host_power(self) -> float:
        """W of the host beside its devices; 0 where nobody states it."""
        return 0.0 if self.host.power is None else self.host.power.value


class Checks(Spec):
    """Host time of a collective call for every rank of its group, where ranks compare each call before they make it.

    A debugging mode: TORCH_DISTRIBUTED_DEBUG=DETAIL of torch.distributed.
    """

    inside: Fact[Duration]
    """For a rank in the same scale-up domain."""
    across: Fact[Duration]


class Fabric(Spec):
    """The network between nodes."""

    kind: Literal["rail-optimised", "fat tree", "dragonfly"]
    latency: Fact[Duration]
    """One message, adapter to adapter, through the switches."""
    oversubscription: Fact[Annotated[float, Field(ge=1)]]
    """Uplink shortage beyond `nodes_per_pod` nodes: 1 is non-blocking."""
    nodes_per_pod: PositiveInt | None = None
    power: Fact[Power] | None = None
    """Of switches and optics, for each node; its adapters are the host's."""
    checks: Checks | None = None
    """None: ranks do not compare their calls."""


class Cluster(Spec):
    """Nodes x count on a fabric, with what running them costs."""

    name: str
    title: str
    node: Node
    device: Device
    nodes: PositiveInt
    domain_nodes: PositiveInt = 1
    """Nodes that share one scale-up domain (18 trays in an NVL72)."""
    fabric: Fabric
    price: Fact[HourlyPrice] | None = None
    """Per device."""
    pue: Fact[Annotated[float, Field(ge=1)]] | None = None
    grid: Fact[CarbonIntensity] | None = None

    @property
    def devices(self) -> int:
        """Devices in the whole cluster."""
        return self.nodes * self.node.devices
