"""Models on this machine, the choice of the best one, and the commands about models."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from pipelines.cli import main
from pipelines.errors import InvalidInput
from pipelines.image_to_3d import ImageTo3D
from pipelines.weights import finding, inventory
from pipelines.weights.finding import WeightsFile, find_file
from pipelines.weights.inventory import best_model, download, files_of, missing
from pipelines.weights.multiview_models import load_multiview_model
from pipelines.weights.presets import (
    MULTIVIEW_PRESETS,
    RECONSTRUCTION_PRESETS,
    is_commercial,
    licenses_of,
)

from .. import tiny_models


@pytest.fixture(autouse=True)
def _no_cache(tmp_path, monkeypatch):
    """The Hugging Face cache of this machine has no effect."""
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: None)


def _put(folder: Path, name: str) -> None:
    for file in files_of(name):
        place = folder / file.repository.split("/")[1] / file.names[-1]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()


def test_best_model_without_weights_is_the_embedded_one(tmp_path):
    assert best_model(on_cpu=True) == best_model(False, [tmp_path]) == "photo"


@pytest.mark.parametrize(
    ("here", "on_cpu", "on_gpu"),
    [
        (["triposr"], "triposr", "triposr"),
        (["instant-mesh-base"], "instant-mesh-base", "instant-mesh-base"),
        (["triposr", "instant-mesh-large"], "triposr", "instant-mesh-large"),
    ],
)
def test_best_model_depends_on_weights_and_device(tmp_path, here, on_cpu, on_gpu):
    for name in here:
        _put(tmp_path, name)
    assert best_model(True, [tmp_path]) == on_cpu
    assert best_model(False, [tmp_path]) == on_gpu


@pytest.mark.parametrize(
    ("here", "chosen"),
    [(["triposr", "instant-mesh-large"], "triposr"), (["instant-mesh-large"], "photo")],
)
@pytest.mark.parametrize("on_cpu", [True, False])
def test_best_model_for_commercial_use_is_permissive(tmp_path, here, chosen, on_cpu):
    for name in here:
        _put(tmp_path, name)
    assert best_model(on_cpu, [tmp_path], "commercial") == chosen


def test_licenses_of_include_the_multiview_model_unless_views_are_given():
    assert licenses_of("instant-mesh-large", "zero123plus") == {
        "instant-mesh-large": "Apache-2.0",
        "zero123plus": "CC-BY-NC-4.0",
    }
    assert licenses_of("instant-mesh-large", own_views=True) == {"instant-mesh-large": "Apache-2.0"}
    assert [name for name in RECONSTRUCTION_PRESETS if is_commercial(name)] == [
        *("photo", "triposr", "triposg")
    ]


def test_best_model_skips_a_model_without_its_views_model(tmp_path):
    _put(tmp_path, "instant-mesh-large")
    assert not missing("instant-mesh-large", [tmp_path])
    shutil.rmtree(tmp_path / "zero123plus-v1.2" / "tokenizer")
    assert [file.names[0] for file in missing("instant-mesh-large", [tmp_path])] == [
        f"tokenizer/{name}"
        for name in ("vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json")
    ]
    assert best_model(False, [tmp_path]) == "photo"


def test_best_model_accepts_a_half_precision_copy(tmp_path):
    place = tmp_path / "TripoSR" / "model.fp16.safetensors"
    place.parent.mkdir()
    place.touch()
    assert best_model(True, [tmp_path]) == "triposr"


def test_files_of_a_views_model_are_those_that_loading_reads(tmp_path, monkeypatch):
    tiny_models.write_multiview_model(tmp_path / "zero123plus-v1.2")
    read: set[tuple[str, ...]] = set()

    def recorded(file: WeightsFile, *rest: Any) -> Path:
        read.add(file.names)
        return find_file(file, *rest)

    monkeypatch.setattr(finding, "find_file", recorded)
    load_multiview_model("zero123plus", models_dirs=[tmp_path])
    assert read == {file.names for file in files_of("zero123plus")}


def test_commit_of_is_the_recorded_one_or_looked_up(tmp_path, monkeypatch):
    def looked_up(repository: str, name: str, models_dirs: list[Path]) -> str:
        assert repository == "VAST-AI/TripoSG"
        return "b" * 40

    monkeypatch.setattr(inventory, "pinned_revision", looked_up)
    assert inventory.commit_of("photo") == ""
    assert inventory.commit_of("triposr") == RECONSTRUCTION_PRESETS["triposr"].revision
    assert inventory.commit_of("triposg", [tmp_path]) == "b" * 40, "before a download"
    _put(tmp_path, "triposg")
    assert inventory.commit_of("triposg", [tmp_path]) == "", "files of an unknown commit"
    (tmp_path / "TripoSG" / "image-to-3d-commit.txt").write_text("c" * 40)
    assert inventory.commit_of("triposg", [tmp_path]) == "c" * 40


def test_files_of_an_embedded_model_are_none_and_of_an_unknown_one_raise():
    assert files_of("photo") == []
    with pytest.raises(
        InvalidInput, match=r"The model must be one of photo, .*, got 'instant-mash'"
    ):
        files_of("instant-mash")


def test_gigabytes_are_known_for_every_model_with_files():
    for name in (*RECONSTRUCTION_PRESETS, *MULTIVIEW_PRESETS):
        assert bool(files_of(name)) == (inventory.gigabytes(name) > 0), name


def _hub(monkeypatch, content: bytes, digest: str) -> list[str]:
    """Fake a hub with one content for every file; return the list of requested names."""
    asked: list[str] = []

    def arrive(repository: str, name: str, *, local_dir: Path, tqdm_class: type, **_: str) -> str:
        asked.append(name)
        path = Path(local_dir) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        tqdm_class(total=len(content)).update(len(content))
        return str(path)

    class Metadata:
        etag = digest

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", arrive)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", lambda url: Metadata)
    return asked


def test_download_fetches_missing_files(tmp_path, monkeypatch):
    content = b"weights"
    asked = _hub(monkeypatch, content, hashlib.sha256(content).hexdigest())
    _put(tmp_path, "zero123plus")
    seen: list[tuple[int, int]] = []
    count = download(
        "instant-mesh-large", [tmp_path], lambda done, total: seen.append((done, total))
    )
    assert asked == ["instant_mesh_large.ckpt", "diffusion_pytorch_model.bin"]
    assert (count, seen) == (2, [(7, 7), (7, 7)])
    assert not missing("instant-mesh-large", [tmp_path])


def test_download_command_prints_size_and_licence(tmp_path, monkeypatch, capsys):
    content = b"weights"
    _hub(monkeypatch, content, hashlib.sha256(content).hexdigest())
    words = ["download", "zero123plus-instantmesh", "--models-dir", str(tmp_path)]
    assert main(words) == 0
    printed = capsys.readouterr().out
    for word in ("4.5 GB", "CC-BY-NC-4.0", "16 files downloaded"):
        assert word in printed
    assert main(words) == 0
    assert capsys.readouterr().out == "zero123plus-instantmesh is already here\n"


def test_download_of_wrong_content_prints_one_sentence(tmp_path, monkeypatch, capsys):
    _hub(monkeypatch, b"a web page", "0" * 64)
    assert main(["download", "triposr", "--models-dir", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert "does not match SHA-256" in captured.err
    assert "is ready" not in captured.out
    assert missing("triposr", [tmp_path]), "the wrong file is deleted"


def test_ctrl_c_stops_a_download(tmp_path, monkeypatch, capsys):
    def stop(*_: object, **__: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", stop)
    assert main(["download", "triposr", "--models-dir", str(tmp_path)]) == 130
    assert "resumes the download" in capsys.readouterr().err


def test_models_command_prints_a_table(tmp_path, capsys):
    _put(tmp_path, "triposr")
    assert main(["models", "--models-dir", str(tmp_path), "--device", "cpu"]) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}
    assert rows.keys() >= RECONSTRUCTION_PRESETS.keys()
    assert "embedded" in rows["photo"]
    assert str(tmp_path / "TripoSR" / "model.ckpt") in rows["triposr"]
    assert "MIT" in rows["triposr"]
    assert "not downloaded" in rows["instant-mesh-large"]
    assert "CC-BY-NC-4.0" in rows["instant-mesh-large"]


def _loaded(monkeypatch) -> list[str]:
    """Prevent models from loading; return the list of the names that runs try to load."""
    names: list[str] = []

    def load(model: str, *_: object, **__: object) -> None:
        names.append(model)
        raise InvalidInput("enough")

    monkeypatch.setattr(ImageTo3D, "load", load)
    return names


def test_make_takes_the_best_model_and_explains_the_embedded_one(
    image_path, tmp_path, monkeypatch, capsys
):
    names = _loaded(monkeypatch)
    words = [str(image_path), "-o", str(tmp_path / "out"), "--device", "cpu"]
    weights = ["--models-dir", str(tmp_path / "weights")]
    main([*words, *weights])
    lines = capsys.readouterr().err.splitlines()
    assert "guesses the unseen sides" in lines[0]
    for word in ("download triposr", "1.7 GB", "MIT", "15 s"):
        assert word in lines[0]
    _put(tmp_path / "weights", "triposr")
    main([*words, *weights])
    assert "triposr: the best downloaded model" in capsys.readouterr().err
    main([*words, *weights, "--model", "photo"])
    assert "guesses" not in capsys.readouterr().err
    assert names == ["photo", "triposr", "photo"]


def test_catalogue_without_a_model_uses_photo(tmp_path):
    """The result must not depend on the models of the machine that resumes the run."""
    from pipelines.cli.catalogue import make_parser

    assert make_parser().parse_args(["pictures", "-o", "out"]).model == "photo"
