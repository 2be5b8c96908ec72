"""Pictures of data sets: what nobody can say how to show is left out, and sizes are those of the upright picture."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest
from PIL import Image

from m3adapter.conversation.pictures import PictureError, read_picture
from m3adapter.datasets.opening import open_dataset
from test_datasets import captions
from test_datasets_bad import named
from test_datasets_folder import told
from test_datasets_layouts import jpeg, tar

WHITE = "the picture has 32-bit values, of which none is known as white: save it with 8 or 16 bits"
RAMP = numpy.linspace(0, 1, 64)[None, :].repeat(48, 0)


@pytest.mark.parametrize("check", [True, False])
def test_grey_of_floats_is_left_out(tmp_path: Path, check: bool) -> None:
    folder = captions(tmp_path, "a fox")
    Image.fromarray(RAMP.astype(numpy.float32)).save(folder / "f.tif")
    (folder / "f.txt").write_text("a ramp")
    found = open_dataset(folder, check=check)
    assert told(found) == ["a fox"] and named(found) == {WHITE: ["f.tif"]}


@pytest.mark.parametrize(("most", "least"), [(255, 0), (2**31 - 1, 0), (1000, -1000)])
def test_grey_of_32_bits_is_left_out_unless_it_is_of_16(tmp_path: Path, most: int, least: int) -> None:
    folder = captions(tmp_path, "a fox")
    Image.fromarray((RAMP * (most - least) + least).astype(numpy.int32)).save(folder / "i.tif")
    Image.fromarray((RAMP * 200).astype(numpy.uint16)).save(folder / "dark.png")
    Image.fromarray((RAMP * 200).astype(numpy.uint16)).save(folder / "dark.tif")
    for name in ("i", "dark"):
        (folder / f"{name}.txt").write_text(name)
    found = open_dataset(folder)
    assert sorted(told(found)) == ["a fox", "dark", "dark"] and named(found) == {WHITE: ["i.tif"]}
    with pytest.raises(PictureError, match=r"^The picture i\.tif has 32-bit values, .*: save it with 8 or 16 bits\.$"):
        read_picture(folder / "i.tif")


@pytest.mark.parametrize("turn", [1, 3, 6, 8])
@pytest.mark.parametrize("suffix", ["tif", "jpg", "png"])
def test_the_size_is_that_of_the_upright_picture_whether_or_not_it_is_decoded(
    tmp_path: Path, turn: int, suffix: str
) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.new("RGB", (64, 32)).save(tmp_path / f"a.{suffix}", exif=exif)
    (tmp_path / "a.txt").write_text("black")
    sizes = [open_dataset(tmp_path, check=check).size(0) for check in (True, False)]
    assert sizes == [(32, 64) if turn > 4 else (64, 32)] * 2
    assert open_dataset(tmp_path, check=False)[0].picture.pixels.shape[1::-1] == sizes[0]


def test_pictures_that_an_archive_has_twice_are_counted(tmp_path: Path) -> None:
    tar(
        tmp_path / "a.tar",
        ("._0.jpg", b"x"), ("0.jpg", jpeg(1)), ("./._0.txt", b"\0\5"), ("0.txt", b"a fox"), (".DS_Store", b"x"),
        ("1.v2.jpg", jpeg(2)), ("1.v2.txt", b"an owl"),
        ("3.jpg", jpeg(3)), ("3.png", jpeg(4)), ("3.txt", b"a boat"),
        ("4.jpg", jpeg(5)), ("4.txt", b"a kite"), ("4.jpg", jpeg(6)), ("4.txt", b"a hen"),
        ("5.jpg", jpeg(7)), ("5.mask.png", jpeg(8)), ("5.txt", b"a cat"),
    )  # fmt: skip
    found = open_dataset(tmp_path)
    assert told(found) == ["a fox", "a boat", "a kite", "a cat"]
    assert named(found) == {
        "its name has a second dot, and keys end at the first": ["a.tar: 1.v2.jpg", "a.tar: 5.mask.png"],
        "another picture has the same key": ["a.tar: 3.png", "a.tar: 4.jpg"],
        "another caption has the same key": ["a.tar: 4.txt"],
    }
