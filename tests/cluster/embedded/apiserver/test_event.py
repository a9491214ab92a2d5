from meshlab.cluster.embedded.apiserver.event import MOST_NAMES, EventNames

POD = {"name": "blue-1", "uid": "u1"}
PULLED, STARTED = ("Pulled", "image there", "kubelet"), ("Started", "it runs", "kubelet")


def test_names_are_in_order_of_time() -> None:
    names = EventNames()
    made = [names.new(POD, *words, 1_795_400_000_000_000_000 + n) for n, words in
            enumerate((PULLED, STARTED))]  # fmt: skip
    assert made == sorted(made)
    assert made[0].startswith("blue-1.")


def test_the_same_again_has_the_name_it_had() -> None:
    names = EventNames()
    assert names.known(POD, *PULLED) == ""
    first = names.new(POD, *PULLED, 1)
    assert names.known(POD, *PULLED) == first
    assert names.known({**POD, "uid": "u2"}, *PULLED) == ""
    assert names.known(POD, *STARTED) == ""


def test_old_names_are_forgotten() -> None:
    names = EventNames()
    for number in range(MOST_NAMES + 1):
        names.new({"name": "pod", "uid": str(number)}, *PULLED, number)
    assert names.known({"name": "pod", "uid": "0"}, *PULLED) == ""
    assert names.known({"name": "pod", "uid": "1"}, *PULLED) != ""
