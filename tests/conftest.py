"""Settings of all tests: no network, one thread, the same random numbers every time."""

import os

# Before huggingface_hub is imported: a test that asks a real Hub is a test that is wrong.
os.environ["HF_HUB_OFFLINE"] = "1"

from pathlib import Path

import pytest
import torch

pytest.register_assert_rewrite("tests.tester")


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Random inputs and weights are the same in every run and for every order of the tests."""
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def data_dir() -> Path:
    """The folder of the sample data; the test is skipped where there is none."""
    folder = os.environ.get("SE_ZOO_DATA")
    if not folder:
        pytest.skip("SE_ZOO_DATA is not set: no sample data")
    return Path(folder)
