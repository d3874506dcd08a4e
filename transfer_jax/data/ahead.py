"""Threads that work a little ahead of whoever takes their results."""

import collections
import concurrent.futures
import os
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Argument = TypeVar("Argument")
Result = TypeVar("Result")


def map_ahead(
    function: Callable[[Argument], Result],
    arguments: Iterable[Argument],
    workers: int | None = None,
) -> Iterator[Result]:
    """`map` by threads, in order, with only a few results waiting to be taken.

    So memory stays bounded where results are large and the taker is slow, and arguments may be
    drawn from an endless iterable.

    Args:
      function: called in a thread; what it raises is raised where its result is taken.
      arguments: drawn one by one, in the thread that takes the results.
      workers: number of threads; None for one per core.

    Yields:
      The results in the order of the arguments. When the taker stops early, calls that have begun
      are waited for and the others are never made.

    Example:
      >>> list(map_ahead(abs, [-3, 1, -2]))
      [3, 1, 2]
    """
    workers = workers or os.cpu_count() or 1
    pending: collections.deque[concurrent.futures.Future[Result]] = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(workers) as threads:
        try:
            for argument in arguments:
                pending.append(threads.submit(function, argument))
                if len(pending) > 2 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
