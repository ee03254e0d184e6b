"""From weights to the files of a version, measured through the file that serves, with its pictures and its card."""
