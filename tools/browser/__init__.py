"""A notebook in a real JupyterLab and a real Chromium, driven as a learner's hands would."""
