"""How an image is run: one record, written for Compose and for Podman's systemd generator (a quadlet)."""

from __future__ import annotations

import configparser
import importlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

USER, PORT = 10001, 8080
GRACE_S = 5  # on top of what answers under way are given
HEALTH = f"import urllib.request as u; u.urlopen('http://127.0.0.1:{PORT}/v2/health/ready', timeout=2)"
CHECK = ("python3", "-c", HEALTH)
# Keys of a quadlet's [Container] that Podman 5 knows and that are used here.
KEYS = (
    "ContainerName", "DropCapability", "Group", "HealthCmd", "HealthInterval", "HealthRetries", "HealthStartPeriod",
    "HealthTimeout", "Image", "NoNewPrivileges", "PidsLimit", "PodmanArgs", "PublishPort", "ReadOnly", "StopSignal",
    "StopTimeout", "User", "Volume",
)  # fmt: skip
HARDENED = {"ReadOnly": "true", "NoNewPrivileges": "true", "DropCapability": "all", "User": str(USER)}


@dataclass(frozen=True)
class Service:
    """One container that answers."""

    name: str
    image: str
    framework: str
    drain_s: int  # for answers under way, on SIGTERM
    start_s: int  # until a health check counts
    pids: int = 512
    memory: str = ""  # as Docker writes it, 2g; empty: no limit

    @property
    def stop_s(self) -> int:
        """Seconds until it is killed."""
        return self.drain_s + GRACE_S


def compose(one: Service) -> dict[str, Any]:
    """The file compose.yaml."""
    health = {
        "test": ["CMD", *CHECK],
        "interval": "10s",
        "timeout": "3s",
        "retries": 3,
        "start_period": f"{one.start_s}s",
    }
    server = {
        "image": one.image,
        "build": {"context": ".", "target": "production", "args": {"FRAMEWORK": one.framework}},
        "user": f"{USER}:{USER}",
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "pids_limit": one.pids,
        "ports": [f"127.0.0.1:{PORT}:{PORT}"],
        "volumes": ["log:/log"],
        "tmpfs": ["/tmp"],  # noqa: S108 - the container's own
        "environment": {"EDGEWRIGHT_API_KEY": "${EDGEWRIGHT_API_KEY:-}"},
        "healthcheck": health,
        "stop_signal": "SIGTERM",
        "stop_grace_period": f"{one.stop_s}s",
        "restart": "on-failure:3",
        **({"mem_limit": one.memory} if one.memory else {}),
    }
    return {"name": one.name, "services": {"server": server}, "volumes": {"log": {}}}


def quadlet(one: Service) -> str:
    """The unit NAME.container."""
    container = {
        "Image": one.image,
        "ContainerName": one.name,
        **HARDENED,
        "Group": str(USER),
        "PidsLimit": str(one.pids),
        "PublishPort": f"127.0.0.1:{PORT}:{PORT}",
        "Volume": f"{one.name}-log:/log",
        "HealthCmd": json.dumps(CHECK),
        "HealthInterval": "10s",
        "HealthTimeout": "3s",
        "HealthRetries": "3",
        "HealthStartPeriod": f"{one.start_s}s",
        "StopSignal": "SIGTERM",
        "StopTimeout": str(one.stop_s),
        **({"PodmanArgs": f"--memory {one.memory}"} if one.memory else {}),
    }
    sections = {
        "Unit": {"Description": f"{one.name}: a model that answers over HTTP", "After": "network-online.target"},
        "Container": container,
        # A package that was changed ends it with 2: to start it again would change nothing.
        "Service": {
            "Restart": "on-failure",
            "RestartPreventExitStatus": "2",
            "TimeoutStartSec": "300",
            "TimeoutStopSec": str(one.stop_s + GRACE_S),
        },
        "Install": {"WantedBy": "multi-user.target default.target"},
    }
    written = ("\n".join(f"{key}={value}" for key, value in body.items()) for body in sections.values())
    return "\n\n".join(f"[{head}]\n{body}" for head, body in zip(sections, written, strict=True)) + "\n"


def compose_fault(found: Any) -> str:
    """What of a container's rights and limits a compose file gives up."""
    server = found["services"]["server"]
    wanted = compose(Service("", "", "", 0, 0))["services"]["server"]
    held = ("user", "read_only", "cap_drop", "security_opt", "ports", "stop_signal")
    if apart := [key for key in held if server.get(key) != wanted[key]]:
        return f"services.server.{apart[0]} is {server.get(apart[0])!r}, not {wanted[apart[0]]!r}"
    if "/v2/health/ready" not in " ".join(server["healthcheck"]["test"]):
        return "services.server.healthcheck asks for no answer of the model (/v2/health/ready)"
    if str(server["image"]).startswith(":") or ":" not in str(server["image"]).rpartition("/")[2]:
        return f"services.server.image: {server['image']!r} names no version"
    return "" if int(str(server["stop_grace_period"]).removesuffix("s")) > GRACE_S else "it is killed while it drains"


def quadlet_fault(text: str, image: str) -> str:
    """What of a quadlet Podman would not take, or what of its limits is missing."""
    read = configparser.ConfigParser(interpolation=None, strict=True)
    read.optionxform = str  # type: ignore[assignment,method-assign]
    read.read_string(text)
    told = dict(read["Container"])
    if unknown := sorted(told.keys() - set(KEYS)):
        return f"[Container] has {', '.join(unknown)}, which Podman does not know"
    loose = [f"{key}={value}" for key, value in (HARDENED | {"Image": image}).items() if told.get(key) != value]
    if loose:
        return f"[Container] lacks {', '.join(loose)}"
    open_to_all = [port for port in (told.get("PublishPort", ""),) if not port.startswith("127.0.0.1:")]
    return f"PublishPort={open_to_all[0]} listens to more than this machine" if open_to_all else ""


def schema_fault(found: Any) -> str:
    """What Compose's own schema says; raises ImportError where no copy of it is installed."""
    jsonschema = importlib.import_module("jsonschema")
    library = Path(str(importlib.import_module("check_jsonschema").__file__)).parent
    kept = library / "builtin_schemas" / "vendor" / "compose-spec.json"
    checking = jsonschema.validators.validator_for(schema := json.loads(kept.read_text(encoding="utf-8")))
    error = jsonschema.exceptions.best_match(checking(schema).iter_errors(found))
    return "" if error is None else f"{error.json_path}: {error.message[:200]}"
