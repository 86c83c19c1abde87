"""Everything that knows httpx and httpx2: requests, responses, streams, and where they plug in."""
