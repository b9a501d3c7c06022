"""Where jobs run: in a pool of threads, or at once in the caller's (which makes tests simple)."""

from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any


def thread(workers: int) -> Executor:
    """A pool of `workers` threads; none is started before the first job."""
    return ThreadPoolExecutor(max_workers=workers, thread_name_prefix="report")


class InlineExecutor(Executor):
    """Runs each job to its end before `submit` returns."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """A future that is already done."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future
