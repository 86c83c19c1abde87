"""``saturation``: what journals tell of the limits that were met."""
