"""S14: a packaged model behind HTTP, in the engine of the runtime it was measured in."""
