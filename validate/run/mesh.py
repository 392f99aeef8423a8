"""The rank mesh, and how tensors cross its axes. Ranks: tensor fastest, then context, data, pipeline."""

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard

from run.watch import axis


class Mesh:
    """Axes of one plan on this rank. Without peers (`alone`) every axis is cut as planned, and nothing is sent."""

    def __init__(self, plan, machine, alone=False, stage=0):
        self.plan, self.alone, self.machine = plan, alone, machine
        self.tp, self.pp, self.dp, self.ep = plan["tp"], plan["pp"], plan["dp"], plan["ep"]
        self.ring, self.heads = plan["cp_ring"], plan["cp_head"]
        self.cp = self.ring * self.heads
        self.sp = plan["sp"]
        self.place = dict.fromkeys(("pp", "dp", "cp", "tp", "ep"), 0)
        self.place["pp"] = stage
        self.whole = None
        if alone:
            return
        shape = (self.pp, self.dp, self.cp, self.tp)
        names = ("pp", "dp", "cp", "tp")
        self.whole = init_device_mesh(machine.device.type, shape, mesh_dim_names=names)
        self.place = {name: self.whole.get_local_rank(name) for name in names}
        spread = self.dp * self.cp
        shards = plan["shard_group"] if plan["zero"] else spread
        states = (self.pp, spread // shards, shards, self.tp)
        self.states = init_device_mesh(machine.device.type, states, mesh_dim_names=("pp", "replica", "shard", "tp"))
        experts = (self.pp, spread // self.ep, self.ep, self.tp)
        self.experts = init_device_mesh(machine.device.type, experts, mesh_dim_names=("pp", "edp", "ep", "tp"))
        self.place["ep"] = self.experts.get_local_rank("ep")
        every = torch.arange(machine.world).view(self.pp, spread, self.tp)
        for stage_ranks in every.unbind(0):
            for ranks in stage_ranks.unbind(1):
                group = dist.new_group(ranks.tolist())
                if machine.rank in ranks.tolist():
                    self.data_group = group

    def sends(self, degree):
        """Whether an axis of this degree has peers to send to."""
        return degree > 1 and not self.alone

    def group(self, name):
        """The process group of one axis."""
        return (self.experts if name in ("ep", "edp") else self.whole).get_group(name)

    def positions(self, length):
        """Places in the sequence of this rank's `length` positions, as slices.

        A ring gives each rank an early and a late part, so that causal attention takes all as long.
        """
        place, half = self.place["cp"], length // 2
        if self.ring == 1:
            return [slice(place * length, (place + 1) * length)]
        return [slice(at * half, (at + 1) * half) for at in (place, 2 * self.ring - 1 - place)]

    def enter(self, x):
        """Into a tensor-parallel region: positions gathered (sequence parallel), or the same on every rank."""
        if not self.sends(self.tp):
            return _stretched(x, 1, self.tp) if self.alone and self.sp else x
        whole = DTensor.from_local(x, self.whole["tp"], [Shard(1) if self.sp else Replicate()], run_check=False)
        if self.sp:
            whole = whole.redistribute(placements=[Replicate()])
        return whole.to_local(grad_placements=[Partial()])

    def leave(self, x):
        """Out of it: partial sums reduced, and scattered over positions where sequence parallelism is on."""
        if not self.sends(self.tp):
            return x[:, : x.shape[1] // self.tp] if self.alone and self.sp else x
        target = Shard(1) if self.sp else Replicate()
        partial = DTensor.from_local(x, self.whole["tp"], [Partial()], run_check=False)
        return partial.redistribute(placements=[target]).to_local()

    def exchange(self, parts, name):
        """All-to-all of equal parts, one a rank of the axis, along a new leading dimension (degree, ...)."""
        degree = self.ep if name == "ep" else self.cp
        return _Exchange.apply(parts, self.group(name), name) if self.sends(degree) else parts


def _stretched(x, dim, times):
    """As many positions as the peers would have brought."""
    return x.repeat_interleave(times, dim) if times > 1 else x


class _Exchange(torch.autograd.Function):
    """Its gradient is the same exchange the other way."""

    @staticmethod
    def forward(context, x, group, name):
        context.group, context.name = group, name
        return _exchanged(x, group, name)

    @staticmethod
    def backward(context, gradient):
        return _exchanged(gradient, context.group, context.name), None, None


def _exchanged(x, group, name):
    x = x.contiguous()
    out = torch.empty_like(x)
    with axis("expert" if name == "ep" else "heads"):
        dist.all_to_all_single(out, x, group=group)
    return out


class VocabularyLoss(torch.autograd.Function):
    """Mean cross-entropy of logits whose columns are spread over the tensor ranks (arXiv 1909.08053 section 3)."""

    @staticmethod
    def forward(context, logits, target, mesh):
        logits = logits.float()
        target = target - mesh.place["tp"] * logits.shape[1]
        mine = (target >= 0) & (target < logits.shape[1])
        target = target.clamp(0, logits.shape[1] - 1)
        most = logits.amax(1)
        _reduced(most, dist.ReduceOp.MAX, mesh)
        logits = logits - most[:, None]
        chosen = logits.gather(1, target[:, None]).squeeze(1) * mine
        torch.exp_(logits)
        total = logits.sum(1)
        _reduced(total, dist.ReduceOp.SUM, mesh)
        _reduced(chosen, dist.ReduceOp.SUM, mesh)
        logits /= total[:, None]
        context.save_for_backward(logits, target, mine)
        return (torch.log(total) - chosen).mean()

    @staticmethod
    def backward(context, gradient):
        share, target, mine = context.saved_tensors
        share[torch.arange(len(target), device=share.device), target] -= mine.to(share.dtype)
        return share.mul_(gradient / len(target)), None, None


def _reduced(x, operation, mesh):
    if mesh.sends(mesh.tp):
        with axis("tensor"):
            dist.all_reduce(x, operation, group=mesh.group("tp"))
