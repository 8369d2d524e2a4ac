"""What people and letters need: requests for access, letters, settings, and the last inspection.

Only new collections; the way down removes those that are empty and leaves the others in peace.
"""

from cvf_app.backends.mongo import Index
from cvf_app.migrations.model import Migration, Steps


async def _up(steps: Steps) -> None:
    await steps.make(
        "access_requests",
        {
            "createdAt": ("int", "long", "double"),
            "emailIndex": ("string",),
            "sealed": ("string",),
            "status": ("string",),
        },
    )
    await steps.index("access_requests", Index((("createdAt", -1),)))
    await steps.index("access_requests", Index((("emailIndex", 1), ("status", 1))))
    await steps.index("access_requests", Index((("status", 1), ("createdAt", -1))))
    await steps.make(
        "inspections",
        {"day": ("string",), "done": ("bool",), "leaseUntil": ("int", "long", "double")},
    )
    await steps.make(
        "letter_hours",
        {"mark": ("string",), "until": ("int", "long", "double")},
    )
    await steps.make(
        "letters",
        {
            "attempts": ("int", "long", "double"),
            "createdAt": ("int", "long", "double"),
            "dueAt": ("int", "long", "double"),
            "kind": ("string",),
            "lease": ("string",),
            "leaseUntil": ("int", "long", "double"),
            "sealed": ("string",),
            "state": ("string",),
        },
    )
    await steps.index("letters", Index((("createdAt", 1),)))
    await steps.index("letters", Index((("state", 1), ("dueAt", 1))))
    await steps.make(
        "settings",
        {"value": ("object", "bool")},
    )
    await steps.make(
        "user_settings",
        {"value": ("object",)},
    )


async def _down(steps: Steps) -> None:
    await steps.drop_empty("user_settings")
    await steps.drop_empty("settings")
    await steps.drop_index("letters", Index((("state", 1), ("dueAt", 1))))
    await steps.drop_index("letters", Index((("createdAt", 1),)))
    await steps.drop_empty("letters")
    await steps.drop_empty("letter_hours")
    await steps.drop_empty("inspections")
    await steps.drop_index("access_requests", Index((("status", 1), ("createdAt", -1))))
    await steps.drop_index("access_requests", Index((("emailIndex", 1), ("status", 1))))
    await steps.drop_index("access_requests", Index((("createdAt", -1),)))
    await steps.drop_empty("access_requests")


MIGRATION = Migration(number=3, sentence="People and letters", up=_up, down=_down)
