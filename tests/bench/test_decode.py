"""Photographs of the right size, ways to read them that agree, and the page of a tiny contest."""

import argparse
import io

import numpy as np
import pytest
from PIL import Image

from transfer_jax.bench import decode, loaders, photographs
from transfer_jax.bench.timing import Timing
from transfer_jax.data.pipeline import stream_once


@pytest.fixture(scope="module")
def files():
    return photographs.photographs(8)


def pixels(encoded):
    return np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))


def test_photographs_have_the_usual_size(files):
    sizes = np.array([Image.open(io.BytesIO(encoded)).size for encoded in files])
    np.testing.assert_allclose(sizes.mean(axis=0), (500, 375), atol=2)
    assert len({*map(tuple, sizes.tolist())}) == 8 and len(set(files)) == 8
    assert abs(np.mean([len(encoded) for encoded in files]) / photographs.MEAN_BYTES - 1) < 0.1
    assert photographs.photographs(8) == files


def test_decoders_agree(files):
    found, missing = photographs.decoders(256)
    assert len(found) + len(missing) >= 5
    for encoded in files[:3]:
        expected = pixels(encoded)
        for name, decoder in found.items():
            result = decoder(encoded)
            if "scaled" in name:
                assert min(result.shape[:2]) >= 256 and result.size <= expected.size
            else:
                # Draft and reduced modes have no smaller size to offer at this size.
                np.testing.assert_array_equal(result, expected, name)


def test_modes_halve_what_is_large_enough():
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((520, 640, 3), np.uint8) + np.uint8([200, 30, 90])).save(
        buffer, "JPEG"
    )
    found = photographs.decoders(256)[0]
    for name in {"Pillow, draft mode", "OpenCV, reduced"} & set(found):
        result = found[name](buffer.getvalue())
        assert result.shape == (260, 320, 3)
        assert np.abs(result.astype(int) - [200, 30, 90]).max() < 6  # RGB, not BGR


def test_resizers_agree_about_the_picture(files):
    image = pixels(files[0])
    found = photographs.resizers(256)
    reference = found["Pillow LANCZOS"](image).astype(int)
    for resize in found.values():
        result = resize(image)
        assert result.shape == (256, 256, 3) and np.abs(result - reference).mean() < 6


def test_loaders_read_the_same_pixels(files):
    with photographs.written(files, 256) as (paths, dataset):
        torch_files = loaders.PillowFiles(paths, 256, Image.Resampling.LANCZOS)
        ours = loaders.DecodedFiles(paths, photographs.package(256))
        order = np.array([3, 0, 5])
        (batch,) = stream_once(ours, order, np.zeros(3), 3)
        np.testing.assert_array_equal(
            loaders.central_crop(batch["image"]), [torch_files[i] for i in order]
        )
        assert len(dataset.record_source("train")) == 8
        loaders.stream_loader(ours, 3, workers=0)(7)


def test_central_crop():
    image = np.arange(256 * 256 * 3).reshape(256, 256, 3)
    crop = loaders.central_crop(image)
    np.testing.assert_array_equal(crop, image[14:241, 14:241])
    np.testing.assert_array_equal(loaders.central_crop(image[None])[0], crop)


def contest(**seconds):
    """Contenders with these seconds an image."""
    contenders = {name: decode.Contender(Timing((s, 2 * s)), 0.5) for name, s in seconds.items()}
    return decode.Contest(8, 110_000.0, (500.0, 375.0), 2, contenders, ["One is away."])


def test_page_judges_by_the_measured_times():
    seconds = {
        decode.TORCH: 0.03,
        decode.TORCH_SAME: 0.06,
        decode.FILES: 0.03,
        decode.RECORDS: 0.01,
    }
    page = decode.report(contest(**seconds))
    assert f"{decode.FILES} / {decode.TORCH}: 1.00 (fastest), 1.00 (median)" in page
    verdicts = [line.rsplit(" ", 1)[1] for line in page.splitlines() if line.startswith("- our")]
    assert verdicts == ["missed.", "met.", "missed.", "met."]
    assert "One is away." in page and "110 kB" in page


def test_program_measures_every_contender(files, monkeypatch):
    # The loaders on two photographs: their workers are tested by the benchmark itself.
    monkeypatch.setattr(loaders, "why_no_torch", lambda: "it is away")
    parser = argparse.ArgumentParser()
    decode.add_options(parser)
    options = parser.parse_args(
        ["--photographs", "2", "--images", "2", "--repeats", "1", "--batch", "4"]
    )
    page = decode.run(options)
    rows = [line.split("|")[1].strip() for line in page.splitlines() if line.startswith("|")][2:]
    opencv = ["our stream, original files by OpenCV linear"] * ("opencv-python-headless" in page)
    assert rows[-2 - len(opencv) :] == [decode.FILES, decode.RECORDS, *opencv]
    for one, two in photographs.pairs(256):
        assert f"{one} + {two}" in rows
    assert "Torch was not measured: it is away." in page and "wanted" not in page
    cells = {
        line.split("|")[1].strip(): line.split("|") for line in page.splitlines() if "|" in line
    }
    assert float(cells["ours: data.images.decode_rgb"][4]) == 0
    assert float(cells["Pillow + Pillow bilinear"][4]) > 0.5
    assert any("pillow" in remark for remark in decode.remarks(options))


@pytest.mark.slow
def test_torch_reads_as_many_as_it_is_asked_for(files):
    pytest.importorskip("torch")
    with photographs.written(files, 256) as (paths, _):
        torch_files = loaders.PillowFiles(paths, 256, Image.Resampling.BILINEAR)
        run = loaders.torch_loader(torch_files, 3)
        for images in (1, 11):
            run(images)
