from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Commands and runs set the number of threads of their process."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
