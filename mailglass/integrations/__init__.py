"""mailglass in web frameworks. Each module needs its own framework, and costs nothing while it is not imported."""
