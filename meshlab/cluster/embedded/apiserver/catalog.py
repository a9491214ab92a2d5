"""Which resources are served now: the built-in ones and those that CRDs declare."""

from collections.abc import Iterator

from meshlab.cluster.embedded.apiserver.builtin import OLD_DEPLOYMENTS, REVIEWS, STORED
from meshlab.cluster.embedded.apiserver.resource import Resource, Version
from meshlab.cluster.embedded.apiserver.status import ApiError


class Catalog:
    """Resources by kubectl's full name and by path."""

    def __init__(self) -> None:
        self._resources: dict[str, Resource] = {}
        self.generation = 0
        """Counts the changes, so that discovery documents can be told apart."""
        for resource in (*STORED, *REVIEWS, OLD_DEPLOYMENTS):
            self.add(resource)

    def add(self, resource: Resource) -> None:
        """Serve a resource; one of the same name is replaced."""
        self._resources[resource.name] = resource
        self.generation += 1

    def remove(self, key: str) -> None:
        if self._resources.pop(key, None):
            self.generation += 1

    def __iter__(self) -> Iterator[Resource]:
        return iter(self._resources.values())

    def get(self, key: str) -> Resource | None:
        return self._resources.get(key)

    def named(self, key: str) -> Resource:
        """Return the resource of that full name.

        Raises:
            ApiError: 404; it is not (or no longer) served.
        """
        found = self._resources.get(key)
        if found is None:
            raise ApiError(404, "NotFound", f'the server doesn\'t have a resource type "{key}"')
        return found

    def at(self, group: str, version: str, plural: str) -> tuple[Resource, Version] | None:
        """Return what a path names."""
        resource = self._resources.get(f"{plural}.{group}" if group else plural)
        found = resource.version(version) if resource else None
        return (resource, found) if resource and found else None

    def of_kind(self, group: str, kind: str) -> Resource | None:
        found = (r for r in self if r.group == group and r.kind == kind)
        return next(found, None)

    def stored(self) -> list[Resource]:
        """Return all resources whose objects are kept, not questions nor old names."""
        return [r for r in self if "list" in r.verbs and not r.kept_in]
