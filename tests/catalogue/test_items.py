from __future__ import annotations

import json
import os
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.catalogue import items as module
from pipelines.catalogue.items import Item, digest_of, find_items, folder_name, is_remote
from pipelines.catalogue.lists import READERS
from pipelines.errors import EnvironmentProblem, InvalidInput
from pipelines.images.reading import save_image, to_tensor


def _found(*inputs: object) -> list[tuple[str, str]]:
    return [(item.id, item.picture) for item in find_items([str(i) for i in inputs])]


def test_find_items_of_folders_includes_subfolders(tmp_path, images):
    folder = images(2)
    (folder / "more").mkdir()
    (folder / "more" / "cup.PNG").write_bytes((folder / "disc-0.png").read_bytes())
    (folder / "disc-1.jpg").write_bytes(b"jpeg")
    (folder / "notes.txt").write_text("no image")
    from PIL import Image

    with Image.open(folder / "disc-0.png") as one:
        save_image(to_tensor(one), folder / "cup-preview.png")  # our own, of an earlier run
    assert _found(folder) == [
        ("disc-0", f"{folder}/disc-0.png"),
        ("disc-1.jpg", f"{folder}/disc-1.jpg"),
        ("disc-1.png", f"{folder}/disc-1.png"),
        ("more/cup", f"{folder}/more/cup.PNG"),
    ]
    assert _found(folder / "disc-0.png") == [("disc-0", f"{folder}/disc-0.png")]
    assert [id for id, _ in _found(f"{folder}/**/*.PNG")] == [f"{folder}/more/cup"]


def _write(kind, path, rows):
    if kind == "csv":
        head = list(rows[0])
        text = "\n".join([",".join(head), *(",".join(str(r[k]) for k in head) for r in rows)])
        path.write_bytes(b"\xef\xbb\xbf" + text.encode())  # as a spreadsheet writes it
    elif kind == "jsonl":
        path.write_text("\n\n".join(json.dumps(row) for row in rows))
    else:
        parquet = pytest.importorskip("pyarrow.parquet")
        import pyarrow

        parquet.write_table(pyarrow.Table.from_pylist(rows), path)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_find_items_of_lists_reads_settings(tmp_path, kind):
    path = tmp_path / f"list.{kind}"
    rows = [
        {"id": "a", "picture": "in/one.png", "resolution": 64.0, "title": "A"},
        {"id": "b", "picture": "file:///two.png", "resolution": "", "title": ""},
        {"id": "c", "picture": "/three.png", "resolution": float("nan"), "title": "ü"},
    ]
    if kind != "csv":
        rows[1]["resolution"] = None
    else:
        rows[2]["resolution"] = ""
    if kind == "jsonl":
        del rows[2]["resolution"]
    _write(kind, path, rows)
    first, second, third = find_items([str(path)])
    assert first == Item("a", f"{tmp_path}/in/one.png", (("resolution", "64"), ("title", "A")))
    assert second == Item("b", "file:///two.png")
    assert third == Item("c", "/three.png", (("title", "ü"),))
    assert [is_remote(item.picture) for item in (first, second)] == [False, True]


def test_find_items_takes_photographs_of_other_sides(tmp_path):
    row = "picture,image_left,image_-120.5,image_url,elevation\na.png,left.png,/c.png,x,10\n"
    (tmp_path / "list.csv").write_text(row)
    (item,) = find_items([str(tmp_path / "list.csv")])
    assert item.pictures == [f"{tmp_path}/a.png", f"{tmp_path}/left.png", "/c.png"]
    assert item.azimuths == ["front", "left", "-120.5"]
    assert item.overrides == (("elevation", "10"), ("image_url", "x"))


def test_digest_of_several_images_differs_from_that_of_one(tmp_path, images):
    one, other = sorted(images(2).iterdir())
    assert len({digest_of(paths) for paths in ([one], [other], [one, other], [other, one])}) == 4


def test_find_items_of_text_lists_derives_ids_from_paths(tmp_path):
    (tmp_path / "list.txt").write_text("# mine\nin/one.png\n\nC d.jpg\n")
    assert _found(tmp_path / "list.txt") == [
        ("in/one", f"{tmp_path}/in/one.png"),
        ("C d", f"{tmp_path}/C d.jpg"),
    ]


def test_find_items_returns_absolute_paths(tmp_path, images, monkeypatch):
    folder = images(1)
    (folder / "list.txt").write_text("disc-0.png\n")
    monkeypatch.chdir(tmp_path)
    absolute = f"{folder}/disc-0.png"
    for source in ("pictures", "pictures/*.png", "pictures/disc-0.png", "pictures/list.txt"):
        assert [picture for _, picture in _found(source)] == [absolute]


def test_find_items_of_a_list_at_a_file_url_reads_it(tmp_path):
    (tmp_path / "list.txt").write_text("/one.png\n")
    assert _found(f"file://{tmp_path}/list.txt") == [("/one", "/one.png")]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("l.csv", "id,file\na,b.png", "Row 1 of .* has no image: .*columns: id, file"),
        ("l.csv", "id,picture\na,b.png\nc", "cannot be read: .* more or fewer cells"),
        ("l.csv", 'id,picture\n"a,b.png', "cannot be read"),
        ("l.jsonl", '{"image": "a.png"}\n["b.png"]', "cannot be read: a line is not a JSON object"),
        ("l.jsonl", '{"image": "a.png"', "cannot be read"),
        ("l.txt", b"\xff\xfe\x00", "cannot be read"),
        ("l.parquet", "no table", "cannot be read"),
        ("l.csv", "picture\na.png\na.png", "Two items have the id 'a'"),
        ("l.txt", "# nothing\n", "There is no image in"),
        ("l.txt", "odd://a/b.png", "Addresses that start with odd:// cannot be read"),
    ],
)
def test_find_items_of_a_damaged_list_raises(tmp_path, name, content, said):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InvalidInput, match=said):
        find_items([str(tmp_path / name)])


def test_find_items_without_images_raises(tmp_path):
    with pytest.raises(InvalidInput, match=r"There is no file or folder .*nowhere"):
        find_items([str(tmp_path / "nowhere")])
    with pytest.raises(InvalidInput, match="There is no image in"):
        find_items([str(tmp_path)])


def test_find_items_with_a_missing_package_raises(tmp_path, monkeypatch):
    import fsspec

    def missing(protocol: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "get_filesystem_class", missing)
    with pytest.raises(InvalidInput, match=r"s3:// cannot be read: Install s3fs"):
        find_items(["s3://bucket/one.png"])


def test_find_items_of_parquet_without_pyarrow_raises(tmp_path, monkeypatch):
    def missing(path):
        raise ImportError("No module named 'pyarrow'")

    (tmp_path / "l.parquet").touch()
    monkeypatch.setitem(READERS, ".parquet", missing)
    with pytest.raises(EnvironmentProblem, match=r"requirements-cluster\.txt"):
        find_items([str(tmp_path / "l.parquet")])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("l.csv", b'id;picture;title\nx;a.png;"b;c"\n;;\n\ny;b.png;\n'),
        ("l.csv", "id\tpicture\nx\ta.png\ny\tb.png\n".encode("utf-16")),
        ("l.csv", "id,picture\r\n\r\nx,a.png,\r\n,\r\ny,b.png\r\n".encode("utf-8-sig")),
        ("l.csv", b"\xff\xfe\x00\x00" + "id,picture\nx,a.png\ny,b.png".encode("utf-32-le")),
    ],
    ids=["semicolons", "utf-16", "empty rows", "utf-32"],
)
def test_find_items_of_lists_accepts_encodings_and_delimiters_of_spreadsheets(
    tmp_path, name, content
):
    (tmp_path / name).write_bytes(content)
    assert _found(tmp_path / name) == [("x", f"{tmp_path}/a.png"), ("y", f"{tmp_path}/b.png")]


def test_find_items_of_a_utf_16_text_list(tmp_path):
    (tmp_path / "l.txt").write_bytes("# mine\r\na.png\r\nü.png\r\n".encode("utf-16"))
    assert [id for id, _ in _found(tmp_path / "l.txt")] == ["a", "ü"]


def test_find_items_of_json_lines_with_line_separators(tmp_path):
    (tmp_path / "l.jsonl").write_text('{"picture": "a.png", "title": "b\u2028c"}', encoding="utf-8")
    assert [id for id, _ in _found(tmp_path / "l.jsonl")] == ["a"]


def test_find_items_skips_files_of_operating_systems(tmp_path, images):
    folder = images(2)
    for name in ("._disc-0.png", "__MACOSX/disc-0.png", "@eaDir/disc-0.png/t.jpg", ".trash/a.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"no image")
    (folder / "sub.png").mkdir()
    assert [id for id, _ in _found(folder)] == ["disc-0", "disc-1"]
    found = [os.path.basename(id) for id, _ in _found(f"{folder}/**/*")]
    assert found == ["disc-0", "disc-1"]
    assert len(_found(f"{folder}/.trash/*")) == 1, "named in the pattern"


def test_find_items_visits_a_linked_folder_once(tmp_path, images):
    folder = images(1)
    (folder / "again").symlink_to(folder, target_is_directory=True)
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "to").symlink_to(folder, target_is_directory=True)
    assert [id for id, _ in _found(folder)] == ["disc-0"]
    assert [id for id, _ in _found(linked)] == ["to/disc-0"]


def test_find_items_expands_the_home_directory(tmp_path, images, monkeypatch):
    folder = images(1)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    for source in (f"~/{folder.name}", f"~/{folder.name}/*.png", f"~/{folder.name}/disc-0.png"):
        assert [path for _, path in _found(source)] == [f"{folder}/disc-0.png"]


@pytest.mark.skipif(sys.platform != "linux", reason="other disks hold Unicode only")
def test_find_items_accepts_names_that_are_not_unicode(tmp_path):
    path = os.path.join(os.fsencode(tmp_path), b"caf\xe9.png")
    with open(path, "wb") as file:
        file.write(b"image")
    ((id, _),) = _found(tmp_path)
    assert folder_name(id).startswith("caf-")


@given(st.lists(st.text(min_size=1), min_size=2, max_size=2, unique=True))
def test_folder_name_is_unique_and_valid_on_every_system(ids):
    names = [folder_name(id) for id in ids]
    assert names[0] != names[1]
    for name in names:
        assert name == name.lower()
        assert os.path.basename(name) == name
        assert 0 < len(name) < 120
        assert not name.startswith((".", "-"))
        assert name.isascii()
        assert name.partition(".")[0] not in module._RESERVED


def test_folder_name_of_a_plain_id_is_the_id():
    assert folder_name("oak-chair_2") == "oak-chair_2"
    assert folder_name("Oak").startswith("oak-")
    assert folder_name("con").startswith("con-")
    assert folder_name("..").strip("-.") == folder_name("..")
