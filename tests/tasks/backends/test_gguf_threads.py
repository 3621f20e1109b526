"""What llama.cpp's threads are told before it is loaded."""

from __future__ import annotations

import os
import sys

import pytest

from tasks.backends.gguf.threads import SPINS, configure_openmp
from tasks.hardware import cores


@pytest.fixture
def environment(monkeypatch):
    for name in ("GOMP_SPINCOUNT", "OMP_PROC_BIND"):
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)
    monkeypatch.delitem(sys.modules, "llama_cpp", raising=False)


def test_a_thread_for_each_core_keeps_to_its_own(environment):
    configure_openmp(len(cores.cores()))
    assert (os.environ["GOMP_SPINCOUNT"], os.environ["OMP_PROC_BIND"]) == (SPINS, "true")


def test_fewer_threads_than_cores_are_not_bound(environment):
    configure_openmp(len(cores.cores()) + 1)
    assert os.environ["GOMP_SPINCOUNT"] == SPINS
    assert "OMP_PROC_BIND" not in os.environ


def test_what_the_user_set_stays(environment, monkeypatch):
    monkeypatch.setenv("OMP_PROC_BIND", "false")
    configure_openmp(len(cores.cores()))
    assert os.environ["OMP_PROC_BIND"] == "false"


def test_once_it_is_loaded_children_are_told_nothing(environment, monkeypatch):
    monkeypatch.setitem(sys.modules, "llama_cpp", sys)
    configure_openmp(len(cores.cores()))
    assert "GOMP_SPINCOUNT" not in os.environ
