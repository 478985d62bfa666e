"""The checklist before going live: seven sections, each with what proves it."""

from mailglass.go_live.report import Report, Section, Status
from mailglass.go_live.run import SECTIONS, run
from mailglass.go_live.site import Site

__all__ = ["SECTIONS", "Report", "Section", "Site", "Status", "run"]
