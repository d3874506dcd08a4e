"""Known weights in and out: Caffe's, PyTorch's and our own files.

| format | file | read | written |
|---|---|---|---|
| 'caffemodel' | Caffe's binary NetParameter, V1 or current layers | yes | |
| 'torch' | a state dict of `torch.save`, or a checkpoint with a 'state_dict' | yes | |
| 'torch_safetensors' | safetensors in PyTorch's layout and key names | yes | yes |
| 'safetensors' | safetensors in our layout, 'conv1/kernel', ... | yes | yes |
| 'npz' | NumPy arrays in our layout | yes | yes |

Whatever the file's conventions (BGR, channels first, std), what `load_weights` gives is ours:
kernels HWIO or (in, out), dense inputs in (h, w, c) order, and images as `pixel - mean`, RGB, 0 to
255. No file's code is ever run: torch's pickles are read by an unpickler that knows tensors only.

`python -m transfer_jax.networks.weights IN OUT --network=caffenet` converts a file.
"""

from transfer_jax.networks.weights.caffe import load_mean
from transfer_jax.networks.weights.layout import scaled_input
from transfer_jax.networks.weights.reading import Weights, load_weights, num_classes_in
from transfer_jax.networks.weights.writing import save_weights

__all__ = [
    "Weights",
    "load_mean",
    "load_weights",
    "num_classes_in",
    "save_weights",
    "scaled_input",
]
