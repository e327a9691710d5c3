"""Nodes that die, fall silent, leave and come back: what ends, when, with which words, and what is resumed.

Network namespaces stand for the nodes. `pytest -s -m soak tests/test_launch_nodes.py` prints README's table.
"""

import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from netns_nodes import Nodes, Started, bucket_at, nodes, shifted_clock, until, why_not
from node_rank import epochs, record, starts
from s3_server import S3Env, upload
from train_data import make_dataset
from train_runs import as_options, small_config

from train.loop.config import TrainConfig
from train.loop.run import train
from train.loop.trainee import Trainee
from train.order.config import OrderConfig

SOAK = pytest.mark.soak
PAIRS, BATCH = 48, 12
STEPS = PAIRS // BATCH  # of an epoch
EPOCHS = 30
WORDS = ("Traceback", "terminate called", "frame #", "Exception raised from", "[W", "[E")
"""What no node may write."""

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_dataset(tmp_path_factory.mktemp("data"), pairs=PAIRS, shard_pairs=16, size=(32, 40))


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Nodes]:
    with nodes(tmp_path, 2) as bed:
        yield bed


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Nodes]:
    with nodes(tmp_path, 3) as bed:
        yield bed


def run_of(bed: Nodes, data: str, out: str = "", lanes: int = 12, epochs: int = EPOCHS) -> TrainConfig:
    order = OrderConfig(global_batch=BATCH, lanes=lanes, block=2)
    return small_config({"train": data}, out or bed.folder / "run", epochs=epochs, order=order)


def options(bed: Nodes, *run: str, **more: int) -> list[str]:
    return ["-m", "node_rank", str(bed.folder), *as_options(run_of(bed, *run, **more))]


def start(bed: Nodes, words: list[str], **variables: str) -> list[Started]:
    """A launcher on each node."""
    return [bed.start(number, *words, **variables) for number in range(len(bed.names))]


def until_trains(bed: Nodes, *running: Started, start: int = 1, steps: int = 6) -> None:
    """Waits for the first steps of a start of the ranks."""
    until(lambda: len(starts(bed.folder)) >= start and len(starts(bed.folder)[-1]) >= steps, *running)


def hurry(bed: Nodes) -> None:
    (bed.folder / "hurry").touch()


def ends(one: Started, status: int, *told: str) -> None:
    """Checks how a launcher ends, and its errors, by their beginnings."""
    found, lines = one.ended()
    text = "\n".join(lines)
    assert found == status, text
    errors = errors_of(one)
    assert len(errors) == len(told), text
    assert all(map(str.startswith, errors, told)), text
    assert not [word for word in WORDS if word in text], text


def errors_of(one: Started) -> list[str]:
    return [line.removeprefix("error: ") for line in one.lines() if line.startswith("error: ")]


def ends_with_all_pairs(bed: Nodes, running: list[Started]) -> None:
    """The run goes on to its end, and all its epochs have each pair once."""
    hurry(bed)
    for each in running:
        ends(each, 0)
    assert_each_pair_once(bed, EPOCHS)


def assert_each_pair_once(bed: Nodes, count: int) -> None:
    found = epochs(bed.folder, STEPS)
    assert len(found) == count
    assert all(epoch == found[0] and len(set(epoch)) == len(epoch) == PAIRS for epoch in found)


def resumes(bed: Nodes, words: list[str], **variables: str) -> None:
    """The same line on each node goes on, to the end."""
    ends_with_all_pairs(bed, start(bed, words, **variables))
    assert len(starts(bed.folder)) > 1


def tell(bed: Nodes, what: str, *ended: Started) -> None:
    """Prints a row: how launchers ended, how long after the fault; or how long it is now since the fault."""
    cells = [
        f"{each.log.stem}: {each.process.wait()} after {each.over - bed.struck:.0f} s {errors_of(each)}"
        for each in ended
    ]
    cells = cells or [f"went on after {time.monotonic() - bed.struck:.0f} s"]
    sys.stdout.write(f"\n| {' | '.join([what, *cells])} |\n")


ANOTHER = "rank {} stops: another rank ended; see its error"
APART = "the nodes did not come together: "
SILENT = "{} has not answered for 45 s; see the other nodes' logs"


def test_a_killed_node_ends_the_others_and_every_pair_of_the_epochs_is_seen_once(
    two: Nodes, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = start(two, options(two, data, epochs=3))
    until_trains(two, *both, steps=STEPS + 2)
    two.kill(1)
    ends(both[0], 69, ANOTHER.format(1))  # rank 0 was on node 1: its address comes first
    for name, value in {"MASTER_PORT": "resumed", "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    hurry(two)
    with monkeypatch.context() as patched:
        patched.setattr(Trainee, "step", Trainee.step)  # to be as it was afterwards
        record(two.folder)
        train(run_of(two, data, epochs=3))
    assert_each_pair_once(two, 3)


def test_a_node_that_falls_silent_is_given_up_by_both_sides(two: Nodes) -> None:
    both = start(two, ["-m", "toy_rank", "wait", str(two.folder)], NODE_TIMEOUT="3", MAX_RESTARTS="0")
    until(lambda: len(list(two.folder.glob("started-0-*"))) == 2, *both)
    two.link(1, "down")
    for number, other in enumerate(("node1", "the node where all meet")):
        ends(both[number], 69, f"{other} has not answered for 3 s; see the other nodes' logs")
        assert not two.pids(number)


@SOAK
@pytest.mark.parametrize("count", [2, 3])
def test_soak_nodes_train_together_without_a_fault(tmp_path: Path, data: str, count: int) -> None:
    with nodes(tmp_path, count) as bed:
        ends_with_all_pairs(bed, start(bed, options(bed, data)))
        assert len(starts(tmp_path)) == 1


@SOAK
@pytest.mark.parametrize("victim", [0, 1], ids=["where nodes meet", "with rank 0"])
def test_soak_a_killed_node_ends_the_others_at_once(two: Nodes, data: str, victim: int) -> None:
    words = options(two, data)
    both = start(two, words)
    until_trains(two, *both)
    two.kill(victim)
    survivor = both[1 - victim]
    ends(survivor, 69, ANOTHER.format(victim))
    tell(two, "a node is killed", survivor)
    resumes(two, words)


@SOAK
def test_soak_a_killed_node_that_comes_back_in_time_is_taken_in(two: Nodes, data: str) -> None:
    words = options(two, data)
    first, second = start(two, words, MAX_RESTARTS="3")
    until_trains(two, first, second)
    two.kill(1)
    again = two.start(1, *words, MAX_RESTARTS="3")
    until_trains(two, first, again, start=2)
    tell(two, "a killed node comes back")
    ends_with_all_pairs(two, [first, again])
    assert f"{ANOTHER.format(1)}: all ranks start again, 3 times at most" in first.lines()


@SOAK
def test_soak_a_killed_node_that_does_not_come_back_is_waited_for_briefly(two: Nodes, data: str) -> None:
    words = options(two, data)
    first, second = start(two, words, MAX_RESTARTS="3")
    until_trains(two, first, second)
    two.kill(1)
    ends(first, 69, f"{APART}too few came in time; see the other nodes' logs")
    tell(two, "a killed node does not come back", first)
    resumes(two, words)


@SOAK
def test_soak_a_node_that_is_killed_while_ranks_start_ends_the_others(two: Nodes, data: str) -> None:
    words = options(two, data)
    first, second = start(two, words)
    until(lambda: all(len(two.pids(number)) > 1 for number in range(2)), first, second)  # a launcher, a rank
    two.kill(1)
    first.ended()
    tell(two, "a node is killed while ranks start", first)
    ends(first, 69, SILENT.format("node1"))
    ends_with_all_pairs(two, start(two, words))


@SOAK
def test_soak_a_link_that_is_down_for_five_seconds_ends_nothing(two: Nodes, data: str) -> None:
    both = start(two, options(two, data))
    until_trains(two, *both)
    two.link(1, "down")
    time.sleep(5)
    two.link(1, "up")
    done = len(starts(two.folder)[-1])
    until(lambda: len(starts(two.folder)[-1]) > done + 3, *both)
    tell(two, "a link is down for 5 s")
    ends_with_all_pairs(two, both)
    assert len(starts(two.folder)) == 1


@SOAK
@pytest.mark.parametrize(
    ("victim", "restarts"), [(0, "3"), (1, "0")], ids=["where nodes meet", "with rank 0"]
)
def test_soak_a_link_that_stays_down_ends_both_sides(
    two: Nodes, data: str, victim: int, restarts: str
) -> None:
    words = options(two, data)
    both = start(two, words, MAX_RESTARTS=restarts)
    until_trains(two, *both)
    two.link(victim, "down")
    for each in both:
        each.ended()
    tell(two, f"a link stays down, MAX_RESTARTS={restarts}", *both)
    ends(both[0], 69, SILENT.format("node1") if restarts == "0" else f"{APART}too few came in time")
    (told,) = errors_of(both[1])
    assert told.startswith((SILENT.format("the node where all meet"), f"{APART}the node where all meet"))
    two.link(victim, "up")
    resumes(two, words)


@SOAK
@pytest.mark.parametrize("count", [2, 3])
def test_soak_nodes_go_on_without_one_and_take_it_back(tmp_path: Path, data: str, count: int) -> None:
    variables = {"NNODES": f"{count - 1}:{count}", "MAX_RESTARTS": "3"}
    with nodes(tmp_path, count) as bed:
        words = options(bed, data)
        *others, last = start(bed, words, **variables)
        until_trains(bed, *others, last)
        bed.kill(count - 1)
        until_trains(bed, *others, start=2)
        tell(bed, f"NNODES={count - 1}:{count}, a node is killed")
        bed.struck = time.monotonic()
        again = bed.start(count - 1, *words, **variables)
        until_trains(bed, *others, again, start=3)
        tell(bed, f"NNODES={count - 1}:{count}, it comes back")
        ends_with_all_pairs(bed, [*others, again])


@SOAK
def test_soak_a_number_of_lanes_that_two_nodes_could_not_use_is_refused_at_the_start(
    three: Nodes, data: str
) -> None:
    words = options(three, data, lanes=3)
    for each in start(three, words, NNODES="2:3", MAX_RESTARTS="3"):
        ends(
            each, 2, "NNODES=2:3 lets the run go on with 2, but lanes=3 is not a multiple of the world size 2"
        )
    assert starts(three.folder) == []


@SOAK
@pytest.mark.parametrize("asked", [[0], [1], [0, 1]], ids=["where nodes meet", "with rank 0", "all"])
def test_soak_nodes_that_are_asked_to_end_save_and_take_the_others_along(
    two: Nodes, data: str, asked: list[int]
) -> None:
    words = options(two, data)
    both = start(two, words, MAX_RESTARTS="3")
    until_trains(two, *both)
    two.struck = time.monotonic()
    for number in asked:
        both[number].process.send_signal(signal.SIGTERM)
    for each in both:
        ends(each, 75)
    tell(two, f"SIGTERM to {len(asked)} of two", *both)
    assert sum("asked to end: step " in line for each in both for line in each.lines()) == 1
    done = len(starts(two.folder)[0])
    resumes(two, words)
    assert min(starts(two.folder)[1]) == done  # nothing is done twice


@SOAK
@pytest.mark.parametrize("victim", [0, 1], ids=["where nodes meet", "with rank 0"])
def test_soak_a_launcher_that_is_killed_alone_takes_all_ranks_along(
    two: Nodes, data: str, victim: int
) -> None:
    words = options(two, data)
    both = start(two, words, MAX_RESTARTS="3")
    until_trains(two, *both)
    two.struck = time.monotonic()
    both[victim].process.send_signal(signal.SIGKILL)
    ends(both[1 - victim], 75)
    tell(two, "a launcher is killed", both[1 - victim])
    until(lambda: not two.pids(victim))
    done = len(starts(two.folder)[0])
    resumes(two, words)
    assert min(starts(two.folder)[1]) == done


@pytest.fixture
def bucket(two: Nodes, s3_env: S3Env) -> Iterator[str]:
    with bucket_at(two.hub, s3_env.server.address) as url:
        s3_env.monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
        yield s3_env.url


@SOAK
@pytest.mark.parametrize(
    ("victim", "seconds"), [(1, 10), (0, 1000), (1, 1000)], ids=["briefly", "where nodes meet", "with rank 0"]
)
def test_soak_a_bucket_that_one_node_cannot_reach_for_long_ends_the_run(
    two: Nodes, data: str, s3_env: S3Env, bucket: str, victim: int, seconds: int
) -> None:
    words = options(two, upload(s3_env.server, Path(data), f"{bucket}/data"), f"{bucket}/run")
    both = start(two, words)
    until_trains(two, *both)
    two.bucket(victim, "down")
    if seconds == 10:
        time.sleep(seconds)
        two.bucket(victim, "up")
        ends_with_all_pairs(two, both)
        assert len(starts(two.folder)) == 1
        return
    for each in both:
        each.ended()
    tell(two, f"the bucket is out of reach for node {victim}", *both)
    assert [len(errors_of(each)) for each in both] == [1, 1]
    assert both[victim].ended()[0] == 74  # nothing that a scheduler takes for a mistake
    assert both[1 - victim].ended()[0] in (69, 74)
    two.bucket(victim, "up")
    resumes(two, words)


@SOAK
@pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")
@pytest.mark.parametrize("ahead", [0, 1], ids=["where nodes meet", "with rank 0"])
def test_soak_clocks_that_are_ten_minutes_apart_disturb_nothing(two: Nodes, data: str, ahead: int) -> None:
    words, clock = options(two, data), shifted_clock(two.folder, 600)
    both = [
        two.start(number, *words, MAX_RESTARTS="3", **(clock if number == ahead else {}))
        for number in range(2)
    ]
    until_trains(two, *both)
    time.sleep(30)  # twice as long as torch takes for a node to be dead
    ends_with_all_pairs(two, both)
    assert len(starts(two.folder)) == 1
