"""What tests of the gate share: a clock that is set by hand, and headers as ASGI gives them."""

from datetime import UTC, datetime, timedelta

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


class HandClock:
    """Seconds and moments that pass only when told to."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds

    def moment(self) -> datetime:
        return NOON + timedelta(seconds=self.seconds - 1000)


def bearer(token: str) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"segment.example"), (b"authorization", f"Bearer {token}".encode())]
