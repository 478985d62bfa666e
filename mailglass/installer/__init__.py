"""Install mailglass into an application's source, and take it out again. Nothing of the application is imported."""
