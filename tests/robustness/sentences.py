"""What an error must look like, whatever the input was."""


def is_sentence(error: Exception, *names: str) -> None:
    """The message is one line of bounded length, and says one of the names."""
    says = str(error)
    assert "\n" not in says
    assert 0 < len(says) < 3000
    assert any(name in says for name in names), (names, says)
