from meshlab.observe.proxy_status import table


def test_table() -> None:
    proxy = {
        "name": "blue-1",
        "namespace": "shop",
        "protocol": "delta",
        "connected_since": 1000.5,
        "istio_version": "1.24",
        "types": {
            "cds": {"status": "SYNCED", "error": ""},
            "lds": {"status": "REJECTED", "error": "port 0"},
            "eds": {"status": "STALE", "error": ""},
        },
    }
    found = table([proxy], 1100.0)
    assert found.rows == [
        [
            "blue-1.shop",
            "SYNCED",
            "REJECTED",
            "STALE",
            "NOT SENT",
            "delta",
            "99s",
            "1.24",
        ]
    ]
    assert found.note == "blue-1.shop refused LDS: port 0"
