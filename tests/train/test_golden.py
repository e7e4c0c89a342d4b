"""Golden values: the losses of ten steps of several small networks, bit-equal on the kind of machine that wrote them.

A change of these losses is a change of every result. Where it is intended, ``make golden`` rewrites the files. Another
processor or torch version adds the same numbers in another order, so there only the first steps are compared, with a
tolerance: with batch normalisation over six noisy clips, the difference between two machines grows up to a hundredfold
per update (AVX2 against AVX-512, relative: 5e-6 in the second step, 2e-4 in the third, 1e-1 in the seventh).
"""

import platform
from pathlib import Path

import pytest
import torch
from clips import MemoryClips

from coablate_model.cc_dfarm import CCDFARM
from coablate_platform.study.config import DataConfig, RunConfig, TrainingConfig
from coablate_platform.train.checkpoint import Checkpoints
from coablate_platform.train.loop import train
from coablate_platform.train.task import Task

GOLDEN = Path(__file__).parent / "golden"
STEPS = 10
COMPARED_ELSEWHERE = 2  # losses that are compared on other machines; with several updates a batch, the first alone
TOLERANCE = 1e-3
SMALL = {"width": 0.125, "hcn_features": 8, "mffm_channels": 16}
MODELS = {
    "cc_dfarm": CCDFARM(**SMALL),
    "mmtm": CCDFARM(**SMALL, fusion="mmtm", tiam="none", mffm=False),
    "rgb": CCDFARM(**SMALL, streams=("rgb",)),
    "skeleton": CCDFARM(**SMALL, streams=("skeleton",), tiam="none"),
    "tiam_st_conv4": CCDFARM(**SMALL, streams=("skeleton",), tiam="st", tiam_site="conv4"),
    "alternating": CCDFARM(**SMALL, training="alternating"),
}


def machine() -> str:
    """Describe what decides the order in which numbers are added."""
    capabilities = torch.cpu.get_capabilities()
    features = " ".join(sorted(name for name, value in capabilities.items() if value is True))
    return f"# torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, {platform.machine()} {features}"


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def curve(model: CCDFARM, folder: Path) -> list[float]:
    """Return the loss of every step; each epoch has one batch."""
    training = TrainingConfig(epochs=STEPS, batch_size=6, optimiser="sgd", learning_rate=0.02, schedule="one_cycle")
    task = Task(
        run_id="0" * 64,
        config=RunConfig(model=model, data=DataConfig(), training=training),
        seed=(0, 0),
    )
    clips = MemoryClips(train=6, validation=0, test=3)
    events = train(task, clips, Checkpoints(str(folder)), lambda report: None, torch.device("cpu"))
    return [event.metrics["train/loss"] for event in events if "train/loss" in event.metrics]


@pytest.mark.parametrize("name", MODELS)
def test_the_losses_of_ten_steps_stay_the_same(tmp_path, name, request, one_thread):
    losses = curve(MODELS[name], tmp_path)
    assert len(losses) == STEPS
    file = GOLDEN / f"{name}.txt"
    if request.config.getoption("--rewrite-golden"):
        file.write_text("\n".join([machine(), *(f"{loss.hex()}  {loss:.6f}" for loss in losses)]) + "\n")
    head, *lines = file.read_text().splitlines()
    golden = [float.fromhex(line.split()[0]) for line in lines]
    if head == machine():
        assert losses == golden, "the losses changed; if that is intended, run make golden"
    else:
        compared = COMPARED_ELSEWHERE if MODELS[name].training != "alternating" else 1
        machines = f"measured there: {head}; here: {machine()}"
        assert losses[:compared] == pytest.approx(golden[:compared], rel=TOLERANCE), machines


def test_each_network_has_its_own_losses():
    curves = {tuple(file.read_text().splitlines()[1:]) for file in GOLDEN.glob("*.txt")}
    assert len(curves) == len(MODELS) == len(list(GOLDEN.glob("*.txt")))
