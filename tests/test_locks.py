"""Locks: who holds them, and who only asks."""

import fcntl
import threading

import pytest

from components.locks import Held, hold, holder


def test_a_question_refuses_nobody(tmp_path):
    """It takes the lock for an instant, and a run that began in that was refused by 'None'."""
    path = tmp_path / "run.lock"
    path.touch()
    asking = path.open()
    fcntl.flock(asking, fcntl.LOCK_SH)
    threading.Timer(0.05, asking.close).start()
    with hold(path):
        assert holder(path).startswith("process ")
        with pytest.raises(Held, match="run is held by process"), hold(path):
            pass
    assert holder(path) is None
