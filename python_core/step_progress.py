"""The progress bar of a training."""

from rich.progress import Progress, TimeElapsedColumn, TimeRemainingColumn


def step_progress(shown: bool = True) -> Progress:
    """With the time taken and the time left; of several processes one shows it."""
    columns = (*Progress.get_default_columns()[:-1], TimeElapsedColumn(), TimeRemainingColumn())
    return Progress(*columns, disable=not shown)
