from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file

from pipelines.checkpoint_files import find_file, read_tensors
from pipelines.checkpoints import (
    MULTIVIEW_PRESETS,
    POCKET_DIR,
    RECONSTRUCTION_PRESETS,
    load_multiview_model,
    load_reconstruction_model,
    read_reconstruction_model,
)
from pipelines.errors import CheckpointError, EnvironmentProblem, InvalidInput

POCKET = RECONSTRUCTION_PRESETS["pocket"]


@pytest.fixture(scope="session")
def weights() -> dict[str, torch.Tensor]:
    return load_file(POCKET_DIR / POCKET.file)


@pytest.fixture
def lightning(tmp_path: Path, weights: dict[str, torch.Tensor]) -> Path:
    """The pocket model as the official files are: a pickle with a prefix, and other things beside the weights."""
    path = tmp_path / "model.ckpt"
    state = {f"lrm_generator.{k}": v.float() for k, v in weights.items()} | {"lpips.net.weight": torch.zeros(3)}
    torch.save({"state_dict": state, "epoch": 3}, path)
    return path


def test_lightning_file_is_the_same_model_and_leaves_a_half_copy(lightning, weights, caplog):
    with caplog.at_level(logging.INFO):
        model = read_reconstruction_model(lightning, POCKET.config)
    assert "half-precision copy" in caplog.text
    copy = lightning.with_name("model.fp16.safetensors")
    assert {v.dtype for v in load_file(copy).values()} == {torch.float16}
    torch.testing.assert_close(model.transformer.pos_embed, weights["transformer.pos_embed"])
    lightning.write_bytes(b"no longer read")
    os.utime(lightning, (0, 0))
    again = read_reconstruction_model(lightning, POCKET.config)
    torch.testing.assert_close(again.transformer.pos_embed, model.transformer.pos_embed)


def test_no_copy_if_not_wanted(lightning):
    read_reconstruction_model(lightning, POCKET.config, keep_half_copy=False)
    assert os.listdir(lightning.parent) == ["model.ckpt"]


def test_a_newer_pickle_wins_over_an_old_copy(lightning, weights):
    read_reconstruction_model(lightning, POCKET.config)
    os.utime(lightning.with_name("model.fp16.safetensors"), (0, 0))
    state = {f"lrm_generator.{k}": torch.zeros_like(v) for k, v in weights.items()}
    torch.save({"state_dict": state}, lightning)
    assert float(read_reconstruction_model(lightning, POCKET.config).transformer.pos_embed.abs().max()) == 0


def test_missing_and_left_over_names_are_named(tmp_path, weights):
    path = tmp_path / "w.safetensors"
    changed = {k: v for k, v in weights.items() if k != "transformer.norm.bias"} | {"surplus.weight": torch.zeros(1)}
    save_file(changed, path)
    with pytest.raises(CheckpointError, match=r"1 missing \(transformer\.norm\.bias\); 1 unexpected \(surplus\.weight\)"):
        read_reconstruction_model(path, POCKET.config)


def test_the_wrong_presets_file_says_which_it_is(tmp_path, weights):
    path = tmp_path / "w.safetensors"
    save_file(weights, path)
    with pytest.raises(CheckpointError, match="those of pocket: choose that model"):
        read_reconstruction_model(path, RECONSTRUCTION_PRESETS["instant-nerf-base"].config)


@pytest.mark.parametrize("name", ["w.safetensors", "w.ckpt", "w.bin"])
@pytest.mark.parametrize("content", ["half", "empty", "text"])
def test_damaged_files_are_recognised(tmp_path, weights, name, content):
    path = tmp_path / name
    if name.endswith(".safetensors"):
        save_file(weights, path)
    else:
        torch.save(weights, path)
    whole = path.read_bytes()
    path.write_bytes({"half": whole[: len(whole) // 2], "empty": b"", "text": b"<html>404 not found</html>"}[content])
    with pytest.raises(CheckpointError, match=name):
        read_tensors(path)
    assert os.listdir(tmp_path) == [name]


class _Payload:
    def __reduce__(self):
        return (os.mkdir, ("/tmp/image-to-3d-was-run",))


def test_executable_content_is_refused_and_not_run(tmp_path):
    path = tmp_path / "w.ckpt"
    torch.save({"state_dict": {"a": torch.zeros(1)}, "payload": _Payload()}, path)
    with pytest.raises(CheckpointError, match="could run code"):
        read_tensors(path)
    assert not Path("/tmp/image-to-3d-was-run").exists()


def test_a_file_without_weights(tmp_path):
    path = tmp_path / "w.ckpt"
    torch.save([1, 2], path)
    with pytest.raises(CheckpointError, match="no named weights"):
        read_tensors(path)


def test_files_are_looked_for_in_the_callers_folder_first(tmp_path):
    for place in (tmp_path / "InstantMesh" / "a.ckpt", tmp_path / "b.ckpt"):
        place.parent.mkdir(exist_ok=True)
        place.write_text("")
    assert find_file("TencentARC/InstantMesh", "a.ckpt", [tmp_path]) == tmp_path / "InstantMesh" / "a.ckpt"
    assert find_file("TencentARC/InstantMesh", "b.ckpt", [tmp_path]) == tmp_path / "b.ckpt"


def test_a_converted_copy_is_enough(tmp_path):
    (tmp_path / "c.fp16.safetensors").write_text("")
    assert find_file("TencentARC/InstantMesh", "c.ckpt", [tmp_path]) == tmp_path / "c.fp16.safetensors"


def test_a_missing_file_says_where_it_goes(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)

    def refuse(*_, **__):
        raise ConnectionError

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    with pytest.raises(EnvironmentProblem, match="put it at") as caught:
        load_reconstruction_model("instant-mesh-large", models_dirs=[tmp_path])
    assert str(tmp_path / "InstantMesh" / "instant_mesh_large.ckpt") in str(caught.value)


def test_the_hubs_own_cache_is_used(tmp_path, monkeypatch):
    cached = tmp_path / "cached.ckpt"
    cached.write_text("")
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda repository, name: str(cached))
    assert find_file("TencentARC/InstantMesh", "x.ckpt") == cached


def _hub(content: bytes):
    """A hub that writes a file in four parts, reporting each as huggingface_hub does."""

    def download(repository: str, name: str, local_dir: Path | None = None, tqdm_class: type | None = None) -> str:
        path = Path(local_dir) / name
        path.parent.mkdir(parents=True)
        bar = tqdm_class(total=len(content))
        with path.open("wb") as file:
            for start in range(0, len(content), len(content) // 4):
                file.write(content[start : start + len(content) // 4])
                bar.update(len(content) // 4)
        return str(path)

    return download


def test_downloads_go_to_the_first_folder_and_report_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", _hub(b"12345678"))
    seen = []
    path = find_file("TencentARC/InstantMesh", "x.ckpt", [tmp_path / "first", tmp_path / "second"], lambda done, total: seen.append((done, total)))
    assert path == tmp_path / "first" / "InstantMesh" / "x.ckpt"
    assert path.read_bytes() == b"12345678"
    assert seen == [(2, 8), (4, 8), (6, 8), (8, 8)]


def test_a_download_can_be_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", _hub(b"12345678"))

    class Stop(Exception):
        pass

    def stop(done: int, total: int) -> None:
        raise Stop

    with pytest.raises(Stop):
        find_file("TencentARC/InstantMesh", "x.ckpt", [tmp_path], stop)


def _official_layout(folder: Path) -> None:
    """The pocket Zero123++ where the official one is looked for, its weights as pickles with the names of older releases."""
    repository = folder / "zero123plus-v1.2"
    shutil.copytree(POCKET_DIR / "zero123plus", repository)
    for part, stem, pickled in (("unet", "diffusion_pytorch_model", "diffusion_pytorch_model"), ("text_encoder", "model", "pytorch_model")):
        source = repository / part / f"{stem}.safetensors"
        tensors = load_file(source)
        source.unlink()
        if part == "text_encoder":
            tensors = {f"text_model.{k.removeprefix('text_model.')}": v for k, v in tensors.items()}
            tensors["text_model.embeddings.position_ids"] = torch.arange(77)[None]
        torch.save(tensors, repository / part / f"{pickled}.bin")


def test_official_layout_and_other_unet(tmp_path, pocket):
    _official_layout(tmp_path)
    changed = {k: v * 0.5 for k, v in load_file(POCKET_DIR / "zero123plus/unet/diffusion_pytorch_model.safetensors").items()}
    (tmp_path / "InstantMesh").mkdir()
    torch.save(changed, tmp_path / "InstantMesh" / "diffusion_pytorch_model.bin")
    stock = load_multiview_model("zero123plus", models_dirs=[tmp_path])
    white = load_multiview_model("zero123plus-instantmesh", models_dirs=[tmp_path])
    torch.testing.assert_close(stock.empty_prompt, pocket.multiview.empty_prompt)
    torch.testing.assert_close(stock.unet.conv_in.weight, pocket.multiview.unet.conv_in.weight)
    torch.testing.assert_close(white.unet.conv_in.weight, pocket.multiview.unet.conv_in.weight * 0.5, atol=1e-4, rtol=0)
    assert (stock.background, white.background) == (MULTIVIEW_PRESETS["zero123plus"].background, 1.0)


def test_a_damaged_config_is_named(tmp_path):
    _official_layout(tmp_path)
    (tmp_path / "zero123plus-v1.2/vae/config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json is damaged"):
        load_multiview_model("zero123plus", models_dirs=[tmp_path])


def test_unknown_names():
    with pytest.raises(InvalidInput, match="instant-mesh-large"):
        load_reconstruction_model("instant-mesh-huge")
    with pytest.raises(InvalidInput, match="zero123plus-instantmesh"):
        load_multiview_model("zero124")


def test_pocket_models_are_small():
    total = sum(f.stat().st_size for f in POCKET_DIR.rglob("*") if f.is_file())
    assert total <= 40_000_000
    assert json.loads((POCKET_DIR / "zero123plus/model_index.json").read_text())["ramping_coefficients"][-1] == 1.0
