"""Published Kinetics weights load into all of I3D but the class layer; any other file is refused."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from coablate_model.cc_dfarm import CCDFARM
from coablate_model.i3d import I3D
from coablate_model.weights import load_kinetics
from coablate_platform.study.config import ClipShape

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
    report = load_kinetics(model, path)
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
    assert "tensors loaded, 2 not loaded (class layer)" in repr(model)
    for _, module in model.named_modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    assert torch.equal(model.get_parameter(f"i3d.{key}"), published[key])
    assert model.state_dict().keys() == replace(config, weights=None).build(SHAPE).state_dict().keys()


def test_any_other_file_is_refused_with_a_message_of_one_line(published: dict[str, Tensor], tmp_path: Path) -> None:
    def assert_refused(name: str, message: str, model: I3D | None = None) -> None:
        with pytest.raises(ValueError, match=message) as caught:
            load_kinetics(model or I3D(7), tmp_path / name)
        assert "\n" not in str(caught.value)

    assert_refused("none.pt", "no such file")
    (tmp_path / "w.txt").touch()
    assert_refused("w.txt", "unknown format '.txt'")
    (tmp_path / "broken.safetensors").write_bytes(b"not a file of tensors")
    assert_refused("broken.safetensors", "cannot be read")
    (tmp_path / "broken.pt").write_bytes(b"not a file of tensors")
    assert_refused("broken.pt", "contains more than tensors|cannot be read")
    torch.save(CCDFARM(), tmp_path / "code.pt")
    assert_refused("code.pt", "contains more than tensors")
    torch.save([torch.zeros(1)], tmp_path / "list.pt")
    assert_refused("list.pt", "expected a state dict of tensors, found list")
    save_file({"conv1.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    assert_refused("other.safetensors", "1 unknown .first: conv1.weight.*missing")
    save_file(published, tmp_path / "w.safetensors")
    assert_refused("w.safetensors", "need width 1 and 3 video channels", I3D(7, width=0.5))
    assert_refused("w.safetensors", r"Conv3d_1a_7x7.conv3d.weight has shape \(64, 3, 7, 7, 7\)", I3D(7, channels=1))
