"""What answers behind the page: a model here, one behind an endpoint, or the anomaly map alone."""
