"""What every room uses: parameter classes, the one error that users read, files written whole or not at all."""
