"""Places that keep studies, as archives that can be searched and read."""
