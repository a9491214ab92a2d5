from typing import Any

from meshlab.observe.access_log import AccessLog

ANSWERS: dict[str, Any] = {
    "debug/accesslogz?after=0&limit=2": {
        "next": 2,
        "entries": [
            {
                "seq": 1,
                "proxy": "sidecar~10.1.2.3~blue-1.shop~shop.svc",
                "method": "GET",
                "response_code": 200,
            }
        ],
    },
    "debug/accesslogz?after=2&limit=2": {"next": 2, "entries": []},
}


def test_reads_on_where_it_stopped() -> None:
    log = AccessLog(ANSWERS.__getitem__)
    first, second = log.read(2), log.read(2)
    assert (len(first.entries), second.entries) == (1, [])
    assert first.table(["proxy", "response_code"]).text() == (
        "PROXY         RESPONSE CODE\nblue-1.shop   200"
    )
