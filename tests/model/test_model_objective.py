"""Losses and metrics, compared with values calculated by hand."""

import math

import pytest
import torch

from coablate_model.objective import CrossEntropy

UNIFORM = torch.zeros(2, 4)
CERTAIN = torch.tensor([[50.0, 0, 0, 0], [0, 50.0, 0, 0]])
BATCH = {"label": torch.tensor([0, 1])}
HEADS = ("fused", "rgb", "skeleton")


def test_joint_loss_adds_half_of_each_stream_s_loss_to_the_fused_loss() -> None:
    objective = CrossEntropy(heads=HEADS, label_smoothing=0.0)
    loss = objective.loss({"fused": UNIFORM, "rgb": UNIFORM, "skeleton": CERTAIN}, BATCH, 0)
    assert loss["loss"].item() == pytest.approx(1.5 * math.log(4))
    assert loss["loss_skeleton"].item() == pytest.approx(0, abs=1e-6)
    assert set(loss) == {"loss", "loss_fused", "loss_rgb", "loss_skeleton"}


def test_label_smoothing_gives_a_certain_prediction_a_loss() -> None:
    loss = CrossEntropy(heads=("fused",), label_smoothing=0.1).loss({"fused": CERTAIN}, BATCH, 0)
    assert loss["loss"].item() == pytest.approx(0.1 * 50 * 3 / 4)


@pytest.mark.parametrize("heads", [HEADS, HEADS[1:]])
def test_alternating_steps_train_one_stream_each_and_give_every_head_a_gradient(heads: tuple[str, ...]) -> None:
    objective = CrossEntropy(heads=heads, mode="alternating", label_smoothing=0.0)
    for step, stream in enumerate(["rgb", "skeleton"] * 2):
        outputs = {head: UNIFORM.clone().requires_grad_() for head in heads}
        objective.loss(outputs, BATCH, step)["loss"].backward()  # type: ignore[no-untyped-call]  # as torch has it
        with_gradient = {head for head, x in outputs.items() if x.grad is not None and x.grad.any()}
        assert with_gradient == {stream, *heads} - {"rgb", "skeleton"} | {stream}
        assert all(logits.grad is not None for logits in outputs.values())


def test_accuracy_counts_clips_and_mean_class_accuracy_counts_classes() -> None:
    objective = CrossEntropy(heads=("fused",))
    scores = torch.eye(7)[[0, 0, 0, 1]]
    balanced = objective.metrics(scores, torch.tensor([0, 0, 1, 1]))
    assert balanced["accuracy"] == 0.75
    assert balanced["mean_class_accuracy"] == 0.75
    unbalanced = objective.metrics(scores, torch.tensor([0, 0, 0, 5]))
    assert unbalanced["accuracy"] == 0.75
    assert unbalanced["mean_class_accuracy"] == 0.5


def test_top5_is_reported_for_more_than_five_classes() -> None:
    objective = CrossEntropy(heads=("fused",))
    ranked = torch.arange(6, 0, -1.0).repeat(2, 1)
    labels = torch.tensor([4, 5])
    assert objective.metrics(ranked, labels)["top5"] == 0.5
    assert "top5" not in objective.metrics(ranked[:, :5], labels - 1)
