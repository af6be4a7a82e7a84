"""A citizen files a complaint with the running system."""

from deploy.demo.people import Json, Person
from deploy.demo.pictures import street
from shared.events import now


async def file_complaint(person: Person) -> Json:
    """A complaint in the roads category, with a photo; the receipt."""
    return await person.post(
        "intake",
        "/v1/complaints",
        {
            "title": "Jalan berlubang besar",
            "description": "Lubang besar di tengah jalan, berbahaya.",
            "category": "roads",
            "place": {"longitude": 109.3425, "latitude": -0.0263},
            "seen_at": now().isoformat(),
            "photos": [await person.photo("intake", street(1, repaired=False, width=640, height=480))],
        },
    )
