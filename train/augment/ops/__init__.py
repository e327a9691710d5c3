"""The recipe's ops on batches of tensors, on any device, bit for bit equal to `train.augment.cpu`."""
