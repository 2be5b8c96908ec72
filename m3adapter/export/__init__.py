"""A conversation as a folder, a web page, Markdown, an e-book, or pages of pictures."""
