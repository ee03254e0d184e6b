"""A page to drop an image on, and the page of the API: files of our own and Swagger UI's, nothing from elsewhere."""
