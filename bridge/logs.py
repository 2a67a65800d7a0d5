"""Log lines for people, or as JSON for programs."""

import json
import logging


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger and message; of a call also its id, method, caller and end."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record."""
        fields = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "call", {}),
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False)


def configure(level: int, form: str) -> None:
    """Set up the log of a process, on standard error.

    Args:
        level: Of `logging`.
        form: text or json.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(
        JsonFormatter() if form == "json" else logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    )
    logging.basicConfig(level=level, handlers=[handler])
