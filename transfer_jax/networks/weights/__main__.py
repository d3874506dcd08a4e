"""Converts a file of weights: `python -m transfer_jax.networks.weights IN OUT`.

For instance BVLC's CaffeNet, with its mean image, for PyTorch:

  python -m transfer_jax.networks.weights bvlc_reference_caffenet.caffemodel caffenet.safetensors \
      --network=caffenet --mean=imagenet_mean.binaryproto --to=torch_safetensors
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from transfer_jax.networks.architectures import BUILT_IN, build
from transfer_jax.networks.weights import load_mean, load_weights, num_classes_in, save_weights
from transfer_jax.networks.weights.reading import FORMATS


def main(arguments: Sequence[str] | None = None) -> None:
    """The program; what goes wrong is said in one line, with exit status 1."""
    options = _parser().parse_args(arguments)
    try:
        print(convert(options))
    except (ValueError, OSError) as error:
        sys.exit(f"{type(error).__name__}: {error}")


def convert(options: argparse.Namespace) -> str:
    """Converts the file that the options name, and says what it held."""
    formats = dict(format=options.source_format)
    classes = num_classes_in(options.source, build(options.network), **formats)
    network = build(options.network, num_classes=classes)
    weights = load_weights(options.source, network, **formats)
    mean = weights.mean if options.mean is None else load_mean(options.mean)
    save_weights(options.target, network, weights.params, mean=mean, format=options.target_format)
    told = "no mean" if mean is None else f"a mean of shape {mean.shape}"
    return (
        f"{options.target}: {options.network} with {classes:,} classes, {network.num_params:,} "
        f"parameters, {told}; from a {weights.format} file of SHA-256 {weights.digest}"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m transfer_jax.networks.weights",
        description="Converts a file of weights; the number of classes is the file's.",
    )
    parser.add_argument("source", metavar="IN", type=Path)
    parser.add_argument("target", metavar="OUT", type=Path, help="*.npz or *.safetensors")
    parser.add_argument("--network", default="caffenet", choices=sorted(BUILT_IN))
    parser.add_argument("--mean", type=Path, help="mean.binaryproto or .npy; default: IN's own")
    parser.add_argument(
        "--from", dest="source_format", choices=list(FORMATS), help="default: found out from IN"
    )
    parser.add_argument(
        "--to",
        dest="target_format",
        choices=["npz", "safetensors", "torch_safetensors"],
        help="default: by OUT's suffix, in this package's layout",
    )
    return parser


if __name__ == "__main__":
    main()
