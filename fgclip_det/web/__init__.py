"""A page in the browser that answers while its user types; ``fgclip-det web`` starts it.

Whatever needs torch or MMDetection is imported behind the page, once that listens:

==================  ==============================================================
`server`            binds the port, starts everything, ends it
`gate`              who may come in, and how much may be sent
`engine`            the model, read in the background; its one thread
`session`           what one user has: pictures, names, exemplars
`pictures`          files of users as pixels, and as they are shown
`overlay`, `heat`   answers as SVG, maps as a layer
`snippets`          the same question as Python, as a command, as JSON
`limits`            how much of everything there may be
`page`, `controls`,
`elements`          what is seen and typed, by NiceGUI
==================  ==============================================================
"""
