"""Tables of quality: which rows there are, how a result is kept, and how results become a page; a study each."""
