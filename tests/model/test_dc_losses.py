"""Properties of the terms of D&C's pre-training loss, and of their weights."""

import pytest
import torch
from torch import Tensor

from coablate_model.dc import losses
from coablate_model.dc.heads import projection_key
from coablate_model.dc.inputs import MODALITIES
from coablate_model.dc.objective import GRANULARITY_WEIGHTS, UMURL, PretrainingObjective

WEIGHTS = ("decomposition", "inter", "variance", "covariance", "composition")


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), requires_grad=True)


def projections(seed: int = 0, clips: int = 6) -> dict[str, Tensor]:
    return {name: random(clips, 5, seed=seed + i) for i, name in enumerate(MODALITIES)}


def outputs() -> dict[str, Tensor]:
    keys = [projection_key(g, m, fused=f) for g in GRANULARITY_WEIGHTS for m in MODALITIES for f in (False, True)]
    return {key: random(6, 5, seed=i) for i, key in enumerate([*keys, "features", "composed"])}


def backward(loss: Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]  # as torch has it


def test_decomposition_is_0_where_the_fused_projections_equal_the_unimodal_ones() -> None:
    z = projections()
    assert losses.decomposition(z, z, detach_target=False) == 0
    assert losses.decomposition(projections(9), z, detach_target=False) > 0


@pytest.mark.parametrize("detach", [False, True])
def test_a_detached_target_of_decomposition_has_no_gradient(detach: bool) -> None:
    fused, unimodal = projections(), projections(9)
    backward(losses.decomposition(fused, unimodal, detach_target=detach))
    assert all(z.grad is not None for z in fused.values())
    assert all((z.grad is None) == detach for z in unimodal.values())


def test_inter_is_0_where_all_modalities_agree() -> None:
    assert losses.inter(dict.fromkeys(MODALITIES, random(6, 5))).item() == pytest.approx(0, abs=1e-12)
    assert losses.inter(projections()) > 0


def test_variance_is_0_from_a_standard_deviation_of_1_on() -> None:
    z = random(6, 5)
    standard = (z - z.mean(0)) / z.std(0)
    assert losses.variance(standard) == 0
    assert losses.variance(2 * standard) == 0
    assert losses.variance(0.5 * standard).item() == pytest.approx(0.5, abs=1e-3)
    assert losses.variance(torch.ones(6, 5)).item() == pytest.approx(0.99)  # the square root of the floor is 0.01


def test_covariance_of_decorrelated_columns_is_0() -> None:
    centred = torch.linalg.qr(torch.cat([torch.ones(8, 1), random(8, 4)], dim=1)).Q[:, 1:]
    assert losses.covariance(3 * centred).item() == pytest.approx(0, abs=1e-6)
    assert losses.covariance(centred @ random(4, 4)) > 1e-3


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (5, 5)])
def test_covariance_equals_its_definition_with_more_clips_and_with_more_columns(shape: tuple[int, int]) -> None:
    z = random(*shape)
    matrix = torch.cov(z.T)
    expected = (matrix - matrix.diagonal().diag()).pow(2).sum() / shape[1]
    torch.testing.assert_close(losses.covariance(z), expected)
    gradient, expected_gradient = (torch.autograd.grad(x, z)[0] for x in (losses.covariance(z), expected))
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-5)


def test_covariance_stays_in_fp32_under_autocast() -> None:
    z = random(6, 5)
    with torch.autocast("cpu", torch.bfloat16):
        under_autocast = losses.covariance(z)
    assert under_autocast == losses.covariance(z)


@pytest.mark.parametrize("term", WEIGHTS)
def test_a_weight_of_0_switches_its_term_off(term: str) -> None:
    every = PretrainingObjective().loss(outputs(), {}, 0)
    without = PretrainingObjective(**{term: 0.0}).loss(outputs(), {}, 0)  # type: ignore[arg-type]
    assert set(every) - set(without) == {f"loss_{term}"}
    weight = getattr(PretrainingObjective(), term)
    assert (every["loss"] - without["loss"]).item() == pytest.approx(weight * every[f"loss_{term}"].item(), rel=1e-4)


def test_an_objective_without_any_term_is_refused() -> None:
    with pytest.raises(ValueError, match="switched off"):
        PretrainingObjective(**dict.fromkeys(WEIGHTS, 0.0))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="switched off"):
        PretrainingObjective(granularities=(), composition=0.0)
    assert set(PretrainingObjective(granularities=()).loss(outputs(), {}, 0)) == {"loss", "loss_composition"}


def test_granularities_add_up_by_their_weights() -> None:
    alone = {
        granularity: PretrainingObjective(granularities=(granularity,), composition=0.0).loss(outputs(), {}, 0)["loss"]
        for granularity in GRANULARITY_WEIGHTS
    }
    together = PretrainingObjective(composition=0.0).loss(outputs(), {}, 0)["loss"]
    assert together.item() == pytest.approx(sum(loss.item() for loss in alone.values()), rel=1e-5)
    half = losses.inter({m: outputs()[projection_key("temporal", m, fused=False)] for m in MODALITIES}) / 2
    only = PretrainingObjective(granularities=("temporal",)).loss(outputs(), {}, 0)
    assert only["loss_inter"].item() == pytest.approx(half.item())


def test_every_term_but_the_loss_is_detached_and_the_whole_batch_is_needed() -> None:
    result = PretrainingObjective().loss(outputs(), {}, 0)
    assert [name for name, value in result.items() if value.requires_grad] == ["loss"]
    assert PretrainingObjective.needs_whole_batch
    assert set(UMURL.loss(outputs(), {}, 0)) == {"loss", *(f"loss_{term}" for term in WEIGHTS[:-1])}
