"""What every room uses.

- `config`: `Config`, the base of every parameter class.
- `domain`: `Domain`, the size of an image and whether it is periodic.
- `errors`: `UserError`, the one error that users read.
- `files`: readers and writers of files, their SHA-256, their natural order.
- `atomic`, `locks`, `signals`: files written whole or not at all, whatever comes between.
- `words`: numbers and their nouns.
"""
