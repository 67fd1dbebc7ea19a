"""The live view: pages for a person with a browser, made on the server, complete without script."""
