"""One plan's training on synthetic tokens: chunks built, laid out, and run step after step."""

import torch
from torch.distributed import pipelining

from run.mesh import Mesh
from run.model import Chunk, Shape, loss_of
from run.states import Replicas, Update, shard, sum_norms

SCHEDULES = {
    "gpipe": "ScheduleGPipe",
    "1f1b": "Schedule1F1B",
    "interleaved": "ScheduleInterleaved1F1B",
    "breadth-first": "ScheduleLoopedBFS",
    "zb-v": "ScheduleZBVZeroBubble",
    "dualpipe-v": "ScheduleDualPipeV",
}
FOLDED = ("zb-v", "dualpipe-v")
FORMATS = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Training:
    """A plan on this rank; `alone`: its share as one rank of a stage, without peers."""

    def __init__(self, job, plan, machine, alone=False, stage=0):
        self.plan, self.job, self.machine = plan, job, machine
        self.mesh = Mesh(plan, machine, alone, stage)
        dtype = FORMATS[job["precision"]["matmul"]]
        torch.set_float32_matmul_precision("high" if job["precision"]["matmul"] == "tf32" else "highest")
        host = plan["offload"] == "optimizer"
        shape = Shape(job["model"], self.mesh, dtype, dtype if host else torch.float32)
        self.sequence, self.batch = job["sequence"], plan["micro_batch"]
        self.microbatches = plan["global_batch"] // (plan["dp"] * plan["micro_batch"])
        self.sharded = plan["zero"] > 0 and not alone
        self.loss, self.chunks, self.drawn = loss_of(self.mesh), [], {}
        positions = plan["pp"] * plan["vpp"]
        divided = layers_of(job["model"]["layers"], positions)
        self.where = [self._position(chunk) for chunk in range(plan["vpp"])]
        for position in self.where:
            first = sum(divided[:position])
            layers = range(first, first + divided[position])
            self.chunks.append(Chunk(shape, layers, position == 0, position == positions - 1, plan))
        if self.sharded:
            self.chunks = [shard(chunk, self.mesh, plan, dtype) for chunk in self.chunks]
        spread = plan["dp"] * plan["cp_ring"] * plan["cp_head"]
        self.replicas = Replicas(self.chunks, self.mesh) if not self.sharded and not alone and spread > 1 else None
        self.update = Update((weight for chunk in self.chunks for weight in chunk.parameters()), host)
        self.hidden = self._hidden_shape()
        self.schedule = self._pipeline(positions, dtype) if plan["pp"] > 1 and not alone else None

    def _position(self, chunk):
        stage, stages = self.mesh.place["pp"], self.plan["pp"]
        back = self.plan["schedule"] in FOLDED and chunk % 2
        return chunk * stages + (stages - 1 - stage if back else stage)

    def _hidden_shape(self):
        split = self.mesh.cp * (self.mesh.tp if self.mesh.sp else 1)
        return self.batch, self.sequence // split, self.job["model"]["hidden"]

    def _pipeline(self, positions, dtype):
        """The plan's schedule of torch.distributed.pipelining."""
        stages, group = [], self.mesh.group("pp")
        whole = (self.batch, self.sequence // self.mesh.cp)
        for chunk, position in zip(self.chunks, self.where):
            hidden = torch.empty(self.hidden, dtype=dtype, device=self.machine.device, requires_grad=True)
            tokens = torch.empty(whole, dtype=torch.long, device=self.machine.device)
            columns = self.job["model"]["vocabulary"] // self.mesh.tp
            logits = torch.empty((*whole, columns), dtype=dtype, device=self.machine.device, requires_grad=True)
            stages.append(
                pipelining.PipelineStage(
                    chunk,
                    position,
                    positions,
                    self.machine.device,
                    input_args=(tokens if position == 0 else hidden,),
                    output_args=(logits if position == positions - 1 else hidden,),
                    group=group,
                )
            )
        kind = getattr(pipelining, SCHEDULES[self.plan["schedule"]])
        stages = stages if self.plan["vpp"] > 1 else stages[0]
        return kind(stages, n_microbatches=self.microbatches, loss_fn=self.loss)

    def tokens(self, step):
        """This rank's microbatches of a step, (microbatches x micro batch, positions) in and out; data is all in all.

        A sequence of the global batch is the same whatever the layout. Two batches take turns.
        """
        if step % 2 not in self.drawn:
            self.drawn[step % 2] = self._draw(step % 2)
        return self.drawn[step % 2]

    def _draw(self, turn):
        each = self.batch * self.microbatches
        first = self.mesh.place["dp"] * each
        places = self.mesh.positions(self.sequence // self.mesh.cp)
        drawn = []
        for sequence in range(first, first + each):
            seed = torch.Generator().manual_seed(7919 * turn + sequence)
            drawn.append(torch.randint(self.job["model"]["vocabulary"], (self.sequence + 1,), generator=seed))
        whole = torch.stack(drawn).to(self.machine.device)
        tokens, targets = (torch.cat([part[:, place] for place in places], 1) for part in (whole[:, :-1], whole[:, 1:]))
        return tokens.contiguous(), targets.contiguous()

    def step(self, number):
        """One step; the mean loss of this rank's microbatches where it has the head, else None."""
        tokens, targets = self.tokens(number)
        losses = self._pipelined(tokens, targets) if self.schedule else self._accumulated(tokens, targets)
        if self.replicas is not None:
            self.replicas.finish()
        sum_norms(self.chunks, self.mesh)
        self.update.step()
        return torch.stack([loss.detach() for loss in losses]).mean() if losses else None

    def _pipelined(self, tokens, targets):
        has = {"first": 0 in self.where, "last": self.plan["pp"] * self.plan["vpp"] - 1 in self.where}
        losses = []
        arguments = (tokens,) if has["first"] else ()
        if has["last"]:
            self.schedule.step(*arguments, target=targets, losses=losses)
        else:
            self.schedule.step(*arguments)
        if self.replicas is not None:
            self.replicas.start_all()
        return losses

    def _accumulated(self, tokens, targets):
        losses = []
        for number in range(self.microbatches):
            last = number == self.microbatches - 1
            if self.replicas is not None:
                self.replicas.ready = last
            if self.sharded:
                every = self.plan["zero"] >= 2 or last
                self.chunks[0].set_requires_gradient_sync(every)
                self.chunks[0].set_reshard_after_backward(self.plan["zero"] == 3 or last)
            rows = slice(number * self.batch, (number + 1) * self.batch)
            x = tokens[rows] if self.chunks[0].embedding is not None else self._received()
            for chunk in self.chunks:
                x = chunk(x)
            if self.chunks[-1].head is None:
                x.backward(torch.full_like(x, 1e-4))
                continue
            loss = self.loss(x, targets[rows])
            (loss / self.microbatches).backward()
            losses.append(loss)
        return losses

    def _received(self):
        """What the stage before would have sent."""
        dtype = FORMATS[self.job["precision"]["matmul"]]
        return torch.randn(self.hidden, dtype=dtype, device=self.machine.device, requires_grad=True)

    def held(self):
        """Weights, gradients and optimizer states of this rank."""
        weights = [weight for chunk in self.chunks for weight in chunk.parameters()]
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        return weights, gradients, self.update.held()


def layers_of(layers, positions):
    """Layers of every position in the pipeline: the rest goes to the earliest inner ones, then to the first."""
    base, extra = divmod(layers, positions)
    inner = list(range(1, positions - 1))
    fuller = [*inner, 0][:extra]
    return [base + (place in fuller) for place in range(positions)]
