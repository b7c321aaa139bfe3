"""HTTP: the application, who may call it, and how answers and errors look."""
