"""What the README shows can be done."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_notebook_lines_train_splice_and_freeze(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    done = {}
    exec(code, done)
    for layer in ("conv1", "conv2", "conv3"):
        assert (done["params"][layer]["kernel"] == done["base"][layer]["kernel"]).all()
    assert (done["params"]["conv4"]["kernel"] != done["base"]["conv4"]["kernel"]).any()
    assert 1.5 / 20 < done["row_b"]["top1"] <= 1
    assert "A3B" in capsys.readouterr().out


def test_commands_name_presets_and_files_that_there_are():
    for config, preset in re.findall(r"configs/(\w+)\.py:(\w+)", README):
        assert f"def {preset}(" in (ROOT / "configs" / f"{config}.py").read_text()
    for path in re.findall(r"\]\((results/[^)]+)\)", README):
        assert (ROOT / path).exists(), path
