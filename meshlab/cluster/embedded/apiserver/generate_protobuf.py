"""Write `builtin_protobuf.json` from the Go sources of k8s.io/api and k8s.io/apimachinery.

    python -m meshlab.cluster.embedded.apiserver.generate_protobuf $(go env GOMODCACHE)/k8s.io

kubectl's typed commands (`create`, `auth`, `expose`) send protobuf and nothing else. Which number
a field has, and whether it is a pointer (then a zero is a zero, else it is an absence), stands in
the tags of the Go structs.
"""

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

VERSION = "v0.32.4"
PACKAGES = {
    "k8s.io/api/core/v1": f"api@{VERSION}/core/v1",
    "k8s.io/api/apps/v1": f"api@{VERSION}/apps/v1",
    "k8s.io/api/rbac/v1": f"api@{VERSION}/rbac/v1",
    "k8s.io/api/authentication/v1": f"api@{VERSION}/authentication/v1",
    "k8s.io/api/authorization/v1": f"api@{VERSION}/authorization/v1",
    "k8s.io/api/coordination/v1": f"api@{VERSION}/coordination/v1",
    "k8s.io/api/discovery/v1": f"api@{VERSION}/discovery/v1",
    "k8s.io/api/admissionregistration/v1": f"api@{VERSION}/admissionregistration/v1",
    "k8s.io/api/policy/v1": f"api@{VERSION}/policy/v1",
    "k8s.io/api/autoscaling/v1": f"api@{VERSION}/autoscaling/v1",
    "k8s.io/apimachinery/pkg/apis/meta/v1": f"apimachinery@{VERSION}/pkg/apis/meta/v1",
}
ROOTS = {
    "k8s.io/api/core/v1": (
        "Binding ConfigMap Event Namespace Node Pod Secret Service ServiceAccount"
    ),
    "k8s.io/api/apps/v1": "Deployment ReplicaSet",
    "k8s.io/api/rbac/v1": "ClusterRole ClusterRoleBinding Role RoleBinding",
    "k8s.io/api/authentication/v1": "SelfSubjectReview TokenRequest TokenReview",
    "k8s.io/api/authorization/v1": (
        "LocalSubjectAccessReview SelfSubjectAccessReview SelfSubjectRulesReview "
        "SubjectAccessReview"
    ),
    "k8s.io/api/coordination/v1": "Lease",
    "k8s.io/api/discovery/v1": "EndpointSlice",
    "k8s.io/api/admissionregistration/v1": (
        "MutatingWebhookConfiguration ValidatingWebhookConfiguration"
    ),
    "k8s.io/api/policy/v1": "Eviction",
    "k8s.io/api/autoscaling/v1": "Scale",
    "k8s.io/apimachinery/pkg/apis/meta/v1": "DeleteOptions",
}
SPECIAL = frozenset({"Time", "MicroTime", "Quantity", "IntOrString", "RawExtension", "FieldsV1"})
PLAIN = {
    "string": "string",
    "bool": "bool",
    "[]byte": "bytes",
    "int": "int",
    "int32": "int",
    "int64": "int",
}

STRUCT = re.compile(r"^type (\w+) struct \{$(.*?)^\}$", re.MULTILINE | re.DOTALL)
FIELD = re.compile(
    r"^\t(?:\w+ +)?(?P<type>\S+) +`json:\"(?P<json>[^\"]*)\"[^`]*? protobuf:\"(?P<wire>\w+),"
    r"(?P<number>\d+)",
    re.MULTILINE,
)
LISTED = re.compile(r"^type (\w+) \[\]string$", re.MULTILINE)
IMPORT = re.compile(r'^\t(\w+)? ?"(k8s\.io/[^"]+)"$', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Package:
    """What the types.go of one package says."""

    path: str
    structs: dict[str, str]
    listed: frozenset[str]
    imports: dict[str, str]


def read_package(root: Path, path: str) -> Package:
    text = (root / PACKAGES[path] / "types.go").read_text()
    imports = {alias or target.rsplit("/", 1)[1]: target for alias, target in IMPORT.findall(text)}
    return Package(path, dict(STRUCT.findall(text)), frozenset(LISTED.findall(text)), imports)


class Generator:
    """Follows the structs from the roots."""

    def __init__(self, root: Path) -> None:
        self._packages = {path: read_package(root, path) for path in PACKAGES}
        self.types: dict[str, dict[str, list[str]]] = {}

    def add(self, package: Package, struct: str) -> str:
        """Return the name of a struct's table: {number: [JSON name, kind, how often]}."""
        name = f"{package.path.removeprefix('k8s.io/')}.{struct}"
        if name not in self.types:
            table = self.types[name] = {}
            for field in FIELD.finditer(package.structs[struct]):
                json_name = field["json"].split(",")[0]
                kind, often = self._kind(package, field["type"], field["wire"])
                table[field["number"]] = [json_name, kind, often]
        return name

    def _kind(self, package: Package, go_type: str, wire: str) -> tuple[str, str]:
        """Return (kind, often); often is "", pointer, list or map."""
        if go_type in PLAIN:
            return PLAIN[go_type], ""
        if go_type.startswith("[]"):
            return self._element(package, go_type[2:], wire), "list"
        if go_type.startswith("map[string]"):
            return self._element(package, go_type[11:], wire), "map"
        if found := re.fullmatch(r"map\[\w+\](.*)", go_type):
            return self._element(package, found[1], wire), "map"
        if go_type == "ResourceList":
            return "Quantity", "map"
        pointer = "pointer" if go_type.startswith("*") else ""
        return self._element(package, go_type.lstrip("*"), wire), pointer

    def _element(self, package: Package, go_type: str, wire: str) -> str:
        if go_type in PLAIN:
            return PLAIN[go_type]
        qualifier, _, name = go_type.rpartition(".")
        if name in SPECIAL:
            return name
        target = package
        if qualifier:
            path = package.imports.get(qualifier, "")
            if path not in self._packages:
                return "string" if wire == "bytes" else "int"
            target = self._packages[path]
        if name in target.structs:
            return self.add(target, name)
        if name in target.listed:
            return "strings"
        return "int" if wire == "varint" else "string"

    def roots(self) -> dict[str, str]:
        found = {}
        for path, names in ROOTS.items():
            for name in names.split():
                found[name] = self.add(self._packages[path], name)
        return found


def main() -> None:
    generator = Generator(Path(sys.argv[1]))
    content = {"kinds": generator.roots(), "types": generator.types}
    text = json.dumps(content, indent=0, sort_keys=True, separators=(",", ":"))
    Path(__file__).with_name("builtin_protobuf.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
