"""The training loop: it learns, tests the selected epoch, resumes bit for bit, and seeds what arms have in common."""

import collections
import dataclasses
import subprocess
import sys

import pytest
import torch
from clips import SHAPE, MemoryClips
from phases import loading
from torch.utils.checkpoint import checkpoint
from trainings import CPU, SKELETON, SMALL, numbers, run, task_of

from coablate_model.cc_dfarm import CCDFARM
from coablate_platform.study.config import DataConfig
from coablate_platform.train import distributed
from coablate_platform.train.checkpoint import Checkpoints
from coablate_platform.train.events import Conclusion
from coablate_platform.train.failures import DivergedError
from coablate_platform.train.loop import train
from coablate_platform.train.seeding import ModuleGenerators
from coablate_platform.train.state import initial_state


def test_separable_classes_are_learned(tmp_path):
    events = run(task_of(epochs=12, schedule="one_cycle", learning_rate=3e-3), tmp_path)
    assert isinstance(events[-1], Conclusion)
    assert events[-1].metrics["accuracy"] == 1.0
    assert events[-2].metrics["train/loss"] < events[0].metrics["train/loss"]


@pytest.mark.parametrize(
    "model",
    [SKELETON, SMALL, dataclasses.replace(SMALL, training="alternating")],
    ids=["skeleton", "fused", "alternating"],
)
def test_an_interrupted_run_has_the_results_of_an_uninterrupted_one(tmp_path, model):
    task = task_of(model, epochs=3)
    whole = run(task, tmp_path / "whole")
    parts = [run(task, tmp_path / "parts", stop_after=1) for _ in range(4)]
    assert numbers(whole) == numbers([event for part in parts for event in part])
    assert (whole[-1].predictions.scores == parts[-1][-1].predictions.scores).all()


@pytest.mark.parametrize("mffm", [True, False])
def test_alternating_training_takes_a_step_per_stream_on_each_batch(tmp_path, monkeypatch, mffm):
    steps = []
    monkeypatch.setattr(torch.optim.Adam, "step", lambda optimiser, *_: steps.append(changed_by(optimiser)))
    model = dataclasses.replace(SMALL, training="alternating", mffm=mffm)
    state = initial_state(task_of(model, optimiser="adam").config, SHAPE, (0, 1), CPU)
    names = {parameter: name.partition(".")[0] for name, parameter in state.model.named_parameters()}

    def changed_by(optimiser):
        return {names[p] for group in optimiser.param_groups for p in group["params"] if p.grad is not None}

    monkeypatch.setattr("coablate_platform.train.loop.initial_state", lambda *_: state)
    run(task_of(model, optimiser="adam", epochs=1), tmp_path, MemoryClips(train=12))
    shared = {"fusion", "head"} if mffm else {"fusion"}
    assert steps == [{"i3d"} | shared, {"hcn"} | shared] * 2


@pytest.mark.parametrize("deterministic", [True, False])
def test_cudnn_may_choose_the_fastest_algorithms_only_where_the_digits_may_differ(tmp_path, deterministic):
    run(task_of(epochs=1, deterministic=deterministic), tmp_path)
    assert (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark) == (deterministic, not deterministic)


def test_alternating_training_learns(tmp_path):
    model = dataclasses.replace(SMALL, training="alternating")
    events = run(task_of(model, epochs=6, schedule="one_cycle", learning_rate=3e-3), tmp_path)
    assert {"train/loss_fused", "train/loss_rgb", "train/loss_skeleton"} <= events[0].metrics.keys()
    assert events[-2].metrics["train/loss"] < events[0].metrics["train/loss"]


@pytest.mark.parametrize("other", [{"placement": ()}, {"fusion": "mmtm"}, {"tiam": "none", "mffm": False}])
def test_arms_have_the_same_dropout_masks_in_common_modules(tmp_path, monkeypatch, other):
    one, two = (dropout_masks(model, tmp_path) for model in (SMALL, dataclasses.replace(SMALL, **other)))
    common = one.keys() & two.keys()
    assert {"hcn.position.dropout", "hcn.motion.dropout", "hcn.dropout2d", "hcn.dropout"} <= common
    assert all(torch.equal(a, b) for name in common for a, b in zip(one[name], two[name], strict=True))
    assert not torch.equal(one["hcn.position.dropout"][0], one["hcn.motion.dropout"][0])
    assert not torch.equal(one["hcn.position.dropout"][0], one["hcn.position.dropout"][1])
    other_seed = dropout_masks(SMALL, tmp_path, seed=(0, 2))
    assert not torch.equal(one["hcn.dropout"][0], other_seed["hcn.dropout"][0])


def dropout_masks(model: CCDFARM, folder, seed: tuple[int, int] = (0, 1)) -> dict[str, list[torch.Tensor]]:
    """Return which values each dropout module sets to 0 in every call of two training passes."""
    network = initial_state(task_of(model).config, SHAPE, seed, CPU).model.train()
    masks = collections.defaultdict(list)
    for name, module in network.named_modules():
        if isinstance(module, torch.nn.modules.dropout._DropoutNd):
            module.forward = lambda x, name=name, drop=module.forward: masks[name].append(drop(torch.ones_like(x))) or x
    batch = next(MemoryClips().train(0, loading(6, DataConfig())))
    for _ in range(2):
        network(batch)
    return masks


def test_a_module_that_activation_checkpointing_repeats_draws_the_same_mask_again():
    class Repeated(torch.nn.Module):
        def __init__(self, calls):
            super().__init__()
            self.linear, self.dropout, self.calls = torch.nn.Linear(50, 50), torch.nn.Dropout(0.5), calls

        def forward(self, x):
            for _ in range(self.calls):
                x = checkpoint(lambda x: self.dropout(self.linear(x)), x, use_reentrant=False)
            return x

    network = Repeated(calls=1)
    ModuleGenerators(network, (0, 1), rank=0)
    x = torch.ones(1, 50)
    out = network(x)
    out.sum().backward()
    assert torch.equal(network.linear.bias.grad != 0, out[0] != 0)
    network = Repeated(calls=2)
    ModuleGenerators(network, (0, 1), rank=0)
    with pytest.raises(RuntimeError, match="Dropout 'dropout' is called 2 times in a forward pass"):
        network(x).sum().backward()


def test_a_run_does_not_depend_on_earlier_runs_in_its_process(tmp_path):
    alone = run(task_of(), tmp_path / "a")
    torch.manual_seed(123)
    torch.rand(7)
    run(task_of(SMALL, epochs=1), tmp_path / "b")
    torch.backends.cudnn.benchmark = True
    after = run(task_of(), tmp_path / "c")
    assert torch.backends.cudnn.deterministic
    assert not torch.backends.cudnn.benchmark
    assert numbers(alone) == numbers(after)
    assert (alone[-1].predictions.scores == after[-1].predictions.scores).all()


def test_a_reported_epoch_is_recorded_and_checkpointed(tmp_path):
    recorded = []
    run(task_of(), tmp_path, stop_after=1, record=recorded)
    assert [report.epoch for report in recorded] == [1]
    saved = Checkpoints(str(tmp_path)).load()
    assert saved is not None
    assert saved["epoch"] == 1


def test_a_completed_run_leaves_only_its_tested_weights(tmp_path):
    run(task_of(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["weights.safetensors"]


def test_the_checkpoint_is_kept_until_the_conclusion_is_recorded(tmp_path):
    events = run(task_of(), tmp_path, stop_after=5)
    assert isinstance(events[-1], Conclusion)
    assert {"weights.safetensors", "last.pt"} <= {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize("selection", ["last", "best", 2])
def test_the_selected_epoch_is_tested(tmp_path, selection):
    events = run(task_of(selection=selection, epochs=4), tmp_path)
    by_validation = [event.metrics["validation/accuracy"] for event in events[:-1]]
    best = by_validation.index(max(by_validation)) + 1
    assert events[-1].epoch == {"last": 4, "best": best, 2: 2}[selection]


def test_a_run_that_is_not_to_be_tested_never_reads_the_test_split(tmp_path):
    class NoTest(MemoryClips):
        def evaluate(self, split, *arguments):
            assert split != "test"
            return super().evaluate(split, *arguments)

    tested = run(task_of(selection="best"), tmp_path / "tested")
    events = run(dataclasses.replace(task_of(selection="best"), tested=False), tmp_path / "not", NoTest())
    assert numbers(events[:-1]) == numbers(tested[:-1])
    assert events[-1] == Conclusion(epoch=tested[-1].epoch)
    weights = [(tmp_path / name / "weights.safetensors").read_bytes() for name in ("tested", "not")]
    assert weights[0] == weights[1]


def test_the_validation_loss_is_the_training_loss_over_the_split(tmp_path):
    clips, task = MemoryClips(), task_of(epochs=1)
    reported = run(task, tmp_path, clips)[0].metrics["validation/loss"]
    state = initial_state(task.config, SHAPE, task.seed, CPU)
    run(task, tmp_path / "again", clips, stop_after=1)
    state.load_state_dict(Checkpoints(str(tmp_path / "again")).load())
    objective, network = task.config.model.objective(), state.model.eval()
    with torch.no_grad():
        parts = [
            (len(batch["label"]), float(objective.loss(network(batch), batch, 0)["loss"]))
            for batch in clips.evaluate("validation", 4)  # other batches than the run's
        ]
    expected = sum(size * loss for size, loss in parts) / sum(size for size, _ in parts)
    assert reported == pytest.approx(expected, rel=1e-5)


def test_selected_weights_survive_an_interruption(tmp_path):
    task = task_of(selection=1, epochs=3)
    whole = run(task, tmp_path / "a")
    parts = [run(task, tmp_path / "b", stop_after=2), run(task, tmp_path / "b")]
    assert (whole[-1].predictions.scores == parts[-1][-1].predictions.scores).all()


@pytest.mark.parametrize("damaged", ["last.pt", "previous.pt", "both"])
@pytest.mark.parametrize("selection", [1, "best"])
def test_a_run_continues_from_the_last_good_checkpoint_with_its_selection(tmp_path, damaged, selection):
    task = task_of(selection=selection, epochs=3)
    whole = run(task, tmp_path / "a")
    run(task, tmp_path / "b", stop_after=3)
    for name in ("last.pt", "previous.pt"):
        if damaged in (name, "both"):
            (tmp_path / "b" / name).write_bytes(b"damaged")
    rest = run(task, tmp_path / "b")
    assert numbers(rest) == numbers(whole[-len(rest) :])
    assert len(rest) == {"last.pt": 2, "previous.pt": 1, "both": 4}[damaged]
    assert (whole[-1].predictions.scores == rest[-1].predictions.scores).all()


@dataclasses.dataclass(frozen=True, kw_only=True)
class NotFinite(CCDFARM):
    """Its scores, or one of its metrics, are not finite in one split; the loss is."""

    value: str = "nan"
    metric: bool = False
    clips: int = 6

    def objective(self):
        return NotFiniteObjective(of=super().objective(), value=float(self.value), metric=self.metric, clips=self.clips)


@dataclasses.dataclass(frozen=True)
class NotFiniteObjective:
    of: object
    value: float
    metric: bool
    clips: int

    def loss(self, *arguments):
        return self.of.loss(*arguments)

    def predict(self, outputs):
        scores = self.of.predict(outputs).clone()
        if not self.metric and len(scores) == self.clips:
            scores[1, 0] = self.value
        return scores

    def metrics(self, scores, labels):
        return {"accuracy": 0.5, "loss": self.value if self.metric and len(scores) == self.clips else 0.5}


@pytest.mark.parametrize("value", ["nan", "inf"])
@pytest.mark.parametrize(
    ("sizes", "clips", "where"),
    [
        ({"train": 5}, 5, "training of epoch 1"),
        ({"validation": 4}, 4, "validation of epoch 1"),
        ({"test": 3}, 3, "test of epoch 1"),
    ],
)
@pytest.mark.parametrize("metric", [False, True], ids=["scores", "metric"])
def test_scores_and_metrics_that_are_not_finite_are_a_divergence(tmp_path, sizes, clips, where, value, metric):
    model = NotFinite(streams=("skeleton",), tiam="none", hcn_features=8, value=value, metric=metric, clips=clips)
    expected = (
        f"loss is {value} in the {where}" if metric else f"the scores of 1 of {clips} clips are not finite in the"
    )
    with pytest.raises(DivergedError, match=expected) as error:
        run(task_of(model, epochs=1, batch_size=5), tmp_path, MemoryClips(**({"train": 5} | sizes)))
    assert where in str(error.value)


def test_workers_that_find_different_checkpoints_do_not_wait_for_each_other(tmp_path, monkeypatch):
    monkeypatch.setattr(distributed, "all_gather", lambda value: [value, value + 1])
    with pytest.raises(RuntimeError, match=r"checkpoints of different epochs \(0, 1\)"):
        run(task_of(), tmp_path)


def test_a_loss_that_is_not_finite_raises_an_error(tmp_path):
    clips = MemoryClips(poison=1)
    with pytest.raises(DivergedError, match="loss became nan in epoch 2"):
        run(task_of(), tmp_path, clips=clips)


@pytest.mark.parametrize("model", [SKELETON, dataclasses.replace(SKELETON, hcn_dropout=0.0)], ids=["dropout", "none"])
def test_accumulated_micro_batches_give_the_gradient_of_the_batch(tmp_path, model):
    """Only without dropout, which differs between micro-batches, and without batch normalisation."""
    whole = run(task_of(model, epochs=1), tmp_path / "a")[0].metrics["train/loss"]
    parts = run(task_of(model, epochs=1, accumulate=3), tmp_path / "b")[0].metrics["train/loss"]
    if model.hcn_dropout:
        assert whole != parts
    else:
        assert parts == pytest.approx(whole, rel=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_every_precision_trains_on_a_gpu(tmp_path, precision):
    source = train(
        task_of(SMALL, precision=precision), MemoryClips(), Checkpoints(str(tmp_path)), [].append, torch.device("cuda")
    )
    assert all(torch.isfinite(torch.tensor(list(event.metrics.values()))).all() for event in source)


def test_gradient_clipping_changes_the_steps(tmp_path):
    unclipped = run(task_of(optimiser="sgd", learning_rate=1.0, epochs=1), tmp_path / "a")
    clipped = run(task_of(optimiser="sgd", learning_rate=1.0, epochs=1, clip_norm=1e-6), tmp_path / "b")
    assert unclipped[-1].predictions.scores.tolist() != clipped[-1].predictions.scores.tolist()


def test_the_loop_imports_no_ray():
    code = "import sys, coablate_platform.train.loop; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
