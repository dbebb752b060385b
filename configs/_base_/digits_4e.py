# Data, schedule and runtime: the embedded digits, 4 epochs.
_base_ = ['./datasets/digits_detection.py', './schedules/digits.py', './default_runtime.py']
