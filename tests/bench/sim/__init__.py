"""The simulation: gateways with hidden limits, the product's real limiter, and a perfect rival."""
