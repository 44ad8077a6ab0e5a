"""The manifests, against Kubernetes' own schemas, and what a schema cannot say."""

from collections.abc import Mapping
from typing import Any

import kubernetes_validate
import pytest
from ruamel.yaml import YAML
from tests.deploy.engine import ROOT

MANIFESTS = [
    (file.name, number, manifest)
    for file in sorted((ROOT / "deploy/k8s").glob("*.yaml"))
    for number, manifest in enumerate(YAML(typ="safe").load_all(file))
]
VERSIONS = ("1.29", "1.33", kubernetes_validate.latest_version())


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("file", "number", "manifest"), MANIFESTS)
def test_each_manifest_fits_the_schema(file, number, manifest, version):
    kubernetes_validate.validate(manifest, version, strict=True)


def _pod() -> Mapping[str, Any]:
    [deployment] = [manifest for _, _, manifest in MANIFESTS if manifest["kind"] == "Deployment"]
    return dict(deployment["spec"]["template"]["spec"])


def _containers():
    return {container["name"]: container for part in ("initContainers", "containers") for container in _pod()[part]}


def test_the_sidecar_is_native_and_comes_after_the_redirect_and_the_set_up():
    assert [container["name"] for container in _pod()["initContainers"]] == ["redirect", "init", "solaris"]
    assert _containers()["solaris"]["restartPolicy"] == "Always"
    assert _containers()["solaris"]["startupProbe"]["httpGet"]["path"] == "/readyz"


def test_librechat_is_another_user_than_the_one_whose_connections_leave_as_they_are():
    containers = _containers()
    assert containers["solaris"]["securityContext"]["runAsUser"] == 10001
    assert containers["librechat"]["securityContext"]["runAsUser"] not in (0, 10001)
    for name, container in containers.items():
        context = container["securityContext"]
        assert context["capabilities"]["drop"] == ["ALL"], name
        assert context["readOnlyRootFilesystem"], name
        assert ("add" in context["capabilities"]) == (name == "redirect")


def test_every_volume_that_is_mounted_is_there_and_the_authority_is_the_sidecars_alone():
    volumes = {volume["name"] for volume in _pod()["volumes"]}
    mounted = {name: {mount["name"] for mount in each.get("volumeMounts", ())} for name, each in _containers().items()}
    assert set().union(*mounted.values()) == volumes
    assert [name for name, names in mounted.items() if "ca" in names] == ["init", "solaris"]
