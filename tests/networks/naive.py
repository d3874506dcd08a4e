"""An independent implementation of Caffe's networks: SciPy correlations and NumPy loops."""

import numpy as np
from scipy.signal import correlate

from transfer_jax.networks import (
    AdaptiveAvgPool,
    Conv,
    Dropout,
    LocalResponseNorm,
    MaxPool,
    Relu,
)


def conv(x, kernel, bias, stride, padding, groups):
    """Cross-correlation of (H, W, C) with HWIO filters, group by group, map by map."""
    x = np.pad(x, ((padding, padding), (padding, padding), (0, 0)))
    inputs, outputs = kernel.shape[2], kernel.shape[3] // groups
    maps = []
    for out in range(kernel.shape[3]):
        first = (out // outputs) * inputs
        part = x[:, :, first : first + inputs]
        full = correlate(part, kernel[:, :, :, out], mode="valid", method="fft")[:, :, 0]
        maps.append(full[::stride, ::stride] + bias[out])
    return np.stack(maps, axis=-1)


def max_pool(x, window, stride, padding, round_up=True):
    """Caffe's PoolingLayer, window by window."""

    def size(length):
        if not round_up:
            return (length + 2 * padding - window) // stride + 1
        count = int(np.ceil((length + 2 * padding - window) / stride)) + 1
        return count - 1 if (count - 1) * stride >= length + padding else count

    rows, columns = size(x.shape[0]), size(x.shape[1])
    out = np.empty((rows, columns, x.shape[2]), x.dtype)
    for i in range(rows):
        for j in range(columns):
            top, left = i * stride - padding, j * stride - padding
            patch = x[max(top, 0) : top + window, max(left, 0) : left + window]
            out[i, j] = patch.max(axis=(0, 1))
    return out


def adaptive_avg_pool(x, size):
    """The mean of each window, whose borders are fractions of the map rounded outwards."""
    borders = [
        [(int(np.floor(i * n / size)), int(np.ceil((i + 1) * n / size))) for i in range(size)]
        for n in x.shape[:2]
    ]
    rows, columns = borders
    means = [[x[t:b, left:r].mean(axis=(0, 1)) for left, r in columns] for t, b in rows]
    return np.array(means)


def lrn(x, size, alpha, beta, k):
    """Caffe's LRNLayer across channels, channel by channel."""
    out = np.empty_like(x)
    for c in range(x.shape[-1]):
        near = x[..., max(c - size // 2, 0) : c + size // 2 + 1]
        out[..., c] = x[..., c] / (k + alpha / size * (near**2).sum(axis=-1)) ** beta
    return out


def activations(network, params, image):
    """Layer name -> what leaves it for one (H, W, 3) image, in float64."""
    found, x = {}, image.astype(np.float64)
    for layer in network.layers:
        kernel = np.asarray(params[layer.name]["kernel"], np.float64)
        bias = np.asarray(params[layer.name]["bias"], np.float64)
        if isinstance(layer, Conv):
            x = conv(x, kernel, bias, layer.stride, layer.padding, layer.groups)
        else:
            x = x.reshape(-1) @ kernel + bias
        for after in layer.then:
            match after:
                case Relu():
                    x = np.maximum(x, 0)
                case MaxPool(window, stride, padding, round_up):
                    x = max_pool(x, window, stride, padding, round_up)
                case AdaptiveAvgPool(size):
                    x = adaptive_avg_pool(x, size)
                case LocalResponseNorm(size, alpha, beta, k):
                    x = lrn(x, size, alpha, beta, k)
                case Dropout():
                    pass
        found[layer.name] = x
    return found
