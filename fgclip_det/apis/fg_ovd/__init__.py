"""FG-OVD from the config to the page."""
