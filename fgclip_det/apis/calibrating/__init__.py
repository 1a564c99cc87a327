"""Pictures whose truth is known become a calibration."""
