"""Say which backend is under test; importing Keras fails here, loudly, if it is not installed."""

import keras


def pytest_report_header():
    return f"keras {keras.__version__}, backend {keras.backend.backend()}"
