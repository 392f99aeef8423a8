"""Orders given as tables: PyTorch's files, and everything that can be wrong with one."""

import csv
import io
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from pipelines import EVEN, SCHEDULES, costs, replayed, written
from torch.distributed.pipelining._schedule_visualizer import get_schedule_ops
from torch.distributed.pipelining.schedules import PipelineScheduleMulti

from simtrain.cli.orderfile import read_order
from simtrain.errors import WrongInput
from simtrain.timeline.order import Order
from simtrain.timeline.order_table import order_table
from simtrain.timeline.schedules import zero_bubble_v

FIELDS = ("chunk", "microbatch", "phase", "place")


def torch_file(path: Path, schedule: str, stages: int, microbatches: int, chunks: int) -> Path:
    """What PyTorch writes of one of its schedules."""
    rows = get_schedule_ops(schedule, stages, microbatches, chunks)
    PipelineScheduleMulti._dump_csv(SimpleNamespace(pipeline_order=dict(enumerate(rows))), str(path))
    return path


def as_csv(order: Order) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(written(order))
    return text.getvalue()


def wrong(text: str, name: str = "table.csv") -> list[str]:
    with pytest.raises(WrongInput) as caught:
        order_table(text, name)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("name", "write"), [("a.csv", as_csv), ("a.JSON", lambda order: json.dumps(written(order)))])
def test_a_written_order_is_read_back(schedule: str, name: str, write) -> None:
    chunks, order = SCHEDULES[schedule]
    before = order(4, chunks, 8)
    after = order_table(write(before), name)
    assert all(np.array_equal(getattr(before, field), getattr(after, field)) for field in FIELDS)


@pytest.mark.parametrize(
    ("theirs", "ours", "chunks"),
    [
        ("GPipe", "gpipe", 1),
        ("Interleaved1F1B", "interleaved", 3),
        ("LoopedBFS", "breadth-first", 3),
        ("DualPipeV", "dual-pipe-v", 2),
    ],
)
def test_what_torch_writes_is_read(tmp_path: Path, theirs: str, ours: str, chunks: int) -> None:
    """Idle cells, passes run at once and reductions among its cells."""
    path = torch_file(tmp_path / "torch.csv", theirs, 4, 8, chunks)
    assert written(read_order(path)) == written(SCHEDULES[ours][1](4, chunks, 8))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_torch_reads_what_is_written(tmp_path: Path, schedule: str) -> None:
    chunks, order = SCHEDULES[schedule]
    found = order(4, chunks, 8)
    path = tmp_path / "ours.csv"
    path.write_text(as_csv(found))
    reader = SimpleNamespace(pipeline_order={}, _validate_and_set_stage_mapping=lambda table: None)
    PipelineScheduleMulti._load_csv(reader, str(path))
    assert [[str(action) for action in row] for row in reader.pipeline_order.values()] == written(found)


@pytest.mark.parametrize(("stages", "microbatches"), [(2, 4), (4, 4), (4, 16), (8, 10), (8, 16), (8, 32)])
def test_zb_v_is_no_longer_than_that_of_torch(tmp_path: Path, stages: int, microbatches: int) -> None:
    """With equal passes: no bubble but the way of the first forward pass to the last stage."""
    theirs = read_order(torch_file(tmp_path / "torch.csv", "ZBVZeroBubble", stages, microbatches, 2))
    ours = zero_bubble_v.order(stages, 2, microbatches, EVEN)
    length = [replayed(order, costs(stages, 2)).end.max() for order in (ours, theirs)]
    assert length[0] <= length[1]
    assert length[0] == 6 * microbatches + stages - 1


def test_blanks_and_the_mark_of_spreadsheets_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(b"\xef\xbb\xbf0F0, ,0B0\r\n\r\n ,1F0,1B0,\r\n")
    assert written(read_order(path)) == [["0F0", "0B0"], ["1F0", "1B0"]]
    assert written(order_table('[["0F0", null, "0B0"], ["", "1F0", "1B0"]]', "a.json")) == written(read_order(path))


def test_chunks_are_counted_along_a_microbatchs_way() -> None:
    found = order_table("3F0,0F0,3B0,0B0\n1F0,2F0,2B0,1B0\n", "table.csv")
    assert found.place.tolist() == [[0, 3], [1, 2]]
    assert found.chunk.tolist() == [[1, 0, 1, 0], [0, 1, 1, 0]]


def test_every_unreadable_cell_is_named() -> None:
    rule = "must be a chunk's position, one of F, B, I, W, and a microbatch"
    assert wrong("0F0,0X0\n1F0,(1F1;2)OVERLAP_F_B,1F\n1B0,1F-1,1234567890F0\n") == [
        f"table.csv: row 1, column 2 = '0X0': {rule}",
        f"table.csv: row 2, column 2 = '(1F1;2)OVERLAP_F_B': {rule}",
        f"table.csv: row 2, column 3 = '1F': {rule}",
        f"table.csv: row 3, column 2 = '1F-1': {rule}",
        f"table.csv: row 3, column 3 = '1234567890F0': {rule}",
    ]
    assert wrong('[["0F0", 7, ["0B0"]]]', "a.json") == [
        f"a.json: row 1, column 2 = 7: {rule}",
        f"a.json: row 1, column 3 = ['0B0']: {rule}",
    ]


def test_every_misplaced_action_is_named() -> None:
    assert wrong("0F0,0B0,3F0,3B0\n,,\n3F0,1F5,1B5\n") == [
        "table.csv: row 2: holds no action",
        "table.csv: position = 3: stands in rows 1, 3: one stage holds it",
        "table.csv: position = 2: is missing, and position 3 is there",
        "table.csv: microbatch = 1: is missing, and microbatch 5 is there",
    ]
    assert wrong("0F0,0B0,1F0,1B0\n2F0,2B0\n") == ["table.csv: chunks = [2, 1]: must be as many on every stage"]


def test_every_missing_and_repeated_action_is_named() -> None:
    assert wrong("0F0,0F1,0B0,0B0\n1F0,1B0,1W0,1F1,1I1\n") == [
        "table.csv: 0B0 stands there 2 times",
        "table.csv: 0B1 is missing",
        "table.csv: 1W1 is missing",
        "table.csv: 1W0 repeats a part of 1B0",
    ]


@pytest.mark.parametrize(
    ("text", "name", "problem"),
    [
        ("", "a.csv", "a.csv: holds no action"),
        ("\n,,\n", "a.csv", "a.csv: holds no action"),
        ("[]", "a.json", "a.json: holds no action"),
        ("{}", "a.json", "a.json: must be a list of stages, each a list of actions"),
        ('["0F0"]', "a.json", "a.json: must be a list of stages, each a list of actions"),
        ("0F0", "a.json", "a.json: is not valid JSON: Extra data: line 1 column 2 (char 1)"),
        ("x" * 200_000, "a.csv", "a.csv: is not valid CSV: field larger than field limit (131072)"),
    ],
)
def test_what_is_no_table(text: str, name: str, problem: str) -> None:
    assert wrong(text, name) == [problem]


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe0F0")
    for name, why in (("none.csv", "No such file or directory"), ("binary.csv", "is not UTF-8 text")):
        with pytest.raises(WrongInput, match=why):
            read_order(tmp_path / name)


@pytest.mark.parametrize(
    ("text", "circle"),
    [
        (
            "0F1,0B1,0F0,0B0\n1F0,1F1,1B0,1B1\n",
            "backward of microbatch 1, chunk 0 on stage 0 waits for backward of microbatch 1, chunk 0 on stage 1; "
            "forward of microbatch 0, chunk 0 on stage 1 waits for forward of microbatch 0, chunk 0 on stage 0",
        ),
        (
            "0F0,0W0,0I0\n1F0,1B0\n",
            "backward-weight of microbatch 0, chunk 0 on stage 0 waits for "
            "backward-input of microbatch 0, chunk 0 on stage 0",
        ),
    ],
)
def test_an_order_that_never_ends_is_told_with_its_circle(text: str, circle: str) -> None:
    """Where every stage of the circle stands, and what it lacks there."""
    with pytest.raises(WrongInput) as caught:
        replayed(order_table(text, "table.csv"), costs(2, 1))
    assert [str(problem) for problem in caught.value.problems] == [f"order: never ends: {circle}"]


def test_messages_stand_in_the_circle_where_they_travel_on_their_own() -> None:
    with pytest.raises(WrongInput, match="on stage 0 waits for message of microbatch 1, chunk 0 on stage 1; message"):
        replayed(order_table("0F1,0B1,0F0,0B0\n1F0,1F1,1B0,1B1\n", "table.csv"), costs(2, 1, hop=0.1, shown=0.0))
