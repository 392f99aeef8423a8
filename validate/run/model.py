"""A decoder-only transformer in plain torch, cut for one rank of a plan: its tensor shard, its stage, its experts."""

import zlib
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from run.experts import Experts
from run.memory import making, named, treated, treatment
from run.mesh import VocabularyLoss
from run.ring import RingAttention

KEPT = ("mm", "addmm", "bmm", "_scaled_dot_product")
"""Operations whose results selective recomputation keeps: all products and attention."""
DEVIATION = 0.02


class Shape:
    """What a layer needs to know: the model's numbers, the mesh, the formats."""

    def __init__(self, model, mesh, dtype, stored):
        self.model, self.mesh, self.dtype, self.stored = model, mesh, dtype, stored

    def weight(self, *pieces):
        """One parameter of pieces (name, whole shape, dimension cut over tensor ranks or None), stacked in rows.

        Values depend on the names alone, so that every layout trains the same model; a rank without peers draws its
        own part only, on its device.
        """
        mesh, parts = self.mesh, []
        cut = pieces[0][2]
        if mesh.alone:
            kind = {"device": mesh.machine.device, "dtype": self.stored}
            for _, shape, dim in pieces:
                own = [length // mesh.tp if place == dim else length for place, length in enumerate(shape)]
                parts.append(torch.ones(own, **kind) if len(own) == 1 else torch.randn(own, **kind) * DEVIATION)
            return nn.Parameter(torch.cat(parts))
        device = mesh.machine.device
        for name, shape, dim in pieces:
            seed = torch.Generator(device).manual_seed(zlib.crc32(name.encode()))
            if len(shape) == 1:
                value = torch.ones(shape, device=device)
            else:
                value = torch.randn(shape, generator=seed, device=device) * DEVIATION
            parts.append((value if dim is None else value.chunk(mesh.tp, dim)[mesh.place["tp"]]).to(self.stored))
        local = torch.cat(parts).contiguous()
        if mesh.sends(mesh.tp):
            where = Replicate() if cut is None else Shard(cut)
            local = DTensor.from_local(local, mesh.whole["tp"], [where], run_check=False)
        return nn.Parameter(local)

    def read(self, weight):
        """A parameter as the products read it."""
        weight = weight.to_local() if isinstance(weight, DTensor) else weight
        return weight.to(self.dtype)


class Norm(nn.Module):
    """RMSNorm or, without a bias, LayerNorm."""

    def __init__(self, shape, name):
        super().__init__()
        self.shape, self.width = shape, shape.model["hidden"]
        self.weight = shape.weight((name, (self.width,), None))

    def forward(self, x):
        normed = F.rms_norm if self.shape.model["norm"] == "rms" else F.layer_norm
        return normed(x, (self.width,), self.shape.read(self.weight))


class Attention(nn.Module):
    """Causal attention with rotary positions; heads over tensor ranks and, inside, over context ranks (Ulysses)."""

    def __init__(self, shape, name):
        super().__init__()
        model, self.shape = shape.model, shape
        self.size = model["head_dim"]
        self.heads, self.kv_heads = model["heads"] // shape.mesh.tp, model["kv_heads"] // shape.mesh.tp
        rows = {"q": model["heads"], "k": model["kv_heads"], "v": model["kv_heads"]}
        pieces = [(f"{name}.{key}", (count * self.size, model["hidden"]), 0) for key, count in rows.items()]
        self.read_all = shape.weight(*pieces)
        self.output = shape.weight((f"{name}.o", (model["hidden"], model["heads"] * self.size), 1))

    def forward(self, x, rotation):
        batch, length, _ = x.shape
        heads = self.heads + 2 * self.kv_heads
        with making("projected"):
            qkv = F.linear(x, self.shape.read(self.read_all)).view(batch, length, heads, self.size)
            q, k, v = named("projected", qkv).split((self.heads, self.kv_heads, self.kv_heads), 2)
            q, k = (named("projected", turned(part, rotation)) for part in (q, k))
        with making("attention"):
            out = named("attention", self._attended(q, k, v))
        with making("middle"):
            return F.linear(out.reshape(batch, length, self.heads * self.size), self.shape.read(self.output))

    def _attended(self, q, k, v):
        degree = self.shape.mesh.heads
        if degree > 1:
            q, k, v = self._spread(q, k, v, degree)
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))
        if self.shape.mesh.ring > 1:
            out = RingAttention.apply(q, k, v, self.shape.mesh)
        else:
            out = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=q.shape[1] != k.shape[1])
        out = out.transpose(1, 2)
        return self._joined(out, degree) if degree > 1 else out

    def _spread(self, q, k, v, degree):
        """From a part of the positions and all heads to all positions and a part of the heads."""
        batch, length, _, size = q.shape
        counts = [part.shape[2] // degree for part in (q, k, v)]
        parts = [part.unflatten(2, (degree, -1)).permute(2, 0, 1, 3, 4) for part in (q, k, v)]
        sent = torch.cat(parts, 3)
        whole = self.shape.mesh.exchange(sent, "cp").permute(1, 0, 2, 3, 4).reshape(batch, degree * length, -1, size)
        return whole.split(counts, 2)

    def _joined(self, out, degree):
        length = out.shape[1]
        sent = out.unflatten(1, (degree, length // degree)).permute(1, 0, 2, 3, 4)
        return self.shape.mesh.exchange(sent, "cp").permute(1, 2, 0, 3, 4).flatten(2, 3)


class FeedForward(nn.Module):
    """Gated by SiLU, or GELU."""

    def __init__(self, shape, name):
        super().__init__()
        model, self.shape, self.gated = shape.model, shape, shape.model["gated"]
        names = ("gate", "up") if self.gated else ("up",)
        self.up = shape.weight(*((f"{name}.{part}", (model["ffn"], model["hidden"]), 0) for part in names))
        self.down = shape.weight((f"{name}.down", (model["hidden"], model["ffn"]), 1))

    def forward(self, x):
        with making("expanded"):
            x = named("expanded", F.linear(x, self.shape.read(self.up)))
        with making("activated"):
            if self.gated:
                gate, up = x.chunk(2, -1)
                x = named("activated", F.silu(gate)) * up
            else:
                x = F.gelu(x)
        return F.linear(named("activated", x), self.shape.read(self.down))


class Layer(nn.Module):
    """Norm, attention, norm, feed-forward or experts, each half with its residual."""

    def __init__(self, shape, index):
        super().__init__()
        experts, name, self.mesh = shape.model["experts"], f"layer.{index}", shape.mesh
        mixed = experts is not None and index >= experts["first_dense_layers"] and index % experts["every"] == 0
        self.norm, self.attention = Norm(shape, f"{name}.norm"), Attention(shape, name)
        self.second = Norm(shape, f"{name}.second")
        self.feed = (Experts if mixed else FeedForward)(shape, name)

    def forward(self, x, rotation):
        mesh = self.mesh
        with making("normed"):
            normed = named("normed", self.norm(x))
        with making("projected"):
            normed = mesh.enter(normed)
        attended = self.attention(normed, rotation)
        with making("middle"):
            x = named("middle", x + mesh.leave(attended))
        with making("normed"):
            normed = named("normed", self.second(x))
        with making("expanded"):
            normed = mesh.enter(normed)
        return x + mesh.leave(self.feed(normed))


class Embedding(nn.Module):
    """Rows of the vocabulary over tensor ranks."""

    def __init__(self, shape):
        super().__init__()
        self.shape = shape
        self.table = shape.weight(("embedding", (shape.model["vocabulary"], shape.model["hidden"]), 0))

    def forward(self, tokens):
        table, mesh = self.shape.read(self.table), self.shape.mesh
        if mesh.tp == 1:
            return F.embedding(tokens, table)
        tokens = tokens - mesh.place["tp"] * len(table)
        mine = (tokens >= 0) & (tokens < len(table))
        return mesh.leave(F.embedding(tokens.clamp(0, len(table) - 1), table) * mine[..., None])


class Head(nn.Module):
    """Final norm and logits."""

    def __init__(self, shape):
        super().__init__()
        self.shape, self.norm = shape, Norm(shape, "final")
        self.table = shape.weight(("head", (shape.model["vocabulary"], shape.model["hidden"]), 0))

    def forward(self, x):
        return F.linear(self.shape.mesh.enter(self.norm(x)), self.shape.read(self.table))


class Chunk(nn.Module):
    """What one rank runs of the model between two messages: tokens or hidden states in, hidden states or logits out."""

    def __init__(self, shape, layers, first, last, plan):
        super().__init__()
        self.shape, self.plan = shape, plan
        self.embedding = Embedding(shape) if first else None
        self.layers = nn.ModuleList([Layer(shape, index) for index in layers])
        self.stage = shape.mesh.place["pp"]
        self.head = Head(shape) if last else None

    def forward(self, x):
        if self.embedding is not None:
            x = self.embedding(x)
        turn = rotation(self.shape, x)
        for place, layer in enumerate(self.layers):
            x = self._run(layer, x, turn, place)
        return x if self.head is None else self.head(x)

    def _run(self, layer, x, turn, place):
        if self.plan.get("memory"):
            return treated(layer, x, turn, *treatment(self.plan["memory"], self.stage, place, len(self.layers)))
        if self.plan["recompute"] == "full" or place < self.plan["full_layers"]:
            return checkpoint(layer, x, turn, use_reentrant=False)
        if self.plan["recompute"] == "selective":
            context = partial(create_selective_checkpoint_contexts, _keep)
            return checkpoint(layer, x, turn, use_reentrant=False, context_fn=context)
        return layer(x, turn)

    def blocks(self):
        """Units whose states travel together."""
        return [part for part in (self.embedding, *self.layers, self.head) if part is not None]


def _keep(context, operation, *args, **kwargs):
    name = operation._schema.name.partition("::")[2]
    kept = name.startswith(KEPT) or "c10d" in operation._schema.name
    return CheckpointPolicy.MUST_SAVE if kept else CheckpointPolicy.PREFER_RECOMPUTE


def rotation(shape, x):
    """Cosine and sine of every position of a tensor-parallel region, shape (1, positions, 1, head_dim)."""
    mesh, size = shape.mesh, shape.model["head_dim"]
    places = mesh.positions(x.shape[1] * (mesh.tp if mesh.sp else 1))
    rate = 10000.0 ** (-torch.arange(0, size, 2, device=x.device) / size)
    at = torch.cat([torch.arange(place.start, place.stop, device=x.device) for place in places])
    angle = torch.outer(at, rate).repeat(1, 2)[None, :, None]
    return angle.cos().to(shape.dtype), angle.sin().to(shape.dtype)


def turned(x, rotation):
    """Rotary embedding (arXiv 2104.09864), halves swapped."""
    cosine, sine = rotation
    low, high = x.chunk(2, -1)
    return x * cosine + torch.cat((-high, low), -1) * sine


def loss_of(mesh):
    """The loss of logits and targets on a mesh."""
    return lambda logits, target: VocabularyLoss.apply(logits.flatten(0, 1), target.flatten(), mesh)
