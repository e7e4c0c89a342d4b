"""The view of a study that MLflow opens: its arms, the best effect first, with the columns that answer which arm wins.

MLflow keeps a shared view as a tag of the experiment; a link names it by its key. MLflow 3 opens an experiment on the
traces of language models unless the link asks for machine learning.
"""

import hashlib
import json
from dataclasses import dataclass

from coablate_platform.study.plan import SearchPlan
from coablate_platform.tracking.arms import TrackedStudy
from coablate_platform.tracking.names import metric_name

LEVEL = "coablate.level"
"""The tag that tells apart the runs of a study, its arms or trials, and its training runs."""
VIEW_TAG = "mlflow.sharedViewState."
"""Begin of the name of the experiment's tag that holds a view; its key follows."""
_MOST_VARIED = 15  # columns of varied fields: MLflow takes 5,000 characters in a tag of an experiment


@dataclass(frozen=True, kw_only=True)
class View:
    """A view of MLflow's table of runs.

    Args:
        key: what a link names it by.
        state: its filter, order and columns, as MLflow's JSON.
    """

    key: str
    state: str


def view_key(study: str) -> str:
    """Return the key of a study's view, from the study's own: MLflow takes few characters in a tag's name."""
    return hashlib.sha256(study.encode()).hexdigest()[:12]


def view_of(tracked: TrackedStudy) -> View:
    """Return the view of a study's arms by their effect, or of a search's trials by their metric."""
    plan = tracked.plan
    if isinstance(plan, SearchPlan):
        level, order = "trial", f"validation/{plan.metric}"
        columns = [_column("metrics", order)]
    else:
        level, order = "arm", "effect"
        columns = [_column("tags", "verdict")]
        columns += [_column("metrics", name) for name in (metric_name(plan.metric), "effect", "ci_low", "ci_high")]
        columns += [_column("metrics", name) for name in ("p_holm", "pairs")]
    varied = sorted({name for arm in tracked.arms for name in arm.difference})
    columns += [_column("params", metric_name(name)) for name in varied][:_MOST_VARIED]
    state = {
        "searchFilter": f"tags.`{LEVEL}` = '{level}' and tags.`coablate.key` = '{plan.key}'",
        "orderByKey": _column("metrics", order),
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "selectedColumns": columns,
        "runsExpanded": {},
        "useGroupedValuesInCharts": False,
    }
    return View(key=view_key(plan.key), state=json.dumps(state))


def link(experiment: str, key: str) -> str:
    """Return the address of a view, relative to MLflow's."""
    return f"#/experiments/{experiment}/runs?workflowType=machine_learning&viewStateShareKey={key}"


def description(address: str, text: str) -> str:
    """Return a study's description in Markdown: the link to its arms, and its title or table."""
    return f"[The arms, the best effect first]({address})\n\n{text}"


def _column(kind: str, name: str) -> str:
    return f"{kind}.`{name}`"
