"""The one way in: HTTP and TCP from this machine to the ports of apps, whose sockets somebody else hands over."""
