"""Resources are made once for equal inputs."""

from envoy.config.cluster.v3 import cluster_pb2

from meshlab.control.translate.cache import Cache


def test_made_again_only_when_inputs_change() -> None:
    calls = []

    def make(name: str) -> cluster_pb2.Cluster:
        calls.append(name)
        return cluster_pb2.Cluster(name=name)

    cache = Cache()
    first = cache.resource("key", (["a"], {"b": 1}), "x", make, "x")
    assert cache.resource("key", (["a"], {"b": 1}), "x", make, "x") is first
    other = cache.resource("key", (["a"], {"b": 2}), "x", make, "y")
    assert calls == ["x", "y"]
    assert first.version != other.version
    assert cluster_pb2.Cluster.FromString(first.data).name == "x"
    assert first.packed.type_url == "type.googleapis.com/envoy.config.cluster.v3.Cluster"


def test_the_least_recently_used_goes() -> None:
    cache = Cache(size=2)
    made = {key: cache.resource(key, (), key, cluster_pb2.Cluster) for key in ("a", "b")}
    assert cache.resource("a", (), "a", cluster_pb2.Cluster) is made["a"]
    cache.resource("c", (), "c", cluster_pb2.Cluster)
    assert cache.resource("a", (), "a", cluster_pb2.Cluster) is made["a"]
    assert cache.resource("b", (), "b", cluster_pb2.Cluster) is not made["b"]
