"""The scheduler: what is due is done in order, again and again, by a clock that nobody sets."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from conftest import PATIENCE_S, wait_until
from worker_helpers import Clock

from storemon_flask import errors
from storemon_flask.errors import Unprocessable
from storemon_flask.model import SECOND_US
from storemon_flask.reports.scheduler import Scheduler


@pytest.fixture
def clock() -> Clock:
    return Clock(0)


@pytest.fixture
def scheduler(clock: Clock) -> Scheduler:
    return Scheduler(clock, threaded=False)


def adding(done: list[str], name: str) -> Callable[[], object]:
    return lambda: done.append(name)


def test_what_is_due_is_done_in_order_and_each_name_has_one_time(scheduler: Scheduler, clock: Clock) -> None:
    done: list[str] = []
    scheduler.run_due()
    scheduler.add("b", adding(done, "b late"), 30 * SECOND_US)
    scheduler.add("a", adding(done, "a"), 20 * SECOND_US)
    scheduler.add("b", adding(done, "b"), 10 * SECOND_US)
    clock.turn(9)
    scheduler.run_due()
    assert done == []
    clock.turn(11)
    scheduler.run_due()
    assert done == ["b", "a"]
    clock.turn(1000)
    scheduler.run_due()
    assert done == ["b", "a"]


def test_what_is_done_every_hour_is_done_again_after_a_failure(
    scheduler: Scheduler, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    done: list[int] = []

    def task() -> None:
        done.append(1)
        raise (MemoryError(), Unprocessable("not today"), RuntimeError("not foreseen"))[len(done) - 1]

    scheduler.add("cleanup", task, every_us=3600 * SECOND_US)
    for _ in range(3):
        scheduler.run_due()
        clock.turn(1800)
        scheduler.run_due()
        clock.turn(1800)
    assert len(done) == 3
    assert caplog.messages == [
        f"cleanup: there is not enough memory for this; {errors.TRY_AGAIN}",
        "cleanup: not today",
        "cleanup failed",
    ]


def test_its_thread_does_what_is_due_and_ends_with_it() -> None:
    scheduler, done = Scheduler(), []

    def task() -> None:
        done.append(scheduler.stopped())
        if len(done) == 1:
            raise RuntimeError("logged, and the next one is called all the same")

    scheduler.add("late", task, 3600 * SECOND_US)
    scheduler.add("first", task, 10_000)
    wait_until(lambda: len(done) == 1, "the first call")
    scheduler.add("second", task)
    wait_until(lambda: len(done) == 2, "the second call")
    scheduler.stop()
    scheduler.add("never", task)
    assert scheduler._thread is not None
    assert not scheduler._thread.is_alive()
    assert done == [False, False]


def test_a_thread_that_cannot_be_started_is_started_with_the_next_task(monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler, called = Scheduler(), threading.Event()

    def no_thread(*arguments: Any) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_thread)
        scheduler.add("a", called.set)
    scheduler.add("b", lambda: None)
    assert called.wait(PATIENCE_S)
    scheduler.stop()
