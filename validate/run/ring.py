"""Causal attention over a ring of ranks, each with an early and a late part of the sequence (arXiv 2310.01889).

Keys and values go round while a rank attends to those it holds. Forward they end one rank before their own; backward
they come back the other way with their gradients, and end where they belong.
"""

import torch
import torch.distributed as dist

from run.watch import axis


class RingAttention(torch.autograd.Function):
    """Queries, keys and values (batch, heads, positions, head size), positions as Mesh.positions says."""

    @staticmethod
    def forward(context, q, k, v, mesh):
        out, total = torch.zeros_like(q, dtype=torch.float32), None
        held = torch.stack((k, v))
        for turn in range(mesh.ring):
            if turn:
                held = passed(held, mesh, 1)
            rows, columns, causal = seen(mesh, mesh.place["cp"], (mesh.place["cp"] - turn) % mesh.ring, q.shape[2])
            part, weight, context.random = attended(q[:, :, rows], *repeated(held[:, :, :, columns], q), causal)
            if total is None:
                total = torch.full_like(out[..., 0], -torch.inf)
            both = torch.logaddexp(total[:, :, rows], weight)
            kept = torch.exp(total[:, :, rows] - both)[..., None] * out[:, :, rows]
            out[:, :, rows] = kept + torch.exp(weight - both)[..., None] * part
            total[:, :, rows] = both
        out = out.to(q.dtype)
        context.mesh = mesh
        context.save_for_backward(q, held, out, total)
        return out

    @staticmethod
    def backward(context, gradient):
        q, held, out, total = context.saved_tensors
        mesh, gradient = context.mesh, gradient.contiguous()
        back, returned = torch.zeros_like(q), torch.zeros_like(held)
        for turn in range(mesh.ring):
            if turn:
                held, returned = passed(torch.stack((held, returned)), mesh, -1)
            owner = (mesh.place["cp"] + 1 + turn) % mesh.ring
            rows, columns, causal = seen(mesh, mesh.place["cp"], owner, q.shape[2])
            key, value = repeated(held[:, :, :, columns], q)
            asked = (q[:, :, rows], key, value, out[:, :, rows], total[:, :, rows])
            found = differentiated(gradient[:, :, rows], *asked, causal, context.random)
            back[:, :, rows] += found[0]
            heads = held.shape[2]
            summed = [part.unflatten(1, (heads, -1)).sum(2) for part in found[1:]]
            returned[:, :, :, columns] += torch.stack(summed)
        return back, returned[0], returned[1], None


def passed(x, mesh, way):
    """What the neighbour sends: of the rank before (`way` 1) or after (-1)."""
    if mesh.alone:
        return x
    group, place = mesh.group("cp"), mesh.place["cp"]
    to, come = (dist.get_global_rank(group, (place + step) % mesh.ring) for step in (way, -way))
    sent, received = x.contiguous(), torch.empty_like(x, memory_format=torch.contiguous_format)
    with axis("context"):
        works = dist.batch_isend_irecv(
            [dist.P2POp(dist.isend, sent, to, group), dist.P2POp(dist.irecv, received, come, group)]
        )
    for work in works:
        work.wait()
    return received


def seen(mesh, place, owner, length):
    """Rows of the queries of `place` that see keys of `owner`, which of those they see, and whether causally."""
    half, every = length // 2, slice(0, length)
    if owner == place:
        return every, every, True
    return (every, slice(0, half), False) if owner < place else (slice(half, length), every, False)


def repeated(held, q):
    """Keys and values, one a query head."""
    return held.repeat_interleave(q.shape[1] // held.shape[2], 2).unbind(0)


def attended(q, k, v, causal):
    """Output in fp32, log of the sum of exponentials, and the state of random numbers that the kernel keeps."""
    if q.is_cuda:
        found = torch.ops.aten._scaled_dot_product_flash_attention(q, k, v, 0.0, causal)
        return found[0].float(), found[1], found[6:8]
    out, weight = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, causal)
    return out.float(), weight, ()


def differentiated(gradient, q, k, v, out, total, causal, random):
    """Gradients of queries, keys and values; `out` and `total` are of all keys, so that parts add up."""
    if q.is_cuda:
        lengths = (None, None, q.shape[2], k.shape[2])
        return torch.ops.aten._scaled_dot_product_flash_attention_backward(
            gradient, q, k, v, out, total.contiguous(), *lengths, 0.0, causal, *random
        )
    return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
        gradient, q, k, v, out, total.contiguous(), 0.0, causal
    )
