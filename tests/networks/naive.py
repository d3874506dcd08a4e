"""An independent implementation of Caffe's networks: SciPy correlations and NumPy loops."""

import numpy as np
from scipy.signal import correlate

from transfer_jax.networks import AdaptiveAvgPool, Conv, LocalResponseNorm, MaxPool, Relu


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


def pool(x, window, stride, padding=0, round_up=True):
    """Caffe's PoolingLayer on (H, W, C): maxima, and the flat index of each one's first entry."""
    sizes = []
    for length in x.shape[:2]:
        count = (length + 2 * padding - window) / stride
        count = int(np.ceil(count) if round_up else np.floor(count)) + 1
        sizes.append(count - (round_up and (count - 1) * stride >= length + padding))
    places = np.arange(x.size).reshape(x.shape)
    pooled, switches = np.empty((2, *sizes, x.shape[2]))
    for i, j in np.ndindex(*sizes):
        top, left = i * stride - padding, j * stride - padding
        here = np.s_[max(top, 0) : top + window, max(left, 0) : left + window]
        patch, indices = (a[here].reshape(-1, x.shape[2]) for a in (x, places))
        first = patch.argmax(axis=0)[None]
        pooled[i, j] = np.take_along_axis(patch, first, 0)[0]
        switches[i, j] = np.take_along_axis(indices, first, 0)[0]
    return pooled, switches.astype(int)


def adaptive_avg_pool(x, size):
    """The mean of each window, whose borders are fractions of the map rounded outwards."""
    rows, columns = (
        [(int(np.floor(i * n / size)), int(np.ceil((i + 1) * n / size))) for i in range(size)]
        for n in x.shape[:2]
    )
    return np.array([[x[t:b, s:e].mean(axis=(0, 1)) for s, e in columns] for t, b in rows])


def lrn(x, size, alpha, beta, k):
    """Caffe's LRNLayer across channels, channel by channel."""
    out = np.empty_like(x)
    for c in range(x.shape[-1]):
        near = x[..., max(c - size // 2, 0) : c + size // 2 + 1]
        out[..., c] = x[..., c] / (k + alpha / size * (near**2).sum(axis=-1)) ** beta
    return out


def product(layer, params, x):
    """What a layer's convolution or matrix makes of its (h, w, c) or (features,) input."""
    kernel, bias = (np.asarray(params[layer.name][k], np.float64) for k in ("kernel", "bias"))
    if isinstance(layer, Conv):
        return conv(x, kernel, bias, layer.stride, layer.padding, layer.groups)
    return x.reshape(-1) @ kernel + bias


def after(operation, x):
    """What ReLU, pooling, normalisation or dropout at test time make of x."""
    match operation:
        case Relu():
            return np.maximum(x, 0)
        case MaxPool(window, stride, padding, round_up):
            return pool(x, window, stride, padding, round_up)[0]
        case AdaptiveAvgPool(size):
            return adaptive_avg_pool(x, size)
        case LocalResponseNorm(size, alpha, beta, k):
            return lrn(x, size, alpha, beta, k)
    return x


def activations(network, params, image):
    """Layer name -> what leaves it for one (H, W, 3) image, in float64."""
    found, x = {}, image.astype(np.float64)
    for layer in network.layers:
        x = product(layer, params, x)
        for operation in layer.then:
            x = after(operation, x)
        found[layer.name] = x
    return found
