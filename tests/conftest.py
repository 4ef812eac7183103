"""Say what is under test. Whether the backend is installed shows where Keras is imported: by the tests, loudly."""

import os
from importlib.metadata import version


def pytest_report_header():
    return f"keras {version('keras')}, KERAS_BACKEND={os.environ.get('KERAS_BACKEND', 'not set')}"
