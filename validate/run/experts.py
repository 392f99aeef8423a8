"""A mixture of experts, cut for one rank of the expert axis."""

import torch
import torch.nn.functional as F
from torch import nn


class Experts(nn.Module):
    """A mixture of experts whose copies are dealt out evenly, as plans assume; each product is batched over experts."""

    def __init__(self, shape, name):
        super().__init__()
        experts, model, self.shape = shape.model["experts"], shape.model, shape
        self.count, self.top_k, ffn = experts["count"], experts["top_k"], experts["ffn"]
        self.local = self.count // shape.mesh.ep
        first = shape.mesh.place["ep"] * self.local
        self.router = shape.weight((f"{name}.router", (self.count, model["hidden"]), None))
        own = range(first, first + self.local)
        self.held = Held(shape, name, own, ffn)

    def forward(self, x):
        batch, length, hidden = x.shape
        tokens, mesh = x.reshape(-1, hidden), self.shape.mesh
        share = F.linear(tokens, self.shape.read(self.router)).float().softmax(-1)
        copies = torch.arange(len(tokens) * self.top_k, device=x.device)
        expert, token = copies % self.count, copies // self.top_k
        order = torch.argsort(expert, stable=True)
        sent = tokens[token[order]].view(mesh.ep, self.local, -1, hidden)
        there = mesh.exchange(sent, "ep").transpose(0, 1).reshape(self.local, -1, hidden)
        back = self.held(there).view(self.local, mesh.ep, -1, hidden).transpose(0, 1)
        done = mesh.exchange(back, "ep").reshape(-1, hidden)
        weighted = done * share[token[order], expert[order]].to(done.dtype)[:, None]
        return torch.zeros_like(tokens).index_add(0, token[order], weighted).view(batch, length, hidden)


class Held(nn.Module):
    """The experts of one rank."""

    def __init__(self, shape, name, own, ffn):
        super().__init__()
        self.shape, hidden = shape, shape.model["hidden"]
        up = [(f"{name}.{i}.{part}", (ffn, hidden), None) for i in own for part in ("gate", "up")]
        down = [(f"{name}.{i}.down", (hidden, ffn), None) for i in own]
        self.up, self.down, self.count = shape.weight(*up), shape.weight(*down), len(own)

    def forward(self, x):
        up = self.shape.read(self.up).view(self.count, -1, x.shape[-1])
        gate, lifted = torch.bmm(x, up.transpose(1, 2)).chunk(2, -1)
        down = self.shape.read(self.down).view(self.count, x.shape[-1], -1)
        return torch.bmm(F.silu(gate) * lifted, down.transpose(1, 2))
