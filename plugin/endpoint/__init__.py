"""The one HTTP client: an endpoint and its key, patience with it, what it says, and images as it takes them."""
