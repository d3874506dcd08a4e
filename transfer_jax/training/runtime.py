"""Runtime: how a run is carried out on this machine."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Runtime:
    """How a run is carried out; nothing here changes what a cell learns.

    Attributes:
      checkpoint_every: steps between checkpoints of a group in training.
      keep_checkpoints: how many of them are kept.
      log_every: steps between lines of loss and speed in metrics.jsonl.
      steps_per_call: most steps compiled into one call, or 0 to choose: 1 on CPU, 50 elsewhere.
      tensorboard: also write TensorBoard event files.
      data_mode: 'auto' keeps datasets that fit on the device and streams the others; 'resident' and
        'stream' decide.
      device_data_bytes: what 'auto' lets resident images take on each device.
      workers: processes that decode streamed images.
      cpu_devices: devices that the CPU is shown as, see `devices.set_up_host`; 0 leaves it to
        XLA_FLAGS. Sums over another number of devices differ in the last bits.
      placement: how groups of cells use several devices of this process: 'batch' trains one group
        at a time, its batch split over all devices; 'cells' trains different groups on different
        devices at once, each on one; 'auto' does this where it keeps all devices busy, see
        `grid.executors.local.devices_per_group`.
      snapshot_steps: numbers of updates after which the params of every cell are kept for good,
        see `Store.snapshot_params`; 0 keeps the initial ones, and what lies beyond a recipe's last
        step is passed over. Calls of several steps end there too, so numbers that share a large
        factor with the other intervals are best on accelerators. Kept in ascending order.
      largest_trained: most cells without frozen layers that are trained side by side on the same
        batches; 0 chooses by network and backend, see `grid.plan.largest_trained_group`.
      side_by_side: form of such groups: 'unroll' or 'vmap', see `step.make_train_step`. The two
        differ in the last bits.
    """

    checkpoint_every: int = 1000
    keep_checkpoints: int = 2
    log_every: int = 100
    steps_per_call: int = 0
    tensorboard: bool = False
    data_mode: str = "auto"
    device_data_bytes: int = 4 * 2**30
    workers: int = 0
    cpu_devices: int = 0
    placement: str = "auto"
    snapshot_steps: tuple[int, ...] = ()
    largest_trained: int = 0
    side_by_side: str = "unroll"

    def __post_init__(self):
        for name in ("checkpoint_every", "keep_checkpoints", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"runtime.{name}={getattr(self, name)}: expected at least 1")
        for name in ("steps_per_call", "workers", "cpu_devices", "largest_trained"):
            if getattr(self, name) < 0:
                raise ValueError(f"runtime.{name}={getattr(self, name)}: expected 0 or more")
        for step in self.snapshot_steps:
            if isinstance(step, bool) or not isinstance(step, int) or step < 0:
                raise ValueError(
                    f"runtime.snapshot_steps={self.snapshot_steps!r}: expected integers, 0 or more"
                )
        object.__setattr__(self, "snapshot_steps", tuple(sorted(set(self.snapshot_steps))))
        if self.side_by_side not in ("unroll", "vmap"):
            raise ValueError(
                f"runtime.side_by_side={self.side_by_side!r}: expected 'unroll' or 'vmap'"
            )
        if self.data_mode not in ("auto", "resident", "stream"):
            raise ValueError(
                f"runtime.data_mode={self.data_mode!r}: expected 'auto', 'resident' or 'stream'"
            )
        if self.placement not in ("auto", "batch", "cells"):
            raise ValueError(
                f"runtime.placement={self.placement!r}: expected 'auto', 'batch' or 'cells'"
            )
