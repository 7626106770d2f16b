"""Known failures and what helps: the first pattern that matches a failure's text names the cure."""

from __future__ import annotations

import re
from typing import NamedTuple


class Cure(NamedTuple):
    """`code` is stable; `pattern` is searched without regard to case; `text` may use {host}."""

    code: str
    pattern: str
    text: str


CURES = (
    Cure(
        "ssh_host_key",
        r"host key verification failed|remote host identification has changed",
        "the node's SSH host key is not the one in known_hosts; if the node was reinstalled, remove its line there "
        "and run again",
    ),
    Cure(
        "ssh_refused_key",
        r"permission denied \((publickey|password|keyboard)|too many authentication failures",
        "the node refuses the SSH key; see that ssh.user and ssh.private_key in cluster.yml are right and that the "
        "public key is in the user's authorized_keys on {host}",
    ),
    Cure(
        "ssh_key_mode",
        r"unprotected private key file|bad permissions",
        "the private key is readable by others: chmod 600 it",
    ),
    Cure(
        "ssh_key_missing",
        r"identity file .* not accessible|no such identity",
        "ssh.private_key in cluster.yml names a file that is not there",
    ),
    Cure(
        "name_unknown",
        r"could not resolve hostname",
        "the name of {host} does not resolve here; give the node an address in nodes.yml",
    ),
    Cure(
        "connection_refused",
        r"connect to host .* connection refused",
        "{host} is up but no sshd listens there; see ssh.port in cluster.yml and the node's sshd",
    ),
    Cure(
        "unreachable",
        r"connection timed out|no route to host|network is unreachable|connection (closed|reset)|host is down"
        r"|timed out waiting|failed to connect to the host",
        "see that {host} is powered on and that its address in nodes.yml is right; `ssh {host}` must work from here",
    ),
    Cure(
        "become",
        r"missing sudo password|incorrect sudo password|is not in the sudoers|sudo: a password is required",
        "the SSH user needs sudo without a password on {host}, or let ssh.user be root",
    ),
    Cure(
        "vault_key",
        r"attempting to decrypt but no vault secrets|decryption failed|vault password",
        "the vault key does not open the secrets; point RACKLOOM_VAULT_KEY_FILE at the key they were made with",
    ),
    Cure(
        "package_lock",
        r"could not get lock|unable to acquire the dpkg|dpkg frontend lock|unable to lock (directory|the admin)"
        r"|is another process using it|waiting for .*(yum|dnf).*lock",
        "another package manager is at work on {host} (unattended-upgrades, a run that was just stopped); wait for it "
        "and run again",
    ),
    Cure(
        "package_interrupted",
        r"dpkg was interrupted|dpkg --configure -a",
        "a package install was cut short on {host}: run `dpkg --configure -a` there, then run again",
    ),
    Cure(
        "package_missing",
        r"no package matching|unable to locate package|no installation candidate|has no candidate|nothing provides"
        r"|no match for argument",
        "the node's package sources do not carry it; see packages.sources in cluster.yml",
    ),
    Cure(
        "package_signature",
        r"no_pubkey|is not signed|gpg (error|check failed)|public key .* not available",
        "a package source is not trusted: give its key under packages.sources in cluster.yml",
    ),
    Cure(
        "clock",
        r"is not valid yet|certificate is not yet valid|certificate has expired|clock skew",
        "the clock of {host} is wrong; run the stage `base` (time) first and see time.upstream in cluster.yml",
    ),
    Cure(
        "dns",
        r"temporary failure (in name resolution|resolving)|name or service not known|could not resolve"
        r"|no address associated with hostname|cache update failed",
        "{host} cannot resolve or reach its package sources; see dns.upstream and packages.proxy in cluster.yml",
    ),
    Cure(
        "disk_full",
        r"no space left on device|disk quota exceeded|not enough (free )?(disk )?space",
        "a file system of {host} is full: `df -h` there, make room, run again",
    ),
    Cure(
        "memory",
        r"cannot allocate memory|out of memory|oom-kill|killed by signal 9",
        "{host} has too little memory for this; see what else runs there",
    ),
    Cure(
        "read_only",
        r"read-only file system",
        "a file system of {host} is mounted read-only, often after a disk error: see `dmesg` there",
    ),
    Cure(
        "munge",
        r"munge(d)?\b.*(decode|encode|invalid credential|rewound|expired|socket|communication)|invalid credential"
        r"|expired credential|rewound credential",
        "munge does not trust the other side: same key and same time on both? Run the stages `base slurm` on {host}",
    ),
    Cure(
        "slurm_accounting",
        r"slurmdbd.*(refused|unable|not responding)|unable to (contact|connect to) slurm(dbd| database)",
        "slurmdbd does not answer: `journalctl -u slurmdbd` on the accounting host, then MariaDB",
    ),
    Cure(
        "slurm_controller",
        r"unable to contact slurm controller|slurm_load_\w+ error",
        "slurmctld does not answer: `journalctl -u slurmctld` on the controller",
    ),
    Cure(
        "slurm_hardware",
        r"low (realmemory|socket|cores|cpu)|gres/gpu count reported lower|node configuration differs from hardware",
        "the node has less than its profile says; mend the profile in nodes.yml (`slurmd -C` on {host} tells)",
    ),
    Cure(
        "slurm_conf",
        r"slurm\.conf.*(invalid|error|unrecognized)|parse_config|unrecognized key|invalid (node|partition)name",
        "slurmctld does not accept slurm.conf; look at slurm.settings in cluster.yml, the rest is generated",
    ),
    Cure(
        "database",
        r"(mysql|mariadb).*(access denied|can't connect|unknown database)|access denied for user",
        "the database refuses the password: were secrets made anew after the first deploy? Bring the old secrets back",
    ),
    Cure(
        "unit_failed",
        r"unit .* (failed|did not|is not)|control process exited|failed to start|job for .* failed",
        "the service does not start: `systemctl status` and `journalctl -u` on {host} tell why",
    ),
    Cure(
        "port_taken",
        r"address already in use",
        "another program on {host} holds the port: `ss -tlnp` there names it",
    ),
    Cure(
        "python_missing",
        r"/usr/bin/python3?: (not found|no such file)|python3?: command not found|interpreter .* not found",
        "{host} has no Python: install the package python3 there (the node image should carry it)",
    ),
    Cure(
        "variable",
        r"is undefined|undefined variable|missing required arguments|argument_spec|validating arguments against",
        "an input of a role is missing or wrong: `rackloom check` first; if it finds nothing, this is a bug of ours",
    ),
)

_COMPILED = tuple((cure, re.compile(cure.pattern, re.IGNORECASE)) for cure in CURES)


def find(text: str, host: str) -> tuple[str, str]:
    """`(code, cure)` for a failure's text; `("task_failed", "")` when nothing is known."""
    for cure, pattern in _COMPILED:
        if pattern.search(text):
            return cure.code, cure.text.format(host=host)
    return "task_failed", ""
