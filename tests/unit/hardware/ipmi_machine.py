"""A machine whose BMC speaks IPMI: `ipmi_machine.py PORT USER PASSWORD JOURNAL`; it writes down what it is told."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from pyghmi.ipmi.bmc import Bmc


class Machine(Bmc):  # type: ignore[misc]
    """Switched off at first."""

    def __init__(self, port: int, users: dict[str, str], journal: Path) -> None:
        super().__init__(users, port=port, address="127.0.0.1")
        self.journal = journal
        self.state = "off"
        self.note("ready")

    def note(self, text: str) -> None:
        with self.journal.open("a", encoding="utf-8") as stream:
            stream.write(f"{text}\n")

    def get_power_state(self) -> str:
        return self.state

    def power_on(self) -> None:
        self.state = "on"
        self.note("on")

    def power_off(self) -> None:
        self.state = "off"
        self.note("off")

    def power_reset(self) -> int:
        if self.state == "off":
            return 0xD5
        self.note("reset")
        return 0

    def set_boot_device(self, bootdevice: Any) -> None:
        self.note(f"boot {bootdevice}")

    def set_system_boot_options(self, request: dict[str, Any], session: Any) -> None:
        data = request["data"]
        if data[0] == 5:
            flags = data[1]
            self.note(f"flags once={not flags & 0x40} efi={bool(flags & 0x20)}")
        super().set_system_boot_options(request, session)


if __name__ == "__main__":
    number, user, password, journal = sys.argv[1:]
    Machine(int(number), {user: password}, Path(journal)).listen()
