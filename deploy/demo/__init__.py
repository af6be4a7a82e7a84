"""The demo: five complaints travel the SOP over the public APIs, and an independent witness says whether each step was
seen on its topic, in every service's store and by the citizen."""
