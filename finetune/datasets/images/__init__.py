"""Images: recognition, decoding, conversion and augmentation."""
