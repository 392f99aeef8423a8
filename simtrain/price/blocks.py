"""Seconds of a block's operations, by what they are spent on, after overlap inside the block."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from simtrain.laws.collectives import destinations, spread
from simtrain.price import collectives, kernels
from simtrain.price.categories import (
    ATTENTION,
    CATEGORIES,
    CONTEXT,
    ELEMENTWISE,
    EXPERT,
    HEADS,
    LAUNCH,
    MATMUL,
    TENSOR,
    Parts,
    summed,
)
from simtrain.price.collectives import Group, Network
from simtrain.price.hidden import hidden_inside, hide_exchange
from simtrain.price.launched import LAYERS, launched, launched_again
from simtrain.price.profile import FIRST_GENERATION, UNFUSED, Profile
from simtrain.price.timed import Timed
from simtrain.spec.calibration import DeviceRates
from simtrain.spec.job import Job
from simtrain.spec.tensors import TensorName
from simtrain.workload.made import again as rebuilt
from simtrain.workload.made import made
from simtrain.workload.op import (
    Attention,
    Block,
    Elementwise,
    GroupedMatmul,
    Matmul,
    Message,
    Op,
    Phase,
    Work,
    gives_weights,
)
from simtrain.workload.strategies.sharding import gradient_bytes

OPERANDS: Final = ("forward", "input", "weight")
_WAITS: Final = ("all_reduce", "reduce_scatter", "all_to_all")
"""Collectives that follow long products, after which ranks arrive apart; a gather follows a reduction and a norm."""
_AXES: Final = {"tensor": TENSOR, "heads": HEADS, "context": CONTEXT, "expert": EXPERT}


@dataclass(frozen=True)
class Machine:
    """What prices are asked of: measured kernels, the network, the attention kernel that runs."""

    profile: Profile
    network: Network
    attention_kernel: str
    rates: DeviceRates
    clock: float = 1.0
    """Sustained clock over that of the device whose measurements the profile holds."""


@dataclass(frozen=True)
class BlockTime:
    """Exposed seconds of one block and microbatch, arrays of shape (categories, plans)."""

    forward: Parts
    backward: Parts
    selective: Parts
    """Added to the backward pass by selective recomputation."""
    weight: NDArray[np.float64]
    """Part of backward that gives the weights' gradients and that no other stage waits for, shape (plans,)."""
    measured: NDArray[np.float64]
    """Seconds of forward and backward that rest on measured rows, shape (plans,)."""
    priced: NDArray[np.float64]
    """Seconds of forward and backward before any of it hides, shape (plans,)."""
    hidden: Parts
    """Seconds of messages that run beside forward and backward, shape (2, categories, plans)."""
    again: dict[TensorName, Parts]
    """Exposed seconds of making one of a layer's tensors again; messages hide, and launches show, as in the forward
    pass."""
    slack: NDArray[np.float64]
    """Of both passes beyond what the host needs to launch them, below zero where it is behind; shape (plans,)."""


def block_time(block: Block, job: Job, machine: Machine, plans: int) -> BlockTime:
    """Price every op of `block` for its `plans` rows and hide what the stack overlaps."""
    times = _price([op.work for op in block.ops], job, machine, plans)
    rates, unfused = machine.rates, machine.attention_kernel in UNFUSED
    sustained = {
        MATMUL: rates.matmul.value * machine.clock,
        ATTENTION: machine.clock * (rates.unfused_attention if unfused else rates.attention).value,
        ELEMENTWISE: rates.elementwise.value,
    }
    forward, backward, selective = (np.zeros((len(CATEGORIES), plans)) for _ in range(3))
    weight, measured, beside = (np.zeros(plans) for _ in range(3))
    again: dict[TensorName, Parts] = {}
    hideable = {"forward": np.zeros(plans), "backward": np.zeros(plans)}
    called = {"forward": np.zeros(plans), "backward": np.zeros(plans)}
    for op, time in zip(block.ops, times, strict=True):
        if isinstance(op.work, Message):
            called[op.phase] += (_checks(op.work, machine) + _waited([op.work], job, plans)[0]) * op.weight
            if op.work.hidden:
                beside += time.seconds * op.weight
                continue
        row = _category(op)
        seconds = time.seconds * op.weight / sustained.get(row, 1.0)
        (forward if op.phase == "forward" else backward)[row] += seconds
        if isinstance(op.work, Message) and row == EXPERT:
            hideable[op.phase] += seconds * _exchange_overlap(op.work, job, machine)
        selective[row] += seconds * rebuilt(op, job.stack)
        if block.name in LAYERS and op.phase == "forward" and (tensor := made(op)) is not None:
            again.setdefault(tensor, np.zeros_like(forward))[row] += seconds
        if gives_weights(op):
            weight += seconds
        measured += time.measured * seconds
    priced = summed(forward) + summed(backward)
    whole, sent = forward.copy(), np.stack([forward, backward])
    taken = {"forward": np.zeros(plans), "backward": np.minimum(beside, backward[MATMUL] / 2)}
    backward[TENSOR] += beside - taken["backward"]
    sent[1, TENSOR] += beside
    phases: tuple[tuple[Phase, Parts], ...] = (("forward", forward), ("backward", backward))
    slack = np.zeros(plans)
    for phase, parts in phases:
        taken[phase] = hidden_inside(parts, job, taken[phase])
    hide_exchange(forward, backward, hideable, taken)
    hidden = sent - np.stack([forward, backward])
    for phase, parts in phases:
        slack += _launch(parts, launched(block, job, phase) * job.stack.launch.value + called[phase])
    shown = np.divide(forward, whole, out=np.ones_like(whole), where=whole > 0)
    exposed = {tensor: parts * shown for tensor, parts in again.items()}
    for tensor, share in (launched_again(block) if block.name in LAYERS else {}).items():
        exposed[tensor][LAUNCH] += share * forward[LAUNCH]
    return BlockTime(forward, backward, selective, weight, measured, priced, hidden, exposed, slack)


def _category(op: Op) -> int:
    if isinstance(op.work, Message):
        return _AXES[op.work.axis]
    if op.role == "core attention":
        return ATTENTION
    return ELEMENTWISE if isinstance(op.work, Elementwise) else MATMUL


def _exchange_overlap(message: Message, job: Job, machine: Machine) -> NDArray[np.float64]:
    """Share of an expert message that can hide, by whether its group stays in a scale-up domain."""
    inside, experts = job.stack.overlap.expert.value, job.stack.experts
    group = collectives.group(message.degree, message.stride, machine.network.domain)
    across = inside if experts is None else experts.overlap_across.value
    return np.where(group.local >= group.members, inside, across)


def _checks(message: Message, machine: Machine) -> NDArray[np.float64]:
    """Host seconds in which ranks compare the calls of a message, where they do."""
    group = collectives.group(message.degree, message.stride, machine.network.domain)
    return np.where(group.members > 1, message.times * collectives.call_seconds(machine.network, group), 0.0)


def _launch(parts: Parts, host: NDArray[np.float64]) -> NDArray[np.float64]:
    """A block takes no less time than the `host` needs to launch its kernels and to call its collectives.

    Where the host is behind, so is the last rank at a collective. Returns how far it is ahead, in seconds.
    """
    ahead = summed(parts) - host
    parts[LAUNCH] = np.maximum(-ahead, 0.0)
    return ahead


def _price(works: Sequence[Work], job: Job, machine: Machine, plans: int) -> list[Timed]:
    """Seconds of each work; works of one kind are priced in one call over stacked arrays (works, plans)."""
    result: dict[int, Timed] = {}
    for kind, price in _PRICES.items():
        chosen = [index for index, work in enumerate(works) if isinstance(work, kind)]
        if chosen:
            timed = price([works[index] for index in chosen], job, machine, plans)
            for row, index in enumerate(chosen):
                result[index] = Timed(timed.seconds[row], timed.measured[row])
    return [result[index] for index in range(len(works))]


def _stack(works: Sequence[Work], field: str, plans: int) -> NDArray[np.float64]:
    return np.stack([np.broadcast_to(np.asarray(getattr(work, field), float), (plans,)) for work in works])


def _rate(works: Sequence[Matmul] | Sequence[GroupedMatmul], job: Job, machine: Machine) -> NDArray[np.float64]:
    """Rate over the table's: by operand, and by the age of the stack's library; shape (works, 1)."""
    profile = machine.profile
    ratio = {"forward": 1.0, "input": profile.backward_input_efficiency, "weight": profile.backward_weight_efficiency}
    return np.array([ratio[work.operand] for work in works])[:, None] * job.stack.matmul_rate.value


def _matmuls(works: Sequence[Matmul], job: Job, machine: Machine, plans: int) -> Timed:
    """Each in the matmul format of the job, or the wider one where it is sensitive or its layer is kept wide."""
    seconds, measured = np.zeros((len(works), plans)), np.zeros((len(works), plans))
    precision, sensitive = job.precision, np.array([work.sensitive for work in works])
    wide = np.where(sensitive, 1.0, precision.wide_layers)[:, None]
    narrow = (1 - wide) / precision.matmul_rate
    for datatype, share in ((precision.matmul, narrow), (precision.sensitive_matmul, wide)):
        wanted = [row for row in range(len(works)) if share[row, 0]]
        apart = bool(machine.profile.matmul_law(datatype).operands) if wanted else False
        for operand in OPERANDS if apart else OPERANDS[:1]:
            rows = [row for row in wanted if not apart or works[row].operand == operand]
            if not rows:
                continue
            chosen = [works[row] for row in rows]
            m, n, k, batch = (_stack(chosen, field, plans) for field in ("m", "n", "k", "batch"))
            timed = kernels.matmul(machine.profile, datatype, m, n, k, batch, queued=True, operand=operand)
            slowed = np.where(_stack(chosen, "aligned", plans), 1.0, kernels.UNALIGNED_RATE)
            seconds[rows] += share[rows] * timed.seconds / slowed
            measured[rows] = np.maximum(measured[rows], timed.measured)
    return Timed(seconds / _rate(works, job, machine), measured)


def _grouped(works: Sequence[GroupedMatmul], job: Job, machine: Machine, plans: int) -> Timed:
    """Products of experts; each reads its own weights, or reads and writes their gradient where that is accumulated in
    the product. One kernel for all experts loads the next one's while it multiplies."""
    rows, n, k, experts = (_stack(works, field, plans) for field in ("rows", "n", "k", "experts"))
    stack, fused = job.stack, job.stack.experts is not None and job.stack.experts.fused.value
    summed_up = stack.accumulation_bytes.value == 0
    gradient = 2 * gradient_bytes(job) if summed_up else job.precision.activation_bytes
    gives = np.array([[work.operand == "weight"] for work in works])
    moved = n * np.where(gives, rows * gradient, k * job.precision.matmul_input_bytes)
    hides = 1.0 if fused else kernels.GROUPED_OVERLAP
    timed = kernels.grouped_matmul(machine.profile, job.precision.matmul, rows, n, k, experts, moved, hides)
    return Timed(timed.seconds / (_rate(works, job, machine) * job.precision.matmul_rate), timed.measured)


def _attention(works: Sequence[Attention], job: Job, machine: Machine, plans: int) -> Timed:
    fields = ("batch", "query", "visible", "heads", "kv_heads", "head_dim")
    batch, query, visible, heads, kv_heads, head_dim = (_stack(works, field, plans) for field in fields)
    backward = np.array([work.gradient for work in works])[:, None]
    arguments = (machine.profile, machine.attention_kernel, batch, query, visible, heads, kv_heads, head_dim)
    there, back = kernels.attention_forward(*arguments), kernels.attention_backward(*arguments)
    rate = FIRST_GENERATION if machine.attention_kernel == "flash-1" else 1.0
    seconds = np.where(backward, back.seconds, there.seconds) / rate
    return Timed(seconds, np.where(backward, back.measured, there.measured) * (rate == 1))


def _elementwise(works: Sequence[Elementwise], job: Job, machine: Machine, plans: int) -> Timed:
    return kernels.memory_bound(machine.profile, _stack(works, "size", plans), _stack(works, "kernels", plans))


def _messages(works: Sequence[Message], job: Job, machine: Machine, plans: int) -> Timed:
    """Collectives of one kind together; a message sent `times` times costs that many."""
    seconds, measured = np.zeros((len(works), plans)), np.zeros((len(works), plans))
    for name in {work.collective for work in works}:
        rows = [row for row, work in enumerate(works) if work.collective == name]
        chosen = [works[row] for row in rows]
        size, degree, stride, times = (_stack(chosen, field, plans) for field in ("size", "degree", "stride", "times"))
        group = collectives.group(degree, stride, machine.network.domain)
        if name == "all_to_all":
            size = size * _sent(_stack(chosen, "copies", plans), group, job)
        timed = collectives.collective_seconds(machine.network, name, size, group)
        seconds[rows] = timed.seconds / link_rate(machine, group) * times + _waited(chosen, job, plans)
        measured[rows] = timed.measured
    return Timed(seconds, measured)


def _waited(works: Sequence[Message], job: Job, plans: int) -> NDArray[np.float64]:
    """Seconds in which the ranks of collectives wait for the last of them to arrive, shape (works, plans)."""
    waits = np.array([[work.collective in _WAITS] for work in works])
    late = spread(_stack(works, "degree", plans)) * _stack(works, "times", plans)
    return np.asarray(waits * job.stack.collective_wait.value * late)


def _sent(copies: NDArray[np.float64], group: Group, job: Job) -> NDArray[np.float64]:
    """Share of the copies of a token that are sent: between domains it may go to each once, inside one to each rank."""
    experts = job.stack.experts
    if experts is None or experts.dispatcher.value == "every copy":
        return np.ones_like(copies)
    places = np.where(group.local >= group.members, group.members, group.members / group.local)
    return destinations(copies, places) / copies


def link_rate(machine: Machine, group: Group) -> NDArray[np.float64]:
    """Sustained over priced rate of the links a group spans, same shape as the group."""
    inside = group.local >= group.members
    return np.where(inside, machine.rates.scaleup.value, machine.rates.network.value)


_PRICES: Final[dict[type[Work], Callable[[Sequence[Any], Job, Machine, int], Timed]]] = {
    Matmul: _matmuls,
    GroupedMatmul: _grouped,
    Attention: _attention,
    Elementwise: _elementwise,
    Message: _messages,
}
