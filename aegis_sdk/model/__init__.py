"""The frozen values that cross a seam, each checked where it is made: a noun a file."""

from aegis_sdk.model.app import AppInfo, AppSpec, Readiness, ReleaseInfo, release_label
from aegis_sdk.model.attempt import NetworkEvent
from aegis_sdk.model.command import Command, Completed, Exit, TerminalSize, printable, signal_name
from aegis_sdk.model.fixed import Fixed
from aegis_sdk.model.image import ImageConfig, ImageInfo, LayerInfo, Progress, Pruned, image_reference, pull_policy
from aegis_sdk.model.instance import InstanceInfo, InstanceState
from aegis_sdk.model.log import LogEntry
from aegis_sdk.model.machine import Check, DaemonStatus, PluginInfo
from aegis_sdk.model.name import app_name, app_reference, no_app
from aegis_sdk.model.network import Network
from aegis_sdk.model.port import Port, exposed
from aegis_sdk.model.rule import host_name
from aegis_sdk.model.sandbox import MINIMUM_MEMORY, Cause, Ending, SandboxInfo, SandboxSpec, State
from aegis_sdk.model.secret import SecretInfo, SecretValue, secret_name, secret_value
from aegis_sdk.model.task import TIME_LIMIT, TaskInfo, TaskSpec, TaskState

__all__ = [
    "MINIMUM_MEMORY",
    "TIME_LIMIT",
    "AppInfo",
    "AppSpec",
    "Cause",
    "Check",
    "Command",
    "Completed",
    "DaemonStatus",
    "Ending",
    "Exit",
    "Fixed",
    "ImageConfig",
    "ImageInfo",
    "InstanceInfo",
    "InstanceState",
    "LayerInfo",
    "LogEntry",
    "Network",
    "NetworkEvent",
    "PluginInfo",
    "Port",
    "Progress",
    "Pruned",
    "Readiness",
    "ReleaseInfo",
    "SandboxInfo",
    "SandboxSpec",
    "SecretInfo",
    "SecretValue",
    "State",
    "TaskInfo",
    "TaskSpec",
    "TaskState",
    "TerminalSize",
    "app_name",
    "app_reference",
    "exposed",
    "host_name",
    "image_reference",
    "no_app",
    "printable",
    "pull_policy",
    "release_label",
    "secret_name",
    "secret_value",
    "signal_name",
]
