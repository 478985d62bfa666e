"""Checks of the workers that run: present on every queue, and all of one version."""

from __future__ import annotations

from collections.abc import Iterator

from mailglass import __version__
from mailglass.preflight.findings import Finding, failed, passed, warned
from mailglass.preflight.surroundings import Surroundings


def queues_have_consumers(surroundings: Surroundings) -> Iterator[Finding]:
    """Check that each queue of a route or task is consumed by a worker."""
    workers = surroundings.workers
    if not workers:
        yield failed(
            "workers",
            f"no worker answered in {surroundings.timeout:g} s",
            "Start one: `celery -A mailglass worker -Q mailglass`",
        )
        return
    yield passed("workers", f"{len(workers)} answered: {', '.join(worker.name for worker in workers)}")
    for queue in surroundings.settings.queue_names:
        consumers = sum(queue in worker.queues for worker in workers)
        if consumers:
            yield passed(f"queues.{queue}", f"consumed by {consumers} of {len(workers)} workers")
        else:
            remedy = f"Start a worker with `-Q {queue}`"
            yield failed(f"queues.{queue}", "no worker consumes it, so its mail waits", remedy)


def versions_are_equal(surroundings: Surroundings) -> Iterator[Finding]:
    """Check that all workers run this version of mailglass."""
    versions = {worker.version or "unknown" for worker in surroundings.workers}
    if not versions:
        return
    observed = f"workers run {', '.join(sorted(versions))}, this is {__version__}"
    if versions == {__version__}:
        yield passed("workers.versions", observed)
    else:
        yield warned("workers.versions", observed, "Let the rollout end, or restart the workers that were left behind")
    noisy = [worker.name for worker in surroundings.workers if worker.log_level == "debug"]
    if noisy:
        yield warned("workers.logging", f"debug logging is on: {', '.join(noisy)}", 'Set log_level = "info"')
