"""What keras_cae's layers, models and files cost beside plain Keras and PyTorch."""
