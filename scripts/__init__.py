"""What the workshop needs besides the product: the build hook, and peers for the tests."""
