# Data, schedule and runtime: the embedded digits, 9 epochs.
_base_ = ['./datasets/digits_detection.py', './schedules/digits.py', './default_runtime.py']
