"""What a sweep logs: its start, every task, what was measured, its end."""

import threading

import numpy as np
import pytest

from jaxhash.sweeps import folder, log
from jaxhash.sweeps.grid import SweepConfig
from jaxhash.sweeps.task import Progress
from jaxhash.sweeps.tasks import Task
from jaxhash.training.mlp import TrainConfig

CONFIG = SweepConfig(widths=(3, 4, 5), repeats=2, train=TrainConfig(batch_size=32))
TASKS = [Task.of((3, 4, 5), (repeat,)) for repeat in (0, 1)]
STEPS = 7  # of an epoch


@pytest.fixture
def logged(tmp_path):
    """A function that opens the log of a sweep with a clock, a list of one number."""

    def opened(now=(0.0,), callback=lambda progress: None):
        return log.opened(tmp_path, CONFIG, TASKS, STEPS * 32, callback, clock=lambda: now[0])

    return opened


def trained_for(task, epoch, losses, active=None):
    losses = np.asarray(losses)
    return Progress(task, epoch, losses, np.ones(losses.shape, bool) if active is None else np.asarray(active), [])


def test_a_sweep_logs_its_start_every_task_and_its_end(trained):
    events = log.events(trained.out)
    tasks = folder.tasks_of(folder.read_description(trained.out))
    mine = [e for e in events if e["pid"] == events[0]["pid"]]
    assert mine[0]["event"] == "start"
    assert mine[0]["models"] == 6
    assert mine[0]["steps_per_epoch"] == len(trained.data.x_train) // 32
    measured = [e for e in events if e["event"] == "measured"]
    assert {(e["task"], e["epoch"]) for e in measured} == {(task.name, 8) for task in tasks}
    assert len(measured) == len(tasks)  # once, however often the run was opened again
    repeats = {task.name: list(task.repeats) for task in tasks}  # one of a task on CPU, all of them on an accelerator
    for e in measured:
        mean = trained.results["test_accuracy"].sel(repeat=repeats[e["task"]]).mean().item()
        assert e["test_accuracy"] == pytest.approx(mean, abs=1e-6)
    assert events[-1]["event"] == "done"


def test_losses_and_speed_are_those_of_the_models_that_train(logged, tmp_path):
    now, seen = [10.0], []
    with logged(now, seen.append) as callback:
        now[0] = 12.0
        callback(trained_for(TASKS[0], 1, [[1.0, 2.0, 6.0]]))
        now[0] = 15.0
        callback(trained_for(TASKS[0], 2, [[1.0, 9.0, 3.0]], [[True, False, True]]))
        now[0] = 18.0
        callback(trained_for(TASKS[0], 3, [[float("nan"), 9.0, 3.0]], [[True, False, False]]))
    start, *epochs, done = log.events(tmp_path)
    assert len(seen) == 3
    assert (start["models"], start["tasks"], start["steps_per_epoch"]) == (6, 2, STEPS)
    assert [[e[f"loss_{kind}"] for kind in ("mean", "min", "max")] for e in epochs] == [
        [3, 1, 6],
        [2, 1, 3],
        [None] * 3,
    ]
    assert [e["active"] for e in epochs] == [3, 2, 1]
    assert [e["model_steps"] for e in epochs] == [3 * STEPS, 5 * STEPS, 6 * STEPS]
    assert [e["model_steps_per_second"] for e in epochs] == [10.5, 7.0, 5.2]  # 21 / 2 s, 35 / 5 s, 42 / 8 s
    assert done["event"] == "done"


def test_a_task_takes_a_line_a_second_at_most(logged, tmp_path):
    now = [0.0]
    with logged(now) as callback:
        for epoch in range(1, 13):
            now[0] = epoch / 4
            callback(trained_for(TASKS[0], epoch, [[1.0, 1.0, 1.0]]))
            if epoch == 3:
                callback(trained_for(TASKS[1], 1, [[1.0, 1.0, 1.0]]))
    lines = [(e["task"], e["epoch"]) for e in log.events(tmp_path) if e["event"] == "epoch"]
    first, second = (task.name for task in TASKS)
    assert lines == [(first, 1), (second, 1), (first, 5), (first, 9)]


def test_the_steps_of_many_threads_are_all_counted(logged, tmp_path):
    now = [0.0]
    with logged(now) as callback:
        epochs = [trained_for(TASKS[0], epoch, [[1.0, 2.0, 3.0]]) for epoch in range(200)]
        threads = [threading.Thread(target=lambda: [callback(epoch) for epoch in epochs]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        now[0] = 5.0
        callback(epochs[0])
    assert log.events(tmp_path)[-2]["model_steps"] == 801 * 3 * STEPS
