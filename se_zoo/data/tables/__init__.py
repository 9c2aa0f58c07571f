"""Tables of labelled images and videos, however they are laid out."""
