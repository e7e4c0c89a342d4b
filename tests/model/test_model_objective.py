"""Losses and metrics against numbers worked out by hand."""

import math

import pytest
import torch

from coablate_model.objective import CrossEntropy

UNSURE = torch.zeros(2, 4)
SURE = torch.tensor([[50.0, 0, 0, 0], [0, 50.0, 0, 0]])
BATCH = {"label": torch.tensor([0, 1])}
ALL = ("fused", "rgb", "skeleton")


def test_joint_loss_adds_half_of_each_stream() -> None:
    objective = CrossEntropy(heads=ALL, label_smoothing=0.0)
    loss = objective.loss({"fused": UNSURE, "rgb": UNSURE, "skeleton": SURE}, BATCH, 0)
    assert loss["loss"].item() == pytest.approx(1.5 * math.log(4))
    assert loss["loss_skeleton"].item() == pytest.approx(0, abs=1e-6)
    assert set(loss) == {"loss", "loss_fused", "loss_rgb", "loss_skeleton"}


def test_smoothing_charges_for_certainty() -> None:
    loss = CrossEntropy(heads=("fused",), label_smoothing=0.1).loss({"fused": SURE}, BATCH, 0)
    assert loss["loss"].item() == pytest.approx(0.1 * 50 * 3 / 4)


def test_alternating_takes_a_head_a_step_and_keeps_every_gradient() -> None:
    objective = CrossEntropy(heads=ALL, mode="alternating", label_smoothing=0.0)
    for step, trained in enumerate([*ALL, *ALL]):
        outputs = {head: UNSURE.clone().requires_grad_() for head in ALL}
        objective.loss(outputs, BATCH, step)["loss"].backward()
        moved = {head for head, scores in outputs.items() if scores.grad is not None and scores.grad.any()}
        assert moved == {trained}
        assert all(scores.grad is not None for scores in outputs.values())


def test_metrics() -> None:
    scores = torch.eye(7)[[0, 0, 0, 1]]
    labels = torch.tensor([0, 0, 1, 1])
    found = CrossEntropy(heads=("fused",)).metrics(scores, labels)
    assert found["accuracy"] == 0.75
    assert found["mean_class_accuracy"] == 0.75
    unequal = CrossEntropy(heads=("fused",)).metrics(scores, torch.tensor([0, 0, 0, 5]))
    assert unequal["accuracy"] == 0.75
    assert unequal["mean_class_accuracy"] == 0.5
    ranked = torch.arange(6, 0, -1.0).repeat(2, 1)
    assert CrossEntropy(heads=("fused",)).metrics(ranked, torch.tensor([4, 5]))["top5"] == 0.5
    assert "top5" not in CrossEntropy(heads=("fused",)).metrics(scores[:, :5], labels)
