"""How often XLA compiles, for benchmarks that claim it does not."""

from typing import Any

import jax


class Compilations:
    """Counts what XLA compiles from its making on."""

    def __init__(self) -> None:
        self.count = 0
        jax.monitoring.register_event_duration_secs_listener(self._hear)

    def _hear(self, event: str, duration: float, **_: Any) -> None:
        self.count += event == "/jax/core/compile/backend_compile_duration"
