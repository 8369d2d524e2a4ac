"""What can go wrong with a service, as sentences that say what to do."""


class NotAvailable(Exception):
    """This machine cannot have the service; the text is the reason and what would mend it."""


class NotInstalled(NotAvailable):
    """The machine could have it, but nothing was fetched or built yet."""


class Failed(Exception):
    """A step or a start went wrong; the text ends with what the program said."""
