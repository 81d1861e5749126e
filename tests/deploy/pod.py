"""A rendered pod template run on this machine: namespaces for its network and processes, and a root file system of its
own, read-only, with the pod's volumes, environment, user and commands. The image's part is this checkout.

What it does not show: the image itself, cgroup limits, and whatever an API server does.
"""

import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kernels import build
from tests.deploy.rendering import REPOSITORY, Object
from tests.system.hosts import Host

_SYSTEM_FOLDERS = ("/usr", "/bin", "/sbin", "/lib", "/lib64")
_WORKING_FOLDER = "/var/lib/agenc"
IMAGE_KERNELS = "/opt/agenc/kernels"


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What a cluster gives a pod: the secrets' values by (name, key), and names with their addresses."""

    secrets: Mapping[tuple[str, str], str]
    names: Mapping[str, str]
    namespace: str = "agenc"
    image_environment: Mapping[str, str] = field(default_factory=dict)


def script(template: Object, host: Host, surroundings: Surroundings) -> str:
    """The shell script that becomes the pod: init containers, then the one container in the script's place."""
    spec = template["spec"]
    (main,) = spec["containers"]
    lines = [
        "set -e",
        "root=$(mktemp -d /tmp/pod.XXXXXX)",
        "mount --make-rprivate /",
        'mount -t tmpfs -o mode=0755 tmpfs "$root"',
        *_root_folders(surroundings),
        *_volumes(spec, main),
        'mount -o remount,ro "$root"',
        *(_run(container, spec, host, surroundings) for container in spec.get("initContainers", [])),
        f"exec {_run(main, spec, host, surroundings)}",
    ]
    return "\n".join(lines)


def _root_folders(surroundings: Surroundings) -> list[str]:
    """The system's programs, Python, this checkout and the compiled kernels, all read-only."""
    lines = []
    for folder in _SYSTEM_FOLDERS:
        path = Path(folder)
        if path.is_symlink():
            lines.append(f'ln -s {path.readlink()} "$root{folder}"')
        elif path.is_dir():
            lines += _bound(path, folder)
    for path in (Path(sys.base_prefix), REPOSITORY):
        lines += _bound(path, str(path))
    cache = build.configure_cache().directory
    lines += _bound(cache, f"{IMAGE_KERNELS}/{cache.name}")
    hosts = "\n".join(["127.0.0.1 localhost", *(f"{at} {name}" for name, at in surroundings.names.items())])
    return [
        *lines,
        f'mkdir -p "$root/proc" "$root/dev" "$root/sys" "$root/etc" "$root{_WORKING_FOLDER}"',
        'mount -t proc proc "$root/proc"',
        'mount --rbind /dev "$root/dev"',
        'mount --rbind /sys "$root/sys"',
        'cp /etc/ld.so.cache "$root/etc/"',
        f'printf "%s\\n" {shlex.quote(hosts)} > "$root/etc/hosts"',
        'echo "agenc:x:10001:10001::/tmp:/bin/sh" > "$root/etc/passwd"',
        'echo "agenc:x:10001:" > "$root/etc/group"',
        'echo "hosts: files" > "$root/etc/nsswitch.conf"',
    ]


def _bound(path: Path, within: str) -> list[str]:
    target = f'"$root"{shlex.quote(within)}'
    source = shlex.quote(str(path))
    return [
        f"mkdir -p {target}",
        f"mount --bind {source} {target}",
        f"mount -o remount,bind,ro {target}",
    ]


def _volumes(spec: Object, main: Object) -> list[str]:
    """Empty folders and claims as memory, of the pod's group; the ConfigMap as the shipped files."""
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    group = spec["securityContext"]["fsGroup"]
    lines = []
    for mount in main["volumeMounts"]:
        volume, target = volumes[mount["name"]], mount["mountPath"]
        if "configMap" in volume:
            assert volume["configMap"]["name"] == "agenc-config", volume
            lines += _bound(REPOSITORY / "config", target)
            continue
        size = volume.get("emptyDir", {}).get("sizeLimit", "1Gi").removesuffix("i")
        # A claim's root belongs to root and to fsGroup; an empty folder is open to all.
        mode = "2770" if "persistentVolumeClaim" in volume else "2777"
        lines += [
            f'mkdir -p "$root{target}"',
            f'mount -t tmpfs -o size={size},mode={mode},gid={group} tmpfs "$root{target}"',
        ]
    return lines


def _run(container: Object, spec: Object, host: Host, surroundings: Surroundings) -> str:
    """The command that runs a container's arguments as its user, without capabilities."""
    user, group = (spec["securityContext"][key] for key in ("runAsUser", "runAsGroup"))
    environment = _environment(container, host, surroundings)
    words = [
        *("env", "-i", *(f"{name}={value}" for name, value in environment.items())),
        *("setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", "--no-new-privs"),
        *("--bounding-set=-all", "--inh-caps=-all", "--"),
        *("sh", "-c", f'cd {_WORKING_FOLDER} && exec "$@"', "sh"),
        *(_expanded(argument, environment) for argument in container["args"]),
    ]
    return f'chroot "$root" {shlex.join(words)}'


def _environment(container: Object, host: Host, surroundings: Surroundings) -> dict[str, str]:
    environment = {
        **surroundings.image_environment,
        "PATH": f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin",
    }
    for entry in container.get("env", []):
        environment[entry["name"]] = _expanded(_value(entry, host, surroundings), environment)
    return environment


def _value(entry: Object, host: Host, surroundings: Surroundings) -> str:
    if "value" in entry:
        return str(entry["value"])
    source = entry["valueFrom"]
    if "secretKeyRef" in source:
        reference = source["secretKeyRef"]
        return surroundings.secrets[reference["name"], reference["key"]]
    fields = {"status.podIP": host.address, "metadata.namespace": surroundings.namespace}
    return fields[source["fieldRef"]["fieldPath"]]


def _expanded(text: str, environment: Mapping[str, str]) -> str:
    """`$(NAME)` as Kubernetes expands it."""
    return re.sub(r"\$\((\w+)\)", lambda found: environment[found[1]], text)
