"""fgclip_det: open-vocabulary detection with the FG-CLIP family of encoders.

Importing the package is light: nothing of torch, MMDetection or the compiled operators is loaded
until one of the sub-packages is imported.
"""

__version__ = "0.1.0"
