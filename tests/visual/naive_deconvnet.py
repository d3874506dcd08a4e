"""An independent deconvnet for one image: NumPy loops in float64, with explicit switches."""

import numpy as np

from tests.networks import naive
from transfer_jax.networks import Conv, Dense, Dropout, LocalResponseNorm, MaxPool, Relu


def pool_with_switches(x, window, stride, padding):
    """Maxima of (H, W, C) maps, and row and column of the first in reading order: (h, w, C, 2)."""
    pooled = naive.max_pool(x, window, stride, padding)
    switches = np.empty((*pooled.shape, 2), int)
    for i, j in np.ndindex(*pooled.shape[:2]):
        top, left = max(i * stride - padding, 0), max(j * stride - padding, 0)
        bottom, right = i * stride - padding + window, j * stride - padding + window
        patch = x[top:bottom, left:right]
        first = patch.reshape(-1, x.shape[2]).argmax(axis=0)
        switches[i, j, :, 0] = top + first // patch.shape[1]
        switches[i, j, :, 1] = left + first % patch.shape[1]
    return pooled, switches


def unpool(values, switches, shape):
    """Adds each value at its switch."""
    out = np.zeros(shape)
    for i, j, c in np.ndindex(*values.shape):
        row, column = switches[i, j, c]
        out[row, column, c] += values[i, j, c]
    return out


def transposed_conv(signal, kernel, stride, padding, groups, shape):
    """Spreads every output over the window that it was computed from, tap by tap."""
    padded = np.zeros((shape[0] + 2 * padding, shape[1] + 2 * padding, shape[2]))
    rows, columns = signal.shape[:2]
    inputs, outputs = kernel.shape[2], kernel.shape[3] // groups
    for group in range(groups):
        into = slice(group * inputs, (group + 1) * inputs)
        of = slice(group * outputs, (group + 1) * outputs)
        for a, b in np.ndindex(*kernel.shape[:2]):
            places = padded[a : a + stride * rows : stride, b : b + stride * columns : stride, into]
            places += signal[..., of] @ kernel[a, b, :, of].T
    return padded[padding : padding + shape[0], padding : padding + shape[1]]


def lrn_gradient(x, dy, size, alpha, beta, k):
    """d sum(dy * lrn(x)) / dx, channel by channel."""
    channels = x.shape[-1]

    def near(c):
        return slice(max(c - size // 2, 0), c + size // 2 + 1)

    squares = [(x[..., near(c)] ** 2).sum(axis=-1) for c in range(channels)]
    scale = k + alpha / size * np.stack(squares, axis=-1)
    dx = dy * scale**-beta
    for c in range(channels):
        reached = (dy * x * scale ** (-beta - 1))[..., near(c)].sum(axis=-1)
        dx[..., c] -= 2 * alpha * beta / size * x[..., c] * reached
    return dx


def record(network, params, image):
    """Everything the way down needs: (layer name, operation, its input, switches), in order."""
    steps, x = [], image.astype(np.float64)
    for layer in network.layers:
        kernel, bias = (np.asarray(params[layer.name][k], np.float64) for k in ("kernel", "bias"))
        steps.append((layer.name, layer, x, kernel))
        if isinstance(layer, Conv):
            x = naive.conv(x, kernel, bias, layer.stride, layer.padding, layer.groups)
        else:
            x = x.reshape(-1) @ kernel + bias
        for after in layer.then:
            switches = None
            match after:
                case Relu():
                    y = np.maximum(x, 0)
                case MaxPool(window, stride, padding):
                    y, switches = pool_with_switches(x, window, stride, padding)
                case LocalResponseNorm(size, alpha, beta, k):
                    y = naive.lrn(x, size, alpha, beta, k)
                case Dropout():
                    y = x
            steps.append((layer.name, after, x, switches))
            x = y
    return steps


def project(network, steps, name, signal, rule):
    """The signal at layer `name`'s output, sent down to (H, W, 3) pixels."""
    last = max(i for i, step in enumerate(steps) if step[0] == name)
    for _, operation, x, aside in reversed(steps[: last + 1]):
        match operation:
            case Conv():
                geometry = operation.stride, operation.padding, operation.groups
                signal = transposed_conv(signal, aside, *geometry, x.shape)
            case Dense():
                signal = (aside @ signal).reshape(x.shape)
            case Relu():
                if rule in ("deconvnet", "guided"):
                    signal = np.where(signal > 0, signal, 0)
                if rule in ("gradient", "guided"):
                    signal = np.where(x > 0, signal, 0)
            case MaxPool():
                signal = unpool(signal, aside, x.shape)
            case LocalResponseNorm(size, alpha, beta, k):
                if rule != "deconvnet":
                    signal = lrn_gradient(x, signal, size, alpha, beta, k)
    return signal
