"""Views to the JSON objects of the API."""
