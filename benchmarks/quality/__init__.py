"""The tables of sequence models: which rows there are, how a result is kept, and how results become a page."""
