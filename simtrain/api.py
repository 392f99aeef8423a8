"""What notebooks and scripts use: `import simtrain as st`."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

from simtrain.errors import Problem, WrongInput, nearest
from simtrain.estimate import machine
from simtrain.estimate.course import PLANNED, Course
from simtrain.estimate.replayed import predicted
from simtrain.search.layout import Layout
from simtrain.search.search import search
from simtrain.spec import load
from simtrain.spec.catalog import model, model_names
from simtrain.spec.job import Job
from simtrain.spec.library import names
from simtrain.spec.plan import Plan
from simtrain.spec.request import Request
from simtrain.spec.slow import slows
from simtrain.study.explain import explain as explained
from simtrain.study.points import points
from simtrain.study.sweep import swept
from simtrain.views.answer import Answer, Rows
from simtrain.views.document import course_document, plan_document, simulate_document
from simtrain.views.explain import print_explanation
from simtrain.views.layout import layout as written
from simtrain.views.point import best_row
from simtrain.views.sweep import print_sweep, sweep_document
from simtrain.views.tables import print_one, print_search
from simtrain.workload.parameters import total

__all__ = ["WrongInput", "clusters", "explain", "job", "models", "plan", "score", "simulate", "sweep"]


def models() -> Rows:
    """The models known by name, a row each.

    >>> import simtrain as st
    >>> [row["layers"] for row in st.models() if row["name"] == "llama-3-70b"]
    [80]
    """
    found = [model(name) for name in model_names()]
    return Rows(
        {
            "name": shape.name,
            "parameters": total(shape),
            "layers": shape.layers,
            "hidden": shape.hidden,
            "heads": shape.heads,
            "experts": shape.experts.count if shape.experts else 0,
            "vocabulary": shape.vocabulary,
        }
        for shape in found
    )


def clusters() -> Rows:
    """The clusters known by name, a row each; the price is of one device, None where there is none.

    >>> import simtrain as st
    >>> [row["device"] for row in st.clusters() if row["name"] == "dgx-h100"]
    ['NVIDIA H100 SXM5 80 GB']
    """
    found = [load.cluster(name) for name in names(load.CLUSTERS)]
    return Rows(
        {
            "name": cluster.name,
            "title": cluster.title,
            "device": cluster.device.title,
            "node_devices": cluster.node.devices,
            "device_memory_bytes": cluster.device.memory.value,
            "price_usd_per_hour": None if cluster.price is None else cluster.price.value * 3600,
        }
        for cluster in found
    )


def job(model: str, cluster: str, **fields: object) -> Job:
    """What is asked: names or paths of model and cluster, the rest as on the command line.

    `fields`: gpus, seq, global_batch, tokens, precision, optimizer, stack, adapter_rank, freeze. WrongInput with all
    problems.

    >>> import simtrain as st
    >>> st.job("llama-3-8b", "dgx-h100", gpus=16, seq="8k").sequence
    8192
    """
    return _request(model, cluster, fields).job()


def plan(job: Job, top: int = 5) -> Answer:
    """The best plans of a job: printed as `simtrain plan` does, `rows` as plain dictionaries, the best first.

    >>> import simtrain as st
    >>> best = st.plan(st.job("llama-3-8b", "dgx-h100", gpus=8, global_batch=64)).rows[0]
    >>> best["layout"], best["fits"]
    ('tp1 cp2 pp1 dp4 zero1 mb1', True)
    """
    result = search(_asked(job), top)
    document = plan_document(result)
    if not document["plans"]:
        from simtrain.search.advice import advice
        from simtrain.views.tables import print_nothing_fits

        hints = advice(result)
        return Answer(job, document | {"hints": hints}, lambda console: print_nothing_fits(console, result, hints))
    return Answer(job, document, lambda console: print_search(console, result, document["plans"]))


def _asked(job: object) -> Job:
    if not isinstance(job, Job):
        raise WrongInput([Problem("job", job, "is no job", 'make one with st.job("llama-3-8b", "dgx-h100", gpus=8)')])
    return job


def simulate(job: Job, layout: Plan | None = None, slow: Iterable[str] = (), **options: object) -> Answer:
    """One plan of a job in detail: a Plan, or options as on the command line (tp, sp, pp, zero, micro_batch, ...).

    `slow`: what is slower than it should be, e.g. "stage=3:1.2", "replica=1:1.1" or "rank=17:2".

    >>> import simtrain as st
    >>> asked = st.job("llama-3-8b", "dgx-h100", gpus=8, global_batch=64)
    >>> [row["layout"] for row in st.simulate(asked, tp=2, sp=True, zero=1).rows]
    ['tp2+sp pp1 dp4 zero1 mb1']
    >>> late = st.simulate(asked, tp=2, sp=True, zero=1, slow=["replica=1:1.5"])
    >>> late.document["course"]["slow"], late.rows[0]["step_time_s"] > late.document["course"]["planned_step_time_s"]
    (['replica=1:1.5'], True)
    """
    if layout is not None and options:
        hint = "leave out " + ", ".join(options)
        raise WrongInput([Problem("layout", None, "is whole: options cannot change it", hint)])
    chosen = Layout.of(options).plan(_asked(job)) if layout is None else layout
    course, on = Course(slow=slows(slow)), machine(job)
    document = simulate_document(job, *predicted(job, [chosen], on, course))
    if course != PLANNED:
        document["course"] = course_document(course, None, predicted(job, [chosen], on)[0])
    return Answer(job, document, lambda console: print_one(console, job, document["plans"][0], document.get("course")))


def sweep(
    model: str | None = None,
    cluster: str | None = None,
    *,
    vary: Mapping[str, Iterable[object]],
    journal: str | None = None,
    scheduler: str | None = None,
    processes: int | None = None,
    **fields: object,
) -> Rows:
    """The best plan at every combination of the values in `vary`, a row each.

    `journal`: keep what is found in this file, and go on from it; `scheduler`: a Dask cluster (see `simtrain sweep`);
    `processes`: as many as there are processors if None; `fields`: as in `job`.

    >>> import simtrain as st
    >>> found = st.sweep("llama-3-8b", "dgx-h100", vary={"gpus": [4, 8]}, global_batch=64, processes=1)
    >>> [(row["gpus"], row["layout"]) for row in found]
    [(4, 'tp2+sp pp1 dp2 zero1 mb2'), (8, 'tp1 cp2 pp1 dp4 zero1 mb1')]
    """
    asked = {name: list(values) for name, values in vary.items()}
    axes = [(name, [str(value) for value in values]) for name, values in asked.items()]
    found = points(_request(model, cluster, fields), axes)
    path = None if journal is None else Path(journal)
    rows = swept([point.job for point in found], best_row, path, scheduler, processes=processes)
    document = sweep_document(found, rows)
    given = {name: {str(value): value for value in values} for name, values in asked.items()}
    typed = [row | {name: given[name].get(row[name], row[name]) for name in given} for row in document["points"]]
    return Rows(typed, lambda console: print_sweep(console, document))


def explain(answer: Answer, rank: int = 1, why_not: Mapping[str, object] | None = None) -> Rows:
    """What more of each resource would be worth to a plan of an answer, and to the best plan then.

    `why_not`: options of another layout, {"tp": 8, "pp": 4}, to be compared. Printed as `simtrain explain` does.

    >>> import simtrain as st
    >>> asked = st.job("llama-3-8b", "dgx-h100", gpus=8, global_batch=64)
    >>> [row["change"] for row in st.explain(st.plan(asked))][0]
    '1 GiB more memory a device'
    """
    if not isinstance(answer, Answer):
        raise WrongInput([Problem("answer", answer, "is no answer", "make one with st.plan or st.simulate")])
    asked = None if why_not is None else {name: str(value) for name, value in why_not.items()}
    found = explained(answer.job, answer.plan(rank), asked)
    worths = (
        {
            "change": worth.change,
            "plan_gain_s": worth.plan_gain,
            "best_layout": None if worth.best is None else written(worth.best.plan),
            "best_gain_s": worth.best_gain,
        }
        for worth in found.worths
    )
    return Rows(worths, lambda console: print_explanation(console, found))


def score(source: str | None = None) -> Rows:
    """Published runs, measured and predicted, a row each; only those of one source if it is named.

    `predicted_s` and its interval come from the run's configuration alone. Runs without a measured step time, or that
    cannot be expressed, are left out.

    >>> import simtrain as st
    >>> [round(row["measured_s"], 2) for row in st.score("korthikanti-2022")][:2]
    [18.13, 13.75]
    """
    from simtrain.validation.corpus import corpus
    from simtrain.validation.score import score as predict

    return Rows(
        {
            "id": found.row.id,
            "source": found.row.source,
            "model": found.row.model,
            "gpus": found.row.gpus,
            "seq": found.row.seq,
            "layout": written(found.expressed.plan),
            "measured_s": found.row.step_s,
            "predicted_s": found.step_time,
            "predicted_low_s": found.low,
            "predicted_high_s": found.high,
            "error": found.ratio - 1,
        }
        for found in predict(corpus(None).of_source(source))
        if found.expressed is not None and found.row.step_s
    )


def _request(model: str | None, cluster: str | None, fields: Mapping[str, object]) -> Request:
    """The fields as text; WrongInput names those that are not known."""
    known = asdict(Request())
    problems = [Problem(name, None, "is not known", nearest(name, known)) for name in fields if name not in known]
    if problems:
        raise WrongInput(problems)
    return Request(model=model, cluster=cluster, **{name: str(value) for name, value in fields.items()})
