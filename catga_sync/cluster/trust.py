"""The key that a process signs with: the secret that it was given, or else the key of its user on this machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from catga_sync._endpoint import is_loopback
from catga_sync.cluster.local_key import LocalKeys
from catga_sync.options import ClusterOptions
from catga_sync.receiver.authentication import Guard, LoopbackGuard, OpenGuard, SignatureGuard
from catga_sync.receiver.replay import NonceStore
from catga_sync.transport.signing import Signing
from catga_sync.wire.keys import KeyRing, Keys
from catga_sync.wire.signatures import LOCAL_REFUSAL, REFUSAL

__all__ = ["Trust", "trust_of"]


@dataclass(frozen=True)
class Trust:
    """
    How a process signs and checks signatures. Immutable, thread-safe.

    Args:
        options: The options of the process.
        keys: The keys; None means that nothing is signed, and signatures are ignored.
        is_local: Whether the keys are those of this user on this machine, and not a secret.
    """

    options: ClusterOptions
    keys: Keys | None
    is_local: bool

    @property
    def remembers(self) -> bool:
        """Whether a node stores the nonces of the requests that it has accepted."""
        return self.keys is not None and not self.is_local

    def signing(self) -> Signing | None:
        """Return the object that signs calls and checks responses; None where neither is done."""
        if self.keys is None:
            return None
        return Signing(self.keys, self.options.cluster_name, loopback_only=self.is_local)

    def guard(self, nonces: NonceStore | None, incarnation: Callable[[], str]) -> Guard:
        """Return the guard that decides which calls are let in."""
        if self.keys is None:
            return LoopbackGuard() if is_loopback(self.options.endpoint) else OpenGuard()
        refusal = LOCAL_REFUSAL if self.is_local else REFUSAL
        name = self.options.cluster_name
        return SignatureGuard(self.keys, nonces, cluster=name, incarnation=incarnation, refusal=refusal)

    def check(self) -> None:
        """
        Check that the key can be used, if it is certain to be needed.

        Raises:
            ConfigurationError: It can be neither read nor made; the text has the cure.
        """
        peers = (self.options.peers or {}).values()
        urls = [self.options.endpoint, *(each if isinstance(each, str) else each.get("url") for each in peers)]
        if isinstance(self.keys, LocalKeys) and any(map(is_loopback, urls)):
            self.keys.check()

    def lacks_key(self) -> bool:
        """Return whether the key of this user is needed for signing, and no process has made it yet. It makes none."""
        return isinstance(self.keys, LocalKeys) and self.keys.is_missing()


def trust_of(options: ClusterOptions) -> Trust:
    """Return the trust that the options describe. No file is read or made."""
    if options.secret is not None:
        return Trust(options, KeyRing(options.secret), is_local=False)
    if options.insecure:
        return Trust(options, None, is_local=False)
    return Trust(options, LocalKeys(), is_local=True)
