"""The rank mesh and the batch: every device is used once, every sequence goes to one rank group."""

from simtrain.workload.rule import Rule

RULES = (
    Rule(
        "the mesh uses every device",
        "tp x cp x pp x dp must equal the devices",
        lambda job, plans: plans.tp * plans.cp * plans.pp * plans.dp == job.devices,
    ),
    Rule(
        "the batch divides",
        "the global batch must be a multiple of dp x micro batch",
        lambda job, plans: plans.global_batch % (plans.dp * plans.micro_batch) == 0,
    ),
)
