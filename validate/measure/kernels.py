"""Kernels of a training step, timed one shape at a time: products, attention, element-wise passes, update, copies."""

import itertools

import torch
import torch.nn.functional as F

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
FP8 = torch.float8_e4m3fn
CACHES = {"cpu": 2**26, "cuda": 2**28}
"""Bytes that no cache of the device holds."""
LINE = 256
"""Elements to which operands are aligned, at least: tensor cores want 16 bytes."""
MOST_PAIRS = 256
CHAIN = 16
"""Kernels forward, and as many backward, of a chain."""


def products(machine, dtype, sizes, most, clock):
    """Rows of C[m, n] = A[m, k] B[k, n] in the layouts of the forward pass and of both gradients.

    `sizes`: values of m, n and k; products of more than `most` FLOP are left out, and all once `clock` has run out.
    """
    most_elements = max((m + n) * k for m, n, k in _shapes(sizes, most))
    operands = Operands(machine, dtype, most_elements)
    for m, n, k in _shapes(sizes, most):
        if clock():
            continue
        for operand, call in _product(operands, dtype, m, n, k).items():
            median, low, high = machine.seconds(call, batches=3)
            row = {"dtype": dtype, "operand": operand, "m": m, "n": n, "k": k}
            yield row | {"time_s": median, "low_s": low, "high_s": high}


def _shapes(sizes, most):
    every = itertools.product(sizes["m"], sizes["n"], sizes["k"])
    return [(m, n, k) for m, n, k in every if 2 * m * n * k <= most]


class Operands:
    """Random matrices that no cache holds: a training step reads each weight once, long after it did so last."""

    def __init__(self, machine, dtype, most):
        """`most`: elements of the largest pair."""
        width = 1 if dtype == "fp8" else torch.finfo(DTYPES[dtype]).bits // 8
        kind = {"device": machine.device, "dtype": torch.bfloat16 if dtype == "fp8" else DTYPES[dtype]}
        drawn = torch.randn(max(most + LINE, CACHES[machine.kind] // width), **kind)
        self.pool = drawn.to(FP8) if dtype == "fp8" else drawn

    def pairs(self, first, second):
        """Pairs of matrices of these shapes, each elsewhere in the pool than the one before, without end."""
        sizes = [rows * columns for rows, columns in (first, second)]
        step = -(-sum(sizes) // LINE) * LINE
        starts = range(0, self.pool.numel() - sum(sizes) + 1, step)
        return itertools.cycle(
            [
                (self.pool[at : at + sizes[0]].view(first), self.pool[at + sizes[0] : at + sum(sizes)].view(second))
                for at in starts[:MOST_PAIRS]
            ]
        )


def _product(operands, dtype, m, n, k):
    if dtype == "fp8":
        return {"forward": _narrow_product(operands, m, n, k)}
    plain, input_, weight = (
        operands.pairs(*shapes) for shapes in (((m, k), (n, k)), ((m, k), (k, n)), ((k, m), (k, n)))
    )
    return {
        "forward": lambda: F.linear(*next(plain)),
        "input": lambda: torch.mm(*next(input_)),
        "weight": lambda: _weight_product(*next(weight)),
    }


def _weight_product(tall, wide):
    return torch.mm(tall.t(), wide)


def _narrow_product(operands, m, n, k):
    one, pairs = torch.ones((), device=operands.pool.device), operands.pairs((m, k), (n, k))

    def call():
        a, b = next(pairs)
        return torch._scaled_mm(a, b.t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16)

    return call


def attention(machine, dtype, shapes, clock):
    """Causal attention, forward and backward, at (batch, seq, heads, kv_heads, head_dim), as projections lay them."""
    for batch, length, heads, kv_heads, head_dim in shapes:
        if clock():
            break
        q, k, v = (
            torch.randn(batch, length, count, head_dim, device=machine.device, dtype=DTYPES[dtype])
            .transpose(1, 2)
            .requires_grad_()
            for count in (heads, kv_heads, kv_heads)
        )
        grouped = heads != kv_heads
        forward = machine.seconds(
            lambda q=q, k=k, v=v, g=grouped: F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=g), 3
        )
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped)
        gradient = torch.ones_like(out)
        backward = machine.seconds(
            lambda out=out, q=q, k=k, v=v, g=gradient: torch.autograd.grad(out, (q, k, v), g, retain_graph=True), 3
        )
        row = dict(zip(("batch", "seq", "heads", "kv_heads", "head_dim"), (batch, length, heads, kv_heads, head_dim)))
        yield row | {"time_s": forward[0], "low_s": forward[1], "high_s": forward[2], "backward_s": backward[0]}


def passes(machine, dtype, counts, hidden, clock):
    """Element-wise steps of a layer over `counts` elements in rows of `hidden`: forward and backward seconds."""
    for count in counts:
        if clock():
            break
        kind = {"device": machine.device, "dtype": DTYPES[dtype]}
        x, y = (torch.randn(count // hidden, hidden, requires_grad=True, **kind) for _ in range(2))
        weight = torch.ones(hidden, requires_grad=True, **kind)
        steps = {
            "residual": (lambda x=x, y=y: x + y, (x, y)),
            "norm": (lambda x=x, w=weight: F.rms_norm(x, (hidden,), w), (x, weight)),
            "activation": (lambda x=x, y=y: F.silu(x) * y, (x, y)),
        }
        for name, (call, inputs) in steps.items():
            forward = machine.seconds(call, 3)
            out = call()
            gradient = torch.ones_like(out)
            backward = machine.seconds(
                lambda out=out, i=inputs, g=gradient: torch.autograd.grad(out, i, g, retain_graph=True), 3
            )
            row = {"name": name, "dtype": dtype, "elements": count, "time_s": forward[0]}
            yield row | {"low_s": forward[1], "high_s": forward[2], "backward_s": backward[0]}


def losses(machine, tokens, vocabularies, clock):
    """Cross-entropy of fp32 logits: forward and backward seconds."""
    for vocabulary in vocabularies:
        if clock():
            break
        logits = torch.randn(tokens, vocabulary, device=machine.device, requires_grad=True)
        target = torch.randint(vocabulary, (tokens,), device=machine.device)
        forward = machine.seconds(lambda a=logits, t=target: F.cross_entropy(a, t), 3)
        out = F.cross_entropy(logits, target)
        backward = machine.seconds(lambda o=out, a=logits: torch.autograd.grad(o, a, retain_graph=True), 3)
        row = {"name": "loss", "dtype": "fp32", "elements": tokens * vocabulary, "time_s": forward[0]}
        yield row | {"low_s": forward[1], "high_s": forward[2], "backward_s": backward[0]}


def updates(machine, counts, clock):
    """AdamW on `counts` fp32 parameters, one fused kernel."""
    for count in counts:
        if clock():
            break
        weight = torch.nn.Parameter(torch.randn(count, device=machine.device))
        weight.grad = torch.randn_like(weight)
        optimizer = torch.optim.AdamW([weight], fused=True)
        median, low, high = machine.seconds(optimizer.step, 3)
        row = {"name": "update", "dtype": "fp32", "elements": count, "time_s": median}
        yield row | {"low_s": low, "high_s": high, "backward_s": 0.0}


def copies(machine, sizes, clock):
    """Copies of `sizes` bytes inside the device, and to and from pinned host memory: name, bytes, time_s."""
    for size in sizes:
        if clock():
            break
        here = torch.empty(size, dtype=torch.uint8, device=machine.device)
        there = torch.empty_like(here)
        calls = {"inside": lambda a=here, b=there: b.copy_(a)}
        if machine.kind == "cuda":
            host = torch.empty(size, dtype=torch.uint8, pin_memory=True)
            calls["to host"] = lambda a=here, h=host: h.copy_(a, non_blocking=True)
            calls["from host"] = lambda a=here, h=host: a.copy_(h, non_blocking=True)
        for name, call in calls.items():
            median, low, high = machine.seconds(call, 3)
            yield {"name": name, "bytes": size, "time_s": median, "low_s": low, "high_s": high}


def launches(machine):
    """Seconds of a kernel over 16 numbers: what any costs, alone, queued behind others, recorded by autograd."""
    x = torch.ones(16, device=machine.device)
    recorded = torch.ones(16, device=machine.device, requires_grad=True)

    def chain():
        y = recorded
        for _ in range(CHAIN):
            y = y * x
        torch.autograd.grad(y, recorded, x)

    queued = machine.seconds(lambda: x.add_(1.0), calls=200)
    alone = machine.seconds(lambda: (x.add_(1.0), machine.wait()), calls=50)
    both = [seconds / (2 * CHAIN) for seconds in machine.seconds(chain, calls=20)]
    for name, found in (("queued", queued), ("alone", alone), ("recorded", both)):
        yield {"name": name, "time_s": found[0], "low_s": found[1], "high_s": found[2]}


def allocations(machine, sizes):
    """Bytes the allocator takes and reserves for one tensor of `sizes` bytes, from empty (CUDA only)."""
    for size in sizes if machine.kind == "cuda" else ():
        torch.cuda.empty_cache()
        before, reserved = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()
        tensor = torch.empty(size, dtype=torch.uint8, device=machine.device)
        row = {"requested_bytes": size, "allocated_bytes": torch.cuda.memory_allocated() - before}
        yield row | {"reserved_bytes": torch.cuda.memory_reserved() - reserved}
        del tensor


def works(machine):
    """Calls that keep a GPU at one kind of work: those whose power is measured."""
    half = {"device": machine.device, "dtype": torch.bfloat16}
    a, b = (torch.randn(8192, 8192, **half) for _ in range(2))
    q, k, v = (torch.randn(1, 32, 8192, 128, **half) for _ in range(3))
    big = torch.empty(2**29, dtype=torch.uint8, device=machine.device)
    other, small = torch.empty_like(big), torch.ones(16, device=machine.device)
    return {
        "matmul": lambda: torch.mm(a, b),
        "attention": lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True),
        "memory": lambda: other.copy_(big),
        "launch": lambda: [small.add_(1.0) for _ in range(1000)],
    }
