"""What the library costs where nothing fails: see ``__main__``."""
