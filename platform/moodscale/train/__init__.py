"""The loop (knows no Ray), the DeepSpeed engine, sampling, streaming, checkpoints, the Ray Train driver, predicting."""
