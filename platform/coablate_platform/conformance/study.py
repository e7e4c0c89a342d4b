"""What every study and every search must do before it is worth a run."""

import json
import pickle
from collections.abc import Iterator
from dataclasses import dataclass

import optuna

from coablate_platform.conformance.suite import Suite, expect
from coablate_platform.data.protocols import get_protocol
from coablate_platform.planning.checks import check
from coablate_platform.search.samplers import quiet
from coablate_platform.study.config import ClipShape, ModelConfig, RunConfig
from coablate_platform.study.errors import InputError
from coablate_platform.study.identity import canonical
from coablate_platform.study.search import Search
from coablate_platform.study.study import Study

DRAWS, BUILT = 100, 5
"""Configurations that are drawn from a search's space at random; and of those, the ones that are built."""


@dataclass(frozen=True, kw_only=True)
class StudySubject:
    """A study, or a search."""

    study: Study | Search

    def configs(self) -> Iterator[tuple[str, RunConfig]]:
        """Yield what is to run by name: every arm, or the points and some draws of a search."""
        study = self.study
        if isinstance(study, Study):
            yield from ((f"arm {arm.name!r}", study.config(arm)) for arm in study.arms)
            return
        for number, point in enumerate(study.initial_points):
            yield f"point {number}" if number else "the base", study.config(study.space.decode(point))
        quiet()
        drawing = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        for number in range(DRAWS):
            changes = study.space.suggest(drawing.ask())
            if number % (DRAWS // BUILT) == 0:
                yield f"a draw ({changes})", study.config(changes)


def says_what_it_asks(subject: StudySubject) -> None:
    """Check that there is a name, and a title for people."""
    for name in ("name", "title"):
        expect(bool(getattr(subject.study, name).strip()), f"its {name} is empty")
    expect(subject.study.title != subject.study.name, "its title only repeats its name; expected a line for people")


def holds_models(subject: StudySubject) -> None:
    """Check that every configuration's model is one."""
    for name, config in subject.configs():
        expect(isinstance(config.model, ModelConfig), f"{name}: {type(config.model).__name__} is no model")


def every_configuration_can_be_built(subject: StudySubject) -> None:
    """Check that every arm, or every point and some draws of a search, is a network."""
    for name, config in subject.configs():
        try:
            config.model.build(_shape(config))
            parameters = config.model.describe(_shape(config)).parameters
        except (InputError, ValueError) as error:
            raise InputError(f"{name}: {error}") from None
        expect(parameters > 0, f"{name}: describe tells {parameters} parameters, expected more than none")


def every_setting_means_something(subject: StudySubject) -> None:
    """Check that training and data settings are in their ranges and do not contradict each other."""
    for name, config in subject.configs():
        try:
            check(config, _shape(config))
        except InputError as error:
            raise InputError(f"{name}: {error}") from None


def configurations_can_be_written_down(subject: StudySubject) -> None:
    """Check that configurations can be written as JSON, which identifies their runs."""
    for name, config in subject.configs():
        plain = canonical(config)
        expect(json.loads(json.dumps(plain)) == plain, f"{name}: it does not come back from JSON")


def configurations_travel_by_reference(subject: StudySubject) -> None:
    """Check that another process can unpickle every configuration by its classes' names."""
    for name, config in subject.configs():
        expect(pickle.loads(pickle.dumps(config)) == config, f"{name}: it does not come back from pickle as it was")


def published_values_are_percentages(subject: StudySubject) -> None:
    """Check that published values are in percent, for protocols that exist."""
    for arm in subject.study.arms if isinstance(subject.study, Study) else ():
        for protocol, value in arm.published.items():
            get_protocol(protocol)
            expect(1 < value <= 100, f"arm {arm.name!r}: published value {value} for {protocol}, expected percent")


def draws_come_back(subject: StudySubject) -> None:
    """Check that what a search draws has one encoding as parameters, by which it is found again in the journal."""
    study = subject.study
    if not isinstance(study, Search):
        return
    quiet()
    drawing = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(DRAWS):
        trial = drawing.ask()
        changes = study.space.suggest(trial)
        study.config(changes)
        encoded = study.space.encode(changes)
        expect(encoded == trial.params, f"it drew {trial.params}, and what these stand for is encoded as {encoded}")


STUDY: Suite[StudySubject] = Suite(
    first=(says_what_it_asks, holds_models, every_configuration_can_be_built),
    then=(
        every_setting_means_something,
        configurations_can_be_written_down,
        configurations_travel_by_reference,
        published_values_are_percentages,
        draws_come_back,
    ),
)
"""The checks of a study, or of a search."""


def _shape(config: RunConfig) -> ClipShape:
    """Return the shape of the clips that a configuration asks for, of no set in particular."""
    data = config.data
    return ClipShape(
        classes=5,
        channels=3,
        frames=data.frames,
        size=data.size,
        skeleton_frames=data.skeleton_frames,
        joints=20,
        persons=2,
    )
