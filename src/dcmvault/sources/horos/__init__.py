"""OsiriX and Horos libraries: the index is read from a private copy, the files in place."""
