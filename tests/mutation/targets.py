"""The files whose mutants the tests must catch, each with the tests that concern it, none of which starts Ray."""

TARGETS = {
    "train/failures.py": ("tests/train/test_failures.py", "tests/lanes/test_pool.py"),
    "results/statistics.py": ("tests/results/test_statistics.py",),
    "planning/checks.py": ("tests/planning/test_checks.py",),
    "planning/resolve.py": (
        "tests/planning/test_resolve.py",
        "tests/search/test_population.py::test_what_changes_the_weights_cannot_vary",
    ),
    "search/scheduler.py": (
        "tests/search/test_scheduler.py",
        "tests/search/test_scheduler_resumed.py",
        "tests/search/test_population.py",
        "tests/search/test_retries.py",
    ),
    "search/population.py": (
        "tests/search/test_generations.py",
        "tests/search/test_population.py",
        "tests/search/test_retries.py",
        "tests/search/test_scheduler_resumed.py::test_killed_between_any_two_writes_a_population_takes_the_same_course",
    ),
    "lanes/pool.py": ("tests/lanes/test_pool.py", "tests/lanes/test_ray_lanes.py"),
}
"""File below ``platform/coablate_platform`` -> test files."""

NO_SEED = "a split and a shape are the same under every seed"
EQUIVALENT: dict[tuple[str, str, str], str] = {
    ("planning/resolve.py", "return clips_of(config, store, (0, 0))", "0 → 1"): NO_SEED,
    ("planning/resolve.py", "return clips_of(config, store, (0, 0))", "0 left out of (0, 0)"): NO_SEED,
    (
        "search/population.py",
        "def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:",
        "False → True",
    ): "Optuna's signature; whole numbers are resampled evenly on both scales",
}
"""Mutants that nothing can tell from the original: (file, line's text, change) -> why."""
