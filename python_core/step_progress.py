"""The progress bar of a training."""

from rich.progress import Progress, TimeElapsedColumn, TimeRemainingColumn

from python_core.processes import process_index


def step_progress() -> Progress:
    """With the time taken and the time left; of several processes the first shows it."""
    columns = (*Progress.get_default_columns()[:-1], TimeElapsedColumn(), TimeRemainingColumn())
    return Progress(*columns, disable=process_index() > 0)
