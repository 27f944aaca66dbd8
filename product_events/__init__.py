"""Product events: a registry of what may be published, and the publisher that the product uses."""
