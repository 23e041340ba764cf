"""What every image source is."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from aegis_sdk.model import Check


class ImageSource(Protocol):
    """Makes disks of the images whose references it claims."""

    def claims(self, reference: str) -> bool:
        """Whether *reference* is for this source."""

    def disk(self, reference: str) -> Path:
        """The read-only EROFS file of the image; Unavailable or ImageFailed say what is wrong."""

    def check(self) -> tuple[Check, ...]:
        """What this source needs here, each thing with what was found."""
