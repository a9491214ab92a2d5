"""All lessons by number."""

from meshlab.errors import ConfigError
from meshlab.lab.lesson import gateway, injection, preflight, retry, traffic_shift, two_versions
from meshlab.lab.lesson.base import Lesson

LESSONS: dict[str, Lesson] = {
    module.LESSON.number: module.LESSON
    for module in (preflight, two_versions, injection, gateway, traffic_shift, retry)
}


def find(number: str | int) -> Lesson:
    """Return a lesson by its number (4, "4" or "04").

    Raises:
        ConfigError: there is none.
    """
    found = LESSONS.get(str(number).zfill(2))
    if found is None:
        raise ConfigError("there is no such lab", found=str(number), allowed=", ".join(LESSONS))
    return found
