"""What has a system's own supervisor run the daemon."""

from __future__ import annotations

import aegis_sdk as aegis

_LABEL = "dev.aegis.aegisd"
_UNIT = """\
# ~/.config/systemd/user/aegisd.service; then: systemctl --user enable --now aegisd
[Unit]
Description=Aegis sandboxes and tasks

[Service]
ExecStart={command}
{environment}KillMode=mixed
TimeoutStopSec=45
Restart=on-failure
UMask=0077

[Install]
WantedBy=default.target
"""


def unit(daemon: aegis.Daemon, platform: str) -> str:
    """The unit of systemd, or on macOS (``darwin``) the property list of launchd."""
    return _plist(daemon) if platform == "darwin" else _systemd(daemon)


def _systemd(daemon: aegis.Daemon) -> str:
    environment = "".join(f"Environment={_quoted(f'{name}={value}')}\n" for name, value in daemon.settings.items())
    return _UNIT.format(command=" ".join(map(_argument, daemon.command)), environment=environment)


def _quoted(word: str) -> str:
    """*word* as systemd reads it back: between quotes, where % begins a specifier and a backslash an escape."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("\n", "\\n")
    return f'"{escaped}"'


def _argument(word: str) -> str:
    return _quoted(word).replace("$", "$$")  # in a command line it begins a variable, too


def _plist(daemon: aegis.Daemon) -> str:
    import plistlib

    about = {
        "Label": _LABEL,
        "ProgramArguments": list(daemon.command),
        "EnvironmentVariables": daemon.settings,
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ExitTimeOut": 45,
        "Umask": 0o077,
    }
    first, _, rest = plistlib.dumps(about).decode().partition("\n")
    how = f"<!-- ~/Library/LaunchAgents/{_LABEL}.plist; then: launchctl load ~/Library/LaunchAgents/{_LABEL}.plist -->"
    return f"{first}\n{how}\n{rest}"
