"""Weights load into all of a stream but the class layer, and identify a run by their content; others are refused."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from coablate_model.cc_dfarm import CCDFARM
from coablate_model.hcn import HCN
from coablate_model.i3d import I3D
from coablate_model.tiam import TIAM
from coablate_model.weights import load_weights
from coablate_platform.study.config import DataConfig, RunConfig, TrainingConfig
from coablate_platform.study.errors import InputError
from coablate_platform.study.identity import run_id
from coablate_platform.study.model import ClipShape
from coablate_platform.train.initial import build_network
from coablate_platform.train.provenance import check_unchanged, origin_of

SHAPE = ClipShape(classes=7, channels=3, frames=8, size=32, skeleton_frames=16, joints=20, persons=1)


@pytest.fixture(scope="module")
def published() -> dict[str, Tensor]:
    """A file as the published ones are: 400 classes, no batch counters."""
    torch.manual_seed(0)
    return {key: value for key, value in I3D(400).state_dict().items() if not key.endswith("num_batches_tracked")}


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_all_layers_but_the_class_layer_are_loaded(published: dict[str, Tensor], tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rgb_imagenet{suffix}"
    (torch.save if suffix == ".pt" else save_file)(published, path)
    model = I3D(7)
    class_layer = model.logits.conv3d.weight.clone()
    report = load_weights(model, path)
    assert set(report.left_out) == {"logits.conv3d.weight", "logits.conv3d.bias"}
    assert set(report.loaded) | set(report.kept) == set(model.state_dict())
    assert all(torch.equal(model.state_dict()[key], published[key]) for key in report.loaded)
    assert torch.equal(model.logits.conv3d.weight, class_layer)


@pytest.mark.parametrize("streams", [("rgb", "skeleton"), ("rgb",)])
def test_re_initialising_the_network_keeps_the_pretrained_weights(
    published: dict[str, Tensor], tmp_path: Path, streams: tuple[str, ...]
) -> None:
    save_file(published, tmp_path / "w.safetensors")
    key = "Mixed_4c.b1b.conv3d.weight"  # any layer but the class layer
    config = CCDFARM(streams=streams, weights=str(tmp_path / "w.safetensors"))
    model = config.build(SHAPE)
    assert torch.equal(model.get_parameter(f"i3d.{key}"), published[key])
    assert "w.safetensors: " in repr(model)
    assert "tensors loaded, 2 not loaded (logits)" in repr(model)
    for _, module in model.named_modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    assert torch.equal(model.get_parameter(f"i3d.{key}"), published[key])
    assert model.state_dict().keys() == replace(config, weights=None).build(SHAPE).state_dict().keys()


def test_any_other_file_is_refused_with_a_message_of_one_line(published: dict[str, Tensor], tmp_path: Path) -> None:
    def assert_refused(name: str, message: str, model: I3D | None = None) -> None:
        with pytest.raises(ValueError, match=message) as caught:
            load_weights(model or I3D(7), tmp_path / name)
        assert "\n" not in str(caught.value)

    assert_refused("none.pt", "no such file")
    (tmp_path / "w.txt").touch()
    assert_refused("w.txt", "unknown format '.txt'")
    (tmp_path / "broken.safetensors").write_bytes(b"not a file of tensors")
    assert_refused("broken.safetensors", "cannot be read")
    (tmp_path / "broken.pt").write_bytes(b"not a file of tensors")
    assert_refused("broken.pt", "holds more than tensors|cannot be read")
    torch.save(CCDFARM(), tmp_path / "code.pt")
    assert_refused("code.pt", r"holds more than tensors, such as a whole module; save its state_dict\(\) instead$")
    torch.save([torch.zeros(1)], tmp_path / "list.pt")
    assert_refused("list.pt", "expected a state dict of tensors, found a list")
    save_file({"conv1.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    assert_refused("other.safetensors", "1 unknown .first: conv1.weight.*missing")
    save_file(published, tmp_path / "w.safetensors")
    assert_refused("w.safetensors", "fit networks of the same width", I3D(7, width=0.5))
    assert_refused("w.safetensors", r"Conv3d_1a_7x7.conv3d.weight has shape \(64, 3, 7, 7, 7\)", I3D(7, channels=1))
    broken = published | {"Mixed_3b.b0.conv3d.weight": published["Mixed_3b.b0.conv3d.weight"] * float("nan")}
    save_file(broken, tmp_path / "nan.safetensors")
    assert_refused("nan.safetensors", r"Mixed_3b\.b0\.conv3d\.weight holds values that are not finite")
    (tmp_path / "lfs.pt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")
    assert_refused("lfs.pt", "is a git-LFS pointer, not the file itself")
    torch.save({"epoch": 3, "args": "x"}, tmp_path / "args.pt")
    assert_refused("args.pt", r"a dict of other things \(epoch, args\)")
    torch.save({}, tmp_path / "empty.pt")
    assert_refused("empty.pt", "a dict of other things .nothing.")


def test_a_state_dict_inside_a_checkpoint_is_found(published: dict[str, Tensor], tmp_path: Path) -> None:
    parallel = {f"module.{key}": value for key, value in published.items()}
    torch.save({"epoch": 7, "state_dict": parallel}, tmp_path / "w.pth")
    model = I3D(7)
    load_weights(model, tmp_path / "w.pth")
    key = "Mixed_4c.b1b.conv3d.weight"
    assert torch.equal(model.get_parameter(key), published[key])


def public_hcn(model: HCN) -> dict[str, Tensor]:
    """Return HCN's weights under the keys of its public code."""
    renamed = {}
    for key, value in model.state_dict().items():
        *branch, layer, leaf = key.split(".")
        wrapped = ".0" if layer in ("conv1", "conv4", "conv5", "conv6", "fc7") else ""
        renamed[f"{layer}{'m' * (branch == ['motion'])}{wrapped}.{leaf}"] = value
    return renamed


@pytest.mark.parametrize("tiam", [None, TIAM(32)])
def test_public_hcn_weights_are_loaded_beside_a_new_tiam(tmp_path: Path, tiam: TIAM | None) -> None:
    source = HCN(60, joints=20, frames=16)
    save_file(public_hcn(source), tmp_path / "hcn.safetensors")
    model = HCN(7, joints=20, frames=16, tiam=tiam)
    report = load_weights(model, tmp_path / "hcn.safetensors")
    assert len(report.loaded) == len(source.state_dict()) - 2
    assert {key.partition(".")[0] for key in report.kept} == {"fc8"} | ({"tiam"} if tiam else set())
    for key in report.loaded:
        assert torch.equal(model.state_dict()[key], source.state_dict()[key])


def test_both_streams_begin_with_the_weights_of_a_run(tmp_path: Path) -> None:
    earlier = CCDFARM(width=0.125, hcn_features=8).build(SHAPE)
    path = str(tmp_path / "weights.safetensors")
    save_file({key: value.contiguous() for key, value in earlier.state_dict().items()}, path)
    config = CCDFARM(width=0.125, hcn_features=8, fusion="mmtm", tiam="none", weights=path, hcn_weights=path)
    later = build_network(lambda: config.build(SHAPE), (0, 0))
    for key in ("i3d.Mixed_4c.b1b.conv3d.weight", "hcn.motion.conv3.weight", "hcn.fc7.bias"):
        assert torch.equal(later.get_parameter(key), earlier.get_parameter(key))
    assert not torch.equal(later.get_parameter("hcn.fc8.weight"), earlier.get_parameter("hcn.fc8.weight"))


def test_the_content_of_the_file_identifies_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def identity(path: str) -> str:
        config = RunConfig(model=CCDFARM(weights=path), data=DataConfig(), training=TrainingConfig())
        return run_id(config, "f", (0, 0))

    for name, content in {"a": b"one", "b": b"one", "c": b"other"}.items():
        (tmp_path / f"{name}.pt").write_bytes(content)
    monkeypatch.chdir(tmp_path)
    assert CCDFARM(weights="a.pt").weights == str(tmp_path / "a.pt")
    assert identity("a.pt") == identity(str(tmp_path / "b.pt")) != identity("c.pt")
    before = RunConfig(model=CCDFARM(weights="a.pt"), data=DataConfig(), training=TrainingConfig())
    origin, first = origin_of(before), run_id(before, "f", (0, 0))
    check_unchanged(origin, before)
    (tmp_path / "a.pt").write_bytes(b"another")
    assert run_id(before, "f", (0, 0)) != first
    with pytest.raises(InputError, match=r"the content of .*a\.pt is not what it was when the run was planned"):
        check_unchanged(origin, before)
