from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file

from pipelines.errors import CheckpointError, EnvironmentProblem, InvalidInput
from pipelines.weights.finding import WeightsFile, find_file
from pipelines.weights.multiview_models import load_multiview_model
from pipelines.weights.presets import EMBEDDED_DIR, MULTIVIEW_PRESETS, RECONSTRUCTION_PRESETS
from pipelines.weights.reconstruction_models import (
    load_reconstruction_model,
    read_reconstruction_model,
)
from pipelines.weights.sizes import OFFICIAL_SIZES
from pipelines.weights.tensors import read_tensors

from .. import tiny_models

TINY = tiny_models.config()
_FILE = WeightsFile("TencentARC/InstantMesh", ("x.ckpt",), "abc")


@pytest.fixture(scope="session")
def weights() -> dict[str, torch.Tensor]:
    return tiny_models.ball_model().half().state_dict()


@pytest.fixture
def lightning(tmp_path: Path, weights: dict[str, torch.Tensor]) -> Path:
    """The tiny model as in official files: a pickle with prefixed names and more content."""
    path = tmp_path / "model.ckpt"
    state = {f"lrm_generator.{k}": v.float() for k, v in weights.items()} | {
        "lpips.net.weight": torch.zeros(3)
    }
    torch.save({"state_dict": state, "epoch": 3}, path)
    return path


def test_read_model_takes_a_lightning_checkpoint_with_prefix_and_other_weights(lightning, weights):
    model = read_reconstruction_model(lightning, TINY, dtype=torch.float16)

    torch.testing.assert_close(
        model.transformer.pos_embed, weights["transformer.pos_embed"].half(), atol=0, rtol=0
    )


def test_read_model_leaves_no_file_beside_the_weights(lightning):
    read_reconstruction_model(lightning, TINY, dtype=torch.float16)

    assert os.listdir(lightning.parent) == ["model.ckpt"]


def test_read_model_takes_a_checkpoint_of_old_torch(lightning, tmp_path, weights):
    state = {f"lrm_generator.{name}": value.float() for name, value in weights.items()}
    torch.save({"state_dict": state}, lightning, _use_new_zipfile_serialization=False)

    model = read_reconstruction_model(lightning, TINY)

    torch.testing.assert_close(
        model.transformer.pos_embed, weights["transformer.pos_embed"].float(), atol=0, rtol=0
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_read_model_converts_all_but_the_decoder(tmp_path, weights, dtype):
    path = tmp_path / "exact.ckpt"
    exact = {name: value.float() + 1e-5 for name, value in weights.items()}
    torch.save({"state_dict": exact}, path)

    model = read_reconstruction_model(path, TINY, dtype=dtype)

    decoder = model.synthesizer.get_parameter(name := "decoder.net_sdf.0.weight")
    torch.testing.assert_close(decoder, exact[f"synthesizer.{name}"], atol=0, rtol=0)
    position = model.transformer.pos_embed
    torch.testing.assert_close(position, exact["transformer.pos_embed"].to(dtype), atol=0, rtol=0)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n",
            "Git LFS pointer",
        ),
        (b"<!DOCTYPE html><html>404</html>", "web page"),
        (b"\n  <html>", "web page"),
    ],
)
@pytest.mark.parametrize("name", ["w.ckpt", "w.bin", "w.safetensors"])
def test_read_tensors_recognises_lfs_pointers_and_web_pages(tmp_path, content, named, name):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=named):
        read_tensors(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer/vocab.json", "{"),
        ("tokenizer/merges.txt", "\x00"),
        ("model_index.json", "{}"),
        ("model_index.json", "[]"),
        ("feature_extractor_vae/preprocessor_config.json", "{}"),
        ("feature_extractor_clip/preprocessor_config.json", "{"),
        ("unet/config.json", "[]"),
        ("vae/config.json", '{"block_out_channels": 3}'),
        ("vision_encoder/config.json", "{"),
        ("scheduler/scheduler_config.json", "3"),
    ],
)
def test_load_multiview_model_names_a_damaged_text_file(tmp_path, models_dir, name, content):
    repository = tmp_path / "zero123plus-v1.2"
    shutil.copytree(models_dir / repository.name, repository)
    (repository / name).write_text(content)
    with pytest.raises(CheckpointError, match=Path(name).name):
        load_multiview_model(tiny_models.VIEWS_MODEL, models_dirs=[tmp_path, models_dir])


def test_tokenizer_files_may_lie_in_different_folders(tmp_path, tiny):
    first, second = tmp_path / "first", tmp_path / "second"
    _official_layout(first)
    moved = second / "zero123plus-v1.2" / "tokenizer" / "merges.txt"
    moved.parent.mkdir(parents=True)
    (first / "zero123plus-v1.2" / "tokenizer" / "merges.txt").rename(moved)
    model = load_multiview_model("zero123plus", models_dirs=[first, second])
    torch.testing.assert_close(model.empty_prompt, tiny.multiview.empty_prompt)


def test_presets_pin_a_commit_unless_the_first_download_does():
    for name, preset in (RECONSTRUCTION_PRESETS | MULTIVIEW_PRESETS).items():
        if preset.repository is not None and name != "triposg":  # see the test of find_file below
            assert re.fullmatch("[0-9a-f]{40}", preset.revision), name
    assert re.fullmatch("[0-9a-f]{40}", MULTIVIEW_PRESETS["zero123plus-instantmesh"].unet.revision)


@pytest.mark.parametrize("whole", [True, False])
def test_download_is_compared_with_the_hubs_sha256(tmp_path, monkeypatch, whole):
    content = b"12345678"
    announced = hashlib.sha256(content if whole else b"other").hexdigest()
    asked = []
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: None)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", _hub(content))
    monkeypatch.setattr(
        huggingface_hub, "hf_hub_url", lambda *names, revision: asked.append((*names, revision))
    )
    monkeypatch.setattr(
        huggingface_hub, "get_hf_file_metadata", lambda _: SimpleNamespace(etag=announced)
    )
    if whole:
        assert find_file(_FILE, [tmp_path]).read_bytes() == content
    else:
        with pytest.raises(CheckpointError, match="does not match SHA-256"):
            find_file(_FILE, [tmp_path])
        assert not (tmp_path / "InstantMesh" / "x.ckpt").exists()
    assert asked == [("TencentARC/InstantMesh", "x.ckpt", "abc")]


def test_download_is_compared_with_a_known_sha256_without_the_hub(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: None)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", _hub(b"12345678"))
    right = hashlib.sha256(b"12345678").hexdigest()
    known = WeightsFile("stabilityai/TripoSR", ("model.ckpt",), "abc", right)
    assert find_file(known, [tmp_path]).read_bytes() == b"12345678"
    (tmp_path / "TripoSR" / "model.ckpt").unlink()
    with pytest.raises(CheckpointError, match=f"SHA-256 {right[::-1]}"):
        find_file(replace(known, digest=right[::-1]), [tmp_path])
    assert not (tmp_path / "TripoSR" / "model.ckpt").exists()


def test_read_reconstruction_model_lists_missing_and_unexpected_names(tmp_path, weights):
    path = tmp_path / "w.safetensors"
    changed = {k: v for k, v in weights.items() if k != "transformer.norm.bias"} | {
        "surplus.weight": torch.zeros(1)
    }
    save_file(changed, path)
    with pytest.raises(
        CheckpointError,
        match=r"1 missing \(transformer\.norm\.bias\); 1 unexpected \(surplus\.weight\)",
    ):
        read_reconstruction_model(path, TINY)


def test_read_reconstruction_model_names_the_preset_of_another_file(tmp_path, weights, monkeypatch):
    path = tmp_path / "w.safetensors"
    save_file(weights, path)
    monkeypatch.setitem(OFFICIAL_SIZES, "tiny", TINY)
    with pytest.raises(CheckpointError, match="those of tiny: choose that model"):
        read_reconstruction_model(path, OFFICIAL_SIZES["instant-nerf-base"])


@pytest.mark.parametrize("name", ["w.safetensors", "w.ckpt", "w.bin"])
@pytest.mark.parametrize("content", ["half", "empty", "text"])
def test_read_tensors_recognises_damaged_files(tmp_path, weights, name, content):
    path = tmp_path / name
    if name.endswith(".safetensors"):
        save_file(weights, path)
    else:
        torch.save(weights, path)
    whole = path.read_bytes()
    path.write_bytes(
        {"half": whole[: len(whole) // 2], "empty": b"", "text": b"<html>404 not found</html>"}[
            content
        ]
    )
    with pytest.raises(CheckpointError, match=name):
        read_tensors(path)
    assert os.listdir(tmp_path) == [name]


class _Payload:
    def __reduce__(self):
        return (os.mkdir, ("/tmp/image-to-3d-was-run",))


def test_read_tensors_refuses_executable_content_without_running_it(tmp_path):
    path = tmp_path / "w.ckpt"
    torch.save({"state_dict": {"a": torch.zeros(1)}, "payload": _Payload()}, path)
    with pytest.raises(CheckpointError, match="could run code"):
        read_tensors(path)
    assert not Path("/tmp/image-to-3d-was-run").exists()


def test_read_tensors_refuses_a_file_without_weights(tmp_path):
    path = tmp_path / "w.ckpt"
    torch.save([1, 2], path)
    with pytest.raises(CheckpointError, match="no named weights"):
        read_tensors(path)


def test_find_file_searches_the_given_folders(tmp_path):
    for place in (tmp_path / "InstantMesh" / "a.ckpt", tmp_path / "b.ckpt"):
        place.parent.mkdir(exist_ok=True)
        place.write_text("")
    assert (
        find_file(replace(_FILE, names=("a.ckpt",)), [tmp_path])
        == tmp_path / "InstantMesh" / "a.ckpt"
    )
    assert find_file(replace(_FILE, names=("b.ckpt",)), [tmp_path]) == tmp_path / "b.ckpt"


def test_find_file_accepts_a_converted_copy(tmp_path):
    (tmp_path / "c.fp16.safetensors").write_text("")
    assert (
        find_file(replace(_FILE, names=("c.ckpt",)), [tmp_path]) == tmp_path / "c.fp16.safetensors"
    )


def test_find_file_missing_names_the_place(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: None)

    def refuse(*_, **__):
        raise ConnectionError

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    with pytest.raises(EnvironmentProblem, match="put it at") as caught:
        load_reconstruction_model("instant-mesh-large", models_dirs=[tmp_path])
    assert str(tmp_path / "InstantMesh" / "instant_mesh_large.ckpt") in str(caught.value)


def test_find_file_uses_the_hubs_cache(tmp_path, monkeypatch):
    cached = tmp_path / "cached.ckpt"
    cached.write_text("")
    monkeypatch.setattr(
        huggingface_hub, "try_to_load_from_cache", lambda repository, name, **_: str(cached)
    )
    assert find_file(_FILE) == cached


def _hub(content: bytes):
    """Return a download function that writes four parts, and reports each like huggingface_hub."""

    def download(
        repository: str,
        name: str,
        local_dir: Path | None = None,
        tqdm_class: type | None = None,
        revision: str = "",
    ) -> str:
        path = Path(local_dir) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        bar = tqdm_class(total=len(content))
        with path.open("wb") as file:
            for start in range(0, len(content), len(content) // 4):
                file.write(content[start : start + len(content) // 4])
                bar.update(len(content) // 4)
        return str(path)

    return download


def test_downloads_go_to_the_first_folder_and_report_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: None)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", _hub(b"12345678"))
    seen = []
    path = find_file(
        replace(_FILE, digest=hashlib.sha256(b"12345678").hexdigest()),
        [tmp_path / "first", tmp_path / "second"],
        lambda done, total: seen.append((done, total)),
    )
    assert path == tmp_path / "first" / "InstantMesh" / "x.ckpt"
    assert path.read_bytes() == b"12345678"
    assert seen == [(2, 8), (4, 8), (6, 8), (8, 8)]


def test_find_file_stops_if_progress_raises(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: None)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", _hub(b"12345678"))

    class Stop(Exception):
        pass

    def stop(done: int, total: int) -> None:
        raise Stop

    with pytest.raises(Stop):
        find_file(_FILE, [tmp_path], stop)


def _official_layout(folder: Path) -> None:
    """Write the tiny Zero123++ at the official path, partly as pickles with names of old files."""
    repository = folder / "zero123plus-v1.2"
    tiny_models.write_multiview_model(repository)
    for part, stem, pickled in (
        ("unet", "diffusion_pytorch_model", "diffusion_pytorch_model"),
        ("text_encoder", "model", "pytorch_model"),
    ):
        source = repository / part / f"{stem}.safetensors"
        tensors = load_file(source)
        source.unlink()
        if part == "text_encoder":
            tensors = {f"text_model.{k.removeprefix('text_model.')}": v for k, v in tensors.items()}
            tensors["text_model.embeddings.position_ids"] = torch.arange(77)[None]
        torch.save(tensors, repository / part / f"{pickled}.bin")


def test_load_multiview_model_reads_the_official_layout_and_another_unet(tmp_path, tiny):
    _official_layout(tmp_path)
    changed = {k: v * 0.5 for k, v in tiny.multiview.unet.state_dict().items()}
    (tmp_path / "InstantMesh").mkdir()
    torch.save(changed, tmp_path / "InstantMesh" / "diffusion_pytorch_model.bin")
    stock = load_multiview_model("zero123plus", models_dirs=[tmp_path])
    white = load_multiview_model("zero123plus-instantmesh", models_dirs=[tmp_path])
    torch.testing.assert_close(stock.empty_prompt, tiny.multiview.empty_prompt)
    torch.testing.assert_close(stock.unet.conv_in.weight, tiny.multiview.unet.conv_in.weight)
    torch.testing.assert_close(
        white.unet.conv_in.weight, tiny.multiview.unet.conv_in.weight * 0.5, atol=1e-4, rtol=0
    )
    assert (stock.background, white.background) == (
        MULTIVIEW_PRESETS["zero123plus"].background,
        1.0,
    )


def test_load_multiview_model_names_a_damaged_config(tmp_path):
    _official_layout(tmp_path)
    (tmp_path / "zero123plus-v1.2/vae/config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json is damaged"):
        load_multiview_model("zero123plus", models_dirs=[tmp_path])


def test_load_of_an_unknown_model_raises():
    with pytest.raises(InvalidInput, match="instant-mesh-large"):
        load_reconstruction_model("instant-mesh-huge")
    with pytest.raises(InvalidInput, match="zero123plus-instantmesh"):
        load_multiview_model("zero124")


def test_repository_stays_below_40_mb():
    assert (EMBEDDED_DIR / RECONSTRUCTION_PRESETS["photo"].file).stat().st_size <= 20_000_000
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        pytest.skip("not a clone")
    names = subprocess.check_output(["git", "ls-files", "-z"], cwd=root, text=True)
    files = [root / name for name in names.split("\0") if name]
    assert sum(file.stat().st_size for file in files if file.exists()) < 40_000_000


def test_find_file_without_a_commit_keeps_that_of_the_first_download(tmp_path, monkeypatch):
    commits, asked = ["a" * 40, "b" * 40], []

    def download(
        repository: str, name: str, revision: str, local_dir: Path, tqdm_class: type
    ) -> str:
        asked.append(revision)
        return _hub(b"12345678")(repository, name, local_dir, tqdm_class)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(
        huggingface_hub,
        "get_hf_file_metadata",
        lambda url: SimpleNamespace(
            etag=hashlib.sha256(b"12345678").hexdigest(),
            commit_hash=commits.pop(0) if "/main/" in url else None,
        ),
    )
    for name in ("one.bin", "two.bin"):
        find_file(WeightsFile("owner/Model", (name,)), [tmp_path])

    assert asked == ["a" * 40] * 2
    assert len(commits) == 1
