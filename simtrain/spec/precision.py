"""Number formats of a training run: the byte table of states and activations, as data in the catalog."""

from typing import Annotated

from pydantic import Field

from simtrain.spec.base import Spec
from simtrain.spec.hardware import Datatype

ElementBytes = Annotated[float, Field(ge=0, le=8)]


class Precision(Spec):
    """Bytes an element of each class, and the format of matrix multiplies."""

    name: str
    title: str
    matmul: Datatype
    matmul_rate: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Rate of its products over those of the format with one scale a tensor: scales of small blocks take time."""
    quantise_bytes: Annotated[float, Field(ge=0)] = 0.0
    """Memory traffic to narrow one element of a product's operand: reads, and both layouts written."""
    sensitive_matmul: Datatype
    """Of head and router, which low-precision recipes keep wider (DeepSeek-V3, arXiv 2412.19437 section 3.3.1)."""
    weight_bytes: ElementBytes
    """The copy the forward pass reads, fp8 copies included."""
    gathered_weight_bytes: ElementBytes
    """On the wire of a parameter gather."""
    master_bytes: ElementBytes
    """A full-precision copy the optimizer keeps; 0 when the weights are it."""
    minimum_gradient_bytes: ElementBytes = 2
    """Gradients are never kept narrower than this."""
    activation_bytes: ElementBytes
    matmul_input_bytes: ElementBytes
    """A saved input of a matrix multiply (1 under fp8)."""
    tensor_gather_bytes: ElementBytes | None = None
    """Of a product's input on the wire of a tensor group; None: it is narrowed before it is gathered."""
    wide_layers: Annotated[float, Field(ge=0, le=1)] = 0
    """Share of the layers whose products stay in the sensitive format."""
    source: str


class Optimizer(Spec):
    """State bytes and memory traffic of the parameter update."""

    name: str
    title: str
    moment_bytes: Annotated[float, Field(ge=0, le=16)]
    """All moments together, per parameter."""
    traffic_bytes: Annotated[float, Field(ge=0)]
    """Moments read and written in one update, per parameter."""
    source: str
