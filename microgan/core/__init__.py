"""What every room uses.

- `config`: `Config`, the base of every parameter class.
- `domain`: `Domain`, the size of an image and whether it is periodic.
- `errors`: `UserError`, the one error that users read.
- `files`: files written whole or not at all, their SHA-256, their natural order.
- `words`: numbers and their nouns.
"""
