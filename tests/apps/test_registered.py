from importlib.metadata import entry_points

from meshlab.apps.registered import images


def test_images_are_found_by_their_entry_point() -> None:
    (found,) = entry_points(group="meshlab.images", name="apps")
    assert found.load() is images


def test_the_workshops_names_are_there() -> None:
    known = {(image["name"], tag) for image in images() for tag in image["tags"] or ["*"]}
    assert known >= {
        ("xpiritbv/bluegreen", "blue"),
        ("xpiritbv/bluegreen", "green"),
        ("xpiritbv/bluegreen", "buggy"),
        ("meshlab/bluegreen", "blue"),
        ("fortio/fortio", "*"),
        ("curlimages/curl", "*"),
        ("busybox", "*"),
    }


def test_every_image_says_the_same_things() -> None:
    keys = {"name", "tags", "entrypoint", "cmd", "env", "user", "group", "bin", "about"}
    assert [image["name"] for image in images() if set(image) != keys] == []
