"""Redfish, through sushy."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import sushy
from requests import exceptions as web
from sushy import auth, connector
from sushy import exceptions as redfish

from .bmc import BmcError, BmcTarget, Device, Power, Wish

CONNECT_SECONDS: Final = 5
READ_SECONDS: Final = 60
T = TypeVar("T")

_POWER: Final[dict[Any, Power]] = {sushy.PowerState.ON: "on", sushy.PowerState.OFF: "off"}
_SOURCES: Final = {"pxe": sushy.BootSource.PXE, "disk": sushy.BootSource.HDD}
_MODES: Final = {
    "uefi": sushy.BootSourceOverrideMode.UEFI,
    "bios": sushy.BootSourceOverrideMode.LEGACY,
}


def trusted(target: BmcTarget) -> bool | str:
    """What certificates are verified with: the site's file, else what this machine trusts."""
    if not target.verify:
        return False
    if target.ca_file:
        return target.ca_file
    paths = ssl.get_default_verify_paths()
    return paths.cafile or paths.capath or True


class Redfish:
    """One computer system behind a Redfish service."""

    def __init__(self, target: BmcTarget) -> None:
        self.target = target
        url = urlsplit(target.url)
        host = f"[{target.address}]" if ":" in target.address else target.address
        port = f":{target.port}" if target.port else ""
        self._base = f"{url.scheme}://{url.netloc}" if target.url else f"https://{host}{port}"
        # Basic authentication: every service has it, and nothing is left open behind when we are interrupted.
        way = auth.BasicAuth(username=target.user, password=target.password)
        link = connector.Connector(
            self._base,
            verify=trusted(target),
            server_side_retries=2,
            server_side_retries_delay=1,
            default_request_timeout=READ_SECONDS,
            connect_timeout=CONNECT_SECONDS,
        )
        # A proxy for the internet is none for the BMC network, and REQUESTS_CA_BUNDLE does not decide whom to trust.
        link._session.trust_env = False  # noqa: SLF001 - sushy has no other way to say it
        self._root = self._try(lambda: sushy.Sushy(self._base, auth=way, connector=link))
        self._system = self._try(lambda: self._find(url.path))

    def _find(self, path: str) -> Any:
        if path:
            return self._root.get_system(path)
        systems = self._root.get_system_collection().members_identities
        if len(systems) == 1:
            return self._root.get_system(systems[0])
        if not systems:
            raise BmcError(self.target.node, f"The BMC {self._base} has no system.", "Is the machine there?")
        shown = ", ".join(systems[:4]) + (", …" if len(systems) > 4 else "")
        message = (
            f"The BMC {self._base} has {len(systems)} systems ({shown}), and nothing says which is meant."
        )
        raise BmcError(self.target.node, message, f"Write `bmc: {self._base}{systems[0]}` in nodes.yml.")

    def power(self) -> Power:
        """See Bmc."""
        self._try(lambda: self._system.refresh(force=True))
        return _POWER.get(self._system.power_state, "unknown")

    def set_power(self, wish: Wish) -> None:
        """See Bmc."""
        now = self.power()
        if wish == now:
            return
        kind = sushy.ResetType.FORCE_OFF if wish == "off" else sushy.ResetType.ON
        if wish == "cycle" and now != "off":
            allowed = self._try(self._system.get_allowed_reset_system_values)
            ways = (sushy.ResetType.FORCE_RESTART, sushy.ResetType.POWER_CYCLE)
            kind = next((way for way in ways if way in allowed), ways[0])
        self._try(lambda: self._system.reset_system(kind))

    def boot_once(self, device: Device, firmware: str = "") -> None:
        """See Bmc."""
        source, once = _SOURCES[device], sushy.BootSourceOverrideEnabled.ONCE
        mode = _MODES[firmware or self.target.firmware]
        self._try(lambda: self._system.refresh(force=True))
        try:
            self._try(
                lambda: self._system.set_system_boot_options(source, enabled=once, mode=mode), keep=True
            )
        except (redfish.BadRequestError, redfish.ServerSideError):
            # Some services keep the mode to the BIOS settings and refuse it here, or stumble over it.
            self._try(lambda: self._system.set_system_boot_options(source, enabled=once))

    def console_hint(self) -> str:
        """See Bmc. A service that tells nothing of consoles still has its web page."""
        host = urlsplit(self._base).hostname or ""
        ways: set[str] = set()
        with suppress(redfish.SushyError, BmcError):
            for manager in self._system.managers:
                console = manager.serial_console
                ways |= set((console.connect_types_supported if console else None) or ())
        if "SSH" in ways:
            return f"ssh {self.target.user}@{host}"
        if "IPMI" in ways:
            return f"ipmitool -I lanplus -H {host} -U {self.target.user} -a sol activate"
        return f"{self._base}/ (its web page)"

    def close(self) -> None:
        """See Bmc."""
        self._root._conn.close()  # noqa: SLF001 - sushy closes it only when Python forgets the object

    def _try(self, action: Callable[[], T], *, keep: bool = False) -> T:
        """Do it, with every way to fail in our words. keep: a refused request stays sushy's own error."""
        try:
            return action()
        except (redfish.BadRequestError, redfish.ServerSideError) as error:
            if keep:
                raise
            raise self._refused(error) from None
        except redfish.AccessError:
            message = f"The BMC {self._base} refuses user {self.target.user!r} or the password."
            cure = "Set them anew: rackloom secrets set bmc_user, and rackloom secrets set bmc_password."
            raise BmcError(self.target.node, message, cure) from None
        except redfish.ResourceNotFoundError:
            what = self.target.url or self._base
            message = (
                f"The BMC has no system {what}." if self.target.url else f"{what} is no Redfish service."
            )
            raise BmcError(self.target.node, message, "Correct `bmc:` in nodes.yml.") from None
        except redfish.ConnectionError as error:
            raise self._unreachable(error) from None
        except redfish.HTTPError as error:
            raise self._refused(error) from None
        except (redfish.SushyError, ValueError, KeyError, OSError) as error:
            message = f"The BMC {self._base} answers in a way that makes no sense: {_short(str(error))}."
            cure = "Restart the BMC or update its firmware; IPMI is the other way in."
            raise BmcError(self.target.node, message, cure) from None

    def _refused(self, error: Any) -> BmcError:
        detail = _short(str(error.detail or error.code or ""))
        message = f"The BMC {self._base} refuses the request ({error.status_code}): {detail}."
        return BmcError(self.target.node, message, "See the BMC's own log; it may be busy: try again.")

    def _unreachable(self, error: BaseException) -> BmcError:
        for cause in _causes(error):
            if isinstance(cause, ssl.SSLCertVerificationError):
                return self._untrusted(cause)
            if isinstance(cause, (ssl.SSLError, web.SSLError)) and not isinstance(cause, web.SSLError):
                message = f"The BMC {self._base} speaks no TLS that this machine accepts ({cause.reason})."
                return BmcError(
                    self.target.node, message, "Update the BMC's firmware, or correct its address."
                )
            if isinstance(cause, socket.gaierror):
                message = f"The BMC's name {urlsplit(self._base).hostname} is not known."
                return BmcError(
                    self.target.node, message, "Correct `bmc:` in nodes.yml, or the name service."
                )
        message = f"The BMC {self._base} cannot be reached: {_why(error)}."
        cure = "Is its cable in, its address right, and does this machine reach the BMC network?"
        return BmcError(self.target.node, message, cure)

    def _untrusted(self, error: ssl.SSLCertVerificationError) -> BmcError:
        why = error.verify_message.rstrip(".")
        where = "the file that provision.bmc.ca_file names"
        message = f"The certificate of the BMC {self._base} cannot be trusted: {why}."
        cure = f"Put the CA that signed it into {where}, or give the BMC a certificate of that CA."
        if "mismatch" in why or "doesn't match" in why:
            cure = "Give the BMC a certificate with this address in it, or write the name in it into `bmc:`."
        elif "expired" in why or "not yet valid" in why:
            cure = "Give the BMC a new certificate, and compare its clock."
        return BmcError(self.target.node, message, f"{cure} `verify: false` trusts anybody.")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error with all that it came from: its context, and errors among its arguments."""
    todo: list[BaseException] = [error]
    seen: set[int] = set()
    while todo:
        one = todo.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        inner = [one.__cause__, one.__context__, *one.args, getattr(one, "reason", None)]
        todo += [item for item in inner if isinstance(item, BaseException)]


def _why(error: BaseException) -> str:
    for cause in _causes(error):
        if isinstance(cause, (web.ConnectTimeout, TimeoutError)):
            return f"no answer within {CONNECT_SECONDS} s"
        if isinstance(cause, web.ReadTimeout):
            return f"it accepts the connection and says nothing for {READ_SECONDS} s"
        if isinstance(cause, OSError) and cause.strerror and cause.errno:
            return cause.strerror[:1].lower() + cause.strerror[1:]
    return "the connection broke off"


def _short(text: str) -> str:
    line = " ".join(text.split()).rstrip(".")
    return line if len(line) <= 160 else line[:159] + "…"
