"""Looking after the instance itself: what is out of order is found and told."""
