"""What the README shows can be done."""

import dataclasses
import re
from pathlib import Path

from transfer_jax import training

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_notebook_lines_train_splice_and_freeze(tmp_path, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    brief = dataclasses.replace(training.SMALL_IMAGES, batch_size=8, steps=2, eval_every=2)
    monkeypatch.setattr(training, "SMALL_IMAGES", brief)
    small = 'DatasetSpec("world", train_per_class=4, val_per_class=2)'
    code = code.replace('DatasetSpec("world")', small).replace("~", str(tmp_path))
    done = {}
    exec(code, done)
    for layer in ("conv1", "conv2", "conv3"):
        assert (done["params"][layer]["kernel"] == done["base"][layer]["kernel"]).all()
        assert (done["same"][layer]["kernel"] == done["base"][layer]["kernel"]).all()
    assert (done["params"]["conv4"]["kernel"] != done["base"]["conv4"]["kernel"]).any()
    assert 0 <= done["row"]["top1"] <= 1


def test_commands_name_presets_and_files_that_there_are():
    for config, preset in re.findall(r"configs/(\w+)\.py:(\w+)", README):
        assert f"def {preset}(" in (ROOT / "configs" / f"{config}.py").read_text()
    for path in re.findall(r"\]\((results/[^)]+)\)", README):
        assert (ROOT / path).exists(), path
