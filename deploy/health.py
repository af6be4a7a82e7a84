"""The health check of a container: is the service that runs in it ready? Exit code 0 if so.

In Python because the image has no curl; without the packages of the project because it runs every few seconds.
"""

import http.client
import os
import sys


def ready(port: int) -> bool:
    """Whether `/health/ready` on this host answers 200 within four seconds."""
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=4)
        connection.request("GET", "/health/ready")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False


if __name__ == "__main__":
    sys.exit(not ready(int(os.environ["LAPOR_PORT"])))
