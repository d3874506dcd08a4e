"""Results with planted accuracies, in memory or as the workdir that a run would leave."""

import json

import numpy as np
import pandas as pd
from scipy import stats

from transfer_jax import seal
from transfer_jax.report import Results


def fake(rows, rng, images=200, alike=0.9):
    """Results of networks whose right and wrong images are drawn.

    Args:
      rows: dicts of tags with `accuracy`; `images` names the validation set.
      alike: correlation of two networks' margins on one image.
    """
    frame = pd.DataFrame(rows).reset_index(drop=True)
    sets = frame["images"].factorize()[0]
    difficulty = rng.normal(size=(sets.max() + 1, images))[sets]
    own = rng.normal(size=(len(frame), images))
    level = stats.norm.ppf(frame["accuracy"].to_numpy())[:, None]
    right = np.sqrt(alike) * difficulty + np.sqrt(1 - alike) * own < level
    frame["value"] = right.mean(axis=1)
    frame["hash"] = frame["right"] = [f"{i:04x}" for i in range(len(frame))]
    known = dict(zip(frame["hash"], zip(frame["images"], right, strict=True), strict=True))
    frame = frame.assign(measure="top1", state="done", error="", num_classes=20)
    return Results(frame, {"title": "fake"}, known.get)


def write_sealed(path, content, owner):
    """A JSON file as runs write it."""
    seal.write_json(path, content, owner)


def write_workdir(results, workdir, failed=(), planned=(), measures=()):
    """Writes fake results as files; `failed` and `planned` are hashes of networks to leave so,
    `measures` names of what a test writes itself."""
    entries = []
    tags = ["experiment", "split", "seed", "condition", "images_per_class"]
    for row in results.frame.to_dict("records"):
        folder = workdir / "cells" / row["hash"]
        folder.mkdir(parents=True)
        copied = f"X{row['n']}{row['target']}" if row["n"] else f"base{row['target']}"
        fields = {name: row[name] for name in ("hash", "treatment", "target", "n", "seed")}
        fields |= {"cell": copied, "source": None, "num_classes": 20, "task": row["target"]}
        kept = {t: row[t] for t in tags if row.get(t) is not None and row[t] == row[t]}
        entries.append({"tags": kept, "steps": 100, **fields})
        if row["hash"] in planned:
            continue
        if row["hash"] in failed:
            failure = {"error": "loss is nan", "step": 3, "files": {}}
            write_sealed(folder / "failed.json", failure, row["hash"])
            continue
        images, right = results.right(row["hash"])
        np.savez(folder / "right.npz", bits=np.packbits(right), num=right.size, images=images)
        cell = {"dataset": "world", "class_names": ["a"] * 20, "num_train": 50, "num_val": 9}
        cell |= {"network": {"input_size": 32}}
        write_sealed(folder / "cell.json", cell, row["hash"])
        lines = [{"step": s, "loss": 3 / s, "top1": 0.1 * s} for s in (1, 2, 3)]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / "metrics.jsonl").write_text(text + '{"step": 4, "lo')
        np.save(folder / "conv1.npy", np.random.default_rng(0).normal(size=(3, 3, 3, 8)))
        done = {"top1": row["value"], "top1_best_mean": row["value"], "steps": 100, "seconds": 2.5}
        done |= {"images_per_second": 9.0, "files": seal.digests(folder)}
        write_sealed(folder / "done.json", done, row["hash"])
    write_sealed(workdir / "entries.json", {"entries": entries}, "entries")
    about = {"study": "yosinski2014", "title": "A <title>", "command": "run --it", "notes": ["two"]}
    about["measures"] = list(measures)
    about["files"] = {"entries.json": seal.digest_of(workdir / "entries.json")}
    write_sealed(workdir / "about.json", about, "about")
