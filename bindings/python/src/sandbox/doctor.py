"""What stands in the way of a sandbox."""

from dataclasses import dataclass
from typing import Optional

from . import _abi as abi
from ._abi import CheckState
from ._boundary import decoded, encoded, interruptible, make
from .config import Config


@dataclass(frozen=True)
class Check:
    """One check of a Report.

    name: its stable name, one of those that diagnose() lists.
    state: how it is.
    found: what was found, on one line.
    fix: what may be done about it, to be pasted into a shell as far as it is a command; empty if nothing is to be done.
    """

    name: str
    state: CheckState
    found: str
    fix: str


@dataclass(frozen=True)
class Report:
    """What diagnose() found.

    state: the worst state of all checks.
    summary: one line that says whether all is well.
    checks: the checks, in their order.
    """

    state: CheckState
    summary: str
    checks: "list[Check]"

    def __str__(self) -> str:
        """A line for each check, its fix below it, and the summary."""
        lines = []
        for check in self.checks:
            lines.append(f"{check.state.name.lower():<8} {check.name:<19} {check.found}")
            if check.fix:
                lines.append(f"{'':28} fix: {check.fix}")
        return "\n".join([*lines, self.summary])


def diagnose(config: Optional[Config] = None, *checks: str) -> Report:
    """Finds out what stands in the way of a sandbox. What it finds is no error; neither is a wrong setting in the
    environment, without a config.

    The checks are config, process, api-server, clock, identity, rights-pods, rights-portforward, rights-exec,
    rights-events, namespace, quota, network-policy, guest, pod, and sandbox, the life of a real sandbox. Without names,
    all but the last one are made, which takes at most 5 seconds unless somebody has to log in by hand. What a check
    needs is in the report if it failed. Nothing is changed in the cluster but by sandbox.

    InvalidArgumentError for a name that is no check's.
    """
    handle = config and config._handle()
    report = interruptible(make, abi.sbx_diagnose, abi.sbx_report_free, handle, encoded(" ".join(checks)))
    found = [
        Check(
            decoded(abi.sbx_report_name_at(report, index)),
            CheckState(abi.sbx_report_state_at(report, index)),
            decoded(abi.sbx_report_found_at(report, index)),
            decoded(abi.sbx_report_fix_at(report, index)),
        )
        for index in range(abi.sbx_report_count(report))
    ]
    return Report(CheckState(abi.sbx_report_state(report)), decoded(abi.sbx_report_summary(report)), found)
