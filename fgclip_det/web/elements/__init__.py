"""Elements of the page that have a half in the browser."""
