"""Writes `files`, where torch is installed: `python -m tests.networks.torch_alexnet`.

They are a narrow AlexNet of torchvision's: its state dict in the zip format, a checkpoint in the
older one, and its logits of `images()`.
"""

from pathlib import Path

import numpy as np

FILES = Path(__file__).parent / "files"
WIDTHS = {"conv1": 4, "conv2": 6, "conv3": 5, "conv4": 4, "conv5": 3, "fc6": 8, "fc7": 7}
CLASSES = 3
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def images():
    """Pixels of 0 to 255 that any interpreter draws alike: smooth, so that units differ."""
    coarse = np.random.default_rng(0).integers(0, 256, (2, 28, 28, 3), dtype=np.uint8)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)


def model():
    """A narrow AlexNet with the names and the geometry of torchvision's, random weights."""
    import torch
    from torch import nn

    class AlexNet(nn.Module):
        def __init__(self):
            super().__init__()
            c1, c2, c3, c4, c5, f6, f7 = WIDTHS.values()
            relu, pool = nn.ReLU(inplace=True), nn.MaxPool2d(kernel_size=3, stride=2)
            self.features = nn.Sequential(
                nn.Conv2d(3, c1, kernel_size=11, stride=4, padding=2), relu, pool,
                nn.Conv2d(c1, c2, kernel_size=5, padding=2), relu, pool,
                nn.Conv2d(c2, c3, kernel_size=3, padding=1), relu,
                nn.Conv2d(c3, c4, kernel_size=3, padding=1), relu,
                nn.Conv2d(c4, c5, kernel_size=3, padding=1), relu, pool,
            )  # fmt: skip
            self.avgpool = nn.AdaptiveAvgPool2d((6, 6))
            self.classifier = nn.Sequential(
                nn.Dropout(p=0.5), nn.Linear(c5 * 6 * 6, f6), relu,
                nn.Dropout(p=0.5), nn.Linear(f6, f7), relu,
                nn.Linear(f7, CLASSES),
            )  # fmt: skip

        def forward(self, x):
            return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))

    return AlexNet().eval()


def main():
    import torch
    from torch import nn

    torch.manual_seed(0)
    made = model()
    for parameter in made.parameters():
        if parameter.ndim > 1:
            nn.init.kaiming_normal_(parameter)
        else:
            nn.init.normal_(parameter, std=0.2)
    x = ((images() / 255 - MEAN) / STD).transpose(0, 3, 1, 2).astype(np.float32)
    np.save(FILES / "logits.npy", made(torch.from_numpy(x)).detach().numpy())
    torch.save(made.state_dict(), FILES / "state_dict.pth")
    made.features = torch.nn.DataParallel(made.features)
    optimizer = torch.optim.SGD(made.parameters(), 0.0, momentum=0.9, weight_decay=1e-4)
    made(torch.zeros(1, 3, 224, 224)).sum().backward()
    optimizer.step()  # at a rate of 0: there is a momentum, and the weights are the same
    checkpoint = {
        "epoch": 90,
        "arch": "alexnet",
        "state_dict": made.to(memory_format=torch.channels_last).state_dict(),
        "best_acc1": torch.tensor(56.5),
        "optimizer": optimizer.state_dict(),
    }
    torch.save(checkpoint, FILES / "checkpoint.pth.tar", _use_new_zipfile_serialization=False)


if __name__ == "__main__":
    main()
