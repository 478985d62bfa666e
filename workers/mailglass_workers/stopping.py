"""Whether this worker was told to stop; between two sends a batch asks, and gives the rest back."""

from __future__ import annotations

import threading

_stopping = threading.Event()

is_set = _stopping.is_set
set = _stopping.set
