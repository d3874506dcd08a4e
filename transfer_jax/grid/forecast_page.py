"""A forecast as a page of Markdown, for people who ask what a grid costs."""

from __future__ import annotations

from collections.abc import Sequence

from transfer_jax.grid.forecast import Forecast, rows, schedule_lines

_HOW = (
    "Operations are those of convolutions and matrix products, two for each multiply-add: the "
    "forward pass of all layers, weight gradients of the layers that learn, and input gradients of "
    "those above the lowest of them. Layers that frozen cells share are counted once. Pooling, "
    "normalisation and augmentation are not counted; the speed is reckoned by the same count, so "
    "the time includes them.",
    "Evaluations are forward passes and are taken to run at the speed of training.",
    "A worker is taken to get its images in time. What that takes is the line on CPU cores: the "
    "images that it consumes a second over those that one core decodes. The less a group computes "
    "with each image, the more images it consumes.",
    "In the schedule a group starts when its bases are trained and a worker is free.",
)


def page_of(forecast: Forecast, title: str, command: str, machine: Sequence[str]) -> str:
    """A page that says what a grid costs, and where each number comes from.

    Args:
      forecast: of the grid.
      title: of the page.
      command: that makes this page again.
      machine: lines on the machine and versions that measured.

    Returns:
      Markdown.
    """
    table = [f"| {row.title.strip()} | {row.value} | {row.origin} |" for row in rows(forecast)]
    return "\n".join(
        [
            f"# {title}",
            "",
            "Made by",
            "",
            "```",
            command,
            "```",
            "",
            *(f"{line}\n" for line in [*machine, *forecast.remarks]),
            "| what | how much | where the number comes from |",
            "|---|---|---|",
            *table,
            "",
            "## Schedule",
            "",
            "```",
            *schedule_lines(forecast),
            "```",
            "",
            "## How it is counted",
            "",
            *(f"- {line}" for line in _HOW),
            "",
        ]
    )
