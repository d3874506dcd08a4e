"""Groups on the devices of this process: one after the other, or side by side."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future

from transfer_jax.grid.job import Job
from transfer_jax.grid.plan import Group
from transfer_jax.grid.schedule import Slots
from transfer_jax.training import devices, processes
from transfer_jax.training.progress import Progress


@dataclasses.dataclass(frozen=True)
class LocalExecutor:
    """Trains groups in this process, on one device or several, as `Runtime.placement` says."""

    @contextlib.contextmanager
    def session(self) -> Iterator[None]:
        """Needs nothing."""
        yield

    @contextlib.contextmanager
    def slots(self, job: Job, whole: Sequence[Group], progress: Progress) -> Iterator[Slots]:
        """One slot in the calling thread where every group takes all devices; otherwise one slot
        for each device, and a thread for each group in training.

        An exception of a group in the calling thread is raised by `submit`, and so ends the run at
        once; in a thread of its own it goes into the future, and the other groups go on.
        """
        count = devices.num_devices()
        width = devices_per_group(job.runtime.placement, count, whole)
        if all(width(group) == count for group in whole):
            yield Slots(1, lambda group: _finished(job.train(group, progress)))
            return
        bars = _SideBySide(progress)
        with contextlib.closing(_Threads(devices.local(), width, bars, job)) as threads:
            yield Slots(count, threads.submit, width)


def devices_per_group(
    placement: str, num_devices: int, whole: Sequence[Group]
) -> Callable[[Group], int]:
    """How many devices each group of a study is trained on.

    'auto' looks at the study's bases, and everything else without a base, apart from the cells that
    copy from a base, since these wait for those: where there are at least as many groups as
    devices each is trained on one, and where there are fewer each is split over all. The number
    does not depend on what is finished already, so that a resumed run sums in the same order.

    Args:
      placement: see `Runtime`.
      num_devices: of this process.
      whole: plan of the whole study.

    Returns:
      a function of a group: 1 or `num_devices`.

    Raises:
      ValueError: 'cells' where several processes train together.
    """
    if processes.count() > 1:
        if placement == "cells":
            raise ValueError(
                f"runtime.placement='cells' with {processes.count()} processes: expected 'batch' "
                "or 'auto', which split every batch over all of them"
            )
        placement = "batch"
    first = sum(not group.depends_on for group in whole)
    spread = {
        "batch": {True, False},
        "cells": set(),
        "auto": {
            starts
            for starts, number in ((True, first), (False, len(whole) - first))
            if number < num_devices
        },
    }[placement]
    return lambda group: num_devices if (not group.depends_on) in spread else 1


def _finished(result) -> Future:
    future: Future = Future()
    future.set_result(result)
    return future


class _Threads:
    """A thread for each group in training, each with devices of its own."""

    def __init__(self, free, width: Callable[[Group], int], bars: _SideBySide, job: Job):
        self._free, self._width, self._bars, self._job = list(free), width, bars, job
        self._threads: list[threading.Thread] = []

    def submit(self, group: Group) -> Future:
        self._free.sort(key=lambda device: device.id)
        mine = [self._free.pop(0) for _ in range(self._width(group))]
        future: Future = Future()

        def work():
            outcomes, failure = None, None
            try:
                with devices.only(mine):
                    outcomes = self._job.train(group, self._bars)
            except BaseException as error:
                failure = error
            # Who waits for the future may use the devices at once.
            self._free += mine
            future.set_exception(failure) if failure else future.set_result(outcomes)

        # A daemon, so that a second interruption ends the program without waiting.
        thread = threading.Thread(target=work, name=f"group {group.hash}", daemon=True)
        self._threads = [t for t in self._threads if t.is_alive()] + [thread]
        thread.start()
        return future

    def close(self) -> None:
        """Ends trainings that go on, so that nobody writes to a workdir that is free again."""
        self._bars.stop()
        for thread in self._threads:
            thread.join()


class _StoppedError(Exception):
    """The run is over, and this group is not."""


class _SideBySide:
    """A `Progress` for several groups at once: the grid's bar alone, one thread at a time."""

    def __init__(self, progress: Progress):
        self._progress, self._lock, self._stopped = progress, threading.Lock(), False

    def stop(self) -> None:
        """Makes every group end at its next sign of progress."""
        self._stopped = True

    def group(self, names: Sequence[str], steps: int, first: int, batch_size: int) -> _BarOfOne:
        images = batch_size * len(names)
        self.add(first * images)
        return _BarOfOne(self, images, first)

    def add(self, images: int) -> None:
        if self._stopped:
            raise _StoppedError
        with self._lock:
            self._progress.skip(images)


class _BarOfOne:
    """Counts one group's images in the grid's bar; see `GroupBar`."""

    def __init__(self, bars: _SideBySide, images_per_step: int, first: int):
        self._bars, self._images, self._step = bars, images_per_step, first

    def update_to(self, step: int, *, loss: float) -> None:
        self._bars.add((step - self._step) * self._images)
        self._step = step

    def close(self) -> None:
        pass
