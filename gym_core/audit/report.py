"""Reports of audits as text, JSON or an HTML page."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from html import escape
from typing import Any

from gym_core.audit.audits import Audit
from gym_core.audit.findings import Finding

_SHOWN = 100  # characters of a reply
_SHOWN_TASKS = 3

_STYLE = """
:root { color-scheme: light dark; --line: #8883; --bad: #c0392b; --good: #1e8449; --bar: #3b82c4 }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 3rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem; margin-bottom: 0 } h2 { font-size: 1.1rem; margin: 0 } p.lead { margin-top: .2rem; opacity: .7 }
table { border-collapse: collapse; width: 100%; margin: 1rem 0 } th { text-align: left; font-weight: 600 }
td, th { padding: .2rem .6rem .2rem 0; border-bottom: 1px solid var(--line); vertical-align: top }
.number { text-align: right; font-variant-numeric: tabular-nums; width: 5rem }
td.bar { width: 40% } td.bar div { background: var(--bar); height: .7rem; border-radius: 2px; margin-top: .45rem }
details { border: 1px solid var(--line); border-radius: 6px; padding: .6rem 1rem; margin: .6rem 0 }
summary { cursor: pointer } summary h2 { display: inline } summary span { float: right }
.defect { color: var(--bad) } .fine { color: var(--good) }
code { font: 13px ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere }
li { margin: .4rem 0 }
"""


def as_text(audit: Audit) -> str:
    """The table of policies and the findings of one environment."""
    lines = [f"{audit.environment}: {audit.tasks} tasks, {audit.rollouts} rollouts, {audit.verdict_ms:.2g} ms each"]
    width = max((len(row.policy) for row in audit.policies), default=0)
    lines += [f"  {'policy':{width}}   mean    best"] if audit.policies else []
    lines += [f"  {row.policy:{width}}  {row.mean:5.3f}   {row.best:5.3f}" for row in audit.policies]
    lines += [line for finding in audit.findings for line in _finding_text(finding)] or ["  nothing found"]
    return "\n".join(lines)


def as_line(audit: Audit) -> str:
    """One environment among many: its name, the mean reward of its gold replies, and its defects."""
    by_name = {row.policy: row.mean for row in audit.policies}
    gold = f"{by_name['gold']:.3f}" if "gold" in by_name else "    -"
    counts = f"{_count(audit.defects, 'defect')}, {_count(audit.findings, 'finding')}"
    line = f"{audit.environment:28} gold {gold}  {counts}"
    return "\n".join([line, *(text for finding in audit.defects for text in _finding_text(finding))])


def _count(findings: Sequence[Finding], word: str) -> str:
    return f"{len(findings)} {word}{'' if len(findings) == 1 else 's'}"


def _finding_text(finding: Finding) -> Iterator[str]:
    yield f"  {'DEFECT' if finding.is_defect else 'note'} {finding.kind}: {finding.sentence}{_tasks_text(finding)}"
    if finding.example:
        yield f"      {_example_text(finding.example)}"


def _tasks_text(finding: Finding) -> str:
    more = len(finding.tasks) - _SHOWN_TASKS
    tasks = ", ".join(finding.tasks[:_SHOWN_TASKS]) + (f" and {more} more" if more > 0 else "")
    return f" ({tasks})" if tasks else ""


def _example_text(example: dict[str, Any]) -> str:
    return ", ".join(f"{name} {_short(value)}" for name, value in example.items())


def _short(value: Any) -> str:
    if not isinstance(value, str):
        return repr(value)
    return repr(value if len(value) <= _SHOWN else f"{value[:_SHOWN]}…")


def to_json(audits: Sequence[Audit]) -> str:
    """Everything, as `{"audits": [{"environment", "policies", "findings", ...}]}`."""
    return json.dumps({"audits": [asdict(audit) for audit in audits]}, indent=1, ensure_ascii=False)


def to_html(audits: Sequence[Audit]) -> str:
    """One page, without scripts or other files."""
    bad = sum(bool(audit.defects) for audit in audits)
    rollouts = sum(audit.rollouts for audit in audits)
    lead = f"{len(audits)} environments, {rollouts:,} rollouts; {bad} with a defect"
    sections = "".join(map(_section, sorted(audits, key=lambda audit: -len(audit.defects))))
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Audit</title><style>{_STYLE}</style>'
        f'<h1>Does the reward mean what you think?</h1><p class="lead">{lead}</p>{sections}</html>\n'
    )


def _section(audit: Audit) -> str:
    name = f"<h2>{escape(audit.environment)}</h2>"
    state = f"<span class='defect'>{_count(audit.defects, 'defect')}</span>" if audit.defects else "<span>✓</span>"
    played = f"{audit.tasks} tasks, {audit.rollouts:,} rollouts, {audit.verdict_ms:.2g} ms each"
    findings = "".join(map(_item, audit.findings)) or '<li class="fine">nothing found</li>'
    rows = "".join(
        f'<tr><td>{escape(row.policy)}<td class="number">{row.mean:.3f}<td class="number">{row.best:.3f}'
        f'<td class="bar"><div style="width: {100 * min(1.0, max(0.0, row.mean)):.1f}%"></div>'
        for row in audit.policies
    )
    return (
        f"<details{' open' if audit.defects else ''}><summary>{name} {state}</summary>"
        f"<p>{played}; answers as <code>{escape(audit.form.format('…'))}</code></p><ul>{findings}</ul>"
        f"<table><tr><th>policy<th class='number'>mean<th class='number'>best<th>{rows}</table></details>"
    )


def _item(finding: Finding) -> str:
    word = '<b class="defect">defect</b>' if finding.is_defect else "note"
    example = f"<br><code>{escape(_example_text(finding.example))}</code>" if finding.example else ""
    return f"<li>{word} {escape(f'{finding.sentence}{_tasks_text(finding)}')}{example}</li>"
