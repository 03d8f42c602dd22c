"""What a site sets: the sections of the configuration, the whole of it, and what is wrong with it in words."""
