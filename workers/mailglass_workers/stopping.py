"""The stop flag of this worker. A batch checks it between two sends, and gives the rest back."""

from __future__ import annotations

import threading

_stopping = threading.Event()

is_set = _stopping.is_set
set = _stopping.set
