"""The lab: servers that speak the providers' protocols, count every accepted mail and make weather on request."""
