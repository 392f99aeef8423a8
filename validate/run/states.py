"""Who holds weights, gradients and optimizer states: FSDP2 for ZeRO 1 to 3, one reduction a block without it."""

import torch
import torch.distributed as dist
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from run.experts import Experts
from run.watch import axis


def shard(chunk, mesh, plan, dtype):
    """Shard a chunk's blocks as the plan's ZeRO stage says; experts over the ranks that hold the same ones."""
    policy = MixedPrecisionPolicy(param_dtype=None if dtype == torch.float32 else dtype, reduce_dtype=torch.float32)
    options = {"mp_policy": policy, "reshard_after_forward": plan["zero"] == 3 and plan["pp"] == 1}
    if plan["offload"] == "all":
        options["offload_policy"] = CPUOffloadPolicy(pin_memory=mesh.machine.kind == "cuda")
    hybrid = plan["shard_group"] < mesh.dp * mesh.cp
    states = mesh.states["replica", "shard"] if hybrid else mesh.states["shard"]
    for block in chunk.blocks():
        mixed = getattr(block, "feed", None)
        if isinstance(mixed, Experts) and mesh.dp * mesh.cp > mesh.ep:
            fully_shard(mixed.held, mesh=mesh.experts["edp"], **options)
            mixed.held.set_gradient_divide_factor(mesh.dp * mesh.cp)
        fully_shard(block, mesh=states, **options)
    return fully_shard(chunk, mesh=states, **options)


class Replicas:
    """Gradients of unsharded states averaged over the data-parallel ranks, a block at a time, beside the backward pass.

    A block's last gradient starts its reduction; `ready` says whether this is the last microbatch of the step.
    """

    def __init__(self, chunks, mesh):
        self.mesh, self.ready, self.under_way = mesh, False, []
        self.parts = []
        for chunk in chunks:
            for block in chunk.blocks():
                held = getattr(getattr(block, "feed", None), "held", None)
                apart = [] if held is None else list(held.parameters())
                shared = [weight for weight in block.parameters() if not any(weight is other for other in apart)]
                self._follow(shared, mesh.data_group, mesh.dp * mesh.cp)
                self._follow(apart, mesh.group("edp") if apart else None, mesh.dp * mesh.cp // mesh.ep)

    def _follow(self, weights, group, degree):
        if not weights:
            return
        self.parts.append((weights, group, degree))
        missing = {id(weight) for weight in weights}

        def arrived(weight):
            if not self.ready:
                return
            missing.discard(id(weight))
            if not missing:
                missing.update(map(id, weights))
                self.start([local(weight.grad) for weight in weights], group, degree)

        for weight in weights:
            weight.register_post_accumulate_grad_hook(arrived)

    def start_all(self):
        """Begin to reduce every gradient: schedules run microbatches in orders of their own, so none comes last."""
        for weights, group, degree in self.parts:
            self.start([local(weight.grad) for weight in weights], group, degree)

    def start(self, gradients, group, degree):
        """Begin to reduce these over a group of `degree` ranks."""
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        work = None
        if degree > 1:
            with axis("data"):
                work = dist.all_reduce(flat, group=group, async_op=True)
        self.under_way.append((work, flat, gradients))

    def finish(self):
        """Wait for all, and put the means where the gradients were."""
        for work, flat, gradients in self.under_way:
            if work is not None:
                work.wait()
            flat /= self.mesh.dp * self.mesh.cp
            for gradient, mean in zip(gradients, flat.split([part.numel() for part in gradients])):
                gradient.copy_(mean.view_as(gradient))
        self.under_way.clear()


def sum_norms(chunks, mesh):
    """Sum norms' gradients over the tensor ranks: under sequence parallelism each sees a part of the positions."""
    if not (mesh.sp and mesh.sends(mesh.tp)):
        return
    gradients = [
        local(weight.grad)
        for chunk in chunks
        for name, weight in chunk.named_parameters()
        if weight.grad is not None and {"norm", "second"} & set(name.split("."))
    ]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    with axis("tensor"):
        dist.all_reduce(flat, group=mesh.group("tp"))
    for gradient, whole in zip(gradients, flat.split([part.numel() for part in gradients])):
        gradient.copy_(whole.view_as(gradient))


class Update:
    """AdamW on the device or, with the states in host memory, by the host.

    Gradients and weights travel in the weights' own format, through pinned memory.
    """

    def __init__(self, weights, on_host):
        self.weights = list(weights)
        self.host = None
        if on_host:
            pinned = torch.cuda.is_available()
            copies = [local(weight).detach().to("cpu", torch.float32) for weight in self.weights]
            self.host = [torch.nn.Parameter(copy.pin_memory() if pinned else copy) for copy in copies]
            self.sent = [torch.empty_like(local(weight), device="cpu", pin_memory=pinned) for weight in self.weights]
            for copy in self.host:
                copy.grad = torch.empty_like(copy)
        self.adam = torch.optim.AdamW(self.host or self.weights, lr=1e-3, fused=True)

    def step(self):
        """One update; gradients are given up."""
        if self.host is not None:
            for sent, weight in zip(self.sent, self.weights):
                sent.copy_(local(weight.grad), non_blocking=True)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            for copy, sent, weight in zip(self.host, self.sent, self.weights):
                copy.grad.copy_(sent)
                weight.grad = None
        self.adam.step()
        if self.host is not None:
            with torch.no_grad():
                for copy, sent, weight in zip(self.host, self.sent, self.weights):
                    sent.copy_(copy)
                    local(weight).copy_(sent, non_blocking=True)
            return
        self.adam.zero_grad(set_to_none=True)

    def held(self):
        """Tensors of the optimizer that are on the device."""
        return [part for state in self.adam.state.values() for part in state.values() if isinstance(part, torch.Tensor)]


def local(tensor):
    """A rank's part."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def size(tensors, device):
    """Bytes of these tensors on a device, storage by storage."""
    found = {}
    for tensor in tensors:
        storage = local(tensor).untyped_storage()
        if storage.device == device:
            found[storage.data_ptr()] = storage.nbytes()
    return sum(found.values())
