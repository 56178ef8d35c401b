"""supervisord: its configuration, its process, and what it says of the programs."""

from __future__ import annotations

import shlex
import subprocess
import sys
import xmlrpc.client
from typing import TYPE_CHECKING, Any

from supervisor.xmlrpc import SupervisorTransport

from client.local.children import guarded
from client.local.programs import GROUPS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from client.local.folder import DataFolder
    from client.local.programs import Program

_HEAD = """\
[supervisord]
nodaemon=true
silent=true
logfile=logs/supervisord.log
logfile_maxbytes=5MB
logfile_backups=2
pidfile=run/supervisord.pid
childlogdir=logs
umask=077

[unix_http_server]
file=%(ENV_SLAEGAN_SUPERVISOR_SOCKET)s
chmod=0600

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
"""

# The time between two tries grows by a second each, so a million of them means: never give up.
_PROGRAM = """
[program:{name}]
command=%(ENV_{variable})s
directory=scratch
environment={environment}
autostart=false
autorestart=true
startsecs=1
startretries=1000000
stopsignal={signal}
stopwaitsecs={stop_wait_s}
killasgroup=true
redirect_stderr=true
stdout_logfile=logs/{name}.log
stdout_logfile_maxbytes=10MB
stdout_logfile_backups=3
"""


def _variable(program: Program) -> str:
    return "SLAEGAN_COMMAND_" + program.name.upper().replace("-", "_")


def configuration(programs: Sequence[Program]) -> str:
    """The text of supervisord.conf.

    All paths are relative to the data folder, and commands come from the environment: nothing that a user
    names (with its spaces, semicolons and per cents) is ever parsed here, and no secret is written.
    """
    text = _HEAD
    for program in programs:
        text += _PROGRAM.format(
            name=program.name,
            variable=_variable(program),
            environment=",".join(f'{name}="{value}"' for name, value in program.environment.items()),
            signal=program.stop_signal.removeprefix("SIG"),
            stop_wait_s=program.stop_wait_s,
        )
    for priority, group in enumerate(GROUPS, start=1):
        if members := [program.name for program in programs if program.group == group]:
            text += f"\n[group:{group}]\nprograms={','.join(members)}\npriority={priority}\n"
    return text


class Supervisord:
    """A running supervisord, in a session of its own, so that Ctrl-C on the terminal reaches `slaegan up` alone."""

    def __init__(
        self,
        programs: Sequence[Program],
        *,
        folder: DataFolder,
        sockets: Path,
        environment: Mapping[str, str],
    ) -> None:
        self._stop_timeout_s = sum(program.stop_wait_s for program in programs) + 10
        self._groups = {program.name: program.group for program in programs}
        config = folder.run / "supervisord.conf"
        config.write_text(configuration(programs))
        socket = sockets / "supervisor.sock"
        commands = {
            _variable(program): shlex.join(
                # The prefix that changes credentials comes first: it clears the parent-death signal.
                [
                    *program.prefix,
                    *guarded(program.command, lock=folder.parts_lock, death=program.stop_signal),
                ]
            )
            for program in programs
        }
        command = [sys.executable, "-P", "-m", "supervisor.supervisord", "-n", "-c", "run/supervisord.conf"]
        with (folder.logs / "supervisord.stderr.log").open("wb") as output:
            self.process = subprocess.Popen(
                guarded(command, lock=folder.parts_lock), cwd=folder.path, stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, start_new_session=True,
                env={**environment, **commands, "SLAEGAN_SUPERVISOR_SOCKET": str(socket)},
            )  # fmt: skip
        self._socket = socket

    def answers(self) -> bool:
        """Whether it takes calls yet."""
        try:
            self._call("getState")
        except OSError:
            return False
        return True

    def start(self, name: str) -> None:
        """Start a program; whether it stays up is another question."""
        self._call("startProcess", f"{self._groups[name]}:{name}", False)

    def states(self) -> dict[str, dict[str, Any]]:
        """By program: `statename` (RUNNING, BACKOFF …), `pid` (0 when it has none), `exitstatus`."""
        return {state["name"]: state for state in self._call("getAllProcessInfo")}

    def stop(self) -> None:
        """Stop all programs, the last group first, and then supervisord; safe to call when it is gone."""
        self.process.terminate()
        try:
            self.process.wait(self._stop_timeout_s)
        except subprocess.TimeoutExpired:
            # The programs get their parent-death signals.
            self.process.kill()
            self.process.wait()

    def _call(self, method: str, *arguments: Any) -> Any:
        transport = SupervisorTransport(None, None, f"unix://{self._socket}")
        with xmlrpc.client.ServerProxy("http://localhost", transport=transport) as proxy:
            return getattr(proxy.supervisor, method)(*arguments)
