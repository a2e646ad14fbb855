"""What tests of written files share."""

import resource
from contextlib import contextmanager

import pytest


@pytest.fixture
def small_disk():
    """``with small_disk(size):`` a file that grows beyond ``size`` bytes fails to write, as on a full disk."""

    @contextmanager
    def limited(size):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited
