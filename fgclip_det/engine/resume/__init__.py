"""Training that resumes to the same bits."""
