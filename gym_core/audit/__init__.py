"""The audit: whether a reward means what its author thinks, found out without a model."""

from gym_core.audit.audits import Audit, PolicyRow, audit_environment, check_environment
from gym_core.audit.findings import Finding, Thresholds
from gym_core.audit.report import as_line, as_text, to_html, to_json

__all__ = [
    "Audit",
    "Finding",
    "PolicyRow",
    "Thresholds",
    "as_line",
    "as_text",
    "audit_environment",
    "check_environment",
    "to_html",
    "to_json",
]
