"""An independent deconvnet for one image: NumPy in float64, with explicit switches."""

import numpy as np

from tests.networks import naive
from transfer_jax.networks import Conv, Dense, LocalResponseNorm, MaxPool, Relu


def transposed_conv(layer, kernel, signal, shape):
    """Spreads every output over the window that it was computed from, tap by tap."""
    pad, step = layer.padding, layer.stride
    padded = np.zeros((shape[0] + 2 * pad, shape[1] + 2 * pad, shape[2]))
    rows, columns = signal.shape[:2]
    inputs, outputs = kernel.shape[2], kernel.shape[3] // layer.groups
    for group in range(layer.groups):
        into = slice(group * inputs, (group + 1) * inputs)
        of = slice(group * outputs, (group + 1) * outputs)
        for a, b in np.ndindex(*kernel.shape[:2]):
            places = padded[a : a + step * rows : step, b : b + step * columns : step, into]
            places += signal[..., of] @ kernel[a, b, :, of].T
    return padded[pad : pad + shape[0], pad : pad + shape[1]]


def lrn_gradient(x, dy, size, alpha, beta, k):
    """d sum(dy * lrn(x)) / dx, with a matrix of who is whose neighbour."""
    channels = np.arange(x.shape[-1])
    near = abs(channels[:, None] - channels) <= size // 2
    scale = k + alpha / size * x**2 @ near
    reached = (dy * x * scale ** (-beta - 1)) @ near
    return dy * scale**-beta - 2 * alpha * beta / size * x * reached


def record(network, params, image):
    """Everything the way down needs: (layer name, operation, its input), in order."""
    steps, x = [], image.astype(np.float64)
    for layer in network.layers:
        steps.append((layer.name, layer, x))
        x = naive.product(layer, params, x)
        for operation in layer.then:
            steps.append((layer.name, operation, x))
            x = naive.after(operation, x)
    return steps


def project(steps, params, name, signal, rule):
    """The signal at layer `name`'s output, sent down to (H, W, 3) pixels."""
    last = max(i for i, step in enumerate(steps) if step[0] == name)
    for layer_name, operation, x in reversed(steps[: last + 1]):
        kernel = np.asarray(params[layer_name]["kernel"], np.float64)
        match operation:
            case Conv():
                signal = transposed_conv(operation, kernel, signal, x.shape)
            case Dense():
                signal = (kernel @ signal).reshape(x.shape)
            case Relu():
                if rule in ("deconvnet", "guided"):
                    signal = np.where(signal > 0, signal, 0)
                if rule in ("gradient", "guided"):
                    signal = np.where(x > 0, signal, 0)
            case MaxPool(window, stride, padding):
                switches, down = naive.pool(x, window, stride, padding)[1], np.zeros(x.size)
                np.add.at(down, switches.ravel(), signal.ravel())
                signal = down.reshape(x.shape)
            case LocalResponseNorm(size, alpha, beta, k) if rule != "deconvnet":
                signal = lrn_gradient(x, signal, size, alpha, beta, k)
    return signal
