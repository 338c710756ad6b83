"""The phase loop and what it needs: device, optimizers, checkpoints."""
