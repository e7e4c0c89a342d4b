"""Checks a cluster file and this machine before a host is paid for."""

import importlib.util
import logging
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from coablate_platform.cluster.file import ClusterFile
from coablate_platform.cluster.findings import Check, Finding
from coablate_platform.cluster.wheel import CONSTRAINTS, build_wheel, shipped_folder
from coablate_platform.study.errors import InputError, first_line

_PROGRAMS = ("ssh", "rsync")
_USER_ONLY = 0o600
_OLD_IMAGE = re.compile(r"Ubuntu (14|16|18|20|22)\.04|Amazon Linux 2\b(?!023)")
"""In the names of images whose Python is older than 3.11 or whose glibc is older than torch's wheels need."""
LOOK_UP = (
    "aws ssm get-parameter --query Parameter.Value --output text --name "
    "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id"
)
"""The command that prints the id of the image that cluster.yaml recommends."""


def local_checks(cluster: ClusterFile) -> Iterator[Check]:
    """Check a cluster file and this machine, one thing after the other; the wheel is built anew."""
    yield "the file fits Ray's schema", _schema(cluster)
    yield "every value is filled in", _placeholders(cluster)
    yield "ssh and rsync are installed", _programs()
    yield "Ray's token is there, for this user alone", _token(Path.home() / ".ray" / "auth_token")
    yield "the wheel of this version builds", _wheel(shipped_folder())
    yield "what is shipped is there", _mounts(cluster)
    if cluster.provider == "aws":
        yield "boto3 is installed", _boto3()
        if importlib.util.find_spec("boto3"):
            yield "AWS accepts the credentials, and has the images and profiles", _aws(cluster)
    if cluster.provider == "local":
        yield "a dummy address is listed", _dummy(cluster)


def _schema(cluster: ClusterFile) -> Iterator[Finding]:
    import click
    import jsonschema
    from ray.autoscaler._private.util import prepare_config, validate_config

    cure = "docs.ray.io has the fields (cluster YAML configuration)"
    logging.getLogger("ray.autoscaler._private.util").setLevel(logging.WARNING)
    try:
        validate_config(prepare_config(cluster.values))
    except jsonschema.ValidationError as error:
        where = ".".join(map(str, error.absolute_path)) or "the file"
        yield Finding(problem=f"{where}: {first_line(error)}", cure=cure)
    except (click.ClickException, ValueError, KeyError, TypeError) as error:
        yield Finding(problem=f"{type(error).__name__}: {first_line(error)}", cure=cure)


def _placeholders(cluster: ClusterFile) -> Iterator[Finding]:
    for line, comment in cluster.placeholders():
        yield Finding(problem=f"{cluster.path}, line {line}: FILL-IN", cure=f"put in {comment or 'the value'}")


def _programs() -> Iterator[Finding]:
    for program in _PROGRAMS:
        if shutil.which(program) is None:
            package = "openssh-client" if program == "ssh" else program
            yield Finding(problem=f"{program} is not on the PATH", cure=f"install it: sudo apt install {package}")


def _token(file: Path) -> Iterator[Finding]:
    if not file.is_file():
        yield Finding(
            problem=f"{file}: no such file",
            cure="coablate cluster up makes it",
        )
    elif file.stat().st_mode & 0o777 != _USER_ONLY:
        mode = f"{file.stat().st_mode & 0o777:o}"
        yield Finding(problem=f"{file}: its mode is {mode}, others may read it", cure=f"chmod 600 {file}")


def _wheel(folder: Path) -> Iterator[Finding]:
    try:
        build_wheel(folder)
    except InputError as error:
        problem, _, cure = str(error).rpartition("; ")
        yield Finding(problem=problem, cure=cure)


def _mounts(cluster: ClusterFile) -> Iterator[Finding]:
    for remote, local in (cluster.values.get("file_mounts") or {}).items():
        if not Path(str(local)).expanduser().exists():
            yield Finding(
                problem=f"file_mounts: {local}: no such file or folder", cure=f"make it, or leave {remote} out"
            )
    mounted = [Path(str(path)).expanduser() for path in (cluster.values.get("file_mounts") or {}).values()]
    if shipped_folder() not in mounted:
        cure = f"ship its folder, with {CONSTRAINTS} in it: file_mounts: {{~/coablate: {shipped_folder()}}}"
        yield Finding(problem="file_mounts: the wheel is not among them", cure=cure)


def _boto3() -> Iterator[Finding]:
    if importlib.util.find_spec("boto3") is None:
        yield Finding(
            problem="Ray needs it for AWS", cure="pip install --constraint constraints.txt --editable '.[aws]'"
        )


def _aws(cluster: ClusterFile) -> Iterator[Finding]:
    """Ask AWS who the user is, and whether the region has the images, and the account the instance profiles."""
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    region = cluster.values["provider"].get("region")
    try:
        session = boto3.Session(region_name=region)
        session.client("sts").get_caller_identity()
    except (BotoCoreError, ClientError, ValueError) as error:
        cure = "log in: aws configure, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        yield Finding(problem=f"{type(error).__name__}: {first_line(error)}", cure=cure)
        return
    for kind, config in cluster.node_configs.items():
        where = f"available_node_types.{kind}.node_config"
        yield from _image(session, where, config.get("ImageId"), region)
        yield from _profile(session, where, config.get("IamInstanceProfile"))


def _image(session: Any, where: str, image: str | None, region: str) -> Iterator[Finding]:
    from botocore.exceptions import ClientError

    look_up = f"look one up: {LOOK_UP} --region {region}"
    if image is None:
        yield Finding(problem=f"{where}.ImageId: missing, Ray would take Ubuntu 18.04, too old for torch", cure=look_up)
        return
    try:
        found = session.client("ec2").describe_images(ImageIds=[image])["Images"]
    except ClientError:
        found = []
    if not found:
        yield Finding(problem=f"{where}.ImageId: {image} is not in {region}", cure=look_up)
    elif old := _OLD_IMAGE.search(f"{found[0].get('Name', '')} {found[0].get('Description', '')}"):
        problem = f"{where}.ImageId: {image} has {old[0]}, whose Python is older than 3.11"
        yield Finding(problem=problem, cure=look_up)


def _profile(session: Any, where: str, profile: dict[str, str] | None) -> Iterator[Finding]:
    from botocore.exceptions import ClientError

    make = "make it as docs/cluster.md says"
    if not profile:
        yield Finding(problem=f"{where}.IamInstanceProfile: missing, these hosts could not read the storage", cure=make)
        return
    name = profile.get("Name") or profile.get("Arn", "").rpartition("/")[2]
    try:
        session.client("iam").get_instance_profile(InstanceProfileName=name)
    except ClientError as error:
        if error.response["Error"]["Code"] == "NoSuchEntity":
            yield Finding(problem=f"{where}.IamInstanceProfile: there is no profile {name}", cure=make)


def _dummy(cluster: ClusterFile) -> Iterator[Finding]:
    """Check that Ray, which counts the head among the workers, starts all of them."""
    addresses = cluster.values["provider"].get("worker_ips") or []
    if not any(str(address).startswith("192.0.2.") for address in addresses):
        problem = "provider.worker_ips: Ray counts the head as one of them and would leave the last out"
        yield Finding(problem=problem, cure="add a dummy at the end: 192.0.2.1")
