"""Kernels of a training step, timed one shape at a time: products, attention, element-wise passes, update, copies."""

import torch
import torch.nn.functional as F

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
FP8 = torch.float8_e4m3fn


def products(machine, dtype, sizes, most, clock):
    """Rows of C[m, n] = A[m, k] B[k, n] in the layouts of the forward pass and of both gradients.

    `sizes`: values of m, n and k; products of more than `most` FLOP are left out, and all once `clock` has run out.
    """
    for m in sizes["m"]:
        for n in sizes["n"]:
            for k in sizes["k"]:
                if 2 * m * n * k > most or clock():
                    continue
                for operand, call in _product(machine, dtype, m, n, k).items():
                    median, low, high = machine.seconds(call, batches=3)
                    row = {"dtype": dtype, "operand": operand, "m": m, "n": n, "k": k}
                    yield row | {"time_s": median, "low_s": low, "high_s": high}


def _product(machine, dtype, m, n, k):
    if dtype == "fp8":
        return _narrow_product(machine, m, n, k)
    kind = {"device": machine.device, "dtype": DTYPES[dtype]}
    a, b, wide, tall = (torch.randn(shape, **kind) for shape in ((m, k), (n, k), (k, n), (k, m)))
    return {
        "forward": lambda: F.linear(a, b),
        "input": lambda: torch.mm(a, wide),
        "weight": lambda: torch.mm(tall.t(), wide),
    }


def _narrow_product(machine, m, n, k):
    one = torch.ones((), device=machine.device)
    a, b = (torch.randn(shape, device=machine.device).to(FP8) for shape in ((m, k), (n, k)))
    return {"forward": lambda: torch._scaled_mm(a, b.t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16)}


def attention(machine, dtype, shapes, clock):
    """Causal attention, forward and backward, at (batch, seq, heads, kv_heads, head_dim)."""
    for batch, length, heads, kv_heads, head_dim in shapes:
        if clock():
            break
        shape = {"device": machine.device, "dtype": DTYPES[dtype], "requires_grad": True}
        q = torch.randn(batch, heads, length, head_dim, **shape)
        k, v = (torch.randn(batch, kv_heads, length, head_dim, **shape) for _ in range(2))
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
    """Seconds of an addition to 16 numbers: what any kernel costs, alone and queued behind others."""
    x = torch.ones(16, device=machine.device)
    queued = machine.seconds(lambda: x.add_(1.0), calls=200)
    alone = machine.seconds(lambda: (x.add_(1.0), machine.wait()), calls=50)
    for name, found in (("queued", queued), ("alone", alone)):
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
