"""Operating system images: kernel, initrd and root file system, built from packages and known by their content."""
