"""What all tests share."""

from hypothesis import settings

# The first call of a torch function takes long, and the machine may be busy: neither is a failure.
settings.register_profile("truemask", deadline=None)
settings.load_profile("truemask")
