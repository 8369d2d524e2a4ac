"""Letters to people: kept sealed until a mail server has taken them."""
