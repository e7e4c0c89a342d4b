"""Checks for studies and searches, before anything is trained."""

import json
import pickle
from collections.abc import Iterator
from dataclasses import dataclass

import optuna

from coablate_platform.conformance.suite import Suite, expect
from coablate_platform.data.joints import KINECT_V1
from coablate_platform.data.protocols import get_protocol
from coablate_platform.planning.checks import check
from coablate_platform.search.samplers import quiet
from coablate_platform.study.config import RunConfig
from coablate_platform.study.errors import InputError
from coablate_platform.study.identity import canonical
from coablate_platform.study.model import ClipShape
from coablate_platform.study.search import Search
from coablate_platform.study.study import Study

SAMPLED = 100
"""Number of configurations that are sampled at random from a search's space."""
BUILT = 5
"""Number of sampled configurations that are built."""


@dataclass(frozen=True, kw_only=True)
class StudySubject:
    """A study, or a search."""

    study: Study | Search

    def configs(self) -> Iterator[tuple[str, RunConfig]]:
        """Yield named configurations: every arm of a study, or the initial points and some samples of a search."""
        study = self.study
        if isinstance(study, Study):
            yield from ((f"arm {arm.name!r}", study.config(arm)) for arm in study.arms)
            return
        for number, point in enumerate(study.initial_points):
            yield f"initial point {number}" if number else "the base", study.config(study.space.decode(point))
        quiet()
        sampling = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        for number in range(SAMPLED):
            changes = study.space.suggest(sampling.ask())
            if number % (SAMPLED // BUILT) == 0:
                yield f"sampled configuration ({changes})", study.config(changes)


def name_and_title_are_given(subject: StudySubject) -> None:
    """Check that there are a name and a title, and that they differ."""
    for name in ("name", "title"):
        expect(bool(getattr(subject.study, name).strip()), f"its {name} is empty")
    expect(subject.study.title != subject.study.name, "its title is its name; expected a line that describes the study")


def every_configuration_can_be_built(subject: StudySubject) -> None:
    """Check that the model of every configuration builds a network with parameters."""
    for name, config in subject.configs():
        try:
            config.model.build(_shape(config))
            parameters = config.model.describe(_shape(config)).parameters
        except (InputError, ValueError) as error:
            raise InputError(f"{name}: {error}") from None
        expect(parameters > 0, f"{name}: describe returns {parameters} parameters, expected at least 1")


def every_setting_is_valid(subject: StudySubject) -> None:
    """Check that training and data settings do not contradict each other."""
    for name, config in subject.configs():
        try:
            check(config, _shape(config))
        except InputError as error:
            raise InputError(f"{name}: {error}") from None


def every_configuration_can_be_written_as_json(subject: StudySubject) -> None:
    """Check that configurations have a canonical form in JSON, which identifies their runs."""
    for name, config in subject.configs():
        plain = canonical(config)
        expect(json.loads(json.dumps(plain)) == plain, f"{name}: read back from JSON, it is not equal to itself")


def every_configuration_can_be_pickled(subject: StudySubject) -> None:
    """Check that workers can unpickle every configuration, which needs importable classes."""
    for name, config in subject.configs():
        expect(pickle.loads(pickle.dumps(config)) == config, f"{name}: unpickled, it is not equal to itself")


def published_values_are_percentages(subject: StudySubject) -> None:
    """Check that published values are in percent, and that their protocols exist."""
    for arm in subject.study.arms if isinstance(subject.study, Study) else ():
        for protocol, value in arm.published.items():
            get_protocol(protocol)
            expect(1 < value <= 100, f"arm {arm.name!r}: published value {value} for {protocol}, expected percent")


def sampled_parameters_have_one_encoding(subject: StudySubject) -> None:
    """Check that decoding and encoding return the sampled parameters; trials in the journal are found by them."""
    study = subject.study
    if not isinstance(study, Search):
        return
    quiet()
    sampling = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(SAMPLED):
        trial = sampling.ask()
        changes = study.space.suggest(trial)
        study.config(changes)
        encoded = study.space.encode(changes)
        expect(encoded == trial.params, f"the parameters {trial.params} are decoded and encoded as {encoded}")


STUDY: Suite[StudySubject] = Suite(
    prerequisites=(name_and_title_are_given, every_configuration_can_be_built),
    independent=(
        every_setting_is_valid,
        every_configuration_can_be_written_as_json,
        every_configuration_can_be_pickled,
        published_values_are_percentages,
        sampled_parameters_have_one_encoding,
    ),
)
"""Checks of a study, or of a search."""


def _shape(config: RunConfig) -> ClipShape:
    """Return a clip shape with a configuration's sizes, and the classes, joints and persons of no particular set."""
    data = config.data
    return ClipShape(
        classes=5,
        channels=3,
        frames=data.frames,
        size=data.size,
        skeleton_frames=data.skeleton_frames,
        joints=len(KINECT_V1.joints),
        persons=2,
        bones=KINECT_V1.bones,
    )
