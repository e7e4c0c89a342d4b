"""Initial values follow from the seed and the name alone, whoever draws them."""

import dataclasses

import pytest
import torch
from clips import SHAPE
from torch import nn

from coablate_model.cc_dfarm import CCDFARM
from coablate_platform.train.initial import build_network

SMALL = CCDFARM(width=0.125, hcn_features=8, mffm_channels=16)


class Tokens(nn.Module):
    """Holds parameters of its own, with constant and with random values."""

    def __init__(self, size: int = 6) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((size,), 0.1))
        self.token = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, size), std=0.02))
        self.position = nn.Parameter(torch.randn(9, size))
        self.register_buffer("projection", torch.randn(size, size))


class Attentive(nn.Module):
    """A small vision transformer's parts; ``first`` draws random numbers before them."""

    def __init__(self, first: nn.Module | None = None) -> None:
        super().__init__()
        self.first = first
        self.tokens = Tokens()
        self.layer = nn.TransformerEncoderLayer(6, 2, 12, batch_first=True)
        self.attention = nn.MultiheadAttention(6, 3)
        self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(6, 4))


def values(build, seed=(0, 1)) -> dict[str, torch.Tensor]:
    return build_network(build, seed).state_dict()


@pytest.mark.parametrize("other", [{"tiam": "none"}, {"mffm": False}, {"fusion": "mmtm"}, {"placement": ()}])
def test_arms_have_the_same_initial_values_in_common_modules(other):
    one, two = (values(lambda c=c: c.build(SHAPE)) for c in (SMALL, dataclasses.replace(SMALL, **other)))
    common = [name for name in one if name in two and one[name].shape == two[name].shape]
    assert len(common) > 50
    assert all(torch.equal(one[name], two[name]) for name in common)
    first = "i3d.Conv3d_1a_7x7.conv3d.weight"
    assert not torch.equal(one[first], values(lambda: SMALL.build(SHAPE), (0, 2))[first])


def test_attention_layers_and_parameters_held_directly_are_initialised_by_name():
    torch.manual_seed(5)
    one = values(Attentive)
    two = values(lambda: Attentive(first=nn.Sequential(Tokens(7), nn.Linear(30, 30))))
    other_seed = values(Attentive, (0, 2))
    assert all(torch.isfinite(value).all() for value in one.values())
    differing = {name for name in one if not torch.equal(one[name], two[name])}
    assert differing == set()
    same = {name for name in one if torch.equal(one[name], other_seed[name])}
    constant = {"tokens.scale", "attention.in_proj_bias", "attention.out_proj.bias"}
    assert constant <= same
    drawn = {
        "tokens.token",
        "tokens.position",
        "tokens.projection",
        "layer.self_attn.in_proj_weight",
        "layer.linear1.weight",
    }
    assert not drawn & same
    assert not torch.equal(one["tokens.position"][:6], one["tokens.projection"])
    assert 0 < one["tokens.token"].abs().max() < 0.1
    assert (one["attention.out_proj.bias"] == 0).all()  # as MultiheadAttention sets it after its inner module


def test_the_global_generator_is_left_as_it_was():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    values(Attentive)
    assert torch.equal(before, torch.get_rng_state())


def test_what_cannot_be_initialised_is_named():
    class Empty(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.ParameterList([nn.Parameter(torch.empty(300, 300))])

    class Elsewhere(nn.Module):
        generator = torch.Generator().manual_seed(0)

        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, generator=self.generator))

    with pytest.raises(ValueError, match=r"parameter inner\.0 has no initial value"):
        build_network(Empty, (0, 0))
    with pytest.raises(ValueError, match="parameter weight has another initial value in each construction"):
        build_network(Elsewhere, (0, 0))
    with pytest.raises(ValueError, match=r"parameter 0\.weight has no size"):
        build_network(lambda: nn.Sequential(nn.LazyLinear(3)), (0, 0))
