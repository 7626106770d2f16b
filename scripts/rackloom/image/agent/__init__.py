"""
The agent in an image: makes the machine it runs on a node, by disk or in memory, or tells what the machine is.

It needs Python's standard library alone and lies in the image at /usr/lib/rackloom/agent. It learns what to do from the
kernel's command line and from the boot server, and tells the boot server how far it is.
"""
