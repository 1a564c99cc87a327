"""What is looked into: files, folders, arrays."""
